"""Tests the recognition tower: packing, views, losses, layouts, resuming, evaluation. The faces are made up."""

import dataclasses
import io
import zipfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import ARCFACE_112, TEMPLATE
from faceptor_models.student import layout
from faceptor_models.student.identity import Photos
from faceptor_models.student.network import Encoder
from faceptor_models.student.recognition import crops, evaluate, losses, options, pack, tower, train, views, windows

torch.set_num_threads(1)
# Later tests fork: OpenCV's threads in this process would leave their locks in the children.
cv2.setNumThreads(0)


class Teacher:
    """Answers a crop with a few fixed projections of it."""

    def __init__(self, numbers=512):
        self.axes = np.random.default_rng(0).normal(size=(7 * 7 * 3, numbers))
        self.asked = 0

    def vectors(self, faces):
        self.asked += len(faces)
        small = np.stack([cv2.resize(face, (7, 7), interpolation=cv2.INTER_AREA) for face in faces]).reshape(len(faces), -1)
        return crops.unit((small / 127.5 - 1) @ self.axes)


def faces_folder(path, counts, side=64, seed=0):
    """Writes a faces folder with `counts` crops of each source, and a dev split that must not be read."""
    rng, rows = np.random.default_rng(seed), {"path": [], "source": []}
    (path / "train").mkdir(parents=True)
    for source, count in counts.items():
        with zipfile.ZipFile(path / f"train/{source}.zip", "w") as archive:
            for i in range(count):
                buffer = io.BytesIO()
                coarse = rng.integers(20, 255, (6, 6, 3), np.uint8)
                Image.fromarray(cv2.resize(coarse, (side, side))).save(buffer, "WEBP", quality=95)
                archive.writestr(f"{source}/{i}.webp", buffer.getvalue())
                rows["path"].append(f"{source}/{i}.webp")
                rows["source"].append(source)
    np.savez(path / "train/labels.npz", **{k: np.array(v) for k, v in rows.items()})
    return path


@pytest.fixture
def packed(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "SHARD", 10)
    folder = faces_folder(tmp_path / "faces", {"celeba": 24, "ferplus": 12})
    pack.pack([folder], Teacher(), tmp_path / "packed")
    return tmp_path / "packed"


def test_window_holds_the_arcface_crop_in_its_middle():
    side = 192
    rgb = np.zeros((side, side, 3), np.uint8)
    for x, y in np.round(TEMPLATE * side).astype(int):
        cv2.circle(rgb, (int(x), int(y)), 2, (255, 255, 255), -1)
    crop = windows.middle(windows.window(rgb))
    assert crop.shape == (112, 112, 3)
    for x, y in np.round(ARCFACE_112).astype(int):
        assert crop[y, x].min() > 200
    assert (crop > 128).mean() < 0.02


def test_pack_writes_first_shards_of_every_source_first_and_keeps_what_exists(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "SHARD", 10)
    first, more = faces_folder(tmp_path / "a", {"celeba": 24, "ferplus": 12}), faces_folder(tmp_path / "b", {"utk_more": 5}, seed=1)
    assert [job[:2] for job in pack.jobs([first, more])] == [
        (0, "celeba"), (0, "ferplus"), (0, "utk_more"), (1, "celeba"), (1, "ferplus"), (2, "celeba")
    ]  # fmt: skip
    teacher, out = Teacher(), tmp_path / "out"
    pack.pack([first], teacher, out)
    assert teacher.asked == 36
    # A shard whose vectors are missing was cut short.
    (out / "celeba-001.vectors.npy").unlink()
    before = (out / "celeba-000.vectors.npy").stat().st_mtime_ns
    pack.pack([first, more], teacher, out)
    assert teacher.asked == 36 + 10 + 5 and (out / "celeba-000.vectors.npy").stat().st_mtime_ns == before
    held = crops.Packed(out)
    assert len(held) == 41 and held.names == ["celeba-000", "celeba-001", "celeba-002", "ferplus-000", "ferplus-001", "utk_more-000"]
    assert not list(out.glob("*.part"))
    assert np.allclose(np.linalg.norm(held.vectors.astype(float), axis=1), 1, atol=2e-3)
    expected = Teacher().vectors(windows.middle(held.face(25))[None])[0]
    assert np.allclose(held.vectors[25], expected, atol=1e-3)


