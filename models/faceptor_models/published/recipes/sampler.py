"""Chooses the crops of each iteration like Faceptor's official sampler, as a function of the iteration alone.

The rows are repeated until they fill the whole run and shuffled once with the common seed. A resumed run needs no state: it
asks for the iteration at which it continues.
"""

import numpy as np

SPLITS = ("interleaved", "contiguous")


class Sampler:
    """Draws `batch` rows for each of `size` processes in each of `iterations`.

    `contiguous`, the official split, gives each process one slice of the shuffled rows; with `interleaved` the processes take
    turns, so that together they see what one process with all their samples in its batch would see.
    """

    def __init__(self, rows, batch, iterations, size=1, seed=2048, split="interleaved"):
        total = batch * iterations * size
        order = np.tile(np.asarray(rows), -(-total // len(rows)))[:total]
        np.random.RandomState(seed).shuffle(order)
        self.order, self.batch, self.iterations, self.size, self.split = order, batch, iterations, size, split

    def places(self, iteration, rank):
        """Returns the places of the samples in the order of the whole run."""
        turn = rank * self.iterations + iteration if self.split == "contiguous" else iteration * self.size + rank
        return range(turn * self.batch, (turn + 1) * self.batch)

    def draw(self, iteration, rank=0):
        """Returns [(place, row)]; the place seeds the sample's augmentation."""
        return [(place, int(self.order[place])) for place in self.places(iteration, rank)]
