"""A batch on a real Ray cluster of two workers: the rows of one process, also when a worker or the driver is killed.

`make test-ray` runs these; FACEPTOR_RAY_PHOTOS=N is the number of photos (default 240).
"""

from __future__ import annotations

import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from pictures import BROKEN_EVERY, make_photos
from pyarrow import parquet

from faceptor import batch

PHOTOS = int(os.environ.get("FACEPTOR_RAY_PHOTOS", "240"))
# A part takes long enough for a process to be killed in the middle of it.
PART = max(8, PHOTOS // 30)
OPTIONS = {"tasks": "age,expression", "looks": 1, "upright": True, "part": PART}
ARGUMENTS = ("--tasks", "age,expression", "--looks", "1", "--upright", "--part", str(PART))
PARTS = -(-PHOTOS // PART)


def rows(out):
    return parquet.read_table(out).sort_by([("photo", "ascending"), ("face", "ascending")]).to_pylist()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of this machine with two CPUs. It ends with its main process, which is a child of this one."""
    # Outside of the range from which its processes take theirs (10002 and more).
    port = free_port(6400, 9900)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    command.append("--node-ip-address=127.0.0.1")
    command += ["--object-store-memory=100000000", "--disable-usage-stats", "--include-dashboard=false"]
    # Short: sockets have their names from it, which have at most 107 characters.
    work = pathlib.Path("/tmp") / f"faceptor-ray-{os.getpid()}"
    command.append(f"--temp-dir={work}")
    log = tmp_path_factory.mktemp("ray") / "log"
    # A token of its own, whatever the user's home holds: without one, every program of the machine could use the cluster.
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(secrets.token_hex(32))
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    # Ray's workers give way to every other program otherwise, and its own processes give up after seconds on a busy machine.
    patient = {**os.environ, "RAY_worker_niceness": "0", "RAY_agent_register_timeout_ms": "300000"}
    with open(log, "w") as stream:
        head = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=patient, start_new_session=True)
    try:
        while "--block" not in log.read_text() and head.poll() is None:
            time.sleep(0.1)
        assert head.poll() is None, log.read_text()
        os.environ["RAY_ADDRESS"] = f"127.0.0.1:{port}"
        yield
    finally:
        head.terminate()
        head.wait()
        shutil.rmtree(work, ignore_errors=True)


def free_port(first, last):
    """Returns a port that nothing uses."""
    for port in range(first, last):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(scope="module")
def whole(manifest, tmp_path_factory):
    """The rows of one process."""
    out = tmp_path_factory.mktemp("one") / "faces.parquet"
    summary = batch.batch([str(manifest)], str(out), **OPTIONS)
    assert (summary.photos, summary.errors) == (PHOTOS, PHOTOS // BROKEN_EVERY)
    found = rows(out)
    assert sum(row["error"] is not None for row in found) == PHOTOS // BROKEN_EVERY
    assert PHOTOS // 3 < sum(row["face"] is not None for row in found)
    return found


def driver(manifest, out, *arguments):
    command = [sys.executable, "-m", "faceptor.batch", str(manifest), "--out", str(out), "--ray", "--workers", "2", *ARGUMENTS, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers():
    """The processes of the cluster that write parts now."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if title.startswith("ray::") and "write_parts" in title:
            found.append(int(folder.name))
    return found


def wait_for_parts(process, out, count):
    """Waits until so many parts are there and a worker writes another one, or the process has ended. Returns the workers."""
    while process.poll() is None:
        if len(list(out.glob("part-*"))) >= count and (found := workers()):
            return found
        time.sleep(0.005)
    _, errors = process.communicate()
    raise AssertionError(f"the batch ended before it could be disturbed: {errors}")


def check(out, whole):
    """Every row is there once, and nothing but the parts and the plan."""
    assert rows(out) == whole
    names = sorted(path.name for path in out.iterdir())
    assert names == ["_plan.json", *(f"part-{number:06}.parquet" for number in range(PARTS))]


def test_two_workers_write_the_rows_of_one_process(cluster, manifest, whole, tmp_path):
    process = driver(manifest, tmp_path / "out")
    printed, errors = process.communicate()
    assert process.returncode == 0 and f"{PHOTOS} photos: " in printed, errors
    assert errors == "", "nothing of Ray's is printed"
    assert f"{PHOTOS // BROKEN_EVERY} photos that could not be read" in printed
    check(tmp_path / "out", whole)


def test_killed_workers_lose_nothing(cluster, manifest, whole, tmp_path):
    out = tmp_path / "out"
    process = driver(manifest, out)
    # More often than Ray retries a task of its own accord.
    for parts in (1, 3, 5, 7, 9):
        for worker in wait_for_parts(process, out, parts):
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                continue
    printed, errors = process.communicate()
    assert process.returncode == 0 and f"{PHOTOS} photos: " in printed, errors
    check(out, whole)


def test_a_killed_driver_loses_nothing(cluster, manifest, whole, tmp_path):
    out = tmp_path / "out"
    for parts in (1, 6):
        process = driver(manifest, out)
        wait_for_parts(process, out, parts)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the driver had ended"
    assert len(list(out.glob("part-*"))) < PARTS
    again = driver(manifest, out)
    printed, errors = again.communicate()
    assert again.returncode == 0 and "before)" in printed, errors
    check(out, whole)
    # One process goes on with what a cluster has written, and finds nothing to do.
    summary = batch.batch([str(manifest)], str(out), **OPTIONS)
    assert (summary.done_before, summary.done) == (PHOTOS, 0)


def test_failures_are_told_in_a_line(cluster, manifest, tmp_path):
    for arguments, words in [(("--workers", "0"), "workers=0: at least 1 is needed"), (("--workers", "-3"), "workers=-3: ")]:
        process = driver(manifest, tmp_path / "out", *arguments)
        _, errors = process.communicate()
        assert process.returncode == 1 and errors.startswith(f"error: {words}") and len(errors.splitlines()) == 1, errors


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own needs root")
def test_a_full_disk(cluster, manifest, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(mount)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        process = driver(manifest, mount / "out")
        _, errors = process.communicate()
        assert process.returncode == 1, errors
        words = errors.splitlines()
        assert len(words) == 1 and "cannot be written" in words[0] and "No space left" in words[0], errors
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
