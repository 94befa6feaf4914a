"""Computes the measures of the development split that have a formula of their own."""

from collections.abc import Mapping, Sequence

import numpy as np

from .arrays import Array


def landmark_error(found: Array, true: Array) -> Array:
    """Returns each face's mean point error over the distance of the outer eye corners; points [n, 68, 2] in units of the crop."""
    eye = np.linalg.norm(true[:, 36] - true[:, 45], axis=-1)
    return np.linalg.norm(found - true, axis=-1).mean(1) / eye


def verification(pairs: Sequence[tuple[int, int, int, bool]], embedding: Mapping[int, Array]) -> float:
    """Returns the 5-fold accuracy; the threshold of a fold is the best one of the other four. `embedding` maps a row to a unit
    vector.
    """
    fold = np.array([p[0] for p in pairs])
    similarity = np.array([float(embedding[a] @ embedding[b]) for _, a, b, _ in pairs])
    same = np.array([p[3] for p in pairs])
    scores = []
    for f in np.unique(fold):
        train, test = fold != f, fold == f
        thresholds = np.unique(similarity[train])
        accuracy = [((similarity[train] >= t) == same[train]).mean() for t in thresholds]
        best = thresholds[int(np.argmax(accuracy))]
        scores.append(((similarity[test] >= best) == same[test]).mean())
    return float(np.mean(scores))


def parsing_scores(confusion: Array) -> Array:
    """Returns the F1 of each class from one confusion matrix over the whole split; NaN for a class that never occurs."""
    both = np.diag(confusion).astype(float)
    size = confusion.sum(0) + confusion.sum(1)
    return np.where(confusion.sum(1) > 0, 2 * both / np.maximum(size, 1), np.nan)
