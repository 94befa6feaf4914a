"""Joint training of the student. Runs on CPU (bf16) and CUDA unchanged; checkpoints every few minutes, resumes.

    python -m student.train --faces ../../shared/faces --cache CACHE --out OUT [--minutes 90] [--resume]
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from . import losses
from .data import pack
from .loader import Batches, stream
from .network import Student


class Average:
    """Exponential moving average of the weights and batch-norm statistics, debiased by a growing decay."""

    def __init__(self, net, decay=0.999):
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net):
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (20 + self.steps))
        mine, theirs = [], []
        for k, v in net.state_dict().items():
            if v.dtype.is_floating_point:
                mine.append(self.state[k])
                theirs.append(v)
            else:
                self.state[k].copy_(v)
        torch._foreach_lerp_(mine, theirs, 1 - decay)


def schedule(progress, warmup=0.02):
    """Learning-rate factor: linear warm-up, then half a cosine to 2 %."""
    if progress < warmup:
        return progress / warmup
    t = (progress - warmup) / (1 - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(t, 1.0)))


def to_device(batch, device):
    out = {k: torch.from_numpy(np.ascontiguousarray(v)).to(device) for k, v in batch.items()}
    out["image"] = out["image"].float().div_(127.5).sub_(1.0)
    out["parsing"] = out["parsing"].long()
    return out


def parse_args():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--faces", default="../../shared/faces", help="the research crops (faces/README.md)")
    p.add_argument("--cache", required=True, help="folder for the decoded crops, about 5 GB")
    p.add_argument("--out", required=True, help="folder for checkpoints and the log, outside the checkout")
    p.add_argument("--size", default="edge", choices=["edge", "nano"])
    p.add_argument("--steps", type=int, default=9000)
    p.add_argument("--minutes", type=float, help="end after this wall time: the schedule follows the clock instead of the steps")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--decay", type=float, default=0.05)
    p.add_argument("--small-px", type=int, default=80, help="input side of the first part of the run")
    p.add_argument("--full-px", type=int, default=96)
    p.add_argument("--full-from", type=float, default=0.6, help="share of the run after which the full input is used")
    p.add_argument("--landmark-limit", type=int, default=32, help="faces a batch of 128 that learn landmarks")
    p.add_argument("--seed", type=int, default=2048)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--save-minutes", type=float, default=4)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--start-from", help="weights of an earlier run to begin with (a checkpoint's average)")
    return p.parse_args()


def main():
    args = parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    arrays = pack(args.faces, args.cache)
    archive = np.load(Path(args.faces) / "train/labels.npz")
    archive = {k: archive[k] for k in archive.files}  # an .npz reads the file again at every access
    archive = type("Archive", (dict,), {"files": property(lambda s: list(s))})(archive)
    batches = Batches(arrays, archive, args.batch, args.small_px)
    net = Student(args.size).to(args.device)
    if args.start_from:
        net.load_state_dict(torch.load(args.start_from, map_location=args.device, weights_only=True)["average"])
    average = Average(net)
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": args.decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.99))
    step, used, log = 0, 0.0, []
    checkpoint = out / "checkpoint.pt"
    if args.resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=args.device, weights_only=True)
        net.load_state_dict(state["net"])
        average.state, average.steps = state["average"], state["average_steps"]
        optimizer.load_state_dict(state["optimizer"])
        step, used, log = state["step"], state["used_seconds"], state["log"]
    (out / "arguments.json").write_text(json.dumps(vars(args), indent=1))

    def progress(step, seconds):
        return min(1.0, max(seconds / (60 * args.minutes) if args.minutes else 0.0, step / args.steps))

    def save():
        state = {
            "size": args.size, "net": net.state_dict(), "average": average.state, "average_steps": average.steps, "step": step,
            "optimizer": optimizer.state_dict(), "used_seconds": used, "log": log, "arguments": vars(args),
        }  # fmt: skip
        torch.save(state, out / "checkpoint.part")
        (out / "checkpoint.part").rename(checkpoint)
        with open(out / "log.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(log[0]) if log else ["step"])
            writer.writeheader()
            writer.writerows(log)

    clock = time.monotonic()
    base, saved, sums, counted = used, clock, {}, 0
    device_type = torch.device(args.device).type
    small = lambda at: args.small_px if progress(at, used) < args.full_from else args.full_px  # noqa: E731
    for step, raw in stream(batches, args.seed, step, small, args.workers):
        used = base + time.monotonic() - clock
        done = progress(step, used)
        if step % 10 == 0 and (out / "threads").exists():  # a shared machine: change the number of threads while it runs
            torch.set_num_threads(int((out / "threads").read_text()))
        for group in optimizer.param_groups:
            group["lr"] = args.rate * schedule(done)
        batch = to_device(raw, args.device)
        with torch.autocast(device_type, torch.bfloat16):
            terms = losses.compute(net, batch, args.landmark_limit * args.batch // 128)
        loss = losses.total(terms)
        if not torch.isfinite(loss):
            print(f"step {step}: loss is not finite, batch skipped: {({k: float(v) for k, v in terms.items()})}", flush=True)
            optimizer.zero_grad(set_to_none=True)
            continue
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(net)
        for k, v in terms.items():
            sums[k] = sums.get(k, 0.0) + float(v.detach())
        counted += 1
        if counted == 50 or done >= 1:
            row = {"step": step, "minutes": round(used / 60, 2), "size_px": raw["image"].shape[-1], "rate": optimizer.param_groups[0]["lr"]}
            row |= {k: round(v / counted, 4) for k, v in sums.items()}
            log.append(row)
            print(" ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)
            sums, counted = {}, 0
        if time.monotonic() - saved > 60 * args.save_minutes or done >= 1:
            save()
            saved = time.monotonic()
        if done >= 1:
            break


if __name__ == "__main__":
    main()
