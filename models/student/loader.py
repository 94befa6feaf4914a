"""Batches balanced over the sources, made by worker processes that share the packed crops by fork."""

import multiprocessing as mp

import numpy as np

from .augment import sample
from .data import SOURCES, Labels

# Samples of each source in a batch of 128; other batch sizes scale it.
SHARE = {"w300": 12, "celebamask": 12, "utk": 18, "fairface": 16, "celeba": 24, "rafdb": 24, "ferplus": 22}


class Batches:
    """`make(seed)` returns one batch as a dict of arrays; the same seed always gives the same batch."""

    def __init__(self, arrays, archive, batch, size):
        self.arrays = arrays
        self.labels = {s: Labels(archive, s) for s in SOURCES}
        self.count = {s: max(1, SHARE[s] * batch // 128) for s in SOURCES}
        self.size = size

    def make(self, seed, size=None):
        rng = np.random.default_rng(seed)
        size = size or self.size
        rows = {k: [] for k in ("image", "landmarks", "people", "age_low", "age_high", "expression", "attributes", "male", "identity", "embedding", "flip")}
        masks, mask_rows = [], []
        for source in SOURCES:
            labels, crops = self.labels[source], self.arrays[source]
            for i in rng.integers(0, len(crops), self.count[source]):
                mask = self.arrays["masks"][i] if source == "celebamask" else None
                points = labels.landmarks[i]
                image, labelled, moved, flip = sample(rng, crops[i], size, mask, points)
                if labelled is not None:
                    mask_rows.append(len(rows["image"]))
                    masks.append(labelled)
                rows["image"].append(image)
                rows["landmarks"].append(moved)
                rows["flip"].append(flip)
                for key in ("people", "age_low", "age_high", "expression", "attributes", "male", "identity", "embedding"):
                    rows[key].append(getattr(labels, key)[i])
        batch = {k: np.stack(v) for k, v in rows.items()}
        batch["landmarks"] = batch["landmarks"].astype(np.float32)
        batch["parsing"], batch["parsing_rows"] = np.stack(masks), np.array(mask_rows)
        return batch


_batches = None


def _work(job):
    import cv2

    cv2.setNumThreads(1)
    seed, size = job
    return _batches.make(seed, size)


def stream(batches, seed, first, size_at, workers=1, ahead=3):
    """Yields (step, batch) from `first` on, `ahead` batches prepared in advance."""
    global _batches
    _batches = batches
    pool = mp.get_context("fork").Pool(workers)
    pending, step = [], first
    try:
        while True:
            while len(pending) < ahead:
                pending.append((step, pool.apply_async(_work, (((seed, step), size_at(step)),))))
                step += 1
            number, result = pending.pop(0)
            yield number, result.get()
    finally:
        pool.terminate()
