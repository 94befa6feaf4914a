"""Reads muxspace/facial_expressions (Apache-2.0): `images/*.jpg`. Its expression labels are noisy, so only the faces are used.

Most of its pictures are LFW's own, recognised by their names; they are never used in training.
"""

import re

from ..rows import Photo
from .common import need

SIDE_PX = 128
LFW = re.compile(r".+_\d{4}$")


def photos(folder):
    need(folder, "images")
    for file in sorted((folder / "images").iterdir()):
        if file.suffix.lower() in (".jpg", ".jpeg", ".png") and not LFW.fullmatch(file.stem):
            yield Photo(file, re.sub(r"\W", "_", file.stem), "train")
