"""Makes training samples of scenes: decodes every picture once, then crops, turns, scales and degrades it at random.

Sample `index` depends only on (seed, index), so a resumed run sees the samples of an unbroken one. Inside a sample boxes are
(x0, y0, x1, y1) px; a sample is (picture uint8 RGB [size, size, 3], faces [G, 4], keypoints [G, 5, 2], ignored [I, 4]).
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from .network import MEAN, STD

SURE = 0.75  # detector labels below this score are neither faces nor background
# Share of samples drawn from each source; w300 is closest to ordinary photos, objects hold the negatives.
SHARES = {"w300": 0.5, "muxspace": 0.15, "objects": 0.35}
SMALLEST_FACE_PX = 8.0  # smaller ones become ignored regions
MOST_ENLARGED = 2.5
MIRRORED = [1, 0, 2, 4, 3]


@dataclass
class Scene:
    source: str
    levels: list[np.ndarray]  # the picture and its halvings
    boxes: np.ndarray  # [n, 4]
    keypoints: np.ndarray  # [n, 5, 2]
    scores: np.ndarray  # [n]


def load_scenes(faces: Path, split: str, limit: int | None = None) -> list[Scene]:
    """Loads all scenes of `train` (from its zip) or `dev` (loose files) below the folder `faces`."""
    folder = faces / "scenes"
    records = json.loads((folder / f"{split}.json").read_text())
    if limit:
        records = records[:: max(1, len(records) // limit)]  # evenly, so that every source is present
    archive = zipfile.ZipFile(folder / "train.zip") if split == "train" else None
    scenes = []
    for record in records:
        path = record["path"]
        data = archive.read(path) if archive else scene_file(faces, record).read_bytes()
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        levels = [picture]
        while min(levels[-1].shape[:2]) >= 64:
            rows, columns = levels[-1].shape[:2]
            levels.append(cv2.resize(levels[-1], (columns // 2, rows // 2), interpolation=cv2.INTER_AREA))
        labels = record["faces"]
        boxes = np.array([f["box"] for f in labels], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        keypoints = np.array([f["keypoints"] for f in labels], np.float32).reshape(-1, 5, 2)
        scores = np.array([f["score"] for f in labels], np.float32)
        scenes.append(Scene(record["source"], levels, boxes, keypoints, scores))
    return scenes


def scene_file(faces: Path, record: dict) -> Path:
    """Returns the path of a dev record's picture."""
    return faces / "scenes" / "dev" / Path(record["path"]).relative_to("scenes")


