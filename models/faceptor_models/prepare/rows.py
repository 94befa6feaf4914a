"""Describes a data set's labelled photos, and the table of labels that a faces folder holds."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS

NONE = -32768  # an unknown point
OWN = "task."  # columns of a user's own tasks: the class's name, "" where unknown
UNIT = 8192  # points are stored in this part of the crop's side


@dataclass
class Photo:
    """Describes one labelled face. Labels that a data set does not have stay at "unknown"."""

    file: Path | np.ndarray  # RGB picture of a set that keeps its pictures in a table
    name: str  # the crop's name in the faces folder, without suffix; unique within its split
    split: str  # "train" or "dev"
    points: np.ndarray | None = None  # [68, 2] annotated points in the photo's pixels
    near: np.ndarray | None = None  # [n, 2] points that show which of several faces is labelled
    mask: object = None  # function () -> label map [H, W] of the photo's own size
    labels: dict = field(default_factory=dict)  # columns of the table below


def age_range(low, high):
    return {"age_low": float(low), "age_high": float(high)}


def age(years):
    return {"age": float(years)}


# Column: (type, shape of a row, value where nothing is known).
COLUMNS = {
    "score": (np.float32, (), 0), "keypoints": (np.int16, (5, 2), NONE), "landmarks": (np.int16, (68, 2), NONE),
    "landmarks_source": (np.int8, (), 0), "age": (np.float32, (), np.nan), "age_low": (np.float32, (), np.nan),
    "age_high": (np.float32, (), np.nan), "male": (np.int8, (), -1), "expression_votes": (np.int8, (len(EXPRESSIONS),), -1),
    "attributes": (np.int8, (len(ATTRIBUTES),), 0), "identity": (np.int32, (), -1), "embedding": (np.float16, (128,), 0),
}  # fmt: skip


def stored(points, side):
    """Converts points in the crop's pixels to the table's units."""
    return np.clip(np.round(np.asarray(points) * UNIT / side), NONE + 1, 32767).astype(np.int16)


def table(rows):
    """Makes the arrays of a labels.npz from dicts with `path`, `source`, `mask` and any of the columns."""
    arrays = {k: np.array([r.get(k, "") for r in rows], dtype=np.str_) for k in ("path", "source", "mask")}
    for name, (kind, shape, unknown) in COLUMNS.items():
        made = np.full((len(rows), *shape), unknown, kind)
        for i, row in enumerate(rows):
            if name in row:
                made[i] = row[name]
        arrays[name] = made
    for task in sorted({k for r in rows for k in r if k.startswith(OWN)}):
        arrays[task] = np.array([r.get(task, "") for r in rows], dtype=np.str_)
    return arrays
