"""Tests a network that learns another one's answers, one whose other parts are held, and one with fewer levels in its memory."""

import numpy as np
import pytest
import torch

from faceptor_models.common import geometry
from faceptor_models.student import evaluate, release, shrink, train
from faceptor_models.student.losses import WEIGHTS as TERMS
from faceptor_models.student.network import ANSWERS, Student, last_levels, levels_of
from faceptor_models.student.parts import cut, run
from faceptor_models.student.training_model import TrainingModel
from faceptor_models.student.tutor import WEIGHTS, Tutor, answers, distance, features
from tests.test_recipes_student import arguments, batches, made_up  # noqa: F401

torch.set_num_threads(1)
PURE = ",".join(f"{term}=0" for term in TERMS if term not in ("tutor", "auxiliary", "edges", "identity", "inner"))


def saved(path, size="nano", levels=None, seed=1):
    torch.manual_seed(seed)
    net = Student(size, levels).eval()
    torch.save({"size": size, "step": 0, "average": net.state_dict()}, path)
    return net


@pytest.fixture(scope="module")
def batch():
    return train.to_device(batches().make(3), "cpu")


def test_every_face_learns_values_and_some_learn_points_and_masks(batch):
    rows = Tutor.rows(batch, 4)
    masked = len(batch["parsing_rows"])
    assert set(rows) == {*ANSWERS, "landmarks", "parsing"} and len(rows["age"]) == len(batch["image"])
    assert len(set(rows["parsing"].tolist())) == len(rows["parsing"]) == masked + 1
    assert rows["landmarks"].tolist() == np.nonzero(batch["people"].numpy())[0].tolist()


@torch.no_grad()
def test_the_goals_of_a_tutor_are_its_own_answers(tmp_path, batch):
    net = saved(tmp_path / "edge.pt", "edge")
    tutor, rows = Tutor(tmp_path / "edge.pt"), Tutor.rows(batch, 4)
    maps = tutor.net.encode(batch["image"])
    said = answers(tutor.net, maps, features(tutor.net, maps, rows), rows)
    assert said["landmarks"].shape[1:] == (68, 16, 16) and said["parsing"].shape[1:] == (19, 32, 32)
    maps = net.encode(batch["image"])
    i = rows["parsing"][-1:]
    alone = {k: v[i] for k, v in maps.items()}
    expected = net.regions(net.decode("parsing", net.remember(alone)), alone["f2"], net.pixels(alone))
    assert torch.allclose(said["parsing"][-1:], expected, atol=1e-4)
    assert torch.allclose(said["age"], net.values("age", net.decode("age", net.remember(maps))), atol=1e-4)
    assert float(tutor(net, batch, maps, 4)) < 1e-3


def test_held_parts_shared_with_the_tutor_run_once(tmp_path, batch):
    saved(tmp_path / "nano.pt", levels=3)
    tutor = Tutor(tmp_path / "nano.pt")
    trained = TrainingModel(Student("nano"), tutor=tutor)
    trained.net.load_average(tutor.net.state_dict())
    tutor.compare(trained.net)
    assert not tutor.sees_alike, "nothing is held"
    trained.hold(["memory", "layers"])
    tutor.compare(trained.net)
    assert tutor.sees_alike
    trained.train()
    maps = trained.net.encode(batch["image"])
    torch.manual_seed(1)
    once = float(tutor(trained.net, batch, maps, 8).detach())
    torch.manual_seed(1)
    tutor.sees_alike = False
    assert 0 < once == pytest.approx(float(tutor(trained.net, batch, maps, 8).detach()), rel=1e-4)
    with torch.no_grad():
        trained.net.encoder.stem[0].weight += 0.01
    tutor.compare(trained.net)
    assert not tutor.sees_alike, "other weights"


def test_the_answers_of_a_tutor_are_never_rounded(tmp_path, made_up, monkeypatch):  # noqa: F811
    """The held encoder's maps are rounded for the network that learns; the goals come from the encoder's unrounded maps."""
    saved(tmp_path / "nano.pt", levels=3)
    told = []

    def watched(net, maps, pixels, rows):
        told.append((net, maps["f16"]))
        return answers(net, maps, pixels, rows)

    monkeypatch.setattr("faceptor_models.student.tutor.answers", watched)
    more = ["--size", "nano", "--start-from", str(tmp_path / "nano.pt"), "--tutor", str(tmp_path / "nano.pt"), "--only", "layers", "--weigh", PURE]
    train.train(arguments(tmp_path / "run", "--steps", "4", "--quantize-from", "0.5", *more))
    goals, learned = ([maps for net, maps in told if net.training is training] for training in (False, True))
    same = [torch.equal(a, b) for a, b in zip(goals, learned, strict=True)]
    assert same[0] and not any(same[-2:]), same


def test_a_distance_is_zero_for_equal_answers_and_its_gradient_points_to_them(batch):
    generator = torch.Generator().manual_seed(4)
    shapes = {
        "landmarks": (2, 68, 8, 8),
        "parsing": (2, 19, 8, 8),
        "age": (2, 21),
        "expression": (2, 8),
        "attributes": (2, 40),
        "recognition": (2, 128),
    }
    assert set(shapes) == set(WEIGHTS)
    for task, shape in shapes.items():
        goal = torch.randn(shape, generator=generator)
        assert abs(float(distance(task, goal, goal))) < 1e-5
        guess = torch.randn(shape, generator=generator).requires_grad_()
        far = distance(task, guess, goal)
        far.backward()
        with torch.no_grad():
            nearer = distance(task, guess - 0.1 * guess.grad / guess.grad.norm(), goal)
        assert 0 < float(nearer) < float(far.detach()), task
    coarse, fine = torch.zeros(1, 19, 4, 4), torch.zeros(1, 19, 8, 8)
    coarse[:, 3], fine[:, 3] = 5.0, 5.0
    assert abs(float(distance("parsing", coarse, fine))) < 1e-5, "a coarser answer is compared on the tutor's grid"


