"""A face as the runtime's network sees it: means over the area that each network pixel covers (src/perceive/crop.rs).

Points alone, one a network pixel, alias at the rim of the fovea, where a pixel covers five of a 256 px crop along each
axis; a network trained on points loses half a point of FairFace when the runtime shows it means.
"""

from functools import lru_cache

import cv2
import numpy as np

from . import geometry
from .geometry import pixel_centres, warp

# The most samples along one axis for a network pixel, and the photo pixels a network pixel covers in the middle of the view
# above which the photo is halved first.
MAX_SAMPLES, MAX_STEP = 4, 2.0


@lru_cache(maxsize=64)
def spans(size, counts, a):
    """Through a warp of `a`: (frame coordinates of all samples along one axis, first sample of each network pixel)."""
    counts = np.array(counts)
    inside = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    along = (np.repeat(np.arange(size), counts) + inside) / size
    return (warp(2 * along - 1) + 1) / 2, np.concatenate([[0], np.cumsum(counts)[:-1]])


def counts(size, scale):
    """Samples along one axis for each network pixel: one for every two photo pixels it covers; `scale` is the frame's side in them."""
    a = geometry.WARP_LINEAR
    slope = a + 3 * (1 - a) * pixel_centres(size) ** 2
    return np.clip(np.ceil(scale * slope / size / 2), 1, MAX_SAMPLES).astype(int)


def view(photo, to_photo, size):
    """`photo` uint8 [h, w, channels] through `to_photo` (2x3, frame to pixel indices) as float32 [size, size, channels] in 0..255.

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
    samples = cv2.remap(photo, (across + down).astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if n == size:
        return samples.astype(np.float32)
    samples = samples.reshape(n, n, -1)
    # Both sums along the first axis, where whole rows are added; at most 16 samples of 255.
    rows = np.add.reduceat(samples, first, 0, np.uint16).transpose(1, 0, 2)
    sums = np.add.reduceat(np.ascontiguousarray(rows), first, 0).transpose(1, 0, 2)
    taken = np.diff(first, append=n).astype(np.float32)
    return sums / (taken[:, None] * taken[None, :])[..., None]


def network_image(rgb, size):
    """An aligned crop [side, side, 3] as the network's uint8 input [3, size, size]."""
    side = rgb.shape[0]
    seen = view(rgb, np.array([[side, 0.0, 0.0], [0.0, side, 0.0]]), size)
    return (seen + 0.5).astype(np.uint8).transpose(2, 0, 1)
