"""Measures which faces the program doubts: blurred, small, dark, rolled, cut off by the border, and things that are no faces.

    python -m faceptor_models.student.doubts --binary ../target/release/faceptor --doc ../docs/behaviour.md

All tables but that of false faces need the research photos (`--faces`); without them they stay as they are.
"""

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceptor_models.common.metrics import landmark_error
from faceptor_models.common.paths import FACES

from .accuracy import ask, overlap, person
from .behaviour import put, table
from .development import Development
from .faceless import draw

MARKS = ("<!-- {} made by student.doubts -->", "<!-- end of {} -->")
# The limits were chosen on the first 300 people in this order; the tables show others.
ORDER, FITTED = 3, 300
# Seed of the drawn pictures: the face check was fitted to others.
SEED = 3
SIDES = ("left", "top", "right", "bottom")


def motion(rgb, length, degrees):
    """Averages `length` pixels along a direction."""
    kernel, middle = np.zeros((length, length), np.float32), (length - 1) / 2
    way = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    for t in np.linspace(-middle, middle, 8 * length):
        x, y = middle + t * way
        for column in (int(x), int(x) + 1):
            for row in (int(y), int(y) + 1):
                if column < length and row < length:
                    kernel[row, column] += (1 - abs(x - column)) * (1 - abs(y - row))
    return cv2.filter2D(rgb, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def gaussian(sigma):
    return lambda rgb, rng: cv2.GaussianBlur(rgb, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def moved(length, degrees):
    return lambda rgb, rng: motion(rgb, length, degrees)


def smaller(side):
    return lambda rgb, rng: cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)


def darker(gain):
    return lambda rgb, rng: gain * rgb + 2 * rng.standard_normal(rgb.shape, dtype=np.float32)


def noisy(change):
    return lambda rgb, rng: change(rgb, rng) + 3 * rng.standard_normal(rgb.shape, dtype=np.float32)


def rolled(degrees):
    def change(rgb, rng):
        side = rgb.shape[0]
        turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), -degrees, 1.0)
        return cv2.warpAffine(rgb, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return change


def unchanged(rgb, rng):
    return rgb


# Changes of crops with 160 pixels a side and 33 between the eyes.
CONDITIONS = {
    "none": unchanged,
    **{f"Gaussian blur {s} px": gaussian(s) for s in (1, 2, 3, 4, 5)},
    **{f"motion {n} px, {d} degrees": moved(n, d) for n, d in ((9, 0), (17, 0), (17, 45), (17, 90))},
    "noise of 3 grey levels": noisy(unchanged),
    "Gaussian blur 3 px and noise": noisy(gaussian(3)),
    "motion 17 px, 0 degrees and noise": noisy(moved(17, 0)),
    **{f"{round(s * 40 / 192)} px between the eyes": smaller(s) for s in (96, 64, 48)},
    **{f"light times {g}": darker(g) for g in (0.5, 0.25, 0.12)},
    **{f"rolled by {d} degrees": rolled(d) for d in (30, 90, 180)},
}


def people(dev):
    """Returns a row of every person of LFW, in the order of which the first ones chose the limits."""
    rows = {}
    for i in dev.rows("lfw"):
        rows.setdefault(Path(dev.path[i]).name.rsplit("_", 1)[0], i)
    names = sorted(rows)
    np.random.default_rng(ORDER).shuffle(names)
    return [rows[name] for name in names]


def analysed(args, pictures, options):
    """Returns the line of the program for each picture, RGB or a path."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for n, picture in enumerate(pictures):
            path = picture
            if isinstance(picture, np.ndarray):
                path = f"{folder}/{n:06}.png"
                pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
                cv2.imwrite(path, np.ascontiguousarray(pixels)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
            paths.append(str(path))
        lines = {}
        for start in range(0, len(paths), 400):
            lines |= {line["path"]: line for line in ask(args.binary, args.model, options, paths[start : start + 400])}
        return [lines[path] for path in paths]


def middle_face(line):
    """Returns the face that covers the middle of the picture best; None without one."""
    w, h = line["width"], line["height"]
    within = [f for f in line["faces"] if overlap(f["box"], [w / 4, h / 4, w / 2, h / 2]) > 0.2]
    return max(within, key=lambda f: overlap(f["box"], [w / 4, h / 4, w / 2, h / 2]), default=None)


def embedding(face):
    return np.array(face["recognition"]["embedding"])


def alike(faces):
    """Returns the cosines of all pairs of different people."""
    if len(faces) < 2:
        return np.zeros(0)
    rows = np.stack([embedding(f) for f in faces])
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def by_condition(args, dev):
    rows = people(dev)
    options = ["--looks", "1", "--tasks", "recognition,landmarks"]
    plain = [middle_face(line) for line in analysed(args, [dev.file(i) for i in rows[FITTED : FITTED + args.threshold_people]], options)]
    limit = np.quantile(alike([f for f in plain if f]), 0.999)
    out, every = [], []
    for name, change in CONDITIONS.items():
        rng = np.random.default_rng(5)
        pictures = [change(dev.rgb(i).astype(np.float32), rng) for i in rows[FITTED : FITTED + args.people]]
        faces = [face for face in map(middle_face, analysed(args, pictures, options)) if face]
        trusted = [f for f in faces if f["quality"]["trusted"]]
        blurred = np.mean(["blurred" in f["quality"]["why"] for f in faces])
        before, after = alike(faces) > limit, alike(trusted) > limit
        every.append(after)
        share = f"{100 * after.mean():.1f} ({len(after)})" if len(after) else "- (0)"
        out.append([name, len(faces), f"{100 * (1 - len(trusted) / len(faces)):.0f}", f"{100 * blurred:.0f}", f"{100 * before.mean():.1f}", share])
    total = np.concatenate(every)
    out.append(["all together", "", "", "", "", f"{100 * total.mean():.2f} ({len(total)})"])
    head = [
        f"{args.people} crops of 160 px",
        "found",
        "doubted %",
        "blurred %",
        f"pairs above {limit:.2f} %",
        "pairs of trusted ones above it % (pairs)",
    ]
    return table(head, out)


def scenes(args, source):
    """Returns the labels and paths of the dev scenes of a source."""
    root = Path(args.faces) / "scenes"
    rows = [s for s in json.loads((root / "dev.json").read_text()) if s["source"] == source]
    inside = root / "dev"
    return [(s, inside / s["path"] if (inside / s["path"]).exists() else inside / s["path"].removeprefix("scenes/")) for s in rows]


def cuts(scene, picture):
    """Yields (what is cut off, the picture without it, the shift of coordinates) of a face with room around it."""
    x, y, w, h = person(scene)
    points = np.array(scene["landmarks68"])
    low, high = np.minimum([x, y], points.min(0)), np.maximum([x + w, y + h], points.max(0))
    height, width = picture.shape[:2]
    size = high - low
    around = [*np.maximum(low - 1.5 * size, 0), *np.minimum(high + 1.5 * size, [width, height])]
    if min(low) < 3 or high[0] > width - 4 or high[1] > height - 4:
        return
    for what, side, share in [
        ("nothing", 0, None),
        *((f"{SIDES[s]} {round(100 * share)} %", s, share) for s in range(4) for share in (-0.03, 0.1, 0.2, 0.3, 0.4, 0.5)),
    ]:
        edges = list(around)
        if share is not None:
            edges[side] = (low if side < 2 else high)[side % 2] + (share if side < 2 else -share) * size[side % 2]
        left, top, right, bottom = (round(v) for v in edges)
        yield what, picture[top:bottom, left:right], np.array([left, top])


def by_cut(args):
    options = ["--looks", "1", "--tasks", "landmarks,age,expression"]
    rows, pictures, kept = [], [], 0
    for scene, path in scenes(args, "w300"):
        made = list(cuts(scene, np.asarray(Image.open(path).convert("RGB"))))
        if made and kept < args.people:
            kept += 1
            rows += [(what, scene, shift) for what, _, shift in made]
            pictures += [picture for _, picture, _ in made]
    groups, whole = {}, {}
    for (what, scene, shift), line in zip(rows, analysed(args, pictures, options)):
        true = np.array(scene["landmarks68"]) - shift
        box = [*true.min(0), *np.ptp(true, 0)]
        face = max(line["faces"], key=lambda f: overlap(f["box"], box), default=None)
        group = groups.setdefault(what, [])
        if face is None or overlap(face["box"], box) < 0.2:
            group.append(None)
            continue
        if what == "nothing":
            whole[id(scene)] = face
        error = float(100 * landmark_error(np.array(face["landmarks"]["points"])[None], true[None])[0])
        first = whole.get(id(scene), face)
        group.append((error, abs(face["age"]["years"] - first["age"]["years"]), "cut_off" in face["quality"]["why"]))
    out = []
    for what, group in groups.items():
        found = [g for g in group if g]
        numbers = np.array(found, float).mean(0) if found else [np.nan] * 3
        out.append([what, f"{100 * len(found) / len(group):.0f}", f"{numbers[0]:.1f}", f"{numbers[1]:.1f}", f"{100 * numbers[2]:.0f}"])
    return table([f"cut off ({kept} faces)", "found %", "landmarks NME %", "age differs by years", "cut_off %"], out)


def false_faces(args):
    groups = {}
    for kind, picture in draw(500, SEED):
        groups.setdefault(f"drawn: {kind}", []).append(picture)
    if args.faces and (Path(args.faces) / "scenes" / "dev.json").is_file():
        groups["objects scenes without a face"] = [path for scene, path in scenes(args, "objects") if not scene["faces"]]
    for folder in args.pictures:
        groups[Path(folder).name] = sorted(Path(folder).rglob("*.png"))
    out = []

    def add(name, lines):
        faces = [f for line in lines for f in line["faces"]]
        trusted = [f for f in faces if f["quality"]["trusted"]]
        out.append([name, len(lines), len(faces), len(trusted), f"{100 * len(trusted) / len(lines):.1f}"])

    drawn = []
    for name, pictures in groups.items():
        lines = analysed(args, pictures, ["--looks", "1", "--tasks", args.task])
        if name.startswith("drawn"):
            drawn += lines
        add(name, lines)
    add("drawn: all", drawn)
    return table(["pictures without a face", "pictures", "found", "trusted", "trusted a 100 pictures"], out)


def real_faces(args, dev):
    """Counts the faces of the dev scenes and of dev crops that are found, and those that are called unlikely."""
    out, counts = [], []

    def add(name, faces, total):
        unlikely = sum("unlikely_face" in f["quality"]["why"] for f in faces)
        trusted = sum(f["quality"]["trusted"] for f in faces)
        alone = sum(f["quality"]["why"] == ["unlikely_face"] for f in faces)
        without = f"{100 * alone / max(1, trusted + alone):.2f}"
        out.append([name, total, len(faces), trusted, unlikely, alone, without])
        counts.append((trusted, alone))

    found, total = [], 0
    rows = [(scene, path) for source in ("w300", "objects") for scene, path in scenes(args, source)]
    for (scene, _), line in zip(rows, analysed(args, [path for _, path in rows], ["--looks", "1", "--tasks", args.task])):
        for true in scene["faces"]:
            if true.get("score", 1) >= 0.75:
                total += 1
                mine = max(line["faces"], key=lambda f: overlap(f["box"], true["box"]), default=None)
                found += [mine] if mine and overlap(mine["box"], true["box"]) >= 0.4 else []
    add("dev scenes", found, total)
    for source in ("w300", "utk", "fairface", "celeba", "rafdb", "ferplus", "lfw"):
        rows = dev.rows(source)[:: max(1, len(dev.rows(source)) // args.crops)]
        lines = analysed(args, [dev.file(i) for i in rows], ["--aligned", "--looks", "1", "--tasks", args.task])
        add(f"dev crops {source}", [line["faces"][0] for line in lines], len(rows))
    trusted, alone = np.sum(counts, axis=0)
    out.append(["all", "", "", int(trusted), "", int(alone), f"{100 * alone / (trusted + alone):.2f}"])
    return table(["faces", "labelled", "found", "trusted", "unlikely_face", "for that alone", "of the trusted ones without it %"], out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", required=True, help="the program faceptor")
    p.add_argument("--model", help="a bundle instead of the one inside the program")
    p.add_argument("--faces", default=str(FACES), help="the research photos")
    p.add_argument("--pictures", action="append", default=[], help="a further folder of pictures (PNG) without faces")
    p.add_argument("--people", type=int, default=40)
    p.add_argument("--threshold-people", type=int, default=400, help="people whose pairs give the cosine of a false match in 1,000")
    p.add_argument("--crops", type=int, default=200, help="dev crops of each source")
    p.add_argument("--task", default="age", help="of the tables of false and of real faces")
    p.add_argument("--only", action="append", help="a table by its name")
    p.add_argument("--doc", help="Markdown file whose tables are replaced; without it they are printed")
    args = p.parse_args()
    parts = {"false": lambda: false_faces(args)}
    if (Path(args.faces) / "dev" / "labels.npz").is_file():
        dev = Development(args.faces)
        parts |= {"blur": lambda: by_condition(args, dev), "cut": lambda: by_cut(args), "real": lambda: real_faces(args, dev)}
    text = Path(args.doc).read_text() if args.doc else None
    for name, make in parts.items():
        if args.only and name not in args.only:
            continue
        made = make()
        print(f"{name}\n\n{made}\n", flush=True)
        if text is not None:
            text = put(text, name, made, MARKS)
            Path(args.doc).write_text(text)


if __name__ == "__main__":
    main()
