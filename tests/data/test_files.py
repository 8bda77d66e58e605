"""Round trips through every format and grid; whole or not at all; names and lists."""

from __future__ import annotations

import gzip
import hashlib
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from nibabel.freesurfer.mghformat import MGHImage
from scipy.spatial.transform import Rotation

from soloatlas.atomic import held, write_array, write_tensors
from soloatlas.data.files import (
    file_sha256,
    find_scans,
    list_scans,
    read_labels,
    read_volume,
    scan_name,
    set_itk_geometry,
    write_displacements,
    write_volume,
    written_name,
)
from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError, RunError

SHAPE = (5, 6, 7)
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
TURN = Rotation.from_euler("xyz", [10, -20, 35], degrees=True).as_matrix()


def affine(columns: np.ndarray, origin: tuple[float, float, float]) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = columns, origin
    # What NIfTI can hold (float32), so that every format must give back the very same numbers.
    return out.astype(np.float32).astype(np.float64)


GRIDS = {
    "LAS": affine(np.diag([-1.0, 1, 1]), (90, -126, -72)),
    "oblique": affine(TURN, (-100.123, 33.3, 7)),
    "anisotropic": affine(np.diag([0.7, 0.7, 5]), (-80, -90.5, 12.25)),
    "submillimetre": affine(np.diag([0.15, 0.15, 0.15]), (0.15, 0.15, 0.15)),
    "PIR, oblique, anisotropic": affine(TURN @ np.array([[0, 0, 3.3], [-0.15, 0, 0], [0, -0.2, 0]]), (1, 2, 3)),
    "sheared (gantry tilt)": affine(np.array([[1, 0, 0], [0, 1, 0.3], [0, 0, 2.0]]), (4, 5, 6)),
}


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 30, SHAPE).astype(np.float32)


def nifti(path: Path, array: np.ndarray, matrix: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if matrix is None else matrix), path)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", GRIDS)
def test_round_trip_keeps_values_and_affine(tmp_path: Path, name: str, ending: str) -> None:
    grid = Grid(SHAPE, GRIDS[name])
    write_volume(tmp_path / f"a{ending}", image(), grid)
    first = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(first.array, image())
    assert first.array.dtype == np.float32 and first.array.flags.c_contiguous
    np.testing.assert_allclose(first.grid.affine, grid.affine, rtol=0, atol=1e-12)
    # A result written "as the input was" lies where the input lies: to the bit in NIfTI.
    write_volume(tmp_path / f"b{ending}", first.array, first.grid, like=first)
    again = read_volume(tmp_path / f"b{ending}").grid.affine
    np.testing.assert_allclose(again, first.grid.affine, rtol=0, atol=0 if "nii" in ending else 1e-12)


@pytest.mark.parametrize("name", GRIDS)
def test_formats_agree_with_the_libraries_on_where_voxels_lie(tmp_path: Path, name: str) -> None:
    grid = Grid(SHAPE, GRIDS[name])
    for ending in ENDINGS:
        write_volume(tmp_path / f"a{ending}", image(), grid)
    voxel = (4, 2, 5)
    expected = (grid.affine @ [*voxel, 1])[:3]
    loaded = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose((loaded.affine @ [*voxel, 1])[:3], expected, atol=1e-5)
    for ending in (".nrrd", ".mha"):
        read = SimpleITK.ReadImage(str(tmp_path / f"a{ending}"))
        left, posterior, superior = read.TransformIndexToPhysicalPoint(voxel)
        np.testing.assert_allclose((-left, -posterior, superior), expected, atol=1e-9)
        assert read.GetPixel(*voxel) == pytest.approx(float(image()[voxel]))


@pytest.mark.parametrize("name", [name for name in GRIDS if not name.startswith("sheared")])
def test_qform_and_sform_of_a_new_nifti_agree(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / "a.nii", image(), Grid(SHAPE, GRIDS[name]))
    header = nibabel.load(tmp_path / "a.nii").header
    assert header["sform_code"] == header["qform_code"] == 1
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_a_shear_is_written_in_the_sform_alone(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii", image(), Grid(SHAPE, GRIDS["sheared (gantry tilt)"]))
    header = nibabel.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("values", "kind"),
    [((0, 1, 207), "uint8"), ((0, 5, 300), "uint16"), ((0, 70000), "uint32"), ((-3, 4), "int8")],
)
def test_integers_are_stored_in_the_smallest_type(
    tmp_path: Path, ending: str, values: tuple[int, ...], kind: str
) -> None:
    array = np.resize(np.array(values, dtype=np.int64), SHAPE)
    write_volume(tmp_path / f"a{ending}", array, Grid(SHAPE, np.eye(4)))
    if ending.startswith(".nii"):
        assert nibabel.load(tmp_path / f"a{ending}").get_data_dtype() == np.dtype(kind)
    else:
        stored = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"a{ending}")))
        assert stored.dtype == np.dtype(kind)
    if min(values) >= 0:
        back = read_labels(tmp_path / f"a{ending}")
        assert back.array.dtype == np.int32
        np.testing.assert_array_equal(back.array, array)


