"""Tests the recipes of the shipped networks against the commands of the Makefile that trained them, and the runner of recipes."""

import argparse
import dataclasses
import importlib
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

from faceptor_models.common.errors import Refused
from faceptor_models.common.paths import MODELS
from faceptor_models.student import recipe, release, train
from faceptor_models.student.options import TrainingOptions, parsed

GOLDEN = Path(__file__).parent / "golden"
RECIPES = MODELS / "recipes"
CASES = sorted(path.stem for path in GOLDEN.glob("*.txt"))


def effect(line):
    """Returns what a command does: (file whose existence skips it, module, options by name, in whatever order they were given)."""
    kept, _, line = line.removeprefix("test -e ").rpartition(" || ")
    words = shlex.split(line.removeprefix("python -m faceptor_models."))
    module, arguments = words[0], words[1:]
    if module == "student.train":
        return kept, module, dataclasses.asdict(parsed(arguments))
    options, positional = {}, []
    while arguments:
        word = arguments.pop(0)
        if not word.startswith("--"):
            positional.append(word)
        else:
            assert word not in options
            options[word] = arguments.pop(0) if arguments and not arguments[0].startswith("--") else True
    return kept, module, positional, options


def printed(capsys, *arguments):
    assert recipe.main([*map(str, arguments), "--faces", "FACES", "--work", "WORK"]) == 0
    return capsys.readouterr().out.splitlines()


def run_make(words):
    """Runs `make` without the variables of a `make` that runs the tests."""
    return subprocess.run(words, cwd=MODELS, env={"PATH": os.environ["PATH"], "HOME": "HOME"}, capture_output=True, text=True)


