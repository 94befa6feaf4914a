"""Measures the finder on the dev scenes (from `models/`).

    python -m faceptor_models.finder.evaluate

A false face is a detection that overlaps no label (sure or not) of a w300 photo by IoU 0.4. The threshold is the lowest that
leaves `--false` of them for each photo. For this threshold and each choice of input sizes it prints how many of the labelled
people (the label that fits the 68 points best) are found at IoU 0.4, and how many object scenes without any label stay without
any face; `every` counts all sure labels from 20 px on. The second threshold is the lowest that also keeps 95 % of those scenes
clean.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from PIL import Image

from faceptor_models.common.paths import FACES, FINDER

from . import export
from .data import SURE, scene_file
from .decode import Faces, decode, iou, letterbox, merge, suppress
from .train import load_weights

# A size that would enlarge the photo more than this is left out, unless it is the smallest: it adds no detail.
MOST_ENLARGED = 1.25
FLOOR = 0.05  # detections below this score are dropped
MATCH_IOU = 0.4
SMALLEST_PX = 20.0  # shortest "longest side" of the labels that `every face` counts


def float_runner(weights: Path):
    """Returns a function (input tensor, Size) -> maps that uses PyTorch."""
    network = load_weights(weights).folded()

    def run(tensor, _size):
        with torch.no_grad():
            return [m.numpy() for m in network(torch.from_numpy(tensor))]

    return run


def onnx_runner(folder: Path):
    """Returns a function (input tensor, Size) -> maps that uses ONNX Runtime without graph optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    sessions = {}

    def run(tensor, size):
        if size.part not in sessions:
            path = folder / f"{size.part}.onnx"
            sessions[size.part] = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return sessions[size.part].run(size.outputs, {size.input: tensor})

    return run


class Scene:
    """Holds a dev record: labels as (x0, y0, x1, y1), and the index of the person whose points are labelled."""

    def __init__(self, record: dict, faces: Path):
        self.path, self.source = record["path"], record["source"]
        self.picture = np.asarray(Image.open(scene_file(faces, record)).convert("RGB"))
        self.boxes = np.array([f["box"] for f in record["faces"]], float).reshape(-1, 4)
        self.boxes[:, 2:] += self.boxes[:, :2]
        self.keypoints = np.array([f["keypoints"] for f in record["faces"]], float).reshape(-1, 5, 2)
        self.sure = np.array([f["score"] for f in record["faces"]]) >= SURE
        self.person = None
        if "landmarks68" in record:
            points = np.array(record["landmarks68"])
            self.person = int(np.argmax(iou(np.concatenate([points.min(0), points.max(0)]), self.boxes)))
        self.found: dict[str, Faces] = {}  # raw detections per input size


def judge(scenes: list[Scene], parts: list[str], allowed_false: float) -> dict:
    """Computes the numbers of one choice of input sizes (part names)."""
    people, false, clean, errors, every = [], [], [], [], []
    photos = 0
    for scene in scenes:
        found = suppress(merge([scene.found[part] for part in parts]), export.NMS_IOU)
        best = found.scores.max(initial=0.0)
        for label in scene.boxes[scene.sure & ((scene.boxes[:, 2:] - scene.boxes[:, :2]).max(1, initial=0) >= SMALLEST_PX)]:
            every.append(found.scores[iou(label, found.boxes) >= MATCH_IOU].max(initial=0.0))
        if scene.source == "objects":
            if len(scene.boxes) == 0:
                clean.append(best)
            continue
        photos += 1
        overlaps = np.array([iou(box, scene.boxes) for box in found.boxes]).reshape(-1, len(scene.boxes))
        false += [(score, scene.path) for score in found.scores[(overlaps < MATCH_IOU).all(1)]]
        hits = np.nonzero(overlaps[:, scene.person] >= MATCH_IOU)[0]
        people.append((found.scores[hits].max(initial=0.0), scene.path))
        if len(hits):
            truth = scene.keypoints[scene.person]
            error = np.linalg.norm(found.keypoints[hits[0]] - truth, axis=1).mean()
            errors.append(error / max(np.linalg.norm(truth[1] - truth[0]), 0.15 * np.ptp(scene.boxes[scene.person][[1, 3]])))
    false.sort(reverse=True)
    budget = int(allowed_false * photos)
    photo_threshold = false[budget][0] + 1e-6 if len(false) > budget else FLOOR
    clean = np.sort(clean)[::-1]
    # At most 5 % of the empty scenes may hold a detection.
    scene_threshold = max(photo_threshold, clean[int(0.05 * len(clean))] + 1e-6)
    scores = np.array([score for score, _ in people])

    def at(threshold):
        return {
            "threshold": threshold, "recall": float((scores >= threshold).mean()),
            "clean": float((clean < threshold).mean()), "false": sum(s >= threshold for s, _ in false) / photos,
        }  # fmt: skip

    return {
        "photo": at(photo_threshold), "both": at(scene_threshold), "fixed": at(export.SCORE_THRESHOLD),
        "keypoints": float(np.mean(errors)),
        "every": float((np.array(every) >= export.SCORE_THRESHOLD).mean()),
        "faces": len(every), "missed": [path for score, path in people if score < scene_threshold],
        "false": false[: budget + 4],
    }  # fmt: skip


