"""The dev split: its crops as the network sees them, and every measure of the model card."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from .labels import ATTRIBUTES, EXPRESSIONS, PARSING
from .sampling import view


class Development:
    """Labels of `faces/dev`; `rows(source)` indexes them."""

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
        """LFW pairs of folds 1-5 as (fold, row a, row b, same)."""
        with open(self.root / "lfw_pairs.csv") as file:
            return [(int(r["fold"]), self.index[r["a"]], self.index[r["b"]], r["same"] == "1") for r in csv.DictReader(file)]


def network_image(rgb, size):
    """An aligned crop [side, side, 3] as the network's uint8 input [3, size, size]."""
    side = rgb.shape[0]
    seen = view(rgb, np.array([[side, 0.0, 0.0], [0.0, side, 0.0]]), size)
    return (seen + 0.5).astype(np.uint8).transpose(2, 0, 1)


def landmark_error(found, true):
    """Mean point error over the outer-eye-corner distance, per face; points [n, 68, 2] in units of the crop."""
    eye = np.linalg.norm(true[:, 36] - true[:, 45], axis=-1)
    return np.linalg.norm(found - true, axis=-1).mean(1) / eye


def verification(pairs, embedding):
    """5-fold accuracy: the threshold of a fold is the best one of the other four. `embedding` maps row to unit vector."""
    fold = np.array([p[0] for p in pairs])
    similarity = np.array([float(embedding[a] @ embedding[b]) for _, a, b, _ in pairs])
    same = np.array([p[3] for p in pairs])
    scores = []
    for f in np.unique(fold):
        train, test = fold != f, fold == f
        thresholds = np.unique(similarity[train])
        accuracy = [((similarity[train] >= t) == same[train]).mean() for t in thresholds]
        best = thresholds[int(np.argmax(accuracy))]
        scores.append(((similarity[test] >= best) == same[test]).mean())
    return float(np.mean(scores))


def parsing_scores(confusion):
    """F1 per class from one confusion matrix over the whole split; NaN for a class that never occurs."""
    both = np.diag(confusion).astype(float)
    size = confusion.sum(0) + confusion.sum(1)
    return np.where(confusion.sum(1) > 0, 2 * both / np.maximum(size, 1), np.nan)


def measure(dev, answers):
    """The table: {row: value}. `answers` maps a dev row to that face's answers:

    landmarks [68, 2] in units of the crop; expression [8] and attributes [40] probabilities; age years;
    embedding unit vector; mask [side, side] labels. Rows without an answer count as wrong or are reported.
    """
    labels, out = dev.labels, {}
    rows = [i for i in dev.rows("w300") if labels["landmarks_source"][i] == 1]
    true = labels["landmarks"][rows].astype(float) / 8192
    found = np.stack([answers[i]["landmarks"] for i in rows])
    out["landmarks w300 NME %"] = 100 * landmark_error(found, true).mean()
    rows = dev.rows("rafdb")
    said = np.stack([answers[i]["expression"] for i in rows])
    truth = labels["expression_votes"][rows].argmax(1)
    out["expression RAF-DB %"] = 100 * (said[:, :7].argmax(1) == truth).mean()
    rows = dev.rows("ferplus")
    said = np.stack([answers[i]["expression"] for i in rows])
    truth = labels["expression_votes"][rows].argmax(1)
    out["expression FER+ %"] = 100 * (said.argmax(1) == truth).mean()
    rows = dev.rows("utk")
    years = np.array([answers[i]["age"] for i in rows])
    out["age UTK MAE years"] = np.abs(years - labels["age"][rows]).mean()
    rows = dev.rows("fairface")
    years = np.array([answers[i]["age"] for i in rows])
    # Ranges are whole years inclusive: 20-29 holds 29.99.
    out["age FairFace in range %"] = 100 * ((years >= labels["age_low"][rows]) & (years < labels["age_high"][rows] + 1)).mean()
    rows = dev.rows("celeba")
    said = np.stack([answers[i]["attributes"] for i in rows]) > 0.5
    truth = labels["attributes"][rows]
    right = (said == (truth > 0)) & (truth != 0)
    out["attributes CelebA %"] = 100 * (right.sum(0) / (truth != 0).sum(0)).mean()
    confusion = np.zeros((len(PARSING), len(PARSING)), np.int64)
    for i in dev.rows("celebamask"):
        truth, said = dev.mask(i), answers[i]["mask"]
        valid = (truth != 255) & (said != 255)
        pair = truth[valid].astype(int) * len(PARSING) + said[valid]
        confusion += np.bincount(pair, minlength=confusion.size).reshape(confusion.shape)
    scores = parsing_scores(confusion)
    out["parsing CelebAMask mean F1"] = float(np.nanmean(scores[1:]))
    out["recognition LFW %"] = 100 * verification(dev.pairs(), {i: answers[i]["embedding"] for i in dev.rows("lfw")})
    return out, dict(zip(PARSING, scores))


assert len(EXPRESSIONS) == 8 and len(ATTRIBUTES) == 40
