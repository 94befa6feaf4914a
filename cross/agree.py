#!/usr/bin/env python3
"""Compares the results of two programs: `agree.py HOST.json ARM64.json`, each from `faceptor image --json`.

Every number of the first is compared with its counterpart in the second, within a tolerance for its kind. The integer
arithmetic is the same on both; what differs is the rounding of the float operations between.
"""

import json
import sys

# By the last key on the path to a number; all others are probabilities, shares and similarities.
TOLERANCE = {
    "box": 0.25, "keypoints": 0.25, "points": 0.25, "years": 0.25, "std": 0.25, "embedding": 0.02, "eyes_px": 0.25, "brightness": 1.0,
    "contrast": 1.0,
}  # fmt: skip
OTHER = 0.02
UNITS = {
    "box": "px", "keypoints": "px", "points": "px", "years": "years", "std": "years", "eyes_px": "px", "brightness": "levels",
    "contrast": "levels",
}  # fmt: skip
IGNORED = {"timing_us", "mask"}


class Difference(Exception):
    """Raised at the first difference: the path and both values."""


def compare(one, two, way, name, worst):
    """Compares both trees; keeps the largest difference of each kind in `worst`."""
    if isinstance(one, dict) and isinstance(two, dict):
        if one.keys() != two.keys():
            raise Difference(f"{way}: keys {sorted(one.keys() ^ two.keys())} are only in one of them")
        for key in one.keys() - IGNORED:
            compare(one[key], two[key], f"{way}.{key}", key, worst)
    elif isinstance(one, list) and isinstance(two, list):
        if len(one) != len(two):
            raise Difference(f"{way}: {len(one)} and {len(two)} entries")
        for i, (a, b) in enumerate(zip(one, two)):
            compare(a, b, f"{way}[{i}]", name, worst)
    elif type(one) in (int, float) and type(two) in (int, float):
        kind = name if name in TOLERANCE else "other"
        difference = abs(one - two)
        if difference > TOLERANCE.get(kind, OTHER):
            raise Difference(f"{way}: {one} and {two}")
        worst[kind] = max(worst.get(kind, 0.0), difference)
    elif one != two:
        raise Difference(f"{way}: {one!r} and {two!r}")


def main():
    host, other = ([json.loads(line) for line in open(path)] for path in sys.argv[1:3])
    faces = sum(len(line["faces"]) for line in host)
    if not faces:
        sys.exit("agree: the host found no face, so there is nothing to compare")
    worst = {}
    try:
        compare(host, other, "answers", "", worst)
    except Difference as difference:
        sys.exit(f"agree: the programs differ at {difference}")
    summary = ", ".join(f"{k} {v:.2g}{' ' + UNITS[k] if k in UNITS else ''}" for k, v in sorted(worst.items()))
    print(f"agree: {faces} face, all results agree; largest differences: {summary}")


if __name__ == "__main__":
    main()
