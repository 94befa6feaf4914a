"""Measures the names that `faceptor run --gallery` gives to people in films, for docs/identity.md.

    python -m faceptor_models.student.naming --binary ../target/release/faceptor --doc ../docs/identity.md

A film shows one person after the other, each an LFW photo that moves, grows, shrinks, gets lighter and darker, and has noise. Some
of the people are enrolled with other photos of theirs; the rest are strangers.

`--galleries N` also measures how often strangers get a name: the films' embeddings are taken once, and the rule of
`src/recognition/track_names.rs` answers over them for N random galleries. Sixty films and one gallery say little about a rate of
one in a hundred.
"""

import argparse
import json
import subprocess
import tempfile
import tomllib
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from .accuracy import replace_block
from .development import Development
from .identity import answered, name_of, rounded
from .track_rule import evidence, simulate

MARKS = ("<!-- names made by student.naming -->", "<!-- end of names -->")
WIDTH, HEIGHT = 320, 240
# Frames of a person, and frames without anyone between two people.
SHOWN, EMPTY = 45, 6
# People of a film, and the galleries that many films are compared with: people, photos of each.
GROUP = 30
GALLERIES = [(40, 1), (40, 3), (100, 1), (100, 3)]
FPIR = [0.01, 0.03, 0.1]


def wall(rng):
    """Returns a background without a face."""
    small = rng.uniform(60, 190, (4, 5, 3)).astype(np.float32)
    return np.clip(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 255)


def scene(crop, rng, background):
    """Yields the frames that show a crop."""
    phase, pace = rng.uniform(0, 6.28, 4), rng.uniform(0.05, 0.2, 4)
    size = rng.uniform(0.9, 1.2)
    for frame in range(SHOWN):
        swing = np.sin(phase + pace * frame)
        side = size * (1 + 0.08 * swing[0])
        x, y = WIDTH / 2 + 30 * swing[1] - 80 * side, HEIGHT / 2 + 10 * swing[2] - 80 * side
        matrix = np.array([[side, 0, x], [0, side, y]], np.float32)
        share = cv2.warpAffine(np.ones((160, 160), np.float32), matrix, (WIDTH, HEIGHT))[..., None]
        seen = cv2.warpAffine(crop, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        picture = share * seen * (1 + 0.15 * swing[3]) + (1 - share) * background
        yield np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255)


def film(crops, rng, path):
    """Writes a film of the crops as Motion JPEG."""
    background = wall(rng)
    with open(path, "wb") as file:
        for crop in crops:
            for picture in [*scene(crop, rng, background), *[background] * EMPTY]:
                _, jpeg = cv2.imencode(".jpg", picture.astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
                file.write(jpeg.tobytes())


def program(*arguments, accept=(0,)):
    run = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, check=False)
    if run.returncode not in accept:
        raise SystemExit(f"{' '.join(map(str, arguments[:3]))}: {run.stderr}")
    return run.stdout


def names_of(lines, people):
    """Returns for each person of a film the names of the frames; None for a frame without one."""
    shown = []
    for person in range(people):
        first = person * (SHOWN + EMPTY)
        faces = [line["faces"] for line in lines[first : first + SHOWN]]
        shown.append([face[0].get("recognition", {}).get("name") if face else None for face in faces])
    return shown


def described(shown, owners):
    """Returns what became of people: dict of counts and the frames until the name."""
    found = {"tracks": len(shown), "right": 0, "wrong": 0, "changes": 0, "first": []}
    for names, owner in zip(shown, owners, strict=True):
        given = [name for name in names if name]
        found["right"] += owner is not None and owner in given
        found["wrong"] += any(name != owner for name in given)
        # One change is the name's appearance.
        found["changes"] += max(sum(a != b for a, b in pairwise(names)) - bool(given), 0)
        if owner in given:
            found["first"].append(names.index(owner) + 1)
    return found


def strangers_in_films(args, dev, photos, crop):
    """Returns the table of strangers who get a name, over many galleries: films of people with up to three photos, galleries of the
    others."""
    people = [str(name) for name in np.random.default_rng(5).permutation(sorted(photos))]
    shown = [name for name in people if len(photos[name]) <= args.photos][: args.films]
    films = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mjpg"
        for start in range(0, len(shown), GROUP):
            group = shown[start : start + GROUP]
            film([crop(photos[name][0]) for name in group], np.random.default_rng([7, 11, start]), path)
            out = program(args.binary, "run", "--source", path, "--tasks", "recognition", "--json", "--quiet")
            lines = [json.loads(line) for line in out.splitlines()]
            for place, name in enumerate(group):
                first = place * (SHOWN + EMPTY)
                films.append(evidence(name, lines[first : first + SHOWN]))
    known = [film for film in films if film]
    rows = [row for name in people if len(photos[name]) > args.photos for row in photos[name][: args.photos]]
    vectors = rounded(answered(dev, rows, args.binary, None, None))
    of = {}
    for row, vector in zip(rows, vectors, strict=True):
        of.setdefault(name_of(dev.path[row]), []).append(vector)
    of = {name: np.array(each) for name, each in of.items()}
    impostors = tomllib.loads(Path(args.manifest).read_text())["impostors"]
    return described_galleries(known, len(films), of, (impostors["rates"], impostors["scores"]), args.galleries)


