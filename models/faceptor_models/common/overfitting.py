"""Implements TCDCN's task-wise early stopping (ECCV 2014) for any joint training: auxiliary tasks leave when they begin to
overfit.

A task's index is its trend times its generalisation gap. The trend compares the training losses of the last `window` + 1 checks
with their median: it is small while they fall fast, and the window's length on a flat curve. The gap is the distance of the
validation loss above the least training loss so far, relative to that loss and to the task's coefficient: an important task
stops later.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

GUARDS = ("skip", "infinite")
MINIMA = ("training", "validation")


@dataclass
class Decision:
    """Records one check of one task. `index` is None while the window is not full or when the guard skips the check."""

    iteration: int
    task: str
    training: float
    validation: float
    trend: float | None
    gap: float | None
    index: float | None
    above: int
    stopped: bool


class TaskwiseStopping:
    """Applies the rule to `coefficients`, {auxiliary task: lambda}; the main task is not among them and never stops.

    `window` is k and `threshold` is epsilon of the formula; the paper gives no values for them. `guard` decides about a trend
    with a denominator of zero or less: `skip` the check, or take it as `infinite`. `patience` checks in a row must be above the
    threshold (the paper has 1; the index jitters). `minimum` takes the least training losses as in the paper, or the least
    validation losses as in a public re-implementation. `floor` keeps the gap finite when a loss reaches zero.
    """

    def __init__(
        self,
        coefficients: Mapping[str, float],
        window: int,
        threshold: float,
        guard: str = "skip",
        patience: int = 1,
        minimum: str = "training",
        floor: float = 1e-6,
    ) -> None:
        if any(not value > 0 for value in coefficients.values()):
            raise ValueError(f"coefficients must be above zero: {coefficients}")
        if window < 2 or patience < 1 or not threshold > 0 or not floor > 0:
            raise ValueError(
                f"window {window} must be at least 2, patience {patience} at least 1, threshold {threshold} and floor {floor} above zero"
            )
        if guard not in GUARDS or minimum not in MINIMA:
            raise ValueError(f"guard {guard!r} is not one of {GUARDS} or minimum {minimum!r} not one of {MINIMA}")
        self.coefficients = dict(coefficients)
        self.window, self.threshold, self.guard, self.patience, self.minimum, self.floor = window, threshold, guard, patience, minimum, floor
        self.losses: dict[str, list[float]] = {task: [] for task in coefficients}
        self.least = dict.fromkeys(coefficients, math.inf)
        self.above = dict.fromkeys(coefficients, 0)
        self.stopped_at: dict[str, int] = {}
        self.log: list[Decision] = []

    def weight(self, task: str) -> float:
        """Returns the task's coefficient now: zero once it has stopped."""
        return 0.0 if task in self.stopped_at else self.coefficients[task]

    def active(self) -> list[str]:
        """Returns the tasks that have not stopped."""
        return [task for task in self.coefficients if task not in self.stopped_at]

    def trend(self, task: str) -> float | None:
        """Returns k med / (sum of the window's k + 1 losses - k med); None when there are too few losses or the guard skips it."""
        held = self.losses[task][-(self.window + 1) :]
        if len(held) <= self.window:
            return None
        middle = self.window * median(held)
        rest = sum(held) - middle
        if rest <= 0:
            return math.inf if self.guard == "infinite" else None
        return middle / rest

    def gap(self, task: str, validation: float) -> float:
        """Returns the generalisation gap of a validation loss."""
        least = max(self.least[task], self.floor)
        return (validation - self.least[task]) / (self.coefficients[task] * least)

    def update(self, iteration: int, training: Mapping[str, float], validation: Mapping[str, float]) -> list[str]:
        """Makes one check with the losses of this iteration by task; returns the tasks that stop now."""
        stopping = []
        for task in self.active():
            self.losses[task].append(float(training[task]))
            del self.losses[task][: -(self.window + 1)]
            seen = training if self.minimum == "training" else validation
            self.least[task] = min(self.least[task], float(seen[task]))
            trend, gap = self.trend(task), self.gap(task, float(validation[task]))
            # An infinite trend says nothing about a task that generalises: without a gap there is no index.
            index = None if trend is None else trend * gap if gap > 0 or math.isfinite(trend) else 0.0
            self.above[task] = self.above[task] + 1 if index is not None and index > self.threshold else 0
            stopped = self.above[task] >= self.patience
            if stopped:
                self.stopped_at[task] = iteration
                stopping.append(task)
            losses = float(training[task]), float(validation[task])
            self.log.append(Decision(iteration, task, *losses, trend, gap, index, self.above[task], stopped))
        return stopping

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that a resumed run needs, in plain containers."""
        return {"losses": self.losses, "least": self.least, "above": self.above, "stopped_at": self.stopped_at, "log": [asdict(d) for d in self.log]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        if set(state["losses"]) != set(self.coefficients):
            raise ValueError(f"the state is of the tasks {sorted(state['losses'])}, not {sorted(self.coefficients)}")
        self.losses = {t: list(v) for t, v in state["losses"].items()}
        self.least, self.above, self.stopped_at = dict(state["least"]), dict(state["above"]), dict(state["stopped_at"])
        self.log = [Decision(**row) for row in state["log"]]

    def write_csv(self, path: str | Path) -> None:
        """Writes every decision as CSV."""
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([f.name for f in fields(Decision)])
            writer.writerows(asdict(d).values() for d in self.log)

    def write_svg(self, path: str | Path) -> None:
        """Draws the indices as SVG."""
        with open(path, "w") as file:
            file.write(plot(self.log, self.threshold, self.stopped_at))


COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#7b2d8b", "#b08900", "#444444")
WIDTH, HEIGHT, MARGIN = 720, 320, 56
# The number of task names in a row above the curves.
A_ROW = 3


def plot(log: Sequence[Decision], threshold: float, stopped_at: Mapping[str, int]) -> str:
    """Draws the indices over the iterations on a signed logarithmic scale, with the threshold and the stop of each task."""
    tasks = list(dict.fromkeys(d.task for d in log))
    shown = [(d.iteration, d.task, squeeze(d.index)) for d in log if d.index is not None]
    first, last = min((d.iteration for d in log), default=0), max((d.iteration for d in log), default=1)
    low = min([squeeze(threshold), 0.0, *(v for _, _, v in shown)])
    high = max([squeeze(threshold), 1.0, *(v for _, _, v in shown)])

    def place(iteration: int, value: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * (iteration - first) / max(1, last - first)
        return f"{x:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / (high - low):.1f}"

    level, zero = (place(first, v).split(",")[1] for v in (squeeze(threshold), 0.0))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" stroke="#888"/>',
        f'<path d="M{MARGIN} {level}H{WIDTH - MARGIN}" stroke="#888" stroke-dasharray="4 3"/>',
        f'<text x="{WIDTH - MARGIN}" y="{float(level) - 4:.1f}" text-anchor="end">threshold {threshold:g}</text>',
        f'<path d="M{MARGIN} {zero}H{WIDTH - MARGIN}" stroke="#ccc"/><text x="{MARGIN - 6}" y="{float(zero) + 4:.1f}" text-anchor="end">0</text>',
        f'<text x="{MARGIN}" y="{HEIGHT - MARGIN + 16}">{first}</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 16}" text-anchor="end">iteration {last}</text>',
        f'<text x="{MARGIN}" y="{MARGIN - 38}">stopping index, sign(x) log10(1 + |x|)</text>',
    ]
    for i, task in enumerate(tasks):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(place(t, v) for t, name, v in shown if name == task)
        end = f"stopped at {stopped_at[task]}" if task in stopped_at else "to the end"
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        where = f'x="{MARGIN + i % A_ROW * 205}" y="{MARGIN - 22 + i // A_ROW * 13}"'
        lines.append(f'<text {where} fill="{colour}">{task}: {end}</text>')
    return "\n".join([*lines, "</svg>\n"])


def squeeze(value: float) -> float:
    """Returns sign(x) log10(1 + |x|) of a bounded value."""
    bounded = max(-1e12, min(1e12, value))
    return math.copysign(math.log10(1 + abs(bounded)), bounded)
