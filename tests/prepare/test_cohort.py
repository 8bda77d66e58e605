from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from soloatlas.data.study import Study
from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.prepare import cohort as module
from soloatlas.prepare import (
    field_of_view,
    load_prepared,
    prepare_scan,
    prepare_study,
    resample,
    save_prepared,
    working_grid,
)
from soloatlas.settings import Prepare

SHAPE = (28, 32, 26)
SETTINGS = Prepare(align="affine", margin=2.0, multiple=8)


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """An egg with texture, and labels 3 and 8 in it."""
    x, y, z = (i - (n - 1) / 2 for i, n in zip(np.indices(SHAPE).astype(float), SHAPE, strict=True))
    inside = (x / 9) ** 2 + (y / 12) ** 2 + (z / 8) ** 2 < 1
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 2)
    image = np.where(inside, 100 + 30 * texture / texture.std() + 3 * x + 2 * y, 0).clip(0).astype(np.float32)
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[9:14, 10:22, 9:17] = 3
    labels[14:19, 10:22, 9:17] = 8
    return image, labels


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Study:
    image, labels = phantom()
    atlas = save(tmp_path / "image.nii.gz", image, np.diag([-1.0, 1.0, 1.0, 1.0]))
    atlas_labels = save(tmp_path / "labels.nii.gz", labels, np.diag([-1.0, 1.0, 1.0, 1.0]))
    pool = []
    for number in range(3):
        affine = np.diag([-1.0 - 0.03 * number, 1.05, 0.95, 1.0])
        affine[:3, 3] = (5.0 * number, -40.0, 3.0)
        pool.append(save(tmp_path / "pool" / f"s{number}.nii.gz", image * (1 + number), affine))
    return Study("phantoms", atlas, atlas_labels, tuple(pool))


def test_a_study_is_prepared_in_order(study: Study) -> None:
    steps: list[tuple[int, int]] = []
    ready = prepare_study(study, SETTINGS, workers=1, progress=lambda *step: steps.append(step))
    assert [scan.name for scan in ready.scans] == ["s0", "s1", "s2"]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert all(n % 8 == 0 for n in ready.working.shape)
    for scan in ready.scans:
        assert scan.aligned and scan.score > 0.9
        assert scan.image.dtype == np.float16 and scan.image.shape == ready.working.shape
        seen = field_of_view(scan.placement)
        assert not scan.image[~seen].any()
        assert np.abs(scan.image - ready.atlas.image)[seen].mean() < 0.03
    assert ready.table.values == (0, 3, 8)


def test_the_atlas_keeps_its_own_voxels(study: Study) -> None:
    ready = prepare_study(replace(study, unlabelled=study.unlabelled[:1]), SETTINGS, workers=1)
    image, labels = phantom()
    assert ready.atlas.score == 1 and ready.atlas.aligned
    for name, value in ((1, 3), (2, 8)):
        assert (ready.atlas_labels == name).sum() == (labels == value).sum()
    back = resample(ready.atlas_labels, ready.atlas.placement.inverse(), SHAPE, order=0)
    np.testing.assert_array_equal(back, np.searchsorted((0, 3, 8), labels))
    low, high = np.percentile(image[image > 0], SETTINGS.percentiles)
    expected = np.clip((image - low) / (high - low), 0, 1)
    native = resample(ready.atlas.image.astype(np.float32), ready.atlas.placement.inverse(), SHAPE)
    np.testing.assert_allclose(native, expected, atol=2e-3)  # half precision, and the few zeros inside the egg


def test_a_crop_to_the_labels_is_the_same_for_atlas_and_pool(study: Study) -> None:
    chosen = replace(SETTINGS, align="none", crop="labels", size=(16, 24, 8))
    ready = prepare_study(study, chosen, workers=1)
    assert ready.working.shape == (16, 24, 8)
    # Labels from 9 to 18, 10 to 21 and 9 to 16; the first axis runs to the left.
    np.testing.assert_allclose(ready.working.centre(), [-13.5, 15.5, 12.5], atol=0.5)
    for scan in ready.scans:
        assert scan.image.shape == (16, 24, 8) and scan.placement.working.matches(ready.working)
    assert (ready.atlas_labels == 1).sum() == (phantom()[1] == 3).sum()


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("computed again")


