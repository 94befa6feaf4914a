"""Defines the aligned frame and its foveated sampling: which photo point each network pixel sees.

Frame coordinates `f` are in units of the crop's side: pixel index = f * side, and the centre of the top-left pixel is 0 (the
convention of the labels and of cv2.remap). Network coordinates `u` are in [-1, 1] over the network's input; pixel i of n has
its centre at (2 i + 1) / n - 1.

The network sees the frame through a cubic, separable warp, v = a u + (1 - a) u^3 with f = (v + 1) / 2. With a = 0.5 it samples
the middle of the face twice as densely as a uniform grid would, and hair and neck at the rim half as densely. The warp costs
nothing at run time, because the crop is resampled from the camera picture anyway. Trials may set another factor with
`look_through`; exports have 0.5.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array

# The factor a of the shipped networks, and the one that this process samples with.
SHIPPED_WARP = 0.5
WARP_LINEAR = SHIPPED_WARP
ARCFACE_112 = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
# The eye centres lie 40/192 of the side apart; their middle lies at (96, 82)/192.
TEMPLATE = (1.13515 * ARCFACE_112 + np.array([32.530, 23.426])) / 192.0


def look_through(a: float) -> None:
    """Sets the warp of this process from here on; 1 is a uniform grid."""
    global WARP_LINEAR
    WARP_LINEAR = a


def check_warp(state: Mapping[str, Any], file: str | Path) -> None:
    """Refuses weights that were trained through another warp than this process's."""
    trained = state.get("arguments", {}).get("warp", SHIPPED_WARP)
    if trained != WARP_LINEAR:
        raise SystemExit(f"{file} was trained through a warp of {trained}, which only student.trials looks through; here it is {WARP_LINEAR}")


def warp(u: Array) -> Array:
    """Maps network coordinates in [-1, 1] to centred frame coordinates v."""
    a = WARP_LINEAR
    return a * u + (1.0 - a) * u**3


def unwarp(v: Array) -> Array:
    """Inverts `warp` exactly for every real v (the cubic is monotone for 0 < a <= 1), by Cardano's formula."""
    a = WARP_LINEAR
    if a == 1.0:
        return v
    p, q = a / (1.0 - a), np.asarray(v, np.float64) / (1.0 - a)
    root = np.sqrt(q * q / 4.0 + p**3 / 27.0)
    return np.cbrt(q / 2.0 + root) + np.cbrt(q / 2.0 - root)


def pixel_centres(size: int) -> Array:
    """Returns the network coordinates of the pixel centres of a row of `size` pixels."""
    return (2.0 * np.arange(size) + 1.0) / size - 1.0


def network_grid(size: int) -> Array:
    """Returns the frame coordinates [size, size, 2] (x, y) of the network's pixels."""
    f = (warp(pixel_centres(size)) + 1.0) / 2.0
    return np.stack(np.broadcast_arrays(f[None, :], f[:, None]), -1)


def frame_to_network(points: ArrayLike) -> Array:
    """Maps frame coordinates (units of the side) to the network's [0, 1] coordinates."""
    return (unwarp(2.0 * np.asarray(points) - 1.0) + 1.0) / 2.0


def network_to_frame(points: ArrayLike) -> Array:
    """Maps the network's [0, 1] coordinates to frame coordinates."""
    return (warp(2.0 * np.asarray(points) - 1.0) + 1.0) / 2.0


def similarity(source: ArrayLike, target: ArrayLike) -> Array:
    """Fits by least squares the similarity (2x3, no reflection) from `source` points [n, 2] to `target` points [n, 2]."""
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    ms, mt = source.mean(0), target.mean(0)
    s, t = source - ms, target - mt
    norm = (s**2).sum()
    re = (s * t).sum() / norm
    im = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / norm
    linear = np.array([[re, -im], [im, re]])
    return np.concatenate([linear, (mt - linear @ ms)[:, None]], 1)


def apply(matrix: Array, points: ArrayLike) -> Array:
    """Applies a 2x3 affine map to points [..., 2]."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]
