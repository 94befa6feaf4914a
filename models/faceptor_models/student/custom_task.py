"""Trains a classification task of the user's own: a small head on the encoder of a trained network, added to its export.

    faceptor-models prepare own=PHOTOS --out FACES --detector yunet.onnx
    python -m faceptor_models.student.custom_task FACES --task NAME --weights edge/weights.pt --export edge --out my_export
    faceptor image photo.jpg --model my_export --tasks NAME

PHOTOS/labels.csv has a column `task.NAME` (PREPARE.md). The encoder keeps its weights, so every other task answers as before. A
few dozen photos of each class are enough to begin with. One training photo in five is held out to choose the weight decay of
the head.
"""

import argparse
import io
import json
import shutil
import tempfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import tomli_w
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.augment import sample
from faceptor_models.common.packed_crops import border_mask, decoded, fill_border, table

from .evaluate import load
from .export import METHODS, export_float, quantize, sha256

REGIONS = 3  # the head sees the means of 3 x 3 regions of the encoder's last map
VIEWS = 6  # augmented views of a training photo, in addition to the photo itself
DECAYS = (0.001, 0.01, 0.1, 1.0)  # of the head's weights, tried on the held-out photos


class OwnPart(nn.Module):
    """Maps the last map [1, C, S, S] to probabilities [1, classes]."""

    inputs = ["feature16"]

    def __init__(self, name, channels, grid, classes):
        super().__init__()
        if grid % REGIONS:
            raise SystemExit(f"the encoder's last map has {grid} x {grid} cells, which is not {REGIONS} x {REGIONS} equal regions")
        self.outputs = [f"out_{name}"]
        self.pool = nn.AvgPool2d(grid // REGIONS)
        self.linear = nn.Linear(channels * REGIONS**2, classes)

    def forward(self, x):
        return self.linear(self.pool(x).flatten(1)).softmax(-1)


def labelled(faces, task):
    """Returns (classes, training crops with borders [(crop, class)], dev crops [(rgb, class)]) of a prepared folder."""
    faces, column = Path(faces), f"task.{task}"
    labels = {split: table(faces / split / "labels.npz") for split in ("train", "dev")}
    if column not in labels["train"]:
        raise SystemExit(f"{faces} has no task {task}: " + (", ".join(k[5:] for k in labels["train"] if k.startswith("task.")) or "none at all"))
    classes = sorted(set(map(str, labels["train"][column])) - {""})
    if len(classes) < 2:
        raise SystemExit(f"{task} has the class {', '.join(classes) or 'none'} alone: two or more are needed")
    train = []
    for source in np.unique(labels["train"]["source"]):
        with zipfile.ZipFile(faces / "train" / f"{source}.zip") as archive:
            for i in np.nonzero((labels["train"]["source"] == source) & (labels["train"][column] != ""))[0]:
                train.append((decoded(archive, str(labels["train"]["path"][i])), classes.index(str(labels["train"][column][i]))))
    dev = []
    for path, said in zip(labels["dev"]["path"], labels["dev"].get(column, [])):
        if str(said) in classes:
            rgb = np.asarray(Image.open(io.BytesIO((faces / "dev" / str(path)).read_bytes())).convert("RGB"))
            dev.append((rgb, classes.index(str(said))))
    return classes, train, dev


@torch.no_grad()
def features(net, images, batch=32):
    """Returns the last maps [n, C, S, S] of network images, uint8 [n, 3, S, S]."""
    parts = [net.encode(torch.from_numpy(images[i : i + batch]).float().div_(127.5).sub_(1.0))["f16"] for i in range(0, len(images), batch)]
    return torch.cat(parts)


def fit(inputs, target, classes, decay, steps=60):
    """Fits a logistic regression [n, F] -> classes with weight decay; the inputs are of about unit size."""
    linear = nn.Linear(inputs.shape[1], classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    weight = len(target) / (classes * torch.bincount(target, minlength=classes).clamp(min=1))  # rare classes count as much
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(linear(inputs), target, weight) + decay * linear.weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    return linear


def learn(maps, target, owner, part):
    """Sets the head's weights; `owner` gives the photo of each row. Returns the held-out accuracy and the decay."""
    with torch.no_grad():
        pooled = part.pool(maps).flatten(1)
        middle, spread = pooled.mean(0), pooled.std(0) + 1e-3
        inputs = (pooled - middle) / spread / inputs_scale(pooled)
    held = owner % 5 == 0
    classes, best = part.linear.out_features, None
    for decay in DECAYS:
        linear = fit(inputs[~held], target[~held], classes, decay)
        with torch.no_grad():
            accuracy = float((linear(inputs[held]).argmax(1) == target[held]).float().mean())
        if best is None or accuracy > best[0]:
            best = accuracy, decay
    linear = fit(inputs, target, classes, best[1])
    with torch.no_grad():
        weight = linear.weight / spread / inputs_scale(pooled)
        part.linear.weight.copy_(weight)
        part.linear.bias.copy_(linear.bias - weight @ middle)
    return best


def inputs_scale(pooled):
    return pooled.shape[1] ** 0.5 / 8


def extended(export, out, name, classes, part, maps):
    """Writes the export folder with the task's part, quantized like the others."""
    export, out = Path(export), Path(out)
    manifest = tomllib.loads((export / "manifest.toml").read_text())
    if any(task["name"] == name for task in manifest["task"]):
        raise SystemExit(f"{export} has a task {name} already")
    out.mkdir(parents=True, exist_ok=True)
    for row in manifest["part"]:
        shutil.copyfile(export / row["file"], out / row["file"])
    file = f"task_{name}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / file
        export_float(part.eval(), plain, {"feature16": maps})
        quantize(plain, out / file, {"feature16": maps[:240]}, part.inputs, METHODS["minmax"])
    manifest["part"].append({"name": f"task_{name}", "file": file, "sha256": sha256(out / file), "inputs": part.inputs, "outputs": part.outputs})
    manifest["task"].append({
        "name": name, "kind": "classes", "part": f"task_{name}", "output": part.outputs[0], "default": True, "interpreter": "value",
        "labels": classes,
    })  # fmt: skip
    (out / "manifest.toml").write_text(tomli_w.dumps(manifest))


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("faces", help="folder that `faceptor-models prepare own=...` wrote")
    p.add_argument("--task", required=True)
    p.add_argument("--weights", default="edge/weights.pt")
    p.add_argument("--export", default="edge", help="that network's export folder")
    p.add_argument("--out", required=True, help="export folder to write")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args(arguments)
    if not args.task.isidentifier():
        p.error(f"--task {args.task!r} is not a name of letters, digits and _")
    net, _ = load(args.weights)
    size = tomllib.loads((Path(args.export) / "manifest.toml").read_text())["input"]["size"]
    classes, train, dev = labelled(args.faces, args.task)
    rng, images, target, owner = np.random.default_rng(args.seed), [], [], []
    for i, (crop, said) in enumerate(train):
        views = [network_image(crop[..., :3], size), *(sample(rng, crop, size)[0] for _ in range(VIEWS))]
        images += views
        target += [said] * len(views)
        owner += [i] * len(views)
    maps = features(net, np.stack(images))
    part = OwnPart(args.task, maps.shape[1], maps.shape[2], len(classes))
    accuracy, decay = learn(maps, torch.tensor(target), torch.tensor(owner), part)
    report = {"task": args.task, "classes": classes, "photos": len(train), "held_out_accuracy": round(accuracy, 4), "decay": decay}
    if dev:
        seen = features(net, np.stack([network_image(filled(rgb), size) for rgb, _ in dev]))
        with torch.no_grad():
            right = part(seen).argmax(1) == torch.tensor([said for _, said in dev])
        report |= {"dev_photos": len(dev), "dev_accuracy": round(float(right.float().mean()), 4)}
    extended(args.export, args.out, args.task, classes, part, maps)
    print(json.dumps(report))


def filled(rgb):
    return fill_border(rgb, border_mask(rgb))


if __name__ == "__main__":
    main()