def test_a_second_run_computes_nothing(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_study(study, SETTINGS, cache=tmp_path / "cache", workers=1)
    monkeypatch.setattr(module, "_prepare_one", refuse)
    monkeypatch.setattr(module, "align", refuse)
    steps: list[tuple[int, int]] = []
    second = prepare_study(study, SETTINGS, tmp_path / "cache", 1, lambda *step: steps.append(step))
    assert steps == [(3, 3)]
    for one, two in zip(first.scans, second.scans, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.placement.matrix, two.placement.matrix)
        assert (one.name, one.score, one.aligned) == (two.name, two.score, two.aligned)


def test_the_cache_knows_contents_settings_atlas_and_version(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    real = module._prepare_one

    def counted(job: module._Job) -> module.Prepared:
        computed.append(job.scan.name)
        return real(job)

    monkeypatch.setattr(module, "_prepare_one", counted)

    def again(settings: Prepare = SETTINGS) -> list[str]:
        computed.clear()
        prepare_study(study, settings, tmp_path / "cache", workers=1)
        return list(computed)

    everything = ["s0.nii.gz", "s1.nii.gz", "s2.nii.gz"]
    assert again() == everything
    # A renamed file is the same scan; a changed one is not.
    study.unlabelled[0].rename(renamed := study.unlabelled[0].with_name("z.nii.gz"))
    study = replace(study, unlabelled=(renamed, *study.unlabelled[1:]))
    save(study.unlabelled[1], phantom()[0] + 1, np.eye(4))
    assert again() == ["s1.nii.gz"]
    everything[0] = "z.nii.gz"
    assert again(replace(SETTINGS, percentiles=(1.0, 99.0))) == everything
    assert again() == []
    monkeypatch.setattr(module, "PREPARE_VERSION", module.PREPARE_VERSION + 1)
    assert again() == everything
    save(study.atlas, phantom()[0] * 2, np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert again() == everything


def test_a_killed_run_leaves_nothing_half_written(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_study(study, SETTINGS, cache, workers=1)
    assert not list(cache.glob("*.json")) and not list(cache.glob(".*"))
    first = prepare_study(study, SETTINGS, cache, workers=1)
    # A damaged image is made again.
    for number, damaged in enumerate(sorted(cache.glob("*.npy"))):
        damaged.write_bytes(damaged.read_bytes()[: 1000 * number])
    second = prepare_study(study, SETTINGS, cache, workers=1)
    np.testing.assert_array_equal(first.scans[2].image, second.scans[2].image)


def test_processes_give_the_same_bits(study: Study, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    one = prepare_study(study, SETTINGS, workers=1)
    two = prepare_study(study, SETTINGS, tmp_path / "cache", 2, lambda *step: steps.append(step))
    for a, b in zip(one.scans, two.scans, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.placement.matrix, b.placement.matrix)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_scan_is_named(study: Study, tmp_path: Path, workers: int) -> None:
    study.unlabelled[1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"s1\.nii\.gz"):
        prepare_study(study, SETTINGS, tmp_path / "cache", workers)


def test_work_goes_on_where_processes_cannot_start(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from soloatlas.prepare.cohort import in_processes\n"
        "import math, warnings\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    roots = in_processes(math.sqrt, [4, 9, 16], 2)\n"
        "print(roots, len(seen))\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert run.stdout.splitlines()[-1] == "[2.0, 3.0, 4.0] 1", run.stderr


def test_a_scan_that_does_not_align_is_kept_and_flagged(study: Study) -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    save(study.unlabelled[1], noise, np.eye(4))
    ready = prepare_study(study, SETTINGS, workers=1)
    assert [scan.aligned for scan in ready.scans] == [True, False, True]


def test_labels_on_another_grid_are_refused(study: Study) -> None:
    save(study.atlas_labels, phantom()[1], np.diag([-2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(InputError, match="not on the grid"):
        prepare_study(study, SETTINGS, workers=1)


def test_values_that_are_not_numbers_count_as_the_lowest() -> None:
    image, _ = phantom()
    spoilt = image.copy()
    spoilt[0, 0, 0], spoilt[1, 1, 1] = np.nan, np.inf
    grid = Grid(SHAPE, np.eye(4))
    atlas = Volume(image, grid)
    working = working_grid(atlas, SETTINGS)
    clean = prepare_scan(Volume(image, grid), atlas, working, replace(SETTINGS, align="none"), name="x")
    other = prepare_scan(Volume(spoilt, grid), atlas, working, replace(SETTINGS, align="none"), name="x")
    np.testing.assert_array_equal(clean.image, other.image)


def test_save_and_load(study: Study, tmp_path: Path) -> None:
    ready = prepare_study(study, replace(SETTINGS, spacing=1.5), workers=1)
    save_prepared(tmp_path / "prepared", ready)
    copy = load_prepared(tmp_path / "prepared")
    assert copy.settings == ready.settings
    assert copy.table == ready.table
    assert copy.working.matches(ready.working, 0)
    np.testing.assert_array_equal(copy.atlas_labels, ready.atlas_labels)
    for one, two in zip((ready.atlas, *ready.scans), (copy.atlas, *copy.scans), strict=True):
        assert (one.name, one.score, one.aligned) == (two.name, two.score, two.aligned)
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.placement.matrix, two.placement.matrix)
    # A machine without any imaging library can read it.
    code = (
        "import sys\n"
        "for name in ('nibabel', 'SimpleITK', 'scipy', 'torch'): sys.modules[name] = None\n"
        "from soloatlas.prepare.cohort import load_prepared\n"
        f"print(len(load_prepared({str(tmp_path / 'prepared')!r}).scans))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "3", run.stderr


def test_an_incomplete_or_foreign_folder_is_refused(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "prepared"
    with pytest.raises(InputError, match="no complete prepared study"):
        load_prepared(folder)
    ready = prepare_study(replace(study, unlabelled=study.unlabelled[:1]), SETTINGS, workers=1)
    save_prepared(folder, ready)
    with monkeypatch.context() as patch:
        patch.setattr(module, "PREPARE_VERSION", -1)
        with pytest.raises(InputError, match="another version"):
            load_prepared(folder)
    (folder / "image-0001.npy").unlink()
    with pytest.raises(InputError, match="missing or damaged"):
        load_prepared(folder)
