"""Cuts a system into parts: graphs of static shapes, connected by tensor name, for one preprocessing group or several.

The encoder of a group is cut where a part would grow beyond what the compiler takes; groups of one input size share its files
under tensor names of their own.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from . import official
from .interpreters import age_distribution, soft_argmax
from .portable import bilinear, portable

# Numbers in one part, weights and intermediate values together: half of what the runtime's check of a part allows.
PART_NUMBERS = 60_000_000


@dataclass
class ExportPart:
    """Describes a part. `inputs` and `outputs` are names in the manifest; the file calls them `graph_inputs` and `graph_outputs`."""

    name: str
    module: nn.Module
    inputs: list
    outputs: list
    file: str = ""
    graph_inputs: list = field(default_factory=list)
    graph_outputs: list = field(default_factory=list)

    def __post_init__(self):
        self.file = self.file or f"{self.name}.onnx"
        self.graph_inputs = self.graph_inputs or list(self.inputs)
        self.graph_outputs = self.graph_outputs or list(self.outputs)


class Apply(nn.Module):
    """Wraps a function of tensors as a module; `held` are the modules whose weights it uses."""

    def __init__(self, function, *held):
        super().__init__()
        self.function, self.held = function, nn.ModuleList(held)

    def forward(self, *tensors):
        return self.function(*tensors)


def run(parts, tensors):
    """Returns all tensors of the parts' graph, including `tensors`."""
    tensors = dict(tensors)
    with torch.no_grad():
        for part in parts:
            made = part.module(*[tensors[n] for n in part.inputs])
            tensors |= zip(part.outputs, made if isinstance(made, (tuple, list)) else (made,), strict=True)
    return tensors


class VitBlocks(nn.Module):
    """Runs the blocks first..last of a ViT, from the image (`embed`) or from tokens; returns the tokens after each block of `wanted`."""

    def __init__(self, blocks, first, last, wanted, embed=None):
        super().__init__()
        self.blocks = nn.ModuleList(list(blocks)[first : last + 1])
        self.first, self.wanted, self.embed = first, wanted, embed

    def forward(self, x):
        if self.embed is not None:
            x = self.embed(x)
        out = []
        for i, block in enumerate(self.blocks, self.first):
            x = block(x)
            if i in self.wanted:
                out.append(x)
        return tuple(out)


