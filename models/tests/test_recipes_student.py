"""Tests the student's training: stopping, edges and self-regulation, held-out crops, resuming, settings files."""

import json

import numpy as np
import pytest
import torch

from faceptor_models.common import batch_stream, edge_criterion
from faceptor_models.common.packed_crops import SOURCES, Table
from faceptor_models.published.recipes import command as recipe_command
from faceptor_models.student import layout, losses, parsing_cycles, recipe, train, training_model
from faceptor_models.student.loader import Batches
from faceptor_models.student.network import SIZES, Student
from faceptor_models.student.options import parsed
from faceptor_models.student.parts import cut
from tests.small_crops import CONFIGS
from tests.two_processes import run_on_two_processes

torch.set_num_threads(1)
SIZE = 32


def faces(n=12, seed=0):
    """Makes ({source: crops, masks}, labels) like the research crops."""
    rng = np.random.default_rng(seed)
    coarse = {s: rng.integers(0, 255, (n, 6, 6, 4), np.uint8) for s in SOURCES}
    arrays = {s: np.repeat(np.repeat(v, 8, 1), 8, 2) for s, v in coarse.items()}
    arrays["masks"] = np.repeat(np.repeat(rng.integers(0, 19, (n, 4, 4), np.uint8), 12, 1), 12, 2)
    source = np.repeat(SOURCES, n)
    m = len(source)
    is_of = {s: source == s for s in SOURCES}
    years = rng.integers(1, 80, m).astype(np.float32)
    aged, felt = is_of["utk"] | is_of["fairface"], is_of["rafdb"] | is_of["ferplus"]
    archive = {
        "source": source,
        "landmarks": np.clip(rng.normal(4096, 900, (m, 68, 2)), 0, 8191).astype(np.int16),
        "landmarks_source": np.where(is_of["w300"], 1, 0).astype(np.int8),
        "age": np.where(is_of["utk"], years, np.nan).astype(np.float32),
        "age_low": np.where(aged, years, np.nan).astype(np.float32),
        "age_high": np.where(aged, years, np.nan).astype(np.float32),
        "expression_votes": np.where(felt[:, None], np.eye(8)[rng.integers(0, 8, m)] * 10, -1).astype(np.int8),
        "attributes": np.where(is_of["celeba"][:, None], rng.choice([-1, 1], (m, 40)), 0).astype(np.int8),
        "male": np.full(m, -1, np.int8), "identity": np.full(m, -1, np.int32), "embedding": rng.normal(size=(m, 128)).astype(np.float16),
    }  # fmt: skip
    archive["embedding"] /= np.linalg.norm(archive["embedding"], axis=1, keepdims=True)
    return arrays, Table(archive)


def batches(hold_out=0.0, batch=16):
    return Batches([faces()], batch, SIZE, None, hold_out)


@pytest.fixture
def made_up(monkeypatch):
    arrays, archive = faces()
    monkeypatch.setattr(train, "pack", lambda *a: arrays)
    monkeypatch.setattr(train, "table", lambda *a: archive)


def arguments(out, *more):
    given = ["--cache", "none", "--out", str(out), "--size", "nano", "--batch", "16", "--small-px", str(SIZE), "--full-px", str(SIZE)]
    given += ["--threads", "1", "--workers", "0", "--landmark-limit", "64", "--steps", "5", "--rate", "5e-4"]
    return parsed([*given, "--regulate-batches", "1", "--held-batches", "1", *more])


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    trained = training_model.TrainingModel(Student("nano"), edges=True)
    return trained, train.to_device(batches().make(3), "cpu")


