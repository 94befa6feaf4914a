"""Computes the teachers' answers for every crop of a distillation once, and keeps them as half-precision arrays in the run's folder."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np

from faceptor_models.common.errors import Refused

SAVE_EVERY = 64
WAIT_S = 2.0


class Targets:
    """Returns {match key: {what: array}} of the crop at a position of `entries` [(source, row)] from `answer(position)`."""

    def __init__(self, folder, teachers, crops, entries, px):
        self.folder, self.teachers, self.crops, self.entries, self.px = Path(folder), teachers, crops, entries, px
        self.first = [t.answer(self.rgb(0), px) for t in teachers]
        self.arrays = {}

    def rgb(self, position):
        source, row = self.entries[position]
        return self.crops.rgb(source, row)

    def shapes(self, teacher, taught):
        return {what: value.shape for what, value in self.first[teacher][taught.name].items()}

    def fingerprint(self):
        """Identifies the kept answers: teachers' files, crops and the maps' size."""
        held = hashlib.sha256(json.dumps([self.entries, self.px], default=int).encode())
        for teacher in self.teachers:
            for part, *_ in teacher.parts:
                held.update((teacher.folder / part["file"]).read_bytes())
        return held.hexdigest()

    def compute(self, matches, world, log=print):
        """Computes what is missing on the first process; then every process maps the arrays."""
        shapes = {(m.key, what): shape for m in matches for what, shape in self.shapes(m.teacher, m.taught).items()}
        names = {key: self.folder / f"{i}.npy" for i, key in enumerate(sorted(shapes))}
        if world.first:
            self.fill(matches, shapes, names, log)
        # A barrier at this point would time out before a large teacher is done.
        while not world.first and not self.finished():
            time.sleep(WAIT_S)
        world.wait()
        self.arrays = {key: np.load(path, mmap_mode="r") for key, path in names.items()}

    def finished(self):
        index = self.folder / "index.json"
        held = json.loads(index.read_text()) if index.exists() else {}
        return held.get("mark") == self.fingerprint() and held["done"] == len(self.entries)

    def fill(self, matches, shapes, names, log):
        self.folder.mkdir(parents=True, exist_ok=True)
        index, mark = self.folder / "index.json", self.fingerprint()
        held = json.loads(index.read_text()) if index.exists() else {"mark": mark, "keys": [list(k) for k in sorted(shapes)], "done": 0}
        if held["mark"] != mark or [tuple(k) for k in held["keys"]] != sorted(shapes):
            raise Refused(f"{self.folder} holds answers of other teachers or for other crops: remove it, or name another --out")
        mode = "r+" if index.exists() else "w+"
        out = {k: np.lib.format.open_memmap(names[k], mode, np.float16, (len(self.entries), *shapes[k])) for k in shapes}
        for position in range(held["done"], len(self.entries)):
            rgb = self.rgb(position)
            answers = [t.answer(rgb, self.px) for t in self.teachers]
            for key, what in shapes:
                teacher, name = key.split(".", 1)
                value = answers[int(teacher)][name][what]
                # Logits of sure teachers may exceed half precision.
                out[key, what][position] = np.clip(value, -6e4, 6e4) if value.dtype.kind == "f" else value
            if (position + 1) % SAVE_EVERY == 0 or position + 1 == len(self.entries):
                for array in out.values():
                    array.flush()
                part = index.with_suffix(".part")
                part.write_text(json.dumps(held | {"done": position + 1}))
                part.replace(index)
                log(f"teachers' answers: {position + 1} of {len(self.entries)} crops")

    def answer(self, position):
        out = {}
        for (key, what), array in self.arrays.items():
            out.setdefault(key, {})[what] = np.asarray(array[position], np.float32)
        return out
