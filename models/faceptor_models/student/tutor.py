"""Distils a trained network of ours: another network learns its answers beside the labels, or instead of them. Training only.

A larger network teaches a smaller one, or a network with another memory learns the answers of its predecessor. Every task
learns from every face of the batch, whatever its labels: values from all of them, points and masks from some.
"""

import torch
from torch.nn import functional as F

from .evaluate import load
from .losses import chosen_points
from .network import ANSWERS, DENSE

# Set once so that all tasks have the same order of magnitude.
WEIGHTS = {"landmarks": 3.4, "parsing": 3.0, "age": 40.0, "expression": 1.0, "attributes": 20.0, "recognition": 5.0}
# Faces of a batch of 128 without masks that learn the tutor's.
UNMASKED = 8


def divergence(logits, goal, dim):
    """Returns the mean Kullback-Leibler divergence of softmax answers along `dim` from those of `goal`."""
    p, q = logits.float().log_softmax(dim), goal.float().softmax(dim)
    return F.kl_div(p, q, reduction="sum") / (p.numel() / p.shape[dim])


def independent(logits, goal):
    """Returns the same measure for answers that are independent probabilities."""
    q = goal.float().sigmoid()
    return F.binary_cross_entropy_with_logits(logits.float(), q) - F.binary_cross_entropy_with_logits(goal.float(), q)


def distance(task, logits, goal):
    """Returns the distance of a task's answers from the tutor's, 0 where they are equal."""
    if task in DENSE and logits.shape != goal.shape:
        logits = F.interpolate(logits.float(), size=goal.shape[-2:], mode="bilinear", align_corners=False)
    if task == "landmarks":
        return divergence(logits.flatten(2), goal.flatten(2), -1)
    if task == "recognition":
        return (1 - F.cosine_similarity(logits.float(), goal.float(), dim=-1)).mean()
    return independent(logits, goal) if task in ("age", "attributes") else divergence(logits, goal, 1)


def features(net, maps, rows):
    """Returns {task: features of the pixels of its rows} of the tasks that read them, in one call."""
    dense = [t for t in DENSE if t in rows]
    if not dense:
        return {}
    chosen = torch.cat([rows[t] for t in dense])
    pixels = net.pixels({k: maps[k][chosen] for k in ("f4", "f8", "f16")})
    return dict(zip(dense, pixels.split([len(rows[t]) for t in dense])))


def answers(net, maps, pixels, rows):
    """Returns the logits of the tasks in `rows` ({task: rows of the batch}) from the maps of the whole batch and the `features`
    of the pixels.
    """
    memory = net.remember(maps)
    recall = lambda r: [(k[r], v[r]) for k, v in memory]  # noqa: E731
    out = {t: net.values(t, net.decode(t, recall(r))) for t, r in rows.items() if t in ANSWERS}
    for task, seen in pixels.items():
        decoded = net.decode(task, recall(rows[task]))
        out[task] = net.maps(decoded, seen) if task == "landmarks" else net.regions(decoded, maps["f2"][rows[task]], seen)
    return out | {"recognition": net.feature(maps["f16"])}


class Tutor:
    """Holds the network of `file` and computes the distance of another network's answers from its own."""

    def __init__(self, file, device="cpu"):
        self.net = load(file)[0].to(device).requires_grad_(False)
        self.sees_alike = False

    def compare(self, net):
        """Checks whether `net` holds the tutor's own encoder and pixel decoder; then both share what they compute of a face."""
        held = lambda part: not any(p.requires_grad for p in part.parameters())  # noqa: E731
        same = lambda a, b: all(v.shape == b[k].shape and torch.equal(v, b[k]) for k, v in a.items())  # noqa: E731
        parts = [(getattr(net, name), getattr(self.net, name)) for name in ("encoder", "pixel")]
        self.sees_alike = net.size == self.net.size and all(held(a) and same(a.state_dict(), b.state_dict()) for a, b in parts)

    def stay_float(self):
        """Keeps the tutor in float from here on, while the network that learns rounds its maps: its rounded answers approach the float ones."""
        self.sees_alike = False

    @staticmethod
    def rows(batch, landmark_limit):
        """Returns {task: rows of the batch that learn it}; the faces with masks and some of the others learn masks."""
        count, device = len(batch["image"]), batch["image"].device
        unmasked = torch.ones(count, dtype=torch.bool, device=device)
        unmasked[batch["parsing_rows"]] = False
        others = torch.nonzero(unmasked)[:, 0]
        others = others[torch.randperm(len(others), device=device)[: max(1, UNMASKED * count // 128)]]
        rows = dict.fromkeys(ANSWERS, torch.arange(count, device=device))
        rows |= {"landmarks": chosen_points(batch, landmark_limit), "parsing": torch.cat([batch["parsing_rows"], others])}
        return {t: r for t, r in rows.items() if len(r)}

    def __call__(self, net, batch, maps, landmark_limit):
        """Returns the weighted sum of the tasks' distances, a scalar; `maps` are what `net` computed of the batch's images."""
        rows = self.rows(batch, landmark_limit)
        pixels = features(net, maps, rows)
        with torch.no_grad():
            seen = maps if self.sees_alike else self.net.encode(batch["image"])
            goals = answers(self.net, seen, pixels if self.sees_alike else features(self.net, seen, rows), rows)
        return sum(WEIGHTS[task] * distance(task, logits, goals[task]) for task, logits in answers(net, maps, pixels, rows).items())
