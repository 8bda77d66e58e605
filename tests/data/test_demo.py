import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from soloatlas.data import demo
from soloatlas.data.demo import simulate_cohort
from soloatlas.data.files import read_labels, read_volume
from soloatlas.data.labels import label_table, read_label_names
from soloatlas.data.study import Study
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError

COARSE = 6.0  # mm: everything but the picture is the same


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return simulate_cohort(tmp_path_factory.mktemp("demo"), pool=5, test=2, seed=3, spacing=COARSE)


def _centroid(labels: Volume, value: int) -> np.ndarray:
    index = np.argwhere(labels.array == value).mean(0)
    return labels.grid.affine[:3, :3] @ index + labels.grid.affine[:3, 3]


def test_layout_names_and_note(study: Study):
    folder = study.atlas.parent.parent
    assert study.atlas == folder / "atlas" / "image.nii.gz"
    assert study.atlas_labels == folder / "atlas" / "labels.nii.gz"
    assert [path.name for path in study.unlabelled] == [f"scan_{k:02d}.nii.gz" for k in range(1, 6)]
    assert [path.name for path in study.test_images] == ["test_01.nii.gz", "test_02.nii.gz"]
    assert [path.name for path in study.test_labels] == ["test_01.nii.gz", "test_02.nii.gz"]
    note = (folder / "NOTE.txt").read_text()
    assert note.startswith("SIMULATED") and "seed 3" in note and "nilearn" in note
    assert not list(folder.rglob(".*"))


def test_sides_are_declared_pairs(study: Study):
    names = read_label_names(study.label_names)
    table = label_table(names, names)
    assert json.loads(study.label_names.read_text()) == {str(k): v for k, v in demo.LABELS.items()}
    assert {(table.values[a], table.values[b]) for a, b in table.pairs} == {(1, 2), (3, 4)}


def test_labels_lie_on_their_images_and_on_their_sides(study: Study):
    images = [study.atlas, *study.test_images]
    for image_path, labels_path in zip(images, [study.atlas_labels, *study.test_labels], strict=True):
        image, labels = read_volume(image_path), read_labels(labels_path)
        assert image.grid.matches(labels.grid)
        assert set(np.unique(labels.array)) == set(range(6))
        assert np.all(image.array[labels.array > 0] > 0)
        for left, right in ((1, 2), (3, 4)):
            assert _centroid(labels, left)[0] < -10 and _centroid(labels, right)[0] > 10
        assert abs(_centroid(labels, 5)[0]) < 10


def test_nothing_touches_the_border(study: Study):
    for path in (study.atlas, *study.unlabelled, *study.test_images):
        array = read_volume(path).array
        assert np.isfinite(array).all()
        assert array[2:-2, 2:-2, 2:-2].sum() == array.sum() > 0


def test_white_matter_is_brightest_and_fluid_darkest(study: Study):
    for image_path, labels_path in zip(study.test_images, study.test_labels, strict=True):
        image, labels = read_volume(image_path).array, read_labels(labels_path).array
        grey, white, fluid = (image[np.isin(labels, kind)].mean() for kind in ((1, 2), (3, 4), (5,)))
        assert white > grey > fluid


def test_grids_differ_between_scans(study: Study):
    grids = [read_volume(path).grid for path in study.unlabelled]
    codes = {"".join(nibabel.aff2axcodes(grid.affine)) for grid in grids}
    assert codes == {"RAS", "LAS", "LPS", "LPI"}
    assert sum(np.count_nonzero(np.abs(grid.affine[:3, :3]) > 1e-3) > 3 for grid in grids) == 1  # the oblique
    assert len({tuple(np.round(grid.spacing, 2)) for grid in grids}) == 3
    atlas = read_volume(study.atlas).grid
    np.testing.assert_allclose(atlas.affine[:3, :3], COARSE * np.eye(3), atol=1e-6)


def test_atlas_volumes_are_those_of_the_template(study: Study):
    t1, grey, white, affine, _ = demo._read_maps()
    truth = demo._tissues(t1, grey, white, affine)
    labels = read_labels(study.atlas_labels)
    for value in (1, 2):  # at 6 mm, thick structures keep their volume; thin ones lose to partial volume
        share = np.count_nonzero(labels.array == value) * COARSE**3 / truth[value].sum()
        assert 0.8 < share < 1.2
    assert not np.any(np.sum(list(truth.values()), axis=0) > 1)


def test_overwriting_an_own_cohort_gives_the_same_scans_as_a_fresh_one(study: Study, tmp_path: Path):
    other = simulate_cohort(tmp_path, pool=2, test=1, seed=4, spacing=COARSE)
    unlike = read_volume(other.unlabelled[0])
    (tmp_path / "mine.txt").write_text("keep")
    again = simulate_cohort(tmp_path, pool=1, test=1, seed=3, spacing=COARSE)
    assert [path.name for path in again.unlabelled] == ["scan_01.nii.gz"]
    assert (tmp_path / "mine.txt").read_text() == "keep"
    for first, second in (
        (study.atlas, again.atlas),
        (study.unlabelled[0], again.unlabelled[0]),
        (study.test_labels[0], again.test_labels[0]),
    ):
        np.testing.assert_array_equal(read_volume(first).array, read_volume(second).array)
        np.testing.assert_array_equal(read_volume(first).grid.affine, read_volume(second).grid.affine)
    like = read_volume(study.unlabelled[0])
    assert unlike.grid.shape != like.grid.shape or not np.array_equal(unlike.array, like.array)


def test_refuses_a_folder_of_something_else(tmp_path: Path):
    (tmp_path / "data.txt").write_text("not ours")
    with pytest.raises(InputError, match="not a simulated cohort"):
        simulate_cohort(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.txt"]


@pytest.mark.parametrize("wrong", [{"pool": 0}, {"test": -1}, {"spacing": 0.5}, {"spacing": float("nan")}])
def test_refuses_impossible_sizes(tmp_path: Path, wrong: dict):
    with pytest.raises(InputError, match="simulated cohort"):
        simulate_cohort(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_fields_are_invertible_and_bounded():
    rng = np.random.default_rng(0)
    for _ in range(5):
        velocity = demo._velocity((36, 40, 34), rng)
        assert 4 <= np.sqrt((velocity**2).sum(0)).max() <= 8
        field = demo._integrate(velocity / demo.FIELD_STEP_MM)
        assert np.sqrt((field**2).sum(0)).max() <= 8 / demo.FIELD_STEP_MM
        gradient = np.stack([np.stack(np.gradient(part)) for part in field])  # component, axis, x, y, z
        jacobian = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3))
        assert jacobian.min() > 0.2


def test_integration_of_a_rotation():
    # The flow of the velocity W p is the rotation expm(W) p: known in closed form.
    shape, angle = (21, 21, 5), 0.2
    centred = np.indices(shape).astype(float) - np.array([10, 10, 2]).reshape(3, 1, 1, 1)
    velocity = np.stack([-angle * centred[1], angle * centred[0], np.zeros(shape)])
    x, y, _ = centred
    expected_x = np.cos(angle) * x - np.sin(angle) * y - x
    expected_y = np.sin(angle) * x + np.cos(angle) * y - y
    field = demo._integrate(velocity)
    inside = (slice(5, 16), slice(5, 16), slice(None))
    np.testing.assert_allclose(field[0][inside], expected_x[inside], atol=0.01)
    np.testing.assert_allclose(field[1][inside], expected_y[inside], atol=0.01)
    np.testing.assert_allclose(field[2], 0, atol=1e-12)
