"""Computes the Lovasz-softmax loss: the convex extension of the Jaccard loss over classes."""

import torch


def jaccard_gradient(sorted_foreground: torch.Tensor) -> torch.Tensor:
    """Returns the gradient of the extension with respect to sorted errors, for 0/1 foreground in that order."""
    total = sorted_foreground.sum()
    intersection = total - sorted_foreground.cumsum(0)
    union = total + (1 - sorted_foreground).cumsum(0)
    jaccard = 1 - intersection / union
    jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
    return jaccard


def lovasz_softmax(logits: torch.Tensor, labels: torch.Tensor, ignore: int = 255) -> torch.Tensor:
    """Takes logits [B, C, H, W] and labels [B, H, W]; the pixels of the whole batch count together, and the mean is over the
    classes present.
    """
    valid = labels != ignore
    p = logits.softmax(1).permute(0, 2, 3, 1)[valid]
    labels = labels[valid]
    losses = []
    for index in torch.unique(labels).tolist():
        foreground = (labels == index).to(p.dtype)
        errors, order = (foreground - p[:, index]).abs().sort(descending=True)
        losses.append((errors * jaccard_gradient(foreground[order])).sum())
    # A batch without a valid pixel has nothing to learn, but keeps its graph.
    return torch.stack(losses).mean() if losses else logits.sum() * 0
