"""Tests the counting of shared and lost ids, and the staged films, without the program and without research photos."""

import numpy as np
import pytest

from faceptor_models.student import cuts


def lines(*frames):
    return [{"faces": [{"id": number} for number in frame]} for frame in frames]


def test_shared_ids_are_counted_once_a_person():
    who = [0, 0, 1, 1, 2, 2]
    assert cuts.shared_ids(lines([1], [1], [2], [2], [3], [3]), who) == (0, 2)
    assert cuts.shared_ids(lines([1], [1], [1], [1], [], [3]), who) == (1, 1)
    assert cuts.shared_ids(lines([1], [1], [1], [2], [2], [2]), who) == (2, 2)


def test_lost_ids_are_people_with_more_than_one():
    who = [0, 0, 1, 1]
    assert cuts.lost_ids(lines([1], [1], [2], [2]), who) == (0, 0)
    assert cuts.lost_ids(lines([1], [2], [], [3]), who) == (1, 1)


class Crops(cuts.People):
    """Replaces the photos by noise."""

    def __init__(self, count):
        rng = np.random.default_rng(1)
        self.crops = [rng.uniform(0, 255, (256, 256, 3)).astype(np.float32) for _ in range(count)]
        self.wall = np.full((cuts.SIDE, cuts.SIDE, 3), 100.0, np.float32)


@pytest.mark.parametrize("kind", cuts.CUTS)
def test_every_cut_is_a_film(kind):
    people = Crops(2)
    frames = list(cuts.staged_cuts(people, np.random.default_rng(1), kind))
    assert cuts.persons(people, cuts.SHOWN) == [0] * cuts.SHOWN + [1] * cuts.SHOWN
    assert len(frames) == 2 * cuts.SHOWN
    assert all(frame.shape == (cuts.SIDE, cuts.SIDE, 3) and np.isfinite(frame).all() for frame in frames)
    assert np.abs(frames[cuts.SHOWN] - frames[cuts.SHOWN - 1]).mean() > 5


@pytest.mark.parametrize("kind", cuts.CHANGES)
def test_every_change_is_a_film(kind):
    frames = list(cuts.steady(Crops(1), np.random.default_rng(1), kind))
    assert len(frames) == cuts.LONG
    assert all(frame.shape == (cuts.SIDE, cuts.SIDE, 3) and np.isfinite(frame).all() for frame in frames)
