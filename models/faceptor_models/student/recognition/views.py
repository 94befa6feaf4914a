"""Makes the views of a face that the tower learns from: errors of the alignment, and what cameras, light and worn things do to a face."""

import cv2
import numpy as np

from faceptor_models.common.geometry import ARCFACE_112

from .sizes import INPUT, MARGIN

GREY = np.array([0.299, 0.587, 0.114], np.float32)
# Shares of the views that get each change. Light views have the first three alone, at half their strength.
LIGHT = 0.3
SMALL, BLURRED, MOVED, DARK, NOISY, COMPRESSED = 0.3, 0.25, 0.08, 0.15, 0.25, 0.35
MASKED, SPECTACLES, COVERED = 0.08, 0.08, 0.12
# Pixels of the 112 px crop: a face in the distance is as wide as the smallest, and the blur is as soft as the largest.
SMALLEST_PX, SOFTEST_PX = 14, 4.5


def alignment(rng, px, light):
    """Draws the 2x3 map from a view's pixels to the window's, and returns (map, true where it mirrors)."""
    wide = not light and rng.random() < 0.3
    angle = rng.uniform(-20, 20) if wide else rng.normal(0, 1.5 if light else 4)
    scale = np.exp(rng.uniform(-0.15, 0.15) if wide else rng.normal(0, 0.02 if light else 0.05))
    shift = rng.uniform(-7, 7, 2) if wide else rng.normal(0, 0.8 if light else 2, 2)
    mirrored = rng.random() < 0.5
    c, s = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
    linear = np.array([[-c if mirrored else c, -s], [-s if mirrored else s, c]]) * (INPUT / px)
    middle = MARGIN + (INPUT - 1) / 2
    return np.concatenate([linear, (middle + shift - linear @ np.full(2, (px - 1) / 2))[:, None]], 1), mirrored


def placed(matrix):
    """Returns the template's five points in the view's pixels."""
    linear = np.linalg.inv(matrix[:, :2])
    return (ARCFACE_112 + MARGIN - matrix[:, 2]) @ linear.T


def colour(rng, dark=False):
    """Draws a colour 0..255, more often grey than not."""
    drawn = rng.uniform(0, 90 if dark else 255, 3)
    return drawn if rng.random() < 0.4 else np.full(3, drawn.mean())


def mask(rng, image, points):
    """Draws a mask of cloth over nose and mouth. uint8 in place."""
    (left, right, nose, left_mouth, right_mouth) = points
    across = right - left
    down = (left_mouth + right_mouth) / 2 - (left + right) / 2
    top = nose - down * rng.uniform(-0.1, 0.35)
    wide, deep = rng.uniform(0.75, 1.05), rng.uniform(0.9, 1.25)
    outline = [
        top - across * wide * 0.95 - down * 0.05, top - down * 0.12, top + across * wide * 0.95 - down * 0.05,
        top + across * wide * 0.8 + down * deep * 0.7, top + across * 0.3 + down * deep * 1.15, top - across * 0.3 + down * deep * 1.15,
        top - across * wide * 0.8 + down * deep * 0.7,
    ]  # fmt: skip
    drawn = colour(rng)
    cv2.fillConvexPoly(image, cv2.convexHull(np.array(outline, np.float32)).astype(np.int32), drawn.tolist(), cv2.LINE_AA)
    for share in rng.uniform(0.2, 0.9, rng.integers(0, 4)):
        a, b = (outline[0] * (1 - share) + outline[6] * share), (outline[2] * (1 - share) + outline[3] * share)
        cv2.line(image, a.astype(int).tolist(), b.astype(int).tolist(), (drawn * 0.85).tolist(), 1, cv2.LINE_AA)


def glasses(rng, image, points):
    """Draws glasses, dark ones half of the time. uint8 in place."""
    left, right = points[0], points[1]
    distance = np.linalg.norm(right - left)
    angle = float(np.degrees(np.arctan2(*(right - left)[::-1])))
    half = distance * rng.uniform(0.3, 0.46), distance * rng.uniform(0.2, 0.4)
    frame, thick = colour(rng, dark=rng.random() < 0.7).tolist(), int(rng.integers(1, 4))
    shift = (points[2] - (left + right) / 2) * rng.uniform(0, 0.25)
    if rng.random() < 0.5:
        share = rng.uniform(0.5, 1.0)
        shade = image.copy()
        for eye in (left, right):
            cv2.ellipse(shade, ((eye + shift).tolist(), (2 * half[0], 2 * half[1]), angle), colour(rng, dark=True).tolist(), -1, cv2.LINE_AA)
        cv2.addWeighted(shade, share, image, 1 - share, 0, image)
    for eye in (left, right):
        cv2.ellipse(image, ((eye + shift).tolist(), (2 * half[0], 2 * half[1]), angle), frame, thick, cv2.LINE_AA)
    inner = (right - left) / distance * half[0]
    cv2.line(image, (left + shift + inner).astype(int).tolist(), (right + shift - inner).astype(int).tolist(), frame, thick, cv2.LINE_AA)


