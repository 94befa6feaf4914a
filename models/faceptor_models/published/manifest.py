"""Writes manifest.toml of an imported system; `models/README.md` describes the keys, and the runtime's manifest reader reads them."""

import hashlib
import tomllib
from pathlib import Path

from . import official

FORMAT = 1
LICENCE = "Imported weights: the terms of the checkpoint they come from apply."
KINDS = {"align": "landmarks", "parsing": "parsing", "age": "age", "affect": "expression", "biattr": "attributes", "recog": "recognition"}
INTERPRETERS = {"align": "map", "parsing": "map", "recog": "feature"}
# Class names of DML-CSR by their number.
DMLCSR_LABELS = {19: official.CELEBAMASK_OWN, 11: "background skin l_brow r_brow l_eye r_eye nose u_lip mouth l_lip hair".split()}


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def faceptor_task(task, outputs, like):
    kind = official.type_of(task)
    row = {"kind": KINDS[kind], "interpreter": INTERPRETERS.get(kind, "value"), "labels": official.labels_of(like.get(task, task), outputs)}
    if kind == "age":
        row["bins"] = [float(i) for i in range(outputs)]
    return row, 0 if kind == "recog" else outputs


def tcdcn_task(task, outputs):
    if task == "landmarks":
        return {"kind": "landmarks", "interpreter": "value", "labels": []}, 0
    known = official.TCDCN_HEADS[task]
    labels = known if len(known) == outputs else [f"class{i}" for i in range(outputs)]
    return {"kind": "classes", "interpreter": "value", "labels": labels}, 0


def dmlcsr_task(task, outputs):
    labels = DMLCSR_LABELS.get(outputs) or [f"class{i}" for i in range(outputs)]
    return {"kind": "parsing", "interpreter": "map", "labels": list(labels)}, 0


def task_rows(described, groups):
    """Returns [[task]] rows from {task: (row, number of queries)}; types of tasks that are rarely wanted by default are off."""
    rows, first = [], 0
    for group in groups:
        for task in group.tasks:
            row, queries = described[task]
            head = {"name": task, "kind": row["kind"], "part": f"task_{task}", "output": f"out_{task}", "default": row["kind"] != "recognition"}
            rows.append(head | {"group": group.name, "queries": [first, first + queries]} | row)
            first += queries
    return rows


def part_rows(parts, folder):
    rows = []
    for part in parts:
        row = {"name": part.name, "file": part.file, "sha256": sha256(folder / part.file), "inputs": part.inputs, "outputs": part.outputs}
        # Only where the file's own names differ: files shared by groups.
        if part.graph_inputs != part.inputs or part.graph_outputs != part.outputs:
            row |= {"graph_inputs": part.graph_inputs, "graph_outputs": part.graph_outputs}
        rows.append(row)
    return rows


def finder(folder):
    """Returns the face detector's own rows, {} where there is none."""
    path = Path(folder) / "finder.toml"
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def manifest(name, origin, parts, groups, tasks, folder, finder_rows):
    out = {
        "format": FORMAT, "name": name, "version": "0.0.0", "licence": LICENCE, "origin": origin,
        "group": [g.row() for g in groups], "part": part_rows(parts, folder),
    }  # fmt: skip
    if tasks:
        out["task"] = tasks
    if finder_rows:
        out["part"] += [row | {"sha256": sha256(folder / row["file"])} for row in finder_rows["part"]]
        out["finder"] = finder_rows["finder"]
    return out
