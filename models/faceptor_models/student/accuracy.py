"""Fills the model card's table: the dev split through PyTorch float, ONNX Runtime int8 and the shipped Rust binary.

    python -m faceptor_models.student.accuracy --binary ../target/release/faceptor --card edge/CARD.md

The binary answers through its command line (`faceptor image --aligned --json`), as for a user. In the last column it uses its
default test-time augmentation: ten crops for the parsing and six for the other tasks. The other columns have one crop, as the
live loop has; there all three see the same pixels.
"""

import argparse
import json
import os
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS

from .breakdown import sections
from .development import Development, measure
from .evaluate import answer, answers, load
from .onnx_parts import OnnxParts

# (row, value that it must reach, aim of this version, larger is better)
GOALS = [
    ("landmarks w300 NME %", 4.4, 3.2, False),
    ("expression RAF-DB %", 80, 88, True),
    ("expression FER+ %", 77, 87, True),
    ("age UTK MAE years", 5.6, 4.3, False),
    ("age FairFace in range %", 50, 60, True),
    ("attributes CelebA %", 88.5, 91, True),
    ("parsing CelebAMask mean F1", 0.73, 0.84, True),
    ("recognition LFW %", 96.5, 99.2, True),
    ("finder w300 scenes recall % at 0.05 false a photo", 98, 99.5, True),
    ("finder empty objects scenes without a face %", 95, None, True),
]
# The columns' names in the card's table.
COLUMNS = {
    "float": "PyTorch float, one crop",
    "ort": "ONNX Runtime int8, one crop",
    "once": "bundle, one crop",
    "bundle": "bundle (faceptor image)",
}
MARKS = ("<!-- table made by student.accuracy -->", "<!-- end of table -->")
VALUES = "landmarks,age,expression,attributes,recognition"  # all but the masks
BESIDE = ("<!-- comparison made by student.accuracy -->", "<!-- end of comparison -->")
BREAKDOWN = ("<!-- breakdown made by student.accuracy -->", "<!-- end of breakdown -->")


