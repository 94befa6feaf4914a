"""Tests the network's view of a photo against the runtime's definition."""

import numpy as np
import pytest

from faceptor_models.common import augment, geometry
from faceptor_models.common.area_sampling import counts, view
from faceptor_models.common.geometry import apply, frame_to_network, network_grid, network_to_frame

TURNED = np.array([[90.0, -20.0, 60.0], [20.0, 90.0, 40.0]])


def ramp(side, unit=1):
    """Returns red that grows by one every `unit` columns, and green that grows every `unit` rows."""
    y, x = np.mgrid[:side, :side] // unit
    return np.stack([x, y, np.full_like(x, 50)], -1).astype(np.uint8)


def test_each_pixel_sees_the_place_of_the_warp():
    seen = view(ramp(256), TURNED, 96)
    places = apply(TURNED, network_grid(96))
    inside = (places > 0).all(-1) & (places < 255).all(-1)
    assert inside.sum() > 8000
    assert np.abs(seen[..., :2] - places)[inside].max() < 0.6 and (seen[..., 2] == 50).all()


def test_another_warp_applies_everywhere():
    """A trial's uniform grid applies to its pixels, its points and a training sample."""
    shipped, fine = geometry.WARP_LINEAR, augment.grid(8)
    points, crop = np.array([[0.3, 0.3], [0.7, 0.2]]), np.pad(ramp(96), ((0, 0), (0, 0), (0, 1)))
    try:
        geometry.look_through(1.0)
        even = (np.arange(8) + 0.5) / 8
        assert np.allclose(augment.grid(8).reshape(8, 8, 2)[3], np.stack([even, np.full(8, even[3])], -1))
        assert np.allclose(frame_to_network(points), points) and np.allclose(network_to_frame(points), points)
        seen = view(ramp(256), np.array([[256.0, 0, 0], [0, 256.0, 0]]), 64)
        assert np.abs(np.diff(seen[32, :, 0]) - 4).max() < 0.6, "the same distance everywhere"
        line = np.stack([np.linspace(0.3, 0.7, 68), np.full(68, 0.3)], 1)
        image, _, moved, _ = augment.sample(np.random.default_rng(3), crop, 32, points=line, light=True)
        assert image.shape == (3, 32, 32) and np.linalg.norm(np.ptp(moved, axis=0)) == pytest.approx(0.4, abs=0.06)
    finally:
        geometry.look_through(shipped)
    assert np.array_equal(augment.grid(8), fine) and geometry.WARP_LINEAR == 0.5
    assert np.abs(frame_to_network(points) - points).max() > 0.05


@pytest.mark.parametrize("side", [160, 256, 1024])
def test_a_fine_pattern_does_not_alias(side):
    y, x = np.mgrid[:side, :side]
    stripes = ((x + y) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    seen = view(stripes, np.array([[side - 1.0, 0, 0.3], [0, side - 1.0, 0.6]]), 96)
    covered = side * 2 / 96
    rim, middle = np.abs(seen[:4, :4] - 127.5).mean(), np.abs(seen[46:50, 46:50] - 127.5).mean()
    assert rim < 40 and (middle < 40 or side < 300), (rim, middle, covered)


def test_a_halved_large_photo_keeps_its_place():
    to_photo = np.array([[1500.0, -300.0, 350.0], [300.0, 1500.0, 60.0]])
    seen = view(ramp(2000, 8), to_photo, 96)
    places = (apply(to_photo, network_grid(96)) - 3.5) / 8
    inside = (places > 1).all(-1) & (places < 248).all(-1)
    assert np.abs(seen[..., :2] - places)[inside].max() < 1.1


def test_the_number_of_samples_follows_the_area_of_a_pixel():
    # One sample for every two covered pixels: half as many photo pixels in the middle, twice as many at the rim.
    assert counts(96, 256)[[0, 48]].tolist() == [3, 1] and counts(96, 96).max() == 1 and counts(96, 5000).max() == 4


def test_the_edge_is_repeated_beyond_the_photo():
    seen = view(ramp(10), np.array([[30.0, 0, -10], [0, 30.0, -10]]), 8)
    assert seen[0, 0, 0] == 0 and seen[0, 7, 0] == 9 and seen[7, 0, 1] == 9
