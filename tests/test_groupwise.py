"""MABMIS: tree, templates, demons and fusion against hand-computed values; a group segmented from two atlases."""

import numpy as np
import pytest
import torch

from soloatlas import fields, pipeline
from soloatlas.data.demo import simulate_cohort
from soloatlas.data.files import read_labels
from soloatlas.data.study import make_study
from soloatlas.errors import InputError
from soloatlas.groupwise import (
    attach,
    demons,
    distances,
    fuse,
    register_to_root,
    segment_group,
    simulated_templates,
    spanning_tree,
    ways_back,
)
from soloatlas.settings import Groupwise

SHAPE = (20, 18, 16)


def ball(centre, radius=5.0):
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in SHAPE], indexing="ij")
    away = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)).sqrt()
    return torch.sigmoid(radius - away)[None, None]


def labels_of(image):
    return (image > 0.5).to(torch.int16)


def test_distances_are_root_mean_squares():
    images = [torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    found = distances(images)
    for i in range(3):
        for j in range(3):
            expected = float(((images[i] - images[j]).double() ** 2).mean().sqrt())
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


def test_the_root_has_the_shortest_paths_and_parents_lead_to_it():
    at = np.array([0.0, 1.0, 2.1, 3.3, 9.0])
    between = np.abs(at[:, None] - at[None])
    root, parents = spanning_tree(between)
    assert root == 2
    assert parents == {0: 1, 1: 2, 3: 2, 4: 3}
    assert spanning_tree(between, 0)[1] == {1: 0, 2: 1, 3: 2, 4: 3}


def test_the_closest_scan_is_attached_first_and_carries_the_next():
    nodes = [torch.full((1, 1, 2, 2, 2), v) for v in (0.0, 0.1)]
    scans = [torch.full((1, 1, 2, 2, 2), v) for v in (0.9, 0.3, 0.55)]
    assert attach(nodes, scans, {1: 0}) == {1: 0, 3: 1, 4: 3, 2: 4}


def test_demons_bring_one_ball_onto_another():
    fixed, moving = ball((11, 9, 8)), ball((9, 9, 8))
    field = demons(fixed, moving, (30, 20, 10), 1.5)
    before = float((moving - fixed).square().mean())
    assert float((fields.warp(moving, field) - fixed).square().mean()) < 0.15 * before
    # A start is gone on from.
    again = demons(fixed, moving, (0, 0, 0), 1.5, field)
    assert float((again - field).abs().mean()) < 0.15


def test_votes_are_weighted_by_patches():
    target = torch.zeros(1, 1, 6, 6, 6)
    still = torch.zeros(1, 3, 6, 6, 6)
    one, two = np.full((6, 6, 6), 1), np.full((6, 6, 6), 2)
    near, far = torch.full_like(target, 0.1), torch.full_like(target, 0.9)
    assert (fuse(target, [(far, one, still), (near, two, still)], 3) == 2).all()
    # Three voters: d = 0.1, 0.5, 0.5, so s = 0.5 + 1e-4: weights 0.980 against 2 x 0.607.
    middle = torch.full_like(target, 0.5)
    voters = [(near, two, still), (middle, one, still), (middle, one, still)]
    assert (fuse(target, voters, 3) == 1).all()
    weight = np.exp(-(0.1**2) / (2 * 0.5001**2))
    assert weight < 2 * np.exp(-(0.5**2) / (2 * 0.5001**2))


def test_templates_lie_away_from_the_atlases():
    atlases = [ball((10, 9, 8)), ball((8, 9, 8)), ball((12, 9, 8)), ball((10, 11, 8))]
    made = simulated_templates(atlases, 0, Groupwise())
    assert len(made) == 2 * len(atlases)
    apart = distances([*made, *atlases])[: len(made), len(made) :].min(1)
    assert (apart > 1e-3).all()


def test_fields_lie_on_the_roots_grid():
    atlases, scans = [ball((10, 9, 8)), ball((9, 9, 8))], [ball((11, 9, 8)), ball((12, 9, 8))]
    root, found = register_to_root(atlases, scans, Groupwise(tree_iterations=(30, 20, 10)))
    everyone = [*atlases, *scans]
    for image, field in zip(everyone, found, strict=True):
        apart = float((fields.warp(image, field) - atlases[root]).square().mean())
        assert apart <= 0.3 * max(1e-4, float((image - atlases[root]).square().mean()))


def test_the_way_back_brings_the_root_onto_the_image():
    root, image = ball((10, 9, 8)), ball((13, 11, 8), 4.0)
    to_image = demons(root, image, (30, 20, 10), 1.5)
    back = ways_back([root, image], 1, 0, to_image, Groupwise())

    def apart(field):
        return float((fields.warp(root, field) - image).square().mean())

    assert apart(back) < 0.05 * apart(torch.zeros_like(back))
    assert not torch.equal(back, fields.invert(to_image)), "it is refined"
    assert torch.equal(ways_back([root, image], 0, 0, torch.zeros_like(back), Groupwise()), torch.zeros_like(back))


def test_a_group_that_the_disk_has_no_room_for_is_refused(monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr("soloatlas.groupwise.shutil.disk_usage", lambda path: SimpleNamespace(free=1e5))
    atlases, scans = [ball((10, 9, 8)), ball((9, 10, 8))], [ball((12, 9, 8)), ball((10, 9, 10))]
    with pytest.raises(InputError, match=r"a group of 2 scans needs 0\.0 GB .* segment fewer scans at a time"):
        segment_group(atlases, [labels_of(a) for a in atlases], scans, 2, Groupwise())


def test_a_group_is_segmented():
    atlases = [ball((10, 9, 8)), ball((9, 10, 8))]
    scans = [ball((12, 9, 8)), ball((10, 9, 10)), ball((8, 8, 8))]
    told = []
    found = segment_group(
        atlases, [labels_of(a) for a in atlases], scans, 2, Groupwise(), lambda *step: told.append(step)
    )
    for scan, classes in zip(scans, found, strict=True):
        truth = labels_of(scan)[0, 0].numpy()
        assert 2 * (classes * truth).sum() / (classes.sum() + truth.sum()) > 0.9
    assert told[-1] == ("fusion 3", 3, 3)


def test_mabmis_on_files_and_what_it_refuses(tmp_path):
    study = simulate_cohort(tmp_path / "study", pool=1, test=2, seed=0, spacing=8.0)
    with pytest.raises(InputError, match="two atlases or more"):
        pipeline.train(study, tmp_path / "none", "mabmis")
    two = make_study(study.atlas, study.atlas_labels, tmp_path / "study/unlabelled", study.label_names)
    second = ((study.test_images[0], study.test_labels[0]),)
    two = two.__class__(**{**vars(two), "more_atlases": second})
    with pytest.raises(InputError, match="takes one atlas"):
        pipeline.train(two, tmp_path / "none", "resunet")
    run = pipeline.train(two, tmp_path / "run", "mabmis", changes=["prepare.align=centre", "groupwise.rounds=2"])
    out = pipeline.segment(run, [study.test_images[1]], tmp_path / "out")
    found, truth = read_labels(out / study.test_images[1].name), read_labels(study.test_labels[1])
    assert found.grid.matches(truth.grid)
    assert (found.array == truth.array).mean() > 0.75
    with pytest.raises(InputError, match="as a whole"):
        pipeline.segment(run, [study.test_images[1]], tmp_path / "fields", save_fields=True)
