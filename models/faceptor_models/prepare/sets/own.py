"""Reads the user's own photos: a folder with `labels.csv`, a row for each photo.

`file` (below the folder) is needed. Known columns are `split` (train or dev; otherwise one photo in ten is dev, by its name),
`age` (31 or a range 20-29), `sex` (male, female), `expression` (its name), any CelebA attribute by its name (1, 0 or -1) and
`face_x`, `face_y` (a point on the labelled face, where a photo shows several). Empty cells are unknown. Every column
`task.NAME` holds the labels of a task of the user's own: names of its classes.
"""

import zlib

import numpy as np

from faceptor_models.common.errors import Refused
from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS

from ..rows import Photo, age, age_range
from .common import table_of

SIDE_PX = 192
NAMED = {"file", "split", "age", "sex", "expression", "face_x", "face_y"}
SEX = {"male": 1, "female": 0}
VOTES = 10


def number(text, column, file):
    try:
        return float(text)
    except ValueError:
        raise Refused(f"labels.csv: {file}: {column} is {text!r}, not a number") from None


def years(text, file):
    low, dash, high = text.partition("-")
    if dash and low:
        return age_range(number(low, "age", file), number(high, "age", file))
    return age(number(text, "age", file))


def word(text, column, file, allowed):
    if text not in allowed:
        raise Refused(f"labels.csv: {file}: {column} is {text!r}, not one of {', '.join(allowed)}")
    return text


def photos(folder):
    for row in table_of(folder / "labels.csv", "file"):
        row = {k: (v or "").strip() for k, v in row.items() if k}
        unknown = [k for k in row if k not in NAMED and k not in ATTRIBUTES and not k.startswith("task.")]
        if unknown:
            raise Refused(f"labels.csv has the unknown column {', '.join(unknown)}")
        file = row["file"]
        if not (folder / file).is_file():
            raise Refused(f"labels.csv names {file}, which is not in {folder}")
        labels = {}
        if row.get("age"):
            labels |= years(row["age"], file)
        if row.get("sex"):
            labels["male"] = SEX[word(row["sex"], "sex", file, list(SEX))]
        if row.get("expression"):
            votes = [0] * len(EXPRESSIONS)
            votes[EXPRESSIONS.index(word(row["expression"], "expression", file, EXPRESSIONS))] = VOTES
            labels["expression_votes"] = votes
        attributes = [int(word(row.get(a) or "0", a, file, ["1", "0", "-1"])) for a in ATTRIBUTES]
        if any(attributes):
            labels["attributes"] = attributes
        labels |= {k: v for k, v in row.items() if k.startswith("task.") and v}
        near = None
        if row.get("face_x") and row.get("face_y"):
            x, y = number(row["face_x"], "face_x", file), number(row["face_y"], "face_y", file)
            near = np.array([[x - 1, y - 1], [x + 1, y + 1]])
        split = row.get("split") or ("dev" if zlib.crc32(file.encode()) % 10 == 0 else "train")
        name = file.rpartition(".")[0].replace("/", "_")
        yield Photo(folder / file, name, word(split, "split", file, ["train", "dev"]), near=near, labels=labels)
