"""Measures verification and identification on the dev LFW people: pairs of the folds, all pairs, names among many, and blurred strangers.

    python -m faceptor_models.student.recognition.evaluate CHECKPOINT.pt|NETWORK.onnx ... [--faces ../../shared/faces] [--mirror]

A checkpoint is of recognition.train or gpu_train (its average), an ONNX file an ArcFace network such as the teacher. Embeddings are
rounded to 8 bits, as galleries hold them. The folds' threshold comes from the other folds; a gallery's from the other half of the people.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from faceptor_models.common.errors import Refused
from faceptor_models.common.metrics import verification

from ..development import Development
from ..identity import FPIR, Photos, name_of, pairs, rounded, search
from ..layout import LAYOUTS
from .crops import save
from .sizes import INPUT
from .tower import Tower
from .windows import middle, window

RATES = (1e-3, 1e-4, 1e-5)
GALLERIES = (100, 500)
# Standard deviation of the blur in pixels of the dev crops, which are 160 wide, and the people whose first photos get it.
BLUR_PX, BLUR_SIDE, STRANGERS = 4.0, 160, 200
CROPS = "lfw.npy"
BATCH = 64


def crops_of(faces, cache=None):
    """Returns (dev split, its LFW rows, their ArcFace crops uint8 [n, 112, 112, 3]); a folder `cache` keeps the crops."""
    dev = Development(faces)
    rows = dev.rows("lfw")
    kept = Path(cache) / CROPS if cache else None
    if kept and kept.exists():
        crops = np.load(kept, mmap_mode="r")
        if len(crops) == len(rows):
            return dev, rows, crops
    crops = np.stack([middle(window(dev.rgb(i))) for i in rows])
    if kept:
        save(kept, crops)
    return dev, rows, crops


def answers_of(net, px=INPUT, layout=LAYOUTS["f32-channels-last"], device="cpu", mirror=False):
    """Returns a function from crops uint8 [n, 112, 112, 3] to the network's embeddings at an input side."""

    @torch.no_grad()
    def run(crops):
        found = []
        for start in range(0, len(crops), BATCH):
            part = crops[start : start + BATCH]
            if px != INPUT:
                part = np.stack([cv2.resize(crop, (px, px), interpolation=cv2.INTER_AREA) for crop in part])
            images = torch.from_numpy(np.ascontiguousarray(part)).to(device).permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)
            out = torch.nn.functional.normalize(net(layout.placed(images)).float(), dim=1)
            if mirror:
                out = out + torch.nn.functional.normalize(net(layout.placed(images.flip(3))).float(), dim=1)
            found.append(out.cpu().numpy())
        return np.concatenate(found)

    return run


def blurred(crop):
    """Blurs an ArcFace crop as the table's blur does a dev crop."""
    scale = 1.13515 * BLUR_SIDE / 192
    return cv2.GaussianBlur(crop, (0, 0), BLUR_PX / scale, borderType=cv2.BORDER_REPLICATE)


def measures(photos, fold_pairs, strangers, divisions, seed=0):
    """Returns {measure: value} in percent, and cosines for the blurred `strangers` [n, d]; `fold_pairs` are rows of `photos`."""
    found = {"folds": 100 * verification(fold_pairs, dict(enumerate(photos.vector)))}
    genuine, impostors = pairs(photos, np.arange(len(photos.person)))
    for rate in RATES:
        count = max(1, round(rate * len(impostors)))
        limit = np.partition(impostors, len(impostors) - count)[len(impostors) - count]
        found[f"tar_{rate:.0e}"] = 100 * float((genuine >= limit).mean())
    for people in GALLERIES:
        rng = np.random.default_rng(seed)
        runs = [run for run in (search(photos, rng, people, 1) for _ in range(divisions)) if run]
        if runs:
            found[f"named_{people}"] = 100 * float(np.mean([run[FPIR.index(0.01)][1] for run in runs]))
    upper = np.triu_indices(len(strangers), 1)
    cosines = (strangers @ strangers.T)[upper]
    return found | {"blurred_median": float(np.median(cosines)), "blurred_max": float(cosines.max())}


def lfw(faces, run, cache=None, divisions=10):
    """Returns the measures of a network, {name: value}; `run` maps crops to embeddings."""
    dev, rows, crops = crops_of(faces, cache)
    _, person = np.unique([name_of(dev.path[i]) for i in rows], return_inverse=True)
    photos = Photos(rounded(run(crops)), person)
    place = {row: i for i, row in enumerate(rows)}
    fold_pairs = [(fold, place[a], place[b], same) for fold, a, b, same in dev.pairs()]
    first = np.sort(np.unique(person, return_index=True)[1])[:STRANGERS]
    strangers = rounded(run(np.stack([blurred(crops[i]) for i in first])))
    return {name: round(value, 3) for name, value in measures(photos, fold_pairs, strangers, divisions).items()}


def loaded(checkpoint, size=None):
    """Returns the tower with the average of a checkpoint, which must be of a `size` where one is given."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if not {"size", "average"} <= state.keys():
        raise Refused(f"{checkpoint} is no checkpoint of recognition.train")
    if size and state["size"] != size:
        raise Refused(f"{checkpoint} is of the size {state['size']}, not {size}")
    net = Tower(state["size"])
    net.load_state_dict(state["average"])
    return LAYOUTS["f32-channels-last"].arrange(net).eval()


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="+", metavar="NETWORK")
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--mirror", action="store_true", help="the mean of a face's and its mirror image's embedding")
    p.add_argument("--px", type=int, default=INPUT, help="input side of a checkpoint that has not seen the full one yet")
    p.add_argument("--divisions", type=int, default=100, help="of the people into those of the threshold and those of the gallery")
    p.add_argument("--cache", metavar="DIR", help="folder that keeps the crops")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args(arguments)
    torch.set_num_threads(args.threads)
    rows = []
    try:
        for path in args.networks:
            if path.endswith(".onnx"):
                from .pack import Teacher

                teacher = Teacher(path)
                run = teacher.vectors if args.mirror else teacher.every
            else:
                run = answers_of(loaded(path), args.px, mirror=args.mirror)
            rows.append((Path(path).name, lfw(args.faces, run, args.cache, args.divisions)))
    except (Refused, OSError) as error:
        raise SystemExit(f"recognition.evaluate: {error}") from None
    names = list(rows[0][1])
    print("| network | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|")
    for name, found in rows:
        print(f"| {name} | " + " | ".join(f"{found[key]:.2f}" for key in names) + " |")


if __name__ == "__main__":
    main()
