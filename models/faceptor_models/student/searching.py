"""Measures how `faceptor image` finds faces: landmarks by roll, recall by the kind of picture, and the cost by its size.

The tables are part of `student.behaviour`; they need the dev scenes (research photos). Rolled scenes are turned about their
middle on a black canvas that holds them whole. Wide and large pictures are scenes at their own size, spread over a grey canvas.
"""

import json
import resource
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceptor_models.common.metrics import landmark_error
from faceptor_models.common.paths import PORTRAIT
from faceptor_models.finder.data import SURE, scene_file
from faceptor_models.finder.decode import iou

from .accuracy import ask
from .breakdown import table

ROLLS = range(0, 360, 30)
# Every so many of the scenes with people's landmarks are rolled.
ROLLED_EACH = 6
# The canvases of pictures that are larger than a scene.
CANVASES = {"wide, 12000 x 2000": (12000, 2000), "large, 4000 x 3000": (4000, 3000), "tall, 1500 x 6000": (1500, 6000)}
# A picture holds at most 64 faces in the program's results.
SCENES_EACH = 20
SMALLEST_PX = 24
MATCH_IOU = 0.4
MEGAPIXELS = (0.25, 1, 4, 12, 24, 64)


def load(faces):
    """Returns the records of the dev scenes with landmarks by people, and a function that reads a picture."""
    records = json.loads((Path(faces) / "scenes" / "dev.json").read_text())
    records = [record for record in records if "landmarks68" in record]
    return records, lambda record: np.asarray(Image.open(scene_file(Path(faces), record)).convert("RGB"))


