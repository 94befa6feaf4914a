"""`python -m faceptor.batch`: rows equal the analyzer's answers, broken photos are rows, and a batch that was killed goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import PORTRAIT

import faceptor
from faceptor import batch

parquet = pytest.importorskip("pyarrow.parquet")
OPTIONS = {"tasks": "age,expression", "looks": 1, "upright": True}
ARGUMENTS = ("--tasks", "age,expression", "--looks", "1", "--upright")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with the portrait three times, a photo without a face, a broken one, one that is not a file, and other things."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "b").mkdir()
    for name in ("a.jpg", "b/z.JPG", "c.jpeg"):
        shutil.copy(PORTRAIT, folder / name)
    blank = faceptor.Analyzer(tasks=[], looks=1).analyze(np.zeros((40, 60, 3), np.uint8))
    assert not blank.faces
    (folder / "d.bmp").write_bytes(bmp(64, 48))
    (folder / "broken.jpg").write_bytes(PORTRAIT.read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no photo")
    return folder


def bmp(width, height):
    """A black photo."""
    size = width * height * 3
    header = b"BM" + (54 + size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = (40).to_bytes(4, "little") + width.to_bytes(4, "little") + height.to_bytes(4, "little") + b"\1\0\x18\0" + bytes(24)
    return header + info + bytes(size)


def rows(out):
    """The rows of a table, in the order of the photos."""
    return parquet.read_table(out).sort_by([("photo", "ascending"), ("face", "ascending")]).to_pylist()


def run(*arguments, check=True):
    """Runs the command line."""
    done = subprocess.run([sys.executable, "-m", "faceptor.batch", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done


def test_rows_are_the_answers_of_the_analyzer(photos, tmp_path):
    summary = batch.batch([str(photos)], str(tmp_path / "faces.parquet"), part=2, **OPTIONS)
    assert (summary.photos, summary.done, summary.faces, summary.errors) == (6, 6, 3, 2)
    table = rows(tmp_path / "faces.parquet")
    assert [row["path"].rsplit("photos0/", 1)[1] for row in table] == ["a.jpg", "b/z.JPG", "broken.jpg", "c.jpeg", "d.bmp", "empty.png"]
    [face] = faceptor.Analyzer(**OPTIONS).analyze(PORTRAIT).faces
    for number in (0, 1, 3):
        row = table[number]
        assert (row["photo"], row["faces"], row["face"], row["error"]) == (number, 1, 1, None)
        assert np.array_equal(np.float32([row[name] for name in "xywh"]), face.box)
        assert np.float32(row["age_years"]) == np.float32(face.age.years) and row["expression"] == face.expression.label
        assert np.array_equal(np.float32(row["expression_scores"]), face.expression.scores)
        assert np.array_equal(np.float32(row["keypoints"]), face.keypoints.ravel())
    assert table[4]["faces"] == 0 and table[4]["face"] is None and table[4]["width"] == 64 and table[4]["error"] is None
    for row, reason in ((table[2], "broken.jpg"), (table[5], "the file is empty")):
        assert row["face"] is None and row["faces"] is None and reason in row["error"]
    assert sorted(path.name for path in (tmp_path / "faces.parquet").iterdir()) == ["_plan.json"] + [f"part-00000{n}.parquet" for n in range(3)]
    schema = parquet.read_schema(tmp_path / "faces.parquet/part-000000.parquet")
    assert json.loads(schema.field("expression_scores").metadata[b"labels"]) == list(face.expression.labels)


def test_every_task_has_columns(tmp_path):
    batch.batch([str(PORTRAIT)], str(tmp_path / "all"), tasks="all", looks=1, upright=True)
    [row] = rows(tmp_path / "all")
    [face] = faceptor.Analyzer("all", looks=1, upright=True).analyze(PORTRAIT).faces
    assert np.array_equal(np.float32(row["landmarks"]), face.landmarks.points.ravel())
    assert np.array_equal(np.float32(row["parsing_share"]), face.parsing.share)
    assert np.array_equal(np.float32(row["attributes"]), face.attributes.probabilities)
    assert np.array_equal(np.float32(row["recognition"]), face.recognition.embedding)


def test_manifests(photos, tmp_path):
    names = ["a.jpg", "c.jpeg", "absent.jpg"]
    (photos / "list.txt").write_text("# two of them\n" + "\n".join(names) + "\n\n")
    (photos / "list.csv").write_text("who,path\n" + "".join(f"x,{name}\n" for name in names))
    (photos / "list.jsonl").write_text("".join(json.dumps({"path": name}) + "\n" for name in names))
    parquet.write_table(__import__("pyarrow").table({"path": names}), photos / "list.parquet")
    found = []
    for ending in ("txt", "csv", "jsonl", "parquet"):
        out = tmp_path / ending
        summary = batch.batch([str(photos / f"list.{ending}")], str(out), **OPTIONS)
        assert (summary.photos, summary.faces, summary.errors) == (3, 2, 1)
        found.append(rows(out))
    assert all(table == found[0] for table in found)
    assert found[0][0]["path"] == str(photos / "a.jpg") and "no such file" in found[0][2]["error"]
    # URLs have the same rows but for the paths.
    (photos / "urls.txt").write_text("".join(f"file://{photos / name}\n" for name in names))
    batch.batch([str(photos / "urls.txt")], str(tmp_path / "urls"), **OPTIONS)
    without = [{key: value for key, value in row.items() if key not in ("path", "error")} for row in rows(tmp_path / "urls")]
    assert without == [{key: value for key, value in row.items() if key not in ("path", "error")} for row in found[0]]
    assert rows(tmp_path / "urls")[2]["error"]


def test_a_killed_batch_goes_on(photos, tmp_path):
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"{photos / name}\n" for name in ["a.jpg", "d.bmp", "broken.jpg", "c.jpeg"] * 6))
    whole, out = tmp_path / "whole", tmp_path / "out"
    batch.batch([str(manifest)], str(whole), part=2, **OPTIONS)
    command = [sys.executable, "-m", "faceptor.batch", str(manifest), "--out", str(out), "--part", "2", "--jobs", "1", *ARGUMENTS]
    kills = 0
    for parts in (1, 4, 8):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Killed once it has written so many parts, in the middle of the next one.
        while process.poll() is None and len(list(out.glob("part-*"))) < parts:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3, "the batch was not killed but ended"
    # A part that was being written when the process died.
    (out / ".part-000011.parquet.0123").write_bytes(b"half")
    assert len(list(out.glob("part-*"))) < 12
    last = run(manifest, "--out", out, "--part", "2", *ARGUMENTS)
    assert "24 photos (" in last.stdout and "before)" in last.stdout
    assert rows(out) == rows(whole) and len(rows(out)) == 24
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    again = run(manifest, "--out", out, "--part", "2", *ARGUMENTS)
    assert "24 photos (24 before): 0 faces" in again.stdout


def test_what_is_refused(photos, tmp_path):
    out = tmp_path / "out"
    run(photos / "a.jpg", "--out", out, *ARGUMENTS)
    for arguments, words in [
        ((photos / "c.jpeg", "--out", out, *ARGUMENTS), "another batch (list differ)"),
        ((photos / "a.jpg", "--out", out, "--tasks", "age"), "options, tasks differ"),
        ((photos / "a.jpg", "--out", photos), "other files in it"),
        ((photos / "a.jpg", "--out", photos / "a.jpg"), "a file; the results"),
        ((tmp_path / "absent", "--out", out), "no such file or folder"),
        ((photos / "notes.txt.gz", "--out", out), "no such file"),
        ((tmp_path, "--out", out), "no photo is there"),
        ((photos / "a.jpg", "--out", "nonsense://bucket/x"), "nonsense://bucket/x: "),
        ((photos / "a.jpg", "--out", out, "--tasks", "mood"), "unknown task 'mood'"),
        ((photos / "a.jpg", "--out", out, "--part", "0"), "part=0"),
    ]:
        done = run(*arguments, check=False)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
    assert run(photos, check=False).returncode == 2
    (photos / "bad.csv").write_text("name\na.jpg\n")
    (photos / "bad.jsonl").write_text("no json\n")
    for name, words in [("bad.csv", "a column `path` is needed"), ("bad.jsonl", "bad.jsonl: ")]:
        done = run(photos / name, "--out", tmp_path / name, check=False)
        assert done.returncode == 1 and words in done.stderr, done.stderr
    run(photos / "c.jpeg", "--out", out, "--force", *ARGUMENTS)
    assert [row["path"] for row in rows(out)] == [str(photos / "c.jpeg")]


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own needs root")
def test_a_full_disk(photos, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(mount)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        done = run(photos / "a.jpg", photos / "c.jpeg", "--out", mount / "out", "--part", "1", "--tasks", "all", "--looks", "1", check=False)
        assert done.returncode == 1 and "cannot be written" in done.stderr and "No space left" in done.stderr
        assert not [path for path in (mount / "out").iterdir() if path.name.startswith(".")]
    finally:
        subprocess.run(["umount", str(mount)], check=True)
