"""Tests controlled runs and the pieces of training that they try: balanced poses, the margin between people, inner maps."""

import csv
import tomllib

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from faceptor_models.common.augment import Jitter, sample
from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.geometry import apply, network_grid
from faceptor_models.common.packed_crops import Table
from faceptor_models.student import inner_maps, trials
from faceptor_models.student.identities import MARGIN, SCALE, Identities
from faceptor_models.student.loader import Batches
from faceptor_models.student.losses import HELPERS, TASKS, WEIGHTS
from faceptor_models.student.network import SIZES, Student
from faceptor_models.student.options import parsed
from faceptor_models.student.poses import MOST, pose_chances, turned
from faceptor_models.student.train import to_device
from faceptor_models.student.training_model import TrainingModel

torch.set_num_threads(1)
# Tests that follow may fork: OpenCV's threads would leave their locks in the children.
cv2.setNumThreads(0)


def faces(n, rng, nose=0.5):
    """Returns points [n, 68, 2] whose jaw ends at 0.2 and 0.8, with the nose's tip at `nose`."""
    points = rng.uniform(0.3, 0.7, (n, 68, 2)).astype(np.float32)
    points[:, 0], points[:, 16], points[:, 30] = (0.2, 0.5), (0.8, 0.5), np.stack([np.broadcast_to(nose, n), np.full(n, 0.5)], 1)
    return points


def test_turned_faces_are_drawn_as_often_as_frontal_ones_up_to_a_limit():
    nose = np.concatenate([np.full(80, 0.5), np.full(20, 0.62), np.full(2, 0.29)])
    points = faces(102, np.random.default_rng(0), nose)
    assert turned(points[[0, 80, 100]]) == pytest.approx([0.0, 0.4, 0.7], abs=1e-5)
    jaw = np.arange(68)
    jaw[[0, 16]] = 16, 0
    assert turned(np.float32([1, 0]) + np.float32([-1, 1]) * points[:, jaw]) == pytest.approx(turned(points), abs=1e-5)
    points[5] = np.nan
    chance = pose_chances(points)
    # The 79 known frontal ones, the 20 turned ones together as often, the two in profile as often as the limit allows.
    assert chance.sum() == pytest.approx(1) and chance[80:100].sum() == pytest.approx(79 * chance[0]) and chance[5] == chance[0]
    assert chance[100] == pytest.approx(MOST * chance[0])


def test_the_margin_is_cosface_from_the_teachers_means():
    teacher = F.normalize(torch.randn(5, 128, generator=torch.Generator().manual_seed(1)), dim=-1)
    term = Identities(np.array([7, 3, -1, 7, 90]), teacher.numpy().astype(np.float16))
    assert term.people.tolist() == [3, 7, 90]
    means = torch.stack([teacher[1], F.normalize(teacher[0] + teacher[3], dim=0), teacher[4]])
    assert torch.allclose(term.vectors, means, atol=2e-3)
    embedding = torch.randn(4, 128, generator=torch.Generator().manual_seed(2), requires_grad=True)
    # Of four rows one has no person and one has another one.
    found = term(embedding, torch.tensor([7, -1, 8, 3]))
    by_hand = 0.0
    for row, place in ((0, 1), (3, 0)):
        cosine = [float(F.cosine_similarity(embedding[row], v, dim=0).detach()) for v in term.vectors]
        cosine[place] -= MARGIN
        by_hand += np.log(np.exp(SCALE * np.array(cosine)).sum()) - SCALE * cosine[place]
    assert float(found.detach()) == pytest.approx(by_hand / 2, rel=1e-4)
    found.backward()
    assert embedding.grad[[0, 3]].abs().sum() > 0 and embedding.grad[[1, 2]].abs().sum() == 0
    nobody = term(embedding, torch.tensor([-1, 8, 91, 1]))
    assert float(nobody.detach()) == 0.0