def ask_and_time(binary, model, arguments, paths):
    """Returns the JSON objects of `faceptor image`, and its processor time for each picture in seconds.

    Unlike the time by the clock, that hardly depends on what else the machine does.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = ask(binary, model, arguments, paths)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return lines, (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / len(paths)


def rolled(picture, degrees):
    """Turns a picture clockwise on a canvas that holds it; returns it with the matrix [2, 3] of its points."""
    rows, columns = picture.shape[:2]
    turn = np.deg2rad(degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    size = np.ceil(np.abs(linear) @ (columns, rows) - 1e-6).astype(int)
    move = (size - 1) / 2 - linear @ ((columns - 1) / 2, (rows - 1) / 2)
    matrix = np.concatenate([linear, move[:, None]], 1)
    return cv2.warpAffine(picture, matrix, size.tolist(), flags=cv2.INTER_LINEAR), matrix


def by_roll(faces, binary, model, rolls=ROLLS, each=ROLLED_EACH, *options):
    """Measures landmarks and boxes of the labelled person at each roll, and how often the answer is trusted."""
    records, read = load(faces)
    rows, upright = [], None
    for degrees in rolls:
        with tempfile.TemporaryDirectory() as folder:
            truths = {}
            for index, record in enumerate(records[::each]):
                picture, matrix = rolled(read(record), degrees)
                path = Path(folder) / f"{index}.png"
                Image.fromarray(picture).save(path, compress_level=1)
                truths[str(path)] = np.array(record["landmarks68"]) @ matrix[:, :2].T + matrix[:, 2]
            errors, found, trusted = [], 0, 0
            for line in ask(binary, model, ["--looks", "1", "--tasks", "landmarks", *options], list(truths)):
                truth = truths[line["path"]]
                middle, side = truth.mean(0), np.ptp(truth, 0).max()
                points = [np.array(face["landmarks"]["points"]) for face in line["faces"]]
                near = [i for i, p in enumerate(points) if np.linalg.norm(p.mean(0) - middle) < side / 2]
                if near:
                    found += 1
                    trusted += line["faces"][near[0]]["quality"]["trusted"]
                    errors.append(100 * landmark_error(points[near[0]][None], truth[None])[0])
        errors = np.array(errors)
        upright = errors if upright is None else upright
        share = 100 / len(truths)
        rows.append(
            [degrees, f"{share * found:.0f}", f"{errors.mean():.2f}", f"{np.median(errors):.2f}", f"{np.median(errors) / np.median(upright):.2f}",
             f"{share * (errors > 10).sum():.1f}", f"{share * trusted:.0f}"]
        )  # fmt: skip
    head = ["roll, degrees clockwise", f"found % of {len(truths)}", "landmarks NME %: mean", "median", "median / upright"]
    return table([*head, "NME over 10 %", "trusted %"], rows)


def spread(pictures, size, seed):
    """Pastes pictures at free random places of a grey canvas of `size` (width, height); returns it with their corners."""
    dice = np.random.default_rng(seed)
    canvas = np.full((size[1], size[0], 3), 128, np.uint8)
    taken, corners = np.zeros((0, 4)), []
    for picture in pictures:
        rows, columns = picture.shape[:2]
        for _ in range(10_000):
            x, y = (int(dice.integers(0, room - side + 1)) for room, side in ((size[0], columns), (size[1], rows)))
            box = np.array([x, y, x + columns, y + rows], float)
            if (iou(box, taken) == 0).all():
                break
        else:
            corners.append(None)
            continue
        taken = np.concatenate([taken, box[None]])
        canvas[y : y + rows, x : x + columns] = picture
        corners.append((x, y))
    return canvas, corners


def recall(lines, labels):
    """Returns (labels that are found, labels, faces that fit no label of any score)."""
    found = total = false = 0
    for line in lines:
        boxes = np.array([face["box"] for face in line["faces"]], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        every, counted = labels[line["path"]]
        for box in every[counted]:
            total += 1
            found += bool(len(boxes)) and bool((iou(box, boxes) >= MATCH_IOU).any())
        false += sum(not len(every) or iou(box, every).max() < MATCH_IOU for box in boxes)
    return found, total, false


def by_canvas(faces, binary, model, *options):
    """Measures the recall of all sure faces from 24 px on, on scenes as they are and on pictures built from them."""
    records, read = load(faces)
    rows = []
    for what, size in {"plain scenes": None, **CANVASES}.items():
        with tempfile.TemporaryDirectory() as folder:
            labels = {}
            each = 1 if size is None else SCENES_EACH if size[0] * size[1] > 10e6 else 8
            for start in range(0, len(records), each):
                chosen = records[start : start + each]
                pictures = [read(record) for record in chosen]
                canvas, corners = (pictures[0], [(0, 0)]) if size is None else spread(pictures, size, start)
                path = Path(folder) / f"{start}.png"
                Image.fromarray(canvas).save(path, compress_level=1)
                every, counted = [], []
                for record, corner in zip(chosen, corners):
                    for face in record["faces"] if corner else []:
                        x, y, width, height = face["box"]
                        every.append([x + corner[0], y + corner[1], x + corner[0] + width, y + corner[1] + height])
                        counted.append(face["score"] >= SURE and max(width, height) >= SMALLEST_PX)
                labels[str(path)] = np.array(every).reshape(-1, 4), np.array(counted, bool)
            lines, seconds = ask_and_time(binary, model, ["--tasks", "none", *options], list(labels))
            found, total, false = recall(lines, labels)
        rows.append([what, len(labels), total, f"{100 * found / total:.1f}", false, f"{seconds:.2f}"])
    return table(["pictures", "number", f"sure faces from {SMALLEST_PX} px", "found %", "faces without a label", "processor s each"], rows)


def by_area(binary, model):
    """Measures the processor time of the search for the demo portrait on canvases of growing size."""
    portrait = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in MEGAPIXELS:
            side = int(np.sqrt(megapixels * 1e6 / 12))
            size = (4 * side, 3 * side)
            picture = cv2.resize(portrait, (min(512, size[1]),) * 2, interpolation=cv2.INTER_AREA)
            path = str(Path(folder) / f"{megapixels}.png")
            Image.fromarray(spread([picture], size, 1)[0]).save(path, compress_level=1)
            cells = []
            for options in ((), ("--upright",), ("--min-face", "48")):
                cells.append(f"{ask_and_time(binary, model, ['--tasks', 'none', *options], [path])[1]:.2f}")
            rows.append([megapixels, f"{size[0]} x {size[1]}", *cells])
    return table(["megapixels", "size", "processor s", "with `--upright`", "with `--min-face 48`"], rows)
