"""Measures the program on a stream: jitter, lag, stability of the answers, and the effect of darkness on them.

    python -m faceptor_models.student.behaviour --binary ../target/release/faceptor --doc ../docs/behaviour.md

The clips show the demo portrait (public domain), moved, with the noise of a camera, and go through `faceptor run --json` like a
user's film. The tables by light need the dev crops (`--faces`); without them they stay as they are.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceptor_models.common.labels import EXPRESSIONS
from faceptor_models.common.metrics import landmark_error
from faceptor_models.common.paths import PORTRAIT

from . import searching
from .accuracy import ask
from .breakdown import table
from .development import Development

# In the portrait: the middle of the face, and the pixels between the eyes.
FACE, EYES = (224.0, 122.0), 40.0
WIDTH, HEIGHT, RATE = 640, 480, 30
# Frames at the beginning of a clip that do not count: the program still detects the face and fills its filters.
SETTLING = 30
# The loop's detector sees frames of 640 x 480 at 160 x 120; below about 18 pixels it finds no face.
SIZES = (20, 40, 80)
NOISE = 3.0
# Eye distances per second.
SPEEDS = (1, 3, 6, 10)
STEADY_MS = (0, 300, 1000)
MARKS = ("<!-- {} made by student.behaviour -->", "<!-- end of {} -->")


class Scene:
    """Places the portrait on a grey wall."""

    def __init__(self):
        self.portrait = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB).astype(np.float32)

    def frame(self, eyes, x, y, light=1.0):
        """Returns RGB floats with the middle of the face at (x, y) and `eyes` pixels between its eyes."""
        scale = eyes / EYES
        source = self.portrait if scale > 0.7 else cv2.GaussianBlur(self.portrait, (0, 0), 0.4 / scale)
        matrix = np.array([[scale, 0, x - scale * FACE[0]], [0, scale, y - scale * FACE[1]]])
        seen = cv2.warpAffine(source, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderValue=(110, 110, 110))
        return light * seen


def write_clip(path, frames, noise, seed=1, size=(WIDTH, HEIGHT), rate=RATE):
    """Writes RGB floats as YUV4MPEG2, each with Gaussian noise of `noise` grey levels on every channel."""
    rng = np.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            seen = frame + noise * rng.standard_normal(frame.shape, dtype=np.float32)
            pixels = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
            file.write(b"FRAME\n" + cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).tobytes())


class Runner:
    """Runs `faceptor run` on clips in a folder of its own."""

    def __init__(self, binary, model, folder, width=WIDTH, height=HEIGHT):
        self.binary, self.model, self.clip, self.size = binary, model, Path(folder) / "clip.y4m", (width, height)

    def film(self, frames, noise=NOISE, rate=RATE):
        write_clip(self.clip, frames, noise, size=self.size, rate=rate)

    def run(self, *options):
        """Returns the lines for the clip that was written last."""
        command = [self.binary, "run", "--source", str(self.clip), "--json", "--max-faces", "1", "--tasks", "landmarks,expression,age", *options]
        done = subprocess.run([*command, *(["--model", self.model] if self.model else [])], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def points(lines):
    """Returns the points [frames, 68, 2], NaN where no face was found."""
    missing = np.full((68, 2), np.nan)
    return np.stack([np.array(line["faces"][0]["landmarks"]["points"]) if line["faces"] else missing for line in lines])


def jitter(found):
    """Returns the distances of points from their own mean over time, [frames, 68]."""
    return np.linalg.norm(found - np.nanmean(found, axis=0), axis=-1)


def still(scene, runner, seconds):
    rows = []
    for eyes in SIZES:
        picture = scene.frame(eyes, WIDTH / 2, HEIGHT / 2)
        runner.film([picture] * (SETTLING + seconds * RATE))
        cells = []
        for options in (["--no-smoothing"], []):
            apart = jitter(points(runner.run(*options))[SETTLING:])
            cells += [f"{np.nanpercentile(apart, 50):.2f}", f"{np.nanpercentile(apart, 95):.2f}", f"{100 * np.nanpercentile(apart, 95) / eyes:.1f}"]
        rows.append([eyes, *cells])
    head = ["pixels between the eyes", "raw p50", "raw p95", "raw p95, % of eyes", "smoothed p50", "smoothed p95", "smoothed p95, % of eyes"]
    return table(head, rows)


def sweep(speed_px, frames):
    """Returns positions that move back and forth at a constant speed, and their direction; 0 where the speed has just changed."""
    x, way, places, ways, since = WIDTH / 2, 1, [], [], 0
    for n in range(frames):
        if n >= SETTLING:
            x += way * speed_px / RATE
            since += 1
            if abs(x - WIDTH / 2) > 140 and way * (x - WIDTH / 2) > 0:
                way, since = -way, 0
        places.append(x)
        ways.append(way if since > 12 else 0)
    return np.array(places), np.array(ways)


def moving(scene, runner, seconds, eyes=30):
    middle = HEIGHT / 2
    runner.film([scene.frame(eyes, WIDTH / 2, middle)] * (2 * SETTLING))
    at_rest = np.nanmean(points(runner.run("--no-smoothing"))[SETTLING:], axis=0)
    rows = []
    for speed in SPEEDS:
        places, ways = sweep(speed * eyes, SETTLING + seconds * RATE)
        runner.film(scene.frame(eyes, x, middle) for x in places)
        use = ways != 0
        cells = []
        for options in (["--no-smoothing"], []):
            found = points(runner.run(*options))
            off = found - (at_rest + np.stack([places - WIDTH / 2, np.zeros(len(places))], 1)[:, None])
            behind = -np.nanmean(off[use][..., 0] * ways[use, None]) / (speed * eyes)
            apart = np.linalg.norm(off, axis=-1)[use]
            lost = np.isnan(apart[:, 0]).mean()
            cells += [f"{1000 * behind:.1f}", f"{np.nanpercentile(apart, 95):.2f}", f"{100 * lost:.0f}"]
        rows.append([f"{speed} ({speed * eyes})", *cells])
    head = ["speed, eye distances/s (px/s)", "raw lag ms", "raw error p95 px", "raw frames without the face %"]
    return table([*head, "smoothed lag ms", "smoothed error p95 px", "smoothed frames without the face %"], rows)


def jump(scene, runner, eyes=30):
    rows = []
    for far in (0.5, 1.0, 2.0, 4.0):
        places = [WIDTH / 2 - 60 if n < 2 * SETTLING else WIDTH / 2 - 60 + far * eyes for n in range(4 * SETTLING)]
        runner.film(scene.frame(eyes, x, HEIGHT / 2) for x in places)
        found = points(runner.run())
        true = np.nanmean(found[-SETTLING:], axis=0)
        off = np.linalg.norm(found[2 * SETTLING :] - true, axis=-1).mean(1)
        wrong = ~(off < 0.05 * eyes)
        rows.append([far, int(np.nonzero(wrong)[0].max() + 1) if wrong.any() else 0])
    return table(["jump from one frame to the next, eye distances", "frames until the points are within 5 % of an eye distance"], rows)


def answers(lines):
    """Returns (years, scores [frames, 8]) of the frames with a face."""
    faces = [line["faces"][0] for line in lines if line["faces"]]
    return np.array([f["age"]["years"] for f in faces]), np.array([[f["expression"]["scores"][k] for k in EXPRESSIONS] for f in faces])


def breathing(scene, eyes, frames, bright=1.0):
    """Films a person who sits still: two pixels of swaying, one per cent of scale, ten per cent of flicker."""
    for n in range(frames):
        t = n / RATE
        sway, near, light = 2 * np.sin(2.1 * t), 1 + 0.01 * np.sin(1.3 * t + 1), 1 + 0.1 * np.sin(9.1 * t)
        yield scene.frame(eyes * near, WIDTH / 2 + sway, HEIGHT / 2 + 0.7 * sway, bright * light)


def steadiness(scene, runner, seconds):
    rows = []
    # The longest filter forgets its first answer within this time.
    settling = 5 * SETTLING
    for what, eyes, bright in (("portrait", 20, 1.0), ("portrait", 40, 1.0), ("twice the light", 40, 2.0)):
        runner.film(breathing(scene, eyes, settling + seconds * RATE, bright))
        for steady in STEADY_MS:
            years, scores = (a[settling:] for a in answers(runner.run("--steady-ms", str(steady))))
            said = scores.argmax(1)
            changes = (said[1:] != said[:-1]).sum() / (len(said) / RATE / 60)
            top = scores.mean(0).argmax()
            numbers = [f"{years.std():.2f}", f"{np.abs(np.diff(years)).mean():.2f}", f"{scores[:, top].std():.3f}", f"{changes:.0f}"]
            rows.append([f"{what}, {eyes}", steady, *numbers])
    head = ["clip, pixels between the eyes", "--steady-ms", "age: standard deviation, years", "age: change a frame, years"]
    return table([*head, "first expression's score: standard deviation", "changes of label a minute"], rows)


def step(scene, runner):
    """Doubles the light from one frame to the next and measures how long the age takes to reach its new value."""
    frames = [scene.frame(40, WIDTH / 2, HEIGHT / 2, light) for light in (1.0, 2.0)]
    runner.film([frames[n >= 3 * SETTLING] for n in range(8 * SETTLING)])
    rows = []
    for steady in STEADY_MS[:2]:
        years, _ = answers(runner.run("--steady-ms", str(steady)))
        before, after = years[2 * SETTLING : 3 * SETTLING].mean(), years[-SETTLING:].mean()
        done = (years[3 * SETTLING :] - before) / (after - before)
        # The frame of the step itself counts as one period.
        times = [f"{1000 * (np.nonzero(done >= part)[0].min() + 1) / RATE:.0f}" for part in (0.63, 0.95)]
        rows.append([steady, f"{before:.1f} to {after:.1f}", *times])
    return table(["--steady-ms", "age goes from .. to", "63 % of the way after ms", "95 % after ms"], rows)


def relit(rgb, gain, contrast, rng):
    """Changes a crop's light: multiplies grey levels by `gain`, or pulls them towards 128, then adds two levels of noise and rounds."""
    seen = 128 + contrast * (rgb.astype(np.float32) - 128) if contrast < 1 else gain * rgb.astype(np.float32)
    return np.clip(np.rint(seen + 2 * rng.standard_normal(rgb.shape, dtype=np.float32)), 0, 255).astype(np.uint8)


