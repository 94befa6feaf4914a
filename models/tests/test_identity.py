"""Tests the measures of recognition against numbers computed by hand, and against the program's formulas."""

import tomllib
from pathlib import Path

import numpy as np

from faceptor_models.student.identity import (
    Photos,
    impostor_table,
    name_of,
    pairs,
    rounded,
    score_at,
    search,
    threshold,
    with_table,
)

MODELS = Path(__file__).resolve().parent.parent


def people(count, photos_each, spread, seed=0):
    """Makes embeddings of people whose photos lie about a direction of their own."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(count, 64))
    photos = middle.repeat(photos_each, 0) + spread * rng.normal(size=(count * photos_each, 64))
    return Photos(rounded(photos), np.arange(count).repeat(photos_each))


def test_pairs_are_of_one_person_or_of_two():
    same, different = pairs(people(4, 3, 0.1), np.arange(12))
    assert len(same) == 4 * 3 and len(different) == 12 * 11 // 2 - 12
    assert same.min() > 0.9 > different.max()


def test_the_table_holds_the_scores_that_shares_of_the_impostors_reach():
    rates, scores = impostor_table(np.arange(1000) / 1000, rates=[0.1, 0.01, 1e-3, 1e-4])
    # Of 1000 pairs ten or more must be left.
    assert rates == [0.1, 0.01] and scores == [0.9, 0.99]


def test_thresholds_are_those_of_the_program():
    # The numbers of the tests of crates/faceptor-gallery/src/impostors.rs.
    table = ([1e-1, 1e-2, 1e-3, 1e-4], [0.2, 0.3, 0.4, 0.5])
    for rate, score in [(1e-1, 0.2), (1e-3, 0.4), (0.5, 0.2), (10**-2.5, 0.35), (1e-6, 0.7), (1e-30, 1.0)]:
        assert np.isclose(score_at(table, rate), score)
    assert np.isclose(threshold(table, 0.01, 1), 0.3) and abs(threshold(table, 0.01, 100) - 0.4998) < 1e-3


def test_the_asked_rate_of_strangers_gets_a_name():
    photos = people(400, 2, 1.0)
    rng = np.random.default_rng(1)
    runs = np.array([search(photos, rng, 50, 1) for _ in range(20)])
    measured, right, wrong, _ = runs.mean(0).T
    assert 0.003 < measured[0] < 0.02 and 0.06 < measured[1] < 0.14
    assert right[1] > right[0] > 0.6 and (wrong < 0.05).all()
    assert search(photos, rng, 300, 1) is None, "too few people"


def test_a_person_is_named_by_its_file():
    assert name_of("lfw/Ada_Lovelace_0012.webp") == "Ada_Lovelace"


def test_the_table_replaces_the_one_before_and_leaves_the_rest():
    text = (MODELS / "edge" / "manifest.toml").read_text()
    first = with_table(text, ([0.1, 1e-5], [0.2, 0.6]), 3, 4)
    second = with_table(first, ([0.1, 0.01], [0.25, 0.5]), 5, 6)
    before, after = tomllib.loads(text), tomllib.loads(second)
    found = after.pop("impostors")
    before.pop("impostors", None)
    assert before == after
    assert (found["rates"], found["scores"], found["people"], found["pairs"]) == ([0.1, 0.01], [0.25, 0.5], 5, 6)
    assert second.count("[impostors]") == 1 and with_table(second, ([0.1, 0.01], [0.25, 0.5]), 5, 6) == second
    assert tomllib.loads(first)["impostors"]["rates"] == [0.1, 1e-5]


def test_the_table_stays_at_its_place():
    text = (MODELS / "edge" / "manifest.toml").read_text()
    before, _, after = text.partition("[impostors]")
    assert "[finder]" in before and "[face_check]" in after
    replaced = with_table(text, ([0.1, 0.01], [0.25, 0.5]), 5, 6)
    assert replaced.startswith(before + "[impostors]\n") and replaced.endswith("\n\n" + after[after.index("[face_check]") :])
    # What was measured is written as it stands there.
    found = tomllib.loads(text)["impostors"]
    assert with_table(text, (found["rates"], found["scores"]), found["people"], found["pairs"]) == text
    # A comment belongs to the table that follows it; a blank line or a comment within the table goes with it.
    rest = "\n\n# The weights follow.\n\n[face_check]\nbias = 1.0\n"
    small = with_table("[a]\nb = 1\n\n[impostors]\nrates = [\n    0.1,\n]\n\n# old\npeople = 1" + rest, ([0.1, 0.01], [0.25, 0.5]), 5, 6)
    assert small.startswith("[a]\nb = 1\n\n[impostors]\ntask = ") and small.endswith("scores = [0.2500, 0.5000]" + rest)
    assert small.count("people") == 1
    assert with_table("", ([0.1, 0.01], [0.25, 0.5]), 5, 6).strip().startswith("[impostors]")
