"""Reads Clothing Co-Parsing (bearpaw/clothing-co-parsing, Apache-2.0): `photos/N.jpg`, `annotations/pixel-level/N.mat`, `label_list.mat`.

These are street photos whose pixels are labelled with 59 kinds of clothing; hats and sunglasses are frequent. The one kind
`skin` covers face, ears and neck, and other people in a photo count as `null`, so masks have 255 (unknown) for skin and for
things that CelebAMask-HQ has no class for.
"""

import numpy as np

from faceptor_models.common.errors import Refused
from faceptor_models.common.labels import PARSING

from ..rows import Photo
from .common import need

SIDE_PX = 256
CLOTH = (
    "blazer blouse bodysuit bra cape cardigan coat dress hoodie intimate jacket jeans jumper leggings pants romper scarf shirt shorts skirt "
    "suit sweater sweatshirt swimwear t-shirt tie top vest"
).split()
PARTS = {"null": "background", "hair": "hair", "hat": "hat", "glasses": "eye_g", "sunglasses": "eye_g", "earrings": "ear_r", "necklace": "neck_l"}
UNKNOWN = 255


def read_mat(path):
    try:
        from scipy.io import loadmat
    except ImportError:
        raise Refused("ccp: its labels are MATLAB files, which need scipy: pip install scipy") from None
    return loadmat(path)


def classes(names):
    """Returns CelebAMask-HQ's class for each of CCP's labels."""
    known = PARTS | dict.fromkeys(CLOTH, "cloth")
    return np.array([PARSING.index(known[n]) if n in known else UNKNOWN for n in names], np.uint8)


def photos(folder):
    need(folder, "photos", "annotations/pixel-level", "label_list.mat")
    names = [str(entry[0]) for entry in read_mat(folder / "label_list.mat")["label_list"][0]]
    for file in sorted((folder / "annotations/pixel-level").glob("*.mat")):
        near = face_of(read_mat(file)["groundtruth"], names.index("hair"), names.index("skin"))
        yield Photo(folder / f"photos/{file.stem}.jpg", f"ccp_{file.stem}", "train", near=near, mask=Mask(file, classes(names)))


def face_of(labels, hair, skin):
    """Locates the annotated person's face, [1, 2] in pixels: the skin between its hair. Returns None without hair or skin there."""
    rows, columns = np.nonzero(labels == hair)
    if not len(rows):
        return None
    top, left = rows.min(), columns.min()
    inside = np.argwhere(labels[top : rows.max() + 1, left : columns.max() + 1] == skin)
    return (inside.mean(0) + [top, left])[None, ::-1] if len(inside) else None


class Mask:
    """Reads a label map when it is needed, and can be sent to another process."""

    def __init__(self, path, table):
        self.path, self.table = path, table

    def __call__(self):
        return self.table[read_mat(self.path)["groundtruth"]]
