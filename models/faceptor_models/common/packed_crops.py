"""Decodes the training crops once: finds black borders and fills them, so that augmentation may choose their look.

Reads `faces/train/*.zip` and `labels.npz` (the research data's faces/README.md has the layout). The cache has one .npy file for
each source, uint8 [n, side, side, 4]: RGB with the border filled from the nearest photo pixel, and the border mask.
"""

import io
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from .arrays import Array
from .labels import PARSING, PARSING_FLIP

SOURCES = ["w300", "celebamask", "utk", "fairface", "celeba", "rafdb", "ferplus"]
# Pairs of classes that lie on the person's left and right.
SIDES = [(PARSING.index(f"l_{part}"), PARSING.index(f"r_{part}")) for part in ("eye", "brow", "ear")]
MASKS = "masks_by_side.npy"  # in the cache; caches from before `by_side` have masks.npy
Mode = Literal["r"] | None
BORDER_LEVEL = 10  # WebP leaves a little noise on black


def border_mask(rgb: Array) -> Array:
    """Finds the black area connected to the crop's edge, which lies outside the photo (uint8, 255 = border)."""
    dark = (rgb.max(2) <= BORDER_LEVEL).astype(np.uint8)
    padded = cv2.copyMakeBorder(dark, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, label = cv2.connectedComponents(padded, connectivity=4)
    border = (label == label[0, 0]) & (padded == 1)
    border = border[1:-1, 1:-1].astype(np.uint8)
    # Thin slivers along the rim are dark hair or frames, no border.
    border = cv2.morphologyEx(border, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.dilate(border, np.ones((3, 3), np.uint8)) * 255 if border.any() else border


def fill_border(rgb: Array, mask: Array) -> Array:
    """Replaces the border by its nearest photo pixels, a little blurred."""
    if not mask.any() or mask.all():
        return rgb
    _, nearest = cv2.distanceTransformWithLabels(mask, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros((nearest.max() + 1, 3), np.uint8)
    inside = mask == 0
    table[nearest[inside]] = rgb[inside]
    filled = table[nearest]
    soft = cv2.blur(filled, (5, 5))
    return np.where(mask[..., None] > 0, soft, rgb)


def decoded(archive: zipfile.ZipFile, path: str) -> Array:
    """Decodes one crop [side, side, 4] of an open zip: RGB with its border filled, and the border mask."""
    rgb = np.asarray(Image.open(io.BytesIO(archive.read(named(archive, path)))).convert("RGB"))
    mask = border_mask(rgb)
    return np.concatenate([fill_border(rgb, mask), mask[..., None]], 2)


def named(archive: zipfile.ZipFile, path: str) -> str:
    """Returns the name under which a zip holds a labelled path: all of it, or the part after the source."""
    return path if path in archive.NameToInfo else path.split("/", 1)[1]


def pack(faces: str | Path, cache: str | Path, mapped: bool = False) -> dict[str, Array]:
    """Writes the cache where it is missing; returns {source: array}, memory-mapped where only a few crops are wanted."""
    faces, cache = Path(faces), Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    labels = np.load(faces / "train/labels.npz")
    arrays: dict[str, Array] = {}
    mode: Mode = "r" if mapped else None
    for source in SOURCES:
        arrays[source] = packed(faces, cache, source, labels, mode)
    if not (cache / MASKS).exists():
        rows = labels["mask"][labels["source"] == "celebamask"]
        np.save(cache / MASKS, read_masks(faces, "celebamask", rows))
    arrays["masks"] = np.load(cache / MASKS, mmap_mode=mode)
    return arrays


def packed(faces: Path, cache: Path, source: str, labels: Mapping[str, Array], mode: Mode) -> Array:
    """Returns one source's crops from the cache, which it first writes where it is missing."""
    target = cache / f"{source}.npy"
    if not target.exists():
        part = target.with_suffix(".part")
        with zipfile.ZipFile(faces / f"train/{source}.zip") as archive:
            paths = labels["path"][labels["source"] == source]
            side = decoded(archive, paths[0]).shape[0]
            crops = np.lib.format.open_memmap(part, "w+", np.uint8, (len(paths), side, side, 4))
            for i, path in enumerate(paths):
                crops[i] = decoded(archive, path)
            crops.flush()
        part.rename(target)
        print(f"packed {source}: {len(crops)} crops", flush=True)
    return np.load(target, mmap_mode=mode)


def by_side(mask: Array) -> Array:
    """Returns a label map whose left and right are the person's.

    Of the 897 masks of CelebAMask-HQ here 63 belong to mirrored photos (their lettering reads backwards) and kept the names of
    the unmirrored ones. Crops are upright, so eyes, brows and ears show the side where both are seen: the person's left lies on
    the right.
    """
    column = np.arange(mask.shape[1])
    pairs = [((mask == left), (mask == right)) for left, right in SIDES]
    signs = [
        np.sign((left * column).sum() / left.sum() - (right * column).sum() / right.sum()) for left, right in pairs if left.any() and right.any()
    ]
    return np.array(PARSING_FLIP + list(range(len(PARSING_FLIP), 256)), np.uint8)[mask] if sum(signs) < 0 else mask


def read_masks(faces: Path, source: str, rows: Sequence[str]) -> Array:
    """Reads the label maps of a source, uint8 [n, side, side]."""
    with zipfile.ZipFile(faces / f"train/{source}.zip") as archive:
        return np.stack([by_side(np.asarray(Image.open(io.BytesIO(archive.read(named(archive, r)))))) for r in rows])


def pack_folder(faces: str | Path, out: str | Path) -> None:
    """Writes a faces folder's training crops and labels for `more`: SOURCE.npy, labels.npz, and masks.npy of a single source."""
    faces, out = Path(faces), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    labels = np.load(faces / "train/labels.npz")
    sources = np.unique(labels["source"])
    for source in sources:
        packed(faces, out, source, labels, "r")
    if len(sources) == 1 and (labels["mask"] != "").all():
        np.save(out / "masks.npy", read_masks(faces, sources[0], labels["mask"]))
    shutil.copyfile(faces / "train/labels.npz", out / "labels.npz")


def more(folder: str | Path, mapped: bool = False) -> tuple[dict[str, Array], "Table"]:
    """Reads ({source: crops}, labels) of a folder that `pack_folder` wrote, to be used with those of `pack`.

    A folder of one source may have `masks.npy`, uint8 [n, side, side] with a row for each crop, 255 where a pixel has no label.
    """
    folder = Path(folder)
    mode: Mode = "r" if mapped else None
    labels = table(folder / "labels.npz")
    arrays = {str(s): np.load(folder / f"{s}.npy", mmap_mode=mode) for s in np.unique(labels["source"])}
    for source, crops in arrays.items():
        if source in SOURCES or len(crops) != (labels["source"] == source).sum():
            raise ValueError(f"{folder}: {source} is one of the first sources, or its labels and crops differ in number")
    if (folder / "masks.npy").exists():
        masks = np.load(folder / "masks.npy", mmap_mode=mode)
        if len(arrays) != 1 or len(masks) != len(labels["source"]):
            raise ValueError(f"{folder}: masks.npy goes with the crops of one source, one mask a crop")
        arrays["masks"] = masks
    return arrays, labels


class Table(dict[str, Array]):
    """Holds the arrays of an .npz file, read once (the archive itself reads the file again at every access)."""

    @property
    def files(self) -> list[str]:
        """Returns the names of the arrays."""
        return list(self)


def table(path: str | Path) -> Table:
    """Reads an .npz file."""
    archive = np.load(path)
    return Table({k: archive[k] for k in archive.files})


class Labels:
    """Holds the labels of one source as float arrays, NaN or -1 where unknown."""

    def __init__(self, archive: "Table", source: str) -> None:
        rows = archive["source"] == source
        take = {k: archive[k][rows] for k in archive.files}
        points = take["landmarks"].astype(np.float32) / 8192.0
        points[take["landmarks_source"] == 0] = np.nan
        self.landmarks = points
        self.people = take["landmarks_source"] == 1
        self.age_low, self.age_high = take["age_low"].copy(), take["age_high"].copy()
        known = np.isfinite(take["age"])
        self.age_low[known], self.age_high[known] = take["age"][known], take["age"][known]
        votes = take["expression_votes"].astype(np.float32)
        total = votes.sum(1, keepdims=True)
        self.expression = np.where(votes[:, :1] < 0, -1.0, votes / np.maximum(total, 1.0))
        self.attributes = take["attributes"].astype(np.float32)
        self.male = take["male"].astype(np.int64)
        self.identity = take["identity"].astype(np.int64)
        self.embedding = take["embedding"].astype(np.float32)