def block_ranges(layers, numbers_each):
    """Returns [(first, last)] so that no part holds more than PART_NUMBERS."""
    each = max(1, PART_NUMBERS // max(1, numbers_each))
    return [(i, min(i + each, layers) - 1) for i in range(0, layers, each)]


def vit_parts(group, embed, blocks, shape, wanted, last_needed):
    """Returns the encoder parts of one group. `shape`: tokens, width, mlp and heads; `wanted`: blocks whose tokens other parts read."""
    tokens, width, mlp, heads = shape
    numbers = 4 * width * width + 2 * width * mlp + tokens * (10 * width + 2 * mlp) + 2 * heads * tokens * tokens
    parts, source = [], f"image_{group.name}"
    ranges = block_ranges(last_needed + 1, numbers)
    for i, (first, last) in enumerate(ranges):
        made = sorted({w for w in wanted if first <= w <= last} | {last})
        stem = f"encoder_{group.size}" + (f"_{i}" if len(ranges) > 1 else "")
        name = f"encoder_{group.name}" + (f"_{i}" if len(ranges) > 1 else "")
        # The inner names do not depend on the group: the file is shared.
        inner = ["image" if i == 0 else f"tokens_{first - 1}"]
        parts.append(
            ExportPart(
                name, VitBlocks(blocks, first, last, made, embed if i == 0 else None), [source], [f"tokens{b}_{group.name}" for b in made],
                f"{stem}.onnx", inner, [f"tokens_{b}" for b in made],
            )
        )  # fmt: skip
        source = f"tokens{last}_{group.name}"
    return parts


class ClipEmbed(nn.Module):
    """Maps an image to tokens with the position table already resized to one size."""

    def __init__(self, visual, size):
        super().__init__()
        self.visual = visual
        self.register_buffer("table", visual.positions(size // visual.config.patch).detach().clone())

    def forward(self, image):
        return self.visual.embed(image, self.table)


def clip_encoder(visual, group, wanted):
    c = visual.config
    if group.size % c.patch:
        raise ValueError(f"inputs of {group.size} pixels are no multiple of the patch of {c.patch}")
    tokens = (group.size // c.patch) ** 2 + 1
    shape = (tokens, c.width, c.mlp, c.heads)
    return vit_parts(group, ClipEmbed(visual, group.size), visual.transformer.resblocks, shape, wanted, max(wanted))


def as_map(tokens):
    """Reshapes [1, 1 + S * S, width] to [1, width, S, S], without the class token."""
    b, n, width = (int(v) for v in tokens.shape)
    side = round((n - 1) ** 0.5)
    return tokens[:, 1:].transpose(1, 2).reshape(b, width, side, side)


def answer(task, raw):
    """Converts a task's raw output to the form of the manifest's kinds."""
    kind = official.type_of(task)
    if kind == "align":
        return soft_argmax(raw)
    if kind == "age":
        return age_distribution(raw)
    return raw.softmax(-1) if kind == "affect" else raw.sigmoid() if kind == "biattr" else raw


class FaceptorMemory(nn.Module):
    """Maps tokens of the levels to keys and values of every decoder layer and to the source map of the pixels."""

    def __init__(self, decoder, levels, side, with_source):
        super().__init__()
        self.decoder, self.levels, self.with_source = decoder, levels, with_source
        rows = [*decoder.level_embed.weight, *(decoder.new_level_embed.weight if decoder.config.new_levels else [])]
        place = decoder.position(side, side)
        self.register_buffer("place", torch.cat([place + row for row in rows])[None].detach().clone())

    def forward(self, *tokens):
        maps = {level: as_map(t) for level, t in zip(self.levels, tokens)}
        levels = [t for t, _ in self.decoder.projected(maps)]
        memory = torch.cat(levels, 1)
        out = [t for pair in self.decoder.keys_and_values(memory + self.place, memory) for t in pair]
        if self.with_source:
            source = levels[self.decoder.config.source]
            b, n, width = (int(v) for v in source.shape)
            side = round(n**0.5)
            out.append(source.transpose(1, 2).reshape(b, width, side, side))
        return tuple(out)


def faceptor_parts(model, groups):
    """Returns the parts of Faceptor for [Group]; a group's tasks read its own encoder."""
    model = portable(model)
    visual, decoder, interpreters = model.backbone_module.visual, model.heads_module.decoder, model.heads_module.interpreters
    last, parts = visual.config.layers - 1, []
    for group in groups:
        g, side = group.name, group.size // visual.config.patch
        queried = [t for t in group.tasks if official.type_of(t) != "recog"]
        dense = [t for t in queried if official.type_of(t) in official.DENSE]
        levels = sorted(set(decoder.all_levels)) if queried else []
        parts += clip_encoder(visual, group, {*levels, *([last] if len(queried) < len(group.tasks) else [])})
        memory = [f"{kind}{i}_{g}" for i in range(decoder.config.layers) for kind in ("key", "value")]
        if queried:
            inputs = [f"tokens{level}_{g}" for level in levels]
            module = FaceptorMemory(decoder, levels, side, bool(dense))
            made = memory + ([f"source_{g}"] if dense else [])
            parts.append(shared_file(ExportPart(f"memory_{g}", module, inputs, made), group))
        if dense:
            parts.append(shared_file(ExportPart(f"pixel_{g}", interpreters["map_v2"].mask_map, [f"source_{g}"], [f"pixel_{g}"]), group))
        for task in group.tasks:
            if task not in queried:
                module = Apply(lambda tokens: interpreters["feature_v2"].of_tokens(tokens[:, 1:]), interpreters["feature_v2"])
                parts.append(ExportPart(f"task_{task}", module, [f"tokens{last}_{g}"], [f"out_{task}"]))
                continue
            module = FaceptorTask(decoder, interpreters["map_v2" if task in dense else "value"], task, task in dense)
            parts.append(ExportPart(f"task_{task}", module, memory + ([f"pixel_{g}"] if task in dense else []), [f"out_{task}"]))
    return parts


def shared_file(part, group):
    """Returns the part with a file that depends only on its input size: equal graphs of several groups are one file."""
    ending = f"_{group.name}"
    part.file = f"{part.name.removesuffix(ending)}_{group.size}.onnx"
    part.graph_inputs = [n.removesuffix(ending) for n in part.inputs]
    part.graph_outputs = [n.removesuffix(ending) for n in part.outputs]
    return part


class FaceptorTask(nn.Module):
    def __init__(self, decoder, interpreter, task, dense):
        super().__init__()
        self.decoder, self.interpreter, self.task, self.dense = decoder, interpreter, task, dense

    def forward(self, *tensors):
        memory = list(zip(tensors[0::2], tensors[1::2]))[: self.decoder.config.layers]
        decoded = self.decoder.decode(self.task, memory)
        return answer(self.task, self.interpreter(decoded, tensors[-1]) if self.dense else self.interpreter(decoded))


def naive_parts(model, groups):
    """Returns the parts of Naive Faceptor: a shared part for each task type, a small one for each task."""
    model = portable(model)
    visual, heads = model.backbone_module.visual, model.heads_module.heads
    last, parts = visual.config.layers - 1, []
    for group in groups:
        g = group.name
        kinds = list(dict.fromkeys(official.type_of(t) for t in group.tasks))
        levels = {k: [last] if k == "recog" else list(heads[k].levels) for k in kinds}
        parts += clip_encoder(visual, group, {level for k in kinds for level in levels[k]})
        for kind in kinds:
            head, inputs = heads[kind], [f"tokens{level}_{g}" for level in levels[kind]]
            tasks = [t for t in group.tasks if official.type_of(t) == kind]
            if kind == "recog":
                module = Apply(lambda tokens, head=head: head.of_tokens(tokens[:, 1:]), head)
                parts.append(ExportPart(f"task_{tasks[0]}", module, inputs, [f"out_{tasks[0]}"]))
            elif kind in official.DENSE:
                parts += uper_parts(head, kind, g, inputs)
                for task in tasks:
                    module = Apply(lambda x, task=task, rows=head.slices[task]: answer(task, x[:, rows]))
                    parts.append(ExportPart(f"task_{task}", module, [f"dense_{kind}_{g}"], [f"out_{task}"]))
            else:
                shared = Apply(lambda *tokens, head=head: head.shared(dict(zip(head.levels, map(as_map, tokens)))), head)
                parts.append(ExportPart(f"shared_{kind}_{g}", shared, inputs, [f"features_{kind}_{g}"]))
                for task in tasks:
                    module = Apply(lambda x, task=task, fc=head.fcs[task]: answer(task, fc(x)), head.fcs[task])
                    parts.append(ExportPart(f"task_{task}", module, [f"features_{kind}_{g}"], [f"out_{task}"]))
    return parts


def uper_parts(head, kind, group, inputs):
    """Returns UPerHead in three parts: the four scales, the pyramid, the output."""
    scales, levels = ([f"{what}{i}_{kind}_{group}" for i in range(4)] for what in ("scale", "level"))
    modules = [
        Apply(lambda *tokens: tuple(head.scales(dict(zip(head.levels, map(as_map, tokens))))), head.fpns),
        Apply(lambda *maps: tuple(head.head.pyramid(maps)), head.head),
        Apply(lambda *maps: head.head.output(maps), head.head),
    ]
    names = [(inputs, scales), (scales, levels), (levels, [f"dense_{kind}_{group}"])]
    titles = ("scales", "pyramid", "dense")
    return [ExportPart(f"{t}_{kind}_{group}", m, i, o) for t, m, (i, o) in zip(titles, modules, names)]


def mcf_parts(model, groups):
    """Returns the online encoder without masking: normed class token and the tokens of the four perceptual levels."""
    encoder, parts = portable(model.online_encoder), []
    c = encoder.config
    levels = [level for level in (2, 5, 8, 11) if level < c.layers]
    last = c.layers - 1
    for group in groups:
        embed = Apply(lambda image: encoder.with_class_token(encoder.patches(image)), encoder)
        shape = (c.grid**2 + 1, c.width, c.mlp, c.heads)
        parts += vit_parts(group, embed, encoder.blocks, shape, {*levels, last}, last)
        norm = Apply(lambda tokens: encoder.norm(tokens[:, :1]).reshape(1, -1), encoder.norm)
        parts.append(ExportPart(f"class_{group.name}", norm, [f"tokens{last}_{group.name}"], [f"class_{group.name}"]))
    return parts


def tcdcn_parts(model, groups):
    model, (group,) = portable(model), groups
    features = Apply(lambda image: model.features(image), model)
    parts = [ExportPart("features", features, [f"image_{group.name}"], ["features"])]
    for task in group.tasks:
        head = getattr(model, "landmark" if task == "landmarks" else task)
        if task == "landmarks":
            parts.append(ExportPart("task_landmarks", Points(head, group.interleaved), ["features"], ["out_landmarks"]))
        else:
            module = Apply(lambda x, head=head: head(x).softmax(-1), head)
            parts.append(ExportPart(f"task_{task}", module, ["features"], [f"out_{task}"]))
    return parts


class Points(nn.Module):
    """Maps coordinates [1, 2 n], all x before all y or in turn, to points [1, n, 2]."""

    def __init__(self, head, interleaved):
        super().__init__()
        self.head, self.interleaved = head, interleaved

    def forward(self, features):
        x = self.head(features)
        b, n = (int(v) for v in x.shape)
        return x.reshape(b, n // 2, 2) if self.interleaved else x.reshape(b, 2, n // 2).transpose(1, 2)


def residual_ranges(blocks, side):
    """Returns [(first, last)] of a stage whose maps have `side` x `side` places; each map counts with its copies in other layouts."""
    inner, outer = blocks[0].conv1.out_channels, blocks[0].conv3.out_channels
    numbers = side * side * (8 * outer + 6 * inner) + inner * (2 * outer + 9 * inner)
    return block_ranges(len(blocks), numbers)


def dmlcsr_parts(model, groups):
    """Returns backbone stages, context and parsing head, without the edge branches, like the official test network."""
    model, (group,) = portable(model), groups
    parts = [ExportPart("stem", Apply(lambda image: model.stem(image), model), [f"image_{group.name}"], ["stem"])]
    # Each step of stride 2 gives half the places, rounded up.
    source, side = "stem", (group.size + 3) // 4
    for stage in (1, 2, 3, 4):
        blocks = list(getattr(model, f"layer{stage}"))
        side = (side + 1) // 2 if stage == 2 else side
        for i, (first, last) in enumerate(residual_ranges(blocks, side)):
            some = nn.Sequential(*blocks[first : last + 1])
            name = f"layer{stage}_{i}"
            parts.append(ExportPart(name, some, [source], [name]))
            source = name
        if stage == 1:
            shallow = source
    parts.append(ExportPart("context", model.context, [source], ["context"]))
    size = group.size

    def parse(deep, low):
        return bilinear(model.layer6(deep, low), (size, size), align_corners=True)

    task = group.tasks[0]
    parts.append(ExportPart(f"task_{task}", Apply(parse, model.layer6), ["context", shallow], [f"out_{task}"]))
    return parts


CUTTERS = {"faceptor": faceptor_parts, "naive": naive_parts, "mcf": mcf_parts, "tcdcn": tcdcn_parts, "dmlcsr": dmlcsr_parts}
