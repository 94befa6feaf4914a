"""Trains a recognition tower on a GPU for some minutes, on the faces of a folder that recognition.gpu packed; goes on where it stopped.

    python3 FOLDER/train.py --out OUT --minutes 10 [--end-at 4]

`--minutes` are those of the whole run, whose schedule follows the clock; `--end-at` ends this call earlier. Needs PyTorch, NumPy and Pillow.
"""

import argparse
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..average import Average
from . import losses
from .gpu_views import views
from .sizes import INPUT
from .tower import SIZES, Tower

# A file that comes back from a GPU's machine may have to be small, so the state has several.
PARTS = ("weights.pt", "net.pt", "moments.pt")


def faces_of(folder):
    """Returns (windows uint8 [n, W, W, 3], unit targets float32 [n, numbers]) of a packed folder."""
    index = np.load(Path(folder) / "index.npz")
    data, ends = (Path(folder) / "faces.bin").read_bytes(), index["ends"]

    def decoded(i):
        return np.asarray(Image.open(io.BytesIO(data[ends[i - 1] if i else 0 : ends[i]])).convert("RGB"))

    with ThreadPoolExecutor() as pool:
        faces = np.stack(list(pool.map(decoded, range(len(ends)))))
    targets = index["targets"].astype(np.float32)
    return faces, targets / np.linalg.norm(targets, axis=1, keepdims=True)


def rate_at(share, rate):
    """Returns the rate at a share of the run: it rises, stays, and falls to 1 %."""
    return rate * min(1.0, share / 0.03 + 1e-3) * (1 - 0.99 * min(1.0, max(0.0, (share - 0.5) / 0.5)))


class Training:
    """Holds one run and its state."""

    def __init__(self, folder, out, size, batch=1024, rate=4e-3, bank=16384, small_px=80, full_from=0.4, seed=2048, device=None):
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.out, self.batch, self.rate, self.bank, self.seed = Path(out), batch, rate, bank, seed
        self.small_px, self.full_from = small_px, full_from
        self.out.mkdir(parents=True, exist_ok=True)
        faces, targets = faces_of(folder)
        self.faces, self.targets = torch.from_numpy(faces).to(self.device), torch.from_numpy(targets).to(self.device)
        index = np.load(Path(folder) / "index.npz")
        # A run that starts from these weights reads here what their numbers mean.
        self.meaning = {"directions": torch.from_numpy(index["directions"]), "fitted": int(index["fitted"])}
        torch.manual_seed(seed)
        self.net = Tower(size).to(self.device).to(memory_format=torch.channels_last).train()
        groups = [
            {"params": [p for p in self.net.parameters() if p.dim() > 1], "weight_decay": 0.05},
            {"params": [p for p in self.net.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, rate, fused=True)
        self.average, self.step, self.used, self.log = Average(self.net), 0, 0.0, []
        if all((self.out / name).exists() for name in PARTS):
            self.load(size)

    def load(self, size):
        """Reads the state of an earlier part of the run."""
        weights, net, moments = (torch.load(self.out / name, map_location=self.device, weights_only=True) for name in PARTS)
        if weights["size"] != size:
            raise SystemExit(f"{self.out} holds a tower of the size {weights['size']}: give another --out for {size}")
        if not weights["step"] == net["step"] == moments["step"]:
            raise SystemExit(f"{self.out}: {', '.join(PARTS)} are of different steps; remove them to begin anew")
        self.net.load_state_dict(net["net"])
        self.optimizer.load_state_dict(moments["optimizer"])
        self.average.state, self.average.steps = weights["average"], weights["average_steps"]
        self.step, self.used, self.log = weights["step"], weights["used_seconds"], weights["log"]

    def save(self):
        """Writes the state and the log."""
        head = {"step": self.step, "used_seconds": self.used}
        weights = head | {"size": self.net.size, "average": self.average.state, "average_steps": self.average.steps, "log": self.log}
        weights |= self.meaning
        parts = (weights, head | {"net": self.net.state_dict()}, head | {"optimizer": self.optimizer.state_dict()})
        for name, state in zip(PARTS, parts):
            torch.save(state, self.out / f"{name}.part")
        for name in PARTS:
            (self.out / f"{name}.part").rename(self.out / name)
        (self.out / "log.json").write_text("".join(json.dumps(row) + "\n" for row in self.log))

    def update(self, share):
        """Makes one step; returns the terms of the loss, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(share, self.rate)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        rows = torch.randint(len(self.faces), (self.batch,), generator=generator).to(self.device)
        bank = torch.randint(len(self.faces), (self.bank,), generator=generator).to(self.device)
        px = INPUT if share >= self.full_from else self.small_px
        images = views(self.faces[rows], px, self.seed * 7_919 + self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu"):
            output = self.net(images)
        target = self.targets[rows]
        terms = losses.compute(output, target, target, self.targets[bank])
        losses.total(terms, losses.WEIGHTS).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.net)
        self.step += 1
        return torch.stack([*terms.values()]).detach()

    def run(self, minutes, end_at=None, log_every=100, save_seconds=60.0):
        """Trains until the run has had its minutes, or this call's."""
        until, began, base = 60 * min(minutes, end_at or minutes), time.monotonic(), self.used
        saved, sums, counted = began, 0, 0
        while self.used < until:
            sums, counted = sums + self.update(self.used / (60 * minutes)), counted + 1
            # The number of steps must not run ahead of the device.
            if self.step % 10 == 0 and self.device.type == "cuda":
                torch.cuda.synchronize()
            now = time.monotonic()
            self.used = base + now - began
            if counted == log_every or self.used >= until:
                row = {"step": self.step, "samples": self.step * self.batch, "minutes": round(self.used / 60, 3)}
                row |= {name: round(value, 5) for name, value in zip(losses.WEIGHTS, (sums / counted).tolist())}
                self.log.append(row)
                print(json.dumps(row), flush=True)
                sums, counted = 0, 0
            if now - saved > save_seconds:
                self.save()
                saved = now
        self.save()


def main(arguments=None, folder=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--folder", default=folder, required=folder is None)
    p.add_argument("--out", required=True)
    p.add_argument("--size", default="edge", choices=SIZES)
    p.add_argument("--minutes", type=float, default=10.0)
    p.add_argument("--end-at", type=float, metavar="MINUTES")
    p.add_argument("--batch", type=int, default=1024)
    p.add_argument("--rate", type=float, default=4e-3)
    p.add_argument("--device")
    args = p.parse_args(arguments)
    training = Training(args.folder, args.out, args.size, args.batch, args.rate, device=args.device)
    print(f"{args.size}: {len(training.faces)} faces on {training.device}, step {training.step}, {training.used / 60:.2f} minutes used", flush=True)
    training.run(args.minutes, args.end_at)
