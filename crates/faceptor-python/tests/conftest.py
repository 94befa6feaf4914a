"""Holds what the tests share: the portrait, the program's answers, and analyzers."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any

import numpy as np
import pytest

import faceptor

ROOT = pathlib.Path(__file__).resolve().parents[3]
PORTRAIT = ROOT / "models/demo/astronaut.jpg"


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from run to run."""
    return {key: value for key, value in answer.items() if key not in ("timing_us", "path")}


def program(*arguments: object) -> list[dict[str, Any]]:
    """Returns what `faceptor image --json` prints. FACEPTOR_PROGRAM names the program; `make test-python-wheel` sets it."""
    command = [os.environ["FACEPTOR_PROGRAM"], "image", "--json", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def rgb() -> np.ndarray:
    """The portrait as an array, decoded by the package itself: other decoders differ by a level here and there."""
    portrait = faceptor.Analyzer(tasks=[], looks=1).analyze(PORTRAIT)
    blank = faceptor.Analyzer(tasks=[], looks=1).analyze(np.zeros((portrait.height, portrait.width, 3), np.uint8))
    assert not blank.faces
    # Nothing is drawn for no faces: these are the pixels of the file.
    return blank.draw(PORTRAIT)


@pytest.fixture(scope="session")
def every() -> faceptor.Analyzer:
    return faceptor.Analyzer(tasks="all")


@pytest.fixture(scope="session")
def quick() -> faceptor.Analyzer:
    """One task and one view: for tests in which the numbers matter little."""
    return faceptor.Analyzer(tasks=["age"], looks=1, upright=True)
