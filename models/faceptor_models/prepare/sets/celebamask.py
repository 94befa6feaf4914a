"""Reads CelebAMask-HQ (non-commercial): `CelebA-HQ-img/N.jpg` and `CelebAMask-HQ-mask-anno/0..14/NNNNN_part.png`.

The dev split is CelebA's test list, which needs `CelebA-HQ-to-CelebA-mapping.txt` and CelebA's `list_eval_partition.txt` in the
same folder; without the second everything is train. The masks have 19 annotated classes.
"""

import numpy as np
from PIL import Image

from faceptor_models.common.labels import PARSING

from ..rows import Photo
from .common import lines_of, need

SIDE_PX = 256
FOLDER_HOLDS = 2000  # pictures in a folder of mask parts


def label_map(parts):
    """Paints the parts over each other in the order of the classes, as the owners' script does; background where there is none."""
    made = None
    for label, path in parts:
        with Image.open(path) as picture:
            part = np.asarray(picture.convert("L")) > 127
        if made is None:
            made = np.zeros(part.shape, np.uint8)
        made[part] = label
    return made


def partition(folder):
    """Returns {picture number: CelebA's own part}, or an empty dict."""
    lists = folder / "list_eval_partition.txt"
    if not lists.exists():
        return {}
    part = {name: int(value) for name, value in lines_of(lists)}
    rows = list(lines_of(folder / "CelebA-HQ-to-CelebA-mapping.txt"))[1:]
    return {int(r[0]): part[r[2]] for r in rows if r[2] in part}


def photos(folder):
    need(folder, "CelebA-HQ-img", "CelebAMask-HQ-mask-anno")
    part = partition(folder)
    for file in sorted((folder / "CelebA-HQ-img").glob("*.jpg"), key=lambda f: int(f.stem)):
        number = int(file.stem)
        where = folder / "CelebAMask-HQ-mask-anno" / str(number // FOLDER_HOLDS)
        parts = [(i, p) for i, name in enumerate(PARSING) if i and (p := where / f"{number:05d}_{name}.png").exists()]
        if parts and part.get(number, 0) != 1:  # the validation list is left out
            yield Photo(file, file.stem, "dev" if part.get(number) == 2 else "train", mask=Mask(parts))


class Mask:
    """Reads a label map when it is needed, and can be sent to another process."""

    def __init__(self, parts):
        self.parts = parts

    def __call__(self):
        return label_map(self.parts)
