"""SyN's fields in place of a network's: those of a direct ANTs call, made once, of use from end to end."""

import os

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # before ITK is loaded: several threads differ

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from soloatlas import pipeline
from soloatlas.data.demo import simulate_cohort
from soloatlas.errors import InputError
from soloatlas.fields import identity, warp
from soloatlas.methods import brbs, lt_net, os_medseg, voxelmorph_1
from soloatlas.settings import override
from soloatlas.syn_fields import SynFields, syn_field

ants = pytest.importorskip("ants", reason="ANTsPy is not installed: pip install 'soloatlas[ants]'")

SPACING = (1.5, 2.0, 3.0)


@pytest.fixture
def pair():
    """A smooth random image on an anisotropic grid, and the same thing moved and bent; each (1, 1, x, y, z)."""
    rough = np.random.default_rng(0).random((40, 36, 24))
    image = ndimage.gaussian_filter(rough, (4, 3, 2))
    index = np.indices(image.shape).astype(float)
    index[0] += 1.5 + np.sin(index[1] / 6)
    index[2] -= 0.8
    moved = ndimage.map_coordinates(image, index, order=1, mode="nearest")
    low, high = image.min(), image.max()
    return tuple(torch.from_numpy((a - low) / (high - low)).float()[None, None] for a in (image, moved))


@pytest.fixture
def direct(pair):
    """The transforms of a direct ANTs call on the same arrays, and the two images."""
    ants.config.set_ants_deterministic(on=False, seed_value=1)
    moving, fixed = (ants.from_numpy(image[0, 0].numpy(), spacing=list(SPACING)) for image in pair)
    found = ants.registration(
        fixed,
        moving,
        "SyN",
        reg_iterations=(40, 20, 0),
        syn_metric="mattes",
        grad_step=0.2,
        flow_sigma=3,
        total_sigma=0,
    )
    return fixed, moving, found["fwdtransforms"]


def inner(image):
    return np.asarray(image)[..., 4:-4, 4:-4, 4:-4]


def test_the_field_warps_as_a_direct_call_does(pair, direct):
    moving, fixed = pair
    field = syn_field(moving, fixed, SPACING)
    theirs = ants.apply_transforms(direct[0], direct[1], direct[2], interpolator="linear").numpy()
    ours = warp(moving, field)[0, 0]
    np.testing.assert_allclose(inner(ours), inner(theirs), atol=2e-3)
    before, after = (np.abs(inner(image) - inner(fixed[0, 0])).mean() for image in (moving[0, 0], ours))
    assert after < 0.3 * before


def test_the_field_is_that_of_a_direct_call_in_voxels(pair, direct):
    # Coordinates, warped by ANTs itself, say where each voxel comes from.
    field = syn_field(*pair, SPACING)
    index = identity(pair[0].shape[2:], field)[0].numpy()
    for axis in range(3):
        coordinate = ants.from_numpy(index[axis], spacing=list(SPACING))
        there = ants.apply_transforms(direct[0], coordinate, direct[2], interpolator="linear").numpy()
        np.testing.assert_allclose(inner(index[axis] + field[0, axis].numpy()), inner(there), atol=5e-3)


def test_fields_are_made_once_and_a_stopped_run_goes_on(material, session):
    told = []
    watched = replace(session, progress=lambda *what: told.append(what))
    fields = SynFields(material, watched)
    assert told == [("register", 1, 3), ("register", 2, 3), ("register", 3, 3)]
    assert len(watched.paused) == 1 and watched.started() == watched.began + watched.paused[0] > watched.began
    assert fields[1].shape == (1, 3, *material.shape) and fields[1].dtype == torch.float32
    expected = syn_field(material.atlas, material.scans([1]), material.spacing)
    torch.testing.assert_close(fields[1], expected, atol=1e-2, rtol=1e-3)  # kept as float16
    folder = session.folder / "checkpoints" / "syn"
    before = (folder / "b.npy").read_bytes()
    (folder / "b.npy").unlink()
    others = {name: (folder / f"{name}.npy").stat().st_mtime_ns for name in ("a", "c")}
    told.clear()
    SynFields(material, watched)
    assert told == [("register", 3, 3)]
    assert (folder / "b.npy").read_bytes() == before, "the same scan, the same field"
    assert {name: (folder / f"{name}.npy").stat().st_mtime_ns for name in ("a", "c")} == others


def test_os_medseg_from_end_to_end(tmp_path):
    study = simulate_cohort(tmp_path / "study", pool=2, test=1, seed=0, spacing=6.0)
    changes = ["registration.network=syn", "student.steps=2", "student.channels=[4,4,8,8,8]"]
    changes += ["prepare.spacing=8", "prepare.align=centre"]
    run = pipeline.train(study, tmp_path / "run", changes=changes)
    record = json.loads((run / "run.json").read_text())
    assert set(record["parameters"]) == {"student"} and record["versions"]["antspyx"]
    assert record["seconds"]["register"] > 0 and record["seconds"]["learn"] > 0
    with (run / "fields.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == ["scan_01", "scan_02"]
    assert all(float(row["similarity_after"]) > float(row["similarity_before"]) for row in rows)
    assert "SyN" in (run / "report.html").read_text()
    for stage in ("student", "register"):
        pipeline.segment(run, study.test_images, tmp_path / stage, stage, save_fields=stage == "register")
        assert (tmp_path / stage / "test_01.nii.gz").exists()
    assert (tmp_path / "register/fields/test_01_jacobian.nii.gz").exists()
    pipeline.synthesise(run, tmp_path / "pairs")
    assert len(list((tmp_path / "pairs/images").iterdir())) == 2
    with pytest.raises(InputError, match="has learnt no registration"):
        pipeline.segment(run, study.test_images, tmp_path / "refined", "register", refine=1)


@pytest.mark.parametrize("method", [voxelmorph_1, lt_net, brbs])
def test_methods_that_train_a_network_refuse_syn(method):
    with pytest.raises(InputError, match="os-medseg takes SyN's fields"):
        method.validate(override(method.preset("quick"), ["registration.network=syn"]))
    os_medseg.validate(override(os_medseg.preset("quick"), ["registration.network=syn"]))
