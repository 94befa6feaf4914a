"""Measures how large and how small a face may be (from `models/`).

    python -m faceptor_models.finder.probe

It takes the labelled person of every w300 dev photo and makes photos in which that face fills the frame, or is only a few
pixels long. Then it measures recall at IoU 0.4 at the manifest's threshold with the photo sizes.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

from faceptor_models.common.paths import FACES, FINDER

from . import export
from .decode import iou, merge, suppress
from .evaluate import MATCH_IOU, Scene, detect, float_runner, onnx_runner

CANVAS = (480, 640)  # rows, columns of the photos with small faces


def filled(scene: Scene, share: float) -> Scene:
    """Cuts the photo to a square around the face, whose longest side is `share` of the square's."""
    box = scene.boxes[scene.person]
    side = (box[2:] - box[:2]).max() / share
    corner = (box[:2] + box[2:] - side) / 2
    matrix = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]])
    picture = cv2.warpAffine(scene.picture, matrix, (round(side), round(side)), borderMode=cv2.BORDER_REPLICATE)
    return remade(scene, picture, box - np.tile(corner, 2))


def shrunk(scene: Scene, longest: float, dice) -> Scene:
    """Makes a 640x480 photo in which the face is `longest` px; what the scene does not cover is grey."""
    box = scene.boxes[scene.person]
    scale = longest / (box[2:] - box[:2]).max()
    small = cv2.resize(scene.picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[: CANVAS[0], : CANVAS[1]]
    picture = np.full((*CANVAS, 3), 127, np.uint8)
    y, x = (int(dice.integers(room - used + 1)) for room, used in zip(CANVAS, small.shape[:2]))
    picture[y : y + small.shape[0], x : x + small.shape[1]] = small
    return remade(scene, picture, box * scale + np.array([x, y, x, y]))


def remade(scene: Scene, picture, box) -> Scene:
    new = object.__new__(Scene)
    new.path, new.source, new.picture, new.boxes, new.person, new.found = scene.path, "w300", picture, box[None], 0, {}
    return new


def recall(scenes: list[Scene], parts: list[str]) -> float:
    hits = 0
    for scene in scenes:
        found = suppress(merge([scene.found[part] for part in parts]), export.NMS_IOU)
        boxes = found.boxes[found.scores >= export.SCORE_THRESHOLD]
        hits += bool(len(boxes) and iou(scene.boxes[0], boxes).max() >= MATCH_IOU)
    return hits / len(scenes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=FACES)
    parser.add_argument("--weights", type=Path, default=FINDER / "finder.pt")
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--stride", type=int, default=2, help="use every n-th photo")
    args = parser.parse_args()
    torch.set_num_threads(1)
    records = json.loads((args.faces / "scenes" / "dev.json").read_text())
    scenes = [Scene(r, args.faces) for r in records if "landmarks68" in r][:: args.stride]
    run = onnx_runner(args.onnx) if args.onnx else float_runner(args.weights)
    sizes = [size for size in export.SIZES if size.photo]
    dice = np.random.default_rng(0)
    probes = {f"fills {share:.0%} of the frame": [filled(s, share) for s in scenes] for share in (0.8, 1.0, 1.15)}
    probes |= {f"{px} px in 640x480": [shrunk(s, px, dice) for s in scenes] for px in (16, 20, 28, 40, 80)}
    for name, made in probes.items():
        detect(made, sizes, run)
        each = "  ".join(f"{size.part} {recall(made, [size.part]):.1%}" for size in sizes)
        print(f"{name:26} all {recall(made, [size.part for size in sizes]):.1%}  {each}")


if __name__ == "__main__":
    main()
