"""Tests that the shipped exports are as accurate as their cards: their int8 parts in ONNX Runtime, over a part of the dev split.

The part has all faces of 300-W and all masks, so that these rows are the card's own, and some crops of the other sources. It
fails when weights change without their cards, or cards without their weights.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from faceptor_models.student.accuracy import COLUMNS, GOALS, column_of
from faceptor_models.student.development import Development, measure
from faceptor_models.student.evaluate import answers
from faceptor_models.student.onnx_parts import OnnxParts

MODELS = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FACEPTOR_SHARED", MODELS / "../../shared"))
SOME = 100  # crops of each source of which only some are used
PAIRS = 60
EXACT = {"landmarks w300 NME %": 0.02, "parsing CelebAMask mean F1": 0.004}


class Part(Development):
    """Holds all of 300-W's labelled faces and of the masks, `SOME` of the other sources, and `PAIRS` pairs of LFW."""

    def __init__(self, faces):
        super().__init__(faces)
        every = super().pairs()
        self.chosen = [every[i] for i in np.linspace(0, len(every) - 1, PAIRS).astype(int)]
        kept = {row for _, a, b, _ in self.chosen for row in (a, b)}
        for source in np.unique(self.labels["source"]):
            rows = super().rows(source)
            if source == "w300":
                kept |= set(rows[self.labels["landmarks_source"][rows] == 1].tolist())
            elif source == "celebamask":
                kept |= set(rows.tolist())
            elif source != "lfw":
                kept |= set(rows[np.linspace(0, len(rows) - 1, SOME).astype(int)].tolist())
        kept = sorted(kept)
        self.labels = {name: values[kept] for name, values in self.labels.items()}
        new = {row: place for place, row in enumerate(kept)}
        self.path = [self.path[row] for row in kept]
        self.chosen = [(fold, new[a], new[b], same) for fold, a, b, same in self.chosen]

    def pairs(self):
        return self.chosen


def allowance(row, value):
    """Returns four standard errors of a row's value over the part's crops."""
    if "years" in row:
        return 4 * value / SOME**0.5  # the error's deviation is about its mean
    share = value / 100
    count = PAIRS if "LFW" in row else SOME * 40 if "CelebA " in row else SOME
    return 100 * 4 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize("name", ["edge", "nano"])
def test_an_export_is_as_accurate_as_its_card(name):
    if not (SHARED / "faces/dev").exists():
        pytest.skip(f"faces/dev is not in FACEPTOR_SHARED ({SHARED})")
    dev, parts = Part(SHARED / "faces"), OnnxParts(MODELS / name)
    found, _ = measure(dev, answers(dev, parts.answer, parts.manifest["input"]["size"]))
    claimed = column_of(MODELS / name / "CARD.md", COLUMNS["ort"])
    off = {}
    for row, *_ in GOALS[:8]:
        allowed = EXACT.get(row) or allowance(row, claimed[row])
        print(f"{name}: {row}: {found[row]:.3f} here, {claimed[row]} on the card, {allowed:.3f} allowed")
        if not abs(found[row] - claimed[row]) <= allowed:
            off[row] = found[row], claimed[row]
    assert not off
    assert f"Version {parts.manifest['version']};" in (MODELS / name / "CARD.md").read_text()
