"""Assigns faces to cells (simOTA) and computes the finder's loss."""

import torch
import torch.nn.functional as F

from .network import STRIDES, cells, flatten

# Longest box side (px) that each stride is responsible for; neighbours share a band, and the cheaper one gets the face.
SIZES = {8: (0.0, 44.0), 16: (28.0, 104.0), 32: (72.0, float("inf"))}
# Longest side (px) of an ignored box whose cells of a stride have no target. Outside of it the box is no face for that stride
# whatever it is: an eye of a face as big as the whole input is background to stride 8.
IGNORED_SIZES = {8: (0.0, 72.0), 16: (18.0, 170.0), 32: (48.0, 340.0)}
# Cells farther than this from the box's middle (in strides) never get it.
RADIUS = 1.5
MOST_CELLS = 8
FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.5


def pair_iou(a, b, generalised: bool = False):
    """Returns IoU (or GIoU) of boxes a, b [..., 4] (x0, y0, x1, y1), broadcasting."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    iou = overlap / union.clamp(min=1e-6)
    if not generalised:
        return iou
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1).clamp(min=1e-6)
    return iou - (hull - union) / hull


def size_fits(boxes, strides, sizes):
    """Returns where each cell's stride [N] suits each box [G, 4] by its longest side, [G, N]."""
    longest = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    low, high = torch.zeros_like(strides), torch.zeros_like(strides)
    for stride in STRIDES:
        low = torch.where(strides == stride, sizes[stride][0], low)
        high = torch.where(strides == stride, sizes[stride][1], high)
    return (longest[:, None] >= low) & (longest[:, None] < high)


def contains(boxes, centres):
    """Returns where boxes [G, 4] hold centres [N, 2], [G, N]."""
    return ((centres[None] > boxes[:, None, :2]) & (centres[None] < boxes[:, None, 2:])).all(-1)


def assign(centres, strides, scores, boxes, faces):
    """Runs simOTA for one picture: cells' (centres [N, 2], strides [N], scores [N] logits, boxes [N, 4]) and faces [G, 4].

    Returns the face of every cell [N] (-1: none) and a mask [N] of cells that fit a face well but were not chosen; these have
    no target.
    """
    owner = torch.full((len(centres),), -1, dtype=torch.long, device=centres.device)
    spare = torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    if len(faces) == 0:
        return owner, spare
    offset = (centres[None] - (faces[:, None, :2] + faces[:, None, 2:]) / 2).abs().amax(-1)
    candidate = size_fits(faces, strides, SIZES) & contains(faces, centres) & (offset < RADIUS * strides)
    iou = pair_iou(boxes[None], faces[:, None])
    cost = F.softplus(-scores)[None] + 3 * -torch.log(iou + 1e-6) + offset / strides * 0.1
    cost = torch.where(candidate, cost, 1e9)
    best = torch.where(candidate, iou, 0.0).topk(min(MOST_CELLS, len(centres)), 1).values
    wanted = best.sum(1).round().clamp(1, MOST_CELLS).long()
    rank = cost.argsort(1).argsort(1)
    chosen = candidate & (rank < wanted[:, None])
    cheapest = torch.where(chosen, cost, 1e9).min(0)
    owner = torch.where(chosen.any(0), cheapest.indices, owner)
    spare = ((candidate & (iou > 0.5)).any(0)) & (owner < 0)
    return owner, spare


def loss(maps, targets):
    """Takes the maps of a batch and, for each picture, (faces [G, 4], keypoints [G, 5, 2], ignored [I, 4]) in input px.

    Returns the sum to minimise and its parts for the log.
    """
    raw = flatten(maps)
    centres, strides = cells([m.shape[2:] for m in maps], raw.device)
    score = raw[..., 0].float()
    reach = raw[..., 1:5].float() * strides[:, None]
    boxes = torch.cat([centres - reach[..., :2], centres + reach[..., 2:]], -1)
    points = raw[..., 5:].float().unflatten(-1, (5, 2)) * strides[:, None, None] + centres[:, None]

    target, weight = torch.zeros_like(score), torch.ones_like(score)
    owned, found_boxes, found_points, true_boxes, true_points = 0, [], [], [], []
    for index, (faces, keypoints, ignored) in enumerate(targets):
        with torch.no_grad():
            owner, spare = assign(centres, strides, score[index], boxes[index], faces)
            if len(ignored):
                covered = contains(ignored, centres) & size_fits(ignored, strides, IGNORED_SIZES)
                spare = spare | (covered.any(0) & (owner < 0))
            weight[index][spare] = 0
            mine = torch.nonzero(owner >= 0)[:, 0]
            target[index][mine] = 1
        if len(mine):
            owned += len(mine)
            found_boxes.append(boxes[index][mine])
            found_points.append(points[index][mine])
            true_boxes.append(faces[owner[mine]])
            true_points.append(keypoints[owner[mine]])

    chance = torch.sigmoid(score)
    miss = torch.where(target > 0, 1 - chance, chance)
    alpha = torch.where(target > 0, 1 - FOCAL_ALPHA, FOCAL_ALPHA)
    focal = alpha * miss**FOCAL_GAMMA * F.binary_cross_entropy_with_logits(score, target, reduction="none")
    score_loss = 4 * (focal * weight).sum() / max(owned, 1)
    box_loss = point_loss = score.sum() * 0
    if owned:
        true = torch.cat(true_boxes)
        box_loss = (1 - pair_iou(torch.cat(found_boxes), true, generalised=True)).mean()
        # Keypoint errors are relative to the face, so that a small face counts as much as a big one.
        size = (true[:, 2:] - true[:, :2]).prod(-1).clamp(min=1).sqrt()[:, None, None]
        error = F.smooth_l1_loss(torch.cat(found_points) / size, torch.cat(true_points) / size, beta=0.02, reduction="none")
        # Below about 24 px the labels themselves are off by a good part of a face.
        point_loss = (error * (size / 24).clamp(0.3, 1)).mean()
    total = score_loss + 1.5 * box_loss + 10 * point_loss
    parts = {"score": score_loss.item(), "box": box_loss.item(), "keypoints": point_loss.item()}
    return total, parts
