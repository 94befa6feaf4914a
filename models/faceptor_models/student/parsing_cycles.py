"""Regulates the student's parsing in cycles (DML-CSR, self-regulation): training only, nothing of it is exported.

At the end of each cycle the weights join an average, and the average's answers refine the masks and edges that the next cycle
learns from.
"""

import torch
from torch import nn

from faceptor_models.common.edge_criterion import IGNORE
from faceptor_models.common.labels import PARSING
from faceptor_models.common.metrics import parsing_scores
from faceptor_models.common.schedules import cosine
from faceptor_models.common.self_regulation import SelfRegulation, reestimate


class EveryNorm(nn.Module):
    """Calls every batch norm of the student once, to estimate their statistics."""

    def __init__(self, trained):
        super().__init__()
        self.trained = trained

    def forward(self, image):
        self.trained.parse(image, image.shape[-1])
        self.trained.net.feature(self.trained.net.encoder(image)[-1])


class Cycles:
    """Applies self-regulation with steps in place of epochs. `rows` hold the measures on held-out crops at each cycle's end."""

    def __init__(self, start, cycle):
        self.rule, self.rows = SelfRegulation(start, cycle), []

    @property
    def n(self):
        return self.rule.n

    def rate(self, step, before):
        """Returns the learning rate's factor: the schedule `before` the start, then restarts from a half (DML-CSR)."""
        if step < self.rule.start:
            return before
        return 0.02 + 0.48 * cosine((step - self.rule.start) % self.rule.cycle / self.rule.cycle)

    @torch.no_grad()
    def soft(self, batch):
        """Returns the average's answers on the faces that have masks."""
        return self.rule.average.parse(batch["image"][batch["parsing_rows"]], batch["parsing"].shape[-1]) if self.n else None

    def end(self, step, trained, images, held):
        """Adds the weights to the average; `images` estimate its statistics, `held` are held-out batches."""
        self.rule.join(trained)
        reestimate(EveryNorm(self.rule.average), images)
        held = list(held)
        self.rows.append({"step": step, "n": self.n, "f1": f1(trained, held), "f1_average": f1(self.rule.average, held)})
        return self.rows[-1]

    def state_dict(self):
        return {"rule": self.rule.state_dict(), "rows": self.rows}

    def load_state_dict(self, state, trained):
        self.rule.load_state_dict(state["rule"], trained)
        self.rows = state["rows"]


@torch.no_grad()
def f1(trained, held):
    """Returns the mean F1 without the background from one confusion matrix over held-out batches."""
    was = trained.training
    trained.eval()
    classes = len(PARSING)
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    for batch in held:
        labels = batch["parsing"]
        found = trained.parse(batch["image"][batch["parsing_rows"]], labels.shape[-1])["seg"].argmax(1)
        valid = labels != IGNORE
        confusion += torch.bincount((labels[valid] * classes + found[valid]).cpu(), minlength=classes**2).reshape(classes, classes)
    trained.train(was)
    scores = torch.from_numpy(parsing_scores(confusion.numpy())[1:])
    return float(scores.nanmean())
