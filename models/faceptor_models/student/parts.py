"""Cuts the network where the runtime cuts it: parts connected by tensor name, each one ONNX graph of static shapes."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .network import DENSE, QUERIES, ConvNorm, age_distribution, sincos, soft_argmax


def folded(net):
    """Returns a copy with every batch norm folded into the layer before it."""
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if isinstance(module, ConvNorm):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return net


class EncoderPart(nn.Module):
    """Computes the encoder; only the maps in `read` become outputs, because other parts read them."""

    inputs = ["image"]

    def __init__(self, net, read):
        super().__init__()
        self.encoder = net.encoder
        names = ["feature2", "feature4", "feature8", "feature16a", "feature16"]
        self.given = [i for i, name in enumerate(names) if name in read]
        self.outputs = [names[i] for i in self.given]

    def forward(self, image):
        maps = self.encoder(image)
        return tuple(maps[i] for i in self.given)


class MemoryPart(nn.Module):
    # The encoder's levels and their strides; a memory reads the last ones.
    LEVELS = {"feature8": 8, "feature16a": 16, "feature16": 16}

    def __init__(self, net, size):
        super().__init__()
        self.memory = m = net.memory
        self.inputs = list(self.LEVELS)[-len(m.inputs) :]
        self.outputs = [f"{kind}{i}" for i in range(len(m.keys)) for kind in ("key", "value")]
        with torch.no_grad():
            places = [
                m.place(sincos(size // s, size // s, m.dim, "cpu")) + m.level[i] for i, s in enumerate(self.LEVELS[name] for name in self.inputs)
            ]
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


class TaskLayer(nn.Module):
    """Computes a decoder layer of one task, whose queries' positions are constants.

    W (content + position) = W content + W position: query, key and value of self-attention are one linear layer of the content
    and a constant, which is zero for the values.
    """

    def __init__(self, layer, position):
        super().__init__()
        self.layer, dim = layer, position.shape[-1]
        projections = [layer.self_.q, layer.self_key, layer.self_value]
        self.joined = nn.Linear(dim, 3 * dim)
        with torch.no_grad():
            self.joined.weight.copy_(torch.cat([p.weight for p in projections]))
            self.joined.bias.copy_(torch.cat([p.bias for p in projections]))
            placed = [position @ p.weight.T for p in projections[:2]]
            self.register_buffer("placed", torch.cat([*placed, torch.zeros_like(position)], -1))
        self.register_buffer("position", position.clone())

    def forward(self, content, key, value):
        layer = self.layer
        content = layer.norm1(content + layer.cross(content + self.position, key, value))
        joined = (self.joined(content) + self.placed).split(content.shape[-1], -1)
        content = layer.norm2(content + layer.self_.mix(*joined))
        return layer.norm3(content + layer.down(F.relu(layer.up(content))))


class TaskPart(nn.Module):
    """Runs one task's queries through the decoder and its interpreter, to the form that manifest.toml gives for its kind."""

    def __init__(self, net, task):
        super().__init__()
        self.net, self.task = net, task
        layers = len(net.layers)
        self.layers = nn.ModuleList([TaskLayer(layer, net.position[task].detach()[None]) for layer in net.layers])
        self.inputs = [f"{kind}{i}" for i in range(layers) for kind in ("key", "value")] + (["pixel"] if task in DENSE else [])
        self.fine = task == "parsing" and hasattr(net, "region")
        self.inputs += ["feature2"] if self.fine else []
        self.outputs = [f"out_{task}"]

    def forward(self, *tensors):
        n = len(self.layers)
        decoded = self.net.content[self.task].unsqueeze(0).expand(int(tensors[0].shape[0]), -1, -1)
        for i, layer in enumerate(self.layers):
            decoded = layer(decoded, tensors[2 * i], tensors[2 * i + 1])
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
    """Returns {part name: module} in the order in which the data flow."""
    net = folded(net)
    parts = {"memory": MemoryPart(net, size), "pixel": PixelPart(net)}
    parts |= {f"task_{t}": TaskPart(net, t) for t in QUERIES}
    parts["task_recognition"] = RecognitionPart(net, size)
    encoder = EncoderPart(net, {name for part in parts.values() for name in part.inputs})
    return {k: p.eval() for k, p in ({"encoder": encoder} | parts).items()}


@torch.no_grad()
def run(parts, image):
    """Returns all tensors of the parts' graph for `image` [B, 3, S, S]."""
    tensors = {"image": image}
    for part in parts.values():
        made = part(*[tensors[n] for n in part.inputs])
        tensors |= zip(part.outputs, made if isinstance(made, tuple) else (made,))
    return tensors
