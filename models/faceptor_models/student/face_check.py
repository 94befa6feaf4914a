"""Fits the face check: a linear function of the encoder's features that separates faces from what the finder takes for faces.

    python -m faceptor_models.student.face_check --binary ../target/release/faceptor --export edge --faces ../../shared/faces

Faces are training crops and the training scenes. The others are drawn pictures (`student.faceless`), the scenes of objects, and the
pictures of any folder given with `--pictures` (the shipped numbers: Debian's openclipart-png, tuxpaint-stamps-default and
fonts-noto-color-emoji). The result goes to `face_check.toml` of the export and into its manifest.
"""

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import tomli_w
from PIL import Image

from faceptor_models.common import geometry
from faceptor_models.common.area_sampling import view
from faceptor_models.common.paths import FACES

from .accuracy import ask, overlap
from .faceless import draw
from .onnx_parts import OnnxParts

SOURCES = ("fairface", "utk", "rafdb", "celeba", "ferplus", "w300", "celebamask")
# Seed of the drawn pictures; `student.doubts` measures on others.
SEED = 1
# Share of the held-out faces that may be doubted.
DOUBTED = 0.002
# Weight of the squared weights in the loss, for standardised features.
DECAY = 2e-3


def jittered(rng, matrix, amount=1.0):
    """Turns, enlarges and shifts a placement (frame to picture) as the finder's errors do."""
    t, zoom = np.deg2rad(amount * rng.normal(0, 4)), np.exp(amount * rng.normal(0, 0.06))
    a, b = zoom * np.cos(t), zoom * np.sin(t)
    shift = amount * rng.normal(0, 0.015, 2)
    inner = np.array([[a, -b, 0.5 - 0.5 * (a - b) + shift[0]], [b, a, 0.5 - 0.5 * (a + b) + shift[1]], [0, 0, 1]])
    return (np.vstack([matrix, [0, 0, 1]]) @ inner)[:2]


def placed(keypoints):
    """Returns the placement of the aligned frame for five keypoints."""
    return geometry.similarity(geometry.TEMPLATE, keypoints)


def anywhere(rng, picture):
    """Returns a random upright placement in a picture."""
    height, width = picture.shape[:2]
    side = rng.uniform(0.3, 1.2) * min(height, width)
    return np.array([[side, 0, rng.uniform(-0.2 * side, width - 0.8 * side)], [0, side, rng.uniform(-0.2 * side, height - 0.8 * side)]])


def decoded(file):
    return np.asarray(Image.open(file).convert("RGB"))


def crops(faces, rng, size, each):
    """Yields training crops of every source as the network sees them."""
    labels = np.load(Path(faces) / "train" / "labels.npz")
    for source in SOURCES:
        rows = np.nonzero(labels["source"] == source)[0]
        with zipfile.ZipFile(Path(faces) / "train" / f"{source}.zip") as archive:
            names = set(archive.namelist())
            for i in rng.choice(rows, min(each, len(rows)), replace=False):
                name = str(labels["path"][i])
                photo = decoded(io.BytesIO(archive.read(name if name in names else name.split("/", 1)[1])))
                side = photo.shape[0]
                yield view(photo, jittered(rng, np.array([[side, 0, 0], [0, side, 0.0]])), size)


def scenes(faces, kind, rng, count):
    """Yields (labels, RGB) of training scenes of a source."""
    root = Path(faces) / "scenes"
    rows = [s for s in json.loads((root / "train.json").read_text()) if s["source"] == kind]
    with zipfile.ZipFile(root / "train.zip") as archive:
        names = set(archive.namelist())
        for n in rng.permutation(len(rows))[:count]:
            name = rows[n]["path"] if rows[n]["path"] in names else rows[n]["path"].removeprefix("scenes/")
            yield rows[n], decoded(io.BytesIO(archive.read(name)))


def found(binary, model, pictures):
    """Returns the faces that the program finds in each picture."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for n, picture in enumerate(pictures):
            paths.append(f"{folder}/{n:06}.png")
            cv2.imwrite(paths[-1], np.ascontiguousarray(picture)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        lines = {}
        for start in range(0, len(paths), 400):
            lines |= {line["path"]: line["faces"] for line in ask(binary, model, ["--tasks", "none"], paths[start : start + 400])}
        return [lines.get(path, []) for path in paths]


def faces_of_scenes(args, rng, size):
    """Yields the labelled faces of scenes, placed by the program's finder."""
    for kind, count in (("w300", args.scenes), ("muxspace", args.scenes)):
        rows = list(scenes(args.faces, kind, rng, count))
        for (row, picture), faces in zip(rows, found(args.binary, args.model, [p for _, p in rows])):
            true = [f["box"] for f in row["faces"]]
            for face in faces:
                if any(overlap(face["box"], box) > 0.4 for box in true):
                    yield view(picture, placed(face["keypoints"]), size)


