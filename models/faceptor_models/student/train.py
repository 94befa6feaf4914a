"""Trains the student on all tasks, on CPU or CUDA, in bf16 where it is fast; writes checkpoints every few minutes and resumes.

    python -m faceptor_models.student.train --faces ../../shared/faces --cache CACHE --out OUT [--minutes 90] [--resume]

Under torchrun the processes share the batch. Tasks may stop one by one (--stop-every), and the parsing may learn edges and
regulate itself (--edges, --regulate-start): models/RECIPES.md.
"""

import csv
import json
import math
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from faceptor_models.common import early_stopping, geometry
from faceptor_models.common.batch_stream import stream
from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.distributed import World, step_seed
from faceptor_models.common.packed_crops import Labels, more, pack, table
from faceptor_models.common.sync_batch_norm import synchronise

from . import layout, losses
from .average import Average
from .identities import Identities
from .inner_maps import InnerHead, InnerMaps
from .loader import Batches
from .network import SIZES, Student
from .options import parsed
from .parsing_cycles import Cycles
from .pretrained_encoder import load_encoder
from .quantized import Rounding
from .training_model import TrainingModel
from .tutor import Tutor


def schedule(progress, warmup=0.02):
    """Returns the learning rate's factor: linear warm-up, then half a cosine to 2 %."""
    if progress < warmup:
        return progress / warmup
    t = (progress - warmup) / (1 - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(t, 1.0)))


def to_device(batch, device):
    out = {k: torch.from_numpy(np.ascontiguousarray(v)).to(device) for k, v in batch.items()}
    out["image"] = out["image"].float().div_(127.5).sub_(1.0)
    out["parsing"] = out["parsing"].long()
    return out


def half_is_fast(device):
    """Returns true where bf16 products are faster: on GPUs, and on CPUs with instructions for them (without, 15 times slower)."""
    if device.type != "cpu":
        return True
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def stopping(args):
    """Returns the early stopping of the options, or None."""
    if not args.stop_every:
        return None
    return early_stopping.EarlyStopping(args.stopping(), list(losses.TASKS))


def cycles(args):
    """Returns the cycles of the options, or None."""
    if not args.regulate_start and not args.regulate_cycle:
        return None
    if not args.edges or args.minutes:
        raise SystemExit("self-regulation needs --edges, and counts steps: no --minutes")
    return Cycles(args.regulate_start, args.regulate_cycle)


def main():
    train(parsed(description=__doc__))


def train(args):
    """Runs one training with `TrainingOptions`; with `resume`, returns at once where it has ended before."""
    if args.resume and ended(args):
        print(f"{checkpoint_of(args)}: the run is at its end")
        return
    world = World.start(args.device)
    if world.first:
        Path(args.out).mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    geometry.look_through(args.warp)
    # The loader forks: OpenCV's threads in this process would leave their locks in the children.
    cv2.setNumThreads(0)
    torch.manual_seed(args.seed)
    training = Training(args, world)
    if args.resume and training.checkpoint.exists():
        training.load()
    if world.first:
        (training.out / "arguments.json").write_text(json.dumps(vars(args), indent=1))
    training.run()
    world.wait()
    world.stop()


def checkpoint_of(args):
    """Returns the path of a run's checkpoint."""
    return Path(args.out) / "checkpoint.pt"


def passed(args, number, used_seconds):
    """Returns the share of the run that has passed, by the clock or by the steps."""
    return min(1.0, max(used_seconds / (60 * args.minutes) if args.minutes else 0.0, number / args.steps))


def ended(args):
    """Returns true where the run's checkpoint is of its last step."""
    path = checkpoint_of(args)
    if not path.exists():
        return False
    # Mapped: the weights, which the answer does not need, are not read.
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return passed(args, state["step"], state["used_seconds"]) >= 1


def read_sets(args, world):
    """Returns [({source: crops}, labels)]; the first process decodes the crops that the cache lacks."""
    if not world.first:
        world.wait()
    arrays = pack(args.faces, args.cache, args.mapped)
    if world.first:
        world.wait()
    return [(arrays, table(Path(args.faces) / "train/labels.npz")), *(more(folder, args.mapped) for folder in args.more)]


def unweighted_names(weights):
    """Returns the terms without a weight, and the tasks that have no other terms."""
    names = [name for name, weight in weights.items() if weight == 0]
    return names + [task for task, terms in losses.TASKS.items() if all(weights[term] == 0 for term in terms if term not in losses.HELPERS)]


