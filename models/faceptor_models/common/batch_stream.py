"""Prepares batches ahead of the training loop in worker processes that share the packed crops by fork."""

import itertools
import multiprocessing as mp
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.pool import AsyncResult
from typing import Protocol

from .arrays import Array

Batch = dict[str, Array]


class Maker(Protocol):
    """Makes the batch of a seed, at the input size that is given."""

    def make(self, seed: tuple[int, int], size: int | None = None) -> Batch: ...


_batches: Maker | None = None


def _work(job: tuple[tuple[int, int], int | None]) -> Batch:
    import cv2

    cv2.setNumThreads(1)
    seed, size = job
    assert _batches is not None  # set before the fork
    return _batches.make(seed, size)


def stream(
    batches: Maker, seed: int, first: int, size_at: Callable[[int], int | None], workers: int = 1, ahead: int = 3
) -> Iterator[tuple[int, Batch]]:
    """Yields (step, batch) from `first` on. `workers` processes prepare `ahead` batches in advance; with 0 the caller's process
    does.
    """
    global _batches
    if workers == 0:
        for step in itertools.count(first):
            yield step, batches.make((seed, step), size_at(step))
    _batches = batches
    pool = mp.get_context("fork").Pool(workers)
    pending: deque[tuple[int, AsyncResult[Batch]]] = deque()
    step = first
    try:
        while True:
            while len(pending) < ahead:
                pending.append((step, pool.apply_async(_work, (((seed, step), size_at(step)),))))
                step += 1
            number, result = pending.popleft()
            yield number, result.get()
    finally:
        pool.terminate()
        # The next run of this process may hold other crops.
        if _batches is batches:
            _batches = None
