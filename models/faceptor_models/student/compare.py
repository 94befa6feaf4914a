"""Compares initial weights of the encoder on landmarks and parsing: same steps, same batches, several seeds.

    python -m faceptor_models.student.compare --faces ../../shared/faces --cache CACHE --out OUT --start scratch --start mcf=encoder.pt --seeds 1,2,3

A start is `scratch` or NAME=FILE; FILE holds an encoder as `faceptor-models pretrain` writes it. The network learns only from
w300 (annotated points) and celebamask (masks). OUT/runs has a file of measurements for each run, OUT/results.csv all of them,
OUT/results.svg the curves. Finished runs are kept: the same command continues where it stopped, and several commands with other
seeds may share OUT.
"""

import argparse
import csv
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.augment import sample
from faceptor_models.common.batch_stream import stream
from faceptor_models.common.geometry import network_to_frame
from faceptor_models.common.labels import PARSING
from faceptor_models.common.metrics import landmark_error, parsing_scores
from faceptor_models.common.packed_crops import Labels, pack

from . import losses
from .average import Average
from .development import Development
from .evaluate import label_map
from .loader import mask_chances
from .network import Student, soft_argmax
from .pretrained_encoder import load_encoder
from .train import schedule

COLUMNS = ["start", "seed", "step", "samples", "loss", "landmarks_nme_percent", "parsing_f1", "parameters", "size", "px", "batch", "rate"]
# Number of times that a run is measured.
MARKS = 5
COLOURS = ["#7f8c8d", "#c0392b", "#1b6ca8", "#1e8449"]


class DenseBatches:
    """Makes batches for the student's loader: one half crops with annotated points, the other half crops with masks."""

    def __init__(self, faces, cache, batch, size):
        archive = np.load(Path(faces) / "train/labels.npz")
        arrays = pack(faces, cache, mapped=True)
        labels = Labels(archive, "w300")
        self.points, self.crops = labels.landmarks, {s: arrays[s] for s in ("w300", "celebamask")}
        self.usable = np.nonzero(labels.people & np.isfinite(self.points[:, 0, 0]))[0]
        self.masks = np.array(arrays["masks"])
        self.chances = mask_chances(self.masks)
        self.batch, self.size = batch, size

    def make(self, seed, size=None):
        rng, half = np.random.default_rng(seed), self.batch // 2
        size = size or self.size
        images, points, masks = [], [], []
        for i in rng.choice(self.usable, half):
            image, _, moved, _ = sample(rng, self.crops["w300"][i], size, points=self.points[i])
            images.append(image)
            points.append(moved)
        for i in rng.choice(len(self.masks), half, p=self.chances):
            image, mask, _, _ = sample(rng, self.crops["celebamask"][i], size, mask=self.masks[i])
            images.append(image)
            masks.append(mask)
        return {"image": np.stack(images), "landmarks": np.stack(points).astype(np.float32), "parsing": np.stack(masks)}


def encoded(net, image):
    """Returns (memory, pixels) of the dense tasks."""
    maps = net.encode(image)
    return net.remember(maps), net.pixels(maps)


def dense_logits(net, task, seen, rows):
    """Returns the logits of one dense task for some rows of what `encoded` returns."""
    memory, pixels = seen
    return net.maps(net.decode(task, [(k[rows], v[rows]) for k, v in memory]), pixels[rows])


def step_loss(net, batch):
    half = len(batch["landmarks"])
    image = torch.from_numpy(batch["image"]).float().div_(127.5).sub_(1.0)
    seen = encoded(net, image)
    points, masks = dense_logits(net, "landmarks", seen, slice(half)), dense_logits(net, "parsing", seen, slice(half, None))
    coordinate, heat = losses.landmarks(points, torch.from_numpy(batch["landmarks"]), torch.ones(half))
    w = losses.WEIGHTS
    return w["landmarks"] * coordinate + w["heatmap"] * heat + w["parsing"] * losses.parsing(masks, torch.from_numpy(batch["parsing"]).long())


