"""Builds a faces folder of the readers' photos: crops in `train/SOURCE.zip` and `dev/SOURCE/`, with tables of labels."""

import collections
import csv
import io
import json
import multiprocessing
import zipfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import TEMPLATE

from . import screen
from .align import Detector, choose, crop, magnified, to_template
from .rows import Photo, stored, table
from .teachers import Landmarks, Recognition

QUALITY = 92  # of the WebP crops
LARGEST_PX = 12_000


class Worker:
    """Holds one process's networks; `row(photo)` returns a dict for the table, or the reason why the photo gives no crop."""

    def __init__(self, detector, teacher, landmarks):
        cv2.setNumThreads(1)
        self.detector = Detector(detector)
        self.teacher = Recognition(teacher) if teacher else None
        self.landmarks = Landmarks(landmarks) if landmarks else None

    def row(self, photo, side):
        try:
            rgb = photo.file if isinstance(photo.file, np.ndarray) else read(photo.file)
        except (OSError, UnidentifiedImageError, ValueError):
            return "unreadable"
        shown = magnified(rgb)
        times = shown.shape[0] / rgb.shape[0]
        found = choose(self.detector.faces(shown), None if photo.near is None else photo.near * times)
        if found is None:
            return "no face found"
        matrix = to_template(found.keypoints, TEMPLATE * side)
        if matrix is None:
            return "keypoints coincide"
        made = {"score": found.score, "keypoints": stored(place(matrix, found.keypoints), side)} | photo.labels
        made["image"] = webp(crop(shown, matrix, side, average=True))
        if photo.points is not None:
            made |= {"landmarks": stored(place(matrix, photo.points * times), side), "landmarks_source": 1}
        elif self.landmarks and (points := self.landmarks.points(shown, found)) is not None:
            made |= {"landmarks": stored(place(matrix, points), side), "landmarks_source": 2}
        if self.teacher:
            made["embedding"] = self.teacher.embed(shown, found.keypoints)
        if photo.mask is not None:
            made["mask_image"] = png(warped_mask(photo.mask(), rgb.shape, matrix, times, side))
        return made


def read(path):
    with Image.open(path) as picture:
        if max(picture.size) > LARGEST_PX:
            raise ValueError(f"{picture.size} px")
        return np.asarray(picture.convert("RGB"))


def place(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


def webp(rgb):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def png(labels):
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def warped_mask(mask, shape, matrix, times, side):
    """Warps a label map of the photo (its own size may differ) to the crop, 255 beyond the photo."""
    ratio = np.array([shape[1] * times / mask.shape[1], shape[0] * times / mask.shape[0]])
    whole = np.concatenate([matrix[:, :2] * ratio, (matrix[:, 2] + matrix[:, :2] @ (0.5 * ratio - 0.5))[:, None]], 1)
    return cv2.warpAffine(mask, whole, (side, side), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)


_worker = None


def _start(*networks):
    global _worker
    _worker = Worker(*networks)


def _one(job):
    index, photo, side = job
    return index, _worker.row(photo, side)


def answers(photos, side, networks, processes):
    """Yields (photo, row or reason) of every photo, in order."""
    jobs = ((i, p, side) for i, p in enumerate(photos))
    if processes == 1:
        worker = Worker(*networks)
        yield from ((p, worker.row(p, side)) for p in photos)
        return
    # Fork would copy threads that libraries have started; spawned processes load their own networks.
    with multiprocessing.get_context("spawn").Pool(processes, _start, networks) as pool:
        for index, row in pool.imap(_one, jobs, chunksize=16):
            yield photos[index], row


class Known:
    """Holds the labels of another faces folder: its photos are not taken again, and its dev split is kept apart."""

    def __init__(self, folder=None):
        self.names, self.vectors, self.sources = set(), np.zeros((0, 128), np.float32), np.zeros(0, "U1")
        if folder is None:
            return
        for split in ("train", "dev"):
            path = Path(folder) / split / "labels.npz"
            if not path.exists():
                raise Refused(f"{path} is missing")
            labels = np.load(path)
            self.names |= {str(p).rpartition(".")[0] for p in labels["path"]}
            if split == "dev":
                self.vectors, self.sources = labels["embedding"].astype(np.float32), labels["source"]


class Folder:
    """Writes a faces folder, source by source."""

    def __init__(self, out):
        self.out = Path(out)
        self.rows = {"train": [], "dev": []}
        self.lost = collections.Counter()
        for split in self.rows:
            if (self.out / split / "labels.npz").exists():
                raise Refused(f"{self.out} already is a faces folder: give another --out")
            (self.out / split).mkdir(parents=True, exist_ok=True)

    def add(self, source, photos, side, networks, processes, say=print):
        """Adds the crops of one source: training crops to its zip, dev crops as loose files."""
        target = self.out / "train" / f"{source}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for done, (photo, row) in enumerate(answers(photos, side, networks, processes), 1):
                if done % 2000 == 0:
                    say(f"{source}: {done} of {len(photos)} photos")
                if isinstance(row, str):
                    self.lost[f"{source}: {row}"] += 1
                    continue
                row |= {"source": source, "path": f"{source}/{photo.name}.webp"}
                self.write(archive, photo.split, row["path"], row.pop("image"))
                if "mask_image" in row:
                    row["mask"] = f"masks/{photo.name}.png"
                    self.write(archive, photo.split, row["mask"], row.pop("mask_image"))
                self.rows[photo.split].append(row)
        if not any(row["source"] == source for row in self.rows["train"]):
            target.unlink()

    def pairs(self, rows):
        """Writes those of LFW's pairs whose crops both exist."""
        have = {row["path"] for row in self.rows["dev"]}
        with open(self.out / "dev" / "lfw_pairs.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["fold", "a", "b", "same"])
            writer.writerows(r for r in rows if r[1] in have and r[2] in have)

    def write(self, archive, split, path, data):
        if split == "train":
            archive.writestr(path, data)
        else:
            target = self.out / "dev" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def finish(self, known):
        """Screens the training rows against every dev row and writes the tables. Returns {split: {source: count}}."""
        tables = {split: table(rows) for split, rows in self.rows.items()}
        train, dev = tables["train"], tables["dev"]
        vectors = np.concatenate([dev["embedding"].astype(np.float32), known.vectors])
        sources = np.concatenate([dev["source"], known.sources])
        seen = np.abs(vectors).sum(1) > 0
        keep, why = screen.leave_out(train["embedding"].astype(np.float32), train["source"], vectors[seen], sources[seen])
        self.lost.update(why)
        tables["train"] = {k: v[keep] for k, v in train.items()}
        for split, arrays in tables.items():
            np.savez(self.out / split / "labels.npz", **arrays)
        (self.out / "removed.json").write_text(json.dumps(dict(sorted(self.lost.items())), indent=1) + "\n")
        return {split: collections.Counter(map(str, arrays["source"])) for split, arrays in tables.items()}


def unique(photos):
    """Returns the photos as a list; two of one name would overwrite each other."""
    listed, seen = [], set()
    for photo in photos:
        if (photo.split, photo.name) in seen:
            raise Refused(f"two photos are called {photo.name}")
        seen.add((photo.split, photo.name))
        listed.append(photo)
    return listed


__all__ = ["Folder", "Known", "Photo", "unique"]
