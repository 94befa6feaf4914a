"""Trains a recognition tower on packed faces; writes checkpoints every few minutes, and goes on where it stopped.

    python -m faceptor_models.student.recognition.train edge --packed PACKED --out OUT [--dev ../../shared/faces] [--threads 1]

The folder may still be filling: faces that came since the last checkpoint are taken in at the next one. Whenever they are twice as many as
before, the main directions are computed anew, and the head is turned so that it goes on where it was.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from faceptor_models.common.batch_stream import stream
from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.errors import Refused
from faceptor_models.common.paths import MODELS

from .. import layout
from ..average import Average
from . import evaluate, losses, options
from .crops import VECTORS, Packed
from .tower import SIZES, Tower, turned
from .views import Batches

RECIPE = MODELS / "recipes" / "recognition.toml"


def network_input(images, device):
    """Converts views uint8 [B, S, S, 3] to the network's input [B, 3, S, S]; a pixel's channels stay side by side."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)


class Training:
    """Holds one run: network, optimizer, average, and the faces that it knows."""

    def __init__(self, size, settings, packed, out, how="auto", device="cpu", save_minutes=4.0, dev=None, dev_minutes=30.0, workers=1, start=None):
        self.settings, self.packed_folder, self.out = settings, packed, Path(out)
        self.device, self.workers = torch.device(device), workers
        self.save_minutes, self.dev, self.dev_minutes = save_minutes, dev, dev_minutes
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        self.net = Tower(size).to(self.device)
        self.step, self.used, self.log, self.dev_rows, known, state = 0, 0.0, [], [], (), None
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            if state["size"] != size:
                raise Refused(f"{self.checkpoint} is of the size {state['size']}: give another --out for {size}")
            self.step, self.used, self.log, self.dev_rows = state["step"], state["used_seconds"], state["log"], state["dev"]
            known = state["shards"]
            self.net.load_state_dict(state["net"])
        elif start:
            self.net.load_state_dict(evaluate.loaded(start, size).state_dict())
            state = torch.load(start, map_location="cpu", weights_only=True)
        # The directions of the weights, which follow the faces' when faces come.
        self.directions, self.fitted = (state["directions"].cpu(), state["fitted"]) if state else (None, 0)
        self.layout = layout.chosen(how, self.net, settings.px_at(self.step), self.device)
        self.net = self.layout.arrange(self.net).train()
        weights = [p for p in self.net.parameters() if p.dim() > 1]
        others = [p for p in self.net.parameters() if p.dim() <= 1]
        groups = [{"params": weights, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, settings.rate, fused=True)
        self.average = Average(self.net)
        if self.checkpoint.exists():
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.state, self.average.steps = state["average"], state["average_steps"]
        self.sums, self.counted = {}, 0
        self.take_in(known)

    @property
    def checkpoint(self):
        """Returns the path of the run's checkpoint."""
        return self.out / "checkpoint.pt"

    def take_in(self, known):
        """Opens the packed faces; shards that the run knows keep their places."""
        self.packed = Packed(self.packed_folder, known)
        if len(self.packed) >= 2 * self.fitted:
            self.turn(torch.from_numpy(self.packed.directions()))
        self.target = torch.from_numpy(self.packed.targets(self.directions.numpy())).to(self.device)
        self.teacher = torch.from_numpy(self.packed.vectors).to(self.device)
        self.batches = Batches(self.packed, self.settings.batch, self.settings.weigh)

    def turn(self, directions):
        """Takes new main directions; the head keeps what it knows of the old ones."""
        if self.directions is not None:
            rotation = directions @ self.directions.T
            self.net.load_state_dict(turned(self.net.state_dict(), rotation))
            for name, value in turned(self.average.state, rotation).items():
                self.average.state[name].copy_(value)
            for weights in (self.net.head.linear.weight, self.net.head.norm.weight, self.net.head.norm.bias):
                self.optimizer.state.pop(weights, None)
        self.directions, self.fitted = directions, len(self.packed)

    def grown(self):
        """Returns true where shards have come since the faces were opened."""
        return len(list(Path(self.packed_folder).glob(f"*{VECTORS}"))) > len(self.packed.names)

    def update(self, batch):
        """Makes one step on a batch; returns {term: loss}."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(self.step)
        rows = torch.from_numpy(batch["rows"]).to(self.device)
        bank = np.random.default_rng((self.settings.seed, self.step, 1)).integers(0, len(self.target), self.settings.bank)
        images = self.layout.placed(network_input(batch["image"], self.device))
        with self.layout.products(self.device):
            output = self.net(images)
        teacher = self.teacher[rows].float()
        terms = losses.compute(output, self.target[rows], teacher, self.target[torch.from_numpy(bank).to(self.device)])
        losses.total(terms, self.settings.term_weights()).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.net)
        self.step += 1
        return {name: float(value.detach()) for name, value in terms.items()}

    def run(self):
        """Trains to the end of the run."""
        began = saved = tested = time.monotonic()
        base, ends = self.used, self.settings.steps
        while self.step < ends:
            source = stream(self.batches, self.settings.seed, self.step, self.settings.px_at, self.workers)
            for _, batch in source:
                for name, value in self.update(batch).items():
                    self.sums[name] = self.sums.get(name, 0.0) + value
                self.counted += 1
                now = time.monotonic()
                self.used = base + now - began
                last = self.step >= ends
                if self.counted == 50 or last:
                    self.log_row(batch["image"].shape[1])
                if self.dev and (now - tested > 60 * self.dev_minutes or last):
                    self.test(batch["image"].shape[1])
                    tested = time.monotonic()
                if now - saved > 60 * self.save_minutes or last:
                    self.save()
                    saved = time.monotonic()
                    if last or self.grown():
                        break
            source.close()
            if self.step < ends:
                self.take_in(self.packed.names)
                print(f"step {self.step}: {len(self.packed)} faces", flush=True)

    def log_row(self, px):
        """Appends the means since the last row to the log."""
        minutes = self.used / 60
        before = self.log[-1]["minutes"] if self.log else 0.0
        row = {"step": self.step, "samples": self.step * self.settings.batch, "minutes": round(minutes, 2), "px": px, "faces": len(self.packed)}
        a_second = self.counted * self.settings.batch / max(1e-3, 60 * (minutes - before))
        row |= {"rate": round(self.settings.rate_at(self.step - 1), 7), "a_second": round(a_second, 1)}
        row |= {name: round(value / self.counted, 5) for name, value in self.sums.items()}
        self.log.append(row)
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        self.sums, self.counted = {}, 0

    def averaged(self):
        """Returns a network with the average of the weights."""
        net = Tower(self.net.size).to(self.device)
        net.load_state_dict(self.average.state)
        return self.layout.arrange(net).eval()

    def test(self, px):
        """Measures the averaged weights on the dev split at the side that the run has reached."""
        found = evaluate.lfw(self.dev, evaluate.answers_of(self.averaged(), px, self.layout, self.device), self.out)
        row = {"step": self.step, "samples": self.step * self.settings.batch, "minutes": round(self.used / 60, 2), "px": px} | found
        self.dev_rows.append(row)
        print("dev " + " ".join(f"{name}={value}" for name, value in row.items()), flush=True)

    def save(self):
        """Writes the checkpoint and the logs."""
        state = {
            "size": self.net.size, "step": self.step, "used_seconds": self.used, "log": self.log, "dev": self.dev_rows,
            "shards": self.packed.names, "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": self.average.state, "average_steps": self.average.steps, "directions": self.directions, "fitted": self.fitted,
        }  # fmt: skip
        part = self.out / "checkpoint.part"
        torch.save(state, part)
        part.rename(self.checkpoint)
        write_rows(self.log, self.out / "log.csv")
        if self.dev_rows:
            write_rows(self.dev_rows, self.out / "dev.csv")


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("size", choices=SIZES)
    p.add_argument("--recipe", default=str(RECIPE))
    p.add_argument("--packed", required=True, help="folder that recognition.pack wrote")
    p.add_argument("--out", required=True, help="folder for the checkpoint and the logs, outside the checkout")
    p.add_argument("--start-from", metavar="WEIGHTS", help="averaged weights of an earlier run, here or on a GPU, to begin with")
    p.add_argument("--dev", metavar="FACES", help="research crops: their LFW dev photos are measured from time to time")
    p.add_argument("--dev-minutes", type=float, default=30.0)
    p.add_argument("--save-minutes", type=float, default=4.0)
    p.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE", help="replaces a value of the recipe")
    p.add_argument("--layout", default="auto", choices=["auto", *layout.LAYOUTS], help="auto measures at the start")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--workers", type=int, default=1, help="processes that make views; 0: the training's own")
    args = p.parse_args(arguments)
    torch.set_num_threads(args.threads)
    # The loader forks: OpenCV's threads in this process would leave their locks in the children.
    cv2.setNumThreads(0)
    try:
        settings = options.read(args.recipe, args.size, args.changes)
        training = Training(
            args.size, settings, args.packed, args.out, args.layout, args.device, args.save_minutes, args.dev, args.dev_minutes, args.workers,
            args.start_from,
        )  # fmt: skip
        (training.out / "settings.json").write_text(json.dumps(dataclasses.asdict(settings), indent=1))
        print(f"{args.size}: {len(training.packed)} faces, {training.layout.name}, step {training.step} of {settings.steps}", flush=True)
        training.run()
    except (Refused, OSError) as error:
        raise SystemExit(f"recognition.train: {error}") from None


if __name__ == "__main__":
    main()