def detect(scenes: list[Scene], sizes, run):
    for scene in scenes:
        for size in sizes:
            tensor, scale = letterbox(scene.picture, size.width, size.height)
            if scale > MOST_ENLARGED and size.width > 160:
                scene.found[size.part] = Faces(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 5, 2)))
                continue
            scene.found[size.part] = decode(run(tensor, size), scale, FLOOR)


def draw(scenes: list[Scene], parts: list[str], threshold: float, folder: Path):
    """Writes annotated pictures for inspection; never commit them."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = [(255, 60, 60), (60, 60, 255), (60, 255, 60), (255, 255, 0), (0, 255, 255)]
    for scene in scenes:
        found = suppress(merge([scene.found[part] for part in parts]), export.NMS_IOU)
        picture = scene.picture.copy()
        for box in scene.boxes:
            cv2.rectangle(picture, box[:2].astype(int).tolist(), box[2:].astype(int).tolist(), (255, 255, 255), 1)
        for score, box, points in zip(*found):
            if score < threshold:
                continue
            cv2.rectangle(picture, box[:2].astype(int).tolist(), box[2:].astype(int).tolist(), (0, 255, 0), 2)
            cv2.putText(picture, f"{score:.2f}", box[:2].astype(int).tolist(), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0), 1)
            for point, colour in zip(points, colours):
                cv2.circle(picture, point.astype(int).tolist(), 3, colour, -1)
        name = scene.path.replace("/", "_").rsplit(".", 1)[0]
        cv2.imwrite(str(folder / f"{name}.png"), picture[..., ::-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=FACES)
    parser.add_argument("--weights", type=Path, default=FINDER / "finder.pt")
    parser.add_argument("--onnx", type=Path, help="measure the exported int8 files of this folder instead of PyTorch")
    parser.add_argument("--false", type=float, default=0.05, help="allowed false faces a photo")
    parser.add_argument("--all", action="store_true", help="measure every combination of sizes")
    parser.add_argument("--draw", type=Path, help="write annotated pictures here (outside the repository)")
    parser.add_argument("--list", action="store_true", help="name the missed people and the best false faces")
    args = parser.parse_args()
    torch.set_num_threads(1)
    records = json.loads((args.faces / "scenes" / "dev.json").read_text())
    scenes = [Scene(record, args.faces) for record in records]
    detect(scenes, export.SIZES, onnx_runner(args.onnx) if args.onnx else float_runner(args.weights))

    photo = [size.part for size in export.SIZES if size.photo]
    choices = [[size.part] for size in export.SIZES] + [photo]
    if args.all:
        singles = photo
        choices = [[s.part] for s in export.SIZES] + [
            [p for i, p in enumerate(singles) if bits >> i & 1] for bits in range(1, 1 << len(singles)) if bits & (bits - 1)
        ]
    print(f"{'sizes':24} | threshold recall clean | both: threshold recall clean | at {export.SCORE_THRESHOLD}: recall clean false every | keypoints")
    for parts in choices:
        result = judge(scenes, parts, args.false)
        one, both, fixed = result["photo"], result["both"], result["fixed"]
        name = "+".join(part.removeprefix("finder_") for part in parts)
        print(
            f"{name:24} | {one['threshold']:.3f} {one['recall']:7.2%} {one['clean']:7.2%}"
            f" | {both['threshold']:.3f} {both['recall']:7.2%} {both['clean']:7.2%}"
            f" | {fixed['recall']:7.2%} {fixed['clean']:7.2%} {fixed['false']:.3f}"
            f" {result['every']:.1%} of {result['faces']} | {result['keypoints']:.2%}"
        )
    if args.list:
        print("missed:", *result["missed"], sep="\n  ")
        print("false:", *(f"{score:.3f} {path}" for score, path in result["false"]), sep="\n  ")
    if args.draw:
        draw(scenes, photo, export.SCORE_THRESHOLD, args.draw)


if __name__ == "__main__":
    main()
