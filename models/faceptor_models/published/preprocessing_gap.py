"""Measures how far the runtime's view of a face is from the authors' own preprocessing, and how that changes the answers.

The runtime averages the pixels under a tensor's pixel and lays every group on one aligned frame. The authors take one sample
for each pixel (`cv2.remap`), fit each template by itself, and cut boxes upright. `preprocess.py` does the latter with the
keypoints and boxes that `faceptor reference` stored.
"""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from faceptor_models.common.errors import Refused

from . import preprocess, runtime
from .groups import Group

# Samples along a side for the mean over a pixel's area.
FINE = 6


def read_groups(export):
    """Returns {tensor: Group} of an export's manifest."""
    rows = tomllib.loads((Path(export) / "manifest.toml").read_text()).get("group", [])
    found = {}
    for row in rows:
        frame = row["frame"]
        place = {"template": frame.get("template"), "box_scale": frame.get("box_scale", 1.0), "warp": frame["warp"], "border": frame["border"]}
        shape = {"name": row["name"], "size": row["size"], "mean": tuple(row["mean"]), "std": tuple(row["std"]), "colour": row["colour"]}
        found[row["tensor"]] = Group(**shape, **place, tasks=[], warp_tanh=frame.get("warp_tanh", 0.8))
    if not found:
        raise Refused(f"{export} has no [[group]]: its only view is the aligned frame")
    return found


def matrix_of(group, face):
    return preprocess.to_keypoints(group, face["keypoints"]) if group.template is not None else preprocess.to_box(group, face["edges"])


def averaged(group, picture, matrix):
    """Returns the view as the mean over each pixel's area, for groups without a warp."""
    fine = replace(group, size=group.size * FINE)
    # Pixel i's area reaches from i - 0.5 to i + 0.5.
    finer = np.array([[FINE, 0, (FINE - 1) / 2], [0, FINE, (FINE - 1) / 2], [0, 0, 1]])
    seen = preprocess.view(fine, picture, finer @ matrix)
    return seen.reshape(group.channels, group.size, FINE, group.size, FINE).mean((2, 4)).astype(np.float32)


def pictures(folder):
    """Returns (RGB picture, face) for each face of a reference, in the order of its tensors."""
    for picture in json.loads((Path(folder) / "reference.json").read_text())["pictures"]:
        pixels = cv2.cvtColor(cv2.imread(str(Path(folder) / picture["file"])), cv2.COLOR_BGR2RGB)
        yield from ((pixels, face) for face in picture["faces"])


def views(groups, folder, look):
    """Returns {tensor: [faces, 1, C, S, S]} of every group, by one way of sampling."""
    faces = list(pictures(folder))
    return {tensor: np.stack([look(group, pixels, matrix_of(group, face))[None] for pixels, face in faces]) for tensor, group in groups.items()}


def gap(group, seen, stored):
    """Returns mean and largest difference in grey levels."""
    levels = np.abs(seen - stored) * np.asarray(group.std, np.float32)[:, None, None]
    return f"mean {levels.mean():.1f}, largest {levels.max():.0f} grey levels"


def shift(task, size, found, expected):
    """Describes how the other view changes a task's answer."""
    if task["kind"] == "landmarks":
        apart = size * np.linalg.norm(found - expected, axis=-1)
        return f"points move by {apart.mean():.2f} of {size} pixels, at most {apart.max():.2f}"
    if task["kind"] == "parsing":
        return f"{100 * (found.argmax(2) != expected.argmax(2)).mean():.1f} % of the cells change class"
    return f"numbers differ by at most {np.abs(found - expected).max():.3f}"


def report(export, folder, log=print):
    """Prints, for each group and task, how far the runtime's view and answers are from those of the authors' sampling."""
    groups = read_groups(export)
    stored, answered = runtime.read(folder)
    tasks = {t["output"]: t for t in tomllib.loads((Path(export) / "manifest.toml").read_text())["task"]}
    sizes = {group.name: group.size for group in groups.values()}
    ways = {"one sample a pixel, as the authors do": preprocess.view}
    if all(group.warp == "none" for group in groups.values()):
        ways["mean over each pixel's area"] = averaged
    for way, look in ways.items():
        log(f"{way}:")
        seen = views(groups, folder, look)
        for tensor, group in groups.items():
            log(f"  {tensor:<28} {gap(group, seen[tensor], stored[tensor])}")
        made = runtime.answers(export, seen)
        for output, expected in answered.items():
            task = tasks[output]
            log(f"  {task['name']:<28} {shift(task, sizes[task['group']], made[output], expected)}")
