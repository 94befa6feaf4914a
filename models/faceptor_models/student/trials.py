"""Runs controlled trials: short trainings with and without a piece of the method, with the same batches and steps and several seeds.

    python -m faceptor_models.student.trials dense --faces ../../shared/faces --cache CACHE --out OUT --seeds 1,2,3

configs/trials.toml has the trials and their arms. OUT/TRIAL-ARM-SEED is a run's folder, and OUT/TRIAL.csv has the measures of
all runs on the dev split (float, the average of the weights, one crop of each face). Finished runs are kept; several commands
with other seeds or trials may share OUT. The trial `dense` needs OUT/pfld.npz first: python -m
faceptor_models.student.inner_maps.
"""

import argparse
import gc
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from faceptor_models.common import geometry
from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.geometry import network_to_frame
from faceptor_models.common.metrics import landmark_error
from faceptor_models.common.paths import CONFIGS

from . import train
from .compare import mean_gain, read_rows
from .development import ROWS, Development
from .evaluate import answer, label_map, load
from .network import SIZES
from .options import parsed
from .poses import turned

CONFIG = CONFIGS / "trials.toml"
# The tasks that the network runs for each source.
ASKED = {
    "w300": ("landmarks",), "celebamask": ("parsing",), "utk": ("age",), "fairface": ("age",), "celeba": ("attributes",), "rafdb": ("expression",),
    "ferplus": ("expression",), "lfw": ("embedding",),
}  # fmt: skip
TURNED = "landmarks of the most turned quarter NME %"
PLAIN = ["arm", "seed", "steps", "parameters", "mmac", "seconds_a_step"]


