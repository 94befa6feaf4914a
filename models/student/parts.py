"""The network cut where the runtime cuts it: parts connected by tensor name, each one ONNX graph of static shapes."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .network import DENSE, QUERIES, ConvNorm, age_distribution, sincos, soft_argmax


def folded(net):
    """A copy with every batch norm folded into the layer before it."""
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if isinstance(module, ConvNorm):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return net


class EncoderPart(nn.Module):
    inputs, outputs = ["image"], ["feature2", "feature4", "feature8", "feature16a", "feature16"]

    def __init__(self, net):
        super().__init__()
        self.encoder = net.encoder

    def forward(self, image):
        return self.encoder(image)


class MemoryPart(nn.Module):
    inputs = ["feature8", "feature16a", "feature16"]

    def __init__(self, net, size):
        super().__init__()
        self.memory = m = net.memory
        self.outputs = [f"{kind}{i}" for i in range(len(m.keys)) for kind in ("key", "value")]
        with torch.no_grad():
            places = [m.place(sincos(size // s, size // s, m.dim, "cpu")) + m.level[i] for i, s in enumerate((8, 16, 16))]
        self.register_buffer("placed", torch.cat(places, 0).unsqueeze(0))

    def forward(self, *maps):
        m = self.memory
        tokens = []
        for project, x in zip(m.inputs, maps):
            y = project(x)
            b, c, h, w = (int(v) for v in y.shape)
            tokens.append(y.reshape(b, c, h * w).transpose(1, 2))
        memory = m.norm(torch.cat(tokens, 1))
        placed = memory + self.placed
        return tuple(t for k, v in zip(m.keys, m.values) for t in (k(placed), v(memory)))


class PixelPart(nn.Module):
    inputs, outputs = ["feature4", "feature8", "feature16"], ["pixel"]

    def __init__(self, net):
        super().__init__()
        self.pixel = net.pixel

    def forward(self, f4, f8, f16):
        return self.pixel(f4, f8, f16)


class TaskPart(nn.Module):
    """One task's queries through the decoder and its interpreter, down to what manifest.toml says of its kind."""

    def __init__(self, net, task):
        super().__init__()
        self.net, self.task = net, task
        layers = len(net.layers)
        self.inputs = [f"{kind}{i}" for i in range(layers) for kind in ("key", "value")] + (["pixel"] if task in DENSE else [])
        self.fine = task == "parsing" and hasattr(net, "region")
        self.inputs += ["feature2"] if self.fine else []
        self.outputs = [f"out_{task}"]

    def forward(self, *tensors):
        n = len(self.net.layers)
        memory = [(tensors[2 * i], tensors[2 * i + 1]) for i in range(n)]
        decoded = self.net.decode(self.task, memory)
        if self.task == "landmarks":
            return soft_argmax(self.net.maps(decoded, tensors[2 * n]))
        if self.task == "parsing":
            return self.net.regions(decoded, tensors[2 * n + 1], tensors[2 * n]) if self.fine else self.net.maps(decoded, tensors[2 * n])
        logits = self.net.values(self.task, decoded)
        if self.task == "age":
            return age_distribution(logits)
        return logits.softmax(-1) if self.task == "expression" else logits.sigmoid()


class RecognitionPart(nn.Module):
    inputs, outputs = ["feature16"], ["out_recognition"]

    def __init__(self, net, size):
        super().__init__()
        head = net.feature
        self.squeeze = head.squeeze
        grid = size // 16
        with torch.no_grad():
            weight = head.spatial_weight(grid, grid).flatten(1)
            scale = head.norm.weight / torch.sqrt(head.norm.running_var + head.norm.eps)
            self.linear = nn.Linear(weight.shape[1], weight.shape[0])
            self.linear.weight.copy_(weight * scale[:, None])
            self.linear.bias.copy_(head.norm.bias - head.norm.running_mean * scale)

    def forward(self, x):
        x = self.squeeze(x)
        return self.linear(x.reshape(1, -1) if x.shape[0] == 1 else x.flatten(1))


def cut(net, size):
    """{part name: module} in the order the data flows."""
    net = folded(net)
    parts = {"encoder": EncoderPart(net), "memory": MemoryPart(net, size), "pixel": PixelPart(net)}
    parts |= {f"task_{t}": TaskPart(net, t) for t in QUERIES}
    parts["task_recognition"] = RecognitionPart(net, size)
    return {k: p.eval() for k, p in parts.items()}


@torch.no_grad()
def run(parts, image):
    """All tensors of the parts' graph from `image` [B, 3, S, S]."""
    tensors = {"image": image}
    for part in parts.values():
        made = part(*[tensors[n] for n in part.inputs])
        tensors |= zip(part.outputs, made if isinstance(made, tuple) else (made,))
    return tensors