class Judge:
    """Holds the dev rows of landmarks and parsing for networks of one input size."""

    def __init__(self, faces, size):
        dev = Development(faces)
        self.points = [i for i in dev.rows("w300") if dev.labels["landmarks_source"][i] == 1]
        self.true = dev.labels["landmarks"][self.points].astype(float) / 8192
        self.masks = [dev.mask(i) for i in dev.rows("celebamask")]
        rows = [*self.points, *dev.rows("celebamask")]
        self.images = torch.from_numpy(np.stack([network_image(dev.rgb(i), size) for i in rows])).float().div_(127.5).sub_(1.0)

    @torch.no_grad()
    def measure(self, net):
        """Returns (mean point error in per cent of the outer eye distance, mean F1 over the classes except the background)."""
        net.eval()
        n, found, confusion = len(self.points), [], np.zeros((len(PARSING),) * 2, np.int64)
        for start in range(0, n, 32):
            image = self.images[start : min(start + 32, n)]
            logits = dense_logits(net, "landmarks", encoded(net, image), slice(None))
            found.append(network_to_frame(soft_argmax(logits).numpy()))
        for truth, image in zip(self.masks, self.images[n:]):
            said = label_map(dense_logits(net, "parsing", encoded(net, image[None]), slice(None))[0].numpy(), truth.shape[0])
            valid = truth != 255
            pair = truth[valid].astype(int) * len(PARSING) + said[valid]
            confusion += np.bincount(pair, minlength=confusion.size).reshape(confusion.shape)
        net.train()
        return 100 * landmark_error(np.concatenate(found), self.true).mean(), float(np.nanmean(parsing_scores(confusion)[1:]))


