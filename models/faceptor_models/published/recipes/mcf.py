"""Pre-trains an encoder by MCF, masked and contrastive, on crops without labels."""

import argparse
import copy
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from faceptor_models.common import schedules
from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.augment import sample
from faceptor_models.common.errors import Refused
from faceptor_models.common.self_regulation import reestimate
from faceptor_models.common.sync_batch_norm import synchronise
from faceptor_models.student.network import SIZES
from faceptor_models.student.network import Encoder as StudentEncoder

from .. import frozen_networks
from ..clip_vit import ClipVitConfig
from ..losses import mcf as losses
from ..mae_vit import VitConfig
from ..mcf import Mcf, McfConfig
from ..mcf_encoders import ConvConfig
from .run import Recipe, RecipeSettings
from .sampler import Sampler


@dataclass
class EncoderSettings:
    """Holds the section [encoder]; `size` belongs to the kind `student`, the other sizes to the other kinds."""

    kind: str = "vit"  # vit, clip or student
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    patch: int = 16
    grid: int = 14
    size: str = "edge"


@dataclass
class DecoderSettings:
    """Holds the section [decoder]."""

    width: int = 512
    layers: int = 8
    heads: int = 16
    mlp: int = 2048


@dataclass
class FrozenSettings:
    """Holds the section [frozen]: the network whose features are reconstructed."""

    kind: str = "moco"  # one of FROZEN
    file: str = ""
    side_px: int = 112
    mean: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    std: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    tensors: list[str] = field(default_factory=lambda: [""])


@dataclass
class ContrastSettings:
    """Holds the section [contrast]."""

    projector_hidden: int = 4096
    projector_out: int = 256
    predictor_hidden: int = 4096
    temperature: float = 0.2


@dataclass
class TargetSettings:
    """Holds the section [target]: the momentum of the target encoder."""

    momentum: float = 0.99
    schedule: str = "constant"  # constant or cosine


@dataclass
class MaskingSettings:
    """Holds the section [masking]."""

    ratio: float = 0.75  # share of the patches that is removed


@dataclass
class InputSettings:
    """Holds the section [input]: how crops become images."""

    look: str = "whole"  # one of LOOKS
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    sources: list[str] = field(default_factory=lambda: [""])


@dataclass
class LossSettings:
    """Holds the section [loss]: the weights of the terms."""

    reconstruction: float = losses.MIM_FACTOR
    contrast: float = 1.0


@dataclass
class OptimizerSettings:
    """Holds the section [optimizer]: AdamW; `blr` is the rate of a batch of 256."""

    blr: float = 0.00015
    beta1: float = 0.9
    beta2: float = 0.95
    decay: float = 0.05
    clip: float = 0.0


@dataclass
class ScheduleSettings:
    """Holds the section [schedule], in epochs; `per_epoch` 0 counts the iterations of an epoch from the crops."""

    epochs: float = 16.0
    warm: float = 1.0
    per_epoch: int = 0


@dataclass
class TaskSettings:
    """Holds the section [task]."""

    batch: int = 64