def test_the_term_of_the_tutor_adds_to_the_labels_or_replaces_them(tmp_path, batch):
    net = saved(tmp_path / "nano.pt")
    trained = TrainingModel(Student("nano"), tutor=Tutor(tmp_path / "nano.pt"))
    assert "tutor" in trained(batch, 8) and set(trained(batch, 8, (*ANSWERS, "landmarks", "parsing", "recognition"))) == {"tutor"}
    assert len(list(trained.parameters())) == len(list(net.parameters())) and not any("tutor" in name for name in trained.state_dict())
    trained.net.load_state_dict(net.state_dict())
    near = float(trained.eval()(batch, 8)["tutor"].detach())
    trained.net.load_state_dict(Student("nano").state_dict())
    assert abs(near) < 1e-3 < 0.01 * float(trained(batch, 8)["tutor"].detach())


def test_held_parts_keep_their_weights(tmp_path, made_up):  # noqa: F811
    net = saved(tmp_path / "nano.pt", levels=3)
    only = "memory,layers,content"
    args = ("--tutor", str(tmp_path / "nano.pt"), "--start-from", str(tmp_path / "nano.pt"), "--levels", "1", "--only", only, "--weigh", PURE)
    train.train(arguments(tmp_path / "run", *args))
    found, state = evaluate.load(tmp_path / "run/checkpoint.pt", "net")
    before, after = last_levels(net.state_dict(), 1), found.state_dict()
    moved = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    assert levels_of(after) == 1 and before.keys() == after.keys()
    assert moved == set(only.split(",")), "the batch norms' statistics stay too"
    assert "tutor" in state["log"][-1] and not set(TERMS) & set(state["log"][-1]) - {"tutor"}
    with pytest.raises(SystemExit, match="the network has no part decoder: encoder, memory"):
        train.train(arguments(tmp_path / "other", "--only", "decoder"))


def test_a_run_through_another_warp_is_only_for_trials(tmp_path, made_up, monkeypatch):  # noqa: F811
    run, shipped = tmp_path / "run", geometry.WARP_LINEAR
    try:
        train.train(arguments(run, "--warp", "1"))
        assert geometry.WARP_LINEAR == 1.0 and evaluate.load(run / "checkpoint.pt")[0].size == "nano"
        saved(tmp_path / "nano.pt")
        with pytest.raises(SystemExit, match="nano.pt was trained through a warp of 0.5"):
            Tutor(tmp_path / "nano.pt")
    finally:
        geometry.look_through(shipped)
    with pytest.raises(SystemExit, match="through a warp of 1.0"):
        evaluate.load(run / "checkpoint.pt")
    monkeypatch.setattr("sys.argv", ["release", str(run), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="through a warp of 1.0"):
        release.main()
    assert not (tmp_path / "out/weights.pt").exists()


@torch.no_grad()
def test_a_network_starts_with_the_last_levels_of_another_memory(tmp_path):
    three = saved(tmp_path / "three.pt", levels=3)
    one = Student("nano", 1).eval()
    one.load_average(three.state_dict())
    assert levels_of(three.state_dict()) == 3 and levels_of(one.state_dict()) == 1
    maps = three.encode(torch.rand(2, 3, 64, 64) * 2 - 1)
    for (key, value), (ours, ours_value) in zip(three.remember(maps), one.remember(maps)):
        assert torch.allclose(key[:, -16:], ours, atol=1e-5) and torch.allclose(value[:, -16:], ours_value, atol=1e-5)
    with pytest.raises(RuntimeError, match="memory"):
        three.load_average(one.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("levels,read", [(1, ["feature16"]), (3, ["feature8", "feature16a", "feature16"])])
def test_weights_with_any_number_of_levels_are_loaded_and_cut(tmp_path, levels, read):
    net = saved(tmp_path / "net.pt", levels=levels)
    found, _ = evaluate.load(tmp_path / "net.pt")
    parts, images = cut(found, 64), torch.rand(2, 3, 64, 64) * 2 - 1
    assert parts["memory"].inputs == read
    # nano has no region features, which would read the stem's map.
    assert parts["encoder"].outputs == ["feature4", "feature8", *(["feature16a"] if levels == 3 else []), "feature16"]
    maps = net.encode(images)
    expected = net.values("expression", net.decode("expression", net.remember(maps))).softmax(-1)
    assert torch.allclose(run(parts, images)["out_expression"], expected, atol=1e-5)


@torch.no_grad()
def test_a_smaller_network_takes_the_levels_of_the_larger_one():
    torch.manual_seed(4)
    big, images = Student("nano", 3).eval(), torch.rand(16, 3, 64, 64) * 2 - 1
    small = shrink.Shrinking(big, Student("nano", 3), images).run()
    maps, ours = big.encode(images), small.encode(images)
    goal, near = (net.values("age", net.decode("age", net.remember(m))) for net, m in ((big, maps), (small, ours)))
    assert (near - goal).norm() < 0.35 * (goal - goal.mean(0)).norm()
