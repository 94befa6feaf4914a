"""Aligns the face of a photo: a YuNet detector finds it, and its five keypoints place it in the aligned frame."""

from typing import NamedTuple

import cv2
import numpy as np

from faceptor_models.common.geometry import TEMPLATE

# Faces of tight crops touch the rim, where the detector misses them, so the photo gets a black margin of this share of its
# longer side.
MARGIN = 0.25
LEAST_SIDE_PX, MAGNIFIED_PX = 96, 144  # photos smaller than the first are magnified to the second or a little more
MOST_SIDE_PX = 640  # larger ones are shrunk for the detector only
LEAST_SCORE = 0.3


class Found(NamedTuple):
    """Describes one detected face in the photo's pixels; the centre of the top-left pixel is (0, 0)."""

    score: float
    box: np.ndarray  # [4] x, y, w, h
    keypoints: np.ndarray  # [5, 2] eyes, nose, mouth corners, left to right in the image


def magnified(rgb):
    """Enlarges photos of a few dozen pixels by a whole number, because the detector's points on them are coarse."""
    longest = max(rgb.shape[:2])
    if longest >= LEAST_SIDE_PX:
        return rgb
    times = -(-MAGNIFIED_PX // longest)
    return cv2.resize(rgb, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)


class Detector:
    """Runs YuNet (ONNX with a dynamic input) through OpenCV."""

    def __init__(self, path):
        self.net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), LEAST_SCORE, 0.3, 5000)

    def faces(self, rgb):
        """Returns every face of a photo, best first."""
        margin = round(MARGIN * max(rgb.shape[:2]))
        bgr = cv2.copyMakeBorder(rgb[..., ::-1], margin, margin, margin, margin, cv2.BORDER_CONSTANT)
        scale = min(1.0, MOST_SIDE_PX * (1 + 2 * MARGIN) / max(bgr.shape[:2]))
        if scale < 1:
            bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self.net.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = self.net.detect(np.ascontiguousarray(bgr))
        if rows is None:
            return []
        found = []
        for row in rows[np.argsort(-rows[:, 14], kind="stable")]:
            points = row[4:14].reshape(5, 2) / scale - margin
            found.append(Found(float(row[14]), np.append(row[:2] / scale - margin, row[2:4] / scale), points))
        return found


def choose(found, near=None):
    """Chooses the labelled face: the best score or, among boxes about the middle of the points `near`, the nearest."""
    if near is not None:
        middle = (np.min(near, 0) + np.max(near, 0)) / 2
        found = [f for f in found if (f.box[:2] <= middle).all() and (middle <= f.box[:2] + f.box[2:]).all()]
        found.sort(key=lambda f: np.linalg.norm(f.box[:2] + f.box[2:] / 2 - middle))
    return found[0] if found else None


def to_template(keypoints, template=TEMPLATE):
    """Fits the similarity [2, 3] of the keypoints to the template by least median of squares, so a turned head's nose does not count.

    Returns None where there is none (keypoints that coincide).
    """
    matrix, _ = cv2.estimateAffinePartial2D(keypoints.astype(np.float32), np.asarray(template, np.float32), method=cv2.LMEDS)
    return matrix if matrix is not None and np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:, :2])) > 1e-9 else None


def crop(rgb, matrix, side, average=False):
    """Warps the photo through a 2x3 matrix to `side` pixels square, black beyond the photo.

    With `average` it takes block means first where the photo shrinks by more than two, or fine texture aliases. Teachers do
    without: they were trained on plain bilinear crops.
    """
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if average and scale < 0.5:
        less = 1 / int(1 / scale)
        small = cv2.resize(rgb, None, fx=less, fy=less, interpolation=cv2.INTER_AREA)
        ratio = np.array([small.shape[1] / rgb.shape[1], small.shape[0] / rgb.shape[0]])
        shift = matrix[:, 2] + matrix[:, :2] @ (0.5 / ratio - 0.5)
        rgb, matrix = small, np.concatenate([matrix[:, :2] / ratio, shift[:, None]], 1)
    return cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR)
