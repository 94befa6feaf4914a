"""Tests the folder for a GPU's machine, its views and its training, on the CPU."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import ARCFACE_112
from faceptor_models.student.recognition import crops, evaluate, gpu, gpu_train, gpu_views

torch.set_num_threads(1)
cv2.setNumThreads(0)


@pytest.fixture
def packed(tmp_path):
    folder, rng = tmp_path / "packed", np.random.default_rng(0)
    folder.mkdir()
    for source, count in (("celeba", 30), ("ferplus", 20)):
        coarse = rng.integers(0, 255, (count, 8, 8, 3), np.uint8)
        crops.save(folder / f"{source}-000{crops.FACES}", np.stack([cv2.resize(face, (128, 128)) for face in coarse]))
        crops.save(folder / f"{source}-000{crops.VECTORS}", crops.unit(rng.normal(size=(count, 512))).astype(np.float16))
    return crops.Packed(folder)


def test_the_folder_holds_what_fits_with_targets_and_faces_of_the_same_rows(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "OVERHEAD", 0)
    whole = gpu.fill(packed, 1.0)
    assert len(whole[0]) == 50 and whole[1].dtype == np.int8
    size = sum(map(len, whole[0][:20])) + 20 * 264
    images, targets, directions = gpu.fill(packed, size / 1024**2)
    assert len(images) == 20 == len(targets)
    gpu.write(images, targets, directions, 50, tmp_path / "out")
    faces, unit_targets = gpu_train.faces_of(tmp_path / "out")
    assert faces.shape == (20, 112, 112, 3) and np.allclose(np.linalg.norm(unit_targets, axis=1), 1, atol=1e-5)
    rows = gpu.order(packed, np.random.default_rng(0))[:20]
    exact = packed.targets(packed.directions())[rows]
    assert (exact * unit_targets).sum(1).min() > 0.999
    small = np.stack([cv2.resize(packed.face(row), (112, 112), interpolation=cv2.INTER_AREA) for row in rows])
    assert np.abs(small.astype(int) - faces).mean() < 6
    with pytest.raises(Refused, match="hold no face"):
        gpu.fill(packed, 1e-5)


def test_thinned_sources_come_late(packed):
    first = np.concatenate([gpu.order(packed, np.random.default_rng(seed))[:20] for seed in range(40)])
    assert (packed.source[first] == "ferplus").mean() < 0.3


def test_a_folder_of_something_else_is_not_replaced(packed, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(Refused, match="is no folder of"):
        gpu.write(*gpu.fill(packed, 2.0), 50, other)
    assert (other / "mine.txt").exists()


def test_the_folder_trains_alone_and_goes_on_where_it_stopped(packed, tmp_path):
    gpu.main(["--packed", str(packed.folder), "--out", str(tmp_path / "gpu"), "--mib", "2"])
    command = [sys.executable, "-I", str(tmp_path / "gpu/train.py"), "--out", str(tmp_path / "run"), "--size", "nano", "--batch", "8"]
    command += ["--minutes", "0.004", "--device", "cpu"]
    for end in (["--end-at", "0.00001"], []):
        done = subprocess.run([*command, *end], capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
    assert "nano: 50 faces on cpu, step 1, " in done.stdout
    assert evaluate.loaded(tmp_path / "run/weights.pt", "nano").size == "nano"
    with pytest.raises(Refused, match="size nano, not edge"):
        evaluate.loaded(tmp_path / "run/weights.pt", "edge")
    # The code that ran is the folder's own.
    names = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'gpu/code')!r}); "
         "import faceptor_models.student.recognition.gpu_train as g; print(*(m.__file__ for n, m in sys.modules.items() "
         "if n.startswith('faceptor_models') and m.__file__), sep='\\n')"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout.split("\n")  # fmt: skip
    found = {name for name in names if name}
    assert len(found) == len(gpu.CODE) and all(str(tmp_path / "gpu/code") in name for name in found)


def made(packed, tmp_path, out="run"):
    if not (tmp_path / "gpu").exists():
        gpu.write(*gpu.fill(packed, 2.0), 50, tmp_path / "gpu")
    return gpu_train.Training(tmp_path / "gpu", tmp_path / out, "nano", batch=8, bank=16, small_px=32, device="cpu")


def test_a_part_that_is_resumed_ends_like_the_whole(packed, tmp_path):
    whole, first = made(packed, tmp_path), made(packed, tmp_path, "cut")
    for share in (0.0, 0.2, 0.5, 0.9):
        whole.update(share)
    for share in (0.0, 0.2):
        first.update(share)
    first.used = 3.0
    first.save()
    again = made(packed, tmp_path, "cut")
    assert again.step == 2 and again.used == 3.0
    for share in (0.5, 0.9):
        again.update(share)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name
    for name, value in whole.average.state.items():
        assert torch.equal(value, again.average.state[name]), name
    state = torch.load(tmp_path / "cut/net.pt", weights_only=True)
    torch.save(state | {"step": 1}, tmp_path / "cut/net.pt")
    with pytest.raises(SystemExit, match="of different steps"):
        made(packed, tmp_path, "cut")


def test_steps_move_views_towards_their_targets(packed, tmp_path):
    run, found = made(packed, tmp_path), []
    run.rate = 3e-3
    for _ in range(40):
        run.step = 7  # the views of one step again and again
        found.append(run.update(0.3))
    assert (found[-1] < 0.8 * found[0]).all()


@pytest.mark.parametrize(("px", "side"), [(112, 128), (80, 112)])
def test_a_view_without_changes_is_the_arcface_crop(px, side, monkeypatch):
    for name in ("normal", "uniform"):
        monkeypatch.setattr(gpu_views.Dice, name, lambda self, *a, name=name: torch.zeros(a[1:] if name == "normal" else a[2:]) + (name == "uniform"))
    y, x = np.mgrid[:128, :128].astype(np.float32)
    window = cv2.resize(np.stack([x, y, x + y], -1) / 2, (side, side), interpolation=cv2.INTER_AREA)
    dice = gpu_views.Dice("cpu", 0)
    monkeypatch.setattr(dice, "uniform", lambda low, high, *shape: torch.full(shape, 0.9 if high == 1 else 0.0))
    where = gpu_views.places(dice, 1, px)
    scale = 112 / px
    assert torch.allclose(where[0, 0, 0], torch.full((2,), scale / 2 - 0.5), atol=1e-4)
    got = gpu_views.sampled(torch.from_numpy(window).permute(2, 0, 1)[None], where)[0].permute(1, 2, 0).numpy()
    expected = (np.arange(px) + 0.5) * scale - 0.5 + 8
    assert np.abs(got[px // 2, 2:-2, 0] * 2 - expected[2:-2]).max() < 0.6


def test_views_are_those_of_their_seed_and_stay_faces(packed):
    faces = torch.from_numpy(np.stack([packed.face(i) for i in range(24)]))
    one, same, other = gpu_views.views(faces, 80, 5), gpu_views.views(faces, 80, 5), gpu_views.views(faces, 80, 6)
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.shape == (24, 3, 80, 80) and one.min() >= -1 and one.max() <= 1 and bool(torch.isfinite(one).all())
    assert one.is_contiguous(memory_format=torch.channels_last)


def test_worn_things_lie_where_their_names_say():
    y, x = np.mgrid[:112, :112].astype(np.float32)
    where = torch.from_numpy(np.stack([x, y], -1))[None].expand(300, -1, -1, -1)
    changed = gpu_views.covered(gpu_views.Dice("cpu", 1), torch.full((300, 3, 112, 112), 0.123), where) != 0.123
    shares = changed.any(1).float().mean(0)
    eye, mouth = ARCFACE_112[0].astype(int), ARCFACE_112[3:].mean(0).astype(int)
    assert shares[mouth[1], mouth[0]] > 0.04 and shares[eye[1], eye[0]] > 0.02
    assert 0.02 < float(shares.mean()) < 0.2


def test_compression_keeps_flat_colours_and_loses_noise():
    flat = torch.tensor([0.9, 0.3, 0.5]).view(1, 3, 1, 1).expand(2, 3, 32, 32)
    assert (gpu_views.compressed(gpu_views.Dice("cpu", 2), flat) - flat).abs().max() < 0.06
    noisy = flat + 0.02 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    got = gpu_views.compressed(gpu_views.Dice("cpu", 2), noisy)
    assert got.std((2, 3)).max() < 0.8 * noisy.std((2, 3)).max()


def test_filters_keep_flat_pictures_and_soften_points():
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    for change in (gpu_views.blurred, gpu_views.moved):
        spread = [change(gpu_views.Dice("cpu", seed), point) for seed in range(6)]
        assert all(out.shape == point.shape and abs(float(out.sum()) - 3) < 0.05 for out in spread)
        assert min(float(out.max()) for out in spread) < 0.5
        assert torch.allclose(change(gpu_views.Dice("cpu", 1), torch.full((1, 3, 33, 33), 0.4)), torch.tensor(0.4), atol=1e-5)
