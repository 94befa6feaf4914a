"""Computes what a group of tasks sees of a picture, and maps its answers back to the picture, as `[[group]]` describes.

Pictures are RGB uint8 [H, W, 3]. Coordinates are pixels, x first; the centre of the first pixel is (0, 0).
"""

import cv2
import numpy as np

# The argument of atanh stays below 1.
TANH_CLIP = 0.999


def similarity(source, target):
    """Returns the [3, 3] similarity transform that brings points [n, 2] nearest to others (Umeyama), never mirroring."""
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    u, spread, vt = np.linalg.svd(b.T @ a)
    turn = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ turn @ vt
    scale = (spread * np.diag(turn)).sum() / (a**2).sum()
    matrix = np.eye(3)
    matrix[:2, :2] = scale * rotation
    matrix[:2, 2] = target.mean(0) - scale * rotation @ source.mean(0)
    return matrix


def to_keypoints(group, keypoints):
    """Maps picture to tensor pixels by five keypoints and the group's template."""
    return similarity(keypoints, np.asarray(group.template) * group.size - 0.5)


def to_box(group, box, square=True):
    """Maps picture to tensor pixels by a box (x1, y1, x2, y2). The official data sets stretch theirs: `square=False`."""
    x1, y1, x2, y2 = (float(v) for v in box)
    if square:
        side, middle = max(x2 - x1, y2 - y1), ((x1 + x2) / 2, (y1 + y2) / 2)
        (x1, x2), (y1, y2) = ((m - side / 2, m + side / 2) for m in middle)
    size, scale, centre = group.size, group.box_scale, (group.size - 1) / 2
    kx, ky = size / (x2 - x1), size / (y2 - y1)
    inner = np.array([[kx, 0, -x1 * kx - 0.5], [0, ky, -y1 * ky - 0.5], [0, 0, 1]])
    about = np.array([[scale, 0, centre * (1 - scale)], [0, scale, centre * (1 - scale)], [0, 0, 1]])
    return about @ inner


def whole(group, picture):
    """Maps picture to tensor pixels for a picture that is already the group's crop."""
    height, width = picture.shape[:2]
    kx, ky = group.size / width, group.size / height
    return np.array([[kx, 0, 0.5 * kx - 0.5], [0, ky, 0.5 * ky - 0.5], [0, 0, 1]])


def widen(pixels, group):
    """Maps tensor pixels to the pixels of the crop before the group's warp, on one axis."""
    if group.warp != "tanh":
        return pixels
    w, u = group.warp_tanh, 2 * pixels / group.size - 1
    beyond = np.clip((np.abs(u) - 1 + w) / w, -TANH_CLIP, TANH_CLIP)
    moved = np.where(np.abs(u) > 1 - w, np.sign(u) * (np.arctanh(beyond) * w + 1 - w), u)
    return (moved + 1) * group.size / 2


def narrow(pixels, group):
    """Inverts `widen`."""
    if group.warp != "tanh":
        return pixels
    w, u = group.warp_tanh, 2 * pixels / group.size - 1
    moved = np.where(np.abs(u) > 1 - w, np.sign(u) * (np.tanh((np.abs(u) - 1 + w) / w) * w + 1 - w), u)
    return (moved + 1) * group.size / 2


def apply(matrix, points):
    """Maps points [..., 2] through a [3, 3] affine matrix."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def sampled(group, picture, matrix):
    """Returns what the group sees of a picture, float RGB [size, size, 3], by bilinear samples."""
    axis = widen(np.arange(group.size, dtype=np.float64), group)
    places = apply(np.linalg.inv(matrix), np.stack(np.meshgrid(axis, axis), -1)).astype(np.float32)
    border = cv2.BORDER_CONSTANT if group.border == "black" else cv2.BORDER_REPLICATE
    return cv2.remap(picture.astype(np.float32), places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=border, borderValue=0)


def normalised(group, seen):
    """Converts RGB [size, size, 3] to the group's tensor [channels, size, size]."""
    if group.colour == "grey":
        seen = seen @ np.array([0.299, 0.587, 0.114], np.float32)
        seen = seen[..., None]
    elif group.colour == "bgr":
        seen = seen[..., ::-1]
    normal = (seen - np.asarray(group.mean, np.float32)) / np.asarray(group.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)


def view(group, picture, matrix):
    """Returns the group's normalised tensor [channels, size, size] of a picture."""
    return normalised(group, sampled(group, picture, matrix))


def points_back(group, points, matrix):
    """Maps points [n, 2] in 0..1 of the tensor to picture pixels."""
    return apply(np.linalg.inv(matrix), widen(np.asarray(points, np.float64) * group.size - 0.5, group))


def classes_back(group, logits, matrix, height, width):
    """Maps logits [H, W, C] on the tensor's grid to the class of every picture pixel: it samples first, then compares.

    Pixels that the tensor does not show are class 0.
    """
    grid = np.stack(np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)), -1)
    places = narrow(apply(matrix, grid), group)
    scale = logits.shape[0] / group.size
    places = ((places + 0.5) * scale - 0.5).astype(np.float32)
    planes = [
        cv2.remap(np.ascontiguousarray(logits[..., c], dtype=np.float32), places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderValue=0)
        for c in range(logits.shape[-1])
    ]
    return np.stack(planes, -1).argmax(-1).astype(np.uint8)
