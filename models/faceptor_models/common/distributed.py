"""Connects the processes of one training: one process, or those that torchrun started, on one machine or several."""

import os
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn


class Gathered(torch.autograd.Function):
    """Gathers the rows of all processes in the order of their ranks. The gradient is the sum of every process's gradients."""

    @staticmethod
    def forward(context: Any, rows: torch.Tensor) -> torch.Tensor:
        context.count = len(rows)
        held = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(held, rows.contiguous())
        return torch.cat(held)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        first = dist.get_rank() * context.count
        return gradient[first : first + context.count]


class Summed(torch.autograd.Function):
    """Sums over the processes of `group`; its gradient is summed too."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        context.group = group
        out = x.clone()
        dist.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        out = gradient.contiguous().clone()
        dist.all_reduce(out, group=context.group)
        return out, None


class World:
    """Stands for `rank` of `size` processes on `device`. Without torchrun it is one process, and its methods cost nothing."""

    def __init__(self, rank: int = 0, size: int = 1, device: str | torch.device = "cpu") -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device)
        # Batch norms have their own group: their sums and DDP's buckets must not wait for each other in one queue.
        self.norms = dist.new_group() if size > 1 else None

    @classmethod
    def start(cls, device: str) -> "World":
        """Joins the processes that torchrun started, or starts a single one."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(device=device)
        rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
        cuda = device.startswith("cuda")
        if cuda:
            device = f"cuda:{local}"
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=size)
        return cls(rank, size, device)

    @property
    def first(self) -> bool:
        """Returns true for the process that writes the files."""
        return self.rank == 0

    def wait(self) -> None:
        """Waits until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def stop(self) -> None:
        """Leaves the process group."""
        if self.size > 1:
            dist.destroy_process_group()

    def wrapped(self, step: nn.Module) -> nn.Module:
        """Returns the module whose forward gives the loss, with gradients averaged over the processes."""
        if self.size == 1:
            return step
        devices = [self.device] if self.device.type == "cuda" else None
        # DDP looks in every step for weights that no loss reaches (the CLIP projection, heads of stopped tasks).
        return nn.parallel.DistributedDataParallel(step, device_ids=devices, find_unused_parameters=True, forward_sync_buffers=False)

    def gathered(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the rows of all processes."""
        return cast(torch.Tensor, Gathered.apply(rows)) if self.size > 1 else rows

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the mean of a tensor over the processes, without gradient."""
        if self.size == 1:
            return values.detach()
        out = values.detach().clone()
        dist.all_reduce(out)
        return out / self.size

    def share(self, count: int) -> float | None:
        """Returns the factor that turns a mean over `count` local labels into one whose mean over the processes counts every
        label equally.

        It is count * processes / all labels, and None when no process has a label.
        """
        if self.size == 1:
            return 1.0 if count else None
        everywhere = torch.tensor(float(count), device=self.device)
        dist.all_reduce(everywhere)
        return count * self.size / float(everywhere) if float(everywhere) else None


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """Returns a seed that differs for every iteration and process."""
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0] >> 1)