def test_the_teacher_sees_its_square_and_its_points_are_mapped_back(tmp_path):
    # A network whose map is the picture and whose points are the corner of its view.
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, 112, 112])
    points = onnx.helper.make_tensor_value_info("points", onnx.TensorProto.FLOAT, [1, 136])
    constant = onnx.helper.make_node("Constant", [], ["points"], value=onnx.numpy_helper.from_array(np.full((1, 136), 0.5, np.float32)))
    pooled = onnx.helper.make_node("AveragePool", ["image"], ["inner"], kernel_shape=[8, 8], strides=[8, 8])
    graph = onnx.helper.make_graph([constant, pooled], "g", [image], [points])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), tmp_path / "t.onnx")
    # A crop whose red and green are the place in the frame.
    side = 200
    where = np.arange(side) / side * 255
    crop = np.stack(np.broadcast_arrays(where[None, :], where[:, None], 0.0 * where[:, None], 0.0 * where[:, None]), -1).astype(np.uint8)
    found, maps = inner_maps.compute(inner_maps.teacher(str(tmp_path / "t.onnx"), "inner"), [crop])
    left, top, width = inner_maps.VIEW
    assert found.shape == (2, 1, 68, 2) and found[0, 0, 0] == pytest.approx([left + width / 2, top + width / 2], abs=1e-6)
    assert maps.shape == (2, 1, 3, 14, 14)
    # Red rises to the right in the crop and falls in its mirror image; each channel has a mean of zero.
    assert maps[0, 0, 0, 5, 13] > 1 > -1 > maps[0, 0, 0, 5, 0] and maps[1, 0, 0, 5, 0] > 1 and abs(float(maps[:, :, 1].mean())) < 0.01
    # Red shows the place in the photo, also in a turned, moved and mirrored sample.
    np.savez(tmp_path / "maps.npz", maps=maps)
    target = inner_maps.InnerMaps(tmp_path / "maps.npz")
    middles = left + (np.arange(14) + 0.5) / 14 * width
    slopes = [np.polyfit(middles, maps[mirror, 0, 0, 7].astype(float), 1) for mirror in (0, 1)]
    before = np.random.default_rng(3).uniform(0.3, 0.7, (68, 2)).astype(np.float32)
    mirrored = set()
    for seed in range(12):
        rgbm = np.zeros((96, 96, 4), np.uint8)
        _, _, after, flip = sample(np.random.default_rng(seed), rgbm, 96, None, before)
        values, seen = target.target(0, before, after, flip, 12)
        photo = apply(Jitter(np.random.default_rng(seed)).to_photo, network_grid(12).reshape(-1, 2)).reshape(12, 12, 2)[..., 0]
        clear = seen & (np.abs(photo - 0.5) < 0.45 * width)
        slope, start = slopes[int(flip)]
        expected = start + slope * (1 - photo if flip else photo)
        assert clear.sum() > 20 and np.abs(values[0] - expected)[clear].max() < 0.1
        mirrored.add(bool(flip))
    assert mirrored == {True, False}


