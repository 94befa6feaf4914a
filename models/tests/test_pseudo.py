"""Tests masks by the network itself for crops that have none."""

import numpy as np
import pytest

from faceptor_models.common.augment import Jitter
from faceptor_models.common.geometry import apply, frame_to_network
from faceptor_models.common.labels import ATTRIBUTES, HINTS, PARSING
from faceptor_models.student.pseudo import MASK_PX, UNKNOWN, chosen, corrected, mask_of, to_crop_frame, with_annotations

HAIR, HAT, GLASSES = (PARSING.index(c) for c in ("hair", "hat", "eye_g"))
WEARS = ATTRIBUTES.index("Wearing_Hat")


def likely(**parts):
    """Returns probabilities [MASK_PX, MASK_PX, 19]: background, and `parts` in the upper third."""
    p = np.zeros((MASK_PX, MASK_PX, len(PARSING)))
    p[..., 0] = 1.0
    p[: MASK_PX // 3] = 0.0
    for name, share in parts.items():
        p[: MASK_PX // 3, :, PARSING.index(name)] = share
    return p


def says(value):
    attributes = np.zeros(len(ATTRIBUTES))
    attributes[WEARS] = value
    return attributes


@pytest.mark.parametrize("said, label", [(0, HAIR), (1, HAT), (-1, HAIR)])
def test_an_annotated_hat_is_drawn_where_it_is_likeliest(said, label):
    mask = mask_of(likely(hair=0.7, hat=0.3), says(said), np.zeros((64, 64), np.uint8), 0.5)
    assert (mask[: MASK_PX // 3] == label).all() and (mask[MASK_PX // 3 :] == 0).all()


def test_a_hat_that_the_attributes_deny_becomes_hair():
    mask = mask_of(likely(hair=0.2, hat=0.8), says(-1), np.zeros((64, 64), np.uint8), 0.5)
    assert (mask[: MASK_PX // 3] == HAIR).all()


def test_a_denied_hat_that_the_network_is_sure_of_leaves_its_place_unknown():
    mask = mask_of(likely(hair=0.02, hat=0.98), says(-1), np.zeros((64, 64), np.uint8), 0.5)
    assert (mask[: MASK_PX // 3] == UNKNOWN).all() and (mask[MASK_PX // 3 :] == 0).all()


def test_a_few_sure_pixels_are_no_overlooked_hat():
    p = likely(hair=0.8, hat=0.2)
    p[:8, :8, HAIR], p[:8, :8, HAT] = 0.02, 0.98
    assert (mask_of(p, says(-1), np.zeros((64, 64), np.uint8), 0.5)[: MASK_PX // 3] == HAIR).all()


def test_a_hat_that_cannot_be_found_leaves_its_place_unknown():
    p, doubtful = corrected(likely(hair=0.999, hat=0.001), says(1))
    assert doubtful == [HAT] and p.argmax(-1)[0, 0] == HAIR


def test_unsure_pixels_and_pixels_outside_the_photo_are_unknown():
    border = np.zeros((64, 64), np.uint8)
    border[:, 48:] = 255
    mask = mask_of(likely(hair=0.4, hat=0.35, skin=0.25), says(0), border, 0.5)
    assert (mask[: MASK_PX // 3] == UNKNOWN).all() and (mask[:, -MASK_PX // 4 + 2 :] == UNKNOWN).all() and mask[-1, 0] == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_view_is_mapped_back_to_its_place_and_sides(seed):
    jitter = Jitter(np.random.default_rng(seed), light=True)
    size, l_eye, r_eye = 96, PARSING.index("l_eye"), PARSING.index("r_eye")
    place = np.array([[0.36, 0.4], [0.61, 0.45]])  # of the right and the left eye on the crop
    seen = np.zeros((len(PARSING), size, size), np.float32)
    for (x, y), label in zip(frame_to_network(apply(jitter.to_network, place)) * size - 0.5, (r_eye, l_eye)):
        label = {l_eye: r_eye, r_eye: l_eye}[label] if jitter.flip else label
        seen[label, round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = 1
    out = to_crop_frame(seen, jitter.to_network, jitter.flip)
    for (x, y), label in zip(place, (r_eye, l_eye)):
        rows, columns = np.nonzero(out[..., label] > 0.5)
        assert abs(columns.mean() / MASK_PX - x) < 0.01 and abs(rows.mean() / MASK_PX - y) < 0.01


def test_crops_with_things_come_first_and_further_attributes_are_read(tmp_path):
    attributes = np.full((50, len(ATTRIBUTES)), -1.0)
    attributes[[3, 30], WEARS] = 1
    rows = chosen(attributes, np.arange(50) != 30, 5, seed=1)
    assert len(rows) == 5 and 3 in rows and 30 not in rows
    said = tmp_path / "said.csv"
    said.write_text("file,attribute,value\na.png,Wearing_Hat,1\nb.png,Wearing_Hat,0\n")
    known, use = with_annotations(said, np.array(["a.png", "b.png", "c.png"]), np.zeros((3, len(ATTRIBUTES))))
    assert known[:, WEARS].tolist() == [1, 0, 0] and use.tolist() == [True, False, True]
    said.write_text("file,attribute,value\nd.png,Wearing_Hat,1\n")
    with pytest.raises(SystemExit, match="d.png"):
        with_annotations(said, np.array(["a.png"]), np.zeros((1, len(ATTRIBUTES))))


def test_every_thing_of_the_hints_can_be_corrected():
    for name, (column, label, _) in HINTS.items():
        assert ATTRIBUTES[column] == name and 0 < label < len(PARSING)