def test_pack_refuses_a_source_that_two_folders_have(tmp_path):
    folders = [faces_folder(tmp_path / name, {"celeba": 2}) for name in "ab"]
    with pytest.raises(Refused, match="both have the source celeba"):
        pack.jobs(folders)


def test_a_run_keeps_its_row_numbers_when_shards_come(packed):
    early = crops.Packed(packed, ["ferplus-000", "celeba-001"])
    assert early.names == ["ferplus-000", "celeba-001", "celeba-000", "celeba-002", "ferplus-001"]
    assert list(early.source[:10]) == ["ferplus"] * 10
    assert np.array_equal(early.face(10), np.load(packed / "celeba-001.faces.npy")[0])
    with pytest.raises(Refused, match="lacks the packed faces celeba-009"):
        crops.Packed(packed, ["celeba-009"])
    with pytest.raises(Refused, match="holds no packed faces"):
        crops.Packed(packed / "none")
    np.save(packed / "celeba-000.vectors.npy", np.zeros((3, 512), np.float16))
    with pytest.raises(Refused, match="celeba-000 has 10 faces and 3 vectors"):
        crops.Packed(packed)


def test_directions_are_orthonormal_and_hold_the_most(packed):
    rng = np.random.default_rng(0)
    vectors = crops.unit(rng.normal(size=(400, 20)) * np.linspace(3, 0.1, 20))
    axes = crops.main_directions(vectors, 5)
    assert np.allclose(axes @ axes.T, np.eye(5), atol=1e-5)
    squares = ((vectors @ axes.T) ** 2).sum()
    other = np.linalg.qr(rng.normal(size=(20, 5)))[0]
    assert squares > ((vectors @ other) ** 2).sum() and squares > 0.99 * ((vectors[:, :5]) ** 2).sum()
    held = crops.Packed(packed)
    targets = held.targets(held.directions())
    assert targets.shape == (36, 256) and np.allclose(np.linalg.norm(targets, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("px", [80, 112])
def test_a_light_view_shows_the_middle_of_the_window(px, monkeypatch):
    monkeypatch.setattr(views, "LIGHT", 1.0)
    y, x = np.mgrid[:128, :128]
    face = np.stack([x, y, (x + y) // 2], -1).astype(np.uint8)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        assert rng.random() < views.LIGHT
        matrix, mirrored = views.alignment(rng, px, True)
        image = cv2.warpAffine(face, matrix, (px, px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        assert np.abs(image[px // 2, px // 2, :2].astype(int) - 63.5).max() < 6
        assert (image[px // 2, 2, 0] > image[px // 2, -3, 0]) == mirrored
        shown = views.placed(matrix)
        back = shown @ matrix[:, :2].T + matrix[:, 2]
        assert np.allclose(back, ARCFACE_112 + 8)


def test_views_are_those_of_their_seed_and_cover_every_change(packed, monkeypatch):
    held = crops.Packed(packed)
    batches = views.Batches(held, 6)
    one, same, other = batches.make((1, 2)), batches.make((1, 2)), batches.make((1, 3), 80)
    assert one["image"].shape == (6, 112, 112, 3) and one["image"].dtype == np.uint8
    assert np.array_equal(one["image"], same["image"]) and np.array_equal(one["rows"], same["rows"])
    assert other["image"].shape == (6, 80, 80, 3) and not np.array_equal(one["rows"], other["rows"])
    done = set()
    for name in ("mask", "glasses", "cover", "shrunk", "moved"):
        plain = getattr(views, name)
        monkeypatch.setattr(views, name, lambda *a, name=name, plain=plain: (done.add(name), plain(*a))[1])
    for name in ("SMALL", "BLURRED", "MOVED", "DARK", "NOISY", "COMPRESSED", "MASKED", "SPECTACLES", "COVERED"):
        monkeypatch.setattr(views, name, 1.0)
    for seed in range(20):
        image = views.view(np.random.default_rng(seed), held.face(0), 112)
        assert image.shape == (112, 112, 3)
    assert done == {"mask", "glasses", "cover", "shrunk", "moved"}


def test_drawn_things_lie_where_their_names_say():
    points = ARCFACE_112.copy()
    for seed in range(12):
        grey = np.full((112, 112, 3), 7, np.uint8)
        masked, spectacled = grey.copy(), grey.copy()
        views.mask(np.random.default_rng(seed), masked, points)
        views.glasses(np.random.default_rng(seed), spectacled, points)
        below, above = (masked != 7).any(2)[85:].mean(), (masked != 7).any(2)[:50].mean()
        assert below > 0.1 and above < 0.02
        rows = np.nonzero((spectacled != 7).any((1, 2)))[0]
        assert len(rows) and 30 < rows.mean() < 65


def test_sources_come_as_often_as_they_weigh(packed):
    batches = views.Batches(crops.Packed(packed), 1, {"ferplus": 0.0})
    drawn = np.concatenate([views.Batches(batches.packed, 4, {"ferplus": 0.0}).make((0, i))["rows"] for i in range(5)])
    assert set(batches.packed.source[drawn]) == {"celeba"}


def test_losses_vanish_at_the_teacher_and_grow_when_faces_collapse():
    torch.manual_seed(0)
    teacher = F.normalize(torch.randn(8, 12), dim=1)
    bank = F.normalize(torch.randn(30, 12), dim=1)
    exact = losses.compute(teacher * 3, teacher, teacher, bank)
    assert all(abs(float(value)) < 1e-5 for value in exact.values()) and exact.keys() == losses.WEIGHTS.keys()
    mean = F.normalize(teacher.mean(0, keepdim=True), dim=1).expand(8, -1)
    collapsed = losses.compute(mean, teacher, teacher, bank)
    assert all(float(value) > 0.05 for value in collapsed.values())
    # One pair of equal embeddings among four: two of the twelve ordered pairs are wrong by 1.
    eye = torch.eye(4)
    assert torch.isclose(losses.relation(eye[[0, 0, 2, 3]], eye), torch.tensor(2 / 12))
    assert torch.isclose(losses.total({"cosine": torch.tensor(2.0)}, {"cosine": 3.0}), torch.tensor(6.0))


def test_naming_forgives_two_photos_of_one_person():
    target = F.normalize(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.02, 0.0], [0.0, 0.0, 1.0]]), dim=1)
    apart = losses.naming(target[[2, 1, 2]], target, target[:0])
    twin = losses.naming(target[[1, 1, 2]], target, target[:0])
    assert float(twin) < 0.01 < 1 < float(apart)


@pytest.mark.parametrize(("size", "products", "weights"), [("edge", 200e6, 2.5e6), ("nano", 60e6, 1e6)])
def test_towers_keep_their_budget_and_take_small_pictures(size, products, weights):
    macs, numbers = tower.cost(size)
    assert macs <= products and numbers <= weights
    net = tower.Tower(size).eval()
    for px in (80, 112):
        assert net(torch.zeros(2, 3, px, px)).shape == (2, 256)
    assert all(width % 16 == 0 for width in tower.SIZES[size]["widths"])


def test_the_costs_are_printed(capsys):
    tower.main()
    macs, numbers = tower.cost("edge")
    assert f"| edge | {macs / 1e6:.1f} | {numbers:,} |" in capsys.readouterr().out.splitlines()


def test_layouts_agree_and_the_fastest_is_taken(monkeypatch):
    torch.manual_seed(0)
    net, image = tower.Tower("nano").eval(), torch.rand(2, 3, 48, 48)
    plain = net(image)
    for how in layout.LAYOUTS.values():
        with torch.no_grad(), how.products(image.device):
            out = how.arrange(net)(how.placed(image)).float()
        assert F.cosine_similarity(out, plain).min() > (0.99 if how.half else 0.9999)
    for made, px in ((tower.Tower("nano"), 16), (Encoder((16, 16, 16, 16), (0, 0, 1)), 32)):
        assert layout.measured(made, px, 2, 1).keys() == layout.LAYOUTS.keys()
    monkeypatch.setattr(layout, "measured", lambda *a: {"f32-contiguous": 2.0, "bf16-channels-last": 3.0, "f32-channels-last": 1.0})
    said = []
    assert layout.chosen("auto", net, 48, torch.device("cpu"), said.append).name == "bf16-channels-last" and "3.0" in said[0]
    assert layout.chosen("f32-contiguous", net, 48, torch.device("cpu")) == layout.Layout(False, False)


def test_a_turned_tower_gives_turned_embeddings():
    torch.manual_seed(0)
    net = tower.Tower("nano").train()
    for _ in range(3):
        net(torch.rand(6, 3, 48, 48))
    with torch.no_grad():
        net.head.norm.weight.uniform_(0.5, 2)
        net.head.norm.bias.normal_()
    rotation, image = torch.linalg.qr(torch.randn(256, 256))[0], torch.rand(2, 3, 48, 48)
    other = tower.Tower("nano").eval()
    other.load_state_dict(tower.turned(net.state_dict(), rotation))
    with torch.no_grad():
        assert torch.allclose(other(image), net.eval()(image) @ rotation.T, atol=1e-3)


SETTINGS = options.TowerSettings(samples=48, batch=8, small_px=32, bank=8, warm=8, seed=3)


def training(packed, out, settings=SETTINGS, workers=0, **more):
    return train.Training("nano", settings, packed, out, how="f32-channels-last", workers=workers, **more)


def test_a_run_that_is_cut_ends_like_one_that_is_not(packed, tmp_path, monkeypatch):
    whole = training(packed, tmp_path / "whole")
    whole.run()
    assert whole.step == SETTINGS.steps == 6
    cut = training(packed, tmp_path / "cut", save_minutes=0)
    # Cut after the third step, whose checkpoint the run wrote.
    monkeypatch.setattr(train.Training, "grown", lambda run: run.step == 3)
    monkeypatch.setattr(train.Training, "take_in", lambda run, known: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    monkeypatch.undo()
    again = training(packed, tmp_path / "cut")
    assert again.step == 3
    again.run()
    assert again.step == 6
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name
    for name, value in whole.average.state.items():
        assert torch.equal(value, again.average.state[name]), name
    log = (tmp_path / "whole" / "log.csv").read_text().splitlines()
    assert log[0].startswith("step,samples,minutes,px,faces,rate,a_second,cosine,relation,naming") and log[-1].startswith("6,48,")


def test_views_of_another_process_make_the_same_run(packed, tmp_path):
    settings = dataclasses.replace(SETTINGS, samples=16)
    runs = [training(packed, tmp_path / str(workers), settings, workers) for workers in (0, 1)]
    for run in runs:
        run.run()
    assert all(torch.equal(value, runs[1].net.state_dict()[name]) for name, value in runs[0].net.state_dict().items())


def test_a_run_takes_in_faces_that_come(packed, tmp_path, monkeypatch):
    later = [packed / f"ferplus-001{end}" for end in (crops.FACES, crops.VECTORS)]
    held = [path.read_bytes() for path in later]
    for path in later:
        path.unlink()
    run = training(packed, tmp_path / "run", save_minutes=0)
    assert len(run.packed) == 34
    update = train.Training.update

    def arriving(self, batch):
        if self.step == 2:
            for path, data in zip(later, held):
                path.write_bytes(data)
        return update(self, batch)

    monkeypatch.setattr(train.Training, "update", arriving)
    run.run()
    assert run.step == 6 and len(run.packed) == 36 and run.packed.names[-1] == "ferplus-001"
    assert torch.load(run.checkpoint, weights_only=True)["shards"] == run.packed.names


def test_directions_follow_when_the_faces_have_doubled(packed, tmp_path):
    names = [path.name.removesuffix(crops.VECTORS) for path in sorted(packed.glob(f"*{crops.VECTORS}"))]
    away = tmp_path / "away"
    away.mkdir()
    for name in names[1:]:
        for end in (crops.FACES, crops.VECTORS):
            (packed / f"{name}{end}").rename(away / f"{name}{end}")
    run = training(packed, tmp_path / "run")
    first, image = run.directions, torch.rand(2, 3, 32, 32)
    run.update(run.batches.make((0, 0), 32))
    before = run.averaged()(image)
    for file in away.iterdir():
        file.rename(packed / file.name)
    run.take_in(run.packed.names)
    assert run.fitted == 36 and not torch.equal(run.directions, first)
    # The part of the embedding along the teacher's 512 numbers stays, as far as both sets of directions hold it.
    after = run.averaged()(image)
    assert torch.allclose(after, before @ (run.directions @ first.T).T, atol=2e-3)
    run.update(run.batches.make((0, 1), 32))
    run.save()
    again = training(packed, tmp_path / "run")
    assert torch.equal(again.directions, run.directions) and again.fitted == 36
    other = training(packed, tmp_path / "other", start=run.checkpoint)
    assert other.step == 0 and torch.equal(other.directions, run.directions)
    assert torch.allclose(other.net.eval()(image), again.averaged()(image), atol=1e-5)


def test_steps_move_views_towards_their_faces_vectors(packed, tmp_path):
    run = training(packed, tmp_path / "run", dataclasses.replace(SETTINGS, samples=8 * 60, rate=3e-3, fall_from=1.0))
    batch = run.batches.make((9, 9), 32)
    found = [run.update(batch) for _ in range(40)]
    for name in losses.WEIGHTS:
        assert found[-1][name] < 0.7 * found[0][name], name


def test_a_checkpoint_of_another_size_is_refused(packed, tmp_path):
    run = training(packed, tmp_path / "run")
    run.save()
    with pytest.raises(Refused, match="is of the size nano"):
        train.Training("edge", SETTINGS, packed, tmp_path / "run", how="f32-contiguous")


def test_the_recipe_has_both_towers_and_wrong_settings_are_refused(tmp_path):
    for size in tower.SIZES:
        made = options.read(train.RECIPE, size)
        assert made.weigh["ferplus"] <= 0.4
        assert made.px_at(0) == made.small_px and made.px_at(made.steps - 1) == 112
        assert made.rate_at(0) < made.rate_at(made.steps // 2) == made.rate and made.rate_at(made.steps) < 0.02 * made.rate
    with pytest.raises(Refused, match="no table"):
        options.read(train.RECIPE, "teacher")
    with pytest.raises(Refused, match="unknown loss term margin"):
        options.read(train.RECIPE, "edge", ["weights.margin=1.0"])
    with pytest.raises(Refused, match="small_px is 90"):
        options.read(train.RECIPE, "edge", ["small_px=90"])
    with pytest.raises(Refused, match=r"unknown setting edge\.sample"):
        options.read(train.RECIPE, "edge", ["sample=3"])


def test_measures_know_perfect_and_useless_embeddings():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(60), 4)
    centre = crops.unit(rng.normal(size=(60, 32)))
    perfect = crops.unit(centre[person] + 0.02 * rng.normal(size=(240, 32)))
    useless = crops.unit(rng.normal(size=(240, 32)))
    chosen = [(fold, 4 * fold + i, 4 * ((fold + i) % 60 if i % 2 else fold) + 3 - i % 2, i % 2 == 0) for fold in range(5) for i in (0, 1, 2, 3)]
    good = evaluate.measures(Photos(perfect.astype(np.float32), person), chosen, centre[:20], 3)
    bad = evaluate.measures(Photos(useless.astype(np.float32), person), chosen, np.repeat(centre[:1], 5, 0), 3)
    assert good["tar_1e-03"] == 100 and good["tar_1e-05"] == 100 and good["folds"] >= 90
    assert bad["tar_1e-03"] < 5 and bad["blurred_median"] > 0.99 and good["blurred_median"] < 0.3
    assert "named_500" not in good


def test_a_folder_of_crops_is_measured_with_checkpoints_and_in_any_batch(packed, tmp_path):
    run = training(packed, tmp_path / "run")
    run.save()
    net = evaluate.loaded(run.checkpoint)
    faces = windows.middle(np.stack([crops.Packed(packed).face(i) for i in range(5)]))
    whole = evaluate.answers_of(net)(faces)
    assert whole.shape == (5, 256) and np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    assert np.allclose(evaluate.answers_of(net)(faces[3:4]), whole[3:4], atol=1e-4)
    both = evaluate.answers_of(net, mirror=True)
    assert np.allclose(both(faces), both(faces[:, :, ::-1]), atol=1e-4)
    assert evaluate.answers_of(net, 80)(faces).shape == (5, 256)
    torch.save({"other": 1}, tmp_path / "other.pt")
    with pytest.raises(Refused, match="no checkpoint of"):
        evaluate.loaded(tmp_path / "other.pt")
