"""Decodes raw maps to faces in photo pixels: letterbox, decoding, non-maximum suppression (NumPy only).

This is the reference for the Rust runtime; boxes are (x0, y0, x1, y1) inside this package.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .network import MEAN, STD, STRIDES


class Faces(NamedTuple):
    scores: np.ndarray  # [n], 0..1, falling
    boxes: np.ndarray  # [n, 4] x0, y0, x1, y1, px
    keypoints: np.ndarray  # [n, 5, 2], px

    def take(self, index) -> "Faces":
        return Faces(self.scores[index], self.boxes[index], self.keypoints[index])


def letterbox(photo: np.ndarray, width: int, height: int) -> tuple[np.ndarray, float]:
    """Maps an RGB uint8 photo to (float32 [1, 3, height, width] with the photo at the top left, scale net/photo)."""
    rows, columns = photo.shape[:2]
    scale = min(width / columns, height / rows)
    fitted = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    # Shrinking averages: point sampling would give the network aliasing that it never trained on.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(photo, fitted, interpolation=method)
    tensor = np.zeros((1, 3, height, width), np.float32)
    tensor[0, :, : fitted[1], : fitted[0]] = (small.astype(np.float32).transpose(2, 0, 1) - MEAN) / STD
    return tensor, scale


def decode(maps: list[np.ndarray], scale: float, threshold: float) -> Faces:
    """Decodes the maps of one picture [1, 15, h, w]: every cell above `threshold`, in photo pixels, before suppression."""
    limit = np.log(threshold / (1 - threshold))
    scores, boxes, keypoints = [], [], []
    for raw, stride in zip(maps, STRIDES):
        raw = raw[0]
        row, column = np.nonzero(raw[0] > limit)
        cell = raw[:, row, column].astype(np.float64)
        x, y = (column + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5
        left, top, right, bottom = cell[1:5] * stride
        scores.append(1 / (1 + np.exp(-cell[0])))
        boxes.append(np.stack([x - left, y - top, x + right, y + bottom], 1))
        points = cell[5:15].reshape(5, 2, -1).transpose(2, 0, 1) * stride
        keypoints.append(points + np.stack([x, y], 1)[:, None])
    # Pixel centres are whole numbers on both sides, so a net coordinate c is (c + 0.5) / scale - 0.5 in the photo.
    scores = np.concatenate(scores)
    order = np.argsort(-scores, kind="stable")
    back = lambda a: (np.concatenate(a)[order] + 0.5) / scale - 0.5  # noqa: E731
    return Faces(scores[order], back(boxes), back(keypoints))


def iou(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of box [4] with boxes [n, 4]."""
    corner0, corner1 = np.maximum(one[:2], many[:, :2]), np.minimum(one[2:], many[:, 2:])
    overlap = np.prod(np.clip(corner1 - corner0, 0, None), 1)
    area = np.prod(one[2:] - one[:2]) + np.prod(many[:, 2:] - many[:, :2], 1)
    return overlap / np.maximum(area - overlap, 1e-9)


def inside(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Returns the share of the smaller box that lies inside the other, box [4] with boxes [n, 4]."""
    corner0, corner1 = np.maximum(one[:2], many[:, :2]), np.minimum(one[2:], many[:, 2:])
    overlap = np.prod(np.clip(corner1 - corner0, 0, None), 1)
    area = np.minimum(np.prod(one[2:] - one[:2]), np.prod(many[:, 2:] - many[:, :2], 1))
    return overlap / np.maximum(area, 1e-9)


def suppress(faces: Faces, nms_iou: float, nms_inside: float = 1.1) -> Faces:
    """Suppresses greedily: a face that overlaps a better one by more than either limit is removed."""
    keep, left = [], np.arange(len(faces.scores))
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        box, others = faces.boxes[best], faces.boxes[left]
        left = left[(iou(box, others) <= nms_iou) & (inside(box, others) <= nms_inside)]
    return faces.take(np.array(keep, int))


def merge(parts: list[Faces]) -> Faces:
    """Joins the detections of several input sizes in one list, best first."""
    scores = np.concatenate([p.scores for p in parts])
    order = np.argsort(-scores, kind="stable")
    return Faces(scores[order], np.concatenate([p.boxes for p in parts])[order], np.concatenate([p.keypoints for p in parts])[order])
