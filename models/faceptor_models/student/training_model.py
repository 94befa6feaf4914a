"""Adds to the student what only its training has: edge heads and further loss terms. Nothing of it is exported.

The edge head sees the encoder's maps at strides 4 and 8 (DML-CSR's edges).
"""

import torch
from torch import nn
from torch.nn import functional as F

from faceptor_models.common.edge_criterion import Targets, criterion, edges_of
from faceptor_models.common.labels import PARSING

from . import losses
from .network import SIZES, ConvNorm


class EdgeHead(nn.Module):
    """Maps the maps at strides 4 and 8 to binary edge logits [B, 2, h, w] and category edge logits [B, classes, h, w] at stride 4."""

    def __init__(self, widths, inner=32, classes=len(PARSING)):
        super().__init__()
        self.narrow = nn.ModuleList([ConvNorm(w, inner, 1) for w in widths])
        self.shared = nn.Conv2d(inner, classes, 3, padding=1)
        self.category, self.binary = nn.Conv2d(2 * classes, classes, 1), nn.Conv2d(2 * classes, 2, 1)

    def forward(self, f4, f8):
        first, second = (self.shared(narrow(x)) for narrow, x in zip(self.narrow, (f4, f8)))
        joined = torch.cat([first, F.interpolate(second, size=first.shape[2:], mode="bilinear", align_corners=False)], 1)
        return self.binary(joined), self.category(joined)


class TrainingModel(nn.Module):
    """Wraps the student with what only its training has. Forward returns the loss terms of a batch."""

    def __init__(self, net, edges=False, identities=None, inner=None, tutor=None):
        """Takes the terms of identities.py, inner_maps.py and tutor.py in `identities`, `inner` and `tutor`, where the run has them."""
        super().__init__()
        self.net = net
        self.edges = EdgeHead(SIZES[net.size]["widths"][1:3]) if edges else None
        self.identities, self.inner = identities, inner
        # It is kept outside the modules: it learns nothing, and no checkpoint holds it.
        self.tutor = tutor
        self.held = []

    def helpers(self):
        """Returns the parts outside the network by the names that checkpoints give them; None where the run has no such part."""
        return [(name, getattr(self, name)) for name in ("edges", "identities", "inner")]

    def hold(self, only):
        """Freezes all parts of the network except those of `only`, their batch norms' statistics too; freezes nothing when `only` is empty."""
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
        """Returns the loss terms; from `cycle` 1 on the batch's `soft` answers (Cycles.soft) refine its masks and edges."""

        def edge_term(logits, f4, f8):
            outputs = grown(logits, self.edges(f4, f8), batch["parsing"].shape[-1])
            return edge_loss(outputs, batch["parsing"], batch.get("soft"), cycle)

        terms = {"edges": edge_term if self.edges else None, "identity": self.identities, "inner": self.inner, "tutor": self.tutor}
        return losses.compute(self.net, batch, landmark_limit, stopped, {name: term for name, term in terms.items() if term})

    def parse(self, image, size):
        """Returns the logits of masks and edges, all [B, C, size, size]."""
        maps = self.net.encode(image)
        logits = self.net.regions(self.net.decode("parsing", self.net.remember(maps)), maps["f2"], self.net.pixels(maps))
        return grown(logits, self.edges(maps["f4"], maps["f8"]), size)


def grown(logits, edges, size):
    """Resizes the logits of masks and edges to the labels' size, by the student's own pixel geometry."""
    names = {"seg": logits, "binary_edge": edges[0], "semantic_edge": edges[1]}
    return {k: F.interpolate(v.float(), size=(size, size), mode="bilinear", align_corners=False) for k, v in names.items()}


def edge_loss(outputs, labels, soft=None, cycle=0):
    """Applies DML-CSR's criterion to the student's masks and edges; `soft` are the average's outputs from cycle 1 on."""
    binary, category = edges_of(labels)
    refined = {"soft_parsing": soft["seg"], "soft_binary": soft["binary_edge"], "soft_category": soft["semantic_edge"]} if cycle else {}
    return criterion(outputs, Targets(labels, binary, category, **refined), cycle=cycle)[0]
