"""Measures how a run notices cuts from one person to another, and that nothing else is taken for a cut.

    python -m faceptor_models.student.cuts --binary ../target/release/faceptor --faces ../../shared/faces --doc ../docs/behaviour.md

The films show dev crops of people, one after the other, and go through `faceptor run --json`. Two errors are counted: an id that
two people share, and a person who gets a second id while the picture shows the same person. The rule was fitted on people of
`w300` and `celebamask`; those of `lfw` are new to it.
"""

import argparse
import tempfile
from copy import copy

import cv2
import numpy as np

from faceptor_models.common.geometry import TEMPLATE

from .behaviour import RATE, Runner, renew, table
from .development import Development

SIDE = 320
# Pixels between the eyes, as in a webcam's picture at an arm's length.
EYES = 36.0
# Frames of a person between two cuts, and of a person in a film without cuts.
SHOWN, LONG = 5, 30


class People:
    """Places aligned crops of people in frames."""

    def __init__(self, dev, sources, count, seed=7):
        rng = np.random.default_rng(seed)
        rows = np.concatenate([dev.rows(source) for source in sources])
        rows = rows[dev.labels["score"][rows] > 0.8]
        known, self.crops = set(), []
        for i in rng.permutation(rows):
            person = int(dev.labels["identity"][i])
            if person >= 0 and person in known:
                continue
            known.add(person)
            self.crops.append(cv2.resize(dev.rgb(i), (256, 256), interpolation=cv2.INTER_AREA).astype(np.float32))
            if len(self.crops) == count:
                break
        wall = cv2.resize(rng.uniform(60, 190, (5, 5, 3)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        self.wall = np.clip(wall, 0, 255)

    def some(self, share):
        """Returns one of `share` of the people."""
        fewer = copy(self)
        fewer.crops = self.crops[::share]
        return fewer

    def frame(self, index, x=0.0, y=0.0, scale=1.0, roll=0.0, whole=True, bent=None, wall=None):
        """Returns a frame with a person whose eyes' middle is at the middle of the frame plus (x, y) eye distances.

        `whole` shows the crop with its background, without it the head alone stands before the wall. `bent` moves the crop's pixels.
        """
        crop = self.crops[index]
        if bent is not None:
            crop = cv2.remap(crop, *bent, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        factor = scale * EYES / (256 * 40 / 192)
        angle = np.deg2rad(roll)
        turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = 256 * TEMPLATE[:3].mean(0)
        place = np.array([SIDE / 2 + x * EYES, SIDE / 2 + y * EYES])
        matrix = np.concatenate([turn, (place - turn @ middle)[:, None]], 1)
        seen = cv2.warpAffine(crop, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        share = np.zeros((256, 256), np.float32)
        if whole:
            share[4:-4, 4:-4] = 1
        else:
            cv2.ellipse(share, (128, 132), (68, 96), 0, 0, 360, 1, -1)
        share = cv2.warpAffine(cv2.GaussianBlur(share, (0, 0), 4), matrix, (SIDE, SIDE))[..., None]
        return share * seen + (1 - share) * (self.wall if wall is None else wall)


def staged_cuts(people, rng, kind):
    """Films people, each for a few frames."""
    for index in range(len(people.crops)):
        place = {"whole": kind != "head before one wall"}
        if kind == "other place, size and roll":
            place |= {"x": rng.uniform(-0.4, 0.4), "y": rng.uniform(-0.4, 0.4), "scale": rng.uniform(0.8, 1.25), "roll": rng.uniform(-12, 12)}
        if kind == "other background":
            wall = cv2.resize(rng.uniform(0, 255, (9, 9, 3)).astype(np.float32), (SIDE, SIDE))
            place |= {"wall": wall, "x": rng.uniform(-0.1, 0.1), "y": rng.uniform(-0.1, 0.1)}
        for n in range(SHOWN):
            yield people.frame(index, **(place | {"x": place.get("x", 0) + 0.02 * n}))


def grid():
    return np.meshgrid(np.arange(256, dtype=np.float32), np.arange(256, dtype=np.float32))


def opened(amount):
    """Moves the lower part of the face down, as an opening mouth does."""
    x, y = grid()
    share = np.clip((y - 158) / 26, 0, 1) * np.exp(-(((x - 128) / 47) ** 2))
    return x, (y - amount * 53 * share).astype(np.float32)


def turned(amount):
    """Moves the middle of the face to the side, as a turning head does."""
    x, y = grid()
    depth = np.sqrt(np.clip(1 - ((x - 128) / 80) ** 2 - ((y - 138) / 107) ** 2, 0, None))
    return (x + amount * 53 * depth).astype(np.float32), y


def hand(frame, share, rng, tall):
    """Draws a hand that passes from left to right: `share` is its way, 0 to 1. It hides the whole face in between."""
    x = int(SIDE * (share * 1.6 - 0.3))
    skin = np.array([150, 110, 90], np.float32) + rng.normal(0, 4, 3)
    over = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(over, (x, SIDE // 2 + 20), (62, tall), 0, 0, 360, 1, -1)
    for finger in range(4):
        cv2.line(over, (x - 40 + 27 * finger, SIDE // 2), (x - 52 + 34 * finger, SIDE // 2 - tall - 30), 1, 19)
    shade = 1 + 0.25 * np.sin(np.arange(SIDE) / 9.0)[None, :, None] * np.cos(np.arange(SIDE) / 14.0)[:, None, None]
    return np.where(cv2.GaussianBlur(over, (0, 0), 1)[..., None] > 0.5, skin * shade, frame)


def blurred(frame, length, angle):
    kernel = np.zeros((length, length), np.float32)
    middle, reach = length // 2, length / 2
    way = (round(reach * np.cos(angle)), round(reach * np.sin(angle)))
    cv2.line(kernel, (middle - way[0], middle - way[1]), (middle + way[0], middle + way[1]), 1)
    return cv2.filter2D(frame, -1, kernel / kernel.sum())


def steady(people, rng, kind):
    """Films each person for 30 frames in which much changes, but not the person."""
    for index in range(len(people.crops)):
        phase, angle = rng.uniform(0, 6.28), rng.uniform(0, np.pi)
        for n in range(LONG):
            t = n / 30
            x, y = 0.02 * np.sin(3 * t + phase), 0.02 * np.cos(2 * t + phase)
            if kind == "motion, 8 eye distances/s":
                x = 0.8 * np.sin(10 * t)
                frame = people.frame(index, x, y)
            elif kind == "motion blur, 5 to 17 px":
                frame = blurred(people.frame(index, 0.4 * np.sin(10 * t), y), 5 + 2 * (n % 7), angle)
            elif kind == "flash and exposure steps":
                gain = 2.2 if n == 12 else 1.5 if n >= 20 else 0.6 if n >= 16 else 1.0
                frame = gain * people.frame(index, x, y)
            elif kind.startswith("hand passes"):
                frame = people.frame(index, x, y)
                span = 10 if "0.33 s" in kind else 20
                if 6 <= n < 6 + span:
                    frame = hand(frame, (n - 6) / (span - 1), rng, 75)
            elif kind == "mouth opens in 0.1 s":
                frame = people.frame(index, x, y, bent=opened(0.45 * np.clip((n - 10) / 3, 0, 1) - 0.45 * np.clip((n - 20) / 3, 0, 1)))
            elif kind == "head turns in 0.2 s":
                frame = people.frame(index, x, y, bent=turned(0.4 * np.sin(8 * t)))
            elif kind == "5 frames/s":
                far = {"x": 0.4 * np.sin(1.9 * n), "scale": 1 + 0.08 * np.sin(2.3 * n), "roll": 8 * np.sin(1.3 * n)}
                frame = people.frame(index, **far, bent=turned(0.15 * np.sin(1.7 * n)))
            elif kind == "roll, 90 degrees/s":
                frame = people.frame(index, x, y, roll=35 * np.sin(2.6 * t))
            else:
                frame = people.frame(index, x, y)
            yield frame


def persons(people, frames):
    """Returns the person of each frame of a film that shows each for so many frames."""
    return [index for index in range(len(people.crops)) for _ in range(frames)]


def shared_ids(lines, who):
    """Counts the cuts to a person who has an id of an earlier person, and those whose first frame shows a face."""
    owner, wrong, seen = {}, set(), set()
    first = {person: n for n, person in reversed(list(enumerate(who)))}
    for n, (line, person) in enumerate(zip(lines, who, strict=True)):
        for face in line["faces"]:
            if owner.setdefault(face["id"], person) != person:
                wrong.add(person)
            if n == first[person]:
                seen.add(person)
    return len(wrong), len(seen - {who[0]})


def lost_ids(lines, who):
    """Counts the people who have more than one id, and the frames without a face."""
    ids = {}
    for line, person in zip(lines, who, strict=True):
        ids.setdefault(person, set()).update(face["id"] for face in line["faces"])
    missing = sum(not line["faces"] for line in lines)
    return sum(len(found) > 1 for found in ids.values()), missing


CUTS = ("same place", "head before one wall", "other place, size and roll", "other background", "same place, 5 frames/s")
CHANGES = (
    "nothing",
    "noise, 8 grey levels",
    "motion, 8 eye distances/s",
    "motion blur, 5 to 17 px",
    "flash and exposure steps",
    "hand passes in 0.33 s",
    "hand passes in 0.67 s",
    "mouth opens in 0.1 s",
    "head turns in 0.2 s",
    "5 frames/s",
    "roll, 90 degrees/s",
)


def rate(kind):
    return 5 if "5 frames/s" in kind else RATE


def measure(runner, people, options=()):
    """Returns the rows of both tables for these people."""
    rows = {}
    for kind in CUTS:
        runner.film(staged_cuts(people, np.random.default_rng(1), kind), rate=rate(kind))
        wrong, seen = shared_ids(runner.run(*options), persons(people, SHOWN))
        rows[kind] = [wrong, seen, len(people.crops) - 1]
        print(kind, rows[kind], flush=True)
    people = people.some(8)
    for kind in CHANGES:
        runner.film(steady(people, np.random.default_rng(2), kind), 8.0 if kind.startswith("noise") else 3.0, rate(kind))
        lost, missing = lost_ids(runner.run(*options), persons(people, LONG))
        rows[kind] = [lost, len(people.crops), 100 * missing / (LONG * len(people.crops))]
        print(kind, rows[kind], flush=True)
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", required=True, help="the program faceptor")
    p.add_argument("--model", help="a bundle instead of the one inside the program")
    p.add_argument("--faces", required=True, help="the research photos")
    p.add_argument("--source", action="append", help="of the dev crops; lfw if none is given")
    p.add_argument("--people", type=int, default=201, help="for the cuts; an eighth of them for the films without cuts")
    p.add_argument("--doc", help="Markdown file whose tables are replaced; without it they are printed")
    args = p.parse_args()
    dev = Development(args.faces)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(args.binary, args.model, folder, SIDE, SIDE)
        rows = measure(runner, People(dev, args.source or ["lfw"], args.people))
    cuts = [[kind, rows[kind][2], rows[kind][0], rows[kind][1]] for kind in CUTS]
    changes = [[kind, rows[kind][1], rows[kind][0], f"{rows[kind][2]:.1f}"] for kind in CHANGES]
    made = {
        "cuts": table(["cut", "cuts", "with an id of an earlier person", "with a face in the first frame"], cuts),
        "changes": table(["30 frames of one person", "people", "with a second id", "frames without a face %"], changes),
    }
    if args.doc:
        renew(args.doc, made)
    for name, one in made.items():
        print(f"{name}\n\n{one}\n")


if __name__ == "__main__":
    main()
