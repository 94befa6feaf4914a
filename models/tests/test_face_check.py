"""Tests the fit of the face check, the drawn pictures and the measures of doubts on synthetic data, without the program."""

import numpy as np
import pytest

from faceptor_models.common import geometry
from faceptor_models.student import doubts, face_check, faceless


def test_fit_separates_what_can_be_separated_and_keeps_the_held_out_faces():
    rng = np.random.default_rng(1)
    faces, others = rng.normal(0, 1, (300, 6)), rng.normal(0, 1, (400, 6))
    faces[:, 2] += 4
    weights, bias = face_check.fit(faces[:200], others, faces[200:])
    says = [rows @ weights + bias > 0 for rows in (faces[:200], others, faces[200:])]
    assert says[0].mean() > 0.97 and says[1].mean() < 0.1
    assert says[2].mean() >= 1 - face_check.DOUBTED - 0.011


def test_a_placement_is_the_aligned_frame_and_jitter_stays_near():
    matrix = np.array([[90.0, -20.0, 30.0], [20.0, 90.0, 10.0]])
    placed = face_check.placed(geometry.apply(matrix, geometry.TEMPLATE))
    assert np.allclose(placed, matrix, atol=1e-6)
    assert np.allclose(face_check.jittered(np.random.default_rng(1), matrix, 0.0), matrix)
    middles = [geometry.apply(face_check.jittered(np.random.default_rng(n), matrix), [0.5, 0.5]) for n in range(50)]
    assert 0.2 < np.std(middles, axis=0).max() < 6


def test_drawings_are_of_every_kind_and_the_same_for_a_seed():
    first, again, other = (list(faceless.draw(25, seed)) for seed in (1, 1, 2))
    assert {kind for kind, _ in first} == {kind.__name__ for kind in faceless.KINDS}
    assert all(p.dtype == np.uint8 and p.ndim == 3 and min(p.shape[:2]) >= 60 for _, p in first)
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, again))
    assert not any(a.shape == b.shape and np.array_equal(a, b) for (_, a), (_, b) in zip(first[:10], other[:10]))


@pytest.mark.parametrize("degrees", [0, 45, 90])
def test_motion_keeps_the_mean_and_smears_along_its_direction(degrees):
    dot = np.zeros((41, 41, 3), np.float32)
    dot[20, 20] = 1000
    seen = doubts.motion(dot, 9, degrees)[..., 0]
    rows, columns = np.nonzero(seen > 20)
    assert seen.sum() == pytest.approx(1000, rel=1e-3)
    extent = {0: (1, 9), 45: (7, 7), 90: (9, 1)}[degrees]
    assert abs(np.ptp(rows) + 1 - extent[0]) <= 1 and abs(np.ptp(columns) + 1 - extent[1]) <= 1


def test_cuts_take_their_share_of_the_face():
    points = np.stack([np.linspace(200, 300, 68), np.linspace(150, 290, 68)], 1)
    scene = {"faces": [{"box": [200, 150, 100, 140]}], "landmarks68": points.tolist()}
    picture = np.zeros((480, 640, 3), np.uint8)
    made = {what: (seen.shape, shift) for what, seen, shift in doubts.cuts(scene, picture)}
    assert len(made) == 1 + 4 * 6
    (height, width, _), shift = made["left 20 %"]
    assert shift[0] == 220 and width == made["nothing"][0][1] - (220 - made["nothing"][1][0])
    assert made["bottom 50 %"][0][0] + made["bottom 50 %"][1][1] == 220 and height == made["nothing"][0][0]
