"""A recipe's settings: a TOML file, one of its variants, and single values from the command line."""

import copy
import tomllib
from pathlib import Path

from faceptor_models.common.errors import Refused


def read(path, variant=None, changes=()):
    """{section: {key: value}} of a file; `changes` are texts KEY.KEY=VALUE, applied last.

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


def merged(under, over):
    """`over` laid on `under`, table by table."""
    out = copy.deepcopy(under)
    for key, value in over.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else copy.deepcopy(value)
    return out


def nested(change):
    """`optimizer.clip=1.0` as {"optimizer": {"clip": 1.0}}; what is no TOML value is text."""
    name, equals, text = change.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise Refused(f"--set {change!r} is not KEY.KEY=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for key in reversed(keys):
        value = {key: value}
    return value


def checked(held, known, where=""):
    """`held` filled up with the defaults of `known`; a key that is not known or has another type is refused.

    `known` maps keys to defaults or tables; a key `*` stands for any name.
    """
    out = {}
    for key, value in held.items():
        name = f"{where}{key}"
        pattern = known.get(key, known.get("*"))
        if pattern is None:
            raise Refused(f"unknown setting {name}: known are {', '.join(where + k for k in known)}")
        if isinstance(pattern, dict):
            if not isinstance(value, dict):
                raise Refused(f"setting {name} is {value!r}, expected is a table")
            out[key] = checked(value, pattern, name + ".")
        else:
            out[key] = fitting(name, value, pattern)
    for key, pattern in known.items():
        if key != "*" and key not in out:
            out[key] = checked({}, pattern, f"{where}{key}.") if isinstance(pattern, dict) else copy.deepcopy(pattern)
    return out


def fitting(name, value, default):
    """The value in the default's type: whole numbers may stand for others."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise Refused(f"setting {name} is {value!r}, expected is a {type(default).__name__} such as {default!r}")
    return value
