"""Trains the parsing on pseudo-labels: makes masks with a trained network for crops that have none.

    python -m faceptor_models.student.pseudo edge/weights.pt --faces FACES --cache CACHE --source celeba --count 3000 --out DIR

The network sees every crop several times, mirrored and moved, and its mean answer becomes the mask; pixels without a sure
answer are unknown. The crop's attributes correct it: a thing whose attribute is absent is nowhere (unknown where the network is
surer than the annotators), and a thing that is present is drawn where it is likeliest, even where another class seemed
likelier. `--said` adds attributes of crops that have none, from a CSV of file, attribute and 1, -1 or 0 (not clear: the crop is
left out). DIR is a folder for `student.train --more`, with the source's name SOURCE_masked; give SOURCE a smaller share in
return.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import torch

from faceptor_models.common.area_sampling import view
from faceptor_models.common.augment import Jitter
from faceptor_models.common.geometry import apply, frame_to_network
from faceptor_models.common.labels import ATTRIBUTES, HINTS, PARSING, PARSING_FLIP, UNKNOWN
from faceptor_models.common.packed_crops import Labels, pack, table

from .evaluate import load

MASK_PX = 192
# Largest factor of a thing's odds when an attribute asserts it; where more is needed, the crop says nothing about it.
MOST_ODDS = 50.0
# From this probability on, a thing that an attribute denies is in doubt: of 97 crops of CelebA on which a network saw hats that
# their attributes deny, most show caps, headbands or scarves.
SURE_AGAINST = 0.9


def with_annotations(path, files, attributes):
    """Returns (attributes [n, 40] with what a CSV gives for `files`, which crops [n] are to be used)."""
    attributes, use, row = attributes.copy(), np.ones(len(files), bool), {str(f): i for i, f in enumerate(files)}
    with open(path) as file:
        for line in csv.DictReader(file):
            if line["file"] not in row or line["attribute"] not in ATTRIBUTES or line["value"] not in ("1", "0", "-1"):
                raise SystemExit(f"{path}: {line}: a crop's file, an attribute of CelebA and 1, 0 or -1 are expected")
            attributes[row[line["file"]], ATTRIBUTES.index(line["attribute"])] = int(line["value"])
            use[row[line["file"]]] &= line["value"] != "0"
    return attributes, use


def chosen(attributes, usable, count, seed):
    """Returns `count` rows of a source: first usable ones with an attribute for one of the things of HINTS, then any others."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.nonzero(usable)[0])
    things = [column for column, *_ in HINTS.values()]
    having = (attributes[rows][:, things] > 0).any(1)
    return np.sort(np.concatenate([rows[having], rows[~having]])[:count])


def views(crop, count, size, rng):
    """Returns [(network image float [3, size, size], frame-to-network map, mirrored)] of a crop, lightly moved, every other one mirrored."""
    side, out = crop.shape[0], []
    while len(out) < count:
        jitter = Jitter(rng, light=True)
        if jitter.flip == (len(out) % 2 == 1):
            image = view(crop[..., :3], jitter.to_photo * side, size)
            out.append((image.transpose(2, 0, 1) / 127.5 - 1.0, jitter.to_network, jitter.flip))
    return out


