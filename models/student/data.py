"""The training crops, decoded once: black borders found and filled, so that augmentation may choose their look.

Reads `faces/train/*.zip` and `labels.npz` (layout: faces/README.md of the research data). The cache is one
.npy a source, uint8 [n, side, side, 4]: RGB with the border filled from the nearest photo pixel, and the border mask.
"""

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SOURCES = ["w300", "celebamask", "utk", "fairface", "celeba", "rafdb", "ferplus"]
BORDER_LEVEL = 10  # WebP leaves a little noise on black


def border_mask(rgb):
    """Black area connected to the crop's edge: what lies outside the photo (uint8, 255 = border)."""
    dark = (rgb.max(2) <= BORDER_LEVEL).astype(np.uint8)
    padded = cv2.copyMakeBorder(dark, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, label = cv2.connectedComponents(padded, connectivity=4)
    border = (label == label[0, 0]) & (padded == 1)
    border = border[1:-1, 1:-1].astype(np.uint8)
    # Thin slivers along the rim are dark hair or frames, not border.
    border = cv2.morphologyEx(border, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.dilate(border, np.ones((3, 3), np.uint8)) * 255 if border.any() else border


def fill_border(rgb, mask):
    """The border replaced by its nearest photo pixel, a little blurred."""
    if not mask.any() or mask.all():
        return rgb
    _, nearest = cv2.distanceTransformWithLabels(mask, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros((nearest.max() + 1, 3), np.uint8)
    inside = mask == 0
    table[nearest[inside]] = rgb[inside]
    filled = table[nearest]
    soft = cv2.blur(filled, (5, 5))
    return np.where(mask[..., None] > 0, soft, rgb)


def pack(faces, cache, mapped=False):
    """Writes the cache where it is missing; returns {source: array}, memory-mapped where only a few crops are wanted."""
    faces, cache = Path(faces), Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    labels = np.load(faces / "train/labels.npz")
    arrays, mode = {}, "r" if mapped else None
    for source in SOURCES:
        target = cache / f"{source}.npy"
        if not target.exists():
            paths = labels["path"][labels["source"] == source]
            with zipfile.ZipFile(faces / f"train/{source}.zip") as archive:
                crops = []
                for path in paths:
                    name = path if path in archive.NameToInfo else path.split("/", 1)[1]
                    rgb = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
                    mask = border_mask(rgb)
                    crops.append(np.concatenate([fill_border(rgb, mask), mask[..., None]], 2))
            part = target.with_suffix(".part")
            with open(part, "wb") as out:
                np.save(out, np.stack(crops))
            part.rename(target)
            print(f"packed {source}: {len(crops)} crops", flush=True)
        arrays[source] = np.load(target, mmap_mode=mode)
    if not (cache / "masks.npy").exists():
        rows = labels["mask"][labels["source"] == "celebamask"]
        with zipfile.ZipFile(faces / "train/celebamask.zip") as archive:
            names = archive.NameToInfo
            masks = [Image.open(io.BytesIO(archive.read(r if r in names else r.split("/", 1)[1]))) for r in rows]
            np.save(cache / "masks.npy", np.stack([np.asarray(m) for m in masks]))
    arrays["masks"] = np.load(cache / "masks.npy", mmap_mode=mode)
    return arrays


class Labels:
    """Labels of one source as float arrays, NaN or -1 where unknown."""

    def __init__(self, archive, source):
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
