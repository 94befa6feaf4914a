"""Reads CelebA (non-commercial): `img_align_celeba/NNNNNN.jpg`, `list_attr_celeba.txt`, `identity_CelebA.txt`, `list_eval_partition.txt`.

It has 40 attributes and the identity. The training list is train, the test list dev; the validation list is left out.
"""

from faceptor_models.common.errors import Refused
from faceptor_models.common.labels import ATTRIBUTES

from ..rows import Photo
from .common import lines_of, need

SIDE_PX = 128
SPLIT = {"0": "train", "2": "dev"}


def photos(folder):
    need(folder, "img_align_celeba")
    lines = lines_of(folder / "list_attr_celeba.txt")
    next(lines, None)  # the number of pictures
    if next(lines, None) != ATTRIBUTES:
        raise Refused(f"{folder / 'list_attr_celeba.txt'}: its second line is not the 40 attributes of CelebA")
    part = dict(lines_of(folder / "list_eval_partition.txt"))
    identities = folder / "identity_CelebA.txt"
    identity = dict(lines_of(identities)) if identities.exists() else {}
    for name, *values in lines:
        if (split := SPLIT.get(part.get(name))) is None:
            continue
        labels = {"attributes": [int(v) for v in values], "identity": int(identity.get(name, -1))}
        yield Photo(folder / "img_align_celeba" / name, name.rpartition(".")[0], split, labels=labels)
