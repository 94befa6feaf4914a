"""Tests the comparison of encoder starts: what two starts of a seed share, which runs are kept, and the summary."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from faceptor_models.student import compare
from faceptor_models.student.network import Student
from faceptor_models.student.pretrained_encoder import load_encoder

torch.set_num_threads(1)


class Batches:
    """Makes batches of one half points and one half masks, all the same."""

    def make(self, seed, size=None):
        rng = np.random.default_rng(seed)
        return {
            "image": rng.integers(0, 255, (4, 3, 32, 32), np.uint8), "landmarks": rng.uniform(0.2, 0.8, (2, 68, 2)).astype(np.float32),
            "parsing": rng.integers(0, 19, (2, 32, 32), np.uint8),
        }  # fmt: skip


def settings(**more):
    return SimpleNamespace(**{"size": "nano", "px": 32, "batch": 4, "steps": 5, "rate": 1e-3, "bf16": False} | more)


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(99)
    path = tmp_path / "encoder.pt"
    torch.save({"size": "nano", "px": 32, "encoder": Student("nano").encoder.state_dict()}, path)
    return path


def test_starts_of_one_seed_differ_only_in_the_encoder(encoder):
    nets = []
    for file in (None, encoder):
        torch.manual_seed(3)
        nets.append(Student("nano"))
        if file:
            load_encoder(nets[-1], file)
    first, second = (net.state_dict() for net in nets)
    different = {k for k in first if not torch.equal(first[k], second[k])}
    assert different and all(k.startswith("encoder.") for k in different)
    assert all(torch.equal(v, second[f"encoder.{k}"]) for k, v in torch.load(encoder, weights_only=True)["encoder"].items())


def test_every_measurement_is_written_and_runs_are_repeatable(tmp_path, encoder):
    judged = []
    judge = SimpleNamespace(measure=lambda net: (judged.append(net.encoder.stem[0].weight.clone()), (10.0 - len(judged), 0.1 * len(judged)))[1])
    for name, file in (("scratch", None), ("mcf", encoder), ("again", None)):
        compare.run(settings(), name, file, 1, Batches(), judge, tmp_path / f"{name}-1.csv")
    rows = [compare.read_rows(tmp_path / f"{n}-1.csv") for n in ("scratch", "mcf", "again")]
    assert [[int(r["step"]) for r in each] for each in rows] == [[1, 2, 3, 4, 5]] * 3
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[2]] != [r["loss"] for r in rows[1]]
    assert torch.equal(judged[0], judged[10]) and not torch.equal(judged[0], judged[5])
    assert rows[0][0]["samples"] == "4" and all(math.isfinite(float(r["loss"])) for r in rows[1])


def row(start, seed, step, nme, f1):
    return dict.fromkeys(compare.COLUMNS, 0) | {"start": start, "seed": seed, "step": step, "landmarks_nme_percent": nme, "parsing_f1": f1}


def test_the_summary_uses_the_last_step_that_all_runs_reached(tmp_path):
    (tmp_path / "runs").mkdir()
    for start, nmes in (("scratch", (8.0, 6.0)), ("mcf", (5.0, 6.0))):
        for seed, nme in enumerate(nmes):
            rows = [row(start, seed, 1, 20.0, 0.1), row(start, seed, 2, nme, 0.5 + 0.1 * seed)]
            if start == "mcf":
                rows.append(row(start, seed, 3, 1.0, 0.9)) if seed == 0 else None
            compare.write_rows(rows, tmp_path / "runs" / f"{start}-{seed}.csv")
    held = compare.gathered(tmp_path)
    found = compare.summary(held)
    assert found["scratch"]["landmarks_nme_percent"] == (7.0, pytest.approx(math.sqrt(2)), 2)
    assert found["mcf"]["landmarks_nme_percent"] == (5.5, pytest.approx(math.sqrt(0.5)), 2)
    assert compare.paired(held, "scratch", "mcf")["landmarks_nme_percent"] == (pytest.approx(-1.5), pytest.approx(1.5), 2)
    text = (tmp_path / "results.svg").read_text()
    assert text.count("<polyline") == 12 and "mcf" in text and len(compare.read_rows(tmp_path / "results.csv")) == 9


def test_an_encoder_of_another_size_is_refused(encoder, tmp_path):
    with pytest.raises(ValueError, match="size nano"):
        load_encoder(Student("edge"), encoder)
    torch.save([1, 2], tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no encoder"):
        load_encoder(Student("nano"), tmp_path / "other.pt")


def test_only_the_encoder_of_a_trained_network_is_loaded(tmp_path):
    torch.manual_seed(5)
    given, net = Student("nano"), Student("nano")
    before = net.memory.level.clone()
    torch.save({"size": "nano", "average": given.state_dict()}, tmp_path / "weights.pt")
    load_encoder(net, tmp_path / "weights.pt")
    assert all(torch.equal(v, given.encoder.state_dict()[k]) for k, v in net.encoder.state_dict().items())
    assert torch.equal(net.memory.level, before)
    with pytest.raises(ValueError, match="size nano"):
        load_encoder(Student("edge"), tmp_path / "weights.pt")
