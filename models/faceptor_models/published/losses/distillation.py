"""Computes the losses of a student against its teachers. Every target is soft; a label, where there is one, is a one-hot target.

Cross-entropies are reduced by the target's own entropy, so that zero is agreement.
"""

import torch
from torch.nn import functional as F

FLOOR = 1e-6


def divergence(logits, target, known=None, dim=-1):
    """Returns KL(target || softmax(logits)) along `dim`; `known` masks classes that the target does not cover."""
    if known is not None:
        logits = logits.masked_fill(~known, -1e4)
    target = target / target.sum(dim, keepdim=True).clamp(min=FLOOR)
    return (target * (torch.log(target.clamp(min=FLOOR)) - F.log_softmax(logits, dim))).sum(dim)


def distribution_divergence(found, target):
    """Returns KL(target || found) of two distributions [B, bins], [B]."""
    target = target / target.sum(-1, keepdim=True).clamp(min=FLOOR)
    return (target * (torch.log(target.clamp(min=FLOOR)) - torch.log(found.clamp(min=FLOOR)))).sum(-1)


def binary(logits, target):
    """Returns the KL of Bernoulli probabilities for every number."""
    entropy = F.binary_cross_entropy(target.clamp(FLOOR, 1 - FLOOR), target, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy


def pixels(logits, target, seen):
    """Returns the mean over the seen pixels of the KL between class distributions [B, C, H, W]."""
    each = divergence(logits, target, dim=1)
    return (each * seen).sum() / seen.sum().clamp(min=1)


def places(logits, target, seen):
    """Returns the KL between the distributions of place of heat maps [B, Q, H, W]; the target's is limited to its seen part."""
    b, q = logits.shape[:2]
    logits = logits.masked_fill(~seen[:, None].bool(), -1e4)
    return divergence(logits.reshape(b, q, -1), (target * seen[:, None]).reshape(b, q, -1)).mean()


def queries(found, target):
    """Returns 1 - cosine of decoded queries [B, Q, D]; the student's are already mapped to the teacher's width."""
    return (1 - F.cosine_similarity(found, target, dim=-1)).mean()


def relation(found, target):
    """Returns the mean squared difference of the batch's similarity matrices of vectors [B, D] and [B, E], without the diagonal."""
    found, target = F.normalize(found, dim=-1), F.normalize(target, dim=-1)
    n = len(found)
    return ((found @ found.T - target @ target.T) ** 2).sum() / max(n * (n - 1), 1)


def vectors(found, target):
    """Returns 1 - cosine where both have one length, 0 otherwise: [B]."""
    if found.shape[-1] != target.shape[-1]:
        return torch.zeros(len(found), device=found.device)
    return 1 - F.cosine_similarity(found, target, dim=-1)
