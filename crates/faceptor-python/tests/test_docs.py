"""The programs of docs/python.md and of the README run as they are printed there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import PORTRAIT, ROOT

PROGRAMS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), flags=re.MULTILINE | re.DOTALL)
# Not in requirements.txt: FACEPTOR_EXAMPLES=1 requires them.
LARGE = ("cv2", "pandas")


def test_every_program_is_found():
    assert len(PROGRAMS) == 8


def write_film(folder):
    """Writes a film of two frames."""
    cv2 = pytest.importorskip("cv2")
    image = cv2.imread(str(folder / "photo.jpg"))
    writer = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (image.shape[1], image.shape[0]))
    for _ in range(2):
        writer.write(image)
    writer.release()


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.split("import ")[-1].split()[0] + str(i) for i, program in enumerate(PROGRAMS)])
def test_a_program_of_the_page_runs(program, tmp_path):
    for name in LARGE:
        if f"import {name}" in program and not os.environ.get("FACEPTOR_EXAMPLES"):
            pytest.importorskip(name)
    shutil.copy(PORTRAIT, tmp_path / "photo.jpg")
    if "film.avi" in program:
        write_film(tmp_path)
    done = subprocess.run([sys.executable, "-c", program, "photo.jpg"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "np.zeros" in program or done.stdout, program


def test_the_output_on_the_page_is_that_of_the_program(tmp_path):
    page = (ROOT / "docs/python.md").read_text()
    shutil.copy(PORTRAIT, tmp_path)
    done = subprocess.run([sys.executable, "-c", PROGRAMS[0], PORTRAIT.name], cwd=tmp_path, capture_output=True, text=True)
    assert f"$ python ages.py {PORTRAIT.name}\n{done.stdout}```" in page


def test_the_output_in_the_readme_is_that_of_its_program():
    section = (ROOT / "README.md").read_text().split("\n## Python\n")[1].split("\n## ")[0]
    command = re.search(r"python -c '(.*?)'\n(.*?)```", section, flags=re.DOTALL)
    program = re.sub(r"^> ", "", command[1], flags=re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == command[2], done.stderr
