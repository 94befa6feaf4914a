"""Tests what all recipes share: settings, sampler, resuming, several processes; numbers from the formulas."""

import tomllib
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from faceptor_models.common import early_stopping, settings, sync_batch_norm
from faceptor_models.common.distributed import World
from faceptor_models.common.errors import Refused
from faceptor_models.common.inplace_abn import InPlaceAbn
from faceptor_models.published.recipes import command as recipe_command
from faceptor_models.published.recipes import plots
from faceptor_models.published.recipes.run import Run
from faceptor_models.published.recipes.sampler import Sampler
from tests import small_crops
from tests.small_crops import CONFIGS, prepared
from tests.two_processes import run_on_two_processes

torch.set_num_threads(1)
SYSTEMS = ("faceptor_stage1.toml", "tcdcn.toml", "dmlcsr.toml")


def run(name, out, *changes, world=None, resume=False, crops=None):
    recipe, held = prepared(name, *changes)
    world = world or World()
    torch.manual_seed(held.run.seed)
    made = recipe(held, crops or small_crops.crops(), world)
    return Run(made, held, out, world, resume, log=lambda *a: None)


def copied(state):
    return {k: v.clone() for k, v in state.items()}


@dataclass
class Rates:
    rate: float = 0.5
    clip: float = 5.0


@dataclass
class Task:
    batch: int = 1
    source: str = ""


@dataclass
class Sections:
    optimizer: Rates = field(default_factory=Rates)
    task: dict[str, Task] = field(default_factory=dict)


