"""Gives access to the research crops as rows of sources, some of each held out, with each system's labels of a row."""

from pathlib import Path

import numpy as np

from faceptor_models.common.errors import Refused
from faceptor_models.common.labels import ATTRIBUTES
from faceptor_models.common.packed_crops import Labels, more, pack, table

from .. import official
from ..official import type_of

IGNORED = -100
NO_PIXEL = 255
# Votes in the order of the labels to Faceptor's seven expressions, which have no contempt.
EXPRESSION = (0, 1, 3, 2, 6, 5, 4, None)
# CelebAMask's own classes to Faceptor's order: file `l_*` becomes class `r*`.
FACEPTOR_NAMES = {
    "background": "background", "skin": "face", "nose": "nose", "eye_g": "glass", "l_eye": "re", "r_eye": "le", "l_brow": "rb", "r_brow": "lb",
    "l_ear": "rr", "r_ear": "lr", "mouth": "imouth", "u_lip": "ulip", "l_lip": "llip", "hair": "hair", "hat": "hat", "ear_r": "earr",
    "neck_l": "neckl", "neck": "neck", "cloth": "cloth",
}  # fmt: skip
PARSING_TABLE = np.array([official.CELEBAMASK.index(FACEPTOR_NAMES[name]) for name in official.CELEBAMASK_OWN] + [NO_PIXEL] * (256 - 19), np.uint8)
# Offset of the nose tip from the middle of the eyes, in eye distances, from which a face counts as half turned and as a
# profile.
POSE_EDGES = (-0.75, -0.25, 0.25, 0.75)


class Crops:
    """Holds the crops, their labels and which rows are held out.

    `pictures[source]` is [n, side, side, 4] (RGB and border), `keypoints[source]` [n, 5, 2] in units of the side, `masks` are
    those of the source celebamask. `training(source)` and `held_out(source)` are row numbers.
    """

    def __init__(self, pictures, labels, keypoints, masks=None, hold_out=0.05, seed=2048):
        self.pictures, self.labels, self.keypoints, self.masks = pictures, labels, keypoints, masks
        self.order, self.held = {}, {}
        for source, crops in pictures.items():
            self.order[source] = np.random.RandomState(seed).permutation(len(crops))
            self.held[source] = round(hold_out * len(crops))

    @classmethod
    def read(cls, faces, cache, hold_out=0.05, further=()):
        """Reads the research crops, and folders that `faceptor-models prepare --packed` wrote."""
        path = Path(faces) / "train/labels.npz"
        if not path.is_file():
            raise Refused(f"--data {faces} has no train/labels.npz: it must be the folder of the research crops")
        try:
            sets = [(pack(faces, cache, mapped=True), table(path)), *(more(folder, mapped=True) for folder in further)]
        except (OSError, ValueError, KeyError) as error:
            raise Refused(f"the crops cannot be read: {error}") from error
        pictures, labels, keypoints = {}, {}, {}
        for arrays, archive in sets:
            for source in (s for s in arrays if s != "masks"):
                pictures[source], labels[source] = arrays[source], Labels(archive, source)
                found = archive["keypoints"][archive["source"] == source].astype(np.float32)
                keypoints[source] = np.where(found == -32768, np.nan, found / 8192.0)
        return cls(pictures, labels, keypoints, sets[0][0]["masks"], hold_out)

    def training(self, source):
        return self.order[source][self.held[source] :]

    def held_out(self, source):
        return self.order[source][: self.held[source]]

    def rgb(self, source, row):
        return np.ascontiguousarray(self.pictures[source][row][..., :3])

    def with_label(self, task, source, rows):
        """Returns the rows of a source that have a label of a Faceptor task."""
        labels, kind = self.labels[source], type_of(task)
        if kind == "recog":
            good = labels.identity >= 0
        elif kind == "age":
            good = np.isfinite(labels.age_low) & (labels.age_low == labels.age_high)
        elif kind == "biattr":
            good = (labels.attributes != 0).any(1)
        elif kind == "affect":
            good = (labels.expression[:, 0] >= 0) & (labels.expression.argmax(1) < 7)
        elif kind == "parsing":
            good = np.full(len(labels.male), source == "celebamask" and self.masks is not None)
        else:
            good = labels.people & np.isfinite(labels.landmarks[:, 0, 0])
        return rows[good[rows]]

    def value(self, task, source, row, identities=None):
        """Returns a row's label of a Faceptor task at 112: identity, whole years, attributes (1, 0, -1 unknown) or expression."""
        labels, kind = self.labels[source], type_of(task)
        if kind == "recog":
            return np.int64(identities[int(labels.identity[row])])
        if kind == "age":
            return np.int64(np.clip(round(float(labels.age_low[row])), 0, 100))
        if kind == "biattr":
            return np.select([labels.attributes[row] > 0, labels.attributes[row] < 0], [1, 0], -1).astype(np.int64)
        return np.int64(EXPRESSION[int(labels.expression[row].argmax())])

    def facts(self, source, row, flipped=False):
        """Returns TCDCN's labels by head, IGNORED where unknown: the first class of each is the one that the annotation calls 1."""
        attributes = self.labels[source].attributes[row]

        def first_if(value):
            return IGNORED if value == 0 else int(value < 0)

        male = int(self.labels[source].male[row])
        gender = first_if(attributes[ATTRIBUTES.index("Male")]) if male < 0 else 1 - male
        out = {
            "gender": gender,
            "smile": first_if(attributes[ATTRIBUTES.index("Smiling")]),
            "glasses": first_if(attributes[ATTRIBUTES.index("Eyeglasses")]),
        }
        return out | {"pose": pose(self.keypoints[source][row], flipped)}


def pose(keypoints, flipped=False):
    """Returns one of five bins from left profile to right profile by the place of the nose between the eyes: no data set here labels it."""
    if not np.isfinite(keypoints).all():
        return IGNORED
    left, right, nose = keypoints[:3]
    axis = right - left
    turned = float((nose - (left + right) / 2) @ axis / max(float(axis @ axis), 1e-9))
    return int(np.searchsorted(POSE_EDGES, -turned if flipped else turned))
