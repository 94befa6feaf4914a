"""Defines the student: Faceptor's structure at the size of an ARM CPU.

It has a residual 3x3 encoder; a memory of the encoder's last levels with level embeddings (Layer-Attention); a post-norm
transformer decoder with a set of queries for each task, whose self-attention stays inside the task; a pixel decoder whose
features are multiplied with embeddings of the queries (landmarks, parsing); a value interpreter (age, expression, attributes);
and a feature head on the encoder (recognition).

It differs from the paper for the CPU's sake or because there are few samples: convolutions instead of a ViT, learned value
vectors for each query instead of one shared by all, ages in bins of five years, and a soft-argmax over a softmax.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS, PARSING

AGE_BINS = [5.0 * i for i in range(21)]
# Order of the query table; recognition has no queries (Faceptor's feature_v2).
QUERIES = {"landmarks": 68, "parsing": len(PARSING), "age": len(AGE_BINS) // 7, "expression": len(EXPRESSIONS), "attributes": len(ATTRIBUTES) // 5}
# Answers that one query of a value task gives: attributes in fives and age bins in sevens, in the order of their lists. With a
# query for each answer, as in the paper, the attributes cost 15 % of the encoder's time.
ANSWERS = {"age": 7, "expression": 1, "attributes": 5}
DENSE = ("landmarks", "parsing")
# Parts of a stride-2 cell with a logit of their own: two by two.
QUARTERS = 4
EMBEDDING = 128

SIZES = {
    "edge": {
        "widths": (32, 64, 128, 256),
        "blocks": (1, 3, 2),
        "dim": 128,
        "heads": 4,
        "hidden": 256,
        "layers": 2,
        "levels": 3,
        "pixel": 64,
        "fine": 32,
        "squeeze": 192,
    },
    "nano": {
        "widths": (16, 32, 64, 128),
        "blocks": (1, 3, 2),
        "dim": 64,
        "heads": 2,
        "hidden": 128,
        "layers": 2,
        "levels": 1,
        "pixel": 32,
        "fine": 0,
        "squeeze": 64,
    },
    # Not for boards: edge with twice the encoder's channels, to teach it.
    "teacher": {
        "widths": (64, 128, 256, 512),
        "blocks": (1, 3, 2),
        "dim": 128,
        "heads": 4,
        "hidden": 256,
        "layers": 2,
        "levels": 3,
        "pixel": 64,
        "fine": 32,
        "squeeze": 192,
    },
}


class ConvNorm(nn.Sequential):
    def __init__(self, cin, cout, kernel=3, stride=1, act=True):
        layers = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout)]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if act else []))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = ConvNorm(width, width, act=False)
        nn.init.constant_(self.second[1].weight, 0.25)

    def forward(self, x):
        return F.relu(x + self.second(self.first(x)))


class Encoder(nn.Module):
    """Maps an image [B, 3, S, S] to maps at strides 2, 4, 8 and 16, and the last stride's middle level."""

    def __init__(self, widths, blocks):
        super().__init__()
        w0, w1, w2, w3 = widths
        self.stem = ConvNorm(3, w0, stride=2)
        self.stage4 = nn.Sequential(ConvNorm(w0, w1, stride=2), *[Residual(w1) for _ in range(blocks[0])])
        self.stage8 = nn.Sequential(ConvNorm(w1, w2, stride=2), *[Residual(w2) for _ in range(blocks[1])])
        self.down16 = nn.Sequential(ConvNorm(w2, w3, stride=2), Residual(w3))
        self.stage16 = nn.Sequential(*[Residual(w3) for _ in range(blocks[2] - 1)])

    def forward(self, image):
        f2 = self.stem(image)
        f4 = self.stage4(f2)
        f8 = self.stage8(f4)
        middle = self.down16(f8)
        return f2, f4, f8, middle, self.stage16(middle)