def test_booleans_and_doubles_are_stored_small(tmp_path: Path) -> None:
    grid = Grid(SHAPE, np.eye(4))
    write_volume(tmp_path / "mask.nii", image() > 100, grid)
    write_volume(tmp_path / "image.nii", image().astype(np.float64), grid)
    assert nibabel.load(tmp_path / "mask.nii").get_data_dtype() == np.uint8
    assert nibabel.load(tmp_path / "image.nii").get_data_dtype() == np.float32


@pytest.mark.parametrize("ending", ENDINGS)
def test_channels_come_last(tmp_path: Path, ending: str) -> None:
    array = np.random.default_rng(1).random((*SHAPE, 3)).astype(np.float32)
    write_volume(tmp_path / f"a{ending}", array, Grid(SHAPE, GRIDS["oblique"]))
    if ending.startswith(".nii"):
        stored = nibabel.load(tmp_path / f"a{ending}").get_fdata(dtype=np.float32)
    else:
        read = SimpleITK.ReadImage(str(tmp_path / f"a{ending}"))
        stored = np.moveaxis(SimpleITK.GetArrayFromImage(read).T, 0, -1)
    np.testing.assert_array_equal(stored, array)


def test_nifti_header_is_continued(tmp_path: Path) -> None:
    source = nibabel.Nifti1Image(image().astype(np.int16), GRIDS["oblique"])
    source.set_sform(GRIDS["oblique"], code=4)
    source.set_qform(GRIDS["oblique"], code=3)
    source.header.set_xyzt_units("mm", "sec")
    source.header["descrip"] = b"scanner 7"
    source.header["cal_max"] = 900
    source.header.set_intent("z score")
    nibabel.save(source, tmp_path / "in.nii.gz")
    scan = read_volume(tmp_path / "in.nii.gz")
    write_volume(tmp_path / "out.nii.gz", np.ones(SHAPE, dtype=np.int32), scan.grid, like=scan)
    before, after = (nibabel.load(tmp_path / f"{n}.nii.gz").header for n in ("in", "out"))
    for key in ("sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_x", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(after[key], before[key], err_msg=key)
    assert after["descrip"] == before["descrip"]
    assert after["cal_max"] == 0 and after.get_intent()[0] == "none"
    assert after.get_data_dtype() == np.uint8


def test_nifti_header_on_another_grid_takes_the_new_geometry(tmp_path: Path) -> None:
    scan = read_volume(nifti(tmp_path / "in.nii", image(), GRIDS["LAS"]))
    other = Grid((3, 3, 3), GRIDS["oblique"])
    write_volume(tmp_path / "out.nii", np.zeros((3, 3, 3), dtype=np.float32), other, like=scan)
    assert read_volume(tmp_path / "out.nii").grid.matches(other)
    assert nibabel.load(tmp_path / "out.nii").header["sform_code"] == scan.header["sform_code"]


def test_sform_wins_over_qform_and_qform_serves_without(tmp_path: Path) -> None:
    source = nibabel.Nifti1Image(image(), GRIDS["LAS"])
    source.set_sform(GRIDS["anisotropic"], code=2)
    source.set_qform(GRIDS["LAS"], code=1)
    nibabel.save(source, tmp_path / "both.nii")
    assert read_volume(tmp_path / "both.nii").grid.matches(Grid(SHAPE, GRIDS["anisotropic"]))
    source.set_sform(GRIDS["anisotropic"], code=0)
    nibabel.save(source, tmp_path / "qform.nii")
    assert read_volume(tmp_path / "qform.nii").grid.matches(Grid(SHAPE, GRIDS["LAS"]))


def test_nifti_2_is_read_and_continued(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(image(), GRIDS["LAS"]), tmp_path / "a.nii.gz")
    scan = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(scan.array, image())
    write_volume(tmp_path / "b.nii.gz", scan.array, scan.grid, like=scan)
    assert isinstance(nibabel.load(tmp_path / "b.nii.gz"), nibabel.Nifti2Image)


def test_scale_factors_are_applied(tmp_path: Path) -> None:
    stored = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    content = bytearray(nifti(tmp_path / "a.nii", stored).read_bytes())
    content[112:120] = np.array([0.5, -1000], dtype=np.float32).tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, stored * 0.5 - 1000)


def test_mgz_is_read(tmp_path: Path) -> None:
    nibabel.save(MGHImage(image(), GRIDS["oblique"].astype(np.float32)), tmp_path / "a.mgz")
    scan = read_volume(tmp_path / "a.mgz")
    np.testing.assert_array_equal(scan.array, image())
    assert scan.grid.matches(Grid(SHAPE, GRIDS["oblique"]))


