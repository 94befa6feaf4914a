"""Tests faceptor on a board over ssh: copies it, then runs doctor, bench, verify against the host's reference, and the camera loop.

The board needs an ssh server, a shell and tar. What is copied lies in a folder of its own, which is removed at the end.
"""

import json
import subprocess
import tarfile
import time

from report import Case


class Remote:
    """A board as a destination of ssh: `user@host`, and ssh's options."""

    def __init__(self, address, options=()):
        self.command = ["ssh", "-o", "BatchMode=yes", *options, address]

    def run(self, script, limit_s, **how):
        """Runs a shell script on the board."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        return subprocess.run([*self.command, script], timeout=limit_s, **how)

    def make_folder(self):
        made = self.run("mktemp -d", 60)
        if made.returncode:
            raise ConnectionError(made.stderr.decode(errors="replace").strip())
        return made.stdout.decode().strip()

    def send(self, files, folder):
        """Copies (local path, name on the board) into the board's folder."""
        command = [*self.command, f"tar -x -f - -C {folder}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                for path, name in files:
                    archive.add(path, name)
            process.stdin.close()
            if process.wait():
                raise ConnectionError(f"copying to the board: exit status {process.returncode}")

    def fetch(self, folder, here):
        """Copies the content of the board's folder to this machine."""
        with subprocess.Popen([*self.command, f"tar -c -f - -C {folder} ."], stdout=subprocess.PIPE) as process:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                archive.extractall(here, filter="data")
        if process.returncode:
            raise ConnectionError(f"copying from the board: exit status {process.returncode}")


def test(remote, program, reference, out, bench="", verify="", tasks="all", frames=30):
    """Runs all steps on a board over ssh and returns the cases. `out` receives the program's output files.

    `reference` is a folder of `faceptor reference`, `bench` and `verify` are further arguments of these verbs.
    """
    start = time.monotonic()
    copied = Case("ssh", "the program and the reference are copied")
    folder = remote.make_folder()
    try:
        remote.send([(program, "faceptor"), (reference, "reference")], folder)
        copied.seconds = copied.facts["seconds"] = round(time.monotonic() - start, 1)
        steps = [
            ("doctor", "doctor says what the board is", "./faceptor doctor --json >results/doctor.json"),
            ("bench", "bench measures the loop", f"./faceptor bench --tasks {tasks} {bench} --json results/bench.json >results/bench.txt"),
            ("verify", "verify finds the host's answers", f"./faceptor verify --reference reference {verify} "
             "--json results/verify.json --junit results/verify.xml >results/verify.txt"),
            ("devices", "devices lists the cameras", "./faceptor devices --json >results/devices.json"),
        ]  # fmt: skip
        remote.run(f"mkdir -p {folder}/results", 60)
        cases = [copied, *(step(remote, folder, *words) for words in steps)]
        cases.append(camera(remote, folder, tasks, frames))
        remote.fetch(f"{folder}/results", out)
    finally:
        remote.run(f"rm -rf {folder}", 60)
    return cases


def step(remote, folder, name, title, script):
    """Runs one command on the board; it passes if its exit status is 0."""
    case = Case("ssh", title)
    start = time.monotonic()
    try:
        log = f"results/{name}.log"
        done = remote.run(f"cd {folder} && {script} 2>{log} || {{ cat {log}; exit 1; }}", 1200)
        complaint = (done.stdout + done.stderr).decode(errors="replace").strip()
        case.check(done.returncode == 0, f"`{script}`: {complaint}")
    except subprocess.TimeoutExpired:
        case.failures.append(f"`{script}` took longer than 20 minutes")
    case.seconds = case.facts["seconds"] = round(time.monotonic() - start, 1)
    return case


def camera(remote, folder, tasks, frames):
    """Runs the loop on the first camera of the board, if there is one."""
    listed = remote.run(f"cat {folder}/results/devices.json", 60).stdout
    try:
        nodes = [camera["path"] for camera in json.loads(listed)["cameras"]]
    except (ValueError, KeyError, TypeError):
        nodes = []
    if not nodes:
        return Case("ssh", "no camera there: the loop is not tried on one")
    command = f"./faceptor run --source {nodes[0]} --tasks {tasks} --json --frames {frames} >results/camera.jsonl"
    case = step(remote, folder, "camera", f"the loop on {nodes[0]}", command)
    lines = remote.run(f"wc -l <{folder}/results/camera.jsonl", 60).stdout
    case.facts["frames"] = int(lines or 0)
    case.check(case.facts["frames"] >= frames, f"{case.facts['frames']} frames came, not {frames}")
    return case