def runner_of(make):
    """Returns the arguments that the Makefile gives the runner for a `make` command."""
    done = run_make([*shlex.split(make), "PYTHON=python"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", " ").splitlines()
    (line,) = (line for line in lines if line.startswith("python -m faceptor_models.student.recipe "))
    return shlex.split(line)[3:]


@pytest.mark.parametrize("case", CASES)
def test_make_runs_the_commands_that_trained_the_network(case, capsys, monkeypatch):
    """Gives the same `make` command as the old Makefile got, and compares the commands that come of it."""
    title, *expected = (GOLDEN / f"{case}.txt").read_text().splitlines()
    arguments = runner_of(title.partition(": ")[2])
    monkeypatch.chdir(MODELS)
    assert recipe.main([*arguments, "--dry-run"]) == 0
    found = capsys.readouterr().out.splitlines()
    assert len(expected) == (29 if case.startswith("edge") else 21) and len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert effect(ours) == effect(theirs), ours


def test_there_are_commands_with_and_without_further_crops_and_with_other_options():
    assert CASES == ["edge", "edge_more", "edge_options", "nano", "nano_more", "nano_options"]


def test_a_variable_of_the_old_makefile_is_not_ignored_in_silence():
    done = run_make(["make", "-n", "student", "MORE_STEPS=3"])
    assert done.returncode != 0 and "MORE_STEPS: no longer a variable: see recipes/" in done.stderr
    assert "--set first.steps=3".split() == runner_of("make -n student TRAIN_STEPS=3 RECIPE_ARGS=--list")[1:3]


def test_the_comparison_of_commands_sees_every_difference():
    for line in (GOLDEN / "nano_more.txt").read_text().splitlines()[1:]:
        words = line.split()
        for flag, other in (("--steps", "77"), ("--out", "x"), ("--shares", "utk=3"), ("--seed", "77"), ("--start-from", "x"), ("--count", "7")):
            if flag in words:
                last = len(words) - 1 - words[::-1].index(flag)
                assert effect(" ".join([*words[: last + 1], other, *words[last + 2 :]])) != effect(line)


START = """
[defaults]
small_px = 64
rate = 1e-3

[shared.late]
light = 0.5
shares = { utk = 8 }

[[stage]]
name = "first"
what = "train"
steps = 3
out = "{work}/first"

[[stage]]
name = "kept"
what = "release"
run = "{work}/first"
out = "{work}/kept"

[[stage]]
name = "second"
what = "train"
use = ["late"]
steps = 5
start_from = "{work}/kept/weights.pt"
out = "{work}/second"
"""


@pytest.fixture
def short(tmp_path):
    """Writes a recipe with changes to START; returns its path."""

    def write(*changes):
        text = START
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "short.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "change, message",
    [
        (("light = 0.5", "ligth = 0.5"), "[shared.late]: key 'ligth' is unknown: did you mean light?"),
        (("rate = 1e-3", "rtae = 1e-3"), "[defaults]: key 'rtae' is unknown: did you mean rate?"),
        (("steps = 5", "setps = 5"), "stage second: key 'setps' is unknown: did you mean steps?"),
        (("run = ", "runs = "), "stage kept: key 'runs' is unknown: did you mean run?"),
        (("steps = 5", "threads = 5"), "stage second: key 'threads' is unknown: "),
        (('what = "release"', 'what = "relaese"'), "stage kept: what 'relaese' is unknown: did you mean release?"),
        (('use = ["late"]', 'use = ["latte"]'), "stage second: use 'latte' is unknown: did you mean late?"),
        (("steps = 5", "steps = '5'"), "stage second: setting steps is '5', expected is a int"),
        (("steps = 5", "weigh = { parsin = 1 }"), "stage second: argument --weigh: there is no loss term parsin"),
        (("steps = 5", 'size = "huge"'), "stage second: argument --size: invalid choice: 'huge'"),
        (("steps = 5", 'train_args = "later"'), "stage second: train_args 'later' is unknown: "),
        (('out = "{work}/second"', ""), "stage second: out must be given"),
        (("{work}/second", "{wrok}/second"), "stage second: '{wrok}/second' has {wrok}: known is {work}"),
        (('name = "second"', 'name = "first"'), "stage 1 needs a name of its own, and 'first' is taken"),
        (("[shared.late]", "[shraed.late]"), "table 'shraed' is unknown: did you mean shared?"),
        (("[shared.late]", "[shared]\nlate = 3\n[stages]"), "table 'stages' is unknown: did you mean stage?"),
    ],
)
def test_what_a_recipe_may_not_have_is_refused_with_file_and_stage(short, capsys, change, message):
    path = short(change)
    assert recipe.main([str(path), "--work", "WORK", "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("recipe: ") and f"{path}: {message}" in error and "Traceback" not in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stage", "secnod"], "stage 'secnod' is unknown: did you mean second?"),
        (["--set", "secnod.steps=3"], "--set: stage 'secnod' is unknown: did you mean second?"),
        (["--set", "second=3"], "--set second=3 is not STAGE.KEY=VALUE"),
        (["--set", "second.setps=3"], "stage second: key 'setps' is unknown: did you mean steps?"),
        (["--minutes", "3"], "--minutes: no stage has clock = true"),
        (["--train-args=--ligth 3"], "stage first: unrecognized arguments: --ligth 3"),
    ],
)
def test_what_a_command_line_may_not_have_is_refused(short, capsys, arguments, message):
    assert recipe.main([str(short()), "--work", "WORK", "--dry-run", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_recipe_is_refused(tmp_path, capsys):
    for text, message in (
        ("", "has no [[stage]]"),
        ("stage = [3]", "has no [[stage]]"),
        ("shared = 3\n[[stage]]", "shared is 3, expected"),
        ("a = ", "is no TOML"),
        (None, "cannot read"),
    ):
        path = tmp_path / "wrong.toml"
        if text is None:
            path = tmp_path / "absent.toml"
        else:
            path.write_text(text)
        assert recipe.main([str(path), "--work", "WORK"]) == 1
        assert message in capsys.readouterr().err


def test_single_values_single_stages_and_shared_tables(short, capsys):
    line = printed(
        capsys, short(), "--dry-run", "--stage", "second", "--set", "second.rate=7e-4", "--train-args=--light 0.9 --decay 0.1 --small-px 80"
    )
    (one,) = line
    options = effect(one)[2]
    # The stage and what it shares win over --train-args, which wins over [defaults].
    assert (options["rate"], options["light"], options["decay"], options["small_px"], options["steps"]) == (7e-4, 0.5, 0.1, 80, 5)
    assert options["shares"] == {"utk": 8} and options["start_from"] == "WORK/kept/weights.pt"


@pytest.fixture
def trainings(monkeypatch):
    """Replaces training and release by writing what later stages read; returns the folders in the order of the runs."""
    runs = []

    def stand_in(options):
        assert isinstance(options, TrainingOptions) and options.resume
        runs.append(Path(options.out).name)
        Path(options.out).mkdir(parents=True)
        torch.save({"step": options.steps, "used_seconds": 1.0, "average": {}}, train.checkpoint_of(options))

    def keep(arguments):
        run, out = Path(arguments[0]), Path(arguments[2])
        assert arguments[1] == "--out"
        runs.append(out.name)
        out.mkdir(exist_ok=True)
        (out / "weights.pt").write_bytes((run / "checkpoint.pt").read_bytes())

    monkeypatch.setattr(train, "train", stand_in)
    monkeypatch.setattr(release, "main", keep)
    return runs


def test_a_recipe_goes_on_where_it_stopped(short, tmp_path, trainings, capsys):
    given = [str(short()), "--work", str(tmp_path)]
    assert recipe.main([*given, "--stage", "first", "--stage", "kept"]) == 0
    assert trainings == ["first", "kept"]
    assert recipe.main(given) == 0
    # The weights are kept again, because the export's folder may hold those of another stage.
    assert trainings == ["first", "kept", "kept", "second"]
    assert f"1/3 first: {tmp_path}/first/checkpoint.pt is finished" in capsys.readouterr().out
    assert recipe.main([*given, "--list"]) == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[1], row[3:]) for row in listed] == [
        ("first", "train", ["finished"]),
        ("kept", "release", []),
        ("second", "train", ["finished"]),
    ]


