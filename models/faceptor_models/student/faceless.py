"""Draws pictures without a face: smileys, cartoon heads, clocks, sockets, fronts of cars and houses, textures, text, negatives.

    python -m faceptor_models.student.faceless OUT --count 500

Face finders take many of these for faces. `student.doubts` measures how many of them the program trusts.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from faceptor_models.common.paths import PORTRAIT

# The astronaut's head in the portrait, with hair: left, top, right, bottom. What lies outside shows no face.
HEAD = (135, 0, 315, 230)
SKIN = ((244, 205, 170), (225, 172, 130), (185, 128, 90), (120, 78, 52), (255, 219, 80), (255, 224, 189))


def colour(rng, low=0, high=256):
    return tuple(int(v) for v in rng.integers(low, high, 3))


def ground(rng):
    """Returns a background: plain, a gradient, or blurred noise."""
    width, height = (int(v) for v in rng.integers(200, 640, 2))
    kind = rng.integers(3)
    if kind == 0:
        return np.full((height, width, 3), (255, 255, 255) if rng.random() < 0.5 else colour(rng), np.uint8)
    if kind == 1:
        a, b = np.array(colour(rng)), np.array(colour(rng))
        part = np.linspace(0, 1, height)[:, None, None] * np.ones((1, width, 1))
        return (a + part * (b - a)).astype(np.uint8)
    noise = cv2.GaussianBlur(rng.normal(0, 255, (height, width, 3)), (0, 0), float(rng.uniform(2, 20)))
    return cv2.normalize(noise, None, 40, 220, cv2.NORM_MINMAX).astype(np.uint8)


class Pen:
    """Draws on a picture in units of a head: (0, 0) is its middle, 1 its half height."""

    def __init__(self, picture, rng):
        self.picture, self.rng = picture, rng
        height, width = picture.shape[:2]
        self.unit = float(rng.uniform(0.12, 0.42)) * min(width, height)
        self.middle = np.array([rng.uniform(self.unit, width - self.unit), rng.uniform(self.unit, height - self.unit)])
        self.roll = float(rng.normal(0, 8))
        self.line = max(1, int(self.unit * rng.uniform(0.02, 0.07)))

    def place(self, x, y):
        t = np.deg2rad(self.roll)
        return tuple(round(v) for v in self.middle + self.unit * np.array([x * np.cos(t) - y * np.sin(t), x * np.sin(t) + y * np.cos(t)]))

    def ellipse(self, x, y, rx, ry, fill, turn=0.0, first=0, last=360, thick=-1):
        axes = (max(1, int(rx * self.unit)), max(1, int(ry * self.unit)))
        cv2.ellipse(self.picture, self.place(x, y), axes, self.roll + turn, first, last, fill, thick, cv2.LINE_AA)

    def stroke(self, points, fill, thick=None):
        corners = np.array([self.place(x, y) for x, y in points], np.int32)
        cv2.polylines(self.picture, [corners], False, fill, thick or self.line, cv2.LINE_AA)

    def area(self, points, fill):
        cv2.fillPoly(self.picture, [np.array([self.place(x, y) for x, y in points], np.int32)], fill, cv2.LINE_AA)

    def box(self, x0, y0, x1, y1, fill):
        self.area([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)


def smiley(rng):
    picture = ground(rng)
    pen = Pen(picture, rng)
    dark = (20, 15, 10) if rng.random() < 0.7 else colour(rng, 0, 110)
    pen.ellipse(0, 0, 1, 1, (255, 214, 50) if rng.random() < 0.6 else colour(rng, 90))
    if rng.random() < 0.6:
        pen.ellipse(0, 0, 1, 1, dark, thick=pen.line)
    apart, high, size = rng.uniform(0.28, 0.45), rng.uniform(-0.4, -0.15), rng.uniform(0.07, 0.18)
    style = rng.integers(4)
    for side in (-1, 1):
        if style == 0:
            pen.ellipse(side * apart, high, size, size * rng.uniform(1, 1.8), dark)
        elif style == 1:
            pen.ellipse(side * apart, high, 1.6 * size, 1.8 * size, (255, 255, 255))
            pen.ellipse(side * apart, high, 0.8 * size, 0.9 * size, dark)
        elif style == 2:
            pen.ellipse(side * apart, high, 1.5 * size, 1.2 * size, dark, first=180, last=360, thick=pen.line)
        else:
            pen.stroke([(side * apart - size, high), (side * apart + size, high)], dark)
    if rng.random() < 0.3:
        pen.ellipse(0, 0.08, 0.07, 0.07, dark)
    wide, low = rng.uniform(0.35, 0.65), rng.uniform(0.1, 0.35)
    mouth = rng.integers(4)
    if mouth == 0:
        pen.ellipse(0, low, wide, rng.uniform(0.2, 0.5), dark, first=10, last=170, thick=pen.line)
    elif mouth == 1:
        pen.ellipse(0, low, wide, rng.uniform(0.3, 0.5), dark if rng.random() < 0.5 else (150, 30, 30), first=0, last=180)
    elif mouth == 2:
        pen.ellipse(0, low + 0.4, wide, 0.3, dark, first=190, last=350, thick=pen.line)
    else:
        pen.ellipse(0, low + 0.2, 0.2 * rng.uniform(0.6, 1.5), 0.25, dark)
    return picture


def cartoon(rng):
    """Draws a head with hair, brows, eyes with pupils, a nose and lips."""
    picture = ground(rng)
    pen = Pen(picture, rng)
    skin = SKIN[rng.integers(len(SKIN))]
    hair, dark = colour(rng, 0, 140), (30, 20, 20)
    shade = tuple(int(0.8 * v) for v in skin)
    pen.ellipse(0, -0.15, 0.95, 1.05, hair)
    if rng.random() < 0.5:
        pen.box(-0.95, -0.1, 0.95, 0.9, hair)
    pen.box(-0.3, 0.7, 0.3, 1.3, shade)
    pen.ellipse(0, 0.1, rng.uniform(0.68, 0.85), 0.95, skin)
    if rng.random() < 0.5:
        pen.ellipse(0, 0.1, 0.76, 0.95, dark, thick=pen.line)
    if rng.random() < 0.6:
        pen.ellipse(0, -0.62, 0.7, 0.3, hair)
    iris, apart, size = colour(rng, 20, 160), rng.uniform(0.26, 0.36), rng.uniform(0.09, 0.17)
    for side in (-1, 1):
        pen.ellipse(side * apart, -0.08, 1.3 * size, size * rng.uniform(0.6, 1.3), (255, 255, 255))
        pen.ellipse(side * apart, -0.08, 0.6 * size, 0.6 * size, iris)
        pen.ellipse(side * apart, -0.08, 0.3 * size, 0.3 * size, (0, 0, 0))
        pen.ellipse(side * apart, -0.26, 1.5 * size, 0.5 * size, hair, first=190, last=350, thick=2 * pen.line)
        if rng.random() < 0.3:
            pen.ellipse(side * 0.45, 0.35, 0.14, 0.1, (235, 150, 140))
    nose = rng.integers(3)
    if nose == 0:
        pen.stroke([(0.02, 0.0), (-0.1, 0.28), (0.06, 0.3)], shade)
    elif nose == 1:
        pen.ellipse(0, 0.25, 0.13, 0.09, shade)
    else:
        pen.area([(0, 0.05), (-0.1, 0.3), (0.1, 0.3)], shade)
    lips = (190, 70, 70) if rng.random() < 0.6 else dark
    if rng.random() < 0.5:
        pen.ellipse(0, 0.5, rng.uniform(0.2, 0.35), rng.uniform(0.06, 0.2), lips, last=180)
    else:
        pen.ellipse(0, 0.45, rng.uniform(0.2, 0.35), 0.15, lips, first=20, last=160, thick=2 * pen.line)
    return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 2.5))) if rng.random() < 0.5 else picture


def clock(rng):
    picture = ground(rng)
    pen = Pen(picture, rng)
    dark = colour(rng, 0, 90)
    pen.ellipse(0, 0, 1, 1, dark)
    pen.ellipse(0, 0, 0.92, 0.92, colour(rng, 200))
    for hour in range(12):
        t = np.deg2rad(30 * hour)
        if rng.random() < 0.5:
            pen.stroke([(0.78 * np.cos(t), 0.78 * np.sin(t)), (0.88 * np.cos(t), 0.88 * np.sin(t))], dark)
        else:
            cv2.putText(
                picture,
                str(hour or 12),
                pen.place(0.72 * np.sin(t) - 0.06, -0.72 * np.cos(t) + 0.06),
                0,
                pen.unit / 260,
                dark,
                pen.line // 2 + 1,
                cv2.LINE_AA,
            )
    for length in (0.45, 0.7):
        t = rng.uniform(0, 6.3)
        pen.stroke([(0, 0), (length * np.cos(t), length * np.sin(t))], dark, 2 * pen.line)
    return picture


def socket(rng):
    """Draws a wall socket: two or three holes, which look like eyes and a mouth."""
    picture = ground(rng)
    pen = Pen(picture, rng)
    plate, dark = colour(rng, 190), colour(rng, 0, 60)
    pen.box(-1, -1, 1, 1, plate)
    pen.ellipse(0, 0, 0.75, 0.75, tuple(max(0, v - 35) for v in plate))
    for side in (-1, 1):
        if rng.random() < 0.5:
            pen.ellipse(0.28 * side, -0.15, 0.09, 0.09, dark)
        else:
            pen.box(0.28 * side - 0.05, -0.35, 0.28 * side + 0.05, 0.0, dark)
    if rng.random() < 0.7:
        pen.ellipse(0, 0.35, 0.14, 0.14, dark, first=180 * rng.integers(2), last=360)
    return picture


def car(rng):
    picture = ground(rng)
    pen = Pen(picture, rng)
    body, dark = colour(rng, 30), (25, 25, 30)
    pen.area([(-0.7, -0.3), (-0.5, -0.9), (0.5, -0.9), (0.7, -0.3)], (120, 150, 170))
    pen.box(-1, -0.3, 1, 0.6, body)
    for side in (-1, 1):
        pen.box(side * 0.85 - 0.15, 0.5, side * 0.85 + 0.15, 0.9, dark)
        pen.ellipse(side * 0.7, 0.0, rng.uniform(0.14, 0.22), rng.uniform(0.1, 0.2), (250, 250, 220))
        pen.ellipse(side * 0.7, 0.0, 0.08, 0.08, (150, 150, 160))
    pen.ellipse(0, 0.3, 0.5, rng.uniform(0.08, 0.2), dark)
    return picture


def house(rng):
    picture = ground(rng)
    pen = Pen(picture, rng)
    pen.box(-1, -0.6, 1, 1, colour(rng, 100))
    pen.area([(-1.1, -0.6), (0, -1.3), (1.1, -0.6)], colour(rng, 0, 150))
    for side in (-1, 1):
        pen.box(side * 0.5 - 0.2, -0.4, side * 0.5 + 0.2, 0.0, (60, 80, 110))
        pen.stroke([(side * 0.5, -0.4), (side * 0.5, 0.0)], (240, 240, 240))
    pen.box(-0.2, 0.3, 0.2, 1, colour(rng, 0, 110))
    return picture


def texture(rng):
    picture = ground(rng)
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    period, kind = float(rng.uniform(6, 60)), rng.integers(5)
    if kind == 0:
        mask = ((x // period + y // period) % 2).astype(float)
    elif kind == 1:
        mask = 0.5 + 0.5 * np.sin((x * np.cos(period) + y * np.sin(period)) * 6.28 / period)
    elif kind == 2:
        mask = ((x + period * (y // period % 2)) % (2 * period) > 2) * (y % period > 2)
    elif kind == 3:
        mask = 0.5 + 0.5 * np.sin(np.hypot(x - width / 3, y - height / 2) * 6.28 / period)
    else:
        mask = (
            sum(
                cv2.resize(rng.random((2**n + 1, 2**n + 1)), (width, height), interpolation=cv2.INTER_CUBIC) / 2**k for k, n in enumerate(range(2, 8))
            )
            / 2
        )
    a, b = np.array(colour(rng)), np.array(colour(rng))
    return np.clip(a + mask[..., None] * (b - a) + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def text(rng):
    picture = ground(rng)
    height, width = picture.shape[:2]
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGOQ0123456789:-)(=@&%8"))
    for _ in range(rng.integers(4, 20)):
        at = (int(rng.integers(width)) - 60, int(rng.integers(height)))
        cv2.putText(
            picture,
            "".join(rng.choice(letters, 12)),
            at,
            int(rng.integers(8)),
            float(rng.uniform(0.5, 4)),
            colour(rng),
            int(rng.integers(1, 7)),
            cv2.LINE_AA,
        )
    return picture


def noise(rng):
    height, width = (int(v) for v in rng.integers(150, 500, 2))
    return np.clip(rng.normal(128, rng.uniform(10, 90), (height, width, 3)), 0, 255).astype(np.uint8)


def shapes(rng):
    picture = ground(rng)
    height, width = picture.shape[:2]
    for _ in range(rng.integers(5, 40)):
        at, size = (int(rng.integers(width)), int(rng.integers(height))), int(rng.uniform(4, 0.2 * width))
        if rng.random() < 0.6:
            cv2.circle(picture, at, size, colour(rng), -1 if rng.random() < 0.7 else 3, cv2.LINE_AA)
        else:
            cv2.rectangle(picture, at, (at[0] + size, at[1] + int(rng.uniform(4, 90))), colour(rng), -1)
    return picture


def portrait(rng):
    photo = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)
    return photo[:, ::-1] if rng.random() < 0.5 else photo


def negative(rng):
    """Inverts the portrait: every channel, or its brightness alone."""
    photo = portrait(rng)
    scale = float(rng.uniform(0.5, 1.6))
    photo = cv2.resize(np.ascontiguousarray(photo[: int(rng.integers(300, 512))]), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if rng.random() < 0.7:
        return 255 - photo
    parts = cv2.cvtColor(photo, cv2.COLOR_RGB2YCrCb)
    parts[..., 0] = 255 - parts[..., 0]
    return cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB)


def beside(rng):
    """Cuts a part out of the portrait that shows the flag, the suit or the shuttle, and enlarges it."""
    photo = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)
    side = int(rng.integers(60, 260))
    while True:
        x, y = (int(v) for v in rng.integers(0, 512 - side, 2))
        if x > HEAD[2] or y > HEAD[3] or x + side < HEAD[0]:
            break
    scale = float(rng.uniform(1, 4))
    return cv2.resize(np.ascontiguousarray(photo[y : y + side, x : x + side]), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


# The kinds, and how often each one is drawn.
KINDS = {smiley: 6, cartoon: 6, clock: 1, socket: 2, car: 2, house: 1, texture: 2, text: 1, noise: 1, shapes: 1, negative: 1, beside: 1}


def draw(count, seed=1):
    """Yields (kind, RGB picture)."""
    turns = [kind for kind, times in KINDS.items() for _ in range(times)]
    for n in range(count):
        kind = turns[n % len(turns)]
        yield kind.__name__, kind(np.random.default_rng([seed, n]))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path)
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for n, (kind, picture) in enumerate(draw(args.count, args.seed)):
        cv2.imwrite(str(args.out / f"{n:04}_{kind}.png"), np.ascontiguousarray(picture)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])


if __name__ == "__main__":
    main()
