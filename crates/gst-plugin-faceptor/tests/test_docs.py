"""The pipeline and the program of docs/gstreamer.md run as they stand there."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

from streams import ROOT

PAGE = (ROOT / "docs/gstreamer.md").read_text()


class Docs(unittest.TestCase):
    def test_the_first_pipeline(self):
        command = re.search(r"\$ (gst-launch-1\.0 -m .*?)\n```", PAGE, re.DOTALL)[1].replace("\\\n", " ")
        with tempfile.TemporaryDirectory() as folder:
            film = pathlib.Path(folder) / "faces.avi"
            arguments = [argument.replace("location=faces.avi", f"location={film}") for argument in shlex.split(command)]
            done = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True)
            self.assertEqual(done.stdout.count(" (element): faceptor, json="), 30)
            self.assertTrue(film.read_bytes().startswith(b"RIFF") and film.stat().st_size > 100_000)

    def test_the_program(self):
        program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
        self.assertEqual([line.split()[0] + line.split()[-1] for line in done.stdout.splitlines()], ["1happiness"] * 3)


if __name__ == "__main__":
    unittest.main()
