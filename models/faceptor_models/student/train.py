"""Trains the student on all tasks, on CPU or CUDA, in bf16 where it is fast; writes checkpoints every few minutes and resumes.

    python -m faceptor_models.student.train --faces ../../shared/faces --cache CACHE --out OUT [--minutes 90] [--resume]

Under torchrun the processes share the batch. Tasks may stop one by one (--stop-every), and the parsing may learn edges and
regulate itself (--edges, --regulate-start): models/RECIPES.md.
"""

import csv
import json
import math
import time
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

from . import losses
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


class Average:
    """Keeps an exponential moving average of the weights and batch-norm statistics, debiased by a growing decay."""

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
    """Runs one training with `TrainingOptions`."""
    out = Path(args.out)
    world = World.start(args.device)
    if world.first:
        out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    geometry.look_through(args.warp)
    # The loader forks: OpenCV's threads in this process would leave their locks in the children.
    cv2.setNumThreads(0)
    torch.manual_seed(args.seed)
    rule, regulation = stopping(args), cycles(args)
    weights = losses.WEIGHTS | args.weigh
    # Terms, and the tasks that have no other.
    unweighted = [name for name, weight in weights.items() if weight == 0]
    unweighted += [task for task, terms in losses.TASKS.items() if all(weights[term] == 0 for term in terms if term not in losses.HELPERS)]
    hold_out = args.hold_out or (0.05 if rule or regulation else 0.0)
    if not world.first:
        world.wait()
    arrays = pack(args.faces, args.cache, args.mapped)
    if world.first:
        world.wait()
    sets = [(arrays, table(Path(args.faces) / "train/labels.npz")), *(more(folder, args.mapped) for folder in args.more)]
    inner = InnerMaps(args.inner_maps) if args.inner_maps else None
    batches = Batches(sets, args.batch // world.size, args.small_px, args.shares, hold_out, args.light, args.poses, inner)
    half = args.precision == "bf16" or (args.precision == "auto" and half_is_fast(world.device))
    net = Student(args.size, args.levels).to(world.device)
    if args.start_from:
        net.load_average(torch.load(args.start_from, map_location=world.device, weights_only=True)["average"])
    if args.encoder:
        load_encoder(net, args.encoder)
    people = Labels(sets[0][1], "celeba") if args.identities else None
    identities = Identities(people.identity, people.embedding) if people else None
    inner_head = InnerHead(SIZES[net.size]["widths"][2], inner.channels) if inner else None
    tutor = Tutor(args.tutor, world.device) if args.tutor else None
    trained = TrainingModel(net, args.edges, identities, inner_head, tutor).to(world.device)
    trained.hold(args.only)
    if tutor:
        tutor.compare(net)
    synchronise(trained, world)
    average = Average(net)
    learning = [p for p in trained.parameters() if p.requires_grad]
    matrices = [p for p in learning if p.ndim > 1]
    vectors = [p for p in learning if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": args.decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.99))
    step, used, log, sums, counted = 0, 0.0, [], {}, 0
    checkpoint = out / "checkpoint.pt"

    def progress(step, seconds):
        return min(1.0, max(seconds / (60 * args.minutes) if args.minutes else 0.0, step / args.steps))

    if args.resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=world.device, weights_only=True)
        net.load_state_dict(state["net"])
        average.state, average.steps = state["average"], state["average_steps"]
        optimizer.load_state_dict(state["optimizer"])
        step, used, log = state["step"] + 1, state["used_seconds"], state["log"]
        sums, counted = state.get("sums", {}), state.get("counted", 0)
        for name, part in (*trained.helpers(), ("stopping", rule)):
            if part is not None:
                part.load_state_dict(state[name])
        if regulation:
            regulation.load_state_dict(state["cycles"], trained)
        if progress(state["step"], used) >= 1:
            print(f"{checkpoint}: the run is at its end")
            return
    if world.first:
        (out / "arguments.json").write_text(json.dumps(vars(args), indent=1))

    def save():
        state = {
            "size": args.size, "net": net.state_dict(), "average": average.state, "average_steps": average.steps, "step": step,
            "optimizer": optimizer.state_dict(), "used_seconds": used, "log": log, "sums": sums, "counted": counted,
            "arguments": vars(args),
        }  # fmt: skip
        state |= {name: part.state_dict() for name, part in trained.helpers() if part is not None}
        if rule:
            state["stopping"] = rule.state_dict()
            rule.write(out)
        if regulation:
            state["cycles"] = regulation.state_dict()
            if regulation.n:
                # Stored under its own name, so that `student.export` and `student.evaluate` can use these weights.
                state["regulated"] = regulation.rule.average.net.state_dict()
                write_rows(regulation.rows, out / "cycles.csv")
        torch.save(state, out / "checkpoint.part")
        (out / "checkpoint.part").rename(checkpoint)
        with open(out / "log.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(k for row in log for k in row)) or ["step"])
            writer.writeheader()
            writer.writerows(log)

    def held():
        """Yields the same held-out batches at every check."""
        for i in range(args.held_batches):
            yield to_device(batches.make((args.seed, 7, i), args.full_px, held=True), world.device)

    def held_losses(trained, batch):
        return losses.by_task(losses.compute(trained.net, batch, limit, rule.stopped), weights)

    limit = args.landmark_limit * args.batch // 128 // world.size
    wrapped = world.wrapped(trained).train()
    clock = time.monotonic()
    base, saved = used, clock
    rounding, first = None, step

    def input_side(at):
        return args.small_px if progress(at, used) < args.full_from else args.full_px

    for step, raw in stream(batches, args.seed + 1_000_003 * world.rank, first, input_side, args.workers):
        used = base + time.monotonic() - clock
        done = progress(step, used)
        if step % 10 == 0 and (out / "threads").exists():  # on a shared machine the user may change the number of threads during the run
            torch.set_num_threads(int((out / "threads").read_text()))
        torch.manual_seed(step_seed(args.seed, step, world.rank))
        # Cycles begin when the first schedule has ended.
        factor = regulation.rate(step, schedule(min(1.0, step / max(1, args.regulate_start)))) if regulation else schedule(done)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * factor
        if rounding is None and args.quantize_from < 1 and done >= args.quantize_from:
            rounding = Rounding(trained.net)
            if tutor:
                tutor.stay_float()
            print(f"step {step}: from here on with the export's rounding", flush=True)
        batch = to_device(raw, world.device)
        if regulation and regulation.n:
            batch["soft"] = regulation.soft(batch)
        with torch.autocast(world.device.type, torch.bfloat16, enabled=half):
            terms = wrapped(batch, limit, (*(rule.stopped if rule else ()), *unweighted), regulation.n if regulation else 0)
        loss = losses.total(terms, weights)
        values = world.mean(torch.stack([loss, *terms.values()]).float())
        if not bool(torch.isfinite(values).all()):
            print(f"step {step}: loss is not finite, batch skipped: { ({k: float(v) for k, v in terms.items()}) }", flush=True)
            optimizer.zero_grad(set_to_none=True)
            continue
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(net)
        means = dict(zip(terms, values[1:].tolist()))
        for k, v in means.items():
            sums[k] = sums.get(k, 0.0) + v
        counted += 1
        if rule:
            rule.add(losses.by_task(means, weights))
            if rule.due(step):
                stopped = rule.decide(step, early_stopping.held_out_losses(trained, held(), held_losses, world))
                if stopped and world.first:
                    print(f"step {step}: stopped {', '.join(stopped)}", flush=True)
        if regulation and regulation.rule.ends(step):
            recent = (to_device(batches.make((args.seed, step, i), args.full_px), world.device)["image"] for i in range(args.regulate_batches))
            row = regulation.end(step, trained, recent, held())
            if world.first:
                print("cycle " + " ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)
        if counted == 50 or done >= 1:
            row = {"step": step, "minutes": round(used / 60, 2), "size_px": raw["image"].shape[-1], "rate": optimizer.param_groups[0]["lr"]}
            row |= {k: round(v / counted, 4) for k, v in sums.items()}
            log.append(row)
            if world.first:
                print(" ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)
            sums, counted = {}, 0
        if world.first and (time.monotonic() - saved > 60 * args.save_minutes or done >= 1):
            save()
            saved = time.monotonic()
        if done >= 1:
            break
    world.wait()
    world.stop()


if __name__ == "__main__":
    main()