def sincos(height, width, dim, device):
    """Returns the anchor positional embedding before its MLP (Faceptor's decoder): [H*W, dim], y first, interleaved sine and cosine."""
    half = dim // 2
    period = 10000.0 ** (2.0 * torch.arange(half // 2, device=device) / half)

    def axis(n):
        c = (torch.arange(n, device=device) + 0.5) / n
        angle = 2.0 * math.pi * c[:, None] / period
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    y, x = axis(height), axis(width)
    return torch.cat([y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)], -1).reshape(height * width, dim)


class Attention(nn.Module):
    """Computes multi-head attention whose keys and values are already projected."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def split(self, x):
        b, n, d = (int(v) for v in x.shape)
        return x.reshape(b, n, self.heads, d // self.heads).transpose(1, 2)

    def forward(self, query, key, value):
        return self.mix(self.q(query), key, value)

    def mix(self, query, key, value):
        q, k, v = self.split(query), self.split(key), self.split(value)
        if torch.onnx.is_in_onnx_export():
            scores = (q * (q.shape[-1] ** -0.5)) @ k.transpose(-2, -1)
            mixed = scores.softmax(-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        b, h, n, d = (int(v) for v in mixed.shape)
        return self.out(mixed.transpose(1, 2).reshape(b, n, h * d))


class DecoderLayer(nn.Module):
    """Applies cross-attention, self-attention and feed-forward, each followed by its LayerNorm (Faceptor's decoder)."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.cross, self.self_ = Attention(dim, heads), Attention(dim, heads)
        self.self_key, self.self_value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def projected(self, content, position):
        """Returns query, key and value of the self-attention."""
        placed = content + position
        return self.self_.q(placed), self.self_key(placed), self.self_value(content)

    def forward(self, content, position, key, value):
        content = self.norm1(content + self.cross(content + position, key, value))
        content = self.norm2(content + self.self_.mix(*self.projected(content, position)))
        return self.norm3(content + self.down(F.relu(self.up(content))))


class Memory(nn.Module):
    """Maps the encoder's last `levels` levels to the keys and values of every decoder layer, once for each face and whatever the tasks."""

    def __init__(self, widths, dim, layers, levels):
        super().__init__()
        self.inputs = nn.ModuleList([nn.Conv2d(c, dim, 1) for c in (widths[2], widths[3], widths[3])[-levels:]])
        self.level = nn.Parameter(torch.randn(levels, dim) * 0.2)
        self.place = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.keys = nn.ModuleList([nn.Linear(dim, dim) for _ in range(layers)])
        self.values = nn.ModuleList([nn.Linear(dim, dim) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)
        self.dim = dim

    def forward(self, maps):
        tokens, positions = [], []
        for i, (project, x) in enumerate(zip(self.inputs, maps[-len(self.inputs) :])):
            tokens.append(project(x).flatten(2).transpose(1, 2))
            positions.append(self.place(sincos(x.shape[2], x.shape[3], self.dim, x.device)) + self.level[i])
        memory = self.norm(torch.cat(tokens, 1))
        placed = memory + torch.cat(positions, 0)
        return [(k(placed), v(memory)) for k, v in zip(self.keys, self.values)]


class UpConv(nn.Module):
    """Computes a transposed convolution of kernel and stride 2 as a 1x1 convolution and a pixel shuffle (the same map)."""

    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout * 4, 1)

    def forward(self, x):
        x = self.conv(x)
        b, c, h, w = (int(v) for v in x.shape)
        # F.pixel_shuffle, spelled out so that the export holds plain reshapes and one transposition.
        x = x.reshape(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(b, c // 4, 2 * h, 2 * w)


class PixelDecoder(nn.Module):
    """Maps stride-16 and stride-8 maps to per-pixel features at stride 2 (Faceptor's map_v2), with a stride-4 skip."""

    def __init__(self, widths, dim, pixel):
        super().__init__()
        self.deep, self.middle = UpConv(widths[3], dim), nn.Conv2d(widths[2], dim, 1)
        self.mix = ConvNorm(dim, dim)
        self.up4, self.skip = UpConv(dim, pixel), nn.Conv2d(widths[1], pixel, 1)
        self.refine = ConvNorm(pixel, pixel)
        self.up2 = UpConv(pixel, pixel)

    def forward(self, f4, f8, f16):
        x = self.mix(F.relu(self.deep(f16) + self.middle(f8)))
        x = self.refine(F.relu(self.up4(x) + self.skip(f4)))
        return self.up2(x)


class RegionDecoder(nn.Module):
    """Computes stride-2 features of regions from the pixel decoder's and the stem's: eyes and brows are two cells of stride 2 high.

    A query has an embedding for each quarter of a cell, so its logits lie on the input's own grid.
    """

    def __init__(self, widths, pixel, fine):
        super().__init__()
        self.narrow, self.skip = nn.Conv2d(pixel, fine, 1), nn.Conv2d(widths[0], fine, 1)
        self.refine = ConvNorm(fine, fine, act=False)

    def forward(self, f2, pixels):
        return self.refine(F.relu(self.narrow(pixels) + self.skip(f2)))


class FeatureHead(nn.Module):
    """Maps the stride-16 map to a 128-d embedding; the spatial weights follow the grid, so the input size may vary."""

    def __init__(self, width, squeeze, grid=6):
        super().__init__()
        self.squeeze = ConvNorm(width, squeeze, kernel=1)
        self.weight = nn.Parameter(torch.randn(EMBEDDING, squeeze, grid, grid) / math.sqrt(squeeze * grid * grid))
        self.norm = nn.BatchNorm1d(EMBEDDING)

    def spatial_weight(self, height, width):
        grid = self.weight.shape[-1]
        if (height, width) == (grid, grid):
            return self.weight
        scaled = F.interpolate(self.weight, size=(height, width), mode="bilinear", align_corners=False)
        return scaled * (grid * grid / (height * width))

    def forward(self, x):
        x = self.squeeze(x)
        weight = self.spatial_weight(x.shape[2], x.shape[3]).flatten(1)
        return self.norm(F.linear(x.flatten(1), weight))


class Student(nn.Module):
    def __init__(self, size="edge", levels=None):
        """Builds the network of a size; `levels` replaces the size's own number of levels."""
        super().__init__()
        c = SIZES[size]
        dim, widths = c["dim"], c["widths"]
        self.size = size
        self.encoder = Encoder(widths, c["blocks"])
        self.memory = Memory(widths, dim, c["layers"], levels or c["levels"])
        self.layers = nn.ModuleList([DecoderLayer(dim, c["heads"], c["hidden"]) for _ in range(c["layers"])])
        values = {t: QUERIES[t] * a for t, a in ANSWERS.items()}
        self.answers = c.get("answers", ANSWERS)
        queries = QUERIES | {t: n // self.answers[t] for t, n in values.items()}
        self.content = nn.ParameterDict({t: nn.Parameter(torch.randn(q, dim) * 0.5) for t, q in queries.items()})
        self.position = nn.ParameterDict({t: nn.Parameter(torch.randn(q, dim) * 0.5) for t, q in queries.items()})
        self.value_weight = nn.ParameterDict({t: nn.Parameter(torch.randn(n, dim) / math.sqrt(dim)) for t, n in values.items()})
        self.value_bias = nn.ParameterDict({t: nn.Parameter(torch.zeros(n)) for t, n in values.items()})
        self.pixel = PixelDecoder(widths, dim, c["pixel"])
        self.mask_embed = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, c["pixel"]))
        fine = c["fine"]
        if fine:
            self.region = RegionDecoder(widths, c["pixel"], fine)
            self.region_embed = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, QUARTERS * fine))
        self.feature = FeatureHead(widths[3], c["squeeze"])
        # Pooled heads that only training sees: they reach the encoder before the decoder has learned to attend.
        self.auxiliary = nn.ModuleDict({t: nn.Linear(widths[3], n) for t, n in values.items()})

    def encode(self, image):
        f2, f4, f8, middle, f16 = self.encoder(image)
        return {"f2": f2, "f4": f4, "f8": f8, "middle": middle, "f16": f16}

    def remember(self, maps):
        return self.memory([maps["f8"], maps["middle"], maps["f16"]])

    def pixels(self, maps):
        return self.pixel(maps["f4"], maps["f8"], maps["f16"])

    def decode(self, task, memory):
        """Returns the query embeddings [B, Q, dim] of one task."""
        batch = memory[0][0].shape[0]
        content = self.content[task].unsqueeze(0).expand(batch, -1, -1)
        position = self.position[task].unsqueeze(0)
        for layer, (key, value) in zip(self.layers, memory):
            content = layer(content, position, key, value)
        return content

    def values(self, task, decoded):
        """Returns the logits [B, answers] of a value task from its queries [B, Q, dim]."""
        a = self.answers[task]
        q = len(self.content[task])
        weight = self.value_weight[task]
        answers = (decoded.unsqueeze(2) * weight.reshape(1, q, a, -1)).sum(-1) if a > 1 else (decoded * weight).sum(-1)
        return answers.reshape(-1, q * a) + self.value_bias[task]

    def maps(self, decoded, pixels):
        """Returns dense logits [B, Q, H, W]."""
        embedded = self.mask_embed(decoded)
        b, c, h, w = (int(v) for v in pixels.shape)
        return (embedded @ pixels.reshape(b, c, h * w)).reshape(b, -1, h, w)

    def regions(self, decoded, f2, pixels):
        """Returns parsing logits [B, Q, H, W]: on the input's own grid where the network has region features, else on the pixels'."""
        if not SIZES[self.size]["fine"]:
            return self.maps(decoded, pixels)
        fine = self.region(f2, pixels)
        b, c, h, w = (int(v) for v in fine.shape)
        embedded = self.region_embed(decoded).reshape(b, -1, QUARTERS, c).transpose(1, 2).reshape(b, -1, c)
        logits = fine.reshape(b, c, h * w).transpose(1, 2) @ embedded.transpose(1, 2)
        logits = logits.reshape(b, h, w, 2, 2, -1).permute(0, 5, 1, 3, 2, 4)
        return logits.reshape(b, -1, 2 * h, 2 * w)

    def load_average(self, state):
        """Loads the weights of a run, also of networks that differ from this one.

        Where the value tasks had a query for each answer, it averages the queries of each group. Without region features these
        keep their first values. Of more levels in the memory it takes the last ones. Where the recognition head is narrower,
        the missing part keeps its first values and contributes nothing at first.
        """
        state = {k: v for k, v in self.state_dict().items() if k.startswith("region")} | last_levels(state, len(self.memory.level))
        for task, answers in self.answers.items():
            for name in (f"content.{task}", f"position.{task}"):
                own = len(self.content[task])
                if len(state[name]) == own * answers > own:
                    state[name] = state[name].reshape(own, answers, -1).mean(1)
        self.load_state_dict(widened(state, self.state_dict()))

    def pooled(self, task, f16):
        return self.auxiliary[task](f16.mean((2, 3)))


def levels_of(state):
    """Returns the number of levels in the memory of a network with these weights."""
    return len(state["memory.level"])


def last_levels(state, levels):
    """Returns a copy of a state with only the last `levels` of its memory's levels."""
    first = levels_of(state) - levels
    if first <= 0:
        return dict(state)
    kept = {k: v for k, v in state.items() if not k.startswith("memory.inputs.")} | {"memory.level": state["memory.level"][first:]}
    inputs = {f"memory.inputs.{i}.{n}": state[f"memory.inputs.{first + i}.{n}"] for i in range(levels) for n in ("weight", "bias")}
    return kept | inputs


def widened(state, own):
    """Returns a state whose recognition head may be narrower than that of the state `own`: the missing part is `own`'s and
    contributes nothing at first.
    """
    given, weight = state.get("feature.weight"), own.get("feature.weight")
    if given is None or weight is None or given.shape == weight.shape:
        return state
    state = dict(state)
    for name, value in own.items():
        if name.startswith("feature.squeeze") and value.ndim:
            state[name] = torch.cat([state[name].to(value.dtype), value[len(state[name]) :]])
    state["feature.weight"] = torch.zeros_like(weight)
    state["feature.weight"][:, : given.shape[1]] = given
    return state


def soft_argmax(logits):
    """Maps heat-map logits [B, Q, H, W] to network coordinates [B, Q, 2] in [0, 1] (x, y)."""
    b, q, h, w = (int(v) for v in logits.shape)
    p = logits.reshape(b, q, h * w).softmax(-1).reshape(b, q, h, w)
    x = (p.sum(2) * ((torch.arange(w, device=p.device) + 0.5) / w)).sum(-1)
    y = (p.sum(3) * ((torch.arange(h, device=p.device) + 0.5) / h)).sum(-1)
    return torch.stack([x, y], -1)


def age_distribution(logits):
    """Returns L1-normalised sigmoids over the bins (Faceptor's value interpreter)."""
    p = torch.sigmoid(logits)
    return p / p.sum(-1, keepdim=True)