def cover(rng, image):
    """Covers a rectangle with a colour or with noise, as hands, hair and phones do. uint8 in place."""
    px = image.shape[0]
    high, wide = (rng.uniform(0.12, 0.4, 2) * px).astype(int)
    top, left = rng.integers(0, px - high), rng.integers(0, px - wide)
    kind = rng.integers(0, 255, (high, wide, 3)) if rng.random() < 0.3 else colour(rng)
    image[top : top + high, left : left + wide] = kind


def shrunk(rng, image):
    """Takes the face as small as far ones are, and magnifies it again in one of the usual ways."""
    px = image.shape[0]
    low = round(px / INPUT * np.exp(rng.uniform(np.log(SMALLEST_PX), np.log(70))))
    how = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)[rng.integers(3)]
    return cv2.resize(cv2.resize(image, (low, low), interpolation=cv2.INTER_AREA), (px, px), interpolation=how)


def moved(rng, image):
    """Blurs along a line, as motion does."""
    length = int(rng.integers(3, max(4, image.shape[0] // 9)))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    turned = cv2.warpAffine(kernel, cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1), (length, length))
    return cv2.filter2D(image, -1, turned / max(turned.sum(), 1e-6), borderType=cv2.BORDER_REPLICATE)


def light_of(rng, image, light):
    """Changes exposure, contrast and tint, sometimes to grey; float32 0..255."""
    if rng.random() < (0.08 if light else 0.15):
        image = np.repeat((image @ GREY)[..., None], 3, 2)
    mean, much = image.mean(), 0.5 if light else 1.0
    gain = rng.uniform(1 - 0.35 * much, 1 + 0.35 * much) * rng.uniform(1 - 0.12 * much, 1 + 0.12 * much, 3).astype(np.float32)
    image = (image - mean) * gain + mean + rng.uniform(-35, 35) * much
    if not light and rng.random() < DARK:
        image = 255 * (np.clip(image, 0, 255) / 255) ** rng.uniform(1, 2.2) * rng.uniform(0.12, 0.7)
        image += rng.normal(0, rng.uniform(1, 7), image.shape)
    if not light and rng.random() < NOISY:
        image = image + rng.normal(0, rng.uniform(1, 14), image.shape)
    return image


def view(rng, face, px):
    """Returns one view uint8 [px, px, 3] of a window uint8 [WINDOW, WINDOW, 3]."""
    light = rng.random() < LIGHT
    matrix, _ = alignment(rng, px, light)
    image = cv2.warpAffine(face, matrix, (px, px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
    if not light:
        points = placed(matrix)
        if rng.random() < MASKED:
            mask(rng, image, points)
        if rng.random() < SPECTACLES:
            glasses(rng, image, points)
        if rng.random() < COVERED:
            cover(rng, image)
        if rng.random() < SMALL:
            image = shrunk(rng, image)
        if rng.random() < BLURRED:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, SOFTEST_PX) * px / INPUT, borderType=cv2.BORDER_REPLICATE)
        if rng.random() < MOVED:
            image = moved(rng, image)
    image = np.clip(light_of(rng, image.astype(np.float32), light) + 0.5, 0, 255).astype(np.uint8)
    if not light and rng.random() < COMPRESSED:
        _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 85))))
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image


class Batches:
    """Makes batches of views from packed faces; the same seed always gives the same batch."""

    def __init__(self, packed, batch, weigh=None):
        self.packed, self.batch = packed, batch
        chance = np.ones(len(packed))
        for source, weight in (weigh or {}).items():
            chance[packed.source == source] = weight
        self.upto = np.cumsum(chance)

    def make(self, seed, size=None):
        rng = np.random.default_rng(seed)
        rows = np.searchsorted(self.upto, rng.random(self.batch) * self.upto[-1], side="right")
        return {"image": np.stack([view(rng, self.packed.face(row), size or INPUT) for row in rows]), "rows": rows.astype(np.int64)}
