"""Runs a recipe: the trainings of a network one after the other, and what lies between them, from one TOML file.

    python -m faceptor_models.student.recipe recipes/edge.toml --faces ../../shared/faces --work WORK [--stage NAME] [--list] [--dry-run]

A recipe has one [[stage]] after the other: `name`, `what` (shrink, train, pseudo-label, release, copy or export) and the options of
that module by their names; faceptor_models/student/stages.py lists the further keys. [defaults] has options of every training, and
[shared.NAME] options that a training takes by `use = ["NAME"]`. In paths {work} is --work; relative paths are those of the working
directory, which is models/. A recipe that was cut short goes on where it stopped: trainings at their end and masks that exist are kept.
"""

import argparse
import difflib
import gc
import importlib
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import torch

from faceptor_models.common import settings as files
from faceptor_models.common.errors import Refused

from . import train
from .options import TrainingOptions, add_arguments
from .stages import KINDS, PLACES, Kind, Settings, Stage, Table, TrainKeys

PACKAGE = "faceptor_models.student"
TRAIN_KEYS = list(TrainKeys.__dataclass_fields__)


class RefusingParser(argparse.ArgumentParser):
    """Raises `Refused` for wrong arguments, so that the message can name the stage."""

    def error(self, message: str) -> Any:
        raise Refused(message)


def refuse_unknown(name: str, names: Iterable[str], what: str) -> None:
    """Refuses a name that is none of `names`, and suggests the nearest one."""
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise Refused(f"{what} {name!r} is unknown: " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(names) or 'none'}"))


def checked(where: str, table: Any, kind: Kind, further: list[str]) -> tuple[Table, TrainKeys]:
    """Checks names and types of a table; returns (options of the module with `shares_with_more`, the `further` keys)."""
    try:
        if not isinstance(table, dict):
            raise Refused(f"{table!r} is no table")
        names, own = kind.names(), further
        for key in table:
            refuse_unknown(key, names + own, "key")
        keys = files.from_table(TrainKeys, {key: value for key, value in table.items() if key in own})
        refuse_unknown(keys.train_args, PLACES, "train_args")
        options = {key: value for key, value in table.items() if key in names}
        needed = dict.fromkeys(kind.required(), "")
        files.from_table(kind.options, needed | options)
        return options | ({"shares_with_more": keys.shares_with_more} if keys.shares_with_more else {}), keys
    except Refused as error:
        raise Refused(f"{where}: {error}") from None


def layered(under: Table, over: Table) -> Table:
    """Lays one table of options over another: `more` is added, everything else replaced; `shares` replace `shares_with_more` too."""
    out = {key: value for key, value in under.items() if key != "shares_with_more" or "shares" not in over}
    return out | over | ({"more": [*under["more"], *over["more"]]} if "more" in under and "more" in over else {})


