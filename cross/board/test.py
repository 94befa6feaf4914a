#!/usr/bin/env python3
"""Runs faceptor on an arm64 board and checks the results. test.sh prepares its inputs and starts it."""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

import checks
import remote
import report
from machine import Machine

HERE = pathlib.Path(__file__).resolve().parent
# Longer than all scenarios take on a busy machine, so that a hanging board does not hang the test.
LIMIT_S = 600
# Longer than an image needs to boot and to take its first settings on a busy machine.
BOOT_LIMIT_S = 1200
# Emulation is a hundred times slower than a board, so each verb runs briefly there and nothing is measured.
SMALL_REFERENCE = ["--tasks", "landmarks,age", "--pictures", "1", "--frames", "20", "--warm-up", "5"]
SMALL_BENCH, SMALL_VERIFY = "--frames 2 --warm-up 1", "--frames 0"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="faceptor for arm64")
    parser.add_argument("--host", type=pathlib.Path, required=True, help="faceptor for this machine")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for intermediate files and the results")
    parser.add_argument("--board", metavar="USER@HOST", help="a real board, as a destination of ssh, instead of the virtual one")
    parser.add_argument("--image", type=pathlib.Path, metavar="FILE", help="an image of `make image`, booted on a virtual board, as that board")
    parser.add_argument("--only", nargs="+", choices=checks.SCENARIOS, help="only these scenarios of the virtual board")
    return parser.parse_args()


def reference(options, words=()):
    """Makes golden inputs and this machine's results and times, for `verify` on the board."""
    folder = options.out / "reference"
    print("board: making the reference on this machine", flush=True)
    subprocess.run([options.host, "reference", "--out", folder, *words], check=True, stdout=subprocess.DEVNULL)
    return folder


def emptied(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def real(options):
    """Tests a board over ssh."""
    results = emptied(options.out / "ssh")
    board = remote.Remote(options.board, shlex.split(os.environ.get("BOARD_SSH", "")))
    cases = remote.test(board, options.program, reference(options), results)
    return cases, {"machine": options.board}


def image(options):
    """Tests the virtual board that an image boots, over ssh, as any other board."""
    sys.path.insert(0, str(HERE.parents[1] / "packaging/image"))
    import board

    board.prepare()
    results = emptied(options.out / "ssh")
    disk = board.Disk(options.image, emptied(options.out / "image"))
    disk.settings({"authorized_keys": disk.key.with_suffix(".pub").read_text(), "hostname": "board-test\n", "test-camera": ""})
    machine = board.Board(disk)
    try:
        print(f"board: booting {options.image}", flush=True)
        machine.until("ssh", "true", BOOT_LIMIT_S)
        booted_s = round(machine.age())
        # Its service has the camera.
        machine.out("systemctl stop faceptor.service && systemctl --quiet is-system-running --wait || true")
        words = ["-i", str(disk.key), "-p", str(machine.port), "-o", "IdentitiesOnly=yes", *board.SSH[1:]]
        over_ssh = remote.Remote("root@127.0.0.1", words)
        few = {"bench": SMALL_BENCH, "verify": SMALL_VERIFY, "tasks": "age", "frames": 3}
        cases = remote.test(over_ssh, options.program, reference(options, SMALL_REFERENCE), results, **few)
        system = machine.out("uname -sr")
        machine.power_off()
    finally:
        machine.stop()
        shutil.rmtree(disk.folder)
    return cases, {"machine": f"{options.image.name} in QEMU, cortex-a76, emulated", "system": system, "seconds to ssh": booted_s}


class Virtual:
    """Boots the virtual board, runs the scenarios on it and checks their results on the host."""

    def __init__(self, options):
        self.options = options
        self.scenarios = options.only or list(checks.SCENARIOS)
        self.shared = emptied(options.out / "shared")
        shutil.copytree(HERE / "inside", self.shared, dirs_exist_ok=True)
        shutil.copytree(options.out / "clips", self.shared / "clips")
        shutil.copy(options.program, self.shared / "faceptor")
        shutil.copy(options.out / "feeder", self.shared / "feeder")
        (self.shared / "scenarios").write_text("\n".join(self.scenarios) + "\n")
        self.over_ssh = []
        if "ssh" in self.scenarios:
            self.reference = reference(options, SMALL_REFERENCE)
            self.key = options.out / "key"
            if not self.key.exists():
                words = ["-q", "-t", "ed25519", "-N", "", "-C", "virtual board"]
                subprocess.run(["ssh-keygen", *words, "-f", self.key], check=True)
            shutil.copy(self.key.with_suffix(".pub"), self.shared / "authorized_keys")

    def ssh(self):
        """Runs all steps for a real board over the virtual one's ssh server, on the board's request."""
        options = ["-i", str(self.key), "-p", str(self.machine.ssh_port), "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        board = remote.Remote("root@127.0.0.1", options)
        results = emptied(self.options.out / "ssh")
        few = {"bench": SMALL_BENCH, "verify": SMALL_VERIFY, "tasks": "age", "frames": 3}
        self.over_ssh = remote.test(board, self.options.program, self.reference, results, **few)
        for case in self.over_ssh:
            case.check("no camera" not in case.name, "the board has two")

    def run(self):
        self.machine = Machine(self.shared)
        self.machine.calls["ssh"] = self.ssh
        status = self.machine.wait(LIMIT_S)
        boot = report.Case("board", "boots, runs the scenarios and powers off")
        boot.check(status == 0, f"exit status {status}")
        greeting = next((line for line in self.machine.lines if line.startswith("board: kernel")), "")
        cases = [boot]
        for scenario in self.scenarios:
            cases += self.judge(scenario)
        return cases, {"machine": "virtual: QEMU virt, cortex-a76, emulated", "greeting": greeting}

    def judge(self, scenario):
        ran = report.Case(scenario, "the scenario ran")
        results = self.shared / "results" / scenario
        if not (results / "time").exists():
            ran.failures.append("it did not end" if results.exists() else "the board never came to it")
            return [ran]
        start, end = map(float, (results / "time").read_text().split())
        ran.seconds = ran.facts["seconds"] = round(end - start, 2)
        ran.check(not (results / "failed").exists(), "it ended early: see above")
        if scenario == "ssh":
            return [ran, *self.over_ssh]
        try:
            return [ran, *checks.SCENARIOS[scenario](self.shared)]
        except Exception as error:  # unreadable results are a failure of the scenario and do not end the test
            ran.failures.append(f"its results cannot be judged: {error!r}")
            return [ran]


def main():
    options = arguments()
    start = time.monotonic()
    if options.image:
        cases, board = image(options)
    else:
        cases, board = real(options) if options.board else Virtual(options).run()
    print(report.table(cases))
    report.write(cases, board, options.out)
    failed = sum(bool(case.failures) for case in cases)
    verdict = f"{failed} of {len(cases)} cases FAILED" if failed else f"all {len(cases)} cases passed"
    print(f"board: {verdict} in {time.monotonic() - start:.0f} s; {options.out}/board.json, board.xml, board.html")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
