"""Holds what the readers of the data sets share."""

import csv

from faceptor_models.common.errors import Refused


def table_of(path, *columns):
    """Reads the rows of a CSV with a header that has at least `columns`."""
    if not path.exists():
        raise Refused(f"{path} is missing")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [c for c in columns if c not in (reader.fieldnames or [])]
        if missing:
            raise Refused(f"{path} has no column {', '.join(missing)}: it has {', '.join(reader.fieldnames or ['none'])}")
        yield from reader


def lines_of(path):
    """Reads the lines of a text file, split at white space, without empty ones."""
    if not path.exists():
        raise Refused(f"{path} is missing")
    with open(path, encoding="utf-8") as file:
        for line in file:
            if fields := line.split():
                yield fields


def need(folder, *names):
    """Returns the folder after a check that it holds these files or folders."""
    missing = [n for n in names if not (folder / n).exists()]
    if missing:
        raise Refused(f"{folder} holds no {', '.join(missing)}")
    return folder
