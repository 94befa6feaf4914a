"""Balances poses: measures how far a face is turned, and draws turned faces as often as frontal ones (Feng et al. 2018).

The paper bins the first principal component of the aligned shapes. Here the measure is what that component shows: the place of
the nose tip between the ends of the jaw.
"""

import numpy as np

# Width of a bin, and the largest factor by which a crop comes more often than one of the fullest bin.
BIN, MOST = 0.1, 8.0


def turned(points):
    """Returns how unequal the nose tip's distances to both ends of the jaw are: points [n, 68, 2] to 0 (frontal) .. 1 (profile), [n]."""
    left, right = (np.linalg.norm(points[:, 30] - points[:, end], axis=-1) for end in (0, 16))
    return np.abs(left - right) / (left + right)


def pose_chances(points):
    """Returns the probability of each crop, so that all bins of `turned` come equally often, up to the factor MOST.

    Crops without points count like those of the fullest bin.
    """
    weight, known = np.ones(len(points)), np.isfinite(points[:, 0, 0])
    bins = (turned(points[known]) / BIN).astype(int)
    count = np.bincount(bins)
    weight[known] = np.minimum(count.max() / count[bins], MOST)
    return weight / weight.sum()
