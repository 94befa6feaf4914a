"""Reads FER+ (labels MIT): `fer2013new.csv` of microsoft/FERPlus and the pictures.

The pictures are the folders FER2013Train, FER2013Valid and FER2013Test that its generate_training_data.py writes (below `data/`
or at the top), or the challenge's own `fer2013.csv` with the pixels as text. There are ten votes over eight expressions. Votes
for "unknown" and "no face" are left out, and so are faces where most votes are of that kind. "Training" is train, "PrivateTest"
is dev; "PublicTest" is left for model selection.
"""

import numpy as np

from faceptor_models.common.errors import Refused

from ..rows import Photo
from .common import table_of

SIDE_PX = 96
PARTS = {"Training": ("FER2013Train", "train"), "PrivateTest": ("FER2013Test", "dev")}
VOTES = "neutral happiness surprise sadness anger disgust fear contempt".split()
LEAST_VOTES = 6  # of about ten; with fewer the other voters were not sure that it is a face


def pixels(text):
    """Converts the challenge's text of 48 x 48 grey values to an RGB picture."""
    grey = np.array(text.split(), np.uint8)
    if grey.size != 48 * 48:
        raise Refused(f"fer2013.csv: a picture of {grey.size} pixels, not 48 x 48")
    return np.repeat(grey.reshape(48, 48, 1), 3, 2)


def photos(folder):
    pictures = folder / "data" if (folder / "data").exists() else folder
    text = folder / "fer2013.csv"
    grey = (r["pixels"] for r in table_of(text, "pixels")) if text.exists() else None
    seen = set()  # four names occur twice in the owners' file, with the same votes
    for row in table_of(folder / "fer2013new.csv", "Usage", "Image name", *VOTES):
        inline = next(grey) if grey else None  # the rows of the two files correspond one by one
        name = row["Image name"]
        votes = [int(row[v]) for v in VOTES]
        if not name or name in seen or row["Usage"] not in PARTS or sum(votes) < LEAST_VOTES:
            continue
        seen.add(name)
        part, split = PARTS[row["Usage"]]
        source = pixels(inline) if inline else pictures / part / name
        yield Photo(source, name.removesuffix(".png"), split, labels={"expression_votes": votes})
