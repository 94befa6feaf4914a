"""Tests the breakdown's measures against numbers computed by hand."""

import numpy as np
import pytest

from faceptor_models.student import accuracy
from faceptor_models.student.accuracy import replace_block
from faceptor_models.student.breakdown import at_temperature, confusion, reliability, temperature, turn


def test_turn_is_the_nose_offset_along_the_eyes():
    frontal = [[40, 50], [60, 50], [50, 60], [43, 70], [57, 70]]
    turned = [[40, 50], [60, 50], [56, 60], [43, 70], [57, 70]]
    # The same face rolled by 90 degrees is as little turned as before.
    rolled = [[50, 40], [50, 60], [40, 50], [30, 43], [30, 57]]
    assert np.allclose(turn(np.array([frontal, turned, rolled], float)), [0.0, 0.3, 0.0])


def test_confusions_are_shares_of_the_labelled_row():
    text = confusion(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), ["a", "b"]).splitlines()
    assert text[2] == "| a | 50 | 50 | 2 |" and text[3] == "| b | 0 | 100 | 2 |"


def test_calibration_error_weights_the_gaps_by_their_rows():
    confidence, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([1, 0, 1, 0])
    error, bins = reliability(confidence, right)
    assert np.isclose(error, 0.5 * 0.45 + 0.5 * 0.05)
    assert [n for _, _, n in bins] == [2, 2]


def test_the_temperature_of_overconfident_scores_is_recovered():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20000, 4)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (p.cumsum(1) < rng.random((len(p), 1))).sum(1)
    sharp = at_temperature(p, 0.5)
    assert abs(temperature(sharp, truth) - 2.0) < 0.06
    assert np.allclose(at_temperature(sharp, 2.0), p, atol=1e-4)


def test_a_block_is_replaced_between_its_marks():
    assert replace_block("a <m>old</m> b", ("<m>", "</m>"), "new") == "a <m>\nnew\n</m> b"


def test_a_smaller_networks_errors_are_compared_with_the_larger_ones(tmp_path):
    card = tmp_path / "edge" / "CARD.md"
    card.parent.mkdir()
    names = [row for row, *_ in accuracy.GOALS[:8]]
    larger = dict(zip(names, [4.0, 80.0, 80.0, 5.0, 50.0, 90.0, 0.70, 95.0]))
    smaller = dict(zip(names, [5.0, 75.0, 60.0, 5.0, 50.0, 90.0, 0.64, 100.0]))
    columns = accuracy.markdown({accuracy.COLUMNS["ort"]: smaller, accuracy.COLUMNS["bundle"]: larger}, "note")
    card.write_text(f"# Card\n{accuracy.MARKS[0]}\n{columns}\n{accuracy.MARKS[1]}\n")
    assert (accuracy.column_of(card), accuracy.column_of(card, accuracy.COLUMNS["ort"])) == (larger, smaller)
    lines = accuracy.comparison(smaller, card).splitlines()[2:]
    assert [line.split("|")[4].strip() for line in lines] == ["1.25", "1.25", "2.00 (above required)", "1.00", "1.00", "1.00", "1.20", "0.00"]


def test_a_card_is_refused_for_another_network_than_its_export(tmp_path):
    """Without --model the program answers with the network inside it, whatever the export is."""
    program = tmp_path / "faceptor"
    program.write_text("""#!/bin/sh
case "$*" in *small.bundle*) name=faceptor-nano;; *) name=faceptor-edge;; esac
[ "$1" = tasks ] && echo "{\\"network\\": \\"$name 0.6.0\\", \\"tasks\\": []}"
""")
    program.chmod(0o755)
    manifest = {"name": "faceptor-nano", "version": "0.6.0"}
    accuracy.check_network(program, "small.bundle", "nano", manifest)
    with pytest.raises(SystemExit, match="answers with faceptor-edge 0.6.0, but nano is faceptor-nano 0.6.0: --model"):
        accuracy.check_network(program, None, "nano", manifest)
    with pytest.raises(SystemExit, match="but nano is faceptor-nano 0.7.0"):
        accuracy.check_network(program, "small.bundle", "nano", manifest | {"version": "0.7.0"})
