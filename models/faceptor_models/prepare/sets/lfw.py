"""Reads LFW: `lfw/NAME/NAME_0001.jpg` (or the pictures' folders at the top) and `pairs.txt`. For evaluation, never for training.

Every picture of the pairs becomes a dev crop; the face is the one in the picture's middle. The pairs go to `dev/lfw_pairs.csv`.
"""

import numpy as np
from PIL import Image

from faceptor_models.common.errors import Refused

from ..rows import Photo
from .common import lines_of

SIDE_PX = 160


def listed(folder):
    """Returns (fold, picture a, picture b, same) of pairs.txt; a picture is NAME_0001."""
    lines = lines_of(folder / "pairs.txt")
    head = [int(v) for v in next(lines, ["0"])]
    folds, half = (head[0], head[1]) if len(head) == 2 else (1, head[0])
    rows = list(lines)
    if len(rows) != folds * half * 2:
        raise Refused(f"{folder / 'pairs.txt'} announces {folds * half * 2} pairs and holds {len(rows)}")
    for i, row in enumerate(rows):
        same = len(row) == 3
        name = row if not same else [row[0], row[1], row[0], row[2]]
        yield i // (2 * half) + 1, f"{name[0]}_{int(name[1]):04d}", f"{name[2]}_{int(name[3]):04d}", same


def photos(folder):
    below = folder / "lfw" if (folder / "lfw").is_dir() else folder
    for name in sorted({n for _, a, b, _ in listed(folder) for n in (a, b)}):
        file = below / name.rpartition("_")[0] / f"{name}.jpg"
        if not file.exists():
            raise Refused(f"{file} is missing")
        with Image.open(file) as picture:
            width, height = picture.size
        yield Photo(file, name, "dev", near=np.array([[0.25, 0.25], [0.75, 0.75]]) * [width, height])


def pairs(folder):
    """Returns the rows of lfw_pairs.csv."""
    for fold, a, b, same in listed(folder):
        yield fold, f"lfw/{a}.webp", f"lfw/{b}.webp", int(same)
