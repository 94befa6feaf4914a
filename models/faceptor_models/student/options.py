"""Defines the options of the student's training once: as a dataclass, and as the arguments of `student.train`."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from faceptor_models.common import geometry
from faceptor_models.common.early_stopping import StoppingSettings

from . import losses
from .layout import LAYOUTS
from .network import SIZES

RULE = StoppingSettings()


def shares(text: str) -> dict[str, int]:
    """Parses SOURCE=SAMPLES,..."""
    try:
        return {name: int(count) for name, count in (item.split("=") for item in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not SOURCE=SAMPLES,...") from None


def coefficients(text: str) -> dict[str, float]:
    """Parses NAME=NUMBER,..."""
    try:
        return {name: float(value) for name, value in (item.split("=") for item in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER,...") from None


def term_weights(text: str) -> dict[str, float]:
    """Parses TERM=W,... and refuses a term that the loss does not have."""
    given = coefficients(text)
    unknown = [name for name in given if name not in losses.WEIGHTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no loss term {', '.join(unknown)}: {', '.join(losses.WEIGHTS)}")
    return given


def names(text: str) -> list[str]:
    """Parses PART,..."""
    return text.split(",")


def default_device() -> str:
    """Returns `cuda` where PyTorch finds it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def option(default: Any, help: str | None = None, **more: Any) -> Any:
    """Makes a field whose default, help and further argparse settings also make the argument of that name.

    `default` may be a function that makes it. A field without `required` that is False by default becomes a flag.
    """
    metadata = {"help": help, **more}
    return field(default_factory=default, metadata=metadata) if callable(default) else field(default=default, metadata=metadata)


@dataclass
class TrainingOptions:
    """Holds the options of one training run of the student; `add_arguments` gives each a command-line argument."""

    faces: str = option("../../shared/faces", "the research crops (faces/README.md)")
    cache: str = option("", "folder for the decoded crops, about 5 GB", required=True)
    more: list[str] = option(list, "further packed crops with labels (faceptor-models prepare --packed)", action="append", metavar="DIR")
    mapped: bool = option(False, "leave the crops on disk: runs side by side share the memory that caches them")
    shares: dict[str, int] | None = option(None, "samples of these sources in a batch of 128", type=shares, metavar="SOURCE=N,..")
    weigh: dict[str, float] = option(dict, "weights of loss terms other than those of losses.py", type=term_weights, metavar="TERM=W,..")
    out: str = option("", "folder for checkpoints and the log, outside the checkout", required=True)
    size: str = option("edge", choices=SIZES)
    levels: int | None = option(None, "number of the encoder's last levels in the memory, other than the size's", type=int, choices=[1, 2, 3])
    steps: int = option(9000)
    minutes: float | None = option(None, "end after this wall time: the schedule follows the clock instead of the steps", type=float)
    batch: int = option(128)
    rate: float = option(2e-3)
    decay: float = option(0.05)
    small_px: int = option(80, "input side of the first part of the run")
    full_px: int = option(96)
    full_from: float = option(0.6, "share of the run after which the full input is used")
    light: float = option(0.0, "share of lightly augmented samples: good photos, aligned as a detector does it", metavar="SHARE")
    warp: float = option(
        lambda: geometry.WARP_LINEAR, "the fovea's linear part, 1 a uniform grid: for trials alone, exports have 0.5", type=float, metavar="A"
    )
    landmark_limit: int = option(32, "faces of a batch of 128 that learn landmarks")
    quantize_from: float = option(1.0, "share of the run after which the network trains with the export's rounding (0: all of it)")
    seed: int = option(2048)
    device: str = option(default_device)
    precision: str = option("auto", "of products; auto: bf16 where the device is made for it", choices=["auto", "bf16", "f32"])
    layout: str = option(
        "precision",
        "of products and maps; precision: that of --precision, contiguous maps; auto: the fastest by measuring the encoder at the start",
        choices=["precision", "auto", *LAYOUTS],
    )
    threads: int = option(2)
    workers: int = option(1)
    save_minutes: float = option(4.0)
    resume: bool = option(False)
    start_from: str | None = option(None, "weights of an earlier run to begin with (a checkpoint's average)")
    encoder: str | None = option(
        None, "an encoder to begin with: of `faceptor-models pretrain` (model.pth), or of a network's weights", metavar="FILE"
    )
    hold_out: float = option(0.0, "share of the crops kept for validation; early stopping and cycles take 0.05", metavar="SHARE")
    stop_every: int = option(0, "check every task after so many steps and stop it when it overfits", metavar="STEPS")
    stop_main: str = option("landmarks", "the task that never stops")
    stop_window: int = option(RULE.window, "checks in the trend, k of the formula")
    stop_threshold: float = option(RULE.threshold, "epsilon of the formula")
    stop_guard: str = option(RULE.guard, "a trend without a positive denominator: skip or infinite")
    stop_patience: int = option(RULE.patience, "checks in a row above the threshold")
    stop_minimum: str = option(RULE.minimum, "least loss so far: of training or validation")
    stop_coefficients: dict[str, float] = option(dict, "importance of the tasks; 1 where none is given", type=coefficients, metavar="TASK=N,..")
    poses: bool = option(False, "turned faces of w300 come as often as frontal ones (student.poses)")
    identities: bool = option(False, "a margin between CelebA's people beside the embedding, in training only (student.identities)")
    inner_maps: str | None = option(None, "a landmark network's inner maps of w300 (student.inner_maps), learned in training only", metavar="FILE")
    tutor: str | None = option(
        None, "weights of a network of ours whose answers it learns beside the labels, in training only (student.tutor)", metavar="FILE"
    )
    only: list[str] = option(
        list, "parts of the network that learn, by the first names of its weights; the others keep their weights", type=names, metavar="PART,.."
    )
    edges: bool = option(False, "edge heads and edge attention for the parsing, in training only")
    regulate_start: int = option(0, "first cycle's end of self-regulation (needs --edges)", metavar="STEP")
    regulate_cycle: int = option(0, "length of the cycles", metavar="STEPS")
    regulate_batches: int = option(16, "batches that estimate the average's statistics", metavar="N")
    held_batches: int = option(4, "held-out batches of a check of the tasks and of a cycle's end", metavar="N")

    def stopping(self) -> StoppingSettings:
        """Returns the section [stopping] that the options of early stopping stand for."""
        return StoppingSettings(**{f.name: getattr(self, f"stop_{f.name}") for f in fields(StoppingSettings)})


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Adds an argument for every option."""
    for f in fields(TrainingOptions):
        flag, more = "--" + f.name.replace("_", "-"), dict(f.metadata)
        default = f.default_factory() if callable(f.default_factory) else f.default
        if default is False:
            p.add_argument(flag, action="store_true", **more)
        elif more.get("required"):
            p.add_argument(flag, **more)
        else:
            kind: Callable[[str], Any] | None = more.pop("type", type(default) if isinstance(default, int | float) else None)
            p.add_argument(flag, default=default, **({"type": kind} if kind else {}), **more)


def parsed(arguments: list[str] | None = None, description: str | None = None) -> TrainingOptions:
    """Parses a command line, by default the process's own."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    return TrainingOptions(**vars(p.parse_args(arguments)))
