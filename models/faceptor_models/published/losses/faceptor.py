"""Computes Faceptor's losses by task type and their weighted sum. Naive Faceptor's are the same."""

import torch
from torch.nn import functional as F

from ..interpreters import age_distribution, expected_age
from ..official import type_of

AGE_STD_YEARS = 2.0
# Radius of the heat map targets, in cells of the map.
HEATMAP_RADIUS = 5.0


def cosface(embedding, classifier, labels, scale=64.0, margin=0.4):
    """Returns the CosFace loss of embeddings [B, D], class vectors [N, D] and identities [B]."""
    norms = embedding.norm(dim=1)[:, None] * classifier.norm(dim=1)[None]
    cosine = embedding @ classifier.T / norms.clamp(min=1e-8)
    return F.cross_entropy(scale * (cosine - margin * F.one_hot(labels, classifier.shape[0])), labels)


def age_target(labels, bins=101):
    """Returns a Gaussian of two years about the whole-number age, with a sum of one over the bins: [B, bins]."""
    distance = torch.arange(bins, device=labels.device) - labels[:, None].float()
    density = torch.exp(-0.5 * (distance / AGE_STD_YEARS) ** 2)
    return density / density.sum(-1, keepdim=True)


def age(logits, labels, target=None):
    """Returns (KL divergence of the distribution from the target, mean distance of the expected age in years)."""
    target = age_target(labels, logits.shape[-1]) if target is None else target
    p = age_distribution(logits)
    divergence = (torch.xlogy(target, target) - torch.xlogy(target, p)).sum() / logits.shape[0]
    return divergence, (expected_age(logits) - labels).abs().mean()


def attributes(logits, labels):
    """Returns the binary cross-entropy summed over the attributes, mean over the batch; labels 1, 0, and -1 for unknown."""
    known = (labels != -1).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, (labels == 1).to(logits.dtype), weight=known, reduction="sum")
    return loss / logits.shape[0]


def parsing(logits, labels):
    """Returns the cross-entropy over every pixel of logits [B, H, W, C], in the head's form; no label is ignored."""
    return F.cross_entropy(logits.permute(0, 3, 1, 2), labels.long())


def heatmap_target(points, size, radius=HEATMAP_RADIUS):
    """Maps points [B, Q, 2] in 0..1 to maps [B, Q, size, size]: exp(-8 r^2 / radius^2) within the radius, zero outside."""
    centre = points * size - 0.5
    cells = torch.arange(size, device=points.device, dtype=points.dtype)
    x = cells - centre[..., 0:1]
    y = cells - centre[..., 1:2]
    squared = x[..., None, :] ** 2 + y[..., :, None] ** 2
    return torch.where(squared <= radius**2, torch.exp(-8.0 * squared / radius**2), torch.zeros_like(squared))


def align(output, points):
    """Returns (mean distance in units of the side, binary cross-entropy of the heat map) for the head's {landmark, heatmap}.

    The target has the map's own size, a quarter of the input's: 128 officially.
    """
    distance = (output["landmark"] - points).norm(dim=-1).mean()
    logits = output["heatmap"]
    return distance, F.binary_cross_entropy_with_logits(logits, heatmap_target(points, logits.shape[-1]))


def task_loss(task, output, batch, classifier=None):
    """Returns (loss of one task, its terms). `batch` has `label`, and for age optionally `distribution`."""
    kind = type_of(task)
    if kind == "recog":
        terms = (cosface(output, classifier, batch["label"]),)
    elif kind == "age":
        terms = age(output, batch["label"], batch.get("distribution"))
    elif kind == "biattr":
        terms = (attributes(output, batch["label"]),)
    elif kind == "affect":
        terms = (F.cross_entropy(output, batch["label"]),)
    else:
        terms = (parsing(output, batch["label"]),) if kind == "parsing" else align(output, batch["label"])
    return sum(terms), terms


def effective_weights(loss_weights, type_weights):
    """Returns {task: weight}: each type's weight, split among its tasks in proportion to their loss weights."""
    sums = {}
    for task, weight in loss_weights.items():
        sums[type_of(task)] = sums.get(type_of(task), 0.0) + weight
    return {t: w * type_weights[type_of(t)] / sums[type_of(t)] for t, w in loss_weights.items()}


def total(losses, weights):
    """Returns the sum of the weighted losses over the sum of the weights, of the tasks in `losses`."""
    return sum(weights[t] * v for t, v in losses.items()) / sum(weights[t] for t in losses)
