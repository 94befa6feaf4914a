"""Reads the settings of a training: a TOML file, one of its variants, and single values from the command line, as a dataclass."""

import copy
import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from .errors import Refused

T = TypeVar("T")
Table = dict[str, Any]
# The example that a message gives of a value in a table with free names.
EXAMPLES: dict[type, object] = {bool: True, int: 1, float: 1.0, str: ""}


def read(path: str | Path, variant: str | None = None, changes: Iterable[str] = ()) -> Table:
    """Returns {section: {key: value}} of a file; `changes` are texts KEY.KEY=VALUE, applied last.

    A table `[variant.NAME]` of the file repeats sections with other values, for example sizes that suit a CPU.
    """
    path = Path(path)
    try:
        held = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read the settings {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is no TOML: {error}") from error
    variants = held.pop("variant", {})
    if variant:
        if variant not in variants:
            raise Refused(f"{path} has no variant {variant}: it has {', '.join(variants) or 'none'}")
        held = merged(held, variants[variant])
    for change in changes:
        held = merged(held, nested(change))
    return held


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Returns `under` with the values of `over` in place of its own, table by table."""
    out: Table = copy.deepcopy(dict(under))
    for key, value in over.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else copy.deepcopy(value)
    return out


def nested(change: str) -> Table:
    """Parses `optimizer.clip=1.0` to {"optimizer": {"clip": 1.0}}; a value that is not TOML counts as text."""
    name, equals, text = change.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise Refused(f"--set {change!r} is not KEY.KEY=VALUE")
    value: Any
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for key in reversed(keys):
        value = {key: value}
    return cast(Table, value)


def from_table(kind: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Builds the dataclass `kind` from a table; refuses a key that it does not know and a value of another type.

    A field may be a bool, an int, a float (which takes whole numbers too), a str, a list, another dataclass, or a dict from free
    names to any of these. `where` is the prefix of the names in messages.
    """
    hints, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(cast(Any, kind))}
    values: Table = {}
    for key, value in table.items():
        if key not in fields:
            raise Refused(f"unknown setting {where}{key}: known are {', '.join(where + name for name in fields)}")
        values[key] = _value(hints[key], value, f"{where}{key}", _default(fields[key]))
    return kind(**values)


def to_table(settings: object) -> Table:
    """Returns the settings as plain containers, for JSON files and checkpoints."""
    return dataclasses.asdict(cast(Any, settings))


def _default(field: "dataclasses.Field[Any]") -> object:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _value(hint: Any, value: Any, name: str, example: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (one for one in typing.get_args(hint) if one is not type(None))
    if dataclasses.is_dataclass(hint):
        return from_table(cast(type, hint), _table(name, value), f"{name}.")
    if typing.get_origin(hint) is dict:
        element = typing.get_args(hint)[1]
        return {key: _value(element, one, f"{name}.{key}", None) for key, one in _table(name, value).items()}
    wanted = typing.get_origin(hint) or hint
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        shown = example if isinstance(example, wanted) else EXAMPLES[wanted]
        raise Refused(f"setting {name} is {value!r}, expected is a {wanted.__name__} such as {shown!r}")
    return value


def _table(name: str, value: Any) -> Table:
    if not isinstance(value, dict):
        raise Refused(f"setting {name} is {value!r}, expected is a table")
    return value
