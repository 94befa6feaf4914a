"""A batch on a real Ray cluster of two workers: the rows of one process, also when a worker or the driver is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import PORTRAIT

from faceptor import batch

ray = pytest.importorskip("ray")
parquet = pytest.importorskip("pyarrow.parquet")
OPTIONS = {"tasks": "age,expression", "looks": 1, "upright": True, "part": 4}
ARGUMENTS = ("--tasks", "age,expression", "--looks", "1", "--upright", "--part", "4")
PHOTOS = int(os.environ.get("FACEPTOR_RAY_PHOTOS", "60"))


def rows(out):
    return parquet.read_table(out).sort_by([("photo", "ascending"), ("face", "ascending")]).to_pylist()


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine with two CPUs, in processes of its own."""
    command = [sys.executable, "-m", "ray.scripts.scripts"]
    port = "6399"
    start = [*command, "start", "--head", "--port", port, "--num-cpus", "2", "--disable-usage-stats", "--include-dashboard", "false"]
    subprocess.run(start, check=True, capture_output=True)
    os.environ["RAY_ADDRESS"] = f"127.0.0.1:{port}"
    yield
    subprocess.run([*command, "stop", "--force"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Photos, of which every tenth is broken."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(PORTRAIT, folder / "a.jpg")
    (folder / "broken.jpg").write_bytes(PORTRAIT.read_bytes()[:300])
    names = ["broken.jpg" if number % 10 == 9 else "a.jpg" for number in range(PHOTOS)]
    (folder / "list.txt").write_text("".join(f"{folder / name}\n" for name in names))
    return folder / "list.txt"


@pytest.fixture(scope="module")
def whole(manifest, tmp_path_factory):
    """The rows of one process."""
    out = tmp_path_factory.mktemp("one") / "faces.parquet"
    summary = batch.batch([str(manifest)], str(out), **OPTIONS)
    assert summary.errors == PHOTOS // 10
    return rows(out)


def driver(manifest, out):
    command = [sys.executable, "-m", "faceptor.batch", str(manifest), "--out", str(out), "--ray", "--workers", "2", *ARGUMENTS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers():
    """The processes that write parts."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True).stdout.splitlines()
    return [int(line.split()[0]) for line in listed if "ray::" in line and "PartWorker" in line]


def wait_for_parts(process, out, count):
    while process.poll() is None and len(list(out.glob("part-*"))) < count:
        time.sleep(0.01)


def test_two_workers_write_the_rows_of_one_process(cluster, manifest, whole, tmp_path):
    process = driver(manifest, tmp_path / "out")
    told, errors = process.communicate()
    assert process.returncode == 0 and f"{PHOTOS} photos: " in told, errors
    assert rows(tmp_path / "out") == whole


def test_a_killed_worker_loses_nothing(cluster, manifest, whole, tmp_path):
    out = tmp_path / "out"
    process = driver(manifest, out)
    wait_for_parts(process, out, 2)
    killed = workers()
    assert killed, "no worker was found"
    os.kill(killed[0], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert rows(out) == whole


def test_a_killed_driver_loses_nothing(cluster, manifest, whole, tmp_path):
    out = tmp_path / "out"
    process = driver(manifest, out)
    wait_for_parts(process, out, 2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the driver had ended"
    again = driver(manifest, out)
    told, errors = again.communicate()
    assert again.returncode == 0 and "before)" in told, errors
    assert rows(out) == whole
