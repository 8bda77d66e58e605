"""Each finding, provoked by a file made for it; a sound study has none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest

from soloatlas.data.check import Finding, check_study
from soloatlas.data.compare import axis_codes
from soloatlas.data.files import write_volume
from soloatlas.data.study import Study
from soloatlas.data.volume import Grid

SHAPE = (12, 14, 10)
RAS = np.diag([1.0, 1, 1, 1])


def image(seed: int) -> np.ndarray:
    """A bright ball on a slope, with noise."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    ball = 80.0 * (x**2 + y**2 + z**2 < 0.5) + 30 * z + 100
    return (ball + np.random.default_rng(seed).normal(0, 5, SHAPE)).astype(np.float32)


def labels() -> np.ndarray:
    out = np.zeros(SHAPE, dtype=np.uint8)
    out[3:6, 4:9, 3:7] = 1
    out[6:9, 4:9, 3:7] = 4
    return out


def put(path: Path, array: np.ndarray, affine: np.ndarray = RAS) -> Path:
    write_volume(path, array, Grid((array.shape[0], array.shape[1], array.shape[2]), affine))
    return path


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A sound study: atlas, six unlabelled scans, two test scans, names."""
    (tmp_path / "labels.json").write_text('{"0": "background", "1": "left part", "4": "right part"}')
    return Study(
        name="made",
        atlas=put(tmp_path / "atlas.nii.gz", image(0)),
        atlas_labels=put(tmp_path / "labels.nii.gz", labels()),
        unlabelled=tuple(put(tmp_path / f"u{k}.nii.gz", image(k)) for k in range(1, 7)),
        label_names=tmp_path / "labels.json",
        test_images=tuple(put(tmp_path / f"t{k}.nii.gz", image(k)) for k in (8, 9)),
        test_labels=tuple(put(tmp_path / f"truth{k}.nii.gz", labels()) for k in (8, 9)),
    )


def only(study: Study) -> Finding:
    findings = check_study(study)
    assert len(findings) == 1, findings
    finding = findings[0]
    assert finding.consequence and "\n" not in finding.problem + finding.consequence
    return finding


def test_a_sound_study_has_no_findings_and_progress_counts_every_scan(study: Study) -> None:
    seen: list[tuple[int, int]] = []
    assert check_study(study, lambda done, total: seen.append((done, total))) == []
    assert seen == [(k, 9) for k in range(1, 10)]


def test_every_problem_is_reported_at_once_errors_first(study: Study, tmp_path: Path) -> None:
    put(study.unlabelled[0], np.full(SHAPE, np.nan, dtype=np.float32))
    study.unlabelled[1].write_bytes(b"no scan")
    put(study.test_labels[0], labels()[1:])
    wild = labels()
    wild[11, 13, 9] = 7
    put(study.atlas_labels, wild)
    findings = check_study(dataclasses.replace(study, notes=("something was left out",)))
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    text = " | ".join(finding.problem for finding in findings)
    for part in ("NaN", "cannot be read", "not on its image's grid", "no name", "touches", "left out"):
        assert part in text


# Files that cannot be used: errors, naming the file, and training refuses.


@pytest.mark.parametrize("which", ["atlas", "unlabelled", "test_images"])
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-50]), "cannot be read"),
        (lambda p: p.write_bytes(b""), "0 bytes"),
        (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
        (lambda p: put(p, np.full(SHAPE, np.inf, dtype=np.float32)), "NaN or inf"),
        (lambda p: put(p, np.stack([image(1), image(2)], axis=-1)), "4 axes"),
        (lambda p: put(p, np.full(SHAPE, 3.0, dtype=np.float32)), "empty: every voxel is 3"),
    ],
    ids=["missing", "truncated", "no bytes", "folder", "infinite", "4-D", "constant"],
)
def test_unusable_images(study: Study, which: str, spoil: object, problem: str) -> None:
    files = getattr(study, which)
    path = files[1] if isinstance(files, tuple) else files
    spoil(path)  # type: ignore[operator]
    finding = only(study)
    assert (finding.level, finding.where) == ("error", str(path))
    assert problem in finding.problem and str(path) not in finding.problem
    assert "refuses" in finding.consequence


def test_nan_voxels_are_counted(study: Study) -> None:
    array = image(1)
    array[0, 0, :3] = [np.nan, np.inf, -np.inf]
    put(study.unlabelled[0], array)
    assert only(study).problem == "3 voxels are NaN or infinite"


@pytest.mark.parametrize("which", ["atlas_labels", "test_labels"])
@pytest.mark.parametrize(
    ("array", "affine", "problem"),
    [
        (labels()[1:], RAS, "11 x 14 x 10 voxels, the image 12 x 14 x 10"),
        (labels(), np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "up to 0.5 mm"),
        (labels(), np.diag([1.1, 1, 1, 1]), "up to 1.1 mm"),
        (labels() + 0.5, RAS, "not a whole number"),
        (-labels().astype(np.int16), RAS, "negative"),
    ],
    ids=["shape", "shifted", "stretched", "fractions", "negative"],
)
def test_unusable_labels(study: Study, which: str, array: np.ndarray, affine: np.ndarray, problem: str) -> None:
    files = getattr(study, which)
    path = put(files[1] if isinstance(files, tuple) else files, array, affine)
    finding = only(study)
    assert (finding.level, finding.where) == ("error", str(path))
    assert problem in finding.problem


def test_every_atlas_of_several_is_checked(study: Study, tmp_path: Path) -> None:
    drawn = labels()
    drawn[6:9, 4:9, 3:7] = 9
    second = (put(tmp_path / "second.nii.gz", image(11)), put(tmp_path / "second-labels.nii.gz", drawn))
    findings = check_study(dataclasses.replace(study, more_atlases=(second,)))
    assert {(f.level, f.where, f.problem) for f in findings} == {
        ("warning", str(second[1]), "value 9 has no name"),
        ("note", str(second[1]), "'right part' (4) is named but not drawn"),
        ("error", str(second[1]), "label values 9 are not in the atlas"),
    }
    spoilt = dataclasses.replace(study, more_atlases=((put(second[0], np.ones(SHAPE, np.float32)), second[1]),))
    assert "empty" in check_study(spoilt)[0].problem


def test_labels_of_the_pool_are_checked(study: Study, tmp_path: Path) -> None:
    strange = labels()
    strange[5, 5, 5] = 9
    good = [put(tmp_path / f"{n}.nii.gz", labels()) for n in range(len(study.unlabelled) - 2)]
    elsewhere = put(tmp_path / "elsewhere.nii.gz", labels(), np.diag([1.1, 1, 1, 1]))
    pool = (*good, put(tmp_path / "strange.nii.gz", strange), elsewhere)
    findings = check_study(dataclasses.replace(study, pool_labels=pool))
    assert [(f.level, f.where) for f in findings] == [("error", str(pool[-2])), ("error", str(pool[-1]))]
    assert "values 9" in findings[0].problem and "not on its image's grid" in findings[1].problem


def test_a_pool_of_nothing_but_labels_is_refused(study: Study, tmp_path: Path) -> None:
    drawn = tuple(put(tmp_path / f"l{n}.nii.gz", np.roll(labels(), n, 0)) for n in range(3))
    worst = check_study(dataclasses.replace(study, unlabelled=drawn))[0]
    assert worst.level == "error" and worst.problem == "every unlabelled scan looks like a label map"
    mixed = check_study(dataclasses.replace(study, unlabelled=(*drawn, study.unlabelled[0])))
    assert all(f.level != "error" for f in mixed)


def test_a_scan_given_as_labels_and_labels_given_as_a_scan(study: Study) -> None:
    swapped = dataclasses.replace(study, atlas=study.atlas_labels, atlas_labels=study.atlas)
    put(study.atlas, np.rint(image(0)))
    findings = [f for f in check_study(swapped) if f.where in (str(study.atlas), str(study.atlas_labels))]
    assert "a scan, not a label map" in findings[0].problem
    assert findings[0].level == "error"
    assert any("looks like a label map" in f.problem and f.level == "warning" for f in findings)
    assert not [f for f in findings if f.problem.startswith("every unlabelled scan")]
    # Many structures, each in one piece, are a label map.
    x, y, z = np.indices(SHAPE)
    put(study.atlas_labels, (1 + x // 4 + 3 * (y // 5) + 9 * (z // 4)).astype(np.uint8))
    assert not [f for f in check_study(study) if "not a label map" in f.problem]


def test_labels_without_any_structure(study: Study) -> None:
    put(study.atlas_labels, np.zeros(SHAPE, dtype=np.uint8))
    findings = check_study(dataclasses.replace(study, test_images=(), test_labels=()))
    assert (findings[0].level, findings[0].problem) == ("error", "holds no label, only background")


def test_an_empty_pool(study: Study) -> None:
    finding = only(dataclasses.replace(study, unlabelled=()))
    assert (finding.level, finding.problem) == ("error", "no unlabelled scan")


def test_a_broken_table_of_names(study: Study, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("{")
    finding = only(study)
    assert finding.level == "error" and finding.where == str(study.label_names)


# What may spoil the result: warnings.


def test_unnamed_and_undrawn_values(study: Study, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"1": "left part", "9": "not there"}')
    warning, note = check_study(study)
    assert (warning.level, warning.problem) == ("warning", "value 4 has no name")
    assert warning.consequence == "it is called 'label 4'"
    assert (note.level, note.problem) == ("note", "'not there' (9) is named but not drawn")


def test_one_name_for_two_values(study: Study, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"1": "part", "4": "part"}')
    finding = only(study)
    assert (finding.level, finding.problem) == ("warning", "values 1 and 4 are both called 'part'")


def test_no_names_at_all(study: Study) -> None:
    finding = only(dataclasses.replace(study, label_names=None))
    assert (finding.level, finding.problem) == ("note", "no label names given")


def test_islands(study: Study) -> None:
    array = labels()
    array[1, 1, 1] = array[10, 12, 8] = array[10, 11, 8] = 1  # one of 1 voxel, one of 2; label 1 has 60
    array[2, 3, 2] = 4  # beside label 1, whose corner it touches, but apart from its own label
    put(study.atlas_labels, array)
    first, second = check_study(study)
    assert first.level == "warning" and first.where.endswith("labels.nii.gz, left part (1)")
    assert first.problem == "2 islands, 3 of 63 voxels"
    assert second.problem == "an island, 1 of 61 voxels"


def test_large_pieces_and_pieces_that_touch_at_a_corner_are_no_islands(study: Study) -> None:
    array = labels()
    array[2, 3, 2] = 1  # touches the corner of label 1
    array[10, 2:12, 8] = 4  # 10 of 60 voxels: a part of its own
    put(study.atlas_labels, array)
    assert check_study(study) == []


@pytest.mark.parametrize(
    ("voxel", "face"),
    [
        ((0, 6, 5), "left"),
        ((11, 6, 5), "right"),
        ((5, 0, 5), "posterior"),
        ((5, 13, 5), "anterior"),
        ((5, 6, 0), "inferior"),
        ((5, 6, 9), "superior"),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_labels_at_the_border(study: Study, voxel: tuple[int, int, int], face: str, flip: bool) -> None:
    array = np.zeros(SHAPE, dtype=np.uint8)
    line = tuple(slice(min(a, b), max(a, b) + 1) for a, b in zip(voxel, (5, 6, 5), strict=True))
    array[3:9, 4:9, 3:7], array[line] = 1, 1
    array[8, 8, 6] = 4
    affine = RAS
    if flip:  # the same anatomy, stored as LAS
        array, affine = array[::-1], np.diag([-1.0, 1, 1, 1])
        put(study.atlas, image(0)[::-1], affine)
    put(study.atlas_labels, array, affine)
    warnings = [finding for finding in check_study(study) if finding.level == "warning"]
    assert [w.problem for w in warnings] == [f"touches the {face} border of the scan"]


def test_test_labels_that_the_atlas_lacks(study: Study) -> None:
    array = labels()
    array[5, 5, 5] = 9
    put(study.test_labels[0], array)
    finding = only(study)
    assert (finding.level, finding.problem) == ("warning", "label values 9 are not in the atlas")


@pytest.mark.parametrize(
    ("array", "affine", "problem"),
    [
        (image(3), np.diag([1, 1, 4.0, 1]), "voxel size in mm 1 x 1 x 4, usually 1 x 1 x 1; field of view"),
        (image(3)[:6], RAS, "field of view in mm 6 x 14 x 10, usually 12 x 14 x 10"),
        (300 - image(3), RAS, "distance of the histogram"),
        (image(3) - 1024, RAS, "intensities -9"),
    ],
    ids=["spacing", "field of view", "inverted contrast", "shifted intensities"],
)
def test_scans_unlike_the_rest(study: Study, array: np.ndarray, affine: np.ndarray, problem: str) -> None:
    put(study.unlabelled[2], array, affine)
    finding = only(study)
    assert (finding.level, finding.where) == ("warning", str(study.unlabelled[2]))
    assert finding.problem.startswith("unlike the rest: ") and problem in finding.problem


def test_an_atlas_unlike_the_pool_and_a_test_scan_too(study: Study) -> None:
    put(study.atlas, image(0), np.diag([2.0, 2, 2, 1]))
    put(study.atlas_labels, labels(), np.diag([2.0, 2, 2, 1]))
    put(study.test_images[0], image(8) * 1e4)
    assert [f.where for f in check_study(study)] == [str(study.atlas), str(study.test_images[0])]


def test_too_few_scans_have_no_rest(study: Study) -> None:
    put(study.unlabelled[0], image(1), np.diag([3.0, 3, 3, 1]))
    assert check_study(dataclasses.replace(study, unlabelled=study.unlabelled[:2])) == []


def test_axis_order_makes_no_outlier(study: Study) -> None:
    turned = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # stored as y, z, x
    put(study.unlabelled[0], image(1).transpose(1, 2, 0), turned)
    assert check_study(study) == []


def test_another_handedness_is_a_note(study: Study) -> None:
    put(study.unlabelled[0], image(1)[::-1], np.diag([-1.0, 1, 1, 1]))
    finding = only(study)
    assert finding.level == "note" and "stored as LAS" in finding.problem


@pytest.mark.parametrize(
    ("original", "copy", "level", "consequence"),
    [
        ("unlabelled", "unlabelled", "warning", "counts twice"),
        ("atlas", "unlabelled", "warning", "registered to itself"),
        ("unlabelled", "test_images", "warning", "unseen"),
        ("atlas", "test_images", "error", "refuses"),
    ],
)
def test_duplicates(study: Study, original: str, copy: str, level: str, consequence: str) -> None:
    source = study.atlas if original == "atlas" else study.unlabelled[0]
    seed = 0 if original == "atlas" else 1
    path = getattr(study, copy)[1]
    put(path, image(seed))
    finding = only(study)
    assert (finding.level, finding.where) == (level, str(path))
    assert finding.problem == f"duplicate: the same voxels as {source}"
    assert consequence in finding.consequence


def test_a_duplicate_in_another_format_type_and_axis_order(study: Study, tmp_path: Path) -> None:
    whole = np.rint(image(1))
    put(study.unlabelled[0], whole)
    turned = np.array([[0.0, 0, -1, 11], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    copy = put(tmp_path / "copy.nrrd", whole.transpose(1, 2, 0)[:, :, ::-1].astype(np.int16), turned)
    findings = check_study(dataclasses.replace(study, unlabelled=(*study.unlabelled, copy)))
    assert [(f.where, f.problem) for f in findings if "duplicate" in f.problem] == [
        (str(copy), f"duplicate: the same voxels as {study.unlabelled[0]}")
    ]


def test_headers_that_do_not_say_where_the_patient_lies(study: Study) -> None:
    source = nibabel.Nifti1Image(image(1), RAS)
    source.set_sform(None, code=0)
    source.set_qform(None, code=0)
    nibabel.save(source, study.unlabelled[0])
    assert any("does not say how the scan lies" in f.problem for f in check_study(study))


def test_headers_that_contradict_themselves(study: Study) -> None:
    source = nibabel.Nifti1Image(image(1), RAS)
    source.set_sform(RAS, code=1)
    source.set_qform(np.diag([-1.0, 1, 1, 1]), code=1)
    nibabel.save(source, study.unlabelled[0])
    finding = only(study)
    assert (finding.level, finding.problem) == ("warning", "its sform and qform differ")


@pytest.mark.parametrize(
    ("matrix", "codes"),
    [
        (np.diag([-1, 1, 1]), "LAS"),
        (np.diag([0.15, -0.15, 3]), "RPS"),
        (np.array([[0, 0, 2], [-1, 0, 0], [0, -1, 0]]), "PIR"),
        (np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]), "RAS"),
    ],
)
def test_axis_codes(matrix: np.ndarray, codes: str) -> None:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    assert axis_codes(Grid(SHAPE, affine)) == codes == "".join(nibabel.aff2axcodes(affine))