class Sampler:
    """Draws training samples of `size` x `size` px."""

    def __init__(self, scenes: list[Scene], size: int, seed: int):
        self.size, self.seed = size, seed
        self.scenes = {s: [x for x in scenes if x.source == s] for s in SHARES}
        self.empty = [x for x in self.scenes["objects"] if len(x.boxes) == 0]

    def sample(self, index: int):
        dice = np.random.default_rng((self.seed, index))
        canvas = self._background(dice)
        labels = []
        if dice.random() < 0.25:
            # Mosaic: four scenes, each clipped to its quarter.
            cut = (self.size * dice.uniform(0.3, 0.7, 2)).astype(int)
            for x0, x1 in ((0, cut[0]), (cut[0], self.size)):
                for y0, y1 in ((0, cut[1]), (cut[1], self.size)):
                    labels.append(self._place(dice, canvas, x0, y0, x1, y1))
        else:
            labels.append(self._place(dice, canvas, 0, 0, self.size, self.size))
        canvas = degrade(dice, canvas)
        return canvas, *(np.concatenate(part) for part in zip(*labels))

    def _background(self, dice) -> np.ndarray:
        """Draws what shows beyond a scene's edge: letterbox grey, black, a colour, noise or a picture without faces."""
        size, kind = self.size, dice.random()
        canvas = np.empty((size, size, 3), np.uint8)
        if kind < 0.3:
            canvas[:] = round(MEAN)
        elif kind < 0.42:
            canvas[:] = 0
        elif kind < 0.48:
            canvas[:] = dice.integers(0, 256, 3)
        elif kind < 0.51:
            canvas[:] = dice.integers(0, 256, canvas.shape)
        else:
            picture = self.empty[dice.integers(len(self.empty))].levels[0]
            rows, columns = picture.shape[:2]
            side = int(min(rows, columns) * dice.uniform(0.4, 1))
            y, x = dice.integers(rows - side + 1), dice.integers(columns - side + 1)
            cv2.resize(picture[y : y + side, x : x + side], (size, size), dst=canvas, interpolation=cv2.INTER_AREA)
        return canvas

    def _place(self, dice, canvas, x0: int, y0: int, x1: int, y1: int):
        """Draws one random scene into a rectangle of the canvas and returns its labels there."""
        source = dice.choice(list(SHARES), p=list(SHARES.values()))
        scene = self.scenes[source][dice.integers(len(self.scenes[source]))]
        rows, columns = scene.levels[0].shape[:2]
        width, height = x1 - x0, y1 - y0
        fit = min(width / columns, height / rows)
        sure = np.nonzero(scene.scores >= SURE)[0]
        if len(sure) and dice.random() < 0.85:
            # The sample shows one face at a size between the smallest and more than the frame. Big faces of a scene are
            # preferred a little, because a small one cannot be enlarged much.
            span = (scene.boxes[sure, 2:] - scene.boxes[sure, :2]).max(1)
            chosen = dice.choice(len(sure), p=np.sqrt(span) / np.sqrt(span).sum())
            largest = 1.25 * min(width, height)
            wanted = np.exp(dice.uniform(np.log(9.0), np.log(largest)))
            kind = dice.random()
            if kind < 0.15:
                wanted = dice.uniform(0.6, 1.25) * min(width, height)
            elif kind < 0.25:
                # So close that only parts are visible: an eye or an ear is not a small face.
                wanted = dice.uniform(1.25, 3.5) * min(width, height)
            scale = wanted / span[chosen]
            focus = scene.boxes[sure[chosen]].reshape(2, 2).mean(0)
            # The middle of the face may lie anywhere where most of it is still visible.
            room = np.array([width, height], float)
            margin = np.minimum(wanted * 0.3, room * 0.4)
            spot = dice.uniform(margin, room - margin)
        else:
            scale = fit * np.exp(dice.uniform(np.log(0.6), np.log(3.0)))
            room = np.array([width, height], float)
            focus = dice.uniform(0, 1, 2) * (columns, rows)
            shown = np.array([columns, rows]) * scale
            focus = np.where(shown < room, np.array([columns, rows]) / 2, focus)
            spot = room / 2 + dice.uniform(-0.25, 0.25, 2) * room
        if dice.random() < 0.8:
            scale = max(scale, 0.45 * fit)  # mostly no stamps on an empty sheet
        scale = min(scale, MOST_ENLARGED)
        turn = 0.0 if dice.random() < 0.4 else np.deg2rad(np.clip(dice.normal(0, 13), -35, 35))
        mirror = dice.random() < 0.5
        # Pixel (source) -> pixel (canvas): mirror, turn and scale about `focus`, then move it to `spot`.
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        if mirror:
            linear = linear @ np.diag([-1.0, 1.0])
        move = spot - linear @ focus
        level = int(np.clip(np.floor(np.log2(1 / max(scale, 1e-6)) + 0.35), 0, len(scene.levels) - 1))
        step = np.array([columns, rows]) / scene.levels[level].shape[1::-1]
        matrix = np.concatenate([linear * step, (linear @ ((step - 1) / 2) + move)[:, None]], 1)
        view = np.ascontiguousarray(canvas[y0:y1, x0:x1])
        cv2.warpAffine(scene.levels[level], matrix, (width, height), dst=view, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
        canvas[y0:y1, x0:x1] = view
        boxes, keypoints = move_labels(scene.boxes, scene.keypoints, linear, move, mirror)
        faces, points, ignored = sort_labels(boxes, keypoints, scene.scores, width, height)
        corner = np.array([x0, y0], np.float32)
        return faces + np.tile(corner, 2), points + corner, ignored + np.tile(corner, 2)


def move_labels(boxes, keypoints, linear, move, mirror: bool):
    """Maps boxes [n, 4] and keypoints [n, 5, 2] by x -> linear x + move; keypoint names follow the mirror."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 @ linear.T + move
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    # A face is closer to the ellipse in its box than to the box: the turned ellipse's extent.
    extent = np.sqrt(half**2 @ (linear.T**2))
    points = keypoints @ linear.T + move
    if mirror:
        points = points[:, MIRRORED]
    return np.concatenate([middle - extent, middle + extent], 1).astype(np.float32), points.astype(np.float32)


def sort_labels(boxes, keypoints, scores, width: int, height: int):
    """Sorts the labels of a `width` x `height` view into (faces, keypoints, ignored boxes, which may reach beyond the view)."""
    corner0 = np.clip(boxes[:, :2], 0, None)
    corner1 = np.minimum(boxes[:, 2:], (width, height))
    seen = np.prod(np.clip(corner1 - corner0, 0, None), 1) / np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], 1), 1e-6)
    big = (boxes[:, 2:] - boxes[:, :2]).max(1) >= SMALLEST_FACE_PX
    face = (scores >= SURE) & big & (seen >= 0.55)
    ignored = ~face & (seen > 0.1)
    return boxes[face], keypoints[face], boxes[ignored]


def degrade(dice, picture: np.ndarray) -> np.ndarray:
    """Degrades a picture with blur, colour, light, grey and noise, like a cheap camera in bad light."""
    if dice.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), dice.uniform(0.4, 1.4))
    if dice.random() < 0.7:
        gain = np.exp(dice.normal(0, 0.2)) * np.exp(dice.normal(0, 0.08, 3))
        gamma = np.exp(dice.normal(0, 0.25))
        ramp = (np.arange(256) / 255.0) ** gamma
        shift = dice.normal(0, 12)
        contrast = np.exp(dice.normal(0, 0.15))
        table = ((ramp[:, None] * gain - 0.5) * contrast + 0.5) * 255 + shift
        picture = cv2.LUT(picture, np.clip(table, 0, 255).astype(np.uint8)[None])
    if dice.random() < 0.15:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if dice.random() < 0.2:
        noise = dice.standard_normal(picture.shape, np.float32) * dice.uniform(2, 14)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if dice.random() < 0.15:
        quality = int(dice.integers(25, 80))
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return picture


class Samples(torch.utils.data.Dataset):
    """Gives a DataLoader the samples `first` .. `last`."""

    def __init__(self, sampler: Sampler, first: int, last: int):
        self.sampler, self.first, self.last = sampler, first, last

    def __len__(self):
        return self.last - self.first

    def __getitem__(self, index):
        cv2.setNumThreads(0)
        return self.sampler.sample(self.first + index)


def collate(samples):
    """Stacks samples as (float [B, 3, H, W], list of (faces, keypoints, ignored) tensors)."""
    pictures = torch.from_numpy(np.stack([s[0] for s in samples])).permute(0, 3, 1, 2).float()
    targets = [tuple(torch.from_numpy(np.asarray(part, np.float32)) for part in s[1:]) for s in samples]
    return (pictures.contiguous() - MEAN) / STD, targets
