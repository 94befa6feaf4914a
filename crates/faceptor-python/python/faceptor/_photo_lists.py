"""Lists the photos of a batch: folders, files, manifests and URLs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from faceptor._errors import UnsupportedError

#: Endings of files that are photos, as in `faceptor image`.
PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff")
#: Endings of manifests.
MANIFESTS = (".txt", ".lst", ".csv", ".jsonl", ".parquet")


def is_url(source: str) -> bool:
    """Reports names such as `s3://bucket/photo.jpg`."""
    return "://" in source


def file_system(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL or path, and the path within it."""
    from pyarrow import fs

    try:
        found, path = fs.FileSystem.from_uri(url) if is_url(url) else (fs.LocalFileSystem(), os.path.abspath(url))
    except Exception as reason:
        raise UnsupportedError(f"{url}: {reason}") from None
    return found, path


def photos_of(sources: Iterable[str]) -> list[str]:
    """Returns the photos of all sources: of a folder the files below it, sorted by path; of a manifest its lines, in their order.

    Raises:
        UnsupportedError: A source does not exist, is of no known kind, or holds no photo.
    """
    photos: list[str] = []
    for source in sources:
        before = len(photos)
        photos += of_source(source)
        if len(photos) == before:
            raise UnsupportedError(f"{source}: no photo is there")
    return photos


def of_source(source: str) -> Iterator[str]:
    """Yields the photos of one source."""
    from pyarrow import fs

    found, path = file_system(source)
    kind = found.get_file_info(path).type
    if kind == fs.FileType.Directory:
        yield from of_folder(source, found, path)
    elif kind == fs.FileType.NotFound:
        raise UnsupportedError(f"{source}: there is no such file or folder")
    elif path.lower().endswith(PHOTOS):
        yield source
    elif path.lower().endswith(MANIFESTS):
        yield from of_manifest(source, found, path)
    else:
        raise UnsupportedError(f"{source}: a photo, a folder or a manifest ({', '.join(MANIFESTS)}) is needed")


def of_folder(source: str, found: Any, path: str) -> Iterator[str]:
    """Yields the photos below a folder, without hidden files, sorted by path."""
    from pyarrow import fs

    names = []
    for entry in found.get_file_info(fs.FileSelector(path, recursive=True)):
        inner = entry.path[len(path) :].lstrip("/")
        hidden = any(part.startswith(".") for part in inner.split("/"))
        if entry.type == fs.FileType.File and not hidden and inner.lower().endswith(PHOTOS):
            names.append(inner)
    yield from (f"{source.rstrip('/')}/{name}" for name in sorted(names))


def of_manifest(source: str, found: Any, path: str) -> Iterator[str]:
    """Yields the photos that a manifest names; a name that is neither a URL nor an absolute path is relative to the manifest's folder."""
    folder = source.rsplit("/", 1)[0] if "/" in source else "."
    try:
        names = list(names_of(found, path))
    except (ValueError, KeyError, TypeError, csv.Error) as reason:
        raise UnsupportedError(f"{source}: {reason}") from None
    for name in names:
        yield name if is_url(name) or name.startswith("/") or folder == "." else f"{folder}/{name}"


def names_of(found: Any, path: str) -> Iterator[str]:
    """Yields the names in a manifest: its lines, or the column or key `path`."""
    if path.lower().endswith(".parquet"):
        from pyarrow import parquet

        yield from parquet.read_table(path, filesystem=found, columns=["path"])["path"].to_pylist()
        return
    with found.open_input_stream(path) as stream:
        text = stream.read().decode()
    lines = text.splitlines()
    if path.lower().endswith(".csv"):
        rows = csv.DictReader(lines)
        if "path" not in (rows.fieldnames or ()):
            raise ValueError("a column `path` is needed")
        yield from (row["path"] for row in rows)
    elif path.lower().endswith(".jsonl"):
        yield from (json.loads(line)["path"] for line in lines if line.strip())
    else:
        yield from (line.strip() for line in lines if line.strip() and not line.startswith("#"))


def content_of(photo: str) -> Any:
    """Returns what `Analyzer.analyze` takes: a path, or the bytes that a URL gives."""
    if not is_url(photo):
        return photo
    found, path = file_system(photo)
    with found.open_input_stream(path) as stream:
        return bytes(stream.read())


def digest_of(photos: list[str]) -> str:
    """Returns a number that stands for a list of photos."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(photo.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
