"""Computes the student's losses: Faceptor's, changed where there are few samples; every missing label is masked."""

import torch
from torch.nn import functional as F

from faceptor_models.common.labels import HINTS, MALE

from .network import AGE_BINS, age_distribution

AGE_STD_YEARS = 4.0
# Set once so that all terms have the same order of magnitude. A run's `--weigh` overrides them; EXPERIMENTS.md has the effects.
WEIGHTS = {
    "landmarks": 6.0, "heatmap": 0.25, "parsing": 1.0, "age": 0.6, "age_years": 0.08, "expression": 1.0, "attributes": 4.0,
    "embedding": 3.0, "relation": 20.0, "auxiliary": 0.5, "edges": 0.1, "hints": 0.2, "coarse": 0.3,
    "identity": 0.5, "inner": 1.0, "tutor": 1.0,
}  # fmt: skip
# Terms that only some runs have.
HELPERS = ("edges", "identity", "inner", "tutor")
# The terms of each task, for early stopping.
TASKS = {
    "landmarks": ("landmarks", "heatmap", "inner"), "parsing": ("parsing", "edges", "hints", "coarse"), "age": ("age", "age_years"),
    "expression": ("expression",), "attributes": ("attributes",), "recognition": ("embedding", "relation", "identity"),
}  # fmt: skip


def age_target(low, high, bins):
    """Returns a Gaussian of 4 years about the age; for a range it is flat inside with the same slopes outside. [B, bins]"""
    beyond = torch.relu(low[:, None] - bins) + torch.relu(bins - high[:, None])
    t = torch.exp(-0.5 * (beyond / AGE_STD_YEARS) ** 2)
    return t / t.sum(-1, keepdim=True)


def age(logits, low, high):
    """Returns (KL to the target distribution, distance of the expected age to the labelled range in years)."""
    bins = torch.tensor(AGE_BINS, device=logits.device)
    p = age_distribution(logits.float())
    target = age_target(low, high, bins)
    kl = (target * (torch.log(target + 1e-8) - torch.log(p + 1e-8))).sum(-1).mean()
    years = (p * bins).sum(-1)
    return kl, (torch.relu(low - years) + torch.relu(years - high)).mean()


def expression(logits, votes):
    """Returns the cross-entropy with the voters' distribution."""
    return -(votes * F.log_softmax(logits.float(), -1)).sum(-1).mean()


