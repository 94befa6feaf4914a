"""Computes TCDCN's objective: landmark regression, weighted auxiliary classification, weight penalty."""

from torch.nn import functional as F


def landmarks(found, target):
    """Returns half the squared distance, summed over the batch."""
    return 0.5 * ((found - target) ** 2).sum()


def auxiliary(logits, labels):
    """Returns the cross-entropy summed over the batch."""
    return F.cross_entropy(logits, labels, reduction="sum")


def penalty(parameters):
    """Returns the squared length of the weights without the biases, which have one axis."""
    return sum((p**2).sum() for p in parameters if p.dim() > 1)


def objective(outputs, labels, coefficients, parameters=(), decay=1.0):
    """Returns (loss, {task: its own unweighted loss}).

    `coefficients` is {auxiliary task: lambda}; a stopped task has 0 and costs nothing. The landmarks, the main task, count 1.
    """
    losses = {"landmark": landmarks(outputs["landmark"], labels["landmark"])}
    losses |= {task: auxiliary(outputs[task], labels[task]) for task in coefficients}
    loss = losses["landmark"] + sum(coefficients[t] * losses[t] for t in coefficients if coefficients[t])
    return loss + decay * penalty(parameters), losses
