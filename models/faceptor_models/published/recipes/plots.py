"""Draws a run's curves as SVG: losses, the decisions of early stopping, the cycles of self-regulation."""

import csv
import math
from pathlib import Path

from faceptor_models.common.errors import Refused
from faceptor_models.common.overfitting import COLOURS, Decision, plot

WIDTH, HEIGHT, MARGIN = 720, 320, 56
PALETTE = (*COLOURS, "#0f8b8d", "#a4243b", "#5f7c1c", "#8a6fbf", "#c17c00", "#2f4858")


def rows_of(path):
    """Reads a CSV's rows; numbers as numbers, empty cells as None."""
    with open(path, newline="") as file:
        return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(file)]


def number(text):
    if text in ("", None):
        return None
    try:
        return float(text)
    except ValueError:
        return text


def lines(series, title, x_name, logarithmic=False):
    """Draws {name: [(x, y)]} as SVG text with a common scale, and each name with its last value at the side."""

    def scale(y):
        return math.log10(max(y, 1e-9)) if logarithmic else y

    series = {k: [(x, scale(y), y) for x, y in v if y is not None and math.isfinite(y)] for k, v in series.items()}
    series = {k: v for k, v in series.items() if v}
    if not series:
        raise Refused("there is nothing to draw yet")
    xs = [p[0] for v in series.values() for p in v]
    ys = [p[1] for v in series.values() for p in v]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    right, bottom = WIDTH - 170, HEIGHT - MARGIN

    def place(x, y):
        return f"{MARGIN + (right - MARGIN) * (x - x0) / ((x1 - x0) or 1):.1f},{bottom - (bottom - MARGIN) * (y - y0) / ((y1 - y0) or 1):.1f}"

    low, high = (10**y0, 10**y1) if logarithmic else (y0, y1)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{MARGIN} {MARGIN}V{bottom}H{right}" fill="none" stroke="#888"/>',
        f'<text x="{MARGIN}" y="{MARGIN - 20}" font-size="12">{title}</text>',
        f'<text x="{MARGIN - 6}" y="{MARGIN + 4}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{MARGIN - 6}" y="{bottom}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{MARGIN}" y="{bottom + 16}">{x0:g}</text>',
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{x_name} {x1:g}</text>',
    ]
    for i, (name, points) in enumerate(series.items()):
        colour = PALETTE[i % len(PALETTE)]
        path = " ".join(place(x, y) for x, y, _ in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out += [f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2.5" fill="{colour}"/>' for p in path.split() if len(points) <= 20]
        out.append(f'<text x="{right + 8}" y="{MARGIN + 4 + 15 * i}" fill="{colour}">{name} {points[-1][2]:.3g}</text>')
    return "\n".join([*out, "</svg>\n"])


def losses(rows):
    """Draws the losses of a recipe's log, or of the student's, which counts steps."""
    return over_time(rows, "training losses, logarithmic")


def held_out(rows):
    return over_time(rows, "losses on held-out crops, logarithmic")


def over_time(rows, title):
    x = next(iter(rows[0]))
    names = [k for k in rows[0] | rows[-1] if k not in (x, "rate", "minutes", "size_px", "weighted")]
    return lines({n: [(r[x], r.get(n)) for r in rows] for n in names}, title, x, logarithmic=True)


def stopping(rows, threshold):
    decisions = [Decision(**row) for row in rows]
    for d in decisions:
        d.iteration, d.stopped = int(d.iteration), d.stopped == "True"
    return plot(decisions, threshold, {d.task: d.iteration for d in decisions if d.stopped})


def cycles(rows):
    names = {"f1": "F1, current weights", "f1_average": "F1, averaged weights", "changed": "pixels relabelled", "divergence": "divergence"}
    x = next(iter(rows[0]))
    return lines({t: [(r[x], r.get(n)) for r in rows] for n, t in names.items()}, "at the end of each cycle, on held-out crops", x)


def draw(folder, out, threshold):
    """Writes an SVG for every log of the run that exists; returns their paths."""
    folder, out = Path(folder), Path(out or folder)
    out.mkdir(parents=True, exist_ok=True)
    made = []
    pictures = {"log": losses, "held_out": held_out, "stopping": lambda rows: stopping(rows, threshold), "cycles": cycles}
    for name, picture in pictures.items():
        path = folder / f"{name}.csv"
        rows = rows_of(path) if path.exists() else []
        if rows:
            target = out / f"{ {'log': 'losses'}.get(name, name) }.svg"
            target.write_text(picture(rows))
            made.append(target)
    if not made:
        raise Refused(f"{folder} has no log.csv, held_out.csv, stopping.csv or cycles.csv")
    return made