def by_light(dev, binary, model):
    """Measures the errors on dev crops in changed light, next to the brightness and contrast that the program reports."""
    labels = dev.labels
    rows = {s: dev.rows(s) for s in ("w300", "rafdb", "utk")}
    rows["w300"] = np.array([i for i in rows["w300"] if labels["landmarks_source"][i] == 1])
    rows = {s: r if s == "w300" else r[::4] if s == "rafdb" else r[::2] for s, r in rows.items()}
    out = []
    lights = [(g, 1.0) for g in (1, 0.5, 0.25, 0.12, 0.08, 0.05, 0.03, 0.015)] + [(g, 1.0) for g in (1.5, 2.5, 4, 8)]
    lights += [(1, c) for c in (0.5, 0.25, 0.12, 0.06, 0.03)]
    for gain, contrast in lights:
        rng = np.random.default_rng(5)
        with tempfile.TemporaryDirectory() as folder:
            paths = {}
            for i in np.concatenate(list(rows.values())):
                path = Path(folder) / f"{i}.png"
                Image.fromarray(relit(dev.rgb(i), gain, contrast, rng)).save(path, compress_level=1)
                paths[str(path)] = i
            found = {}
            names = list(paths)
            for start in range(0, len(names), 500):
                for line in ask(binary, model, ["--aligned", "--looks", "1", "--tasks", "landmarks,expression,age"], names[start : start + 500]):
                    found[paths[line["path"]]] = (line["faces"][0], line["width"])
        faces = {i: face for i, (face, _) in found.items()}
        said = np.stack([np.array(faces[i]["landmarks"]["points"]) / found[i][1] for i in rows["w300"]])
        error = 100 * landmark_error(said, labels["landmarks"][rows["w300"]].astype(float) / 8192).mean()
        names7 = EXPRESSIONS[:7]
        best = np.array([np.argmax([faces[i]["expression"]["scores"][k] for k in names7]) for i in rows["rafdb"]])
        right = 100 * (best == labels["expression_votes"][rows["rafdb"]].argmax(1)).mean()
        years = np.array([faces[i]["age"]["years"] for i in rows["utk"]])
        quality = [face["quality"] for face in faces.values()]
        trusted = 100 * np.mean([q["trusted"] for q in quality])
        middle = [np.median([q[k] for q in quality]) for k in ("brightness", "contrast")]
        what = f"contrast times {contrast}" if contrast < 1 else f"light times {gain}"
        mean_age = np.abs(years - labels["age"][rows["utk"]]).mean()
        out.append([what, f"{middle[0]:.0f}", f"{middle[1]:.0f}", f"{error:.2f}", f"{right:.1f}", f"{mean_age:.2f}", f"{trusted:.0f}"])
    counts = [len(r) for r in rows.values()]
    head = ["crops", "brightness (median)", "contrast (median)", f"landmarks NME % ({counts[0]})", f"expression RAF-DB % ({counts[1]})"]
    return table([*head, f"age UTK years ({counts[2]})", "trusted %"], out)


