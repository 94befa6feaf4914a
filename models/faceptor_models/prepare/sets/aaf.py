"""Reads the All-Age-Faces data set (research): `original images/NNNNNAaa.jpg`, also below the repository's folder.

It has age in years and sex: the pictures up to 07380 show women. The owners give no split, and all of it is used for training.
"""

import re

from faceptor_models.common.errors import Refused

from ..rows import Photo, age

SIDE_PX = 192
NAME = re.compile(r"(\d{5})A(\d{2})")
LAST_WOMAN = 7380


def photos(folder):
    # The repository also has aligned faces of the same names, which lack hair and neck.
    places = [folder] if folder.name == "original images" else sorted(folder.rglob("original images"))
    files = [file for place in places for file in sorted(place.glob("*.jpg")) if NAME.fullmatch(file.stem)]
    if not files:
        raise Refused(f"{folder} holds no original images/NNNNNAaa.jpg")
    for file in files:
        number, years = map(int, NAME.fullmatch(file.stem).groups())
        yield Photo(file, file.stem, "train", labels=age(years) | {"male": int(number > LAST_WOMAN)})