def test_a_training_that_was_cut_short_is_not_finished(short, tmp_path, trainings):
    (stage, *_), settings = recipe.read_recipe(short()), recipe.Settings("FACES", str(tmp_path))
    options = recipe.training_options(stage, settings)
    assert not recipe.finished(stage, settings)
    train.train(options)
    assert recipe.finished(stage, settings)
    torch.save({"step": 2, "used_seconds": 1.0}, tmp_path / "first/checkpoint.pt")
    assert not recipe.finished(stage, settings)
    longer = dataclasses.replace(options, steps=10**6, minutes=0.01)
    assert train.ended(longer) and not train.ended(dataclasses.replace(longer, minutes=1.0))


def test_masks_that_exist_are_kept(tmp_path):
    stages = {stage.name: stage for stage in recipe.read_recipe(RECIPES / "nano.toml")}
    settings = recipe.Settings("FACES", str(tmp_path))
    assert not recipe.finished(stages["masks-celeba"], settings)
    (tmp_path / "masked/celeba").mkdir(parents=True)
    (tmp_path / "masked/celeba/labels.npz").touch()
    assert recipe.finished(stages["masks-celeba"], settings) and not recipe.finished(stages["new-masks-celeba"], settings)


def test_a_stage_that_starts_from_a_missing_file_is_refused_with_the_stage_that_makes_it(short, tmp_path, trainings, capsys):
    path = short()
    given = [str(path), "--work", str(tmp_path)]
    assert recipe.main([*given, "--stage", "second"]) == 1
    missing = f"{path}: stage second: start_from: {tmp_path}/kept/weights.pt does not exist; stage kept makes it (--stage kept)"
    assert missing in capsys.readouterr().err
    assert recipe.main([*given, "--stage", "kept"]) == 1
    assert f"run: {tmp_path}/first/checkpoint.pt does not exist; stage first makes it" in capsys.readouterr().err
    assert recipe.main([*given, "--stage", "second", "--set", "second.tutor=absent.pt", "--set", f"second.start_from={path}"]) == 1
    assert "stage second: tutor: absent.pt does not exist; no earlier stage makes it" in capsys.readouterr().err
    assert recipe.main([*given, "--stage", "first", "--set", 'first.more=["{more}"]', "--more", str(tmp_path / "crops")]) == 1
    assert f"stage first: more: {tmp_path}/crops/labels.npz does not exist" in capsys.readouterr().err
    assert trainings == []


def test_a_copy_is_a_file_of_the_same_content(short, tmp_path):
    path = short(('what = "release"\nrun = "{work}/first"\nout = "{work}/kept"', 'what = "copy"\nsource = "{work}/a"\nout = "{work}/new/b"'))
    (tmp_path / "a").write_bytes(b"weights")
    assert recipe.main([str(path), "--work", str(tmp_path), "--stage", "kept"]) == 0
    assert (tmp_path / "new/b").read_bytes() == b"weights"


def test_every_module_of_the_shipped_recipes_takes_its_arguments(monkeypatch):
    """Parses the arguments by the modules' own parsers, which stop before they read a file."""

    class Parsed(Exception):
        pass

    whole = argparse.ArgumentParser.parse_args
    settings, seen = recipe.Settings("FACES", "WORK"), set()

    def stop(self, arguments=None, namespace=None):
        whole(self, arguments, namespace)
        raise Parsed

    for name in ("edge", "nano"):
        for stage in recipe.read_recipe(RECIPES / f"{name}.toml"):
            if stage.kind.module and stage.kind.options is not TrainingOptions:
                module = importlib.import_module(f"faceptor_models.student.{stage.kind.module}")
                with monkeypatch.context() as patch:
                    patch.setattr(argparse.ArgumentParser, "parse_args", stop)
                    with pytest.raises(Parsed):
                        module.main(stage.arguments(settings))
                seen.add(stage.kind.module)
    assert seen == {"shrink", "pseudo", "release", "export"}


def test_placeholders_that_are_unknown_are_refused_before_a_stage_runs(short, trainings, tmp_path):
    stages = recipe.read_recipe(short(("{work}/kept/weights.pt", "{faces}/kept.pt")))
    with pytest.raises(Refused, match=r"stage second: '\{faces\}/kept\.pt' has \{faces\}"):
        stages[2].arguments(recipe.Settings("FACES", str(tmp_path)))
    assert recipe.main([str(tmp_path / "short.toml"), "--work", str(tmp_path)]) == 1 and trainings == []
