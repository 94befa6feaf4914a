"""Chooses how a device trains a network fastest, by measuring: precision of the products and order of the maps in memory.

    python -m faceptor_models.student.layout [edge|nano ..] [--batch 64]

prints training steps' faces a second of processor time on one core: of the student's encoder at 96 px, and of the recognition tower.
"""

import argparse
import copy
import time
from contextlib import nullcontext
from typing import NamedTuple

import torch


class Layout(NamedTuple):
    """Says whether products are in bf16, and whether a pixel's channels lie side by side."""

    half: bool
    channels_last: bool

    @property
    def name(self):
        return f"{'bf16' if self.half else 'f32'}-{'channels-last' if self.channels_last else 'contiguous'}"

    def placed(self, images):
        """Lays images [B, 3, S, S] out."""
        return images.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def arrange(self, net):
        """Lays the weights of a network out."""
        return net.to(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def products(self, device):
        """Returns the context of a forward pass."""
        return torch.autocast(device.type, torch.bfloat16) if self.half else nullcontext()


LAYOUTS = {layout.name: layout for layout in (Layout(half, last) for half in (False, True) for last in (True, False))}


def measured(net, px, batch=32, steps=3, clock=time.process_time):
    """Returns {layout's name: faces a second of processor time} of training steps on the CPU, of each the best step.

    The network's answer is a map or a tuple of maps. Processor time says the same on a machine that others use too.
    """
    speeds = {}
    for name, layout in LAYOUTS.items():
        trial = layout.arrange(copy.deepcopy(net)).train()
        images = layout.placed(torch.zeros(batch, 3, px, px))
        taken = []
        # The first step also makes the plans of the products.
        for _ in range(steps + 1):
            began = clock()
            with layout.products(images.device):
                out = trial(images)
            sum(map_.float().square().mean() for map_ in (out if isinstance(out, tuple) else (out,))).backward()
            taken.append(clock() - began)
        speeds[name] = batch / max(min(taken[1:]), 1e-9)
    return speeds


def chosen(name, net, px, device, say=print):
    """Returns the layout of a name; `auto` measures on a CPU, and takes bf16 with channels last on a GPU."""
    if name != "auto":
        return LAYOUTS[name]
    if device.type != "cpu":
        return Layout(True, True)
    speeds = measured(net, px)
    say("faces/s of processor time: " + ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items()))
    return LAYOUTS[max(speeds, key=speeds.get)]


def main(arguments=None):
    from .network import SIZES, Encoder
    from .recognition.tower import SIZES as TOWERS
    from .recognition.tower import Tower

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sizes", nargs="*", default=["edge", "nano"], metavar="SIZE")
    p.add_argument("--batch", type=int, default=64)
    args = p.parse_args(arguments)
    torch.set_num_threads(1)
    print("| network | px | " + " | ".join(LAYOUTS) + " |\n|---|---|" + "---|" * len(LAYOUTS))
    for size in args.sizes:
        if size not in SIZES or size not in TOWERS:
            p.error(f"{size} is no size of both: {', '.join(TOWERS)}")
        encoder = Encoder(SIZES[size]["widths"], SIZES[size]["blocks"])
        for name, net, px in ((f"encoder {size}", encoder, 96), (f"tower {size}", Tower(size), 80), (f"tower {size}", Tower(size), 112)):
            speeds = measured(net, px, args.batch)
            print(f"| {name} | {px} | " + " | ".join(f"{speeds[layout]:.1f}" for layout in LAYOUTS) + " |", flush=True)


if __name__ == "__main__":
    main()