def run(args, name, file, seed, batches, judge, target):
    """Trains one run and writes its rows to `target` at each measurement.

    Networks of one seed have the same weights outside the encoder and see the same batches.
    """
    torch.manual_seed(seed)
    net = Student(args.size)
    if file:
        load_encoder(net, file)
    average, net = Average(net, 0.99), net.train()
    matrices, vectors = ([p for p in net.parameters() if (p.ndim > 1) == wide] for wide in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer, judged = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.99)), Student(args.size)
    marks = {round(args.steps * (i + 1) / MARKS) for i in range(MARKS)}
    rows, total, counted, begun = [], 0.0, 0, time.process_time()
    for step, raw in stream(batches, seed, 0, lambda _: args.px):
        for group in optimizer.param_groups:
            group["lr"] = args.rate * schedule(step / args.steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = step_loss(net, raw)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(net)
        total, counted = total + float(loss.detach()), counted + 1
        if step + 1 in marks:
            judged.load_state_dict(average.state)
            nme, f1 = judge.measure(judged)
            rows.append({
                "start": name, "seed": seed, "step": step + 1, "samples": (step + 1) * args.batch, "loss": f"{total / counted:.4f}",
                "landmarks_nme_percent": f"{nme:.3f}", "parsing_f1": f"{f1:.4f}", "parameters": sum(p.numel() for p in net.parameters()),
                "size": args.size, "px": args.px, "batch": args.batch, "rate": args.rate,
            })  # fmt: skip
            print(" ".join(f"{k}={v}" for k, v in rows[-1].items()), f"cpu_s={time.process_time() - begun:.0f}", flush=True)
            write_rows(rows, target)
            total, counted = 0.0, 0
        if step + 1 >= args.steps:
            return


def read_rows(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(rows, path):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def gathered(out):
    """Returns the rows of all runs, and writes results.csv and results.svg from them."""
    rows = [row for path in sorted((out / "runs").glob("*.csv"), key=lambda p: (not p.name.startswith("scratch"), p.name)) for row in read_rows(path)]
    write_rows(rows, out / "results.csv")
    (out / "results.svg").write_text(plot(rows))
    return rows


MEASURES = ("landmarks_nme_percent", "parsing_f1")


def common_step(rows):
    """Returns the last measured step that every run has reached."""
    runs = {}
    for r in rows:
        runs.setdefault((r["start"], r["seed"]), set()).add(int(r["step"]))
    return max(set.intersection(*runs.values()))


def summary(rows):
    """Returns {start: {measure: (mean, sample standard deviation, runs)}} at the last common step."""
    step, out = common_step(rows), {}
    for name in dict.fromkeys(r["start"] for r in rows):
        last = [r for r in rows if r["start"] == name and int(r["step"]) == step]
        values = {m: np.array([float(r[m]) for r in last]) for m in MEASURES}
        out[name] = {m: (v.mean(), v.std(ddof=1) if len(v) > 1 else float("nan"), len(v)) for m, v in values.items()}
    return out


def paired(rows, first, second):
    """Returns {measure: (mean of second - first over the seeds, its standard error, seeds)} at the last common step."""
    step, out = common_step(rows), {}
    for m in MEASURES:
        held = {(r["start"], r["seed"]): float(r[m]) for r in rows if int(r["step"]) == step}
        out[m] = mean_gain(held, first, second)
    return out


def mean_gain(held, first, second):
    """Returns (mean of second - first over the seeds that both have, its standard error, seeds) of {(name, seed): value}."""
    gain = np.array([held[second, seed] - v for (name, seed), v in held.items() if name == first and (second, seed) in held])
    return gain.mean(), gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan"), len(gain)


def panel(rows, measure, title, left, width, height):
    """Draws one diagram: a thin line for each run, and a thick one for the mean of a start's runs."""
    values, steps = [float(r[measure]) for r in rows], max(int(r["step"]) for r in rows)
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    out = [f'<rect x="{left}" y="30" width="{width}" height="{height}" fill="none" stroke="#999"/>', f'<text x="{left}" y="20">{title}</text>']
    out += [f'<text x="{left - 6}" y="{y}" text-anchor="end">{v:.3g}</text>' for v, y in ((high, 40), (low, 30 + height))]
    out.append(f'<text x="{left + width}" y="{height + 46}" text-anchor="end">{steps} steps</text>')

    def line(points, colour, thick):
        places = " ".join(f"{left + width * s / steps:.1f},{30 + height * (1 - (v - low) / span):.1f}" for s, v in points)
        return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{thick}" opacity="{0.4 if thick < 2 else 1}"/>'

    for colour, name in zip(COLOURS, dict.fromkeys(r["start"] for r in rows)):
        mine = [r for r in rows if r["start"] == name]
        for seed in dict.fromkeys(r["seed"] for r in mine):
            out.append(line([(int(r["step"]), float(r[measure])) for r in mine if r["seed"] == seed], colour, 1))
        # The mean ends where the shortest of the start's runs ends.
        marks = sorted({int(r["step"]) for r in mine if int(r["step"]) <= common_step(mine)})
        out.append(line([(s, np.mean([float(r[measure]) for r in mine if int(r["step"]) == s])) for s in marks], colour, 2.5))
    return out


def plot(rows):
    """Draws the curves of all runs as SVG text."""
    width, height = 330, 220
    found, step = summary(rows), common_step(rows)
    view = f"0 0 {2 * width + 170} {height + 58 + 18 * len(found)}"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" font-family="sans-serif" font-size="12">']
    out += panel(rows, "landmarks_nme_percent", "landmarks: error in % of the eye distance (w300 dev)", 50, width, height)
    out += panel(rows, "parsing_f1", "parsing: mean F1 (CelebAMask dev)", width + 130, width, height)
    for i, (name, values) in enumerate(found.items()):
        (nme, nme_spread, runs), (f1, f1_spread, _) = (values[m] for m in MEASURES)
        text = f"{name}, {step} steps, {runs} seeds: error {nme:.2f} (deviation {nme_spread:.2f}), F1 {f1:.3f} (deviation {f1_spread:.3f})"
        out.append(f'<text x="50" y="{height + 66 + 18 * i}" fill="{COLOURS[i % len(COLOURS)]}">{text}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--cache", required=True, help="folder of the decoded crops")
    p.add_argument("--out", required=True)
    p.add_argument("--start", action="append", required=True, metavar="NAME[=FILE]")
    p.add_argument("--seeds", default="1,2,3", type=lambda text: [int(v) for v in text.split(",")])
    p.add_argument("--size", default="edge", choices=["edge", "nano"])
    p.add_argument("--px", type=int, default=64)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=400)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return p.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    # The loader forks: OpenCV's threads in this process would leave their locks in the children.
    cv2.setNumThreads(0)
    out = Path(args.out)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    starts = [(name, file) for name, _, file in (s.partition("=") for s in args.start)]
    batches, judge = DenseBatches(args.faces, args.cache, args.batch, args.px), Judge(args.faces, args.px)
    # The order is seed by seed, so that a comparison that is cut short still compares.
    for seed in args.seeds:
        for name, file in starts:
            target = out / "runs" / f"{name}-{seed}.csv"
            if not any(int(r["step"]) == args.steps for r in read_rows(target)):
                run(args, name, file, seed, batches, judge, target)
    rows = gathered(out)
    print(f"after {common_step(rows)} of {args.steps} steps:")
    for name, values in summary(rows).items():
        print(name, *(f"{m} {mean:.4g} +- {spread:.2g} over {n} seeds" for m, (mean, spread, n) in values.items()), sep="; ")
    names = list(dict.fromkeys(r["start"] for r in rows))
    for name in names[1:]:
        gains = paired(rows, names[0], name).items()
        print(f"{name} - {names[0]}", *(f"{m} {mean:+.4g} +- {error:.2g} (standard error of {n} pairs)" for m, (mean, error, n) in gains), sep="; ")


if __name__ == "__main__":
    main()
