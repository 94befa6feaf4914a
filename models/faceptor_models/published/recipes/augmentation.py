"""Shows a crop as each system sees it in training: its own frame, jitter, colours and normalisation.

Pictures are RGB uint8 [side, side, 3] in the aligned frame. Matrices map crop pixels to tensor pixels. In place of the authors'
timm augmentation (RandAugment) it uses `common.augment.colours`, as the student does.
"""

import cv2
import numpy as np

from faceptor_models.common import augment
from faceptor_models.common.geometry import TEMPLATE

from .. import official, preprocess
from ..groups import GREY_MEAN_STD, Group, arcface, celeba_hq, scaled
from .crops import NO_PIXEL, PARSING_TABLE

# Middle and side of a detector's box in the aligned frame, in units of its side.
FACE_BOX = (0.5, 0.46, 0.66)


def small(size):
    """Returns the group of the 112 px tasks: the ArcFace crop, mean and std 0.5."""
    return Group("face112", size, (127.5,) * 3, (127.5,) * 3, [], template=arcface(), border="replicate")


def clip(name, size, template=None):
    return Group(name, size, scaled(official.CLIP_MEAN), scaled(official.CLIP_STD), [], template=template)


def bgr(size):
    """Returns DML-CSR's group: BGR with the statistics of RGB."""
    return Group("bgr", size, scaled(official.IMAGENET_MEAN), scaled(official.IMAGENET_STD), [], colour="bgr", template=celeba_hq())


def grey(size):
    mean, std = GREY_MEAN_STD
    return Group("grey", size, (mean,), (std,), [], colour="grey", border="replicate")


def frame(group, side):
    """Maps crop pixels to tensor pixels, both pictures of the aligned frame."""
    return preprocess.to_keypoints(group, TEMPLATE * side)


def turned(size, scale=1.0, angle=0.0, shift=(0.0, 0.0)):
    """Scales, turns (radians) and shifts (pixels) about the tensor's middle."""
    middle = (size - 1) / 2
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, middle - c * middle + s * middle + shift[0]], [s, c, middle - s * middle - c * middle + shift[1]], [0, 0, 1]])


def mirror(size):
    return np.array([[-1.0, 0, size - 1], [0, 1, 0], [0, 0, 1]])


