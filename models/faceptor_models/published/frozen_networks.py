"""Runs the frozen networks at the end of MCF's decoder: the official MoCo-v3 ViT, or the first part of a convolutional ONNX network.

Each maps an image batch to a list of features as tokens [B, N, D] and passes gradients to the image.
"""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

from faceptor_models.common.errors import Refused

from .checkpoint import read
from .mae_vit import Vit, VitConfig

PERCEPTUAL_LEVELS = (2, 5, 8, 11)
MOCO_PREFIX = "module.base_encoder."
# Coarser maps hold little about places.
LEAST_SIDE = 4


class Perceptual(nn.Module):
    """Holds the frozen MoCo-v3 ViT of the decoder, with its classifier because MCF's files have it."""

    def __init__(self, config, classes):
        super().__init__()
        self.model = Vit(config)
        self.model.head = nn.Linear(config.width, classes)
        self.requires_grad_(False)

    def forward(self, image):
        """Returns the tokens after blocks 2, 5, 8 and 11, as far as there are so many."""
        side = self.model.config.size
        if tuple(image.shape[-2:]) != (side, side):
            image = F.interpolate(image, size=(side, side))
        return [f for i, f in enumerate(self.model.features(image)) if i in PERCEPTUAL_LEVELS]

    def load_moco(self, path):
        """Loads the official file: key `state_dict`, prefix `module.base_encoder.`, without its head."""
        held = read(path)
        state = held.get("state_dict", held) if isinstance(held, dict) else {}
        state = {k.removeprefix(MOCO_PREFIX): v for k, v in state.items() if k.startswith(MOCO_PREFIX)}
        state = {k: v for k, v in state.items() if not k.startswith("head.")}
        wanted = {k: v for k, v in self.model.state_dict().items() if not k.startswith("head.")}
        missing = [k for k in wanted if k not in state or state[k].shape != wanted[k].shape]
        unknown = [k for k in state if k not in wanted]
        if missing or unknown:
            raise Refused(f"{path} is no MoCo-v3 ViT of this size: {len(missing)} tensors missing or of another shape, {len(unknown)} unknown")
        self.model.load_state_dict(state, strict=False)


def moco(path, config=VitConfig(), classes=1000):
    made = Perceptual(config, classes)
    made.load_moco(path)
    return made


class Patches(nn.Module):
    """Stands for no frozen network: returns the image's own patches [B, N, 3 * patch * patch], so that the pixels are reconstructed."""

    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def forward(self, image):
        return [F.unfold(image, self.patch, stride=self.patch).transpose(1, 2)]


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def padding(x, given, value=0.0):
    """Pads a map by ONNX's [top, left, bottom, right]."""
    top, left, bottom, right = given or (0, 0, 0, 0)
    return F.pad(x, (left, right, top, bottom), value=value) if any((top, left, bottom, right)) else x


def convolution(x, weight, bias=None, *, a):
    x = padding(x, a.get("pads"))
    return F.conv2d(x, weight, bias, a.get("strides", [1, 1]), 0, a.get("dilations", [1, 1]), a.get("group", 1))


def batch_norm(x, weight, bias, mean, variance, *, a):
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, a.get("epsilon", 1e-5))


def clip(x, low=None, high=None, *, a):
    low, high = (a.get(k) if v is None else v for k, v in (("min", low), ("max", high)))
    return torch.clamp(x, None if low is None else float(low), None if high is None else float(high))


def max_pool(x, *, a):
    return F.max_pool2d(padding(x, a.get("pads"), -torch.inf), a["kernel_shape"], a.get("strides", 1), ceil_mode=bool(a.get("ceil_mode", 0)))


OPERATORS = {
    "Conv": convolution, "BatchNormalization": batch_norm, "Clip": clip, "MaxPool": max_pool,
    "Relu": lambda x, *, a: F.relu(x), "LeakyRelu": lambda x, *, a: F.leaky_relu(x, a.get("alpha", 0.01)),
    "PRelu": lambda x, slope, *, a: torch.where(x > 0, x, x * slope), "Sigmoid": lambda x, *, a: torch.sigmoid(x),
    "Add": lambda x, y, *, a: x + y, "Sub": lambda x, y, *, a: x - y, "Mul": lambda x, y, *, a: x * y, "Identity": lambda x, *, a: x,
    "Concat": lambda *x, a: torch.cat(x, a["axis"]),
}  # fmt: skip