def described_galleries(known, count, photos, table, galleries):
    """Describes how often films of strangers get a name; intervals are over films drawn with replacement."""
    lines = [
        f"{count} films of strangers, {len(known)} with enough evidence; {galleries} random galleries out of {len(photos)} people for each row.",
        "",
        "| people | photos each | asked FPIR % | a name in any frame % | a name as soon as there is evidence % |",
        "|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(1)
    for people, each in GALLERIES:
        for fpir in FPIR:
            ever, first, shares = simulate(known, photos, table, rng, galleries, people, each, fpir)
            drawn = shares[rng.integers(0, len(shares), (1000, len(shares)))].mean(1)
            low, high = 100 * np.percentile(drawn, [2.5, 97.5])
            lines.append(f"| {people} | {each} | {100 * fpir:g} | {100 * ever:.1f} ({low:.1f}-{high:.1f}) | {100 * first:.1f} |")
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--binary", default="../target/release/faceptor")
    p.add_argument("--people", type=int, default=40, help="people of the gallery")
    p.add_argument("--strangers", type=int, default=60)
    p.add_argument("--photos", type=int, default=3, help="photos of each person of the gallery")
    p.add_argument("--galleries", type=int, default=60, help="random galleries that films of strangers are compared with; 0: none")
    p.add_argument("--films", type=int, default=90, help="strangers that these films show")
    p.add_argument("--manifest", default="edge/manifest.toml", help="its table of impostor scores gives the thresholds")
    p.add_argument("--run", nargs="*", default=[], help="further options of `faceptor run`")
    p.add_argument("--doc", metavar="FILE", help="write the figures into this page")
    args = p.parse_args()
    dev = Development(args.faces)
    rng = np.random.default_rng(3)
    photos = {}
    for row in dev.rows("lfw"):
        photos.setdefault(name_of(dev.path[row]), []).append(row)
    several = [name for name, rows in photos.items() if len(rows) > args.photos]
    known = list(rng.permutation(several))[: args.people]
    strangers = list(rng.permutation([name for name in photos if name not in known]))[: args.strangers]

    def crop(row):
        return cv2.resize(dev.rgb(row), (160, 160), interpolation=cv2.INTER_AREA).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        key, gallery = Path(folder) / "key", Path(folder) / "people.gallery"
        program(args.binary, "gallery", "make-key", key)
        options = ["--gallery", gallery, "--key", key]
        for place, name in enumerate(known):
            files = [dev.file(row) for row in photos[name][: args.photos]]
            program(args.binary, "enroll", f"person {place}", *files, "--aligned", "--quiet", *options, accept=(0, 1))
        listed = json.loads(program(args.binary, "gallery", "list", "--json", *options))
        enrolled = {person["name"] for person in listed["people"]}
        names = [f"person {place}" for place in range(len(known)) if f"person {place}" in enrolled]
        results = []
        shows = [
            ("enrolled", [crop(photos[known[int(name.split()[1])]][args.photos]) for name in names], names),
            ("stranger", [crop(photos[name][0]) for name in strangers], [None] * len(strangers)),
        ]
        for kind, crops, owners in shows:
            path = Path(folder) / f"{kind}.mjpg"
            film(crops, rng, path)
            out = program(args.binary, "run", "--source", path, "--tasks", "recognition", "--json", "--quiet", *options, *args.run)
            lines = [json.loads(line) for line in out.splitlines()]
            results.append((kind, described(names_of(lines, len(crops)), owners)))
    lines = [
        f"A gallery of {len(enrolled)} people with up to {args.photos} photos each, `--fpir 0.01`; films of {SHOWN} frames a person.",
        "",
        "| people in the film | films | right name | a wrong name | frames until the name, median (90 %) | changes after it |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in results:
        first = found["first"]
        frames = f"{np.median(first):.0f} ({np.percentile(first, 90):.0f})" if first else "-"
        right = found["right"] if kind == "enrolled" else "-"
        lines.append(f"| {kind} | {found['tracks']} | {right} | {found['wrong']} | {frames} | {found['changes']} |")
    if args.galleries:
        lines += ["", *strangers_in_films(args, dev, photos, crop)]
    block = "\n".join(lines)
    print(block)
    if args.doc:
        path = Path(args.doc)
        path.write_text(replace_block(path.read_text(), MARKS, block))


if __name__ == "__main__":
    main()
