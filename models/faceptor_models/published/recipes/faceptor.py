"""Trains Faceptor jointly on all tasks, stage 1 and stage 2, and with auxiliary supervised learning.

Auxiliary supervised learning is stage 1 with few labels of one task (`samples`) and other data sets in the same batch.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from faceptor_models.common import schedules
from faceptor_models.common.early_stopping import EarlyStopping
from faceptor_models.common.errors import Refused
from faceptor_models.common.sync_batch_norm import synchronise

from .. import official, recognise
from ..checkpoint import read
from ..clip_vit import ClipVitConfig
from ..decoder import DecoderConfig
from ..faceptor import Faceptor, FaceptorConfig, finish
from ..losses.faceptor import effective_weights, task_loss, total
from ..official import DENSE, type_of
from . import augmentation
from .crops import IGNORED, NO_PIXEL
from .run import Recipe, RecipeSettings
from .sampler import SPLITS, Sampler

QUERIES = {"recog": 2, "age": 101, "biattr": 40, "affect": 7, "parsing": 19, "align": 68}
# The crops' numbers of points and classes of the dense tasks: other numbers belong to other data sets.
HELD = {"parsing": 19, "align": 68}
# In stage 2 only parameters with one of these in their name train.
NEW = ("new_level_embed", "new_input_proj")


@dataclass
class StageSettings:
    """Holds the section [faceptor]: the stage, and the file of the initial weights."""

    stage: int = 1
    start_from: str = ""  # a file of stage 1, for stage 2
    encoder: str = ""  # FaRL's file, for stage 1


@dataclass
class ModelSettings:
    """Holds the section [model]: the sizes of encoder and decoder."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    patch: int = 16
    mlp: int = 3072
    grid: int = 32  # patches along a side of the position table
    proj: int = 512
    drop_path: float = 0.2
    levels: list[int] = field(default_factory=lambda: [11])
    new_levels: list[int] = field(default_factory=list)
    decoder_width: int = 256
    decoder_heads: int = 8
    decoder_layers: int = 9
    ffn: int = 2048
    feature_hidden: int = 768
    embedding: int = 512


@dataclass
class InputSettings:
    """Holds the section [input]."""

    small_px: int = 112  # side of the images of the tasks without maps


@dataclass
class OptimizerSettings:
    """Holds the section [optimizer]: AdamW; `encoder` and `heads` multiply both rates."""

    base_rate: float = 1e-06
    peak_rate: float = 5e-05
    encoder: float = 1.0
    heads: float = 10.0
    warm: int = 2000  # iterations
    decay: float = 0.05
    clip: float = 5.0


@dataclass
class SamplerSettings:
    """Holds the section [sampler]."""

    split: str = "interleaved"  # one of SPLITS
    skip_missing: bool = False
    only: list[str] = field(default_factory=list)


@dataclass
class TaskSettings:
    """Holds a section [task.NAME]."""

    source: str = ""
    batch: int = 1
    weight: float = 1.0
    samples: int = 0  # crops that train; 0: all


