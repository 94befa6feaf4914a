"""Reads 300-W (non-commercial): the folders of the iBUG annotations, each with pictures and a .pts file of the same name.

`helen/trainset`, `lfpw/trainset` and `afw` are train; `helen/testset`, `lfpw/testset` and `ibug` are dev. Missing folders are
left out. It has 68 annotated points in iBUG order.
"""

import numpy as np

from faceptor_models.common.errors import Refused

from ..rows import Photo

SIDE_PX = 256
FOLDERS = {
    "helen/trainset": "train", "lfpw/trainset": "train", "afw": "train",
    "helen/testset": "dev", "lfpw/testset": "dev", "ibug": "dev",
}  # fmt: skip
PICTURES = (".jpg", ".png", ".jpeg")


def points_of(path):
    """Reads [68, 2] of a .pts file, whose first pixel is (1, 1), with the first pixel at (0, 0)."""
    text = path.read_text(errors="replace")
    inside = text.partition("{")[2].partition("}")[0].split()
    try:
        points = np.array(inside, float).reshape(68, 2) - 1
    except ValueError:
        raise Refused(f"{path} does not hold 68 points") from None
    if not np.isfinite(points).all():
        raise Refused(f"{path} holds a point that is no number")
    return points


def photos(folder):
    present = [f for f in FOLDERS if (folder / f).is_dir()]
    if not present:
        raise Refused(f"{folder} holds none of {', '.join(FOLDERS)}")
    for part in present:
        for file in sorted((folder / part).glob("*.pts")):
            picture = next((p for s in PICTURES if (p := file.with_suffix(s)).exists()), None)
            if picture is None:
                raise Refused(f"{file} has no picture beside it")
            points = points_of(file)
            yield Photo(picture, f"{part.partition('/')[0]}_{file.stem}", FOLDERS[part], points=points, near=points)
