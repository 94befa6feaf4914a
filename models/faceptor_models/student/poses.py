"""How far a face is turned, and chances that draw turned faces as often as frontal ones (pose-based data balancing, Feng et al. 2018).

The paper bins the first principal component of the aligned shapes; here it is what that component shows, the nose's tip between the jaw's ends.
"""

import numpy as np

# Width of a bin, and how many times as often as the fullest bin's crops others are drawn at most.
BIN, MOST = 0.1, 8.0


def turned(points):
    """How unequal the nose tip's distances to both ends of the jaw are: points [n, 68, 2] to 0 (frontal) .. 1 (profile). [n]"""
    left, right = (np.linalg.norm(points[:, 30] - points[:, end], axis=-1) for end in (0, 16))
    return np.abs(left - right) / (left + right)


def pose_chances(points):
    """Chance of each crop to be drawn, so that all bins of `turned` come equally often, up to MOST; crops without points as the fullest bin's."""
    weight, known = np.ones(len(points)), np.isfinite(points[:, 0, 0])
    bins = (turned(points[known]) / BIN).astype(int)
    count = np.bincount(bins)
    weight[known] = np.minimum(count.max() / count[bins], MOST)
    return weight / weight.sum()
