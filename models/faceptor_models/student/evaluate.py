"""Measures a checkpoint on the dev split in PyTorch float.

python -m faceptor_models.student.evaluate CHECKPOINT [--weights average|net]
"""

import argparse
from functools import partial

import cv2
import numpy as np
import torch

from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.geometry import check_warp, frame_to_network, network_to_frame
from faceptor_models.common.labels import LANDMARK_FLIP, PARSING_FLIP

from .development import Development, measure
from .network import AGE_BINS, Student, age_distribution, levels_of, soft_argmax


def load(checkpoint, weights="average"):
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    check_warp(state, checkpoint)
    net = Student(state.get("size", "edge"), levels_of(state[weights]))
    net.load_average(state[weights])
    return net.eval(), state


def label_map(logits, side):
    """Converts parsing logits [C, H, W] on the network's grid to a label map [side, side] of the aligned crop."""
    h, w = logits.shape[1:]
    f = np.arange(side) / side
    u = frame_to_network(f)
    x = (u * w - 0.5).astype(np.float32)
    where_x, where_y = np.meshgrid(x, (u * h - 0.5).astype(np.float32))
    planes = cv2.remap(np.ascontiguousarray(logits.transpose(1, 2, 0)), where_x, where_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return planes.argmax(2).astype(np.uint8)


ANSWERS = ("landmarks", "parsing", "age", "expression", "attributes", "embedding")


@torch.no_grad()
def answer(net, images, wanted=ANSWERS):
    """Runs the tasks on a batch of network images, uint8 [B, 3, S, S]; returns a dict of arrays."""
    maps = net.encode(torch.from_numpy(images).float().div_(127.5).sub_(1.0))
    memory, pixels = net.remember(maps), net.pixels(maps) if {"landmarks", "parsing"} & set(wanted) else None
    read = {
        "landmarks": lambda: soft_argmax(net.maps(net.decode("landmarks", memory), pixels)),
        "parsing": lambda: net.regions(net.decode("parsing", memory), maps["f2"], pixels),
        "age": lambda: age_distribution(net.values("age", net.decode("age", memory))) @ torch.tensor(AGE_BINS),
        "expression": lambda: net.values("expression", net.decode("expression", memory)).softmax(-1),
        "attributes": lambda: net.values("attributes", net.decode("attributes", memory)).sigmoid(),
        "embedding": lambda: net.feature(maps["f16"]),
    }
    return {k: read[k]().numpy() for k in wanted}


def twice(run):
    """Wraps `run` (like `answer`) to average the answers to network images and to their mirror images, as `faceptor image` does."""

    def both(images):
        first, second = run(images), run(np.ascontiguousarray(images[..., ::-1]))
        second["landmarks"] = np.stack([1 - second["landmarks"][..., 0], second["landmarks"][..., 1]], -1)[:, LANDMARK_FLIP]
        second["parsing"] = second["parsing"][..., ::-1][:, PARSING_FLIP]
        return {name: (value + second[name]) / 2 for name, value in first.items()}

    return both


def answers(dev, run, size, batch=32):
    """Returns the answers of every dev row (see development.measure); `run` maps network images to arrays as `answer` does."""
    found = {}
    rows = list(range(len(dev.path)))
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        crops = [dev.rgb(i) for i in part]
        out = run(np.stack([network_image(c, size) for c in crops]))
        for j, i in enumerate(part):
            found[i] = {
                "landmarks": network_to_frame(out["landmarks"][j]), "age": out["age"][j], "expression": out["expression"][j],
                "attributes": out["attributes"][j], "embedding": out["embedding"][j] / np.linalg.norm(out["embedding"][j]),
            }  # fmt: skip
            if dev.labels["mask"][i]:
                found[i]["mask"] = label_map(out["parsing"][j], dev.mask(i).shape[0])
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--weights", default="average", choices=["average", "net"])
    p.add_argument("--px", type=int, default=96)
    p.add_argument("--looks", type=int, default=1, choices=[1, 2], help="2: also at the mirrored crops")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    net, state = load(args.checkpoint, args.weights)
    dev = Development(args.faces)
    once = partial(answer, net)
    table, classes = measure(dev, answers(dev, twice(once) if args.looks == 2 else once, args.px))
    print(f"{args.checkpoint} step {state['step']} {args.weights} at {args.px} px, {args.looks} looks")
    for name, value in table.items():
        print(f"{name:32s} {value:8.3f}")
    print("F1: " + " ".join(f"{k} {v:.2f}" for k, v in classes.items()))


if __name__ == "__main__":
    main()
