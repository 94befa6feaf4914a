"""Tests hats behind the hair, drawn onto crops without one."""

import numpy as np
import pytest

from faceptor_models.common.labels import PARSING
from faceptor_models.student import headwear
from faceptor_models.student.headwear import BACKGROUND, CLOTH, HAIR, HAT, UNKNOWN

SKIN = PARSING.index("skin")
GREY, RED = np.array([128, 128, 128, 0], np.uint8), np.array([200, 10, 10, 0], np.uint8)


def portrait(side=128):
    """Returns a grey crop and its mask: hair about a face, a border without a label."""
    crop, mask = np.tile(GREY, (side, side, 1)), np.full((side, side), BACKGROUND, np.uint8)
    mask[side // 8 : side * 3 // 4, side // 4 : side * 3 // 4] = HAIR
    mask[side // 3 : side * 3 // 4, side * 3 // 8 : side * 5 // 8] = SKIN
    mask[side * 3 // 4 :] = CLOTH
    mask[:, : side // 16] = UNKNOWN
    return crop, mask


def donor(side=96, label=CLOTH):
    crop, mask = np.tile(GREY, (side, side, 1)), np.zeros((side, side), np.uint8)
    crop[side // 2 :], mask[side // 2 :] = RED, label
    return crop, mask


@pytest.mark.parametrize("label", [CLOTH, HAT])
def test_a_hat_has_the_donors_colour_where_it_is_labelled_and_spares_face_and_border(label):
    crop, mask = portrait()
    changed = 0
    for seed in range(30):
        worn, labelled = headwear.put_on(np.random.default_rng(seed), crop, mask, *donor(label=label))
        hat = labelled == HAT
        if not hat.any():
            continue
        changed += 1
        assert set(np.unique(mask[hat])) <= {BACKGROUND, HAIR} and (labelled[~hat] == mask[~hat]).all()
        redder = worn[..., 0].astype(int) - worn[..., 1] > 25
        assert redder[hat].mean() > 0.8 and redder[~hat].mean() < 0.1
        assert (labelled == HAIR).sum() > 0.5 * (mask == HAIR).sum(), "hair hangs out of it"
    assert changed > 20
    assert (crop == GREY).all() and not (mask == HAT).any(), "the packed crops stay as they are"


def test_no_hat_is_drawn_on_a_hat_on_a_bald_head_or_where_it_would_be_invisible():
    crop, mask = portrait()
    rng = np.random.default_rng(0)
    bald, hatted = np.where(mask == HAIR, SKIN, mask), mask.copy()
    hatted[:4] = HAT
    for m in (bald, hatted):
        assert headwear.put_on(rng, crop, m, *donor())[1] is m
    nothing = np.zeros((96, 96), np.uint8)
    assert headwear.put_on(rng, crop, mask, donor()[0], nothing)[1] is mask
    black, dark = np.zeros_like(crop), np.zeros_like(donor()[0])
    unseen = [(headwear.put_on(np.random.default_rng(s), black, mask, dark, donor()[1])[1] == HAT).any() for s in range(20)]
    assert sum(unseen) <= 6, "black on black: at most where the shade made it brighter"


def test_masks_and_crops_may_differ_in_size():
    crop, mask = portrait(128)
    small = mask[::2, ::2]
    changed = 0
    for seed in range(10):
        worn, labelled = headwear.put_on(np.random.default_rng(seed), crop, small, *donor(64))
        assert worn.shape == crop.shape and labelled.shape == small.shape
        hat = (labelled == HAT).repeat(2, 0).repeat(2, 1)
        if hat.any():
            changed += 1
            redder = worn[..., 0].astype(int) - worn[..., 1] > 25
            assert redder[hat].mean() > 0.7 and redder[~hat].mean() < 0.1, "the label lies where the hat is"
    assert changed > 3