class Training:
    """Holds one run: its data, networks and optimizer, and what a checkpoint must keep of it."""

    def __init__(self, args, world):
        self.args, self.world, self.out = args, world, Path(args.out)
        self.checkpoint = checkpoint_of(args)
        self.rule, self.cycles = stopping(args), cycles(args)
        self.weights = losses.WEIGHTS | args.weigh
        self.unweighted = unweighted_names(self.weights)
        hold_out = args.hold_out or (0.05 if self.rule or self.cycles else 0.0)
        sets = read_sets(args, world)
        inner = InnerMaps(args.inner_maps) if args.inner_maps else None
        self.batches = Batches(sets, args.batch // world.size, args.small_px, args.shares, hold_out, args.light, args.poses, inner)
        self.net = Student(args.size, args.levels).to(world.device)
        if args.start_from:
            self.net.load_average(torch.load(args.start_from, map_location=world.device, weights_only=True)["average"])
        if args.encoder:
            load_encoder(self.net, args.encoder)
        people = Labels(sets[0][1], "celeba") if args.identities else None
        identities = Identities(people.identity, people.embedding) if people else None
        inner_head = InnerHead(SIZES[self.net.size]["widths"][2], inner.channels) if inner else None
        self.tutor = Tutor(args.tutor, world.device) if args.tutor else None
        self.model = TrainingModel(self.net, args.edges, identities, inner_head, self.tutor).to(world.device)
        self.layout = self.layout_of(args, world.device)
        self.layout.arrange(self.model)
        self.model.hold(args.only)
        if self.tutor:
            self.tutor.compare(self.net)
        synchronise(self.model, world)
        self.average, self.rounding = Average(self.net), None
        self.optimizer = self.make_optimizer()
        self.landmark_limit = args.landmark_limit * args.batch // 128 // world.size
        # `number` is the step that comes next; `sums` are the terms since the last row of the log.
        self.number, self.used, self.log, self.sums, self.counted = 0, 0.0, [], {}, 0

    def layout_of(self, args, device):
        """Returns the layout that the options ask for."""
        if args.layout == "precision":
            return layout.Layout(args.precision == "bf16" or (args.precision == "auto" and half_is_fast(device)), False)
        return layout.chosen(args.layout, self.net.encoder, args.full_px, device, partial(print, flush=True))

    def make_optimizer(self):
        """Returns AdamW; only matrices and kernels have weight decay."""
        learning = [p for p in self.model.parameters() if p.requires_grad]
        matrices, vectors = ([p for p in learning if (p.ndim > 1) == wide] for wide in (True, False))
        groups = [{"params": matrices, "weight_decay": self.args.decay}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.args.rate, betas=(0.9, 0.99), fused=True)

    def progress(self, number):
        """Returns the share of the run that has passed after a step."""
        return passed(self.args, number, self.used)

    def load(self):
        """Continues from the checkpoint."""
        state = torch.load(self.checkpoint, map_location=self.world.device, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.state, self.average.steps = state["average"], state["average_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.number, self.used, self.log = state["step"] + 1, state["used_seconds"], state["log"]
        self.sums, self.counted = state.get("sums", {}), state.get("counted", 0)
        for name, part in (*self.model.helpers(), ("stopping", self.rule)):
            if part is not None:
                part.load_state_dict(state[name])
        if self.cycles:
            self.cycles.load_state_dict(state["cycles"], self.model)

    def save(self, number):
        """Writes the checkpoint after a step, and the logs."""
        state = {
            "size": self.args.size, "net": self.net.state_dict(), "average": self.average.state, "average_steps": self.average.steps,
            "step": number, "optimizer": self.optimizer.state_dict(), "used_seconds": self.used, "log": self.log, "sums": self.sums,
            "counted": self.counted, "arguments": vars(self.args),
        }  # fmt: skip
        state |= {name: part.state_dict() for name, part in self.model.helpers() if part is not None}
        if self.rule:
            state["stopping"] = self.rule.state_dict()
            self.rule.write(self.out)
        if self.cycles:
            state["cycles"] = self.cycles.state_dict()
            if self.cycles.n:
                # Stored under its own name, so that `student.export` and `student.evaluate` can use these weights.
                state["regulated"] = self.cycles.rule.average.net.state_dict()
                write_rows(self.cycles.rows, self.out / "cycles.csv")
        part = self.out / "checkpoint.part"
        torch.save(state, part)
        part.rename(self.checkpoint)
        with open(self.out / "log.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(k for row in self.log for k in row)) or ["step"])
            writer.writeheader()
            writer.writerows(self.log)

    def run(self):
        """Trains to the end of the run."""
        args, world = self.args, self.world
        wrapped = world.wrapped(self.model).train()
        clock = time.monotonic()
        base, saved = self.used, clock

        def input_side(number):
            return args.small_px if self.progress(number) < args.full_from else args.full_px

        for number, raw in stream(self.batches, args.seed + 1_000_003 * world.rank, self.number, input_side, args.workers):
            self.used = base + time.monotonic() - clock
            done = self.progress(number)
            # On a shared machine the user may change the number of threads during the run.
            if number % 10 == 0 and (self.out / "threads").exists():
                torch.set_num_threads(int((self.out / "threads").read_text()))
            torch.manual_seed(step_seed(args.seed, number, world.rank))
            self.set_rate(number, done)
            self.round_from(number, done)
            means = self.update(number, wrapped, to_device(raw, world.device))
            if means is None:
                continue
            self.check_tasks(number, means)
            self.end_cycle(number)
            if self.counted == 50 or done >= 1:
                self.log_row(number, raw["image"].shape[-1])
            if world.first and (time.monotonic() - saved > 60 * args.save_minutes or done >= 1):
                self.save(number)
                saved = time.monotonic()
            if done >= 1:
                break

    def set_rate(self, number, done):
        """Sets the learning rate of a step; cycles begin when the first schedule has ended."""
        before = schedule(min(1.0, number / max(1, self.args.regulate_start)) if self.cycles else done)
        factor = self.cycles.rate(number, before) if self.cycles else before
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.rate * factor

    def round_from(self, number, done):
        """Adds the export's rounding once its share of the run has come."""
        if self.rounding is None and self.args.quantize_from < 1 and done >= self.args.quantize_from:
            self.rounding = Rounding(self.model.net)
            if self.tutor:
                self.tutor.stay_float()
            print(f"step {number}: from here on with the export's rounding", flush=True)

    def update(self, number, wrapped, batch):
        """Makes one step; returns {term: mean over the processes}, or None when the loss is not finite on any of them."""
        if self.cycles and self.cycles.n:
            batch["soft"] = self.cycles.soft(batch)
        stopped = (*(self.rule.stopped if self.rule else ()), *self.unweighted)
        batch["image"] = self.layout.placed(batch["image"])
        with self.layout.products(self.world.device):
            terms = wrapped(batch, self.landmark_limit, stopped, self.cycles.n if self.cycles else 0)
        loss = losses.total(terms, self.weights)
        values = self.world.mean(torch.stack([loss, *terms.values()]).float())
        if not bool(torch.isfinite(values).all()):
            print(f"step {number}: loss is not finite, batch skipped: { ({k: float(v) for k, v in terms.items()}) }", flush=True)
            self.optimizer.zero_grad(set_to_none=True)
            return None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.net)
        means = dict(zip(terms, values[1:].tolist()))
        for name, value in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.counted += 1
        return means

    def held(self):
        """Yields the same held-out batches at every check."""
        for i in range(self.args.held_batches):
            yield to_device(self.batches.make((self.args.seed, 7, i), self.args.full_px, held=True), self.world.device)

    def held_losses(self, model, batch):
        """Returns {task: loss} of one held-out batch."""
        return losses.by_task(losses.compute(model.net, batch, self.landmark_limit, self.rule.stopped), self.weights)

    def check_tasks(self, number, means):
        """Gives early stopping the losses of a step, and lets it check the tasks when it is time."""
        if not self.rule:
            return
        self.rule.add(losses.by_task(means, self.weights))
        if self.rule.due(number):
            stopped = self.rule.decide(number, early_stopping.held_out_losses(self.model, self.held(), self.held_losses, self.world))
            if stopped and self.world.first:
                print(f"step {number}: stopped {', '.join(stopped)}", flush=True)

    def end_cycle(self, number):
        """Takes the weights into the average of self-regulation after the last step of a cycle."""
        if not self.cycles or not self.cycles.rule.ends(number):
            return
        seeds = ((self.args.seed, number, i) for i in range(self.args.regulate_batches))
        recent = (to_device(self.batches.make(seed, self.args.full_px), self.world.device)["image"] for seed in seeds)
        row = self.cycles.end(number, self.model, recent, self.held())
        if self.world.first:
            print("cycle " + " ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)

    def log_row(self, number, size_px):
        """Appends a row to the log with the means since the last one."""
        row = {"step": number, "minutes": round(self.used / 60, 2), "size_px": size_px, "rate": self.optimizer.param_groups[0]["lr"]}
        row |= {k: round(v / self.counted, 4) for k, v in self.sums.items()}
        self.log.append(row)
        if self.world.first:
            print(" ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)
        self.sums, self.counted = {}, 0


if __name__ == "__main__":
    main()
