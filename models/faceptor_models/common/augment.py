"""Makes one training sample: a jittered alignment, a border of any look, and the colours of a cheap camera."""

import cv2
import numpy as np

from . import geometry
from .area_sampling import view
from .arrays import Array
from .geometry import apply, frame_to_network, network_grid
from .labels import LANDMARK_FLIP, PARSING_FLIP

ROTATION_DEG, SCALE, SHIFT = 25.0, 0.12, 0.06
GREY = np.array([0.299, 0.587, 0.114], np.float32)


class Jitter:
    """Draws a similarity of the frame about the middle of the face, in frame units, mirrored half of the time."""

    def __init__(self, rng: np.random.Generator, light: bool = False) -> None:
        # Most samples are aligned about as well as a detector does it, the others up to what tracking must survive.
        wide = rng.random() < 0.4 and not light
        angle = rng.uniform(-ROTATION_DEG, ROTATION_DEG) if wide else rng.normal(0.0, 5.0)
        scale = np.exp(rng.uniform(-SCALE, SCALE) if wide else rng.normal(0.0, 0.04))
        shift = rng.uniform(-SHIFT, SHIFT, 2) if wide else rng.normal(0.0, 0.015, 2)
        self.flip = rng.random() < 0.5
        c, s = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
        linear = np.array([[c, -s], [s, c]])
        middle = np.array([0.5, 0.5])
        # The jitter maps the network's frame to the photo's frame.
        if self.flip:
            linear = linear @ np.diag([-1.0, 1.0])
        self.to_photo = np.concatenate([linear, (middle + shift - linear @ middle)[:, None]], 1)
        inverse = np.linalg.inv(linear)
        self.to_network = np.concatenate([inverse, (-inverse @ self.to_photo[:, 2])[:, None]], 1)


_grids: dict[tuple[int, float], Array] = {}


def grid(size: int) -> Array:
    """Returns the frame coordinates [size * size, 2] of the network's pixels, from a cache."""
    key = size, geometry.WARP_LINEAR
    if key not in _grids:
        _grids[key] = network_grid(size).reshape(-1, 2)
    return _grids[key]


def light_colours(rng: np.random.Generator, image: Array) -> Array:
    """Changes what differs between two good photos: exposure, contrast, tint, and sometimes grey. Float image 0..255."""
    if rng.random() < 0.1:
        image = np.repeat(image @ GREY[:, None], 3, axis=2)
    mean = image.mean()
    return ((image - mean) * rng.uniform(0.85, 1.15) + mean + rng.uniform(-15, 15)) * rng.uniform(0.95, 1.05, 3).astype(np.float32)


def border_look(rng: np.random.Generator, side: int, light: bool = False) -> Array | None:
    """Draws what the area outside the photo shows: None keeps the nearest pixels, otherwise an image or a colour."""
    kind = rng.random() * (0.75 if light else 1.0)
    if kind < 0.4:
        return np.zeros(3, np.float32)
    if kind < 0.75:
        return None
    if kind < 0.9:
        return rng.uniform(0, 255, 3).astype(np.float32)
    coarse = rng.uniform(0, 255, (rng.integers(2, 12), rng.integers(2, 12), 3)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)


def tight_crop_mask(rng: np.random.Generator, size: int) -> Array:
    """Draws a border as tight source crops have it: everything outside a turned rectangle about the face."""
    middle = size * (0.5 + rng.uniform(-0.06, 0.06, 2))
    extent = size * rng.uniform(0.62, 0.95, 2)
    box = cv2.boxPoints(((float(middle[0]), float(middle[1])), (float(extent[0]), float(extent[1])), float(rng.uniform(-25, 25))))
    mask = np.full((size, size), 255, np.uint8)
    cv2.fillConvexPoly(mask, box.astype(np.int32), 0)
    return mask


