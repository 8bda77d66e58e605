import numpy as np
import pytest
import surface_distance
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import distance_transform_edt, gaussian_filter

from soloatlas.evaluation.surface import assd, hd95, nsd, surface, surface_distances

SPACING = (0.7, 1.3, 2.5)


def _blob(seed: int, shape: tuple[int, int, int] = (24, 20, 18)) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 3)
    return noise > np.percentile(noise, 85)


def _one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask[None, None].astype(np.float32))


def test_surface_of_a_cube_is_its_outer_layer():
    mask = np.zeros((7, 7, 7), bool)
    mask[1:6, 1:6, 1:6] = True
    expected = mask.copy()
    expected[2:5, 2:5, 2:5] = False
    np.testing.assert_array_equal(surface(mask), expected)


def test_surface_at_the_border_of_the_array():
    expected = np.ones((4, 5, 3), bool)
    expected[1:-1, 1:-1, 1] = False
    np.testing.assert_array_equal(surface(np.ones((4, 5, 3), bool)), expected)
    assert surface(np.ones((1, 1, 1), bool)).all()


def test_distances_of_two_single_voxels():
    a, b = np.zeros((2, 9, 9, 9), bool)
    a[1, 2, 3], b[4, 6, 3] = True, True
    forward, backward = surface_distances(a, b, np.diag(SPACING))
    expected = np.hypot(3 * SPACING[0], 4 * SPACING[1])
    np.testing.assert_allclose([*forward, *backward], [expected, expected])
    assert hd95(forward, backward) == assd(forward, backward) == pytest.approx(expected)


def test_shifted_cube_by_hand():
    # A cube of 3x3x3 (26 surface voxels) moved by one voxel of 2 mm along x: the 9 voxels of the face that
    # was left are 2 mm from the other surface, the one on the other's inner voxel is 1 mm away, the rest 0.
    a, b = np.zeros((2, 8, 5, 5), bool)
    a[1:4, 1:4, 1:4], b[2:5, 1:4, 1:4] = True, True
    forward, backward = surface_distances(a, b, np.diag([2.0, 1.0, 1.0]))
    for distances in (forward, backward):
        assert len(distances) == 26
        assert sorted(distances)[-10:] == [1.0, *[2.0] * 9]
        assert np.count_nonzero(distances) == 10
    assert assd(forward, backward) == pytest.approx(19 / 26)
    assert hd95(forward, backward) == 2.0
    assert nsd(forward, backward, 1.0) == pytest.approx(17 / 26)
    assert nsd(forward, backward, 0.9) == pytest.approx(16 / 26)
    assert nsd(forward, backward, 2.0) == 1.0


def test_hd95_takes_the_larger_direction():
    forward, backward = np.zeros(100), np.concatenate([np.zeros(90), np.full(10, 7.0)])
    assert hd95(forward, backward) == hd95(backward, forward) == 7.0
    assert hd95(np.array([0.0, 1.0]), np.zeros(3)) == pytest.approx(0.95)  # linear between ranks


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # inside MONAI
@pytest.mark.parametrize("seed", range(4))
def test_against_monai(seed: int):
    prediction, truth = _blob(seed), _blob(seed + 100) | _blob(seed)
    forward, backward = surface_distances(prediction, truth, np.diag(SPACING))
    one_hot = (_one_hot(prediction), _one_hot(truth))
    common = {"include_background": True, "spacing": SPACING}
    expected_hd = compute_hausdorff_distance(*one_hot, percentile=95, **common).item()
    expected_assd = compute_average_surface_distance(*one_hot, symmetric=True, **common).item()
    expected_nsd = compute_surface_dice(*one_hot, class_thresholds=[1.5], **common).item()
    assert hd95(forward, backward) == pytest.approx(expected_hd, rel=1e-5)
    assert assd(forward, backward) == pytest.approx(expected_assd, rel=1e-5)
    assert nsd(forward, backward, 1.5) == pytest.approx(expected_nsd, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # inside surface_distance
def test_near_the_area_weighted_definition():
    prediction, truth = _blob(1, (40, 40, 40)), _blob(1, (40, 40, 40))
    truth = np.roll(truth, (2, 1, 0), (0, 1, 2))
    forward, backward = surface_distances(prediction, truth, np.eye(3))
    theirs = surface_distance.compute_surface_distances(truth, prediction, (1.0, 1.0, 1.0))
    robust = surface_distance.compute_robust_hausdorff(theirs, 95)
    means = surface_distance.compute_average_surface_distance(theirs)
    overlap = surface_distance.compute_surface_dice_at_tolerance(theirs, 1.0)
    assert hd95(forward, backward) == pytest.approx(robust, abs=0.75)  # surfaces half a voxel apart
    assert assd(forward, backward) == pytest.approx(np.mean(means), abs=0.5)
    assert nsd(forward, backward, 1.0) == pytest.approx(overlap, abs=0.15)


def test_a_rotated_grid_changes_nothing_and_a_sheared_one_counts():
    prediction, truth = _blob(5), _blob(6)
    angle = 0.4
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    straight = surface_distances(prediction, truth, np.diag(SPACING))
    turned = surface_distances(prediction, truth, rotation @ np.diag(SPACING))
    for one, other in zip(straight, turned, strict=True):
        np.testing.assert_allclose(np.sort(one), np.sort(other), atol=1e-9)
    a, b = np.zeros((2, 3, 3, 3), bool)
    a[0, 0, 0], b[0, 0, 1] = True, True
    gantry_tilt = np.array([[1.0, 0, 0], [0, 1.0, 3.0], [0, 0, 4.0]])
    assert surface_distances(a, b, gantry_tilt)[0] == pytest.approx([5.0])


def test_a_rounded_affine_does_not_push_distances_over_the_tolerance():
    a, b = np.zeros((2, 4, 4, 4), bool)
    a[1, 1, 1], b[2, 1, 1] = True, True
    assert nsd(*surface_distances(a, b, np.eye(3) * (1 + 1e-6)), 1.0) == 1.0


def test_distances_equal_a_distance_transform():
    prediction, truth = _blob(8), _blob(9)
    forward, _ = surface_distances(prediction, truth, np.diag(SPACING))
    transform = distance_transform_edt(~surface(truth), sampling=SPACING)
    np.testing.assert_allclose(np.sort(forward), np.sort(transform[surface(prediction)]), atol=1e-9)
