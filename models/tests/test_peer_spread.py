"""benches/peers: what the table says about the times of this engine."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches" / "peers"))

import spread


def test_first_runs_shortest_time_and_labels_are_told_apart():
    text = spread.describe([4000.0, 2000.0, 2100.0, 5000.0, 2200.0, 1900.0], 3, [1500.0, 1700.0, 1600.0])
    assert "shortest of all runs takes 1.90 ms" in text
    assert "first run after the other engines 4.50 ms, the later runs of a turn 2.05 ms" in text
    assert text.endswith("the median is 1.60 ms.")


def test_turns_of_one_run_have_no_later_ones():
    assert "later runs" not in spread.describe([4000.0, 2000.0], 1, [1500.0])


@pytest.mark.parametrize("times, runs, labels", [([], 4, [1.0]), ([1.0, 2.0, 3.0], 2, [1.0]), ([1.0], 1, [])])
def test_times_that_are_no_whole_turns_are_refused(times, runs, labels):
    with pytest.raises(ValueError, match="no whole turns"):
        spread.describe(times, runs, labels)
