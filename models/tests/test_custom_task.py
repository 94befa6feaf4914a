"""Tests a custom task on the smaller network of this repository."""

import json
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from faceptor_models.prepare.build import webp
from faceptor_models.prepare.rows import table
from faceptor_models.student import custom_task
from faceptor_models.student.evaluate import load

torch.set_num_threads(1)
MODELS = Path(__file__).parent.parent
NANO = MODELS / "nano"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Writes crops of the demo's face, every other one with a green cap, in the layout of `prepare`."""
    root = tmp_path_factory.mktemp("faces")
    photo = Image.open(MODELS / "demo/astronaut.jpg").convert("RGB").crop((141, 40, 309, 208)).resize((192, 192))
    rng = np.random.default_rng(1)
    rows = {"train": [], "dev": []}
    for split in rows:
        (root / split / "own").mkdir(parents=True)
    with zipfile.ZipFile(root / "train/own.zip", "w") as archive:
        for i in range(30):
            rgb = np.clip(np.asarray(photo) * rng.uniform(0.7, 1.2) + rng.normal(0, 4, (192, 192, 3)), 0, 255).astype(np.uint8)
            if i % 2:
                rgb[: 50 + i % 5] = (20, 160, 60)
            split = "dev" if i % 5 == 4 else "train"
            path = f"own/{i}.webp"
            rows[split].append({"path": path, "source": "own", "task.head": ["bare", "cap"][i % 2] if i != 3 else ""})
            if split == "train":
                archive.writestr(path, webp(rgb))
            else:
                (root / "dev" / path).write_bytes(webp(rgb))
    for split, made in rows.items():
        np.savez(root / split / "labels.npz", **table(made))
    return root


def test_a_task_is_learned_and_joins_the_export(faces, tmp_path, capsys):
    out = tmp_path / "export"
    custom_task.main([str(faces), "--task", "head", "--weights", str(NANO / "weights.pt"), "--export", str(NANO), "--out", str(out)])
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert report["classes"] == ["bare", "cap"] and report["photos"] == 23 and report["dev_photos"] == 6
    assert report["held_out_accuracy"] > 0.9 and report["dev_accuracy"] == 1.0
    manifest = tomllib.loads((out / "manifest.toml").read_text())
    task = manifest["task"][-1]
    assert (task["name"], task["kind"], task["labels"]) == ("head", "classes", ["bare", "cap"])
    # Its classes may have a side, which a second, mirrored crop could not tell apart.
    assert "mirror" not in task and all(other["mirror"] for other in manifest["task"][:-1])
    assert all((out / part["file"]).exists() for part in manifest["part"])
    session = onnxruntime.InferenceSession(str(out / "task_head.onnx"), providers=["CPUExecutionProvider"])
    _, _, dev = custom_task.labelled(faces, "head")
    net, _ = load(NANO / "weights.pt")
    maps = custom_task.features(net, np.stack([custom_task.network_image(custom_task.filled(rgb), 96) for rgb, _ in dev])).numpy()
    for one, (_, said) in zip(maps, dev):
        answer = session.run(None, {"feature16": one[None]})[0][0]
        assert abs(answer.sum() - 1) < 1e-4 and answer.argmax() == said


@pytest.mark.parametrize("task,said", [("hat", "has no task hat: head"), ("age", "")])
def test_labels_that_cannot_be_learned_are_refused(faces, tmp_path, task, said):
    with pytest.raises(SystemExit) as refused:
        custom_task.main([str(faces), "--task", task, "--weights", str(NANO / "weights.pt"), "--export", str(NANO), "--out", str(tmp_path / "x")])
    assert said in str(refused.value) and not (tmp_path / "x").exists()
