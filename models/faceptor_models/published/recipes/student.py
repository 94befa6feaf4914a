"""Trains our own network by a settings file: `student.train` with its options by name."""

import dataclasses
from dataclasses import dataclass, field

from faceptor_models.common.early_stopping import StoppingSettings
from faceptor_models.common.errors import Refused
from faceptor_models.common.settings import from_table
from faceptor_models.student import train as student
from faceptor_models.student.options import TrainingOptions

# Options that are the command's own, or that belong to a section of their own.
ELSEWHERE = ("faces", "cache", "more", "out", "resume", "device", "seed", "edges", "shares", "minutes")
# The section [student]: every other option of the training.
StudentSection = dataclasses.make_dataclass(
    "StudentSection",
    [
        (f.name, f.type, field(default=f.default, default_factory=f.default_factory))
        for f in dataclasses.fields(TrainingOptions)
        if f.name not in ELSEWHERE and not f.name.startswith(("stop_", "regulate_"))
    ],
)


@dataclass
class StudentRunSettings:
    """Holds the section [run]."""

    recipe: str = "student"
    seed: int = 2048


@dataclass
class RegulationSettings:
    """Holds the section [regulation]: edges and self-regulation of the parsing; `start` and `cycle` count steps."""

    edges: bool = False
    start: int = 0
    cycle: int = 0
    batches: int = 16


@dataclass
class StudentSettings:
    """Holds the settings of a training of our own network."""

    run: StudentRunSettings = field(default_factory=StudentRunSettings)
    student: StudentSection = field(default_factory=StudentSection)
    stopping: StoppingSettings = field(default_factory=lambda: StoppingSettings(main="landmarks"))
    regulation: RegulationSettings = field(default_factory=RegulationSettings)


def checked(held):
    """Builds the settings from a file's tables."""
    # Only the student's main task has a name of its own.
    return from_table(StudentSettings, held | {"stopping": {"main": "landmarks"} | held.get("stopping", {})})


def options(settings, args):
    """Returns the training options of settings and command line."""
    section = {f.name: getattr(settings.student, f.name) for f in dataclasses.fields(settings.student)}
    section |= {name: section[name] or None for name in ("start_from", "encoder")}
    rule = {f"stop_{f.name}": getattr(settings.stopping, f.name) for f in dataclasses.fields(settings.stopping)}
    cycles = {f"regulate_{name}": getattr(settings.regulation, name) for name in ("start", "cycle", "batches")}
    own = {"faces": str(args.data), "cache": str(args.cache or f"{args.out}/cache"), "out": args.out, "device": args.device}
    own |= {"more": args.more, "resume": args.resume, "seed": settings.run.seed, "edges": settings.regulation.edges}
    return TrainingOptions(**section, **rule, **cycles, **own)


def train(settings, args):
    """Runs the training."""
    if args.until is not None:
        raise Refused("--until is not for the student: set student.steps")
    student.train(options(settings, args))
    return 0