def put(text, name, made, marks=MARKS):
    """Replaces what stands in `text` between the marks of `name`."""
    first, last = (mark.format(name) for mark in marks)
    before, rest = text.split(first)
    return before + first + "\n" + made.strip() + "\n" + last + rest.split(last)[1]


def renew(doc, made):
    """Replaces the tables of a Markdown file: {name: table}."""
    doc = Path(doc)
    text = doc.read_text()
    for name, one in made.items():
        text = put(text, name, one)
    doc.write_text(text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", required=True, help="the program faceptor")
    p.add_argument("--model", help="a bundle instead of the one inside the program")
    p.add_argument("--faces", help="the research photos, for the table by light")
    p.add_argument("--seconds", type=int, default=10, help="of each clip")
    p.add_argument("--only", action="append", help="a table by its name")
    p.add_argument("--doc", help="Markdown file whose tables are replaced; without it they are printed")
    args = p.parse_args()
    scene = Scene()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(args.binary, args.model, folder)
        parts = {
            "still": lambda: still(scene, runner, args.seconds),
            "moving": lambda: moving(scene, runner, args.seconds),
            "jump": lambda: jump(scene, runner),
            "steadiness": lambda: steadiness(scene, runner, 3 * args.seconds),
            "step": lambda: step(scene, runner),
        }
        if args.faces and (Path(args.faces) / "dev" / "labels.npz").is_file():
            parts["light"] = lambda: by_light(Development(args.faces), args.binary, args.model)
        parts["area"] = lambda: searching.by_area(args.binary, args.model)
        if args.faces and (Path(args.faces) / "scenes" / "dev.json").is_file():
            parts["roll"] = lambda: searching.by_roll(args.faces, args.binary, args.model)
            parts["canvas"] = lambda: searching.by_canvas(args.faces, args.binary, args.model)
        made = {}
        for name, make in parts.items():
            if args.only and name not in args.only:
                continue
            made[name] = make()
            print(f"{name}\n\n{made[name]}\n", flush=True)
    if args.doc:
        renew(args.doc, made)


if __name__ == "__main__":
    main()
