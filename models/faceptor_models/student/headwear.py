"""Draws hats that hair hangs out of onto training crops without one: berets, hoods and hats worn far back.

A hat of another crop (augment.transplant) covers what lies below it. Most hats of the training masks are of that kind, and a
network that learned from them took every hat with hair in front of it for hair. Here a piece of another crop's clothes lies
behind the hair, or over its upper part, in the shape of a beret or of a hood.
"""

import cv2
import numpy as np

from faceptor_models.common.labels import PARSING, UNKNOWN

BACKGROUND, HAIR, HAT, CLOTH = (PARSING.index(name) for name in ("background", "hair", "hat", "cloth"))
# Least share of the crop that is hair, of a donor that is cloth or hat, and of a hat that shows; least difference of its grey
# levels from the pixels that it covers: a dark hat on a dark background teaches nothing.
LEAST_HAIR, LEAST_STUFF, LEAST_SHOWN, LEAST_CONTRAST = 0.04, 0.02, 0.01, 12.0


def cloth_of(rng, donor, donor_mask, side):
    """Cuts cloth from a donor, float RGB [side, side, 3], or returns None where it shows too little: a piece of cloth, mirrored to tile."""
    label = HAT if (donor_mask == HAT).mean() > LEAST_STUFF else CLOTH
    shown = donor_mask == label
    if shown.mean() < LEAST_STUFF:
        return None
    scale = donor.shape[0] / donor_mask.shape[0]
    ys, xs = np.nonzero(shown)
    for _ in range(8):
        i = rng.integers(len(ys))
        h, w = (rng.uniform(0.06, 0.3, 2) * len(donor_mask)).astype(int)
        piece = shown[ys[i] : ys[i] + h, xs[i] : xs[i] + w]
        if piece.size and piece.mean() > 0.97:
            y0, x0, y1, x1 = (int(v * scale) for v in (ys[i], xs[i], ys[i] + piece.shape[0], xs[i] + piece.shape[1]))
            colours = donor[y0:y1, x0:x1, :3]
            break
    else:
        colours = donor[int(ys[i] * scale), int(xs[i] * scale), :3].reshape(1, 1, 3)
    colours = cv2.resize(colours.astype(np.float32), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return cv2.copyMakeBorder(colours, 0, max(0, side - colours.shape[0]), 0, max(0, side - colours.shape[1]), cv2.BORDER_REFLECT)[:side, :side]


def worn(rng, mask):
    """Returns where a hat behind the hair shows on a label map [h, h], as booleans: outside the head, and on the hair above its lower edge."""
    side = len(mask)
    grid = (np.arange(side) + 0.5) / side
    x, y = grid[None, :], grid[:, None]
    hair, head = mask == HAIR, (mask != BACKGROUND) & (mask != CLOTH) & (mask != UNKNOWN)
    top = np.nonzero(hair.any(1))[0][0] / side
    if rng.random() < 0.3:
        # A hood: all about the head, down to the shoulders.
        wide, high = (int(v) | 1 for v in side * rng.uniform(0.04, 0.25, 2))
        about = cv2.dilate(head.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, high))) > 0
        shape = about & (y < rng.uniform(0.45, 1.0))
        if rng.random() < 0.15:
            shape &= x > rng.uniform(0.3, 0.5)
    else:
        cx, cy = 0.5 + rng.normal(0.0, 0.05), top + rng.uniform(-0.02, 0.16)
        rx, ry, turn = rng.uniform(0.22, 0.42), rng.uniform(0.12, 0.3), np.radians(rng.normal(0.0, 15.0))
        u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        shape = (np.abs(u) / rx) ** 2.4 + (np.abs(v) / ry) ** 2.4 < 1
    # Its front edge on the hair: an arc about the head, often behind all of the hair.
    edge = top + rng.uniform(-0.04, 0.12) + rng.uniform(0.0, 1.2) * (x - 0.5) ** 2
    if rng.random() < 0.5:
        edge = edge + 0.01 * cv2.GaussianBlur(rng.normal(0.0, 1.0, (1, side)), (0, 0), side / 40) * np.sqrt(side / 10)
    return shape & ((mask == BACKGROUND) | (hair & (y < edge)))


def put_on(rng, rgbm, mask, donor, donor_mask):
    """Returns a crop [side, side, 4] and its mask with a hat behind the hair, made of a donor's cloth; unchanged where it does not fit.

    `mask` and `donor_mask` are square label maps of any size.
    """
    if (mask == HAT).any() or (mask == HAIR).mean() < LEAST_HAIR:
        return rgbm, mask
    side = rgbm.shape[0]
    cloth = cloth_of(rng, donor, donor_mask, side)
    shown = worn(rng, mask)
    if cloth is None or shown.mean() < LEAST_SHOWN:
        return rgbm, mask
    thick = cv2.distanceTransform(np.pad(shown, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1] / len(mask)
    share = cv2.GaussianBlur(cv2.resize(shown.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR), (0, 0), rng.uniform(0.5, 1.2))
    folds = cv2.resize(rng.uniform(0.7, 1.2, (5, 5)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    dark = rng.uniform(0.5, 1.0)
    rim = dark + (1 - dark) * np.clip(thick / 0.06, 0, 1)
    shade = folds * cv2.resize(rim.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    gain = rng.uniform(0.4, 1.3) * rng.uniform(0.85, 1.2, 3)
    pixels = np.clip(cloth * gain * shade[..., None] + rng.uniform(-15, 15), 0, 255)
    if (np.abs(pixels - rgbm[..., :3]).mean(2) * share).sum() < LEAST_CONTRAST * share.sum():
        return rgbm, mask
    crop, labels = rgbm.copy(), mask.copy()
    crop[..., :3] = rgbm[..., :3] * (1 - share[..., None]) + pixels * share[..., None]
    labels[shown] = HAT
    return crop, labels