def others(args, rng, size):
    """Yields (crop, whether the finder placed it) of pictures without faces."""
    drawn = [picture for _, picture in draw(args.drawn, SEED)]
    objects = [picture for row, picture in scenes(args.faces, "objects", rng, 900) if not row["faces"]]
    further = []
    for folder in args.pictures:
        for file in sorted(Path(folder).rglob("*.png")):
            further.append(decoded(file))
    for pictures in (drawn, objects, further):
        for picture, faces in zip(pictures, found(args.binary, args.model, pictures)):
            for face in faces:
                for amount in (0.0, 1.0, 1.0):
                    yield view(picture, jittered(rng, placed(face["keypoints"]), amount), size), True
            for _ in range(args.anywhere):
                yield view(picture, jittered(rng, anywhere(rng, picture)), size), False


def tensor_of(parts):
    """Returns the deepest features: the last output of the first part that has several."""
    return next(part["outputs"][-1] for part in parts.parts if len(part["outputs"]) > 1)


def features(parts, tensor, images):
    """Returns the means of each channel, [images, channels]."""
    rows = []
    for image in images:
        tensors = {parts.manifest["input"]["tensor"]: image[None].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0}
        for part, session in zip(parts.parts, parts.sessions):
            tensors |= zip(part["outputs"], session.run(part["outputs"], {n: tensors[n] for n in part["inputs"]}))
            if tensor in tensors:
                break
        rows.append(tensors[tensor][0].mean((1, 2)))
    return np.array(rows)


def fit(positive, negative, held):
    """Returns (weights, bias): logistic regression, both kinds of equal weight, by Newton's method."""
    rows = np.concatenate([positive, negative]).astype(np.float64)
    truth = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    weight = np.where(truth == 1, 0.5 / len(positive), 0.5 / len(negative))
    mean, std = rows.mean(0), rows.std(0) + 1e-3
    x = np.concatenate([(rows - mean) / std, np.ones((len(rows), 1))], 1)
    w, decay = np.zeros(x.shape[1]), np.r_[np.full(x.shape[1] - 1, DECAY), 0.0]
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (weight * (p - truth)) + decay * w
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(decay + 1e-9)
        w -= np.linalg.solve(hessian, gradient)
    weights = w[:-1] / std
    bias = w[-1] - mean @ weights
    worst = float(np.quantile(held @ weights + bias, DOUBTED))
    # Half of a positive distance is left to faces that are harder than these.
    return weights, bias - (0.5 * worst if worst > 0 else worst)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", required=True, help="the program faceptor")
    p.add_argument("--model", help="a bundle instead of the one inside the program")
    p.add_argument("--export", type=Path, default=Path("edge"))
    p.add_argument("--faces", default=str(FACES))
    p.add_argument("--pictures", action="append", default=[], help="a folder of pictures (PNG) without faces")
    p.add_argument("--crops", type=int, default=450, help="training crops of each source")
    p.add_argument("--scenes", type=int, default=300, help="training scenes of each source with faces")
    p.add_argument("--drawn", type=int, default=1500, help="drawn pictures")
    p.add_argument("--anywhere", type=int, default=1, help="crops at random places of each picture without faces")
    args = p.parse_args()
    rng = np.random.default_rng(3)
    parts = OnnxParts(args.export)
    size, tensor = parts.manifest["input"]["size"], tensor_of(parts)
    positive = features(parts, tensor, crops(args.faces, rng, size, args.crops))
    in_scenes = features(parts, tensor, faces_of_scenes(args, rng, size))
    crops_of_others, is_found = zip(*others(args, rng, size))
    negative, is_found = features(parts, tensor, crops_of_others), np.array(is_found)
    # Every second face of a scene is held out: the limit is set by it.
    weights, bias = fit(np.concatenate([positive, in_scenes[::2]]), np.concatenate([negative, negative[is_found]]), in_scenes[1::2])
    says = [100 * np.mean(rows @ weights + bias > 0) for rows in (positive, in_scenes[1::2], negative[is_found], negative[~is_found])]
    print(f"{len(positive)} crops, {len(in_scenes)} faces of scenes, {is_found.sum()} false faces, {(~is_found).sum()} other places")
    print("accepted %: crops {:.2f}, held-out faces of scenes {:.2f}, false faces {:.2f}, other places {:.2f}".format(*says))
    check = {"tensor": tensor, "bias": round(float(bias), 5), "weights": [round(float(v), 5) for v in weights]}
    (args.export / "face_check.toml").write_text(tomli_w.dumps({"face_check": check}))
    (args.export / "manifest.toml").write_text(tomli_w.dumps(parts.manifest | {"face_check": check}))


if __name__ == "__main__":
    main()
