import numpy as np
import pytest
from scipy import stats

from soloatlas.evaluation.statistics import (
    bootstrap_interval,
    interval_of,
    pitman_morgan,
    resampled,
    standard_error,
    student_interval,
    student_sample,
    summarise,
)


def test_summary_by_hand():
    summary = summarise("dice", [0.2, None, 0.4, 0.9])
    assert summary["mean_dice"] == pytest.approx(0.5)
    assert summary["sd_dice"] == pytest.approx(np.sqrt((0.09 + 0.01 + 0.16) / 3))  # population, not sample
    assert (summary["min_dice"], summary["max_dice"]) == (0.2, 0.9)
    low, high = summary["mean_dice_ci95"]
    assert 0.2 <= low < 0.5 < high <= 0.9


def test_nothing_scored_is_none_and_one_value_has_no_interval():
    keys = {"mean_nsd", "sd_nsd", "min_nsd", "max_nsd", "mean_nsd_ci95"}
    assert summarise("nsd", [None, None]) == dict.fromkeys(keys)
    one = summarise("nsd", [0.5, None])
    assert one["mean_nsd"] == 0.5 and one["sd_nsd"] == 0.0 and one["mean_nsd_ci95"] is None


def test_interval_against_scipy():
    values = np.random.default_rng(1).normal(0.8, 0.05, 40)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert bootstrap_interval(list(values)) == pytest.approx([theirs.low, theirs.high], abs=1.5e-3)
    narrow = bootstrap_interval(list(values), level=0.5)
    assert bootstrap_interval(list(values))[0] < narrow[0] < narrow[1] < bootstrap_interval(list(values))[1]


def test_interval_is_repeatable():
    assert bootstrap_interval([1.0, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])
    assert bootstrap_interval([3.0, 3.0]) == [3.0, 3.0]


def test_what_belongs_to_a_case_is_drawn_together():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    means = resampled(values)
    assert means.shape == (5000, 2) and np.allclose(10 * means[:, 0], means[:, 1])
    assert interval_of(means[:, 0]) == bootstrap_interval([1.0, 2.0, 4.0])
    lowest = resampled(values, np.min)
    assert set(lowest[:, 0]) == {1.0, 2.0, 4.0}
    # Each draw of three lacks the lowest case with probability (2/3)^3.
    assert np.mean(lowest[:, 0] > 1) == pytest.approx(8 / 27, abs=0.02)


def test_one_seed_has_the_ordinary_student_interval():
    values = np.array([[0.1], [0.3], [0.2], [0.5]])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values[:, 0]))
    assert student_interval(values) == pytest.approx(expected)
    assert interval_of(student_sample(values)) == pytest.approx(expected, abs=1e-3)
    assert student_interval(values[:1]) is None
    assert student_interval(np.full((5, 3), 0.2)) == pytest.approx([0.2, 0.2])


def test_the_error_of_cases_and_seeds_by_hand():
    """Cases 0, 1, 2 with seeds 0, 4 added and a rest of +-0.5: mean squares 2, 24 and 0.75 (1.5 over 2)."""
    values = np.array([[0.5, 3.5], [0.5, 5.5], [2.0, 6.0]])
    cases, seeds = values.mean(1), values.mean(0)
    squares = 2 * cases.var(ddof=1), 3 * seeds.var(ddof=1)
    rest = sum((values[c, s] - cases[c] - seeds[s] + values.mean()) ** 2 for c in range(3) for s in range(2)) / 2
    error, freedom = standard_error(values)
    total = squares[0] + squares[1] - rest
    assert error**2 == pytest.approx(total / 6)
    assert freedom == pytest.approx(total**2 / (squares[0] ** 2 / 2 + squares[1] ** 2 / 1 + rest**2 / 2))
    assert freedom < 2  # two seeds decide


@pytest.mark.parametrize(("of_seeds", "least", "most"), [(0.0, 0.935, 0.985), (0.02, 0.92, 0.99)])
def test_intervals_hold_the_truth_as_often_as_they_say(of_seeds, least, most):
    draw = np.random.default_rng(4)
    held = 0
    for _ in range(2000):
        values = 0.03 * draw.normal(size=(20, 1)) + of_seeds * draw.normal(size=3) + 0.02 * draw.normal(size=(20, 3))
        low, high = student_interval(values)
        held += low < 0 < high
    assert least < held / 2000 < most


def test_spreads_of_paired_samples_by_the_formula_of_their_ratio():
    draw = np.random.default_rng(5)
    first = draw.normal(0.8, 0.03, 12)
    second = first + draw.normal(0, 0.06, 12)
    ratio, r = first.var(ddof=1) / second.var(ddof=1), np.corrcoef(first, second)[0, 1]
    t = (ratio - 1) * np.sqrt(10) / (2 * np.sqrt(ratio * (1 - r**2)))
    assert pitman_morgan(first, second) == pytest.approx(2 * stats.t.sf(abs(t), 10))
    assert pitman_morgan(first, first) == pitman_morgan(first, first + 1) == 1.0
