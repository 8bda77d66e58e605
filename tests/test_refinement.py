"""Instance optimisation: it finds what the network missed, and leaves everything alone at zero steps."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from soloatlas import pipeline
from soloatlas.data.demo import simulate_cohort
from soloatlas.errors import InputError
from soloatlas.fields import integrate, jacobian_determinant
from soloatlas.refinement import objective, refine
from soloatlas.registration import predict, registration_network
from soloatlas.settings import Registration

FORMS = [
    Registration(),
    Registration(similarity="mi", smoothness="bending"),
    Registration(integration_steps=7),
]
every_form = pytest.mark.parametrize("settings", FORMS, ids=["cc-diffusion", "mi-bending", "velocity"])
TINY = (
    "registration.steps=1", "registration.channels=[4,4,4,4]", "student.steps=1", "student.channels=[4,4,8,8,8]",
    "appearance.steps=1", "prepare.spacing=8", "prepare.align=centre",
)  # fmt: skip


def noise(material, scale=0.1):
    return scale * torch.randn(1, 3, *material.shape, generator=torch.Generator().manual_seed(0))


@every_form
def test_the_objective_falls(material, settings):
    start, scan = noise(material), material.scans([0])
    reached = [
        objective(refine(start, material.atlas, scan, replace(settings, integration_steps=0), steps),
                  material.atlas, scan, replace(settings, integration_steps=0))
        for steps in (0, 5, 20)
    ]  # fmt: skip
    assert reached[2] < reached[1] < reached[0]


@every_form
def test_zero_steps_change_nothing(material, settings):
    start = noise(material, 1.0)
    field = refine(start, material.atlas, material.scans([0]), settings, 0)
    assert torch.equal(field, integrate(start, settings.integration_steps))


@every_form
def test_a_known_shift_is_found(settings):
    rough = ndimage.gaussian_filter(np.random.default_rng(0).random((40, 40, 40)), 2.0)
    rough = torch.from_numpy((rough - rough.min()) / np.ptp(rough)).float()[None, None]
    atlas, scan = rough[..., 4:36, 4:36, 4:36], rough[..., 2:34, 4:36, 4:36]  # the scan is the atlas two voxels on
    field = refine(torch.zeros(1, 3, 32, 32, 32), atlas, scan, settings, 60)
    truth = torch.tensor([-2.0, 0.0, 0.0]).view(1, 3, 1, 1, 1)
    away = (field - truth)[..., 6:-6, 6:-6, 6:-6].norm(dim=1)
    assert away.mean() < 1.0  # 2 at the start


def test_the_same_call_gives_the_same_field_in_any_mode_of_autograd(material, session):
    settings = Registration(channels=(4, 4, 4, 4))
    network = registration_network(settings, 0, session.device).eval()
    scan = material.scans([0])
    with torch.inference_mode():
        output = predict(network, material.atlas, scan, "float32").field
        inside = refine(output, material.atlas.clone(), scan.clone(), settings, 3)
    with torch.no_grad():
        outside = refine(output, material.atlas, scan, settings, 3)
    assert torch.equal(inside, outside) and torch.equal(inside, refine(output, material.atlas, scan, settings, 3))
    assert not torch.equal(inside, output)
    assert all(p.grad is None for p in network.parameters())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("cohort") / "study", pool=2, test=1, seed=0, spacing=6.0)


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory):
    """A run of a method, trained once for all tests here."""
    folder, runs = tmp_path_factory.mktemp("runs"), {}

    def run_of(method, *changes):
        if method not in runs:
            from soloatlas.comparison import Request, changes_for

            asked = [*changes_for(method, Request(changes=TINY)), *changes]
            runs[method] = pipeline.train(study, folder / method, method, changes=asked, cache=folder / "cache")
        return runs[method]

    return run_of


@pytest.mark.parametrize(
    "method",
    ["voxelmorph-1", "voxelmorph-2", "transmorph", "clmorph", "lt-net", "dataaug", "brbs", "os-medseg"],
)
def test_every_learnt_registration_can_be_refined(study, trained, tmp_path, method):
    changes = {
        "transmorph": ["registration.channels=[16,32,64,128]"],
        "voxelmorph-2": ["registration.integration_steps=7"],
    }
    run, scan = trained(method, *changes.get(method, [])), study.test_images
    for steps in (0, 2):
        pipeline.segment(run, scan, tmp_path / str(steps), "register", save_fields=True, refine=steps)
        assert json.loads((tmp_path / str(steps) / "segment.json").read_text())["refine"] == steps
    plain, refined = (nibabel.load(tmp_path / n / "fields/test_01_field.nii.gz") for n in ("0", "2"))
    assert not np.array_equal(plain.get_fdata(), refined.get_fdata())
    # The Jacobian beside it is the refined field's: LPS+ millimetres back to voxels of the grid.
    ras = refined.get_fdata()[:, :, :, 0] * np.array([-1, -1, 1])
    voxels = np.einsum("ij,xyzj->ixyz", np.linalg.inv(refined.affine[:3, :3]), ras)
    found = nibabel.load(tmp_path / "2/fields/test_01_jacobian.nii.gz").get_fdata()
    expected = jacobian_determinant(torch.from_numpy(voxels).float()[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_refining_is_refused_where_no_field_was_learnt(study, trained, tmp_path):
    scan = study.test_images
    with pytest.raises(InputError, match="resunet has learnt no registration; leave out --refine"):
        pipeline.segment(trained("resunet"), scan, tmp_path, refine=1)
    with pytest.raises(InputError, match="rigid has learnt no registration"):
        pipeline.segment(trained("rigid"), scan, tmp_path, refine=1)
    with pytest.raises(InputError, match="add --stage register"):
        pipeline.segment(trained("os-medseg"), scan, tmp_path, refine=1)
    with pytest.raises(InputError, match="at least 0"):
        pipeline.segment(trained("os-medseg"), scan, tmp_path, "register", refine=-1)
    assert not any(tmp_path.iterdir())