def test_a_stopped_task_costs_nothing_and_its_queries_get_no_gradient(case):
    trained, batch = case
    trained.train()
    with_all = trained(batch, 8)
    # The smaller network has no region features, so its parsing has no coarse answer in addition to the fine one.
    assert set(with_all) == {t for terms in losses.TASKS.values() for t in terms} - {"coarse", "identity", "inner"} | {"auxiliary"}
    trained.zero_grad()
    terms = trained(batch, 8, ("age", "landmarks", "recognition"))
    assert set(terms) == {"expression", "attributes", "auxiliary", "hints", "parsing", "edges"}
    losses.total(terms).backward()
    net = trained.net
    touched = {t for t, p in net.content.items() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched == {"expression", "attributes", "parsing"} and net.feature.weight.grad is None
    assert net.auxiliary["age"].weight.grad is None and net.auxiliary["expression"].weight.grad is not None
    by_task = losses.by_task(with_all)
    assert float(by_task["age"].detach()) == pytest.approx(float((0.6 * with_all["age"] + 0.08 * with_all["age_years"]).detach()), rel=1e-5)
    assert set(losses.by_task(terms)) == {"parsing", "expression", "attributes"}


def test_a_run_weights_only_the_terms_that_it_names(tmp_path, made_up, monkeypatch, capsys):
    args = arguments(tmp_path, "--weigh", "parsing=1.5,relation=90")
    asked = []
    whole = losses.total
    monkeypatch.setattr(losses, "total", lambda terms, weights: asked.append(weights) or whole(terms, weights))
    train.train(args)
    assert asked[0] == losses.WEIGHTS | {"parsing": 1.5, "relation": 90.0} and losses.WEIGHTS["parsing"] == 1.0
    assert float(whole({"parsing": torch.tensor(2.0), "age": torch.tensor(1.0)}, asked[0])) == pytest.approx(3.6)
    assert json.loads((tmp_path / "arguments.json").read_text())["weigh"] == {"parsing": 1.5, "relation": 90.0}
    with pytest.raises(SystemExit):
        arguments(tmp_path, "--weigh", "hats=2")
    assert "no loss term hats" in capsys.readouterr().err


def test_a_task_without_a_weight_is_not_computed(tmp_path, made_up, monkeypatch):
    seen = []
    whole = losses.total
    monkeypatch.setattr(losses, "total", lambda terms, weights: seen.append(set(terms)) or whole(terms, weights))
    none = ",".join(f"{term}=0" for task in ("recognition", "parsing") for term in losses.TASKS[task] if term not in losses.HELPERS)
    train.train(arguments(tmp_path, "--weigh", f"{none},heatmap=0"))
    assert seen[0] == {"landmarks", "heatmap", "age", "age_years", "expression", "attributes", "auxiliary"}


def test_the_edge_term_is_the_criterion_at_the_labels_size_and_is_not_exported(case):
    trained, batch = case
    trained.eval()
    with torch.no_grad():
        outputs = trained.parse(batch["image"][batch["parsing_rows"]], SIZE)
        terms = trained(batch, 8)
    labels = batch["parsing"]
    binary, category = edge_criterion.edges_of(labels)
    expected = edge_criterion.criterion(outputs, edge_criterion.Targets(labels, binary, category))[0]
    assert outputs["binary_edge"].shape == (len(labels), 2, SIZE, SIZE)
    assert float(terms["edges"]) == pytest.approx(float(expected), rel=1e-4)
    assert not [k for k in trained.net.state_dict() if "edge" in k]
    parts = cut(trained.net, SIZE)
    assert not [n for p in parts.values() for n, _ in p.named_parameters() if "edges" in n]
    widths = SIZES["nano"]["widths"]
    assert [m[0].in_channels for m in trained.edges.narrow] == list(widths[1:3])


def test_cycles_average_the_weights_refine_the_labels_and_restart_the_rate(case):
    trained, batch = case
    cycles = parsing_cycles.Cycles(4, 2)
    assert [s for s in range(9) if cycles.rule.ends(s)] == [3, 5, 7]
    assert [cycles.rate(s, 0.7) for s in (0, 3, 4, 5, 6)] == pytest.approx([0.7, 0.7, 0.5, 0.26, 0.5])
    assert cycles.soft(batch) is None
    for step, value in ((3, 0.5), (5, -1.0)):
        with torch.no_grad():
            trained.net.mask_embed[0].bias.fill_(value)
        row = cycles.end(step, trained, [batch["image"]], [batch])
        assert row["step"] == step and 0 <= row["f1_average"] <= 1
    assert cycles.n == 2 and torch.allclose(cycles.rule.average.net.mask_embed[0].bias, torch.tensor(-0.25))
    # Every batch norm has the statistics of the given images, the feature head's and the edges' included.
    norms = [m for m in cycles.rule.average.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms and all(float(m.running_mean.abs().sum()) > 0 for m in norms)
    soft = cycles.soft(batch)
    trained.eval()
    with torch.no_grad():
        outputs = trained.parse(batch["image"][batch["parsing_rows"]], SIZE)
        term = trained(batch | {"soft": soft}, 8, cycle=2)["edges"]
    labels = batch["parsing"]
    binary, category = edge_criterion.edges_of(labels)
    targets = edge_criterion.Targets(labels, binary, category, soft["seg"], soft["binary_edge"], soft["semantic_edge"])
    assert float(term) == pytest.approx(float(edge_criterion.criterion(outputs, targets, cycle=2)[0]), rel=1e-4)


def test_held_out_crops_are_never_trained_on_and_the_draw_without_them_is_as_before():
    some = batches(hold_out=0.25)
    for source in some.count:
        held = set(some.held[source].tolist())
        rng = np.random.default_rng(0)
        drawn = [set(some.draw(rng, source, h).tolist()) for h in (False, True) for _ in range(40)]
        assert len(held) == 3 and not set.union(*drawn[:40]) & held and set.union(*drawn[40:]) == held
    plain, rng, same = batches(), np.random.default_rng(5), np.random.default_rng(5)
    assert plain.draw(rng, "utk", False).tolist() == same.choice(12, plain.count["utk"]).tolist()
    assert plain.draw(rng, "celebamask", False).tolist() == same.choice(12, plain.count["celebamask"], p=plain.chances["celebamask"]).tolist()


def test_a_resumed_run_equals_an_unbroken_one_with_all_mechanisms_on(made_up, tmp_path, monkeypatch):
    more = ["--stop-every", "2", "--stop-window", "2", "--stop-threshold", "1e9", "--hold-out", "0.3"]
    more += ["--edges", "--regulate-start", "2", "--regulate-cycle", "2"]
    train.train(arguments(tmp_path / "whole", *more))
    # The clock decides when a checkpoint is written: here after every step, and the run ends after the third.
    stream, seen = train.stream, []

    def cut_short(*a):
        for step, batch in stream(*a):
            if step == 3:
                return
            seen.append(step)
            yield step, batch

    monkeypatch.setattr(train, "stream", cut_short)
    train.train(arguments(tmp_path / "parts", *more, "--save-minutes", "0"))
    monkeypatch.setattr(train, "stream", stream)
    train.train(arguments(tmp_path / "parts", *more, "--resume"))
    whole, parts = (torch.load(tmp_path / p / "checkpoint.pt", weights_only=True) for p in ("whole", "parts"))
    assert seen == [0, 1, 2] and whole["step"] == parts["step"] == 5
    for key in ("net", "edges", "average", "regulated"):
        for name, value in whole[key].items():
            assert torch.equal(value, parts[key][name]), (key, name)
    assert whole["cycles"]["rows"] == parts["cycles"]["rows"] and [r["step"] for r in whole["cycles"]["rows"]] == [1, 3, 5]
    assert whole["stopping"]["rule"]["log"] == parts["stopping"]["rule"]["log"] and (tmp_path / "parts/stopping.svg").exists()
    student = Student("nano")
    student.load_average(whole["regulated"])


RECIPE = """
[defaults]
size = "nano"
batch = 16
small_px = 32
full_px = 32
landmark_limit = 64
workers = 0
steps = 2

[[stage]]
name = "first"
what = "train"
out = "{work}/first"

[[stage]]
name = "release-first"
what = "release"
run = "{work}/first"
out = "{work}/kept"

[[stage]]
name = "second"
what = "train"
start_from = "{work}/kept/weights.pt"
out = "{work}/second"

[[stage]]
name = "release-second"
what = "release"
run = "{work}/second"
out = "{work}/kept"
continued = true
blend = 0.5
"""


def test_a_recipe_trains_releases_and_skips_what_has_ended(made_up, tmp_path, monkeypatch, capsys):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    given = [str(tmp_path / "recipe.toml"), "--work", str(tmp_path), "--threads", "1"]
    assert recipe.main(given) == 0
    weights, said = (tmp_path / "kept/weights.pt").read_bytes(), capsys.readouterr().out
    kept = json.loads((tmp_path / "kept/training_arguments.json").read_text())
    assert [row["steps"] for row in kept] == [2, 2] and kept[1]["blend"] == 0.5 and "is finished" not in said
    # A run at its end is not made again, and does not even read the crops; the releases are.
    monkeypatch.setattr(train, "pack", None)
    assert recipe.main(given) == 0
    assert capsys.readouterr().out.count("is finished") == 2
    assert (tmp_path / "kept/weights.pt").read_bytes() == weights
    assert json.loads((tmp_path / "kept/training_arguments.json").read_text()) == kept
    train.train(arguments(tmp_path / "first", "--steps", "2", "--resume"))
    assert "first/checkpoint.pt: the run is at its end" in capsys.readouterr().out


def test_a_stream_that_has_ended_keeps_no_crops():
    made = batch_stream.stream(batches(), 1, 0, lambda number: SIZE, workers=1)
    number, batch = next(made)
    assert number == 0 and batch["image"].shape[-1] == SIZE and batch_stream._batches is not None
    made.close()
    assert batch_stream._batches is None


def test_the_settings_file_becomes_the_options(made_up, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(train, "train", lambda args: seen.update(vars(args)))
    settings = CONFIGS / "student.toml"
    given = ["train", str(settings), "--data", "faces", "--out", str(tmp_path), "--variant", "tiny", "--set", "stopping.threshold=3"]
    from faceptor_models.command import main

    assert main(given) == 0
    assert (seen["size"], seen["stop_threshold"], seen["stop_every"], seen["regulate_cycle"], seen["edges"]) == ("nano", 3.0, 20, 40, True)
    _, held = recipe_command.prepared(settings, "plain")
    assert held.stopping.every == 0 and not held.regulation.edges
    assert main([*given, "--set", "student.bach=3"]) == 1
    json.dumps(seen)


def process(rank, out):
    taken, wrapped = [], train.World.wrapped
    train.World.wrapped = lambda world, step: (taken.append((world, step)), wrapped(world, step))[1]
    stop = train.World.stop
    train.World.stop = lambda world: (torch.save(taken[0][1].state_dict(), f"{out}/rank{rank}.pt"), stop(world))
    train.train(arguments(out / "run", "--device", "cpu", "--steps", "1", "--edges", "--stop-every", "2", "--stop-window", "2", "--hold-out", "0.3"))


def test_two_processes_train_one_student(made_up, tmp_path):
    """Each sees its own samples; gradients and batch statistics are those of both, so the weights stay equal."""
    run_on_two_processes(process, tmp_path)
    held = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    assert all(torch.equal(v, held[1][k]) for k, v in held[0].items())
    fresh = training_model.TrainingModel(Student("nano"), True).state_dict()
    assert held[0].keys() == fresh.keys() and (tmp_path / "run/held_out.csv").exists()


def test_every_layout_trains_alike_and_the_fastest_may_be_chosen(made_up, tmp_path, monkeypatch):
    ends = {}
    for name in ("f32-contiguous", "f32-channels-last"):
        train.train(arguments(tmp_path / name, "--steps", "2", "--layout", name))
        ends[name] = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["log"][-1]
    for term, value in ends["f32-contiguous"].items():
        if term != "minutes":
            assert ends["f32-channels-last"][term] == pytest.approx(value, rel=2e-3, abs=2e-3), term
    asked = []

    def measured(net, px):
        asked.append((type(net).__name__, px))
        return {"f32-contiguous": 1.0, "f32-channels-last": 2.0, "bf16-contiguous": 1.5}

    monkeypatch.setattr(layout, "measured", measured)
    chosen = train.Training(arguments(tmp_path / "auto", "--layout", "auto"), train.World.start("cpu"))
    assert chosen.layout == layout.LAYOUTS["f32-channels-last"] and asked == [("Encoder", SIZE)]
    assert chosen.net.encoder.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    plain = train.Training(arguments(tmp_path / "plain", "--precision", "f32"), train.World.start("cpu"))
    assert plain.layout == layout.LAYOUTS["f32-contiguous"] and len(asked) == 1
