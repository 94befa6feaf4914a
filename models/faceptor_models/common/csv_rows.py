"""Writes rows of a log as CSV."""

import csv


def write_rows(rows, path):
    """Rows as CSV; a column that begins later, or ends, is empty elsewhere."""
    names = list(dict.fromkeys(k for row in rows for k in row))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, (int, str)) else f"{v:.8g}" for k, v in row.items()} for row in rows)