@dataclass
class FaceptorSettings(RecipeSettings):
    """Holds the settings of a Faceptor training."""

    faceptor: StageSettings = field(default_factory=StageSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    input: InputSettings = field(default_factory=InputSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    type_weight: dict[str, float] = field(default_factory=dict)
    task: dict[str, TaskSettings] = field(default_factory=dict)


class FaceptorRecipe(Recipe):
    def __init__(self, settings, crops, world):
        self.settings, self.crops, self.world = settings, crops, world
        self.iterations, self.clip = settings.run.iterations, settings.optimizer.clip
        self.tasks = self.choose()
        self.rows = {t: self.labelled(t) for t in self.tasks}
        self.identities = {t: self.people(t) for t in self.tasks if type_of(t) == "recog"}
        self.stage = settings.faceptor.stage
        if self.stage not in (1, 2):
            raise Refused(f"faceptor.stage is {self.stage}, expected is 1 or 2")
        self.model = self.build().to(world.device)
        if self.stage == 2:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(any(n in name for n in NEW))
        synchronise(self.model, world)
        resolution, patch, side = self.model.config.encoder.resolution, self.model.config.encoder.patch, settings.input.small_px
        if side < patch or side % patch:
            raise Refused(f"input.small_px is {side}, expected is a multiple of the patch, {patch} pixels")
        self.small, self.large = augmentation.small(side), augmentation.clip("large", resolution)
        self.celebam = augmentation.clip("celebam", resolution, augmentation.celeba_hq())
        split = settings.sampler.split
        if split not in SPLITS:
            raise Refused(f"sampler.split is {split!r}, expected is one of {', '.join(SPLITS)}")
        batch = {t: settings.task[t].batch for t in self.tasks}
        seed = settings.run.seed
        self.samplers = {t: Sampler(self.rows[t], batch[t], self.iterations, world.size, seed, split) for t in self.tasks}
        weights = {t: settings.task[t].weight for t in self.tasks}
        missing = {type_of(t) for t in self.tasks} - set(settings.type_weight)
        if missing:
            raise Refused(f"type_weight lacks {', '.join(sorted(missing))}")
        self.weights = effective_weights(weights, settings.type_weight)
        self.early_stopping = EarlyStopping(settings.stopping, self.tasks) if settings.stopping.every else None

    def choose(self):
        """Returns the tasks whose data set is there, in the order of the settings."""
        chosen, only = [], self.settings.sampler.only
        unknown = [t for t in only if t not in self.settings.task]
        if unknown:
            raise Refused(f"sampler.only names {', '.join(unknown)}, no task of these settings")
        for task, row in self.settings.task.items():
            if only and task not in only:
                continue
            if type_of(task) not in official.TYPES:
                raise Refused(f"task {task}: its type, the text before the first underscore, is not one of {', '.join(official.TYPES)}")
            if row.source in self.crops.pictures:
                chosen.append(task)
            elif not self.settings.sampler.skip_missing:
                held = ", ".join(self.crops.pictures)
                raise Refused(f"task {task}: source {row.source!r} is not among the crops, which hold {held}; sampler.skip_missing leaves it out")
        if not chosen:
            raise Refused("no task has a source among the crops")
        return chosen

    @property
    def left_out(self):
        return [t for t, row in self.settings.task.items() if row.source not in self.crops.pictures]

    def labelled(self, task):
        """Returns the training rows of the task's source that have its label, cut to `samples` where that is set."""
        row = self.settings.task[task]
        rows = self.crops.with_label(task, row.source, self.crops.training(row.source))
        if not len(rows):
            raise Refused(f"task {task}: no crop of source {row.source!r} has its label")
        return rows[: row.samples] if row.samples else rows

    def people(self, task):
        """Returns {identity: number} of all rows, so that held-out ones count too."""
        labels = self.crops.labels[self.settings.task[task].source]
        return {int(v): i for i, v in enumerate(np.unique(labels.identity[labels.identity >= 0]))}

    def build(self):
        m = self.settings.model
        identities = {t: len(v) for t, v in self.identities.items()}
        if self.stage == 2:
            return self.second_stage()
        tasks = {t: official.TASKS.get(t, QUERIES[type_of(t)]) for t in self.tasks}
        wrong = [t for t, n in tasks.items() if n != HELD.get(type_of(t), n)]
        if wrong:
            raise Refused(f"task {', '.join(wrong)} has another number of points or classes than the crops")
        encoder = ClipVitConfig(m.width, m.layers, m.heads, m.patch, m.mlp, m.grid, m.proj, m.drop_path)
        decoder = DecoderConfig(m.decoder_width, m.decoder_heads, m.decoder_layers, m.ffn, tuple(m.levels))
        model = Faceptor(FaceptorConfig(tasks, encoder, decoder, m.feature_hidden, m.embedding, identities))
        if self.settings.faceptor.encoder:
            load_farl(model, self.settings.faceptor.encoder)
        return model

    def second_stage(self):
        """Returns the stage-1 file's model with the added levels; every tensor of the file is used."""
        source, m = self.settings.faceptor.start_from, self.settings.model
        if not source:
            raise Refused("stage 2 needs faceptor.start_from, a file of stage 1")
        options = recognise.Options(encoder_heads=m.heads, decoder_heads=m.decoder_heads, levels=tuple(m.levels))
        held = read(source)
        found = recognise.recognise(held, options)
        if found.system != "faceptor" or found.model.config.decoder.new_levels:
            raise Refused(f"{source} is no file of Faceptor's stage 1")
        config = found.model.config
        unknown = [t for t in self.tasks if t not in config.tasks]
        if unknown:
            raise Refused(f"{source} has no task {', '.join(unknown)}")
        if any(not 0 <= level < config.encoder.layers for level in m.new_levels):
            raise Refused(f"model.new_levels {m.new_levels}: the encoder has {config.encoder.layers} blocks")
        config = replace(
            config, decoder=replace(config.decoder, new_levels=tuple(m.new_levels)), encoder=replace(config.encoder, drop_path=m.drop_path)
        )
        model = Faceptor(config)
        missing = model.load_state_dict(found.model.state_dict(), strict=False).missing_keys
        assert all(any(n in name for n in NEW) for name in missing), missing
        return model

    def groups(self):
        """Returns the tasks that still train, by the size of their images: the encoder runs once for each size."""
        tasks = [t for t in self.tasks if self.early_stopping is None or t not in self.early_stopping.stopped]
        found = [[t for t in tasks if type_of(t) not in DENSE], [t for t in tasks if type_of(t) in DENSE]]
        return [held for held in found if held]

    def sample(self, task, row, rng=None):
        """Returns (tensor, label) of one row; without `rng` as evaluation sees it."""
        source, kind = self.settings.task[task].source, type_of(task)
        picture = self.crops.rgb(source, row)
        if kind == "align":
            return augmentation.align_view(self.large, picture, self.crops.labels[source].landmarks[row], rng)
        if kind == "parsing":
            tensor, classes = augmentation.parsing_view(self.celebam, picture, self.crops.masks[row], rng)
            return tensor, np.where(classes == NO_PIXEL, IGNORED, classes.astype(np.int64))
        tensor = augmentation.value_view(self.small, picture, rng, plain=kind == "recog")
        return tensor, self.crops.value(task, source, row, self.identities.get(task))

    def batch(self, iteration):
        seed, order = self.settings.run.seed, list(self.settings.task)
        drawn = {t: self.samplers[t].draw(iteration, self.world.rank) for t in self.tasks}
        return self.arrays(lambda t: [self.sample(t, row, np.random.default_rng((seed, order.index(t), place))) for place, row in drawn[t]])

    def validation(self, count=64):
        """Yields held-out rows of every task in batches of the training's size, at most `count` of a task."""
        held = {}
        for task in self.tasks:
            source = self.settings.task[task].source
            held[task] = self.crops.with_label(task, source, self.crops.held_out(source))[:count]
            if len(held[task]) == 0:
                raise Refused(f"task {task}: no held-out crop of source {source!r}, make data.hold_out larger")
        size = {t: self.settings.task[t].batch for t in self.tasks}
        for i in range(max(-(-len(held[t]) // size[t]) for t in self.tasks)):
            part = {t: [held[t][(i * size[t] + j) % len(held[t])] for j in range(size[t])] for t in self.tasks}
            yield self.arrays(lambda t, part=part: [self.sample(t, row) for row in part[t]])

    def arrays(self, samples):
        """Stacks the samples of all tasks, stopped ones too: worker processes do not know of a stop."""
        out = {}
        for task in self.tasks:
            made = samples(task)
            out[f"image {task}"] = np.stack([tensor for tensor, _ in made])
            out[f"label {task}"] = np.stack([label for _, label in made])
        return out

    def losses(self, model, batch):
        out, resolution = {}, model.config.encoder.resolution
        for tasks in self.groups():
            counts = {t: len(batch[f"label {t}"]) for t in tasks}
            for task, raw in joint(model, torch.cat([batch[f"image {t}"] for t in tasks]), counts).items():
                label = batch[f"label {task}"]
                classifier = model.losses_module.losses[task].classifier if type_of(task) == "recog" else None
                if type_of(task) == "parsing":
                    # The mean is over the pixels that show the photo: they may be few here and many on another process.
                    share = self.world.share(int((label != IGNORED).sum()))
                    if not share:
                        out[task] = raw.sum() * 0
                        continue
                loss, _ = task_loss(task, finish(task, raw.float(), resolution), {"label": label}, classifier)
                out[task] = loss * share if type_of(task) == "parsing" else loss
        return out

    def total(self, losses):
        return total(losses, self.weights)

    def optimizer(self):
        o = self.settings.optimizer
        groups = {"encoder": [], "heads": []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups["encoder" if name.startswith("backbone_module.") else "heads"].append(parameter)
        held = [{"params": p, "multiplier": getattr(o, name)} for name, p in groups.items() if p]
        return torch.optim.AdamW(held, lr=o.base_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=o.decay)

    def rate(self, iteration, multiplier):
        """Returns the rate; the official code steps the schedule after the optimizer, so each iteration has the rate of the one before."""
        o = self.settings.optimizer
        return schedules.faceptor(max(0, iteration - 1), self.iterations, o.base_rate, o.peak_rate, multiplier, o.warm)

    def extra(self):
        return {} if self.early_stopping is None else {"looks": self.early_stopping.state_dict()}

    def load_extra(self, state):
        if self.early_stopping is not None:
            self.early_stopping.load_state_dict(state["looks"])

    def official(self):
        state = {f"module.{k}": v for k, v in self.model.state_dict().items()}
        return {"step": self.iterations, "state_dict": state, "optimizer": {}}


def joint(model, images, counts):
    """Returns {task: raw output} of images that hold each task's rows one after the other, in one pass of the encoder."""
    maps = model.backbone_module(images)
    decoder, interpreters = model.heads_module.decoder, model.heads_module.interpreters
    out, first = {}, 0
    for task, count in counts.items():
        own, kind = [m[first : first + count] for m in maps], type_of(task)
        first += count
        if kind == "recog":
            out[task] = interpreters["feature_v2"](own[-1])
            continue
        memory, source = decoder.remember(own)
        decoded = decoder.decode(task, memory)
        if kind in DENSE:
            out[task] = interpreters["map_v2"](decoded, interpreters["map_v2"].mask_map(source))
        else:
            out[task] = interpreters["value"](decoded)
    return out


def load_farl(model, path):
    """Loads FaRL's visual encoder: all names after `visual.`, the position table resized to ours."""
    held = read(path)
    held = held.get("state_dict", held) if isinstance(held, dict) else {}
    state = {k[len("visual.") :]: v.float() for k, v in held.items() if k.startswith("visual.")}
    visual = model.backbone_module.visual
    wanted = visual.state_dict()
    missing = [k for k in wanted if k not in state]
    if missing:
        raise Refused(f"{path} is no encoder of FaRL: it lacks {len(missing)} tensors, visual.{missing[0]} for one")
    table = state["positional_embedding"]
    side, width = round((len(table) - 1) ** 0.5), table.shape[1]
    square = table[1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    grid = visual.config.grid
    square = nn.functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    state["positional_embedding"] = torch.cat([table[:1], square.permute(0, 2, 3, 1).reshape(grid * grid, width)])
    wrong = [k for k in wanted if state[k].shape != wanted[k].shape]
    if wrong:
        raise Refused(f"{path}: visual.{wrong[0]} has the shape {list(state[wrong[0]].shape)}, this encoder's is {list(wanted[wrong[0]].shape)}")
    visual.load_state_dict({k: state[k] for k in wanted})