def to_crop_frame(probabilities, to_network, mirrored):
    """Maps the class probabilities [classes, S, S] of a view back to the crop's frame, [MASK_PX, MASK_PX, classes]."""
    if mirrored:
        probabilities = probabilities[PARSING_FLIP]
    frame = (np.arange(MASK_PX) + 0.5) / MASK_PX
    grid = np.stack(np.meshgrid(frame, frame), -1).reshape(-1, 2)
    size = probabilities.shape[-1]
    where = (frame_to_network(apply(to_network, grid)) * size - 0.5).astype(np.float32).reshape(MASK_PX, MASK_PX, 2)
    planes = probabilities.transpose(1, 2, 0)
    parts = [
        cv2.remap(np.ascontiguousarray(planes[..., i : i + 4]), where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(
            MASK_PX, MASK_PX, -1
        )
        for i in range(0, planes.shape[-1], 4)
    ]
    return np.concatenate(parts, -1)


def corrected(probabilities, attributes):
    """Corrects probabilities by the attributes [40] (+1, -1, 0); returns (probabilities, things in doubt)."""
    p, doubtful = probabilities.copy(), []
    for column, label, share in HINTS.values():
        least = 0.5 * share  # least share of the picture that the thing fills
        if attributes[column] < 0:
            if (p[..., label] > SURE_AGAINST).mean() >= least:
                doubtful.append(label)
            else:
                p[..., label] = 0.0
        elif attributes[column] > 0:
            # The odds against the likeliest other class of those pixels.
            other = np.delete(p, label, -1).max(-1)
            odds = np.sort((other / np.maximum(p[..., label], 1e-6)).ravel())[max(1, round(least * other.size)) - 1]
            if odds > MOST_ODDS:
                doubtful.append(label)
            elif odds > 1:
                p[..., label] *= odds * 1.001
    return p / np.maximum(p.sum(-1, keepdims=True), 1e-6), doubtful


def mask_of(probabilities, attributes, border, sure):
    """Returns the mask [MASK_PX, MASK_PX] of one crop: labels, or UNKNOWN."""
    p, doubtful = corrected(probabilities, attributes)
    mask = p.argmax(-1).astype(np.uint8)
    mask[p.max(-1) < sure] = UNKNOWN
    for label in doubtful:
        mask[p[..., label] > 0.05] = UNKNOWN
    mask[cv2.resize(border, (MASK_PX, MASK_PX), interpolation=cv2.INTER_AREA) > 127] = UNKNOWN
    return mask


@torch.inference_mode()
def parsed(net, images):
    """Returns the class probabilities [B, classes, S, S] of network images."""
    maps = net.encode(images)
    logits = net.regions(net.decode("parsing", net.remember(maps)), maps["f2"], net.pixels(maps))
    return logits.float().softmax(1).numpy()


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("weights")
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--cache", required=True)
    p.add_argument("--source", default="celeba")
    p.add_argument("--said", metavar="CSV", help="further attributes of crops: file, attribute, value")
    p.add_argument("--count", type=int, default=3000)
    p.add_argument("--views", type=int, default=4)
    p.add_argument("--sure", type=float, default=0.5, help="least probability of a pixel's class")
    p.add_argument("--px", type=int, default=96)
    p.add_argument("--seed", type=int, default=3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--out", required=True)
    args = p.parse_args(arguments)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    net, _ = load(args.weights)
    crops = pack(args.faces, args.cache, mapped=True)[args.source]
    archive = table(Path(args.faces) / "train/labels.npz")
    own = np.nonzero(archive["source"] == args.source)[0]
    attributes, usable = Labels(archive, args.source).attributes, np.ones(len(own), bool)
    if args.said:
        attributes, usable = with_annotations(args.said, archive["path"][own], attributes)
    rows = chosen(attributes, usable, args.count, args.seed)
    rng, masks = np.random.default_rng(args.seed), []
    for done, i in enumerate(rows):
        seen = views(crops[i], args.views, args.px, rng)
        answers = parsed(net, torch.from_numpy(np.stack([image for image, *_ in seen])).float())
        mean = np.mean([to_crop_frame(a, to_network, flip) for a, (_, to_network, flip) in zip(answers, seen)], 0)
        masks.append(mask_of(mean, attributes[i], crops[i][..., 3], args.sure))
        if done % 500 == 499:
            print(f"{done + 1} of {len(rows)}", flush=True)
    out, name = Path(args.out), f"{args.source}_masked"
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / f"{name}.npy", crops[rows])
    np.save(out / "masks.npy", np.stack(masks))
    kept = {k: v[own[rows]] for k, v in archive.items()}
    kept |= {"source": np.full(len(rows), name), "attributes": attributes[rows].astype(archive["attributes"].dtype)}
    np.savez(out / "labels.npz", **kept)
    shown = {PARSING[c]: int(sum((m == c).sum() >= 30 for m in masks)) for c in (3, 14, 15, 16)}
    print(f"{out}: {len(rows)} crops, of which show {shown}; {100 * np.mean(np.stack(masks) == UNKNOWN):.1f} % of the pixels unknown")


if __name__ == "__main__":
    main()
