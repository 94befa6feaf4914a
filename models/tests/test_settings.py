"""Tests the settings of trainings: TOML tables become dataclasses, and wrong keys and values are refused by name."""

import tomllib
from dataclasses import dataclass, field, fields

import pytest

from faceptor_models.common.errors import Refused
from faceptor_models.common.settings import from_table, merged, nested, to_table
from faceptor_models.published.recipes import student
from faceptor_models.student.options import TrainingOptions, parsed
from tests.small_crops import CONFIGS


@dataclass
class Task:
    batch: int = 1
    rate: float = 0.5


@dataclass
class Settings:
    name: str = "x"
    sides: list[int] = field(default_factory=lambda: [8])
    limit: int | None = None
    weight: dict[str, float] = field(default_factory=dict)
    task: dict[str, Task] = field(default_factory=dict)
    first: Task = field(default_factory=Task)


def test_a_table_becomes_a_dataclass_and_back():
    made = from_table(Settings, tomllib.loads("limit = 3\nfirst.rate = 2\nweight = { a = 1 }\n[task.b]\nbatch = 4"))
    assert made == Settings(limit=3, weight={"a": 1.0}, task={"b": Task(4)}, first=Task(rate=2.0))
    assert type(made.first.rate) is float and type(made.weight["a"]) is float
    assert from_table(Settings, {k: v for k, v in to_table(made).items() if v is not None}) == made
    assert from_table(Settings, {}).sides is not from_table(Settings, {}).sides


@pytest.mark.parametrize(
    "table, message",
    [
        ({"nam": "y"}, "unknown setting nam: known are name, sides, limit, weight, task, first"),
        ({"first": {"size": 1}}, "unknown setting first.size: known are first.batch, first.rate"),
        ({"task": {"b": {"batch": 1.5}}}, "setting task.b.batch is 1.5, expected is a int such as 1"),
        ({"sides": 8}, r"setting sides is 8, expected is a list such as \[8\]"),
        ({"name": 1}, "setting name is 1, expected is a str such as 'x'"),
        ({"first": 3}, "setting first is 3, expected is a table"),
        ({"weight": {"a": "b"}}, "setting weight.a is 'b', expected is a float such as 1.0"),
        ({"first": {"rate": True}}, "setting first.rate is True, expected is a float such as 0.5"),
        ({"limit": "3"}, "setting limit is '3', expected is a int such as 1"),
    ],
)
def test_wrong_keys_and_values_are_refused_by_name(table, message):
    with pytest.raises(Refused, match=f"^{message}$"):
        from_table(Settings, table)


def test_single_values_are_laid_over_the_file():
    assert merged({"a": {"b": 1, "c": 2}}, nested("a.b=[3]")) == {"a": {"b": [3], "c": 2}}
    assert nested("task.a.source=utk") == {"task": {"a": {"source": "utk"}}}
    with pytest.raises(Refused, match="is not KEY.KEY=VALUE"):
        nested("a..b=1")


def test_every_training_option_is_an_argument_with_the_same_default():
    assert parsed(["--cache", "c", "--out", "o"]) == TrainingOptions(cache="c", out="o")
    given = ["--cache", "c", "--out", "o", "--only", "memory,layers", "--weigh", "parsing=2", "--edges", "--minutes", "3", "--levels", "1"]
    assert parsed(given) == TrainingOptions(cache="c", out="o", only=["memory", "layers"], weigh={"parsing": 2.0}, edges=True, minutes=3.0, levels=1)
    for wrong in (["--cache", "c"], [*given, "--size", "huge"], [*given, "--weigh", "nose=1"], [*given, "--steps", "many"]):
        with pytest.raises(SystemExit):
            parsed(wrong)


def test_a_settings_file_of_the_student_takes_every_option_of_its_section():
    known = {f.name for f in fields(student.StudentSection)}
    assert known | set(student.ELSEWHERE) >= {f.name for f in fields(TrainingOptions) if not f.name.startswith(("stop_", "regulate_"))}
    held = tomllib.loads((CONFIGS / "student.toml").read_text())
    held.pop("variant")
    assert student.checked(held).stopping.main == "landmarks"
    assert student.checked(held | {"student": {"tutor": "edge.pt", "weigh": {"parsing": 2}}}).student.tutor == "edge.pt"
    with pytest.raises(Refused, match=r"unknown setting student\.cache"):
        student.checked(held | {"student": {"cache": "c"}})
