"""Edges and cyclical self-regulation for the student's parsing (SPEC E5 to E7). Training only: nothing of it is exported.

The edge head sees the encoder's maps at strides 4 and 8. At the end of each cycle the weights join an average, and the
average's answers refine the masks and edges that the next cycle learns from.
"""

import torch
from faceptor_models.published.losses.dmlcsr import IGNORE, Targets, criterion, edges_of
from faceptor_models.published.regulation import SelfRegulation, reestimate
from faceptor_models.published.schedules import cosine
from torch import nn
from torch.nn import functional as F

from . import losses
from .development import parsing_scores
from faceptor_models.common.labels import PARSING
from .network import SIZES, ConvNorm


class EdgeHead(nn.Module):
    """Maps at strides 4 and 8 to binary edge logits [B, 2, h, w] and category edge logits [B, classes, h, w] at stride 4."""

    def __init__(self, widths, inner=32, classes=len(PARSING)):
        super().__init__()
        self.narrow = nn.ModuleList([ConvNorm(w, inner, 1) for w in widths])
        self.shared = nn.Conv2d(inner, classes, 3, padding=1)
        self.category, self.binary = nn.Conv2d(2 * classes, classes, 1), nn.Conv2d(2 * classes, 2, 1)

    def forward(self, f4, f8):
        first, second = (self.shared(narrow(x)) for narrow, x in zip(self.narrow, (f4, f8)))
        joined = torch.cat([first, F.interpolate(second, size=first.shape[2:], mode="bilinear", align_corners=False)], 1)
        return self.binary(joined), self.category(joined)


class Trained(nn.Module):
    """The student with what only its training has. Forward gives the loss terms of a batch."""

    def __init__(self, net, edges=False, identities=None, inner=None, tutor=None):
        """`identities`, `inner` and `tutor` are the terms of identities.py, inner_maps.py and tutor.py, where the run has them."""
        super().__init__()
        self.net = net
        self.edges = EdgeHead(SIZES[net.size]["widths"][1:3]) if edges else None
        self.identities, self.inner = identities, inner
        # No module: it learns nothing, and no checkpoint holds it.
        self.tutor = tutor
        self.held = []

    def helpers(self):
        """What the run has beside the network, by the names that checkpoints give it; None where it has not."""
        return [(name, getattr(self, name)) for name in ("edges", "identities", "inner")]

    def hold(self, only):
        """Leaves all parts of the network but those of `only` as they are, their batch norms' statistics too; nothing where there are none."""
        parts = dict(self.net.named_children())
        unknown = [name for name in only if name not in parts]
        if unknown:
            raise SystemExit(f"the network has no part {', '.join(unknown)}: {', '.join(parts)}")
        self.held = [part.requires_grad_(False).eval() for name, part in parts.items() if only and name not in only]

    def train(self, mode=True):
        super().train(mode)
        for part in self.held:
            part.eval()
        return self

    def forward(self, batch, landmark_limit, stopped=(), cycle=0):
        """From `cycle` 1 on the batch's `soft` answers (Cycles.soft) refine its masks and edges."""

        def edge_term(logits, f4, f8):
            outputs = grown(logits, self.edges(f4, f8), batch["parsing"].shape[-1])
            return edge_loss(outputs, batch["parsing"], batch.get("soft"), cycle)

        terms = {"edges": edge_term if self.edges else None, "identity": self.identities, "inner": self.inner, "tutor": self.tutor}
        return losses.compute(self.net, batch, landmark_limit, stopped, {name: term for name, term in terms.items() if term})

    def parse(self, image, size):
        """Logits of masks and edges, all [B, C, size, size]."""
        maps = self.net.encode(image)
        logits = self.net.regions(self.net.decode("parsing", self.net.remember(maps)), maps["f2"], self.net.pixels(maps))
        return grown(logits, self.edges(maps["f4"], maps["f8"]), size)


class Whole(nn.Module):
    """Every batch norm of the student once, for the estimation of their statistics."""

    def __init__(self, trained):
        super().__init__()
        self.trained = trained

    def forward(self, image):
        self.trained.parse(image, image.shape[-1])
        self.trained.net.feature(self.trained.net.encoder(image)[-1])


def grown(logits, edges, size):
    """Masks' and edges' logits at the labels' size, by the student's own pixel geometry."""
    names = {"seg": logits, "binary_edge": edges[0], "semantic_edge": edges[1]}
    return {k: F.interpolate(v.float(), size=(size, size), mode="bilinear", align_corners=False) for k, v in names.items()}


def edge_loss(outputs, labels, soft=None, cycle=0):
    """DML-CSR's criterion on the student's masks and edges; `soft` are the average's outputs from cycle 1 on."""
    binary, category = edges_of(labels)
    refined = {"soft_parsing": soft["seg"], "soft_binary": soft["binary_edge"], "soft_category": soft["semantic_edge"]} if cycle else {}
    return criterion(outputs, Targets(labels, binary, category, **refined), cycle=cycle)[0]


class Cycles:
    """The rule with steps for epochs. `rows` are what each cycle's end found on held-out crops."""

    def __init__(self, start, cycle):
        self.rule, self.rows = SelfRegulation(start, cycle), []

    @property
    def n(self):
        return self.rule.n

    def rate(self, step, before):
        """The learning rate's factor: the schedule `before` the start, then restarts from a half (SPEC E7)."""
        if step < self.rule.start:
            return before
        return 0.02 + 0.48 * cosine((step - self.rule.start) % self.rule.cycle / self.rule.cycle)

    @torch.no_grad()
    def soft(self, batch):
        """The average's answers on the faces that have masks."""
        return self.rule.average.parse(batch["image"][batch["parsing_rows"]], batch["parsing"].shape[-1]) if self.n else None

    def end(self, step, trained, images, held):
        """Takes the weights into the average; `images` estimate its statistics, `held` are held-out batches."""
        self.rule.join(trained)
        reestimate(Whole(self.rule.average), images)
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
    """Mean F1 without the background from one confusion matrix over held-out batches."""
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