def colours(rng: np.random.Generator, image: Array) -> Array:
    """Changes brightness, contrast and tint, and adds grey, blur, low resolution, noise or an occluding patch. Float image
    0..255.
    """
    size = image.shape[0]
    if rng.random() < 0.25:
        image = np.repeat(image @ GREY[:, None], 3, axis=2)
    elif rng.random() < 0.5:
        image = image * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.7:
        mean = image.mean()
        image = (image - mean) * rng.uniform(0.65, 1.35) + mean + rng.uniform(-35, 35)
    if rng.random() < 0.25:
        low = int(size * rng.uniform(0.25, 0.8))
        image = cv2.resize(cv2.resize(image, (low, low), interpolation=cv2.INTER_AREA), (size, size), interpolation=cv2.INTER_LINEAR)
    elif rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.15:
        image = image + rng.normal(0, rng.uniform(2, 12), image.shape).astype(np.float32)
    if rng.random() < 0.15:
        h, w = (rng.uniform(0.08, 0.35, 2) * size).astype(int)
        y, x = rng.integers(0, size - h), rng.integers(0, size - w)
        image[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    return image


def transplant(rng: np.random.Generator, rgbm: Array, mask: Array, donor: Array, donor_mask: Array, label: int) -> tuple[Array, Array]:
    """Puts a thing of class `label` (hat, glasses, earrings, necklace) of one aligned crop onto another; returns (crop, mask).

    Crops are aligned, so things keep their places up to a small jitter. Half of the time the donor is mirrored, and the thing's
    colours are changed, because few things of each class are seen often.
    """
    things, pixels = donor_mask == label, donor[..., :3]
    if rng.random() < 0.5:
        things, pixels = things[:, ::-1], pixels[:, ::-1]
    side, height = rgbm.shape[0], mask.shape[0]
    turn, scale = rng.normal(0.0, 3.0), np.exp(rng.normal(0.0, 0.05))
    move = cv2.getRotationMatrix2D((side / 2, side / 2), turn, scale)
    move[:, 2] += rng.normal(0.0, 0.015 * side, 2)  # type: ignore[arg-type]
    pixels = cv2.warpAffine(np.ascontiguousarray(pixels), move, (side, side), borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    share = things.astype(np.float32)
    if height != side:
        share = cv2.resize(share, (side, side), interpolation=cv2.INTER_LINEAR)
    share = cv2.GaussianBlur(cv2.warpAffine(share, move, (side, side)), (0, 0), 0.7)
    gain = rng.uniform(0.5, 1.5) * rng.uniform(0.8, 1.25, 3)
    if rng.random() < 0.3:
        pixels = pixels[..., rng.permutation(3)]
    if rng.random() < 0.15:
        pixels = 255.0 - pixels
    pixels = np.clip(pixels * gain + rng.uniform(-30, 30), 0, 255)
    crop, labels = rgbm.copy(), mask.copy()
    crop[..., :3] = rgbm[..., :3] * (1 - share[..., None]) + pixels * share[..., None]
    where = share if height == side else cv2.resize(share, (height, height), interpolation=cv2.INTER_AREA)
    labels[(where > 0.5) & (mask != 255)] = label
    return crop, labels


def sample(
    rng: np.random.Generator, rgbm: Array, size: int, mask: Array | None = None, points: Array | None = None, light: bool = False
) -> tuple[Array, Array | None, Array | None, bool]:
    """Makes of one crop [side, side, 4] (image uint8 [3, size, size], label map or None, network points or None, mirrored).

    A `light` sample is a good photo, aligned as a detector does it. The others look like a cheap camera's picture of a moving
    face.
    """
    side = rgbm.shape[0]
    jitter = Jitter(rng, light)
    where = (apply(jitter.to_photo, grid(size)) * side).astype(np.float32).reshape(size, size, 2)
    warped = view(rgbm, jitter.to_photo * side, size)
    image, border = warped[..., :3], warped[..., 3].astype(np.uint8)
    outside = np.any((where < -0.5) | (where > side - 0.5), axis=2)
    border = np.maximum(border, outside.astype(np.uint8) * 255)
    if rng.random() < 0.3 and not light:
        border = np.maximum(border, tight_crop_mask(rng, size))
    image = light_colours(rng, image) if light else colours(rng, image)
    look = border_look(rng, size, light)
    if look is not None and border.any():
        share = border[..., None].astype(np.float32) / 255.0
        image = image * (1 - share) + look * share
    image = np.clip(image, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    labels = None
    if mask is not None:
        scale = mask.shape[0] / side
        labels = cv2.remap(mask, where * scale, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)  # type: ignore[call-overload]
        labels = labels.copy()
        labels[border > 127] = 255
        if jitter.flip:
            table = np.arange(256, dtype=np.uint8)
            table[: len(PARSING_FLIP)] = PARSING_FLIP
            labels = table[labels]
    if points is not None:
        points = frame_to_network(apply(jitter.to_network, points))
        if jitter.flip:
            points = points[LANDMARK_FLIP]
    return image, labels, points, jitter.flip
