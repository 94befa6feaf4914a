"""Writes the rows of a log as CSV."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_rows(rows: Iterable[Mapping[str, object]], path: str | Path) -> None:
    """Writes rows as CSV. A column that not all rows have is empty in the others."""
    rows = list(rows)
    names = list(dict.fromkeys(k for row in rows for k in row))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, (int, str)) else f"{v:.8g}" for k, v in row.items()} for row in rows)
