"""Trains the finder on CPU or CUDA, and resumes (from `models/`).

    python -m faceptor_models.finder.train

It writes to `--out`: checkpoint.pt (to resume), finder.pt (averaged weights, float16), log.csv (one row for each `--log-every`
samples). The learning rate follows a cosine over `--samples`, so a longer run is a different run.
"""

import argparse
import copy
import csv
import math
import time
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader

from faceptor_models.common.paths import FACES, FINDER

from .data import Sampler, Samples, collate, load_scenes
from .loss import loss
from .network import Finder, macs, parameters


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=FACES, help="folder with scenes/ (default: ../shared/faces next to the repository)")
    parser.add_argument("--out", type=Path, default=FINDER, help="where checkpoint, weights and log go")
    parser.add_argument("--samples", type=int, default=300_000)
    parser.add_argument("--size", type=int, default=160, help="side of a sample, px")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the network")
    parser.add_argument("--workers", type=int, default=0, help="processes that make samples (0: this one)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--log-every", type=int, default=3200)
    parser.add_argument("--save-minutes", type=float, default=2.0)
    parser.add_argument("--limit", type=int, help="only so many scenes (smoke test)")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def rate_at(done: float, highest: float) -> float:
    """Returns the learning rate after the share `done` (0..1) of the run: 2 % warm-up, then a cosine to 1 %."""
    if done < 0.02:
        return highest * (done + 1e-3) / 0.021
    return highest * (0.01 + 0.99 * (1 + math.cos(math.pi * (done - 0.02) / 0.98)) / 2)


class Average:
    """Keeps an exponential average of weights and norm statistics, quick at first."""

    def __init__(self, network: Finder):
        self.network, self.steps = copy.deepcopy(network).eval(), 0

    @torch.no_grad()
    def update(self, network: Finder):
        self.steps += 1
        share = 1 - min(0.999, (1 + self.steps) / (10 + self.steps))
        for mine, theirs in zip(self.network.state_dict().values(), network.state_dict().values()):
            if mine.is_floating_point():
                mine.lerp_(theirs, share)
            else:
                mine.copy_(theirs)


def save_weights(network: Finder, path: Path):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}, path)


def load_weights(path: Path) -> Finder:
    network = Finder()
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return network.eval()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    network = Finder().to(args.device)
    print(f"{parameters(network):,} parameters, {macs(network.cpu(), 160, 120) / 1e6:.1f} MMAC at 160x120", flush=True)
    network.to(args.device)
    average = Average(network)
    # Norm gains and biases have no weight decay.
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": weights, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}], args.rate)
    seen, log_path, checkpoint = 0, args.out / "log.csv", args.out / "checkpoint.pt"
    if args.resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=args.device, weights_only=True)
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
        print(f"resumed at {seen} samples", flush=True)
    else:
        log_path.write_text("samples,rate,loss,score,box,keypoints,samples_per_s\n")
    sampler = Sampler(load_scenes(args.faces, "train", args.limit), args.size, args.seed)

    def save():
        state = {"network": network.state_dict(), "average": average.network.state_dict(), "steps": average.steps}
        state |= {"optimizer": optimizer.state_dict(), "seen": seen}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
        save_weights(average.network, args.out / "finder.pt")

    loader = DataLoader(Samples(sampler, seen, args.samples), args.batch, num_workers=args.workers, collate_fn=collate, drop_last=True)
    network.train()
    sums, count, since, saved = {}, 0, time.time(), time.time()
    for pictures, targets in loader:
        rate = rate_at(seen / args.samples, args.rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pictures = pictures.to(args.device)
        targets = [tuple(part.to(args.device) for part in target) for target in targets]
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.bf16):
            maps = network(pictures)
        total, parts = loss(maps, targets)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        average.update(network)
        seen += len(pictures)
        count += 1
        for name, value in {"loss": total.item(), **parts}.items():
            sums[name] = sums.get(name, 0.0) + value
        if count * args.batch >= args.log_every:
            speed = count * args.batch / (time.time() - since)
            row = [seen, f"{rate:.2e}"] + [f"{sums[k] / count:.4f}" for k in ("loss", "score", "box", "keypoints")]
            with log_path.open("a", newline="") as file:
                csv.writer(file).writerow([*row, f"{speed:.0f}"])
            print(*row, f"{speed:.0f}/s", flush=True)
            sums, count, since = {}, 0, time.time()
        if time.time() - saved > args.save_minutes * 60:
            save()
            saved = time.time()
    save()
    print(f"done: {seen} samples", flush=True)


if __name__ == "__main__":
    main()
