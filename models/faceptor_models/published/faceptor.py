"""Implements Faceptor: one encoder, task-specific queries through one decoder, shared interpreters."""

from dataclasses import dataclass, field

import torch
from torch import nn

from . import official
from .clip_vit import Backbone, ClipVitConfig
from .decoder import Decoder, DecoderConfig
from .interpreters import FeatureV2, MapV2, Value, align_output, expected_age, parsing_output


@dataclass(frozen=True)
class FaceptorConfig:
    """Holds the sizes. `tasks` is {name: number of queries} in the configuration's order, including the recognition task."""

    tasks: dict = field(default_factory=lambda: dict(official.TASKS))
    encoder: ClipVitConfig = ClipVitConfig()
    decoder: DecoderConfig = DecoderConfig()
    feature_hidden: int = 768
    embedding: int = 512
    # Identities of the training classifiers: {recognition task: count}.
    identities: dict = field(default_factory=dict)

    @property
    def queries(self):
        return {t: n for t, n in self.tasks.items() if official.type_of(t) != "recog"}


class Classifier(nn.Module):
    """Holds CosFace's class vectors, which the files keep with the losses."""

    def __init__(self, identities, dim):
        super().__init__()
        self.classifier = nn.Parameter(torch.empty(identities, dim).uniform_(-(dim**-0.5), dim**-0.5))


class Losses(nn.Module):
    def __init__(self, identities, dim):
        super().__init__()
        self.losses = nn.ModuleDict({task: Classifier(n, dim) for task, n in identities.items()})


class Heads(nn.Module):
    def __init__(self, c):
        super().__init__()
        types = {official.type_of(t) for t in c.tasks}
        self.decoder = Decoder(c.decoder, c.encoder.width, c.queries)
        self.interpreters = nn.ModuleDict()
        if "recog" in types:
            self.interpreters["feature_v2"] = FeatureV2(c.encoder.width, c.feature_hidden, c.embedding)
        if types & {"age", "biattr", "affect"}:
            self.interpreters["value"] = Value(c.decoder.width)
        if types & set(official.DENSE):
            self.interpreters["map_v2"] = MapV2(c.decoder.width)


class Faceptor(nn.Module):
    """Runs one batch through the encoder once with `forward(image, tasks)`, and returns {task: output}."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.backbone_module = Backbone(config.encoder)
        self.heads_module = Heads(config)
        self.losses_module = Losses(config.identities, config.embedding)

    def logits(self, image, tasks):
        """Returns {task: raw output}: embedding, value logits [B, Q] or dense logits [B, Q, H, W]."""
        maps = self.backbone_module(image)
        decoder, interpreters = self.heads_module.decoder, self.heads_module.interpreters
        out, memory, pixels = {}, None, None
        for task in tasks:
            kind = official.type_of(task)
            if kind == "recog":
                out[task] = interpreters["feature_v2"](maps[-1])
                continue
            if memory is None:
                memory, source = decoder.remember(maps)
            decoded = decoder.decode(task, memory)
            if kind in official.DENSE:
                if pixels is None:
                    pixels = interpreters["map_v2"].mask_map(source)
                out[task] = interpreters["map_v2"](decoded, pixels)
            else:
                out[task] = interpreters["value"](decoded)
        return out

    def forward(self, image, tasks):
        return {t: finish(t, raw, self.config.encoder.resolution) for t, raw in self.logits(image, tasks).items()}


def finish(task, raw, resolution):
    """Converts a task's raw output to the form of the official heads."""
    kind = official.type_of(task)
    if kind == "parsing":
        return parsing_output(raw, resolution)
    return align_output(raw) if kind == "align" else raw


@torch.no_grad()
def run_arrays(model, arrays):
    """Maps arrays `image_small`, `image_large` to {TASK, TASK.landmark, TASK.heatmap, TASK.expected_age: array}."""
    out = {}
    for name, wanted in (("image_small", lambda t: t not in official.DENSE), ("image_large", lambda t: t in official.DENSE)):
        tasks = [t for t in model.config.tasks if wanted(official.type_of(t))]
        if name not in arrays or not tasks:
            continue
        for task, value in model(torch.from_numpy(arrays[name]).float(), tasks).items():
            if isinstance(value, dict):
                out |= {f"{task}.{k}": v.numpy() for k, v in value.items()}
            else:
                out[task] = value.numpy()
            if official.type_of(task) == "age":
                out[f"{task}.expected_age"] = expected_age(value).numpy()
    return out