def read_recipe(path: str | Path, changes: Iterable[str] = ()) -> list[Stage]:
    """Returns the checked stages of a recipe; `changes` are texts STAGE.KEY=VALUE."""
    held = files.read(path)
    for key in held:
        try:
            refuse_unknown(key, ["defaults", "shared", "stage"], "table")
        except Refused as error:
            raise Refused(f"{path}: {error}") from None
    tables = held.get("stage", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise Refused(f"{path} has no [[stage]]")
    kind = KINDS["train"]
    only = ["shares_with_more"]
    defaults, _ = checked(f"{path}: [defaults]", held.get("defaults", {}), kind, only)
    groups = held.get("shared", {})
    if not isinstance(groups, dict):
        raise Refused(f"{path}: shared is {groups!r}, expected are tables [shared.NAME]")
    shared = {name: checked(f"{path}: [shared.{name}]", table, kind, only)[0] for name, table in groups.items()}
    stages: list[Stage] = []
    names = [str(table.get("name", "")) for table in tables]
    over: Table = {}
    for change in changes:
        over = files.merged(over, files.nested(change))
    for name, values in over.items():
        refuse_unknown(name, names, f"{path}: --set: stage")
        if not isinstance(values, dict):
            raise Refused(f"--set {name}={values!r} is not STAGE.KEY=VALUE")
    for number, (name, table) in enumerate(zip(names, tables), 1):
        if not name or names.count(name) > 1:
            raise Refused(f"{path}: stage {number} needs a name of its own" + (f", and {name!r} is taken" if name else ""))
        stages.append(one_stage(f"{path}: stage {name}", files.merged(table, over.get(name, {})), defaults, shared))
    return stages


def one_stage(where: str, table: Table, defaults: Table, shared: dict[str, Table]) -> Stage:
    """Checks a [[stage]] and lays it over what it shares with others."""
    name, what = str(table.pop("name")), str(table.pop("what", ""))
    refuse_unknown(what, KINDS, f"{where}: what")
    kind = KINDS[what]
    own, keys = checked(where, table, kind, TRAIN_KEYS if kind.options is TrainingOptions else [])
    options: Table = {}
    for other in keys.use:
        refuse_unknown(other, shared, f"{where}: use")
        options = layered(options, shared[other])
    options = layered(options, own)
    missing = [key for key in kind.required() if not options.get(key)]
    if missing:
        raise Refused(f"{where}: {', '.join(missing)} must be given")
    under: Table = {}
    if kind.options is TrainingOptions and keys.defaults:
        # `more` is added; of everything else the stage's own value is the last word.
        under = {key: value for key, value in defaults.items() if key == "more" or key not in options}
    return Stage(where, name, kind, options, under, keys)


def training_options(stage: Stage, settings: Settings) -> TrainingOptions:
    """Returns the options of a training."""
    parser = RefusingParser(add_help=False)
    add_arguments(parser)
    try:
        return TrainingOptions(**vars(parser.parse_args(stage.arguments(settings))))
    except Refused as error:
        raise Refused(f"{stage.where}: {error}") from None


def finished(stage: Stage, settings: Settings) -> bool:
    """Returns true where the stage's result exists and is kept."""
    if stage.kind.options is TrainingOptions:
        return bool(train.ended(training_options(stage, settings)))
    return stage.kind.kept and stage.result(settings).exists()


def check_inputs(stage: Stage, stages: list[Stage], settings: Settings) -> None:
    """Refuses a stage that reads a file that does not exist, and names the stage before it that makes the file."""
    if stage.kind.options is TrainingOptions:
        values = vars(training_options(stage, settings))
    else:
        values = {key: stage.expanded(value, settings) for key, value in stage.own.items()}
    for option, path in stage.inputs(settings, values.get):
        if not path.exists():
            makers = [other.name for other in stages[: stages.index(stage)] if other.result(settings) == path]
            remedy = f"stage {makers[-1]} makes it (--stage {makers[-1]})" if makers else "no earlier stage makes it"
            raise Refused(f"{stage.where}: {option}: {path} does not exist; {remedy}")


def command(stage: Stage, settings: Settings) -> str:
    """Returns the shell command that the stage stands for."""
    words = ["python", "-m", f"{PACKAGE}.{stage.kind.module}"] if stage.kind.module else ["cp"]
    line = shlex.join(words + stage.arguments(settings))
    return f"test -e {shlex.quote(str(stage.result(settings)))} || {line}" if stage.kind.kept else line


def run(stage: Stage, settings: Settings) -> None:
    """Runs one stage in this process."""
    if stage.kind.options is TrainingOptions:
        train.train(training_options(stage, settings))
    elif stage.kind.module:
        importlib.import_module(f"{PACKAGE}.{stage.kind.module}").main(stage.arguments(settings))
    else:
        source, target = stage.arguments(settings)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def run_all(chosen: list[Stage], stages: list[Stage], settings: Settings) -> None:
    """Runs the chosen stages in their order, except those that have finished."""
    threads = torch.get_num_threads()
    # The trainings fork their loaders: OpenCV's threads in this process would leave their locks in the children.
    cv2.setNumThreads(0)
    for number, stage in enumerate(chosen, 1):
        if finished(stage, settings):
            print(f"{number}/{len(chosen)} {stage.name}: {stage.result(settings)} is finished", flush=True)
            continue
        check_inputs(stage, stages, settings)
        print(f"{number}/{len(chosen)} {stage.name}: {command(stage, settings)}", flush=True)
        # An earlier stage may have changed it.
        torch.set_num_threads(threads)
        run(stage, settings)
        gc.collect()


def listing(stages: list[Stage], settings: Settings) -> str:
    """Returns a table of the stages: name, kind, result, and `finished` where it would be kept."""
    kinds = {id(kind): what for what, kind in KINDS.items()}
    rows = [(s.name, kinds[id(s.kind)], str(s.result(settings)), "finished" if finished(s, settings) else "") for s in stages]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip() for row in rows)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("recipe", metavar="FILE", help="recipes/edge.toml or recipes/nano.toml")
    p.add_argument("--faces", default="../../shared/faces", help="the research crops (faces/README.md)")
    p.add_argument("--work", required=True, help="folder of the decoded crops, checkpoints and masks, outside the checkout")
    p.add_argument("--more", action="append", default=[], metavar="DIR", help="further packed crops (faceptor-models prepare --packed)")
    p.add_argument("--minutes", type=float, help="ends the training with `clock = true` after this wall time in place of its steps")
    p.add_argument("--threads", type=int, default=2, help="of the trainings")
    p.add_argument(
        "--train-args", type=shlex.split, default=[], metavar="ARGS", help="options of student.train in place of [defaults]: --train-args='..'"
    )
    p.add_argument("--set", action="append", default=[], dest="changes", metavar="STAGE.KEY=VALUE", help="replaces a value of the recipe")
    p.add_argument("--stage", action="append", default=[], metavar="NAME", help="runs only this stage; may be given several times")
    p.add_argument("--list", action="store_true", help="lists the stages, and which have finished")
    p.add_argument("--dry-run", action="store_true", help="prints the command of every stage and runs none")
    return p.parse_args(arguments)


def start(args: argparse.Namespace) -> None:
    """Lists, prints or runs the stages that the command line asks for."""
    stages = read_recipe(args.recipe, args.changes)
    for name in args.stage:
        refuse_unknown(name, [stage.name for stage in stages], f"{args.recipe}: stage")
    if args.minutes and not any(stage.keys.clock for stage in stages):
        raise Refused(f"{args.recipe}: --minutes: no stage has clock = true")
    settings = Settings(args.faces, args.work, args.more, args.threads, args.minutes, args.train_args)
    chosen = [stage for stage in stages if not args.stage or stage.name in args.stage]
    # Wrong values are refused before the first stage runs.
    for stage in stages:
        if stage.kind.options is TrainingOptions:
            training_options(stage, settings)
        else:
            stage.arguments(settings)
    if args.list:
        print(listing(chosen, settings))
    elif args.dry_run:
        print("\n".join(command(stage, settings) for stage in chosen))
    else:
        run_all(chosen, stages, settings)


def main(arguments: list[str] | None = None) -> int:
    try:
        start(parse_args(arguments))
    except (Refused, OSError) as error:
        print(f"recipe: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