def test_mhd_with_its_data_file_is_read(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.mha", image(), Grid(SHAPE, GRIDS["oblique"]))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "a.mha")), str(tmp_path / "b.mhd"))
    assert read_volume(tmp_path / "b.mhd").grid.matches(Grid(SHAPE, GRIDS["oblique"]))


def test_free_metadata_of_nrrd_is_continued(tmp_path: Path) -> None:
    source = SimpleITK.GetImageFromArray(image())
    source.SetMetaData("scanner", "seven")
    SimpleITK.WriteImage(source, str(tmp_path / "in.nrrd"))
    scan = read_volume(tmp_path / "in.nrrd")
    write_volume(tmp_path / "out.nrrd", scan.array, scan.grid, like=scan)
    assert SimpleITK.ReadImage(str(tmp_path / "out.nrrd")).GetMetaData("scanner") == "seven"


def test_a_header_of_another_format_is_ignored(tmp_path: Path) -> None:
    scan = read_volume(nifti(tmp_path / "in.nii", image(), GRIDS["LAS"]))
    write_volume(tmp_path / "out.nrrd", scan.array, scan.grid, like=scan)
    back = read_volume(tmp_path / "out.nrrd")
    np.testing.assert_allclose(back.grid.affine, scan.grid.affine, atol=1e-12)
    write_volume(tmp_path / "back.nii", back.array, back.grid, like=back)
    np.testing.assert_allclose(read_volume(tmp_path / "back.nii").grid.affine, scan.grid.affine, atol=1e-12)


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_volume(tmp_path / name / "x.nii.gz", image(), Grid(SHAPE, np.eye(4)))
    assert file_sha256(tmp_path / "a" / "x.nii.gz") == file_sha256(tmp_path / "b" / "x.nii.gz")


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    assert read_volume(nifti(tmp_path / "a.nii", image()[..., None, None])).array.shape == SHAPE


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_one_volume_of_a_series_keeps_its_grid(tmp_path: Path, ending: str) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = TURN * (0.5, 0.6, 2.0), (10, 20, 30)
    single = SimpleITK.GetImageFromArray(image().T)
    set_itk_geometry(single, Grid(SHAPE, affine))
    SimpleITK.WriteImage(SimpleITK.JoinSeries(single), str(tmp_path / f"a{ending}"))
    found = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(found.array, image())
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-6)


def test_lengths_in_microns_are_read_as_mm_and_come_back_in_the_same_place(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(image(), np.diag([50.0, 60.0, 70.0, 1.0]))
    made.header.set_xyzt_units("micron")
    nibabel.save(made, tmp_path / "a.nii.gz")
    scan = read_volume(tmp_path / "a.nii.gz")
    assert scan.grid.spacing == pytest.approx((0.05, 0.06, 0.07))
    assert SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")).GetSpacing() == pytest.approx(scan.grid.spacing)
    moved = Grid(SHAPE, scan.grid.affine + np.eye(4, k=3))
    for grid in (scan.grid, moved):
        write_volume(tmp_path / "b.nii.gz", scan.array, grid, like=scan)
        assert read_volume(tmp_path / "b.nii.gz").grid.matches(grid, 1e-6)


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", image())
    (tmp_path / "b.nii").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").array, image())


def test_an_array_does_not_stay_tied_to_its_file(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", image())
    scan = read_volume(path)
    path.write_bytes(b"")
    np.testing.assert_array_equal(scan.array, image())


# Writing: whole or not at all.


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Files cannot grow beyond ``limit`` bytes: what a full disk does to a writer, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write_volume(path, image(), Grid(SHAPE, np.eye(4)))
    before = file_sha256(path)
    large = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    with full_disk(20_000), pytest.raises(RunError, match="nothing was changed"):
        write_volume(path, large, Grid(large.shape, np.eye(4)))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert file_sha256(path) == before
    with full_disk(20_000), pytest.raises(RunError, match="nothing was changed"):
        write_volume(tmp_path / "new" / path.name, large, Grid(large.shape, np.eye(4)))
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "a folder made for the file goes with it"


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    write_volume(tmp_path / "a.nii", image(), Grid(SHAPE, np.eye(4)))
    monkeypatch.setattr("soloatlas.data.files._read_nibabel", forbidden)
    with pytest.raises(InputError, match=r"a\.nii: you may not read it \(Permission denied\)"):
        read_volume(tmp_path / "a.nii")


def test_a_field_is_written_as_itk_writes_it_and_whole_or_not_at_all(tmp_path: Path) -> None:
    grid = Grid((40, 30, 20), np.array([[0, -2.0, 0, 7], [1.5, 0, 0, -3], [0, 0, 3.0, 11], [0, 0, 0, 1]]))
    vectors = np.random.default_rng(0).normal(size=(*grid.shape, 3))
    path = tmp_path / "field.nii.gz"
    write_displacements(path, vectors, grid)
    theirs = SimpleITK.GetImageFromArray(vectors.astype(np.float32).transpose(2, 1, 0, 3), isVector=True)
    set_itk_geometry(theirs, grid)
    SimpleITK.WriteImage(theirs, str(tmp_path / "theirs.nii.gz"))
    ours, theirs = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("field.nii.gz", "theirs.nii.gz"))
    assert ours.GetPixelIDTypeAsString() == theirs.GetPixelIDTypeAsString() == "vector of 32-bit float"
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(ours), SimpleITK.GetArrayFromImage(theirs))
    for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, part)(), getattr(theirs, part)(), atol=1e-6)
    before = file_sha256(path)
    with full_disk(20_000), pytest.raises(RunError, match="nothing was changed"):
        write_displacements(path, vectors + 1, grid)
    assert file_sha256(path) == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["x.npy", "x.safetensors"])
