"""Reads the dev split and computes every measure of the model card."""

import csv
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS, PARSING
from faceptor_models.common.metrics import landmark_error, parsing_scores, verification


class Development:
    """Holds the labels of `faces/dev`; `rows(source)` indexes them."""

    def __init__(self, faces):
        self.root = Path(faces) / "dev"
        archive = np.load(self.root / "labels.npz")
        self.labels = {k: archive[k] for k in archive.files}
        self.path = [str(p) for p in self.labels["path"]]
        self.index = {p: i for i, p in enumerate(self.path)}

    def file(self, i):
        return self.root / self.path[i]

    def rows(self, source):
        return np.nonzero(self.labels["source"] == source)[0]

    def rgb(self, i):
        return np.asarray(Image.open(self.file(i)).convert("RGB"))

    def mask(self, i):
        return np.asarray(Image.open(self.root / str(self.labels["mask"][i])))

    def pairs(self):
        """Returns the LFW pairs of folds 1-5 as (fold, row a, row b, same)."""
        with open(self.root / "lfw_pairs.csv") as file:
            return [(int(r["fold"]), self.index[r["a"]], self.index[r["b"]], r["same"] == "1") for r in csv.DictReader(file)]


def landmarks_row(dev, answers):
    rows = [i for i in dev.rows("w300") if dev.labels["landmarks_source"][i] == 1]
    true = dev.labels["landmarks"][rows].astype(float) / 8192
    found = np.stack([answers[i]["landmarks"] for i in rows])
    return {"landmarks w300 NME %": 100 * landmark_error(found, true).mean()}


def expression_row(dev, answers, source, name, classes):
    rows = dev.rows(source)
    said = np.stack([answers[i]["expression"] for i in rows])
    truth = dev.labels["expression_votes"][rows].argmax(1)
    return {name: 100 * (said[:, :classes].argmax(1) == truth).mean()}


def years_row(dev, answers):
    rows = dev.rows("utk")
    years = np.array([answers[i]["age"] for i in rows])
    return {"age UTK MAE years": np.abs(years - dev.labels["age"][rows]).mean()}


def ranges_row(dev, answers):
    rows = dev.rows("fairface")
    years = np.array([answers[i]["age"] for i in rows])
    # Ranges are whole years inclusive: 20-29 holds 29.99.
    return {"age FairFace in range %": 100 * ((years >= dev.labels["age_low"][rows]) & (years < dev.labels["age_high"][rows] + 1)).mean()}


def attributes_row(dev, answers):
    rows = dev.rows("celeba")
    said = np.stack([answers[i]["attributes"] for i in rows]) > 0.5
    truth = dev.labels["attributes"][rows]
    right = (said == (truth > 0)) & (truth != 0)
    return {"attributes CelebA %": 100 * (right.sum(0) / (truth != 0).sum(0)).mean()}


def class_scores(dev, answers):
    """Returns the F1 of every class of the masks."""
    confusion = np.zeros((len(PARSING), len(PARSING)), np.int64)
    for i in dev.rows("celebamask"):
        truth, said = dev.mask(i), answers[i]["mask"]
        valid = (truth != 255) & (said != 255)
        pair = truth[valid].astype(int) * len(PARSING) + said[valid]
        confusion += np.bincount(pair, minlength=confusion.size).reshape(confusion.shape)
    return parsing_scores(confusion)


def parsing_row(dev, answers):
    return {"parsing CelebAMask mean F1": float(np.nanmean(class_scores(dev, answers)[1:]))}


def recognition_row(dev, answers):
    return {"recognition LFW %": 100 * verification(dev.pairs(), {i: answers[i]["embedding"] for i in dev.rows("lfw")})}


# The row of the table that each source has.
ROWS = {
    "w300": landmarks_row,
    "rafdb": partial(expression_row, source="rafdb", name="expression RAF-DB %", classes=7),
    "ferplus": partial(expression_row, source="ferplus", name="expression FER+ %", classes=8),
    "utk": years_row, "fairface": ranges_row, "celeba": attributes_row, "celebamask": parsing_row, "lfw": recognition_row,
}  # fmt: skip


def measure(dev, answers):
    """Returns the table, {row: value}, and the F1 of each class. `answers` maps a dev row to that face's answers.

    The answers are landmarks [68, 2] in units of the crop, expression [8] and attributes [40] probabilities, age years,
    embedding a unit vector, and mask [side, side] labels. Rows without an answer count as wrong or are reported.
    """
    table = {}
    for row in ROWS.values():
        table |= row(dev, answers)
    return table, dict(zip(PARSING, class_scores(dev, answers)))


assert len(EXPRESSIONS) == 8 and len(ATTRIBUTES) == 40
