"""Packs aligned faces and a teacher's vectors for the recognition tower; a run that was cut short goes on where it stopped.

    python -m faceptor_models.student.recognition.pack --faces ../../shared/faces --teacher w600k_mbf.onnx --out OUT [--more FACES ..]

A faces folder is one of the research crops or of `faceptor-models prepare`; only its training split is read. The teacher's vector is
the mean of a face's and its mirror image's.
"""

import argparse
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from faceptor_models.common.errors import Refused
from faceptor_models.common.packed_crops import decoded

from .crops import FACES, SHARD, VECTORS, save, unit
from .windows import middle, window

BATCH = 8


class Teacher:
    """Runs an ArcFace recogniser (ONNX, RGB of 112 px as (x - 127.5) / 127.5) on one thread."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.net = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.net.get_inputs()[0].name

    def once(self, crops):
        """Returns the unit vectors of crops uint8 [n, 112, 112, 3]."""
        x = (crops.astype(np.float32) - 127.5) / 127.5
        return unit(self.net.run(None, {self.input: np.ascontiguousarray(x.transpose(0, 3, 1, 2))})[0])

    def every(self, crops):
        """Returns the unit vectors of any number of crops."""
        return np.concatenate([self.once(crops[i : i + BATCH]) for i in range(0, len(crops), BATCH)])

    def vectors(self, crops):
        """Returns the means over a crop and its mirror image, unit vectors."""
        return unit(self.every(crops) + self.every(crops[:, :, ::-1]))


def jobs(folders):
    """Returns (shard's number, source, folder, paths) of all shards; the first shards of every source come first."""
    found, owner = [], {}
    for folder in map(Path, folders):
        labels = np.load(folder / "train/labels.npz")
        for source in map(str, np.unique(labels["source"])):
            if source in owner:
                raise Refused(f"{folder} and {owner[source]} both have the source {source}: prepare one with another --suffix")
            owner[source] = folder
            paths = labels["path"][labels["source"] == source]
            found += [(i // SHARD, source, folder, paths[i : i + SHARD]) for i in range(0, len(paths), SHARD)]
    return sorted(found, key=lambda job: job[:2])


def pack(folders, teacher, out):
    """Writes the shards that are missing."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    todo = jobs(folders)
    for place, (number, source, folder, paths) in enumerate(todo, 1):
        name = f"{source}-{number:03d}"
        # The vectors are written last: with them a shard is complete.
        if (out / f"{name}{VECTORS}").exists():
            continue
        with zipfile.ZipFile(folder / f"train/{source}.zip") as archive:
            faces = np.stack([window(np.ascontiguousarray(decoded(archive, str(path))[..., :3])) for path in paths])
        save(out / f"{name}{FACES}", faces)
        save(out / f"{name}{VECTORS}", teacher.vectors(middle(faces)).astype(np.float16))
        print(f"{place}/{len(todo)} {name}: {len(faces)} faces", flush=True)


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", required=True, metavar="FACES", help="the research crops")
    p.add_argument("--more", action="append", default=[], metavar="FACES", help="further faces folders (faceptor-models prepare)")
    p.add_argument("--teacher", required=True, metavar="ONNX", help="recogniser: ArcFace crop of 112 px to 512 numbers")
    p.add_argument("--out", required=True, help="folder of the packed faces, outside the checkout")
    args = p.parse_args(arguments)
    cv2.setNumThreads(0)
    try:
        pack([args.faces, *args.more], Teacher(args.teacher), args.out)
    except (Refused, OSError) as error:
        raise SystemExit(f"pack: {error}") from None


if __name__ == "__main__":
    main()
