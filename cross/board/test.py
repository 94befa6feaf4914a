#!/usr/bin/env python3
"""Runs faceptor on an arm64 board and judges what came of it. Started by test.sh, which makes what it needs."""

import argparse
import pathlib
import shutil
import sys
import time

import checks
import report
from machine import Machine

HERE = pathlib.Path(__file__).resolve().parent
# Longer than any scenario takes on a busy machine: a board that hangs shall not hang the test.
LIMIT_S = 420


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="faceptor for arm64")
    parser.add_argument("--host", type=pathlib.Path, required=True, help="faceptor for this machine")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for what is made and for the results")
    parser.add_argument("--only", nargs="+", choices=checks.SCENARIOS, help="only these scenarios of the virtual board")
    return parser.parse_args()


def share(options, scenarios):
    """The folder that the board will see."""
    shared = options.out / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    shutil.copytree(HERE / "inside", shared)
    shutil.copytree(options.out / "clips", shared / "clips")
    shutil.copy(options.program, shared / "faceptor")
    shutil.copy(options.out / "feeder", shared / "feeder")
    (shared / "scenarios").write_text("\n".join(scenarios) + "\n")
    return shared


def virtual(options):
    """Boots the virtual board, runs the scenarios there, judges them here."""
    scenarios = options.only or list(checks.SCENARIOS)
    shared = share(options, scenarios)
    machine = Machine(shared)
    status = machine.wait(LIMIT_S)
    cases = []
    for scenario in scenarios:
        case = report.Case(scenario, "the scenario ran")
        results = shared / "results" / scenario
        if (results / "time").exists() and not (results / "failed").exists():
            start, end = map(float, (results / "time").read_text().split())
            case.seconds = case.facts["seconds"] = round(end - start, 2)
            cases += [case, *checks.SCENARIOS[scenario](shared)]
        else:
            case.failures.append("it ended early" if results.exists() else "the board never came to it")
            cases.append(case)
    boot = report.Case("board", "boots, runs the scenarios and powers off")
    boot.check(status == 0, f"exit status {status}")
    return [boot, *cases], {"machine": "virtual: QEMU virt, cortex-a76, emulated"}


def main():
    options = arguments()
    start = time.monotonic()
    cases, board = virtual(options)
    print(report.table(cases))
    report.write(cases, board, options.out)
    failed = sum(bool(case.failures) for case in cases)
    verdict = f"{failed} of {len(cases)} cases FAILED" if failed else f"all {len(cases)} cases passed"
    print(f"board: {verdict} in {time.monotonic() - start:.0f} s; {options.out}/board.json, board.xml")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