def made_up(n=8, side=32):
    """Makes crops of w300 and celeba, with a person's number for every second one of celeba."""
    rng = np.random.default_rng(0)
    m = 2 * n
    source = np.array(["w300"] * n + ["celeba"] * n)
    points = np.full((m, 68, 2), -32768, np.int16)
    points[:n] = faces(n, rng) * 8192
    table = Table({
        "source": source, "landmarks": points, "landmarks_source": (source == "w300").astype(np.int8), "age": np.full(m, np.nan, np.float32),
        "age_low": np.full(m, np.nan, np.float32), "age_high": np.full(m, np.nan, np.float32), "expression_votes": np.full((m, 8), -1, np.int8),
        "attributes": np.zeros((m, 40), np.int8), "male": np.full(m, -1, np.int8), "identity": np.where(source == "celeba", np.arange(m) // 2, -1),
        "embedding": rng.normal(size=(m, 128)).astype(np.float16),
    })  # fmt: skip
    return {s: rng.integers(0, 255, (n, side, side, 4), np.uint8) for s in ("w300", "celeba")}, table


def test_optional_pieces_add_terms_only_when_requested(tmp_path):
    np.savez(tmp_path / "maps.npz", maps=np.random.default_rng(0).normal(size=(2, 8, 5, 14, 14)).astype(np.float16))
    inner = inner_maps.InnerMaps(tmp_path / "maps.npz")
    arrays, table = made_up()
    batches = Batches([(arrays, table)], 16, 32, {"w300": 64, "celeba": 64}, poses=True, inner=inner)
    batch = to_device(batches.make(1), "cpu")
    assert batch["inner"].shape == (8, 5, 4, 4) and batch["parsing"].shape == (0, 32, 32) and set(HELPERS) == {"edges", "identity", "inner", "tutor"}
    stopped = ("parsing", "age", "expression", "attributes")
    torch.manual_seed(0)
    net = Student("nano").eval()
    plain = TrainingModel(net)(batch, 16, stopped)
    people = table["source"] == "celeba"
    trained = TrainingModel(net, False, Identities(table["identity"][people], table["embedding"][people]), inner_maps.InnerHead(64, 5))
    told = trained(batch, 16, stopped)
    assert set(told) - set(plain) == {"identity", "inner"} and set(told) <= set(WEIGHTS) and "inner" in TASKS["landmarks"]
    assert all(torch.allclose(told[k], v) for k, v in plain.items())
    with torch.no_grad():
        read = trained.inner.read(net.encode(batch["image"])["f8"][batch["inner_rows"]])
    off = ((read - batch["inner"]) ** 2).mean(1)[batch["inner_seen"]].mean()
    assert float(told["inner"].detach()) == pytest.approx(float(off), rel=1e-5)
    names = [name for name, part in trained.helpers() if part is not None]
    assert names == ["identities", "inner"]


def test_networks_of_a_trial_differ_only_in_their_arm():
    sizes = tomllib.loads(trials.CONFIG.read_text())["sizes"]
    before = set(SIZES)
    trials.add_sizes(sizes)
    try:
        image = torch.zeros(1, 3, 64, 64)
        count, cost = {}, {}
        for name in ("nano", *sizes):
            net = Student(name, 3).eval()
            count[name], cost[name] = sum(p.numel() for p in net.parameters()), trials.cost_mmac(net)
            maps = net.encode(image)
            memory = net.remember(maps)
            assert net.values("age", net.decode("age", memory)).shape == (1, 21)
            assert net.maps(net.decode("landmarks", memory), net.pixels(maps)).shape == (1, 68, 32, 32)
            assert memory[0][0].shape[1] == 64 + 2 * 16 and len(memory) == {"one-layer": 1, "three-layers": 3}.get(name, 2)
            again = Student(name, 3)
            again.load_average(net.state_dict())
            assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())
        last_level = Student("nano").eval()
        assert count["one-layer"] < sum(p.numel() for p in last_level.parameters()) < count["nano"] < count["three-layers"] < count["wide"]
        assert trials.cost_mmac(last_level) < cost["one-layer"] < cost["nano"] < cost["query-an-answer"] < cost["three-layers"] < cost["wide"] / 3
        assert cost["nano"] == pytest.approx(112, abs=1)
        assert Student("query-an-answer").content["attributes"].shape[0] == 40
    finally:
        for name in set(SIZES) - before:
            del SIZES[name]


def test_every_arm_is_a_command_line_of_the_training():
    config, before = tomllib.loads(trials.CONFIG.read_text()), set(SIZES)
    trials.add_sizes(config.pop("sizes"))
    shared = config.pop("shared")
    try:
        for trial in config.values():
            first = None
            for arm, more in trial["arms"].items():
                args = parsed([*f"{trial['common']} {more}".format(out="OUT", **shared).split(), "--cache", "C", "--out", "O"])
                first = first or args
                assert args.batch == first.batch and args.shares == first.shares and arm
                assert set(trial["sources"]) <= set(trials.ASKED)
    finally:
        for name in set(SIZES) - before:
            del SIZES[name]


def row(arm, seed, nme):
    return {"arm": arm, "seed": seed, "steps": 5, "parameters": 1000, "mmac": 12.3, "seconds_a_step": 0.5, "landmarks w300 NME %": nme}


def test_the_table_of_a_trial_has_the_differences_of_the_pairs(tmp_path):
    for arm, seed, nme in (("base", 1, 5.0), ("base", 2, 6.0), ("base", 3, 5.5), ("poses", 1, 4.5), ("poses", 2, 6.1), ("poses-more", 1, 9.0)):
        (tmp_path / f"dense-{arm}-{seed}").mkdir()
        write_rows([row(arm, seed, nme)], tmp_path / f"dense-{arm}-{seed}" / "row.csv")
    assert len(trials.gathered(tmp_path, "dense", ["base", "poses", "poses-more"])) == 6
    rows = trials.gathered(tmp_path, "dense", ["base", "poses", "edges"])
    assert len(rows) == 5 and list(csv.DictReader((tmp_path / "dense.csv").read_text().splitlines())) == rows
    mean, error, seeds = trials.paired(rows, "base", "poses", "landmarks w300 NME %")
    assert (mean, error, seeds) == (pytest.approx(-0.2), pytest.approx(0.3), 2)
    table = trials.summary(rows).splitlines()
    assert table[2] == "| base | 3 | 5.50 (deviation 0.50) | 12 | 1,000 |" and table[3] == "| poses | 2 | -0.20 (0.30) | 12 | 1,000 |"
