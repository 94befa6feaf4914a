"""Tests schedules and cyclical self-regulation with numbers from the papers' formulas."""

import math

import pytest
import torch
from torch import nn

from faceptor_models.common import schedules
from faceptor_models.common.inplace_abn import InPlaceAbn
from faceptor_models.common.self_regulation import SelfRegulation, reestimate

torch.set_num_threads(1)


def test_the_rate_of_faceptor_follows_the_formula():
    def rate(i, **more):
        return schedules.faceptor(i, 50000, 1e-6, 5e-5, **more)

    assert rate(0) == pytest.approx(1e-6) and rate(1000) == pytest.approx(25.5e-6) and rate(2000) == pytest.approx(5e-5)
    assert rate(26000) == pytest.approx(2.5e-5) and rate(50000) == pytest.approx(0)
    # The paper's own form: b ((i / 2000)(wl - bl) + bl) / bl with b = bl times the multiplier.
    assert rate(500, multiplier=10.0) == pytest.approx(1e-5 * ((500 / 2000) * (5e-5 - 1e-6) + 1e-6) / 1e-6)


def test_the_rate_of_mcf_and_its_peak_follow_the_formula():
    assert schedules.mae_peak(1.5e-4, 64 * 8 * 8) == pytest.approx(2.4e-3)
    assert schedules.mae(0.5, 16, 2.4e-3) == pytest.approx(1.2e-3)
    assert schedules.mae(8.5, 16, 2.4e-3) == pytest.approx(1.2e-3) and schedules.mae(16, 16, 2.4e-3) == pytest.approx(0)


def test_cyclical_rate_restarts_from_half_and_officially_by_iterations():
    def rate(e):
        return schedules.cyclical(e, 1e-3)

    assert [rate(e) for e in (0, 10, 80, 150, 155, 160)] == pytest.approx([1e-5, 1e-3, 5.05e-4, 5e-4, 2.55e-4, 5e-4])
    assert rate(159) == pytest.approx(1e-5 + 4.9e-4 * 0.5 * (1 + math.cos(0.9 * math.pi)))

    def official(i):
        return schedules.cyclical_official(i, 100, 200, 1e-3)

    assert official(0) == 1e-3 and official(10000) == pytest.approx(1e-3 * 0.5**0.9)
    assert official(15000) == official(15010) == pytest.approx(5e-4) and official(15005) == pytest.approx(2.55e-4)


def test_cycles_end_as_in_the_formula():
    rule = SelfRegulation(start=150, cycle=10)
    assert [e for e in range(200) if rule.ends(e)] == [149, 159, 169, 179, 189, 199]


def test_the_average_is_the_mean_of_the_cycles_and_resumes():
    rule, model = SelfRegulation(1, 1), nn.Linear(2, 2)
    weights = [torch.full((2, 2), v) for v in (1.0, 4.0, -2.0)]
    for i, weight in enumerate(weights):
        with torch.no_grad():
            model.weight.copy_(weight)
        if i == 2:
            again = SelfRegulation(1, 1)
            again.load_state_dict(rule.state_dict(), model)
            rule = again
        rule.join(model)
        assert torch.allclose(rule.average.weight, torch.stack(weights[: i + 1]).mean(0))
    assert rule.n == 3 and not rule.average.weight.requires_grad


@pytest.mark.parametrize("norm", [InPlaceAbn, nn.BatchNorm2d])
def test_statistics_are_estimated_over_all_samples_for_every_norm(norm):
    torch.manual_seed(0)
    model = nn.Sequential(norm(3)).eval()
    model[0].running_mean.fill_(9)
    batches = [torch.randn(n, 3, 4, 4) + n for n in (2, 6)]
    reestimate(model, batches)
    means, variances = zip(*[(b.mean((0, 2, 3)), b.transpose(0, 1).flatten(1).var(1)) for b in batches])
    assert torch.allclose(model[0].running_mean, (2 * means[0] + 6 * means[1]) / 8, atol=1e-5)
    assert torch.allclose(model[0].running_var, (2 * variances[0] + 6 * variances[1]) / 8, atol=1e-5)
    assert model[0].momentum == 0.1 and not model[0].training
    with pytest.raises(ValueError):
        reestimate(model, [])
