"""Reads RAF-DB, basic (non-commercial): `Image/aligned/*_aligned.jpg` and `EmoLabel/list_patition_label.txt` (so spelt).

They lie in the folder or in `basic/` below it. There are seven expressions, and the split is the list's own: train is train,
test is dev.
"""

from faceptor_models.common.errors import Refused
from faceptor_models.common.labels import EXPRESSIONS

from ..rows import Photo
from .common import lines_of, need

SIDE_PX = 128
# The labels 1 to 7 of the list.
ORDER = "surprise fear disgust happiness sadness anger neutral".split()
VOTES = 10  # one label counts as ten equal votes


def photos(folder):
    folder = folder / "basic" if (folder / "basic").is_dir() else folder
    need(folder, "Image/aligned")
    for name, label in lines_of(folder / "EmoLabel" / "list_patition_label.txt"):
        if label not in set("1234567"):
            raise Refused(f"list_patition_label.txt: {name} has the label {label}, not 1 to 7")
        votes = [0] * len(EXPRESSIONS)
        votes[EXPRESSIONS.index(ORDER[int(label) - 1])] = VOTES
        stem = name.rpartition(".")[0]
        split = "train" if name.startswith("train") else "dev"
        yield Photo(folder / "Image" / "aligned" / f"{stem}_aligned.jpg", f"{stem}_aligned", split, labels={"expression_votes": votes})
