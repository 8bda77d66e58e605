"""DataAug: look and place are drawn independently; the look is learnt on the atlas's grid."""

import itertools

import pytest
import torch

from soloatlas import fields
from soloatlas.errors import InputError
from soloatlas.losses.appearance import change_smoothness, label_contours
from soloatlas.methods import dataaug
from soloatlas.networks.appearance import AppearanceNetwork
from soloatlas.registration import PoolFields, registration_network
from soloatlas.settings import override

SMALL = (
    "registration.steps=2", "registration.channels=[4,4,4,4]", "appearance.steps=2", "student.steps=2",
    "student.channels=[4,4,8,8,8]", "student.batch=1", "augment=false", "loop.precision=float32",
)  # fmt: skip


@pytest.fixture
def settings():
    return override(dataaug.preset("quick"), SMALL)


def fields_of(material, settings, session):
    network = registration_network(settings.registration, 0, session.device).eval()
    kept = PoolFields(network, material, settings.registration, "float32", 1e9)
    kept.kept = [torch.full((1, 3, *material.shape), float(i)) for i in range(len(material.names))]
    return kept


def test_contours_are_voxels_beside_another_class():
    classes = torch.zeros(1, 1, 6, 7, 5, dtype=torch.int16)
    classes[..., 2:4, 2:5, 1:4] = 1
    classes[..., 3, 3, 2] = 2
    found = label_contours(classes)[0, 0]
    for p in itertools.product(range(6), range(7), range(5)):
        beside = False
        for axis, step in itertools.product(range(3), (-1, 1)):
            q = list(p)
            q[axis] += step
            if 0 <= q[axis] < classes.shape[2 + axis]:
                beside |= bool(classes[0, 0][tuple(q)] != classes[0, 0][p])
        assert bool(found[p]) is beside, p


def test_a_change_may_jump_at_contours_only():
    classes = torch.zeros(1, 1, 8, 4, 4, dtype=torch.int16)
    classes[..., 4:, :, :] = 1
    contours = label_contours(classes)
    at_border = torch.where(classes > 0, 1.0, 0.0)
    inside = torch.zeros_like(at_border)
    inside[..., 6:, :, :] = 1.0
    assert float(change_smoothness(at_border, contours)) == 0
    # One difference of 1 in each of 16 columns, of 7 x 16 differences along x; the other two axes have none.
    assert float(change_smoothness(inside, contours)) == pytest.approx(16 / (7 * 16) / 3)
    change = torch.rand(1, 1, 5, 5, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: change_smoothness(x, torch.zeros(1, 1, 5, 5, 5)), (change,))


def test_appearance_network_takes_any_size_and_starts_near_nothing():
    network = AppearanceNetwork()
    change = network(torch.rand(1, 1, 33, 20, 40), torch.rand(1, 1, 33, 20, 40))
    assert change.shape == (1, 1, 33, 20, 40)
    assert change.abs().max() < 1e-2


def test_look_and_place_are_drawn_independently_or_together(material, settings, session):
    kept = fields_of(material, settings, session)
    looks = torch.stack([torch.full((1, *material.shape), 0.05 * (i + 1)) for i in range(3)]).half()

    def drawn(how, visits):
        sampling = override(settings, [f"sampling.pairs={how}"]).sampling
        found = [dataaug._drawn(v, v % 3, material, kept, looks, sampling, 0) for v in range(visits)]
        return {(round(float((a - material.atlas).max()) / 0.05) - 1, int(f.max())) for a, f in found}

    assert drawn("coupled", 12) == {(0, 0), (1, 1), (2, 2)}
    assert len(drawn("independent", 60)) == 9


def test_random_and_real_pairs_need_no_appearance(material, settings, session):
    settings = override(settings, ["sampling.pairs=random"])
    pairs = dataaug.augmented_pairs(material, fields_of(material, settings, session), None, settings, 0)
    images, classes = pairs(0, [0, 1])
    assert images.shape == classes.shape == (2, 1, *material.shape)
    assert not torch.equal(images[0], images[1])
    real = override(settings, ["sampling.pairs=real"])
    images, _ = dataaug.augmented_pairs(material, fields_of(material, real, session), None, real, 0)(0, [1])
    assert torch.equal(images, material.scans([1]))


def test_the_stages_run_and_the_look_comes_closer_to_the_scan(material, settings, session):
    brighter = material.__class__(**{**vars(material), "pool": (material.pool * 1.3).half()})
    longer = override(settings, ["appearance.steps=40", "appearance.learning_rate=1e-3"])
    nets = dataaug.train(brighter, longer, session)
    assert set(nets) == {"registration", "appearance", "student"}
    atlas, scan = material.atlas, brighter.scans([0])
    with torch.inference_mode():
        change = nets["appearance"](atlas, scan)
    inside = material.classes > 0
    assert change[inside].mean() > 0.02, "the pool is brighter than the atlas"


def test_the_atlas_can_be_one_of_the_scans_to_learn_from(material):
    whole = dataaug.with_atlas(material)
    assert whole.names == ("a", "b", "c", "atlas")
    torch.testing.assert_close(whole.scans([3]), material.atlas, atol=1e-3, rtol=0)
    assert torch.equal(whole.scans([1]), material.scans([1]))


def test_labels_are_warped_as_asked(material, settings, session):
    kept = fields_of(material, settings, session)
    kept.kept = [torch.full((1, 3, *material.shape), 0.4)] * 3  # not halfway: nearest and linear differ at corners
    labels = {}
    for how in ("linear", "nearest"):
        chosen = override(settings, [f"sampling.label_warp={how}", "sampling.pairs=real"])
        labels[how] = dataaug.augmented_pairs(material, kept, None, chosen, 0)(0, [0])[1]
        assert torch.equal(labels[how], fields.warp_labels(material.classes, kept[0], how))
    assert not torch.equal(labels["linear"], labels["nearest"])


def test_settings_that_cannot_be_trained_are_refused(settings):
    with pytest.raises(InputError, match=r"sampling\.factor"):
        dataaug.validate(override(settings, ["sampling.factor=1.5"]))
