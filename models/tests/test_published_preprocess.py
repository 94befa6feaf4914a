"""Tests preprocessing groups: the official transforms where the reference has them, else points and classes that are mapped back."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceptor_models.published import groups, official, preprocess
from faceptor_models.published.groups import Group

SHARED = Path(os.environ.get("FACEPTOR_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
LARGE = {"size": 512, "mean": groups.scaled(official.CLIP_MEAN), "std": groups.scaled(official.CLIP_STD), "tasks": []}
LAPA = Group("lapa", template=groups.lapa(), warp="tanh", **LARGE)


@pytest.fixture(scope="module")
def held():
    path = SHARED / "spec/reference/preproc/preproc.npz"
    if not path.is_file():
        pytest.skip(f"preproc.npz is not in FACEPTOR_SHARED ({SHARED})")
    return dict(np.load(path))


@pytest.mark.parametrize(("name", "scale"), [("300w_scale0.8", 0.8), ("aflw_scale1.0", 1.0)])
def test_boxes_are_cut_like_in_the_official_code(held, name, scale):
    group = Group("box", box_scale=scale, **LARGE)
    y1, x1, y2, x2 = held[f"{name}.box_y1x1y2x2"]
    matrix = preprocess.to_box(group, (x1, y1, x2, y2), square=False)
    np.testing.assert_allclose(matrix, held[f"{name}.crop_matrix"], atol=1e-4)
    seen = preprocess.view(group, held["source_image_rgb"], matrix)
    np.testing.assert_allclose(seen[:, ::2, ::2], held[f"{name}.tensor_sub2"], atol=1e-4)
    points = (held[f"{name}.pred_warped"] + 0.5) / 512
    np.testing.assert_allclose(preprocess.points_back(group, points, matrix), held[f"{name}.pred_original"], atol=1e-3)


def test_lapa_is_aligned_and_warped_as_in_the_official_code(held):
    matrix = preprocess.to_keypoints(LAPA, held["lapa.five_points"])
    np.testing.assert_allclose(matrix, held["lapa.align_matrix"], atol=1e-4)
    seen = preprocess.view(LAPA, held["source_image_rgb"], matrix)
    np.testing.assert_allclose(seen[:, ::2, ::2], held["lapa.tensor_sub2"], atol=1e-3)
    classes = preprocess.classes_back(LAPA, held["lapa.logits"].astype(np.float32), matrix, 300, 400)
    assert (classes != held["lapa.pred"]).mean() < 1e-3


def test_celebamask_photos_are_resized_to_the_crop(held):
    group = Group("celebam", template=groups.celeba_hq(), **LARGE)
    resized = cv2.resize(held["source_image_rgb"], (512, 512), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(preprocess.view(group, resized, np.eye(3))[:, ::2, ::2], held["celebam.tensor_sub2"], atol=1e-5)
    # The crop of a whole picture is the same except for its border.
    seen = preprocess.view(group, held["source_image_rgb"], preprocess.whole(group, held["source_image_rgb"]))
    np.testing.assert_allclose(seen[:, 2:-2:2, 2:-2:2], held["celebam.tensor_sub2"][:, 1:-1, 1:-1], atol=0.02)


def test_the_tanh_warp_is_inverted_inside_its_clip_and_keeps_the_middle():
    pixels = np.linspace(0.4, 511.6, 301)
    there = preprocess.widen(pixels, LAPA)
    np.testing.assert_allclose(preprocess.narrow(there, LAPA), pixels, atol=1e-9)
    assert np.array_equal(preprocess.widen(np.array([256.0, 280.0]), LAPA), [256.0, 280.0]) and there[0] < -200


def test_keypoints_fall_on_the_template_and_points_are_mapped_back():
    rng = np.random.default_rng(0)
    turn = np.array([[0.9, -0.3], [0.3, 0.9]]) * 120
    for template in (groups.arcface(), groups.celeba_hq(), groups.lapa()):
        group = Group("g", template=template, **LARGE)
        keypoints = np.asarray(template) @ turn.T + [40, 30]
        matrix = preprocess.to_keypoints(group, keypoints)
        np.testing.assert_allclose(preprocess.apply(matrix, keypoints), np.asarray(template) * 512 - 0.5, atol=1e-6)
        points = rng.uniform(0.1, 0.9, (7, 2))
        back = preprocess.points_back(group, points, matrix)
        np.testing.assert_allclose((preprocess.apply(matrix, back) + 0.5) / 512, points, atol=1e-9)


def test_the_celeba_hq_rule_equals_values_computed_by_hand():
    """The half side is 1.8 eye-to-mouth distances here; the crop's centre lies a tenth of that distance below the eyes."""
    template = np.asarray(groups.celeba_hq())
    eyes, mouth = template[:2].mean(0), template[3:].mean(0)
    drop = mouth[1] - eyes[1]
    assert drop * 3.6 == pytest.approx(1.0, abs=1e-6) and eyes[1] + 0.1 * drop == pytest.approx(0.5, abs=1e-6)


def test_colours_and_borders_follow_the_group():
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[...] = [200, 100, 50]
    shift = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
    common = {"size": 20, "tasks": [], "mean": (0.0,), "std": (1.0,)}
    grey = preprocess.view(Group("g", colour="grey", border="replicate", **common), picture, shift)
    assert grey.shape == (1, 20, 20) and np.allclose(grey, 0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    three = common | {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    bgr = preprocess.view(Group("g", colour="bgr", border="black", **three), picture, shift)
    assert bgr[:, 5, 15].tolist() == [50, 100, 200] and not bgr[:, 5, 5].any()
