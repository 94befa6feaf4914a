"""Reads FairFace (CC BY 4.0): `train/N.jpg`, `val/N.jpg` and `fairface_label_train.csv`, `fairface_label_val.csv`.

It has age in nine ranges and sex; the group is not read. Validation is the dev split, because no test list is published.
"""

from faceptor_models.common.errors import Refused

from ..rows import Photo, age_range
from .common import table_of

SIDE_PX = 160
OLDEST = 100
# A spreadsheet program took two ranges for dates.
DATES = {"03-Sep": "3-9", "3-Sep": "3-9", "Oct-19": "10-19", "19-Oct": "10-19"}


def years(text):
    """Parses a range such as 20-29 or "more than 70"."""
    text = DATES.get(text, text)
    if text.startswith("more than "):
        return age_range(int(text.removeprefix("more than ")), OLDEST)
    low, dash, high = text.partition("-")
    if not (dash and low.isdigit() and high.isdigit()):
        raise Refused(f"{text!r} is no age range of FairFace")
    return age_range(int(low), int(high))


def photos(folder):
    for part, split in (("train", "train"), ("val", "dev")):
        lists = folder / f"fairface_label_{part}.csv"
        if part == "val" and not lists.exists():
            continue  # training needs only the training part
        for row in table_of(lists, "file", "age", "gender"):
            number = row["file"].rpartition("/")[2].rpartition(".")[0]
            labels = years(row["age"]) | {"male": int(row["gender"] == "Male")}
            yield Photo(folder / row["file"], f"{part}_{number}", split, labels=labels)
