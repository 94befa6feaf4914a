"""Reads the settings of the tower's trainings from recipes/recognition.toml."""

from dataclasses import dataclass, field

from faceptor_models.common import settings as files
from faceptor_models.common.errors import Refused

from . import losses
from .sizes import INPUT
from .tower import SIZES, STRIDE


@dataclass
class TowerSettings:
    """Holds the settings of one training, which counts samples: how many a machine makes in a night differs by far."""

    samples: int = 3_000_000
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    warm: int = 20_000  # samples of the rate's rise
    fall_from: float = 0.7  # share of the run after which the rate falls
    small_px: int = 80  # input side of the first part
    full_from: float = 0.5  # share of the run after which the full input is used
    bank: int = 4096  # further faces among which each is named
    seed: int = 2048
    weights: dict[str, float] = field(default_factory=dict)  # of the loss terms, in place of losses.WEIGHTS
    weigh: dict[str, float] = field(default_factory=dict)  # how often faces of a source come, 1 where none is given

    @property
    def steps(self):
        """Returns the number of steps of the whole run."""
        return max(1, self.samples // self.batch)

    def term_weights(self):
        """Returns the weight of every loss term."""
        return losses.WEIGHTS | self.weights

    def rate_at(self, step):
        """Returns the learning rate: it rises, stays, and falls linearly to 1 % of itself at the end."""
        rise = min(1.0, (step + 1) * self.batch / max(1, self.warm))
        fall = (step / self.steps - self.fall_from) / max(1e-9, 1 - self.fall_from)
        return self.rate * rise * (1 - 0.99 * min(1.0, max(0.0, fall)))

    def px_at(self, step):
        """Returns the input's side at a step."""
        return INPUT if step >= self.full_from * self.steps else self.small_px


def read(path, size, changes=()):
    """Returns the settings of a size; `changes` are texts KEY=VALUE."""
    held = files.read(path)
    if size not in held or size not in SIZES:
        raise Refused(f"{path} has no table [{size}]: it has {', '.join(held)}")
    table = held[size]
    for change in changes:
        table = files.merged(table, files.nested(change))
    made = files.from_table(TowerSettings, table, f"{size}.")
    unknown = [name for name in made.weights if name not in losses.WEIGHTS]
    if unknown:
        raise Refused(f"{path}: unknown loss term {', '.join(unknown)}; the terms are {', '.join(losses.WEIGHTS)}")
    if made.small_px % STRIDE or not STRIDE <= made.small_px <= INPUT:
        raise Refused(f"{path}: small_px is {made.small_px}, expected is a multiple of {STRIDE} up to {INPUT}")
    return made
