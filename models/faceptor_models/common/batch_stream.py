"""Prepares batches ahead of the training loop in worker processes that share the packed crops by fork."""

import itertools
import multiprocessing as mp

_batches = None


def _work(job):
    import cv2

    cv2.setNumThreads(1)
    seed, size = job
    return _batches.make(seed, size)


def stream(batches, seed, first, size_at, workers=1, ahead=3):
    """Yields (step, batch) from `first` on, `ahead` batches prepared in advance; by this process with no `workers`."""
    global _batches
    if workers == 0:
        for step in itertools.count(first):
            yield step, batches.make((seed, step), size_at(step))
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
