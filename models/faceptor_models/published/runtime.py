"""Runs `faceptor-models runtime`: compares a bundle's answers, as `faceptor reference` stored them, with ONNX Runtime on the same inputs."""

import json
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort

from faceptor_models.common.errors import Refused

# Largest difference, relative to an answer's scale where that is above one.
TOLERANCE = 1e-3


def stored(folder, rows, faces):
    """Returns {tensor: [faces, ...]} of rows of a reference's index."""
    out = {}
    for row in rows:
        numbers = np.fromfile(folder / row["file"], "<f4")
        if numbers.size != faces * int(np.prod(row["shape"])):
            raise Refused(f"{folder / row['file']} has {numbers.size} numbers, expected are {faces} times {row['shape']}")
        out[row["tensor"]] = numbers.reshape(faces, *row["shape"])
    return out


def read(folder):
    """Returns (inputs, answers) of a reference folder, by tensor, a row for each face."""
    path = Path(folder) / "reference.json"
    try:
        index = json.loads(path.read_text())
        faces = sum(len(picture["faces"]) for picture in index["pictures"])
        tensors = [stored(Path(folder), index[kind], faces) for kind in ("inputs", "tasks")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{folder} is no folder of `faceptor reference`: {error}") from error
    if not faces:
        raise Refused(f"{folder} holds no face")
    return tensors


def answers(export, inputs):
    """Returns {tensor: [faces, ...]} of every part that the inputs lead to, by ONNX Runtime without its optimizations."""
    export = Path(export)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    tensors = dict(inputs)
    try:
        parts = tomllib.loads((export / "manifest.toml").read_text())["part"]
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{export} is no export folder: {error}") from error
    for part in parts:
        if not all(name in tensors for name in part["inputs"]):
            continue
        session = ort.InferenceSession(str(export / part["file"]), options, providers=["CPUExecutionProvider"])
        inner, outer = part.get("graph_inputs", part["inputs"]), part.get("graph_outputs", part["outputs"])
        made = [session.run(outer, dict(zip(inner, row))) for row in zip(*(tensors[name] for name in part["inputs"]))]
        tensors |= {name: np.stack(rows) for name, rows in zip(part["outputs"], zip(*made))}
    return tensors


def compare(export, folder):
    """Returns [(tensor, faces, largest difference as a part of the scale)] for every task."""
    inputs, found = read(folder)
    expected = answers(export, inputs)
    missing = [name for name in found if name not in expected]
    if missing:
        raise Refused(f"{export} does not make {', '.join(missing)}: it is not what the bundle was compiled from")
    gaps = []
    for name, numbers in found.items():
        scale = max(1.0, float(np.abs(expected[name]).max()))
        gaps.append((name, len(numbers), float(np.abs(numbers - expected[name]).max()) / scale))
    return gaps


def report(export, folder, log=print):
    """Prints a line for each task; returns true when all lie within the tolerance."""
    gaps = compare(export, folder)
    for name, faces, gap in gaps:
        log(f"  {name:<28} of {faces} faces differs by at most {gap:.1e} of its scale")
    # A difference that is not a number is too large.
    good = all(gap <= TOLERANCE for _, _, gap in gaps)
    log(f"{folder}: {'within' if good else 'NOT within'} {TOLERANCE} of ONNX Runtime")
    return good