class OnnxMaps(nn.Module):
    """Runs a frozen convolutional ONNX network up to the last map of each resolution.

    `side` is the side in pixels that the image is brought to, `mean` and `std` the statistics that the network expects of
    pixels in 0..1, `given` those of the incoming images. `names` chooses tensors; without them it takes the last map of each of
    the `count` coarsest resolutions not below 4x4.
    """

    def __init__(self, path, side=112, mean=(0.5,) * 3, std=(0.5,) * 3, names=(), count=4, given=((0.5,) * 3, (0.5,) * 3)):
        super().__init__()
        try:
            graph = onnx.load(str(path)).graph
        except Exception as error:
            raise Refused(f"cannot read the ONNX network {path}: {type(error).__name__}: {error}") from error
        self.path, self.side = str(path), side
        self.held = {t.name: self.constant(numpy_helper.to_array(t)) for t in graph.initializer}
        self.input = next(i.name for i in graph.input if i.name not in self.held)
        self.nodes = []
        for node in graph.node:
            if node.op_type == "Constant":
                self.held[node.output[0]] = self.constant(numpy_helper.to_array(attributes(node)["value"]))
            else:
                self.nodes.append((node.op_type, attributes(node), list(node.input), node.output[0]))
        mean, std, given_mean, given_std = (np.asarray(v, np.float64) for v in (mean, std, *given))
        scale, shift = given_std / std, (given_mean - mean) / std
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.from_numpy(shift.astype(np.float32)).reshape(1, 3, 1, 1), persistent=False)
        self.names = list(names) or self.coarsest(count)
        last = max((i for i, node in enumerate(self.nodes) if node[3] in self.names), default=-1)
        missing = [n for n in self.names if n not in {node[3] for node in self.nodes}]
        if missing:
            raise Refused(f"{path} has no tensor {', '.join(missing)}")
        self.nodes = self.nodes[: last + 1]

    def constant(self, array):
        """Registers a buffer that moves with the module and that no checkpoint holds."""
        name = f"constant{len(self._buffers)}"
        self.register_buffer(name, torch.from_numpy(np.array(array)), persistent=False)
        return name

    def values(self, image):
        """Returns ({tensor: value}, None), or the values up to a node that cannot be computed and a description of the node."""
        x = F.interpolate(image, size=(self.side, self.side), mode="bilinear", align_corners=False) if image.shape[-1] != self.side else image
        found = {self.input: x * self.scale + self.shift}
        for kind, given, inputs, output in self.nodes:
            if kind not in OPERATORS:
                return found, f"{kind} at {output}"
            places = [found[i] if i in found else getattr(self, self.held[i]) if i else None for i in inputs]
            try:
                found[output] = OPERATORS[kind](*places, a=given)
            except RuntimeError as error:
                # Below the network's own size its last layers may no longer fit.
                return found, f"{kind} at {output}: {str(error).splitlines()[0]}"
        return found, None

    @torch.no_grad()
    def coarsest(self, count):
        found, _ = self.values(torch.zeros(1, 3, self.side, self.side))
        sides = {}
        for name, value in found.items():
            if value.dim() == 4 and value.shape[-1] >= LEAST_SIDE and name != self.input:
                sides[value.shape[-1]] = name
        if not sides:
            raise Refused(f"{self.path} has no map of at least {LEAST_SIDE}x{LEAST_SIDE} places at {self.side} pixels")
        return [sides[s] for s in sorted(sides)[:count]][::-1]

    def forward(self, image):
        # In float32: in bfloat16 the depthwise layers are slower on a CPU, and the differences are small.
        with torch.autocast(image.device.type, enabled=False):
            found, stop = self.values(image.float())
        if stop:
            raise Refused(f"{self.path} cannot be computed beyond {stop}")
        return [found[n].flatten(2).transpose(1, 2) for n in self.names]