def test_settings_are_checked_and_overridden_in_order(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[optimizer]\nrate = 1\n[task.a]\nbatch = 2\n[variant.tiny]\ntask.a.batch = 3\n")
    assert settings.to_table(settings.from_table(Sections, settings.read(path))) == {
        "optimizer": {"rate": 1.0, "clip": 5.0},
        "task": {"a": {"batch": 2, "source": ""}},
    }
    held = settings.read(path, "tiny", ["task.b.source=utk", "optimizer.rate=2e-1"])
    assert settings.from_table(Sections, held).task == {"a": Task(3), "b": Task(1, "utk")}
    for wrong in ("task.a.size=3", "task.a.batch=1.5", "optimizer=3", "optimizer.rate=true"):
        with pytest.raises(Refused):
            settings.from_table(Sections, settings.read(path, None, [wrong]))
    with pytest.raises(Refused, match="tiny"):
        settings.read(path, "small")


@pytest.mark.parametrize("name", ["faceptor_stage1", "faceptor_stage2", "auxiliary", "tcdcn", "dmlcsr", "student"])
def test_every_file_and_variant_is_accepted(name):
    path = CONFIGS / f"{name}.toml"
    for variant in (None, *tomllib.loads(path.read_text()).get("variant", {})):
        recipe_command.prepared(path, variant)


def test_sampler_tiles_shuffles_once_and_skips_to_any_iteration():
    rows, batch, iterations, size = [5, 6, 7], 2, 4, 2
    order = np.tile([5, 6, 7], 6)[:16]
    np.random.RandomState(2048).shuffle(order)
    official = Sampler(rows, batch, iterations, size, split="contiguous")
    assert [r for _, r in official.draw(1, 1)] == order[8:][2:4].tolist()
    turns = Sampler(rows, batch, iterations, size)
    # Both processes together draw what one process with twice the batch draws.
    one = Sampler(rows, 2 * batch, iterations)
    for i in range(iterations):
        assert turns.draw(i, 0) + turns.draw(i, 1) == one.draw(i) == list(zip(range(4 * i, 4 * i + 4), order[4 * i : 4 * i + 4].tolist()))
    for sampler in (official, turns):
        drawn = sorted(r for i in range(iterations) for rank in (0, 1) for _, r in sampler.draw(i, rank))
        assert drawn == sorted(order.tolist())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_resumed_run_repeats_the_losses_of_an_unbroken_one(name, tmp_path):
    whole = run(name, tmp_path / "whole").train()
    run(name, tmp_path / "parts").train(until=3)
    again = run(name, tmp_path / "parts", resume=True)
    assert again.first == 4
    assert again.train() == whole and len({row["loss"] for row in whole}) == len(whole) >= 6
    states = [torch.load(tmp_path / p / "checkpoint.pt", weights_only=True) for p in ("whole", "parts")]
    assert all(torch.equal(v, states[1]["model"][k]) for k, v in states[0]["model"].items())
    assert states[0]["extra"].keys() == states[1]["extra"].keys()
    with pytest.raises(Refused, match="already"):
        run(name, tmp_path / "parts")
    with pytest.raises(Refused, match="run"):
        run(name, tmp_path / "parts", "run.seed=7", resume=True)


def test_a_row_of_the_log_does_not_change_when_the_run_is_interrupted_within_it(tmp_path):
    whole = run("tcdcn.toml", tmp_path / "whole", "run.log_every=4").train()
    assert run("tcdcn.toml", tmp_path / "parts", "run.log_every=4").train(until=1) == []
    assert run("tcdcn.toml", tmp_path / "parts", "run.log_every=4", resume=True).train() == whole and [r["iteration"] for r in whole] == [3, 5]
    each = run("tcdcn.toml", tmp_path / "each").train()
    assert whole[0]["pose"] == pytest.approx(sum(r["pose"] for r in each[:4]) / 4, rel=1e-6)


def test_a_checkpoint_that_lacks_something_is_refused_by_name(tmp_path):
    run("tcdcn.toml", tmp_path).train(until=1)
    held = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({k: v for k, v in held.items() if k != "sums"}, tmp_path / "checkpoint.pt")
    with pytest.raises(Refused, match="sums missing"):
        run("tcdcn.toml", tmp_path, resume=True)


# Twice the batch of each system, as settings.
DOUBLE = {
    "faceptor_stage1.toml": [
        "task.recog_ms1mv3.batch=8", "task.age_utkface.batch=4", "task.biattr_celeba.batch=4", "task.affect_rafdb.batch=4",
        "task.affect_ferplus.batch=4",
        "task.parsing_celebam.batch=4", "task.align_300w.batch=4",
    ],
    "tcdcn.toml": ["task.batch=8"],
    "dmlcsr.toml": ["task.batch=4"],
}  # fmt: skip
# Nothing random inside the network, and steps small enough that rounding does not grow in eight of them.
STILL = {"faceptor_stage1.toml": ["model.drop_path=0.0"], "tcdcn.toml": [], "dmlcsr.toml": ["optimizer.rate=0.001"]}
# Among those biases the ones whose steps a batch norm's running mean would keep: they stay fixed.
KEPT = ("feature_v2.norm.bias", "feature_v2.head.1.bias")
SUMMED = ("tcdcn.toml", "optimizer.reduction=sum", "optimizer.rate=0.001")


def still(made):
    for name, parameter in made.recipe.model.named_parameters():
        if name.endswith(KEPT):
            parameter.requires_grad_(False)
    return made


def worker(rank, out, jobs):
    world = World.start("cpu")
    for i, (name, *changes) in enumerate(jobs):
        made = still(run(name, f"{out}/{i}", *changes, world=world))
        rows = made.train()
        torch.save({"rows": rows, "model": made.recipe.model.state_dict()}, f"{out}/{i}/rank{rank}.pt")
    made = run("tcdcn.toml", f"{out}/damaged", world=world)
    batch = made.recipe.batch
    made.recipe.batch = lambda i: batch(i) | ({"image": batch(i)["image"] * np.nan} if (i, rank) == (2, 1) else {})
    rows = made.train()
    torch.save({"rows": rows, "skipped": made.skipped}, f"{out}/damaged{rank}.pt")
    world.stop()


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    """It compares losses and weights through batch norms, unevenly masked pixels, a sum over the batch, and whole cycles."""
    jobs = [(name, *STILL[name]) for name in SYSTEMS] + [SUMMED]
    run_on_two_processes(worker, tmp_path, jobs)
    # Both processes leave out a batch that is not finite on one of them, and both continue.
    damaged = [torch.load(tmp_path / f"damaged{r}.pt", weights_only=True) for r in (0, 1)]
    assert damaged[0] == damaged[1] and damaged[0]["skipped"] == 1 and [r["iteration"] for r in damaged[0]["rows"]] == [0, 1, 3, 4, 5]
    for i, (name, *changes) in enumerate(jobs):
        one = still(run(name, tmp_path / f"one{i}", *changes, *DOUBLE[name]))
        rows = one.train()
        held = [torch.load(tmp_path / f"{i}/rank{r}.pt", weights_only=True) for r in (0, 1)]
        assert held[0]["rows"] == held[1]["rows"], name
        for ours, theirs in zip(rows, held[0]["rows"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5), name
        for key, value in one.recipe.model.state_dict().items():
            assert torch.equal(held[0]["model"][key], held[1]["model"][key]), key
            # Biases that a following norm or softmax cancels have rounding errors for a gradient, which AdamW turns into steps.
            if not (name.startswith("faceptor") and key.endswith("bias")):
                assert torch.allclose(value.float(), held[0]["model"][key].float(), rtol=1e-2, atol=1e-3), (name, key)


@pytest.mark.parametrize("norm", [InPlaceAbn(3), nn.BatchNorm2d(3), nn.BatchNorm1d(3)], ids=lambda n: type(n).__name__)
def test_the_synchronised_norm_of_one_process_is_the_norm_itself(norm, monkeypatch):
    import copy

    torch.manual_seed(0)
    nn.init.normal_(norm.weight)
    ours = copy.deepcopy(norm)
    monkeypatch.setattr(sync_batch_norm.Summed, "apply", lambda x, group: x)
    ours.__class__ = sync_batch_norm.synced(type(norm), None)
    shape = (5, 3, 4, 4) if isinstance(norm, nn.BatchNorm2d) else (5, 3)
    x = torch.randn(shape, requires_grad=True)
    y, z = norm(x), ours(x)
    torch.testing.assert_close(z, y, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((v * torch.linspace(-1, 1, v.numel()).reshape(shape)).sum(), x)[0] for v in (y, z)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    for key, value in norm.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.eval()(x), norm.eval()(x))


def test_a_stopped_task_gets_no_gradient(tmp_path):
    """Every positive gap passes the threshold: the auxiliary tasks stop as soon as the window is full."""
    made = run("tcdcn.toml", tmp_path, "stopping.threshold=1e-9", "stopping.guard=infinite", "optimizer.penalty=0.0", "optimizer.momentum=0.0")
    recipe = made.recipe
    held_out = iter([{"landmark": 1.0} | dict.fromkeys(recipe.auxiliary, 100.0)] * 6)
    recipe.early_stopping.decide = lambda i, v, decide=recipe.early_stopping.decide: decide(i, next(held_out))
    made.train(until=2)
    assert recipe.early_stopping.stopped == set(recipe.auxiliary) and set(recipe.early_stopping.rule.stopped_at.values()) == {2}
    before = copied(recipe.model.state_dict())
    again = run(
        "tcdcn.toml", tmp_path, "stopping.threshold=1e-9", "stopping.guard=infinite", "optimizer.penalty=0.0", "optimizer.momentum=0.0", resume=True
    )
    assert again.recipe.early_stopping.stopped == set(recipe.auxiliary)
    again.train()
    after = again.recipe.model.state_dict()
    heads = {t: any(not torch.equal(before[f"{t}.{k}"], after[f"{t}.{k}"]) for k in ("weight", "bias")) for t in ("landmark", *recipe.auxiliary)}
    assert heads == {"landmark": True} | dict.fromkeys(recipe.auxiliary, False)
    rows = plots.rows_of(tmp_path / "stopping.csv")
    assert len(rows) == 3 * len(recipe.auxiliary) and sum(r["stopped"] == "True" for r in rows) == len(recipe.auxiliary)
    made = plots.draw(tmp_path, tmp_path / "pictures", 1e-9)
    assert [p.name for p in made] == ["losses.svg", "held_out.svg", "stopping.svg"] and "pose: stopped at 2" in made[2].read_text()
    held = plots.rows_of(tmp_path / "held_out.csv")
    assert [r["iteration"] for r in held][:3] == [0, 1, 2] and held[0]["landmark"] == 1.0 and held[2]["pose"] == 100.0


def test_the_main_task_must_exist_and_coefficients_must_name_other_tasks():
    for wrong in ({"main": "nose"}, {"main": "a", "coefficients": {"a": 1.0}}, {"main": "a", "window": 1}):
        with pytest.raises(Refused):
            early_stopping.EarlyStopping(early_stopping.StoppingSettings(**wrong), ["a", "b"])
