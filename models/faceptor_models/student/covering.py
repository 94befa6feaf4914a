"""Measures what `--blur all` covers.

    python -m faceptor_models.student.covering --binary ../target/release/faceptor

The scenes of `faces/scenes/dev` go through `faceptor image --out` and through `faceptor run --out`, one after the other, with solid
covers. A labelled face counts as covered if 95 % of its box no longer shows the photo's pixels. Labels that were looked at and are
no face of a person do not count. How far a head reaches beyond the box is measured on photos with masks.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from .development import Development

# Boxes of the labels with smaller scores are not to be relied on.
LEAST_SCORE = 0.75
COVERED = 0.95
# Labels (number of the scene, number of the face) that show no face: two dogs, two monkeys, a doll, five keys of a typewriter, and the
# back of a head. The labels are another detector's, not people's.
NO_FACES = {(136, 1), (193, 0), (196, 0), (214, 0), (215, 0), (258, 0), (258, 1), (258, 2), (258, 3), (258, 4), (262, 0)}
# Difference of a pixel, of 255, up to which it is the photo's.
SAME = 6
SOLID = np.array([40, 40, 44])
# HEAD and HEAD_ABOVE of crates/faceptor-results/src/cover.rs: width, height and shift in longer sides of the box.
HEAD, ABOVE = (1.5, 1.7), 0.15
# Classes of the masks: skin and features, ears, hair and hat.
PARTS = {"skin and features": [1, 2, 3, 4, 5, 6, 7, 10, 11, 12], "ears": [8, 9], "hair above the chin": [13, 14]}
HOW = ["--quiet", "--tasks", "none", "--blur", "all", "--blur-style", "solid"]


def changed(before, after):
    """Returns the pixels that do not show the photo any more."""
    return (np.abs(before.astype(int) - after.astype(int)) > SAME).any(2) | (after == SOLID).all(2)


def rgb(path):
    return np.asarray(Image.open(path).convert("RGB"))


def shares(scenes, pictures):
    """Returns the covered share of each labelled face, and of each picture without one."""
    faces, empty = [], []
    for number, (scene, (before, after)) in enumerate(zip(scenes, pictures, strict=True)):
        hidden = changed(before, after)
        for place, face in enumerate(scene["faces"]):
            left, top, width, height = face["box"]
            rows = slice(max(int(top), 0), int(top + height) + 1)
            box = hidden[rows, max(int(left), 0) : int(left + width) + 1]
            if face["score"] >= LEAST_SCORE and box.size and (number, place) not in NO_FACES:
                faces.append(box.mean())
        if not scene["faces"]:
            empty.append((after == SOLID).all(2).mean())
    return np.array(faces), np.array(empty)


def photos(binary, files, out):
    command = [binary, "image", "--json", *HOW, "--out", out, *files]
    lines = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout.splitlines()
    return [(rgb(file), rgb(json.loads(line)["annotated"])) for file, line in zip(files, lines, strict=True)]


def frames(binary, files, out):
    for file in files:
        path = out / "last.png"
        command = [binary, "run", *HOW, "--source", file, "--out", path]
        subprocess.run([str(word) for word in command], capture_output=True, check=True)
        yield rgb(file), rgb(path)


def heads(dev, binary):
    """Returns the share of each part of the head inside the cover, and the number of photos."""
    rows = [int(row) for row in dev.rows("celebamask")]
    command = [binary, "image", "--json", "--quiet", "--tasks", "none", *(dev.file(row) for row in rows)]
    lines = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout.splitlines()
    inside, whole, count = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0), 0
    for row, line in zip(rows, lines, strict=True):
        faces = json.loads(line)["faces"]
        if not faces:
            continue
        count += 1
        x, y, width, height = faces[0]["box"]
        points = np.array(faces[0]["keypoints"])
        side, right = max(width, height), points[1] - points[0] + points[4] - points[3]
        down = (points[3] + points[4] - points[0] - points[1]) / 2
        roll = np.arctan2(right[1] - down[0], right[0] + down[1])
        centre = np.array([x + width / 2, y + height / 2]) + ABOVE * side * np.array([np.sin(roll), -np.cos(roll)])
        across, along = HEAD[0] * side / 2, HEAD[1] * side / 2
        half = np.hypot([across * np.cos(roll), across * np.sin(roll)], [along * np.sin(roll), along * np.cos(roll)])
        mask = dev.mask(row)
        down, right = np.mgrid[: mask.shape[0], : mask.shape[1]]
        cover = (np.abs(right - centre[0]) <= half[0]) & (np.abs(down - centre[1]) <= half[1])
        chin = np.nonzero(np.isin(mask, PARTS["skin and features"]).any(1))[0].max()
        for name, classes in PARTS.items():
            part = np.isin(mask, classes) & ((down <= chin) | (name != "hair above the chin"))
            inside[name] += (part & cover).sum()
            whole[name] += part.sum()
    return {name: inside[name] / whole[name] for name in PARTS}, count


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--binary", default="../target/release/faceptor")
    p.add_argument("--limit", type=int, help="so many scenes, for a trial")
    args = p.parse_args()
    scenes = json.loads((Path(args.faces) / "scenes/dev.json").read_text())[: args.limit]
    root = Path(args.faces) / "scenes"
    # A path of the list begins with `scenes/`, its files lie below `dev/`.
    files = [root / "dev" / Path(scene["path"]).relative_to("scenes") for scene in scenes]
    lines = [
        "| command | labelled faces | covered % | pictures without a face | of their area covered % |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, play in [("image", photos), ("run", frames)]:
            out = Path(folder) / name
            out.mkdir()
            faces, empty = shares(scenes, play(args.binary, files, out))
            covered = f"{100 * (faces >= COVERED).mean():.1f}" if len(faces) else "-"
            area = f"{100 * empty.mean():.2f}" if len(empty) else "-"
            lines.append(f"| `{name}` | {len(faces)} | {covered} | {len(empty)} | {area} |")
    inside, count = heads(Development(args.faces), args.binary)
    parts = ", ".join(f"{100 * share:.1f} % of {name}" for name, share in inside.items())
    lines += ["", f"Inside the cover of a face, in {count} photos with masks: {parts}."]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