@dataclass
class McfSettings(RecipeSettings):
    """Holds the settings of an MCF pre-training."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    frozen: FrozenSettings = field(default_factory=FrozenSettings)
    contrast: ContrastSettings = field(default_factory=ContrastSettings)
    target: TargetSettings = field(default_factory=TargetSettings)
    masking: MaskingSettings = field(default_factory=MaskingSettings)
    input: InputSettings = field(default_factory=InputSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    task: TaskSettings = field(default_factory=TaskSettings)


LOOKS = ("whole", "network", "student")
FROZEN = ("moco", "onnx", "pixels")
# Batches of whole images from which the student's batch statistics are estimated when its encoder is written.
STATISTICS_BATCHES = 8


def chosen(name, value, known):
    if value not in known:
        raise Refused(f"{name} is {value!r}, expected is one of {', '.join(known)}")
    return value


def encoder_config(e):
    kind = chosen("encoder.kind", e.kind, ("vit", "clip", "student"))
    if kind == "student":
        return ConvConfig(chosen("encoder.size", e.size, tuple(SIZES)), e.grid)
    shape = {k: getattr(e, k) for k in ("width", "layers", "heads", "mlp", "patch", "grid")}
    if e.width % e.heads or e.width % 4:
        raise Refused(f"encoder.width {e.width} is no multiple of 4 and of encoder.heads {e.heads}")
    return VitConfig(**shape) if kind == "vit" else ClipVitConfig(**shape, drop_path=0.0)


def momentum_at(iteration, iterations, m, schedule):
    """Returns the target's momentum: `constant` as in the official code, `cosine` from m to 1 as in its unused function."""
    return m if schedule == "constant" else 1 - (1 - m) * schedules.cosine(iteration / iterations)


