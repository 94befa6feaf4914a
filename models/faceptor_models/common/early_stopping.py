"""Stops tasks early in a running training: gathers training losses, measures held-out losses, and applies the rule at each
check.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .csv_rows import write_rows
from .distributed import World
from .errors import Refused
from .overfitting import TaskwiseStopping


@dataclass
class StoppingSettings:
    """Holds the section [stopping] of a recipe; `every` 0 leaves the rule off. `TaskwiseStopping` describes the other fields."""

    every: int = 0
    window: int = 5
    threshold: float = 1.0
    guard: str = "skip"
    patience: int = 1
    minimum: str = "training"
    main: str = ""
    coefficients: dict[str, float] = field(default_factory=dict)


class EarlyStopping:
    """Applies the rule to the tasks of one training.

    The main task never stops. The others have coefficients, 1 where none is set.
    """

    def __init__(self, settings: StoppingSettings, tasks: Sequence[str]) -> None:
        """Takes the names of all tasks that train."""
        if settings.main not in tasks:
            raise Refused(f"stopping.main {settings.main!r} is no task of this training: it has {', '.join(tasks)}")
        unknown = [t for t in settings.coefficients if t not in tasks or t == settings.main]
        if unknown:
            raise Refused(f"stopping.coefficients names {', '.join(unknown)}, no auxiliary task of this training")
        coefficients = {t: settings.coefficients.get(t, 1.0) for t in tasks if t != settings.main}
        options = {k: getattr(settings, k) for k in ("window", "threshold", "guard", "patience", "minimum")}
        try:
            self.rule = TaskwiseStopping(coefficients, **options)
        except ValueError as error:
            raise Refused(f"stopping: {error}") from error
        # `rows`: the held-out losses of every task at each check; those of the main task and of stopped ones too, while they
        # are computed.
        self.every, self.count = settings.every, 0
        self.sums: dict[str, float] = {}
        self.rows: list[dict[str, float]] = []

    @property
    def stopped(self) -> set[str]:
        """Returns the tasks that have stopped."""
        return set(self.rule.stopped_at)

    def add(self, losses: Mapping[str, float]) -> None:
        """Adds the unweighted losses {task: number} of one iteration."""
        for task, value in losses.items():
            self.sums[task] = self.sums.get(task, 0.0) + value
        self.count += 1

    def due(self, iteration: int) -> bool:
        """Returns true after an iteration that ends with a check."""
        return (iteration + 1) % self.every == 0 and self.count > 0

    def decide(self, iteration: int, validation: Mapping[str, float]) -> list[str]:
        """Decides with the held-out losses {task: number}; returns the tasks that stop now."""
        training = {t: v / self.count for t, v in self.sums.items()}
        self.sums, self.count = {}, 0
        self.rows.append({"iteration": iteration, **validation})
        return self.rule.update(iteration, training, validation)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs, in plain containers."""
        return {"rule": self.rule.state_dict(), "sums": self.sums, "count": self.count, "rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.rule.load_state_dict(state["rule"])
        self.sums, self.count, self.rows = dict(state["sums"]), state["count"], list(state["rows"])

    def write(self, folder: Path) -> None:
        """Writes the held-out losses, the decisions and their curves."""
        write_rows(self.rows, folder / "held_out.csv")
        self.rule.write_csv(folder / "stopping.csv")
        self.rule.write_svg(folder / "stopping.svg")


@torch.no_grad()
def held_out_losses(
    model: nn.Module, batches: Iterable[Any], losses: Callable[[nn.Module, Any], Mapping[str, torch.Tensor]], world: World
) -> dict[str, float]:
    """Returns the means over held-out batches {task: loss}, in evaluation mode, equal on every process."""
    training = [m.training for m in model.modules()]
    model.eval()
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    for batch in batches:
        for task, value in losses(model, batch).items():
            sums[task] = sums[task] + value.detach() if task in sums else value.detach()
            counts[task] = counts.get(task, 0) + 1
    for module, was in zip(model.modules(), training):
        module.training = was
    tasks = sorted(sums)
    means = world.mean(torch.stack([sums[t] / counts[t] for t in tasks]))
    return dict(zip(tasks, means.tolist()))
