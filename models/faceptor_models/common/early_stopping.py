"""Task-wise early stopping in a running training: losses since the last look, held-out losses, the rule's decision."""

from dataclasses import dataclass, field

import torch

from .csv_rows import write_rows
from .errors import Refused
from .overfitting import TaskwiseStopping


@dataclass
class StoppingSettings:
    """The section [stopping] of a recipe; `every` 0 leaves the rule off. `TaskwiseStopping` describes the other fields."""

    every: int = 0
    window: int = 5
    threshold: float = 1.0
    guard: str = "skip"
    patience: int = 1
    minimum: str = "training"
    main: str = ""
    coefficients: dict[str, float] = field(default_factory=dict)


class EarlyStopping:
    """`tasks` are all that train. The main one never stops; the others have coefficients, 1 where none is set."""

    def __init__(self, settings, tasks):
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
        # `rows`: the held-out losses of every task at each look, the main one's and those of stopped ones while they are computed.
        self.every, self.sums, self.count, self.rows = settings.every, {}, 0, []

    @property
    def stopped(self):
        return set(self.rule.stopped_at)

    def add(self, losses):
        """The unweighted losses {task: number} of one iteration."""
        for task, value in losses.items():
            self.sums[task] = self.sums.get(task, 0.0) + value
        self.count += 1

    def due(self, iteration):
        return (iteration + 1) % self.every == 0 and self.count > 0

    def decide(self, iteration, validation):
        """Decides with the held-out losses {task: number}; returns the tasks that stop now."""
        training = {t: v / self.count for t, v in self.sums.items()}
        self.sums, self.count = {}, 0
        self.rows.append({"iteration": iteration} | validation)
        return self.rule.update(iteration, training, validation)

    def state_dict(self):
        return {"rule": self.rule.state_dict(), "sums": self.sums, "count": self.count, "rows": self.rows}

    def load_state_dict(self, state):
        self.rule.load_state_dict(state["rule"])
        self.sums, self.count, self.rows = dict(state["sums"]), state["count"], list(state["rows"])

    def write(self, folder):
        write_rows(self.rows, folder / "held_out.csv")
        self.rule.write_csv(folder / "stopping.csv")
        self.rule.write_svg(folder / "stopping.svg")


@torch.no_grad()
def held_out_losses(model, batches, losses, world):
    """Means over held-out batches of {task: loss}, in evaluation mode, alike on every process."""
    training = [m.training for m in model.modules()]
    model.eval()
    sums, counts = {}, {}
    for batch in batches:
        for task, value in losses(model, batch).items():
            sums[task] = sums.get(task, 0.0) + value.detach()
            counts[task] = counts.get(task, 0) + 1
    for module, was in zip(model.modules(), training):
        module.training = was
    tasks = sorted(sums)
    means = world.mean(torch.stack([sums[t] / counts[t] for t in tasks]))
    return dict(zip(tasks, means.tolist()))