class McfRecipe(Recipe):
    def __init__(self, settings, crops, world):
        self.settings, self.crops, self.world = settings, crops, world
        chosen("input.look", settings.input.look, LOOKS)
        chosen("target.schedule", settings.target.schedule, ("constant", "cosine"))
        if settings.stopping.every:
            raise Refused("stopping.every: pre-training has no labelled task to stop")
        if not 0.0 <= settings.masking.ratio < 1.0:
            raise Refused(f"masking.ratio {settings.masking.ratio} is not in [0, 1)")
        self.config = self.network_config()
        self.side = self.config.encoder.grid * self.config.encoder.patch
        try:
            self.model = Mcf(self.config, self.frozen_network()).to(world.device)
        except (ValueError, RuntimeError) as error:
            raise Refused(f"the sizes do not fit each other: {error}") from error
        synchronise(self.model, world)
        self.clip = settings.optimizer.clip or None
        self.rows = self.all_crops()
        s, batch = settings.schedule, settings.task.batch
        self.per_epoch = s.per_epoch or max(1, len(self.rows) // (batch * world.size))
        self.iterations = max(1, round(s.epochs * self.per_epoch))
        self.sampler = Sampler(np.arange(len(self.rows)), batch, self.iterations, world.size, settings.run.seed)

    def network_config(self):
        s = self.settings
        d, c = s.decoder, s.contrast
        return McfConfig(
            encoder_config(s.encoder), d.width, d.layers, d.heads, d.mlp, c.projector_hidden, c.projector_out, c.predictor_hidden,
            None, mask_ratio=s.masking.ratio, momentum=s.target.momentum, temperature=c.temperature,
        )  # fmt: skip

    def frozen_network(self):
        f, i = self.settings.frozen, self.settings.input
        if chosen("frozen.kind", f.kind, FROZEN) == "pixels":
            return frozen_networks.Patches(self.config.encoder.patch)
        if not f.file:
            raise Refused(f"frozen.file: kind {f.kind} needs a file (or set frozen.kind to pixels, which needs none)")
        if f.kind == "moco":
            return frozen_networks.moco(f.file)
        return frozen_networks.OnnxMaps(f.file, f.side_px, f.mean, f.std, [t for t in f.tensors if t], given=(i.mean, i.std))

    def all_crops(self):
        """Returns [(source, row)] of every crop: there is no label to hold out."""
        wanted = [s for s in self.settings.input.sources if s] or list(self.crops.pictures)
        unknown = [s for s in wanted if s not in self.crops.pictures]
        if unknown:
            raise Refused(f"input.sources names {', '.join(unknown)}: the data have {', '.join(self.crops.pictures)}")
        return [(source, row) for source in wanted for row in range(len(self.crops.pictures[source]))]

    def picture(self, number, rng):
        """Returns one image uint8 [3, side, side]: the crop mirrored half of the time, or as the student's training shows it."""
        source, row = self.rows[number]
        crop = np.asarray(self.crops.pictures[source][row])
        look = self.settings.input.look
        if look == "student":
            return sample(rng, crop, self.side)[0]
        rgb = np.ascontiguousarray(crop[:, ::-1, :3] if rng.random() < 0.5 else crop[..., :3])
        if look == "network":
            return network_image(rgb, self.side)
        return cv2.resize(rgb, (self.side, self.side), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)

    def batch(self, iteration):
        seed, places = self.settings.run.seed, self.config.encoder.grid**2
        images, noise = [], []
        for place, number in self.sampler.draw(iteration, self.world.rank):
            # The place in the whole run is the seed: several processes draw what one with all their samples would draw.
            rng = np.random.default_rng((seed, place))
            noise.append(rng.random((2, places), np.float32))
            images.append(self.picture(number, rng))
        noise, t = np.stack(noise), self.settings.target
        momentum = momentum_at(iteration, self.iterations, t.momentum, t.schedule)
        return {"image": np.stack(images), "noise_online": noise[:, 0], "noise_target": noise[:, 1], "momentum": np.array([momentum])}

    def normal(self, image):
        i = self.settings.input
        mean, std = (torch.tensor(getattr(i, k), device=image.device).reshape(1, 3, 1, 1) for k in ("mean", "std"))
        return (image.float() / 255 - mean) / std

    def losses(self, model, batch):
        out = model(self.normal(batch["image"]), batch["noise_online"], batch["noise_target"], float(batch["momentum"][0]))
        with torch.no_grad():
            keys = self.world.gathered(out["key"].float())
        return {
            "reconstruction": losses.perceptual(out["features_pseudo"], out["features_real"]),
            "contrast": losses.contrastive(out["query"].float(), keys, self.config.temperature, self.world.rank),
        }

    def total(self, terms):
        return sum(getattr(self.settings.loss, k) * v for k, v in terms.items())

    def optimizer(self):
        o = self.settings.optimizer
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if (p.ndim > 1) == wide], "multiplier": 1.0, "weight_decay": o.decay if wide else 0.0}
            for wide in (True, False)
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=(o.beta1, o.beta2))

    def rate(self, iteration, multiplier):
        s = self.settings.schedule
        peak = schedules.mae_peak(self.settings.optimizer.blr, self.settings.task.batch * self.world.size)
        return multiplier * schedules.mae(iteration / self.per_epoch, s.epochs, peak, s.warm)

    def official(self):
        """Returns the encoder in the form of its readers.

        The ViT becomes an MCF checkpoint without its frozen network, which `import` reads; Faceptor's encoder becomes a FaRL
        file; the student's becomes what `student.pretrained_encoder` reads.
        """
        online = self.model.online_encoder
        if isinstance(self.config.encoder, ConvConfig):
            return {"size": self.config.encoder.size, "px": self.side, "encoder": self.whole_images(online.body).state_dict()}
        if isinstance(self.config.encoder, ClipVitConfig):
            return {"state_dict": {f"visual.{k}": v for k, v in online.visual.state_dict().items()}}
        state = {k: v for k, v in self.model.state_dict().items() if not k.startswith("perceptual_loss.")}
        args = argparse.Namespace(mask_ratio=self.config.mask_ratio, blr=self.settings.optimizer.blr, batch_size=self.settings.task.batch)
        return {"model": state, "optimizer": {}, "epoch": self.settings.schedule.epochs, "scaler": {}, "args": args}

    def whole_images(self, body):
        """Returns a copy of the student's encoder whose batch statistics come from unmasked images of this process."""
        size = SIZES[self.config.encoder.size]
        made = StudentEncoder(size["widths"], size["blocks"]).to(self.world.device)
        made.load_state_dict(copy.deepcopy(body.state_dict()))
        count = min(STATISTICS_BATCHES, self.iterations)
        return reestimate(made, (self.normal(torch.from_numpy(self.batch(i)["image"]).to(self.world.device)) for i in range(count)))
