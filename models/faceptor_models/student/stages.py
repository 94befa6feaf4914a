"""Defines the kinds of stages that a recipe may have, and the command line that a stage stands for."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from faceptor_models.common.errors import Refused

from .options import TrainingOptions

Table = dict[str, Any]
# Steps that a stage with `clock = true` never reaches where `--minutes` ends it.
ENDLESS = 1_000_000
# The command line of `student.recipe` gives these options of a training; a recipe may not.
GIVEN = ("faces", "cache", "threads", "resume")
RENAMED = {"network": "name"}
PLACES = ("before", "after", "none")


@dataclass
class ShrinkOptions:
    """Holds the options of `student.shrink`."""

    weights: str
    out: str
    size: str = "nano"
    images: int = 1000


@dataclass
class PseudoLabelOptions:
    """Holds the options of `student.pseudo`."""

    weights: str
    out: str
    source: str
    said: str | None = None
    count: int = 3000
    views: int = 4
    seed: int = 3


@dataclass
class ReleaseOptions:
    """Holds the options of `student.release`."""

    run: str
    out: str
    continued: bool = False
    blend: float = 1.0
    blend_with: str | None = None


@dataclass
class CopyOptions:
    """Holds the two files of a copy."""

    source: str
    out: str


@dataclass
class ExportOptions:
    """Holds the options of `student.export`."""

    weights: str
    out: str
    release: str
    network: str = "faceptor-edge"  # `--name`; `name` is the stage's


@dataclass
class TrainKeys:
    """Holds the keys of a training that are no options of `student.train`."""

    use: list[str] = field(default_factory=list)  # tables [shared.NAME], of which later ones win
    defaults: bool = True  # false: the stage does without [defaults]
    clock: bool = False  # `--minutes` ends this stage in place of its steps
    train_args: str = PLACES[0]  # place of `--train-args` relative to the stage's own options, which win after it
    shares_with_more: dict[str, int] = field(default_factory=dict)  # `shares` where folders of further crops are given


@dataclass(frozen=True)
class Kind:
    """Describes one kind of stage."""

    options: type
    module: str = ""  # below `faceptor_models.student`; a copy has none
    positional: tuple[str, ...] = ("weights",)
    inputs: dict[str, str] = field(default_factory=lambda: {"weights": ""})  # {option: file that must exist below its path}
    makes: str = ""  # the file below `out` that later stages read
    crops: bool = False  # takes --faces and --cache
    kept: bool = False  # a result that exists is kept

    def names(self) -> list[str]:
        """Returns the options that a recipe may give."""
        return [f.name for f in fields(self.options) if self.options is not TrainingOptions or f.name not in GIVEN]

    def required(self) -> list[str]:
        """Returns the options that a recipe must give."""
        missing = dataclasses.MISSING
        needed = (f for f in fields(self.options) if f.metadata.get("required") or (f.default is missing and f.default_factory is missing))
        return [f.name for f in needed if f.name not in GIVEN]


START = {"start_from": "", "encoder": "", "tutor": "", "inner_maps": "", "more": "labels.npz"}
KINDS = {
    "shrink": Kind(ShrinkOptions, "shrink", crops=True),
    "train": Kind(TrainingOptions, "train", positional=(), inputs=START, makes="checkpoint.pt", crops=True),
    "pseudo-label": Kind(PseudoLabelOptions, "pseudo", inputs={"weights": "", "said": ""}, makes="labels.npz", crops=True, kept=True),
    "release": Kind(ReleaseOptions, "release", ("run",), {"run": "checkpoint.pt", "blend_with": ""}, "weights.pt"),
    "copy": Kind(CopyOptions, "", ("source", "out"), {"source": ""}),
    "export": Kind(ExportOptions, "export", makes="manifest.toml", crops=True),
}


@dataclass(frozen=True)
class Settings:
    """Holds what the command line gives every stage."""

    faces: str
    work: str
    more: list[str] = field(default_factory=list)
    threads: int = 2
    minutes: float | None = None
    train_args: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """Holds one checked stage: its options as the recipe has them, and those of [defaults], which `--train-args` may replace."""

    where: str  # file and stage, for messages
    name: str
    kind: Kind
    own: Table
    under: Table = field(default_factory=dict)
    keys: TrainKeys = field(default_factory=TrainKeys)

    def arguments(self, settings: Settings) -> list[str]:
        """Returns the arguments of the stage's module, or the two files of a copy."""
        own = self.with_crops(self.own, settings)
        given = [str(self.expanded(own[name], settings)) for name in self.kind.positional]
        if self.kind.crops:
            given += ["--faces", settings.faces, "--cache", f"{settings.work}/cache"]
        rest = {name: value for name, value in own.items() if name not in self.kind.positional}
        if self.kind.options is not TrainingOptions:
            return given + list(self.flags(rest, settings))
        if self.keys.clock and settings.minutes:
            rest |= {"steps": ENDLESS, "minutes": settings.minutes}
        # A trial may replace the steps of every stage by `--train-args`, so these come before it.
        first: Table = {name: rest.pop(name) for name in ("out", "steps", "minutes", "seed") if name in rest}
        given += [*self.flags(first, settings), *self.flags(self.with_crops(self.under, settings), settings)]
        given += ["--threads", str(settings.threads), "--resume"]
        own_flags = list(self.flags(rest, settings))
        parts = {"before": settings.train_args + own_flags, "after": own_flags + settings.train_args, "none": own_flags}
        return given + parts[self.keys.train_args]

    def with_crops(self, table: Table, settings: Settings) -> Table:
        """Returns a table without `shares_with_more`, which stands in for `shares` where further crops are given."""
        out = dict(table)
        shares = out.pop("shares_with_more", None)
        return out | {"shares": shares} if shares and settings.more else out

    def flags(self, table: Table, settings: Settings) -> Iterator[str]:
        """Yields the arguments of a table's options."""
        for name, value in table.items():
            flag, value = "--" + RENAMED.get(name, name).replace("_", "-"), self.expanded(value, settings)
            if name == "more":
                yield from (word for folder in value for word in (flag, folder))
            elif isinstance(value, bool):
                yield from [flag] if value else []
            elif isinstance(value, dict):
                yield from (flag, ",".join(f"{key}={one}" for key, one in value.items()))
            else:
                yield from (flag, ",".join(value) if isinstance(value, list) else str(value))

    def expanded(self, value: Any, settings: Settings) -> Any:
        """Replaces {work} in texts, and an item {more} of a list by the folders of further crops."""
        if isinstance(value, list):
            return [one for item in value for one in (settings.more if item == "{more}" else [self.expanded(item, settings)])]
        if not isinstance(value, str):
            return value

        def replaced(match: re.Match[str]) -> str:
            if match[0] != "{work}":
                raise Refused(f"{self.where}: {value!r} has {match[0]}: known is {{work}}, and {{more}} as an item of `more`")
            return settings.work

        return re.sub(r"\{.*?\}", replaced, value)

    def inputs(self, settings: Settings, options: Callable[[str], Any]) -> Iterator[tuple[str, Path]]:
        """Yields (option, file) of the files that the stage reads, besides the research crops; `options` looks values up."""
        for name, below in self.kind.inputs.items():
            value = options(name)
            for path in value if isinstance(value, list) else [value] if value else []:
                yield name, Path(path) / below

    def result(self, settings: Settings) -> Path:
        """Returns the file that the stage makes for later ones."""
        return Path(self.expanded(self.own["out"], settings)) / self.kind.makes
