"""ANTs and greedy on files: the same labels as a direct call, on any grid."""

import os

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # before ITK is loaded: several threads differ

import nibabel
import numpy as np
import pytest

from soloatlas.classical import Ants, Greedy, ants_transfer, greedy_transfer
from soloatlas.data.files import read_labels, read_volume, write_volume
from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.evaluation import evaluate_case

ants = pytest.importorskip("ants", reason="ANTsPy is not installed: pip install 'soloatlas[ants]'")

QUICK = Ants(iterations=(10, 5, 0))


def blobs(shape, shift=0.0):
    """An image of three unlike ellipsoids, and their labels."""
    index = np.indices(shape).astype(float) - shift
    size = np.asarray(shape)[:, None, None, None]
    image, labels = np.zeros(shape), np.zeros(shape, np.uint8)
    parts = (((0.5, 0.5, 0.5), 0.42, 0.3, 0), ((0.35, 0.5, 0.55), 0.16, 0.8, 3), ((0.65, 0.45, 0.5), 0.2, 0.55, 7))
    for centre, radius, value, label in parts:
        inside = (((index / size - np.asarray(centre)[:, None, None, None]) / radius) ** 2).sum(0) < 1
        image[inside] = value
        labels[inside] = label
    return image.astype(np.float32), labels


@pytest.fixture
def pair(tmp_path):
    """An axis-aligned RAS atlas, and an oblique, anisotropic LAS scan of the same thing, moved and scaled."""
    image, labels = blobs((40, 44, 36))
    grid = Grid(image.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    write_volume(tmp_path / "atlas.nii.gz", image, grid)
    write_volume(tmp_path / "labels.nii.gz", labels, grid)
    other, truth = (array[::-1] for array in blobs((44, 40, 24), 1.5))  # LAS: the first axis runs to the left
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.9, 2.1, 3.2])
    affine[:3, 3] = (70, -12, 4)
    oblique = Grid(other.shape, affine)
    write_volume(tmp_path / "scan.nii.gz", other, oblique)
    write_volume(tmp_path / "truth.nii.gz", truth, oblique)
    return tmp_path


def read(folder):
    atlas, scan = read_volume(folder / "atlas.nii.gz"), read_volume(folder / "scan.nii.gz")
    return atlas, read_labels(folder / "labels.nii.gz"), scan


def test_syn_on_files_equals_a_direct_call(pair):
    found = ants_transfer(*read(pair), QUICK)
    fixed, moving, labels = (ants.image_read(str(pair / f"{n}.nii.gz")) for n in ("scan", "atlas", "labels"))
    direct = ants.registration(
        fixed, moving, "SyN", reg_iterations=(10, 5, 0), syn_metric="mattes", grad_step=0.2, flow_sigma=3, total_sigma=0
    )
    warped = ants.apply_transforms(fixed, labels, direct["fwdtransforms"], interpolator="genericLabel")
    differing = (found.labels != warped.numpy().astype(np.uint8)).sum()
    assert differing == 0


@pytest.mark.parametrize(
    ("carry", "settings"),
    [
        (ants_transfer, Ants(transform="Rigid")),
        (ants_transfer, Ants(transform="Affine")),
        (ants_transfer, QUICK),
        (greedy_transfer, Greedy(iterations=(20, 10, 0))),
    ],
    ids=["rigid", "affine", "syn", "greedy"],
)
def test_labels_arrive_on_the_scans_own_grid(pair, carry, settings):
    if carry is greedy_transfer:
        pytest.importorskip("picsl_greedy", reason="greedy is not installed")
    atlas, labels, scan = read(pair)
    found = carry(atlas, labels, scan, settings, True)
    truth = read_labels(pair / "truth.nii.gz")
    assert found.labels.shape == scan.array.shape and set(np.unique(found.labels)) <= {0, 3, 7}
    scores = evaluate_case(Volume(found.labels, scan.grid), truth, [3, 7])
    assert min(scores[v]["dice"] for v in (3, 7)) > (0.55 if settings == Ants(transform="Rigid") else 0.75)
    assert found.field.shape == (*scan.array.shape, 3)
    # Following the field from the scan's voxels lands on the atlas's own labels.
    index = np.indices(scan.array.shape).reshape(3, -1)
    world = scan.grid.affine[:3, :3] @ index + scan.grid.affine[:3, 3:]
    moved = world + found.field.reshape(-1, 3).T * np.array([[-1.0], [-1.0], [1.0]])
    inverse = np.linalg.inv(atlas.grid.affine)
    there = np.rint(inverse[:3, :3] @ moved + inverse[:3, 3:]).astype(int)
    inside = ((there >= 0) & (there < np.asarray(atlas.array.shape)[:, None])).all(0)
    taken = np.zeros(inside.shape, int)
    taken[inside] = labels.array[tuple(there[:, inside])]
    assert (taken == found.labels.reshape(-1)).mean() > 0.97
    volumes = volume_change(found.field, scan.grid)
    if isinstance(settings, Ants) and settings.transform in ("Rigid", "Affine"):
        assert volumes.std() < 1e-3, "the same everywhere"
        assert (abs(volumes.mean() - 1) < 1e-3) == (settings.transform == "Rigid"), "a rigid move keeps every volume"
    else:
        assert volumes.std() > 0.01


def volume_change(field, grid):
    """Determinants, by numpy, of where a field in mm of LPS axes takes the inner voxels of its grid."""
    ras = field * [-1.0, -1.0, 1.0] + np.moveaxis(np.indices(field.shape[:3]), 0, -1) @ grid.affine[:3, :3].T
    slopes = np.stack(np.gradient(ras, axis=(0, 1, 2)), -1)[1:-1, 1:-1, 1:-1]
    return np.linalg.det(slopes) / np.linalg.det(grid.affine[:3, :3])


def test_greedy_gives_the_same_labels_again_and_prints_no_results(pair, capfd):
    pytest.importorskip("picsl_greedy", reason="greedy is not installed")
    first, again = (greedy_transfer(*read(pair), Greedy(iterations=(10, 5, 0)), True) for _ in range(2))
    assert np.array_equal(first.labels, again.labels) and np.array_equal(first.field, again.field)
    assert capfd.readouterr().out == ""


def test_a_header_that_itk_reads_otherwise_is_read_as_everywhere_else(pair):
    expected = ants_transfer(*read(pair), QUICK).labels
    path = pair / "atlas.nii.gz"
    image = nibabel.load(path)
    turned = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    turned.set_qform(np.diag([-2.0, -2.0, 2.0, 1.0]), code=1)  # ITK takes this one where both are set
    turned.set_sform(image.affine, code=2)
    nibabel.save(turned, path)
    found = ants_transfer(*read(pair), QUICK).labels
    assert (found == expected).mean() > 0.99


@pytest.mark.parametrize("carry, settings", [(ants_transfer, QUICK), (greedy_transfer, Greedy())])
def test_a_sheared_scan_is_refused(pair, carry, settings):
    atlas, labels, scan = read(pair)
    affine = scan.grid.affine.copy()
    affine[:3, 2] += 0.4 * affine[:3, 1]
    with pytest.raises(InputError, match="not at right angles"):
        carry(atlas, labels, Volume(scan.array, Grid(scan.grid.shape, affine)), settings)


def test_a_missing_program_is_named(monkeypatch, pair):
    import builtins

    real = builtins.__import__

    def without(name, *rest, **more):
        if name in ("ants", "picsl_greedy"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    for carry, settings in ((ants_transfer, Ants()), (greedy_transfer, Greedy())):
        with pytest.raises(InputError, match=r"soloatlas\[ants\]"):
            carry(*read(pair), settings)
