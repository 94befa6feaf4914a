"""The table of a batch: one row a face, in Parquet files of a fixed number of photos each."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from typing import Any, Union

from faceptor._analyzer import Analyzer
from faceptor._errors import Error, UnsupportedError
from faceptor._photo_lists import file_system
from faceptor._results import Age, Analysis, Attributes, Expression, Face, Landmarks, Parsing, Recognition, Result

#: The file that says what the others are of.
PLAN = "_plan.json"


def schema_of(analyzer: Analyzer) -> Any:
    """Returns the columns of an analyzer's tasks. The metadata of a column names its numbers."""
    import pyarrow as pa

    numbers = pa.list_(pa.float32())
    columns = [
        ("path", pa.string()),
        ("photo", pa.int64()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("faces", pa.int32()),
        ("face", pa.int32()),
        ("score", pa.float32()),
        *((name, pa.float32()) for name in ("x", "y", "w", "h")),
        ("keypoints", numbers),
        ("trusted", pa.bool_()),
        ("why", pa.list_(pa.string())),
        ("eyes_px", pa.float32()),
        ("roll", pa.float32()),
    ]
    fields = [pa.field(name, kind) for name, kind in columns]
    for task, kind, labels in analyzer._session.described():
        described = {"labels": json.dumps(labels)} if labels else None
        if kind == "age":
            fields += [pa.field(f"{task}_years", pa.float32()), pa.field(f"{task}_std", pa.float32())]
        elif kind == "expression":
            fields += [pa.field(task, pa.string()), pa.field(f"{task}_scores", numbers, metadata=described)]
        elif kind == "parsing":
            fields.append(pa.field(f"{task}_share", numbers, metadata=described))
        else:
            fields.append(pa.field(task, numbers, metadata=described))
    return pa.schema(fields, metadata={"faceptor": analyzer.network})


def rows_of(number: int, path: str, result: Union[Analysis, Error]) -> list[dict[str, Any]]:
    """Returns the rows of a photo: one a face, or one without a face, or one with the error."""
    if isinstance(result, Error):
        return [{"path": path, "photo": number, "error": str(result)}]
    photo = {"path": path, "photo": number, "width": result.width, "height": result.height, "faces": len(result.faces)}
    return [{**photo, **columns_of(face)} for face in result.faces] or [photo]


def columns_of(face: Face) -> dict[str, Any]:
    """Returns the columns of a face."""
    x, y, w, h = face.box.tolist()
    columns: dict[str, Any] = {
        "face": face.id,
        "score": face.score,
        "x": x,
        "y": y,
        "w": w,
        "h": h,
        "keypoints": face.keypoints.ravel(),
        "trusted": face.quality.trusted,
        "why": list(face.quality.why),
        "eyes_px": face.quality.eyes_px,
        "roll": face.quality.roll,
    }
    for task, result in face.results.items():
        columns.update(columns_of_result(task, result))
    return columns


def columns_of_result(task: str, result: Result) -> dict[str, Any]:
    """Returns the columns of a task."""
    if isinstance(result, Landmarks):
        return {task: result.points.ravel()}
    if isinstance(result, Parsing):
        return {f"{task}_share": result.share}
    if isinstance(result, Age):
        return {f"{task}_years": result.years, f"{task}_std": result.std}
    if isinstance(result, Expression):
        return {task: result.label, f"{task}_scores": result.scores}
    if isinstance(result, Attributes):
        return {task: result.probabilities}
    assert isinstance(result, Recognition)
    return {task: result.embedding}


class FacesTable:
    """The folder of a table: part files that appear when they are complete, and the plan that they follow.

    A batch that was killed goes on with the parts that are missing. What a part holds follows from the plan alone, so that it does
    not matter who writes it, or how often.
    """

    def __init__(self, out: str) -> None:
        self._found, self._path = file_system(out)
        self._out = out

    def begin(self, plan: dict[str, Any], force: bool) -> set[int]:
        """Enters the plan, or checks that the folder follows the same one. Returns the numbers of the parts that are there."""
        from pyarrow import fs

        kind = self._found.get_file_info(self._path).type
        if kind == fs.FileType.File:
            raise UnsupportedError(f"{self._out}: a file; the results of a batch are a folder of Parquet files")
        names = set()
        if kind == fs.FileType.Directory:
            names = {entry.base_name for entry in self._found.get_file_info(fs.FileSelector(self._path))}
        if force and names & {PLAN}:
            self._found.delete_dir_contents(self._path)
            names = set()
        if PLAN in names:
            with self._found.open_input_stream(f"{self._path}/{PLAN}") as stream:
                found = json.loads(stream.read())
            differing = sorted(key for key in {*plan, *found} if plan.get(key) != found.get(key))
            if differing:
                raise UnsupportedError(
                    f"{self._out} holds results of another batch ({', '.join(differing)} differ): name another folder, or add "
                    "--force to replace it"
                )
        elif names:
            raise UnsupportedError(f"{self._out}: a folder with other files in it; name a new one")
        else:
            self._found.create_dir(self._path, recursive=True)
            self._write(PLAN, lambda sink: sink.write(json.dumps(plan, indent=1).encode() + b"\n"))
        self._remove_leftovers(names)
        parts = (name[len("part-") : -len(".parquet")] for name in names if name.startswith("part-"))
        return {int(part) for part in parts if part.isdigit()}

    def write_part(self, number: int, rows: Iterable[dict[str, Any]], schema: Any) -> None:
        """Writes the part of this number, which appears when it is complete."""
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.Table.from_pylist(list(rows), schema=schema)
        self._write(f"part-{number:06}.parquet", lambda sink: parquet.write_table(table, sink, compression="zstd"))

    def _write(self, name: str, write: Any) -> None:
        from pyarrow import fs

        if not isinstance(self._found, fs.LocalFileSystem):
            # An object of a store appears when it is closed.
            with self._found.open_output_stream(f"{self._path}/{name}") as sink:
                write(sink)
            return
        # Readers of Parquet folders pass over hidden files.
        hidden = f"{self._path}/.{name}.{uuid.uuid4().hex}"
        try:
            with open(hidden, "xb") as sink:
                write(sink)
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(hidden, f"{self._path}/{name}")
        except OSError as reason:
            raise UnsupportedError(f"{self._out}/{name} cannot be written: {reason}") from None
        finally:
            if os.path.exists(hidden):
                os.remove(hidden)

    def end(self) -> None:
        """Removes what processes that were killed left, once none of the batch runs."""
        from pyarrow import fs

        self._remove_leftovers({entry.base_name for entry in self._found.get_file_info(fs.FileSelector(self._path))})

    def _remove_leftovers(self, names: set[str]) -> None:
        """Removes what a killed process left of a part."""
        for name in names:
            if name.startswith((".part-", "._plan")):
                self._found.delete_file(f"{self._path}/{name}")
