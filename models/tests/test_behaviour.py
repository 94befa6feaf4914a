"""Tests the measures of a run's behaviour on synthetic answers, without the program itself."""

import numpy as np
import pytest

from faceptor_models.student import behaviour


class Fake:
    """Replaces `faceptor run`: returns points that lag `late` frames after the clip, with a jitter of `noise` pixels."""

    def __init__(self, late=0, noise=0.0):
        self.late, self.noise, self.places = late, noise, []

    def film(self, frames, noise=0.0):
        self.places = list(frames)

    def run(self, *options):
        rng = np.random.default_rng(2)
        late = 0 if "--no-smoothing" in options else self.late
        lines = []
        for n in range(len(self.places)):
            points = np.full((68, 2), self.places[max(0, n - late)], float) * [1, 0] + self.noise * rng.standard_normal((68, 2))
            lines.append({"faces": [{"landmarks": {"points": points.tolist()}}]})
        return lines


class Place:
    """Replaces a picture: holds the place of the face."""

    def frame(self, eyes, x, y, light=1.0):
        return x


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_the_lag_of_a_moving_face_is_found_in_milliseconds():
    for speed, row in zip(behaviour.SPEEDS, cells(behaviour.moving(Place(), Fake(late=3), 8))):
        assert row[0] == f"{speed} ({30 * speed})"
        assert float(row[1]) == pytest.approx(0, abs=0.1) and float(row[4]) == pytest.approx(100, abs=0.5)
        assert float(row[5]) == pytest.approx(3 * 30 * speed / 30, abs=0.05)


def test_jitter_is_the_distance_from_the_mean():
    row = cells(behaviour.still(Place(), Fake(noise=0.5), 4))[0]
    # Rayleigh: median 1.177 sigma, 95 % 2.448 sigma.
    assert float(row[1]) == pytest.approx(0.59, abs=0.02) and float(row[2]) == pytest.approx(1.22, abs=0.03)
    assert float(row[3]) == pytest.approx(100 * 1.22 / behaviour.SIZES[0], abs=0.2)


def test_a_jump_ends_when_the_points_have_arrived():
    assert [row[1] for row in cells(behaviour.jump(Place(), Fake(late=2)))] == ["2"] * 4


def test_changed_light_is_darker_or_flatter():
    rng = np.random.default_rng(0)
    rgb = np.full((64, 64, 3), 200, np.uint8)
    assert abs(behaviour.relit(rgb, 0.25, 1.0, rng).mean() - 50) < 0.2
    assert abs(behaviour.relit(rgb, 1.0, 0.25, rng).mean() - 146) < 0.2


def test_a_table_replaces_the_previous_one():
    text = "a\n<!-- still made by student.behaviour -->\nold\n<!-- end of still -->\nb"
    assert behaviour.put(text, "still", "new") == text.replace("old", "new")
