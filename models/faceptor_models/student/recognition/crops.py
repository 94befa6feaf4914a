"""Holds the packed faces of the recognition tower: square windows about the ArcFace crop, and the teacher's vectors of them.

A folder has shards of up to SHARD faces, named SOURCE-NNN: `.faces.npy` uint8 [n, 128, 128, 3] and `.vectors.npy` float16
[n, 512], unit vectors. Both are complete or absent, so that a training may begin while others are still being made.
"""

from pathlib import Path

import numpy as np

from faceptor_models.common.errors import Refused

from .sizes import NUMBERS

SHARD = 512
FACES, VECTORS = ".faces.npy", ".vectors.npy"


def save(path, array):
    """Writes an array so that the file is never seen half written."""
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        np.save(file, array)
    part.rename(path)


def unit(vectors):
    """Scales rows to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def main_directions(vectors, numbers=NUMBERS):
    """Returns the orthonormal directions [numbers, d] that keep most of the vectors' squares; the mean is not taken off."""
    vectors = vectors.astype(np.float64)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    return np.ascontiguousarray(axes[:, ::-1][:, :numbers].T).astype(np.float32)


class Packed:
    """Reads a folder of packed faces, memory-mapped; a row number counts through its complete shards in the order of their names.

    `known` are the names of shards that an earlier part of a run had: they keep their row numbers, and new shards come after them.
    """

    def __init__(self, folder, known=()):
        self.folder = Path(folder)
        found = sorted(p.name.removesuffix(VECTORS) for p in self.folder.glob(f"*{VECTORS}"))
        missing = [name for name in known if name not in found]
        if missing:
            raise Refused(f"{folder} lacks the packed faces {', '.join(missing)} that this run began with")
        self.names = [*known, *(name for name in found if name not in known)]
        if not self.names:
            raise Refused(f"{folder} holds no packed faces: make -C models recognition-data writes them")
        self.faces = [np.load(self.folder / f"{name}{FACES}", mmap_mode="r") for name in self.names]
        vectors = [np.load(self.folder / f"{name}{VECTORS}") for name in self.names]
        for name, some, theirs in zip(self.names, self.faces, vectors):
            if len(some) != len(theirs):
                raise Refused(f"{folder}: {name} has {len(some)} faces and {len(theirs)} vectors")
        self.vectors = np.concatenate(vectors)
        self.first = np.cumsum([0, *(len(some) for some in self.faces)])
        self.source = np.repeat([name.rsplit("-", 1)[0] for name in self.names], [len(some) for some in self.faces])

    def __len__(self):
        return len(self.vectors)

    def face(self, row):
        """Returns the window of a row."""
        shard = int(np.searchsorted(self.first, row, side="right")) - 1
        return self.faces[shard][row - self.first[shard]]

    def directions(self):
        """Returns the main directions [256, 512] of the teacher's vectors."""
        # Pictures of 48 px lie elsewhere than faces of cameras do.
        sharp = self.vectors[self.source != "ferplus"]
        return main_directions(sharp if len(sharp) else self.vectors)

    def targets(self, directions):
        """Returns the teacher's vectors along the directions, unit vectors float32 [n, numbers]."""
        return unit(self.vectors.astype(np.float32) @ directions.T)
