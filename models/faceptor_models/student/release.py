"""Keeps the results of a training run: half-precision averaged weights, the log, its curve and the arguments.

    python -m faceptor_models.student.release RUN_FOLDER --out edge [--continued]

The export and the float column of the card start from these weights, so the repository alone reproduces them.
"""

import argparse
import csv
import json
from pathlib import Path

import torch

from faceptor_models.common.geometry import check_warp

from .network import widened

CURVES = ["age", "expression", "attributes", "landmarks", "heatmap", "parsing", "embedding", "relation", "tutor"]
WIDTH, HEIGHT, LEFT, TOP = 640, 300, 16, 24
COLOURS = ["#1b6ca8", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#117a65", "#616a6b", "#d35400", "#2c3e50"]


def curve(log):
    """Draws the loss terms over the samples seen as SVG text, each as a share of its first value; a term has points only in the
    runs that have it.
    """
    top = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 150} {HEIGHT + 50}" font-family="sans-serif" font-size="12">']
    top.append(f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>')
    top.append(f'<text x="{LEFT}" y="16">training loss terms, each relative to its first value (1 = top edge)</text>')
    last = int(log[-1]["step"])
    for i, name in enumerate(n for n in CURVES if any(n in r for r in log)):
        having = [r for r in log if name in r]
        first = having[0][name]
        points = [(LEFT + WIDTH * r["step"] / last, TOP + HEIGHT * (1 - min(r[name] / first, 1.0))) for r in having]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        top.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.5"/>')
        top.append(f'<text x="{LEFT + WIDTH + 8}" y="{TOP + 14 + 18 * i}" fill="{COLOURS[i]}">{name} {having[-1][name]:.3g}</text>')
    top.append(f'<text x="{LEFT}" y="{TOP + HEIGHT + 18}">0</text>')
    top.append(f'<text x="{LEFT + WIDTH - 90}" y="{TOP + HEIGHT + 18}">{last} steps</text></svg>')
    return "\n".join(top)


def rows_of(path):
    """Reads a training log's rows as numbers, without the terms that a run did not have yet."""
    with open(path, newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def write_log(rows, path):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(k for row in rows for k in row)))
        writer.writeheader()
        writer.writerows({k: int(v) if k in ("step", "size_px") else f"{v:.6g}" for k, v in row.items()} for row in rows)


def joined(before, rows):
    """Appends the rows of a run that continued from another run's weights, counted on from its end."""
    last = before[-1]
    return before + [row | {"step": row["step"] + last["step"], "minutes": row["minutes"] + last["minutes"]} for row in rows]


def kept(arguments):
    """Returns a run's arguments without the paths of its machine; of further crops the folders' names stay, and of a tutor its file's name."""
    left = {k: v for k, v in arguments.items() if k not in ("faces", "cache", "out", "start_from", "encoder")}
    left |= {"tutor": Path(left["tutor"]).name} if left.get("tutor") else {}
    return left | ({"more": [Path(folder).name for folder in left["more"]]} if left.get("more") else {})


def blended(before, after, share):
    """Returns the weighted mean of two states of one network.

    A short run from good weights ends near them, in the same valley: what it learned and what it lost on the way partly add up
    and partly cancel (Wortsman et al. 2022, "Robust fine-tuning").
    """
    before = widened(before, after)
    other = [k for k, v in after.items() if k not in before or before[k].shape != v.shape]
    if other:
        raise SystemExit(f"weights of another structure cannot be blended: {', '.join(other[:3])}")
    return {k: torch.lerp(before[k].to(v.dtype), v, share) if v.dtype.is_floating_point else v for k, v in after.items()}


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run")
    p.add_argument("--out", required=True)
    p.add_argument("--continued", action="store_true", help="the run began with the weights that --out holds: its log is appended")
    p.add_argument(
        "--blend",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="with --continued: keep the mean of the run's weights and those that --out holds, SHARE being the run's part",
    )
    p.add_argument("--blend-with", metavar="FILE", help="the weights for --blend instead of those that --out holds, such as of the release before")
    args = p.parse_args(arguments)
    if not 0 < args.blend <= 1 or (args.blend < 1 and not args.continued):
        p.error("--blend is above 0 and at most 1, and needs --continued")
    if args.blend_with and args.blend == 1:
        p.error("--blend-with goes with --blend")
    run, out = Path(args.run), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    check_warp(state, run / "checkpoint.pt")
    average = state["average"]
    blend = {}
    if args.blend < 1:
        average = blended(torch.load(args.blend_with or out / "weights.pt", map_location="cpu", weights_only=True)["average"], average, args.blend)
        blend["blend"] = args.blend
    if args.blend_with:
        blend["blend_with"] = Path(args.blend_with).name
    half = {k: v.half() if v.dtype.is_floating_point else v for k, v in average.items()}
    rows = rows_of(run / "log.csv")
    arguments = [kept(state["arguments"]) | {"steps_done": state["step"]} | blend]
    if args.continued:
        rows = joined(rows_of(out / "training_log.csv"), rows)
        arguments = json.loads((out / "training_arguments.json").read_text()) + arguments
    torch.save({"size": state["size"], "step": int(rows[-1]["step"]), "average": half}, out / "weights.pt")
    write_log(rows, out / "training_log.csv")
    (out / "training_curve.svg").write_text(curve(rows))
    (out / "training_arguments.json").write_text(json.dumps(arguments, indent=1) + "\n")
    seen = state["step"] * arguments[-1]["batch"]
    print(f"{out}: step {state['step']}, {seen} samples, {state['used_seconds'] / 60:.1f} minutes, seed {arguments[-1]['seed']}")


if __name__ == "__main__":
    main()