def attributes(logits, labels):
    """Returns the binary cross-entropy over the known labels (+1, -1; 0 unknown)."""
    known = (labels != 0).float()
    loss = F.binary_cross_entropy_with_logits(logits.float(), (labels > 0).float(), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def landmarks(logits, target, weight):
    """Returns (mean point error in eye distances, cross-entropy of the heat map's marginals with Gaussians of one cell)."""
    b, q, h, w = logits.shape
    p = logits.float().flatten(2).softmax(-1).reshape(b, q, h, w)
    px, py = p.sum(2), p.sum(3)
    x = (torch.arange(w, device=p.device) + 0.5) / w
    y = (torch.arange(h, device=p.device) + 0.5) / h
    found = torch.stack([(px * x).sum(-1), (py * y).sum(-1)], -1)
    eye = (target[:, 36] - target[:, 45]).norm(dim=-1).clamp(min=0.05)
    weight = weight / weight.sum()
    coordinate = (((found - target).norm(dim=-1) / eye[:, None]).mean(1) * weight).sum()
    cross = 0.0
    for marginal, axis, centre, cells in ((px, x, target[..., 0:1], w), (py, y, target[..., 1:2], h)):
        hill = torch.exp(-0.5 * ((axis - centre) * cells) ** 2)
        mass = hill.sum(-1, keepdim=True)
        # Points outside the network's view have no peak to learn.
        seen = (mass[..., 0] > 1.0).float()
        cross = cross - ((hill / mass.clamp(min=1e-6)) * torch.log(marginal + 1e-6)).sum(-1) * seen
    return coordinate, (cross.mean(1) * weight).sum()


# Rare classes (earring, necklace, hat, glasses, lips) count more: about the eighth root of the inverse frequency.
PARSING_WEIGHT = [0.8, 0.8, 1.0, 1.5, 1.5, 1.5, 1.4, 1.4, 1.4, 1.4, 1.4, 1.3, 1.2, 0.8, 1.4, 1.8, 2.0, 1.0, 1.1]


def parsing(logits, labels):
    """Returns weighted pixel cross-entropy plus soft Dice over the classes present; 255 is outside the photo."""
    up = logits.float()
    if up.shape[-2:] != labels.shape[-2:]:
        up = F.interpolate(up, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    classes = up.shape[1]
    valid = labels != 255
    label = labels.masked_fill(~valid, 0)
    log_p = up.log_softmax(1)
    told = log_p.gather(1, label.unsqueeze(1)).squeeze(1)
    weight = torch.tensor(PARSING_WEIGHT, device=up.device)[label] * valid
    cross = -(weight * told).sum() / weight.sum().clamp(min=1e-6)
    # Sums over the labels' pixels replace one map of ones and zeros for each class, with which this loss took an eighth of a
    # step.
    count = torch.bincount(label[valid], minlength=classes)
    both = torch.zeros(classes, device=up.device).index_add(0, label.flatten(), (told.exp() * valid).flatten())
    size = torch.einsum("bcp,bp->c", log_p.exp().flatten(2), valid.flatten(1).float()) + count
    present = count > 0
    dice = 1 - (2 * both[present] + 1) / (size[present] + 1)
    return cross + 0.5 * dice[1:].mean()


def hints(logits, attributes):
    """Compares the surest pixels of a thing's class with the thing's presence, on crops with attributes and without masks.

    `logits` [B, classes, H, W], `attributes` [B, 40] of +1, -1 and 0 (unknown). It is a multiple-instance cross-entropy: for a
    present thing the mean over as many pixels as it fills is drawn to 1, for an absent one to 0.
    """
    p = logits.float().softmax(1).flatten(2)
    terms = []
    for column, label, share in HINTS.values():
        surest = p[:, label].topk(max(1, round(share * p.shape[-1]))).values.mean(-1).clamp(1e-4, 1 - 1e-4)
        there = attributes[:, column]
        term = F.binary_cross_entropy(surest, (there > 0).float(), reduction="none") * (there != 0)
        terms.append(term.sum() / (there != 0).sum().clamp(min=1))
    return torch.stack(terms).sum()


def recognition(embedding, teacher, flip):
    """Returns (cosine distance to the teacher's vector, squared difference of the batch's similarity matrices)."""
    ours = F.normalize(embedding.float(), dim=-1)
    # The teacher saw the unmirrored photo and is not mirror-symmetric, so mirrored samples count less.
    pull = torch.where(flip, 0.5, 1.0)
    cosine = ((1 - (ours * teacher).sum(-1)) * pull).sum() / pull.sum()
    relation = (ours @ ours.T - teacher @ teacher.T) ** 2
    n = len(ours)
    return cosine, relation.sum() / (n * (n - 1))


def compute(net, batch, landmark_limit, stopped=(), helpers=None):
    """Returns all losses of one batch, {name: scalar}. `batch` holds tensors on the network's device.

    Tasks in `stopped` cost nothing, nor do the terms "hints" and "coarse" there. `helpers` give terms by their names: "edges"
    of (logits, f4, f8) of the faces with masks (training_model.py), "identity" of (embedding, identity) (identities.py),
    "inner" of (f8, maps, seen) of the faces that have inner maps (inner_maps.py), "tutor" of (net, batch, maps, limit)
    (tutor.py).
    """
    helpers = helpers or {}
    maps = net.encode(batch["image"])
    memory = net.remember(maps)
    f16 = maps["f16"]
    out, extra = {}, 0.0

    def rows_of(flag):
        return torch.nonzero(flag)[:, 0]

    def recall(rows):
        return [(k[rows], v[rows]) for k, v in memory]

    pooled = f16.float().mean((2, 3))
    auxiliary = {t: head(pooled) for t, head in net.auxiliary.items()}

    if "age" not in stopped:
        rows = rows_of(torch.isfinite(batch["age_low"]))
        low, high = batch["age_low"][rows], batch["age_high"][rows]
        out["age"], out["age_years"] = age(net.values("age", net.decode("age", recall(rows)).float()), low, high)
        kl, years = age(auxiliary["age"][rows], low, high)
        extra = extra + WEIGHTS["age"] * kl + WEIGHTS["age_years"] * years

    if "expression" not in stopped:
        rows = rows_of(batch["expression"][:, 0] >= 0)
        votes = batch["expression"][rows]
        out["expression"] = expression(net.values("expression", net.decode("expression", recall(rows)).float()), votes)
        extra = extra + WEIGHTS["expression"] * expression(auxiliary["expression"][rows], votes)

    if "attributes" not in stopped:
        rows = rows_of((batch["attributes"] != 0).any(1))
        out["attributes"] = attributes(net.values("attributes", net.decode("attributes", recall(rows)).float()), batch["attributes"][rows])
        known = batch["attributes"].clone()
        sexed = batch["male"] >= 0
        known[sexed, MALE] = batch["male"][sexed].float() * 2 - 1
        rows = rows_of((known != 0).any(1))
        extra = extra + WEIGHTS["attributes"] * attributes(auxiliary["attributes"][rows], known[rows])
    if torch.is_tensor(extra):
        out["auxiliary"] = extra

    points = chosen_points(batch, landmark_limit) if "landmarks" not in stopped else batch["parsing_rows"][:0]
    rows = batch["parsing_rows"] if "parsing" not in stopped else batch["parsing_rows"][:0]
    hint_rows = batch["hint_rows"] if "hint_rows" in batch and not {"parsing", "hints"} & set(stopped) else rows[:0]
    if len(points) + len(rows):
        # One call with the same count in every step: new shapes cost oneDNN a compilation.
        dense = torch.cat([points, rows, hint_rows])
        features = net.pixels({k: maps[k][dense] for k in ("f4", "f8", "f16")})
    if len(points):
        logits = net.maps(net.decode("landmarks", recall(points)), features[: len(points)])
        weight = torch.where(batch["people"][points], 3.0, 1.0)
        out["landmarks"], out["heatmap"] = landmarks(logits, batch["landmarks"][points], weight)
        if "inner" in helpers:
            out["inner"] = helpers["inner"](maps["f8"][batch["inner_rows"]], batch["inner"], batch["inner_seen"])
    if len(rows):
        both = torch.cat([rows, hint_rows])
        decoded, pixels = net.decode("parsing", recall(both)), features[len(points) :]
        logits = net.regions(decoded, maps["f2"][both], pixels)
        if len(hint_rows):
            out["hints"] = hints(logits[len(rows) :], batch["attributes"][hint_rows])
            logits = logits[: len(rows)]
        out["parsing"] = parsing(logits, batch["parsing"])
        if hasattr(net, "region") and "coarse" not in stopped:
            # The pixel decoder's own answer, in training only: it keeps the features below close to the labels.
            out["coarse"] = parsing(net.maps(decoded[: len(rows)], pixels[: len(rows)]), batch["parsing"])
        if "edges" in helpers:
            out["edges"] = helpers["edges"](logits, maps["f4"][rows], maps["f8"][rows])

    if "recognition" not in stopped:
        embedding = net.feature(f16)
        out["embedding"], out["relation"] = recognition(embedding, batch["embedding"], batch["flip"])
        if "identity" in helpers:
            out["identity"] = helpers["identity"](embedding, batch["identity"])
    if "tutor" in helpers:
        out["tutor"] = helpers["tutor"](net, batch, maps, landmark_limit)
    return out


def chosen_points(batch, landmark_limit):
    """Chooses rows with annotated points first, then with pseudo-points up to the limit: the dense decoder is the dearest part of a step."""
    usable = torch.isfinite(batch["landmarks"][:, 0, 0])
    order = torch.argsort(usable.int() + batch["people"].int(), descending=True, stable=True)
    shuffled = order[: int(usable.sum())]
    people = int(batch["people"].sum())
    rest = shuffled[people:]
    rest = rest[torch.randperm(len(rest), device=rest.device)[: max(0, landmark_limit - people)]]
    return torch.cat([shuffled[:people], rest])


def total(losses, weights=WEIGHTS):
    return sum(weights[k] * v for k, v in losses.items())


def by_task(losses, weights=WEIGHTS):
    """Returns {task: weighted sum of its terms} of the tasks that have any."""
    sums = {t: [weights[k] * losses[k] for k in terms if k in losses] for t, terms in TASKS.items()}
    return {t: sum(v) for t, v in sums.items() if v}
