"""Reads Microsoft's FaceSynthetics (non-commercial): `N.png` and `N_seg.png`, rendered faces whose labels are exact.

Its beard is skin. Only frames are labelled as glasses, so the reader fills the lenses, as CelebAMask-HQ has them. Facewear
(masks, goggles) is 255, unknown.
"""

import cv2
import numpy as np
from PIL import Image

from faceptor_models.common.errors import Refused
from faceptor_models.common.labels import PARSING

from ..rows import Photo

SIDE_PX = 256
UNKNOWN = 255
# Its labels 0 to 18; left and right there are the picture's, here the person's.
CLASSES = ("background skin nose l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip neck hair skin cloth eye_g hat").split()
MOST_OF_A_LENS = 0.04  # of the picture


def table():
    made = np.full(256, UNKNOWN, np.uint8)
    made[: len(CLASSES)] = [PARSING.index(name) for name in CLASSES]
    return made


def with_lenses(labels):
    """Turns the skin and the brows inside frames into glasses; eyes stay."""
    eyewear = PARSING.index("eye_g")
    if not (labels == eyewear).any():
        return labels
    names = {name: PARSING.index(name) for name in ("skin", "l_eye", "r_eye", "l_brow", "r_brow")}
    frame = cv2.dilate((labels == eyewear).astype(np.uint8), np.ones((5, 5), np.uint8))
    free = np.pad((frame == 0).astype(np.uint8), 1, constant_values=1)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(free, connectivity=4)
    parts = parts[1:-1, 1:-1]
    for i in range(1, count):
        inside = parts == i
        small = i != parts[0, 0] and stats[i, cv2.CC_STAT_AREA] < MOST_OF_A_LENS * labels.size
        if small and np.isin(labels[inside], list(names.values())).mean() > 0.5:
            lens = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
            labels[lens & np.isin(labels, [names[n] for n in ("skin", "l_brow", "r_brow")])] = eyewear
    return labels


def photos(folder):
    files = sorted(folder.glob("*_seg.png"))
    if not files:
        raise Refused(f"{folder} holds no N_seg.png")
    for file in files:
        number = file.stem.removesuffix("_seg")
        yield Photo(folder / f"{number}.png", f"facesynthetics_{number}", "train", mask=Mask(file))


class Mask:
    """Reads a label map when it is needed, and can be sent to another process."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        with Image.open(self.path) as picture:
            return with_lenses(table()[np.asarray(picture)])
