"""Samples a face as the runtime does: each network pixel is the mean over the area that it covers (the Rust crate's warp).

Single points, one for each network pixel, alias at the rim of the fovea, where a pixel covers five pixels of a 256 px crop
along each axis. A network trained on points loses half a percentage point of FairFace when the runtime gives it means.
"""

from functools import lru_cache

import cv2
import numpy as np

from . import geometry
from .arrays import Array
from .geometry import pixel_centres, warp

# Limits the samples along one axis of a network pixel, and the photo pixels under a network pixel in the middle of the view,
# above which the photo is first halved.
MAX_SAMPLES, MAX_STEP = 4, 2.0


@lru_cache(maxsize=64)
def spans(size: int, counts: tuple[int, ...], a: float) -> tuple[Array, Array]:
    """Returns (frame coordinates of all samples along one axis through a warp of `a`, first sample of each network pixel)."""
    inside = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    along = (np.repeat(np.arange(size), counts) + inside) / size
    return (warp(2 * along - 1) + 1) / 2, np.concatenate([[0], np.cumsum(counts)[:-1]])


def counts(size: int, scale: float) -> Array:
    """Returns the number of samples along one axis for each network pixel: one for every two photo pixels that it covers.

    `scale` is the frame's side in photo pixels.
    """
    a = geometry.WARP_LINEAR
    slope = a + 3 * (1 - a) * pixel_centres(size) ** 2
    return np.clip(np.ceil(scale * slope / size / 2), 1, MAX_SAMPLES).astype(int)


def view(photo: Array, to_photo: Array, size: int) -> Array:
    """Samples `photo` uint8 [h, w, channels] through `to_photo` (2x3, frame to pixel indices) as float32 [size, size, channels]
    in 0..255.

    Beyond the photo its nearest pixel is repeated.
    """
    scale = np.sqrt(abs(np.linalg.det(to_photo[:, :2])))
    while scale * geometry.WARP_LINEAR / size > MAX_STEP and min(photo.shape[:2]) > 1:
        photo = cv2.resize(photo, (photo.shape[1] // 2, photo.shape[0] // 2), interpolation=cv2.INTER_AREA)
        to_photo = to_photo / 2 + np.array([[0, 0, -0.25], [0, 0, -0.25]])
        scale /= 2
    along, first = spans(size, tuple(counts(size, scale)), geometry.WARP_LINEAR)
    n = len(along)
    across, down = along[None, :, None] * to_photo[:, 0], along[:, None, None] * to_photo[:, 1] + to_photo[:, 2]
    samples = cv2.remap(photo, (across + down).astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    if n == size:
        return samples.astype(np.float32)
    samples = samples.reshape(n, n, -1)
    # Both sums run along the first axis, where whole rows are added; they add at most 16 samples of 255.
    rows = np.add.reduceat(samples, first, 0, np.uint16).transpose(1, 0, 2)
    sums = np.add.reduceat(np.ascontiguousarray(rows), first, 0).transpose(1, 0, 2)
    taken = np.diff(first, append=n).astype(np.float32)
    return sums / (taken[:, None] * taken[None, :])[..., None]


def network_image(rgb: Array, size: int) -> Array:
    """Converts an aligned crop [side, side, 3] to the network's uint8 input [3, size, size]."""
    side = rgb.shape[0]
    seen = view(rgb, np.array([[side, 0.0, 0.0], [0.0, side, 0.0]]), size)
    return (seen + 0.5).astype(np.uint8).transpose(2, 0, 1)
