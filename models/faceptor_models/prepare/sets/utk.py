"""Reads UTKFace (non-commercial): `AGE_SEX_GROUP_DATE.jpg` in the folder or below it (`UTKFace/`, `part1/`, `.chip.jpg`).

It has age in years and sex; the group is not read. The owners give no split: one photo in 16 is dev, chosen by its name.
"""

import re
import zlib

from faceptor_models.common.errors import Refused

from ..rows import Photo, age

SIDE_PX = 192
NAME = re.compile(r"(\d{1,3})_([01])_[0-4]_(\d+)\.")  # a few files lack a field and are left out
OLDEST = 116


def photos(folder):
    found = False
    for file in sorted(folder.rglob("*.jpg")):
        if not (match := NAME.match(file.name)) or int(match[1]) > OLDEST:
            continue
        found = True
        split = "dev" if zlib.crc32(file.name.encode()) % 16 == 0 else "train"
        labels = age(int(match[1])) | {"male": 1 - int(match[2])}
        yield Photo(file, file.name.removesuffix(".jpg").replace(".", ""), split, labels=labels)
    if not found:
        raise Refused(f"{folder} holds no picture named AGE_SEX_GROUP_DATE.jpg")
