"""Reads TCDCN's filters per region in any order of axes, and finds the size of the pictures that they are for.

There is no official layout. An order is written with a letter for each axis: rows and columns of regions `r` `c`, `o` out, `i`
in, `k` `l` the kernel's rows and columns, `K` both in one, `1` an axis of one.
"""

import re

import torch

from faceptor_models.common.errors import Refused

from .checkpoint import check_held, listed, shape_text, square_root
from .tcdcn import TcdcnConfig

OWN = "rcoikl"
LAYOUTS = (OWN, "oirckl", "oiklrc", "orcikl", "1oircK")
# Side of the paper's pictures.
OFFICIAL = 40
BIASES = ("rco", "orc", "1orc")


def axes(layout, tensor):
    """Returns {letter: size}, or None where the tensor cannot be in that order."""
    if tensor.dim() != len(layout):
        return None
    sizes = dict(zip(layout, tensor.shape))
    good = sizes.get("1", 1) == 1 and sizes.get("r") == sizes.get("c") and sizes.get("k") == sizes.get("l")
    if "K" in sizes:
        good = good and round(sizes["K"] ** 0.5) ** 2 == sizes["K"]
    return sizes if good and all(sizes.values()) else None


def ordered(tensor, layout, wanted):
    """Returns the tensor with its axes in the order `wanted`; an axis of one is left out, one kernel axis becomes two."""
    if "K" in layout:
        place, side = layout.index("K"), round(tensor.shape[layout.index("K")] ** 0.5)
        tensor, layout = tensor.unflatten(place, (side, side)), layout.replace("K", "kl")
    if "1" in layout:
        tensor, layout = tensor.squeeze(layout.index("1")), layout.replace("1", "")
    return tensor.permute([layout.index(axis) for axis in wanted])


def bias_of(tensor, out, regions, layout):
    """Returns a local layer's bias as [rows, columns, out]; one number for each map serves all regions. None where it does not fit."""
    if tuple(tensor.shape) == (out,):
        return tensor.expand(regions, regions, out).clone()
    fitting = [b for b in BIASES if (sizes := axes(b, tensor)) and (sizes["o"], sizes["r"]) == (out, regions)]
    # A cube's axes are ambiguous: then the bias is in the order of its weight.
    first = "rco" if layout.index("r") < layout.index("o") else "orc"
    fitting.sort(key=lambda b: b != first)
    return ordered(tensor, fitting[0], "rco") if fitting else None


def read(state, convs, layout):
    """Returns {name: tensor} of the convolutions in our order, ordinary ones as [out, in, k, k]; None where a shape does not fit."""
    made, channels = {}, 1
    for conv in convs:
        weight, bias = state[f"{conv}.weight"], state[f"{conv}.bias"]
        local = weight.dim() != 4
        sizes = axes(layout if local else "oikl", weight)
        if sizes is None or sizes["i"] != channels:
            return None
        channels, regions = sizes["o"], sizes.get("r", 1)
        if local:
            weight, bias = ordered(weight, layout, OWN), bias_of(bias, channels, regions, layout)
            if bias is None:
                return None
            if regions == 1:
                weight, bias = weight[0, 0], bias[0, 0]
        made |= {f"{conv}.weight": weight, f"{conv}.bias": bias}
    return made


def same(a, b):
    return all(a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a)


def unified(state, convs, given):
    """Returns (state with its convolutions in our order, the order they had); `given` by --filters, else the one that fits."""
    if given is not None and given not in LAYOUTS:
        raise Refused(f"--filters {given}: known orders of axes are {', '.join(LAYOUTS)}")
    if all(state[f"{c}.weight"].dim() == 4 for c in convs) or any(f"{c}.bias" not in state for c in convs):
        return state, OWN
    for conv in convs:
        check_held(f"{conv}.weight", state[f"{conv}.weight"])
    found = {layout: made for layout in ((given,) if given else LAYOUTS) if (made := read(state, convs, layout))}
    if not found:
        shapes = listed(f"{c} {shape_text(state[f'{c}.weight'])}" for c in convs)
        asked = f"the order {given} of --filters does" if given else f"none of the orders {', '.join(LAYOUTS)} does"
        raise Refused(f"the axes of its filters fit no chain of convolutions from one grey map: {asked} ({shapes})")
    first = next(iter(found))
    if any(not same(found[first], other) for other in found.values()):
        raise Refused(f"its filters can be read in the orders {', '.join(found)}: say by --filters which is right")
    return state | found[first], first


def picture(last, kernels, blocks, given):
    """Returns (side of the picture, all sides that fit) of a network whose last maps have the side `last`.

    The pools round, so several sides fit; regions rule out some of them. The official 40 is preferred, then the smallest whose
    regions are places; `given` by --size.
    """
    side = last
    for i, kernel in enumerate(reversed(kernels)):
        side = (side * 2 if i else side) + kernel - 1
    fitting = []
    for size in range(side, side + 2 ** (len(kernels) - 1)):
        sides = TcdcnConfig(size, kernels=kernels).sides
        if sides[-1] == last and all(count <= at for count, at in zip(blocks, sides)):
            places = sum(count == at for count, at in zip(blocks, sides) if count > 1)
            fitting.append((size != OFFICIAL, -places, size))
    if not fitting:
        raise Refused(f"its filters for {', '.join(map(str, blocks))} regions a side fit no picture that leaves fc {last} x {last} places")
    sizes = [size for *_, size in fitting]
    if given is not None and given not in sizes:
        raise Refused(f"--size {given}: fc and the regions of its filters are for pictures of {', '.join(map(str, sizes))}")
    return given or min(fitting)[-1], sizes


def inputs(state, width):
    """Returns the side of the last maps, from fc's inputs."""
    name = "fc.weight"
    if state[name].dim() != 2 or state[name].shape[1] % width:
        raise Refused(f"tensor {name} has the shape {list(state[name].shape)}, the last convolution {width} maps")
    return square_root(state[name].shape[1] // width, f"{name}: its inputs divided by the last convolution's maps")


def convolutions(state):
    """Returns the names of conv1 to conv4, which must be there, and no fifth."""
    numbers = {int(m.group(1)) for m in (re.match(r"conv(\d+)\.weight$", k) for k in state) if m}
    if numbers != {1, 2, 3, 4}:
        held = listed(f"conv{n}" for n in sorted(numbers))
        raise Refused(f"it has {held}, expected are four convolutions" if numbers else "it has no conv1")
    return [f"conv{n}" for n in (1, 2, 3, 4)]