def labels_through(mask, side, matrix, size):
    """Returns the mask's classes [size, size] by the nearest pixel, NO_PIXEL outside the photo."""
    scale = np.diag([mask.shape[0] / side, mask.shape[0] / side, 1.0])
    grid = np.stack(np.meshgrid(np.arange(size, dtype=np.float64), np.arange(size, dtype=np.float64)), -1)
    places = preprocess.apply(scale @ np.linalg.inv(matrix), grid).astype(np.float32)
    return cv2.remap(mask, places[..., 0], places[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=NO_PIXEL)


def value_view(group, picture, rng=None, plain=False):
    """Returns a crop for the tasks at 112 [3, size, size]; a `plain` one (recognition) is mirrored at most."""
    matrix = frame(group, picture.shape[0])
    if rng is None:
        return preprocess.view(group, picture, matrix)
    if rng.random() < 0.5:
        matrix = mirror(group.size) @ matrix
    seen = preprocess.sampled(group, picture, matrix)
    if not plain:
        seen = np.clip(augment.colours(rng, seen), 0, 255)
    tensor = preprocess.normalised(group, seen)
    if not plain and rng.random() < 0.25:
        erase(rng, tensor)
    return tensor


def erase(rng, tensor):
    """Erases a rectangle of 2 to 33 % of the area with noise."""
    size = tensor.shape[1]
    area, ratio = rng.uniform(0.02, 0.33) * size * size, np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
    h, w = (int(np.clip(round(v), 1, size - 1)) for v in (np.sqrt(area * ratio), np.sqrt(area / ratio)))
    top, left = rng.integers(0, size - h), rng.integers(0, size - w)
    tensor[:, top : top + h, left : left + w] = rng.normal(size=(tensor.shape[0], h, w))


def align_view(group, picture, points, rng=None, scale_mu=0.8):
    """Returns (tensor, points [n, 2] in 0..1): a box about the points, scaled by `scale_mu`; jittered, occluded, mixed with noise."""
    side, size = picture.shape[0], group.size
    pixels = points * side
    low, high = pixels.min(0), pixels.max(0)
    half, middle = max(np.ceil(high) - np.floor(low)) / 2, (low + high) / 2
    inner = preprocess.to_box(group, (*(middle - half), *(middle + half)))
    about = turned(size, scale_mu)
    if rng is not None:
        about = turned(size, scale_mu + rng.uniform(-0.1, 0.1), rng.uniform(-0.174, 0.174), rng.uniform(-0.05, 0.05, 2) * size)
    matrix = about @ inner
    seen = preprocess.sampled(group, picture, matrix)
    if rng is not None:
        seen = photo(rng, noise(rng, occluded(rng, seen)))
    return preprocess.normalised(group, seen), ((preprocess.apply(matrix, pixels) + 0.5) / size).astype(np.float32)


def parsing_view(group, picture, mask, rng=None):
    """Returns (tensor, classes [size, size] in Faceptor's order): CelebA-HQ's crop, shifted, turned and scaled a little."""
    side, size = picture.shape[0], group.size
    matrix = frame(group, side)
    if rng is not None:
        matrix = turned(size, rng.normal(1, 0.1), rng.normal(0, 0.314), rng.uniform(-0.01, 0.01, 2) * size) @ matrix
    seen = preprocess.sampled(group, picture, matrix)
    if rng is not None:
        seen = photo(rng, seen)
    return preprocess.normalised(group, seen), PARSING_TABLE[labels_through(mask, side, matrix, size)]


def occluded(rng, seen):
    """Draws a black box somewhere, half of the time."""
    if rng.random() < 0.5:
        size = seen.shape[0]
        h, w = (int(v) for v in rng.uniform(0.1, 0.4, 2) * size)
        top, left = rng.integers(0, size - h), rng.integers(0, size - w)
        seen[top : top + h, left : left + w] = 0
    return seen


def noise(rng, seen):
    if rng.random() < 0.5:
        alpha = rng.uniform(0, 0.5)
        seen = (1 - alpha) * seen + alpha * rng.uniform(0, 255, seen.shape).astype(np.float32)
    return seen


def photo(rng, seen):
    """Makes one picture in ten grey, applies a gamma of one half, one or two, and a box blur of up to a hundredth of the side."""
    if rng.random() < 0.1:
        seen = np.repeat((seen @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, 2)
    power = (0.5, 1.0, 2.0)[rng.integers(3)]
    seen = 255 * np.clip(seen / 255, 0, 1) ** power
    width = int(seen.shape[0] * rng.uniform(0, 0.01))
    return cv2.blur(seen, (width, width)) if width > 1 else seen


def edge_view(group, picture, mask, rng=None):
    """Returns (BGR tensor, classes [size, size] in CelebAMask's own order) for DML-CSR: scaled and turned, never mirrored.

    The random factor scales the side of the box that is cut out, so the face shrinks with it: by 0.8 to 1.33.
    """
    side, size = picture.shape[0], group.size
    matrix = frame(group, side)
    if rng is not None:
        box = 1 + np.clip(rng.normal() * 0.25, -0.25, 0.25)
        angle = np.clip(rng.normal() * 30, -60, 60) if rng.random() < 0.6 else 0.0
        matrix = turned(size, 1 / box, np.radians(angle)) @ matrix
    return preprocess.view(group, picture, matrix), labels_through(mask, side, matrix, size)


def grey_view(group, picture, keypoints, rng=None):
    """Returns (grey tensor, coordinates x1..x5 y1..y5 in 0..1, mirrored or not) for TCDCN: the detector's box, moved about."""
    side, size = picture.shape[0], group.size
    x, y, width = (v * side for v in FACE_BOX)
    matrix = preprocess.to_box(group, (x - width / 2, y - width / 2, x + width / 2, y + width / 2))
    flipped = False
    if rng is not None:
        matrix = turned(size, rng.uniform(0.9, 1.1), rng.uniform(-0.26, 0.26), rng.uniform(-0.05, 0.05, 2) * size) @ matrix
        flipped = rng.random() < 0.5
    points = keypoints * side
    if flipped:
        matrix, points = mirror(size) @ matrix, points[[1, 0, 2, 4, 3]]
    tensor = preprocess.view(group, picture, matrix)
    places = (preprocess.apply(matrix, points) + 0.5) / size
    return tensor, np.concatenate([places[:, 0], places[:, 1]]).astype(np.float32), flipped