class Judge:
    """Holds the dev rows of some sources and keeps their network images from run to run."""

    def __init__(self, faces, sources, px):
        self.dev, self.sources = Development(faces), sources
        self.rows = {s: list(self.dev.rows(s)) for s in sources}
        self.images = {s: np.stack([network_image(self.dev.rgb(i), px) for i in rows]) for s, rows in self.rows.items()}

    def measure(self, net):
        """Returns {row of the card's table: value}, and the error of turned faces in addition to that of all."""
        found, table = {}, {}
        for source in self.sources:
            rows, images = self.rows[source], self.images[source]
            for start in range(0, len(rows), 64):
                out = answer(net, images[start : start + 64], ASKED[source])
                for j, i in enumerate(rows[start : start + 64]):
                    found[i] = self.one(i, {k: v[j] for k, v in out.items()})
            table |= ROWS[source](self.dev, found)
        if "w300" in self.sources:
            rows = [i for i in self.rows["w300"] if self.dev.labels["landmarks_source"][i] == 1]
            true = self.dev.labels["landmarks"][rows].astype(float) / 8192
            most = np.argsort(-turned(true))[: len(rows) // 4]
            table[TURNED] = 100 * landmark_error(np.stack([found[rows[k]]["landmarks"] for k in most]), true[most]).mean()
        return {k: float(v) for k, v in table.items()}

    def one(self, row, out):
        """Converts one face's answers to what `development.measure` wants."""
        if "landmarks" in out:
            out["landmarks"] = network_to_frame(out["landmarks"])
        if "embedding" in out:
            out["embedding"] = out["embedding"] / np.linalg.norm(out["embedding"])
        if "parsing" in out:
            out = {"mask": label_map(out["parsing"], self.dev.mask(row).shape[0])}
        return out


@torch.no_grad()
def cost_mmac(net, px=96):
    """Counts the million multiply-accumulates of one face with all tasks: layers and attention, without the products with the
    pixels' features.
    """
    net = net.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        maps = net.encode(torch.zeros(1, 3, px, px))
        memory = net.remember(maps)
        net.pixels(maps)
        net.feature(maps["f16"])
        for task in net.content:
            net.decode(task, memory)
    return counter.get_total_flops() / 2e6


def settings(args, trial, arm, seed, folder):
    """Returns the training options of one run."""
    given = f"{trial['common']} {trial['arms'][arm]}".format(out=args.out, **args.shared).split()
    given += ["--faces", str(args.faces), "--cache", str(args.cache), "--out", str(folder), "--seed", str(seed), "--mapped", "--resume"]
    return parsed([*given, "--threads", str(args.threads), "--save-minutes", "3", *(["--steps", str(args.steps)] if args.steps else [])])


def run(args, trial, arm, seed, judge):
    """Runs one training and returns its row of the table."""
    folder = Path(args.out) / f"{args.trial}-{arm}-{seed}"
    given = settings(args, trial, arm, seed, folder)
    train.train(given)
    net, state = load(folder / "checkpoint.pt")
    row = {"arm": arm, "seed": seed, "steps": state["step"] + 1, "parameters": sum(p.numel() for p in net.parameters())}
    row["mmac"] = round(cost_mmac(net), 1)
    row["seconds_a_step"] = round(state["used_seconds"] / row["steps"], 3)
    return row | {k: round(v, 4) for k, v in judge(given.full_px).measure(net).items()}


def paired(rows, base, arm, measure):
    """Returns (mean of arm - base over the seeds that both have, its standard error, seeds)."""
    return mean_gain({(r["arm"], r["seed"]): float(r[measure]) for r in rows}, base, arm)


def summary(rows):
    """Writes the trial as a Markdown table: the first arm's means and standard deviations, the others' differences and standard errors."""
    measures = [k for k in rows[0] if k not in PLAIN]
    arms = list(dict.fromkeys(r["arm"] for r in rows))
    out = ["| arm | seeds | " + " | ".join(measures) + " | MMAC | parameters |", "|---" * (len(measures) + 4) + "|"]
    for arm in arms:
        mine = [r for r in rows if r["arm"] == arm]
        cells = []
        for m in measures:
            values = [float(r[m]) for r in mine]
            digits = 4 if "F1" in m else 2
            if arm == arms[0]:
                spread = np.std(values, ddof=1) if len(values) > 1 else float("nan")
                cells.append(f"{np.mean(values):.{digits}f} (deviation {spread:.{digits}f})")
            else:
                mean, error, _ = paired(rows, arms[0], arm, m)
                cells.append(f"{mean:+.{digits}f} ({error:.{digits}f})")
        out.append(f"| {arm} | {len(mine)} | " + " | ".join(cells) + f" | {float(mine[0]['mmac']):.0f} | {int(mine[0]['parameters']):,} |")
    return "\n".join(out)


def gathered(out, name, arms):
    """Returns the rows of a trial's finished runs, arm by arm, and writes OUT/TRIAL.csv from them."""
    rows = [row for arm in arms for path in sorted(out.glob(f"{name}-{arm}-[0-9]*/row.csv")) for row in read_rows(path)]
    write_rows(rows, out / f"{name}.csv")
    return rows


def add_sizes(sizes):
    for name, changes in sizes.items():
        SIZES[name] = SIZES[changes["of"]] | {k: v for k, v in changes.items() if k != "of"}


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("trial")
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--cache", required=True, help="folder of the decoded crops")
    p.add_argument("--out", required=True)
    p.add_argument("--arms", type=lambda text: text.split(","), help="only these, the first one among them always")
    p.add_argument("--seeds", default="1,2,3", type=lambda text: [int(v) for v in text.split(",")])
    p.add_argument("--steps", type=int, help="other than the trial's")
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def main():
    args, config = parse_args(), tomllib.loads(CONFIG.read_text())
    add_sizes(config.pop("sizes"))
    args.shared = config.pop("shared")
    if args.trial not in config:
        raise SystemExit(f"there is no trial {args.trial}: {', '.join(config)}")
    trial, out, judges = config[args.trial], Path(args.out), {}
    arms = [arm for i, arm in enumerate(trial["arms"]) if args.arms is None or i == 0 or arm in args.arms]

    def judge(px):
        """Returns the judge for pictures through the warp of the judged run."""
        key = px, geometry.WARP_LINEAR
        if key not in judges:
            judges[key] = Judge(args.faces, trial["sources"], px)
        return judges[key]

    # The order is seed by seed, so that a trial that is cut short still compares.
    for seed in args.seeds:
        for arm in arms:
            done = out / f"{args.trial}-{arm}-{seed}" / "row.csv"
            if done.exists():
                continue
            begun = time.monotonic()
            row = run(args, trial, arm, seed, judge)
            write_rows([row], done)
            print(f"{time.monotonic() - begun:.0f} s " + " ".join(f"{k}={v}" for k, v in row.items()), flush=True)
            gc.collect()
    print(summary(gathered(out, args.trial, list(trial["arms"]))))


if __name__ == "__main__":
    main()
