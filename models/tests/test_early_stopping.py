"""Tests task-wise early stopping with numbers from TCDCN's formula."""

import csv
import math

import pytest

from faceptor_models.common.overfitting import TaskwiseStopping


def fed(training, validation, task="smile", coefficient=1.0, **options):
    """Returns a rule that has seen the losses of one task."""
    rule = TaskwiseStopping({task: coefficient}, **({"window": 4, "threshold": 1e9} | options))
    for i, (a, b) in enumerate(zip(training, validation, strict=True)):
        rule.update(i, {task: a}, {task: b})
    return rule


def test_trend_of_a_flat_curve_and_of_a_straight_fall_is_the_window():
    for training in ([2.0] * 5, [5.0, 4.0, 3.0, 2.0, 1.0]):
        assert fed(training, training).log[-1].trend == pytest.approx(4.0)


def test_trend_and_gap_equal_values_computed_by_hand():
    rule = fed([8.0, 4.0, 2.0, 1.0, 0.5], [9.0, 6.0, 4.0, 3.0, 2.0], coefficient=0.25)
    decision = rule.log[-1]
    assert decision.trend == pytest.approx(4 * 2 / (15.5 - 8)) and decision.gap == pytest.approx((2 - 0.5) / (0.25 * 0.5))
    assert decision.index == pytest.approx(decision.trend * decision.gap)
    assert [d.index for d in rule.log[:4]] == [None] * 4


def test_the_window_slides_and_the_minimum_is_of_all_that_was_seen():
    rule = fed([1.0, 9.0, 5.0, 5.0, 5.0, 5.0, 5.0], [6.0] * 7)
    assert rule.log[-1].trend == pytest.approx(20 / (5 * 5 - 20 + 0)) and rule.log[-1].gap == pytest.approx(5.0)
    other = fed([1.0, 9.0, 5.0, 5.0, 5.0], [6.0, 4.0, 6.0, 6.0, 6.0], minimum="validation")
    assert other.log[-1].gap == pytest.approx((6 - 4) / 4)


def test_guards_handle_a_denominator_that_is_not_positive():
    training = [0.1, 0.1, 3.0, 3.0, 3.0]  # sum 9.2, four times the median 12
    assert fed(training, [9.0] * 5, threshold=1.0).stopped_at == {}
    rule = fed(training, [9.0] * 5, threshold=1.0, guard="infinite")
    assert rule.stopped_at == {"smile": 4} and math.isinf(rule.log[-1].index)
    # A task that generalises is not stopped by an infinite trend.
    assert fed(training, [0.1] * 5, threshold=1.0, guard="infinite").stopped_at == {}


def test_an_important_task_stops_later_and_a_stopped_one_has_no_weight():
    rule = TaskwiseStopping({"pose": 4.0, "smile": 0.5}, window=2, threshold=3.0)
    stops = []
    for i in range(12):
        training = dict.fromkeys(("pose", "smile"), 1.0)
        validation = dict.fromkeys(training, 1.0 + 0.5 * i)
        stops += [(i, t) for t in rule.update(i, training, validation)]
    # Flat curve: trend 2, index 2 * 0.5 i / lambda > 3 from i = 2 (smile) and i = 13 (pose).
    assert stops == [(2, "smile")] and rule.active() == ["pose"]
    assert (rule.weight("smile"), rule.weight("pose")) == (0.0, 4.0)
    assert [d.iteration for d in rule.log if d.task == "smile"] == [0, 1, 2]


def test_patience_counts_consecutive_checks():
    validation = [9.0, 9.0, 1.0, 9.0, 9.0, 9.0, 9.0]
    assert fed([1.0] * 7, validation, window=2, threshold=3.0).stopped_at == {"smile": 3}
    assert fed([1.0] * 7, validation, window=2, threshold=3.0, patience=3).stopped_at == {"smile": 5}


def test_a_resumed_rule_decides_like_an_unbroken_one(tmp_path):
    training, validation = [1.0 + 0.1 * (i % 3) for i in range(12)], [1.0 + 0.2 * i for i in range(12)]
    through = fed(training, validation, threshold=4.0)
    first = fed(training[:6], validation[:6], threshold=4.0)
    second = TaskwiseStopping({"smile": 1.0}, window=4, threshold=4.0)
    second.load_state_dict(first.state_dict())
    for i in range(6, 12):
        second.update(i, {"smile": training[i]}, {"smile": validation[i]})
    assert second.log == through.log and second.stopped_at == through.stopped_at != {}
    second.write_csv(tmp_path / "log.csv")
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert len(rows) == len(through.log) and rows[-1]["stopped"] == "True"
    second.write_svg(tmp_path / "log.svg")
    assert f"smile: stopped at {through.stopped_at['smile']}" in (tmp_path / "log.svg").read_text()
    with pytest.raises(ValueError, match="tasks"):
        TaskwiseStopping({"pose": 1.0}, 4, 1.0).load_state_dict(first.state_dict())


@pytest.mark.parametrize("wrong", [{"window": 1}, {"threshold": 0.0}, {"patience": 0}, {"guard": "hope"}, {"minimum": "test"}, {"coefficient": 0.0}])
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        fed([], [], **wrong)