def test_arrays_and_tensors_are_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    def write(size: int) -> None:
        if name.endswith("npy"):
            write_array(tmp_path / name, np.ones(size))
        else:
            write_tensors(tmp_path / name, {"weight": torch.ones(size)})

    write(8)
    before = file_sha256(tmp_path / name)
    with full_disk(20_000), pytest.raises(RunError, match=rf"cannot write .*{name}.*nothing was changed"):
        write(40_000)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert file_sha256(tmp_path / name) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path / "run"):
        with pytest.raises(InputError, match="run: another process is at work in it"), held(tmp_path / "run"):
            pytest.fail("held twice")
        with held(tmp_path / "other"):
            pass
    with held(tmp_path / "run"):
        assert not list((tmp_path / "run").iterdir()), "nothing is left in the folder"


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    grid = Grid(SHAPE, np.eye(4))
    for name in ("a.mgz", "a.mhd", "a.png", "a"):
        with pytest.raises(InputError, match=r"choose \.nii\.gz"):
            write_volume(tmp_path / name, image(), grid)
    with pytest.raises(InputError, match="does not fit"):
        write_volume(tmp_path / "a.nii", image()[:-1], grid)
    assert not list(tmp_path.iterdir())


# Names and lists.


def test_names() -> None:
    assert scan_name("x/case.1.nii.gz") == "case.1"
    assert [scan_name(f"a{e}") for e in (".nii", ".NRRD", ".mha", ".mhd", ".mgz")] == ["a"] * 5
    assert scan_name("notes.txt") == "notes.txt"
    assert written_name("x/a.mgz") == "a.nii.gz"
    assert written_name("x/a.mhd") == "a.mha"
    assert written_name("x/a.NII.GZ") == "a.NII.GZ"


def test_scans_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", ".hidden.nii", "._b.nii.gz", "notes.txt", "c.raw"):
        (tmp_path / name).touch()
    (tmp_path / "folder.nii").mkdir()
    assert [p.name for p in list_scans(tmp_path)] == ["a.nrrd", "b.nii.gz"]
    (tmp_path / "b.nii").touch()
    with pytest.raises(InputError, match="2 scans are called 'b'"):
        list_scans(tmp_path)


def test_folders_without_scans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no scan"):
        list_scans(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        list_scans(tmp_path / "none")


def test_files_and_folders_together(tmp_path: Path) -> None:
    for name in ("x/b.nii", "x/a.nii", "c.nii"):
        nifti(tmp_path / (name.replace("/", "-")), image())
    (tmp_path / "x").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"x-{name}.nii").rename(tmp_path / "x" / f"{name}.nii")
    found = find_scans([tmp_path / "c.nii", tmp_path / "x", tmp_path / "x" / "a.nii"])
    assert [p.name for p in found] == ["c.nii", "a.nii", "b.nii"]
    nifti(tmp_path / "a.nii", image())
    with pytest.raises(InputError, match="2 scans are called 'a'"):
        find_scans([tmp_path / "x", tmp_path / "a.nii"])
    with pytest.raises(InputError, match="no such file"):
        find_scans([tmp_path / "missing.nii"])
    with pytest.raises(InputError, match="no scan given"):
        find_scans([])


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_volume_travels_between_processes(tmp_path: Path) -> None:
    import pickle

    for ending in (".nii.gz", ".nrrd"):
        write_volume(tmp_path / f"a{ending}", image(), Grid(SHAPE, GRIDS["LAS"]))
        scan: Volume = pickle.loads(pickle.dumps(read_volume(tmp_path / f"a{ending}")))
        write_volume(tmp_path / f"b{ending}", scan.array, scan.grid, like=scan)
        assert read_volume(tmp_path / f"b{ending}").grid.matches(scan.grid)
