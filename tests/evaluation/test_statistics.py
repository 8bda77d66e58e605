import numpy as np
import pytest
from scipy import stats

from soloatlas.evaluation.statistics import bootstrap_interval, interval_of, resampled, summarise


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
