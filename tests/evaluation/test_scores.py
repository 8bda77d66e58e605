import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import surface_distance
import torch
from monai.metrics import compute_hausdorff_distance

from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.evaluation.scores import METRICS, evaluate_case, values_present


def _volume(array: np.ndarray, affine: np.ndarray | None = None, name: str = "a.nii.gz") -> Volume:
    affine = np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine
    return Volume(array.astype(np.int32), Grid(array.shape, affine), Path(name))


def _pair(shape: tuple[int, int, int] = (20, 24, 16)) -> tuple[np.ndarray, np.ndarray]:
    truth, prediction = np.zeros((2, *shape), np.int32)
    truth[2:8, 3:9, 4:10], prediction[3:9, 3:9, 4:10] = 7, 7
    truth[10:18, 10:20, 2:12], prediction[10:18, 10:20, 2:12] = 1_000_000_007, 1_000_000_007
    return prediction, truth


def test_dice_volumes_and_perfect_match():
    prediction, truth = _pair()
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    scores = evaluate_case(_volume(prediction, affine), _volume(truth, affine), [0, 7, 1_000_000_007])
    assert list(scores) == [7, 1_000_000_007]
    moved, same = scores[7], scores[1_000_000_007]
    assert moved["dice"] == pytest.approx(2 * 180 / 432)
    assert moved["volume_truth_ml"] == moved["volume_prediction_ml"] == pytest.approx(216 * 6 / 1000)
    assert [same[metric] for metric in METRICS] == [1.0, 0.0, 0.0, 1.0]
    assert moved["status"] == same["status"] == "scored"


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # inside MONAI
def test_against_other_packages_on_touching_labels():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.repeat(np.repeat(rng.integers(0, 4, (5, 5, 5)), 4, 0), 4, 1), 4, 2) * 5
    prediction = np.roll(truth, (1, 0, 2), (0, 1, 2))
    affine = np.diag([0.5, 1.5, 2.0, 1.0])
    scores = evaluate_case(_volume(prediction, affine), _volume(truth, affine), [0, 5, 10, 15])
    for value in (5, 10, 15):
        mine, theirs = truth == value, prediction == value
        assert scores[value]["dice"] == surface_distance.compute_dice_coefficient(mine, theirs)
        masks = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (theirs, mine)]
        expected = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=[0.5, 1.5, 2.0])
        assert scores[value]["hd95_mm"] == pytest.approx(expected.item(), rel=1e-5)


def test_absent_structures():
    prediction, truth = np.zeros((2, 10, 20, 30), np.int32)
    truth[1, 1, 1], prediction[2, 2, 2] = 1, 2
    prediction[4, 4, 4] = 4
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    scores = evaluate_case(
        _volume(prediction, affine), _volume(truth, affine), [1, 2, 3, 4, 5], 1.0, frozenset({4, 5, 1})
    )
    diagonal = pytest.approx(np.sqrt(20**2 + 20**2 + 30**2))
    assert [scores[value]["status"] for value in (1, 2, 3, 4, 5)] == [
        "missing",
        "extra",
        "absent",
        "not contoured",
        "not contoured",
    ]
    for value in (1, 2):
        assert [scores[value][metric] for metric in METRICS] == [0.0, diagonal, diagonal, 0.0]
    for value in (3, 4, 5):
        assert [scores[value][metric] for metric in METRICS] == [None] * 4
    assert scores[4]["volume_prediction_ml"] == pytest.approx(0.002)
    assert scores[4]["volume_truth_ml"] == 0.0


def test_empty_volumes_and_no_values():
    empty = _volume(np.zeros((4, 4, 4)))
    assert evaluate_case(empty, empty, [3])[3]["status"] == "absent"
    assert evaluate_case(empty, empty, [0]) == {}


def test_labels_outside_the_table_do_not_count():
    prediction, truth = _pair()
    alone = evaluate_case(_volume(prediction), _volume(truth), [7])
    prediction[prediction == 1_000_000_007] = 8
    assert evaluate_case(_volume(prediction), _volume(truth), [7]) == alone


def test_tolerance():
    prediction, truth = _pair()
    strict = evaluate_case(_volume(prediction), _volume(truth), [7], 0.5)[7]["nsd"]
    assert strict < evaluate_case(_volume(prediction), _volume(truth), [7], 1.0)[7]["nsd"] == 1.0


def test_different_grids_are_refused_by_name():
    truth = _volume(np.ones((4, 4, 4)), name="truth.nii.gz")
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    for wrong, why in (
        (_volume(np.ones((4, 4, 5)), name="p.nii.gz"), "4 x 4 x 5 voxels, the truth 4 x 4 x 4"),
        (_volume(np.ones((4, 4, 4)), shifted, "p.nii.gz"), "up to 0.5 mm from the truth's"),
    ):
        with pytest.raises(InputError, match=rf"p\.nii\.gz: not on the grid of truth\.nii\.gz: .*{why}"):
            evaluate_case(wrong, truth, [1])


def test_values_present():
    assert values_present(np.array([0, 5, 5]), np.array([0, 2])) == {2, 5}


def test_memory_stays_far_below_one_hot():
    truth = np.zeros((96, 96, 96), np.int32)
    for value in range(1, 39):
        x, y, z = (value % 4) * 24, (value // 4 % 4) * 24, (value // 16) * 24
        truth[x : x + 20, y : y + 20, z : z + 20] = value
    prediction = np.roll(truth, 1, 0)
    tracemalloc.start()
    try:
        evaluate_case(_volume(prediction), _volume(truth), range(39))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 38 * truth.size  # one byte per voxel and class, of one volume, would already be more