def ask(binary, model, arguments, paths):
    """Returns the JSON object that `faceptor image` prints for each picture."""
    command = [binary, "image", "--json", *arguments, *(["--model", model] if model else []), *map(str, paths)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"{' '.join(command[:6])} ...: exit status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_network(binary, model, export, manifest):
    """Raises SystemExit where the program would answer with another network than the export's."""
    command = [binary, "tasks", "--json", "--rounds", "1", *(["--model", model] if model else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}")
    asked, here = json.loads(done.stdout)["network"], f"{manifest['name']} {manifest['version']}"
    if asked != here:
        raise SystemExit(f"{model or binary} answers with {asked}, but {export} is {here}: --model says which bundle to ask")


def face_answers(line):
    """Converts the answers of one aligned crop to what `development.measure` wants, without the mask."""
    face, side = line["faces"][0], line["width"]
    return {
        "landmarks": np.array(face["landmarks"]["points"]) / side,
        "age": face["age"]["years"],
        "expression": np.array([face["expression"]["scores"][k] for k in EXPRESSIONS]),
        "attributes": np.array([face["attributes"][k] for k in ATTRIBUTES]),
        "embedding": np.array(face["recognition"]["embedding"]),
    }


def bundle_answers(dev, binary, model, looks):
    found = {}
    with tempfile.TemporaryDirectory() as masks:
        for source in np.unique(dev.labels["source"]):
            rows = dev.rows(source)
            by_path = {str(dev.file(i)): i for i in rows}
            extra = ["--masks", masks] if source == "celebamask" else []
            # Only one source has masks, and the answers are the same with other tasks or without them.
            how = ["--aligned", "--looks", str(looks), "--tasks", "all" if extra else VALUES, *extra]
            for start in range(0, len(rows), 500):
                paths = [dev.file(i) for i in rows[start : start + 500]]
                for line in ask(binary, model, how, paths):
                    one = face_answers(line)
                    if extra:
                        one["mask"] = np.asarray(Image.open(line["faces"][0]["parsing"]["mask"]))
                    found[by_path[line["path"]]] = one
    missing = len(dev.path) - len(found)
    if missing:
        raise SystemExit(f"{missing} of {len(dev.path)} dev crops have no answer")
    return found


def shrunk_answers(dev, binary, model, rows, side):
    """Returns answers of single crops, downscaled to `side` pixels; a smaller crop keeps its size."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for i in rows:
            picture = Image.open(dev.file(i)).convert("RGB")
            if picture.width > side:
                picture = picture.resize((side, side), Image.Resampling.BOX, reducing_gap=None)
            path = Path(folder) / f"{i}.png"
            picture.save(path)
            paths[str(path)] = i
        found = {}
        names = list(paths)
        for start in range(0, len(names), 500):
            for line in ask(binary, model, ["--aligned", "--looks", "1", "--tasks", VALUES], names[start : start + 500]):
                found[paths[line["path"]]] = face_answers(line)
    return found


def overlap(a, b):
    """Returns the intersection over union of boxes [x, y, w, h]."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def person(scene):
    """Returns the labelled face that the 68 annotated points belong to."""
    points = np.array(scene["landmarks68"])
    low, size = points.min(0), np.ptp(points, axis=0)
    tight = [*low, *size]
    return max(scene["faces"], key=lambda f: overlap(f["box"], tight))["box"] if scene["faces"] else tight


def finder_rows(faces, binary, model):
    root = Path(faces) / "scenes"
    scenes = json.loads((root / "dev.json").read_text())

    def file(scene):
        path = scene["path"]
        return root / "dev" / path if (root / "dev" / path).exists() else root / "dev" / path.removeprefix("scenes/")

    people = [s for s in scenes if s["source"] == "w300"]
    by_path = {line["path"]: line["faces"] for line in ask(binary, model, ["--looks", "1", "--tasks", "landmarks"], [file(s) for s in people])}
    hits, false = [], []
    for scene in people:
        detections = by_path[str(file(scene))]
        mine = person(scene)
        matched = [d["score"] for d in detections if overlap(d["box"], mine) >= 0.4]
        hits.append(max(matched, default=-1.0))
        false += [d["score"] for d in detections if all(overlap(d["box"], f["box"]) < 0.4 for f in [*scene["faces"], {"box": mine}])]
    hits = np.array(hits)
    false = np.sort(np.array(false))[::-1]
    allowed = int(0.05 * len(people))
    threshold = 0.0 if len(false) <= allowed else np.nextafter(false[allowed], 1.0)
    empty = [s for s in scenes if s["source"] == "objects" and not s["faces"]]
    answered = {line["path"]: line["faces"] for line in ask(binary, model, ["--looks", "1", "--tasks", "landmarks"], [file(s) for s in empty])}
    quiet = np.mean([not answered[str(file(s))] for s in empty])
    rows = {GOALS[8][0]: 100 * float((hits >= max(threshold, 0)).mean()), GOALS[9][0]: 100 * float(quiet)}
    note = (
        f"finder: {len(people)} w300 scenes, {len(false)} false faces in all ({len(false) / len(people):.3f} a photo) and recall"
        f" {100 * (hits >= 0).mean():.1f} % at the shipped threshold; {len(empty)} empty objects scenes"
    )
    return rows, note


def error(row, value, larger):
    """Returns the error of a measure: the distance to its best value where larger is better."""
    return value if not larger else (1.0 if "F1" in row else 100.0) - value


def column_of(card, name=COLUMNS["bundle"]):
    """Reads {row: value} of a column of a card's table."""
    table = Path(card).read_text().split(MARKS[0])[1].split(MARKS[1])[0]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
    place = head.index(name)
    return {row[0]: float(row[place].split()[0]) for row in rows if row[place] != "-"}


MOST_TIMES, AIM_TIMES = 1.5, 1.25  # a smaller network's error next to the larger one's


def comparison(column, card):
    """Writes a smaller network's rows as Markdown: its bundle's value, the larger network's, and the ratio of the errors."""
    other = column_of(card)
    lines = [f"| measure | this bundle | {Path(card).parent.name} | error, times (required {MOST_TIMES}, aim {AIM_TIMES}) |", "|---|---|---|---|"]
    for row, _, _, larger in GOALS:
        if row not in column or row not in other:
            continue
        mine, theirs = error(row, column[row], larger), error(row, other[row], larger)
        times = mine / theirs if theirs > 0 else (1.0 if mine <= 0 else float("inf"))
        mark = " (above required)" if times > MOST_TIMES else ""
        form = ".3f" if "F1" in row else ".2f"
        lines.append(f"| {row} | {column[row]:{form}} | {other[row]:{form}} | {times:.2f}{mark} |")
    return "\n".join(lines)


def markdown(columns, note):
    names = list(columns)
    lines = ["| measure | required | aim | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    for row, must, aim, larger in GOALS:
        cells = []
        for name in names:
            value = columns[name].get(row)
            cell = "-" if value is None else f"{value:.3f}" if "F1" in row else f"{value:.2f}"
            if value is not None and must is not None and (value < must if larger else value > must):
                cell += " (below required)"
            cells.append(cell)
        lines.append(f"| {row} | {must if must is not None else '-'} | {aim if aim is not None else '-'} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", note])


def column(name, args):
    """Measures one column of the table: its rows, and for the last one also the text after the table and its breakdowns."""
    torch.set_num_threads(1)  # the columns are measured side by side
    dev, parts = Development(args.faces), OnnxParts(args.export)
    size = parts.manifest["input"]["size"]
    if name == "float":
        net, _ = load(args.weights)
        return measure(dev, answers(dev, partial(answer, net), size))[0], "", None
    if name == "ort":
        return measure(dev, answers(dev, parts.answer, size))[0], "", None
    if name == "once":
        return measure(dev, bundle_answers(dev, args.binary, args.model, looks=1))[0], "", None
    said = bundle_answers(dev, args.binary, args.model, looks=10)
    rows, classes = measure(dev, said)
    finder, note = finder_rows(args.faces, args.binary, args.model)
    note += "; parsing F1 by class: " + ", ".join(f"{k} {v:.2f}" for k, v in classes.items())
    breakdown = sections(dev, said, lambda rows, side: shrunk_answers(dev, args.binary, args.model, rows, side))
    return rows | finder, note, breakdown


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--binary", default="../target/release/faceptor")
    p.add_argument("--model", help="bundle for the binary (default: the one inside it)")
    p.add_argument("--export", default="edge")
    p.add_argument("--weights", default="edge/weights.pt")
    p.add_argument("--card", help="write the table into this file")
    p.add_argument("--beside", metavar="CARD", help="a larger network's card: the bundle's errors as multiples of its")
    p.add_argument("--only", choices=list(COLUMNS), action="append", help="columns to compute (default all)")
    args = p.parse_args()
    wanted = args.only or list(COLUMNS)
    manifest = OnnxParts(args.export).manifest
    version = manifest["version"]
    if {"once", "bundle"} & set(wanted):
        check_network(args.binary, args.model, args.export, manifest)
    # The last column takes longest, so it starts first.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        made = {name: pool.submit(column, name, args) for name in reversed(COLUMNS) if name in wanted}
    made = {name: made[name].result() for name in COLUMNS if name in wanted}
    _, note, breakdown = list(made.values())[-1]
    blocks = {MARKS: markdown({COLUMNS[name]: rows for name, (rows, _, _) in made.items()}, f"Version {version}; {note}.")}
    if breakdown is not None:
        if args.beside:
            blocks[BESIDE] = comparison(made["bundle"][0], args.beside)
        blocks[BREAKDOWN] = breakdown
    print("\n\n".join(blocks.values()))
    if args.card:
        text = Path(args.card).read_text()
        for marks, block in blocks.items():
            text = replace_block(text, marks, block)
        Path(args.card).write_text(text)


def replace_block(text, marks, block):
    """Replaces the text between two marks."""
    head, rest = text.split(marks[0])
    return f"{head}{marks[0]}\n{block}\n{marks[1]}{rest.split(marks[1])[1]}"


if __name__ == "__main__":
    main()
