"""Computes DML-CSR's criterion: parsing, two kinds of edges, and attention to the edges (DML-CSR, CVPR 2022).

`official_bugs=True` computes what the official code computes. There the parsing term counts four times and the category edges
twice, category weights grow with frequency, the category attention multiplies by the class index, and an image without edges
divides by zero. Refined parsing targets are read from the category edges (by a wrong index, which crashes on labels; here the
averaged network's category edges stand there), and refining turns ignored labels, the category edges' too, into background in
place, which the attentions see afterwards. Without it each term counts once, rare categories weigh more, both attentions are
masks, images without edges count as 0, and ignored pixels stay ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .lovasz import lovasz_softmax

IGNORE = 255


@dataclass
class Targets:
    """Holds labels [B, H, W] and, in the cycles of self-regulation, logits of the averaged network [B, C, h, w]."""

    parsing: Tensor
    binary: Tensor
    category: Tensor
    soft_parsing: Tensor | None = None
    soft_binary: Tensor | None = None
    soft_category: Tensor | None = None


@dataclass
class Weights:
    """Holds the weights of the terms."""

    parsing: float = 1.0
    binary: float = 1.0
    category: float = 0.1
    attention_binary: float = 4.0
    attention_category: float = 1.0


def edges_of(labels: Tensor, width: int = 3) -> tuple[Tensor, Tensor]:
    """Returns (binary edges, category edges) of labels [B, H, W]: changes to a neighbour, widened; ignored labels make no edge."""
    edge = torch.zeros(labels.shape, device=labels.device)
    h, w = labels.shape[1:]
    for rows, columns, other_rows, other_columns in (
        (slice(1, h), slice(0, w), slice(0, h - 1), slice(0, w)),
        (slice(0, h), slice(0, w - 1), slice(0, h), slice(1, w)),
        (slice(0, h - 1), slice(0, w - 1), slice(1, h), slice(1, w)),
        (slice(0, h - 1), slice(1, w), slice(1, h), slice(0, w - 1)),
    ):
        here, there = labels[:, rows, columns], labels[:, other_rows, other_columns]
        edge[:, rows, columns] = torch.maximum(edge[:, rows, columns], ((here != there) & (here != IGNORE) & (there != IGNORE)).float())
    binary = (F.max_pool2d(edge[:, None], width, 1, width // 2)[:, 0] > 0).long()
    category = torch.where(labels == IGNORE, labels, labels * binary)
    return binary, category


def enlarged(logits: Tensor, labels: Tensor) -> Tensor:
    """Resizes logits to the labels' size."""
    return F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=True)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Returns the labels as [B, C, H, W]; ignored pixels count as class 0."""
    return F.one_hot(torch.where(labels == IGNORE, 0, labels), classes).permute(0, 3, 1, 2).float()


def refined(soft: Tensor, labels: Tensor, n: int) -> Tensor:
    """Returns the targets of cycle n: (1 - 1 / (n + 1)) of the averaged network's logits and 1 / (n + 1) of the labels,
    one-hot.
    """
    share = 1.0 / (n + 1)
    return (1 - share) * enlarged(soft, labels) + share * one_hot(labels, soft.shape[1])


def divergence(logits: Tensor, soft: Tensor, valid: Tensor) -> Tensor:
    """Returns the mean of KL(softmax(soft) || softmax(logits)) over the valid pixels."""
    target = soft.softmax(1)
    pixels = (torch.xlogy(target, target) - target * logits.log_softmax(1)).sum(1)
    return (pixels * valid).sum() / valid.sum().clamp(min=1)


def binary_weights(labels: Tensor) -> Tensor:
    """Weighs each of the two classes by the share of the other."""
    positive = (labels == 1).sum().float()
    count = positive + (labels == 0).sum()
    share = positive / count.clamp(min=1)
    return torch.stack([share, 1 - share])


def category_weights(labels: Tensor, classes: int, official_bugs: bool) -> Tensor:
    """Returns a weight for each class by its share of the pixels; officially the share itself, so that rare classes count
    little.
    """
    counts = torch.bincount(labels[labels != IGNORE].flatten(), minlength=classes)[:classes].float()
    share = counts / counts.sum().clamp(min=1)
    return share if official_bugs else 1 - share


def attention(logits: Tensor, labels: Tensor, edges: Tensor, official_bugs: bool) -> Tensor:
    """Returns the parsing cross-entropy at the edges: the mean over an image's edge pixels, then over the images."""
    pixels = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    held = edges != IGNORE
    count = ((edges > 0) & held).sum((1, 2)).float()
    if official_bugs:
        return ((pixels * edges).sum((1, 2)) / count).sum() / len(labels)
    summed = (pixels * ((edges > 0) & held)).sum((1, 2))
    return (summed / count.clamp(min=1)).sum() / len(labels)


def weighted(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Returns a weighted cross-entropy, and zero where no pixel has a weight."""
    valid = labels != IGNORE
    if not bool((weights[labels[valid]] > 0).any()):
        return logits.sum() * 0
    return F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORE)


def criterion(
    outputs: Mapping[str, Tensor], targets: Targets, weights: Weights | None = None, cycle: int = 0, official_bugs: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns (loss, {term: value}) of the network's {seg, binary_edge, semantic_edge}; a `cycle` from 1 on uses the soft
    targets.
    """
    w = weights or Weights()
    labels = targets.parsing
    seg, binary, category = (enlarged(outputs[k], labels) for k in ("seg", "binary_edge", "semantic_edge"))
    soft = targets.soft_category if official_bugs else targets.soft_parsing
    soft_binary, soft_category = targets.soft_binary, targets.soft_category
    hard_seg = lovasz_softmax(seg, labels)
    valid = labels != IGNORE
    category_labels = targets.category
    if cycle and soft is not None and soft_binary is not None and soft_category is not None:
        if official_bugs:
            labels = torch.where(valid, labels, 0)
            category_labels = torch.where(targets.category == IGNORE, 0, targets.category)
            valid = torch.ones_like(valid)
        seg_term = divergence(seg, refined(soft, labels, cycle), valid)
        # The parsing's labels mask both edge terms.
        binary_term = divergence(binary, refined(soft_binary, targets.binary, cycle), valid)
        category_term = divergence(category, refined(soft_category, targets.category, cycle), valid)
    else:
        seg_term = F.cross_entropy(seg, labels, ignore_index=IGNORE) if valid.any() else seg.sum() * 0
        binary_term = weighted(binary, targets.binary, binary_weights(targets.binary))
        category_term = weighted(category, targets.category, category_weights(targets.category, category.shape[1], official_bugs))
    terms = {
        "parsing": 0.5 * w.parsing * (hard_seg + seg_term),
        "binary": w.binary * binary_term,
        "category": w.category * category_term,
        "attention_binary": attention(seg, labels, targets.binary, official_bugs),
        "attention_category": attention(seg, labels, category_labels, official_bugs),
    }
    repeats = {"parsing": 4, "category": 2} if official_bugs else {}
    factors = {"attention_binary": w.attention_binary, "attention_category": w.attention_category}
    return cast(Tensor, sum(factors.get(k, 1.0) * repeats.get(k, 1) * v for k, v in terms.items())), terms
