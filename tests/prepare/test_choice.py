from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from soloatlas.errors import InputError
from soloatlas.prepare import choose_atlas, closest_to_average
from soloatlas.prepare.average import correlation_with_others
from soloatlas.prepare.choice import pairwise_ncc

SHAPE = (24, 26, 22)


def scan(path: Path, part_of_b: float, scale: float = 1.0) -> Path:
    """A ball whose texture is a mixture of two, A and B, somewhere in the world."""
    index = np.indices(SHAPE).astype(float)
    inside = sum(((i - (n - 1) / 2) / (n / 3)) ** 2 for i, n in zip(index, SHAPE, strict=True)) < 1
    a, b = (ndimage.gaussian_filter(np.random.default_rng(s).normal(size=SHAPE), 2) for s in (1, 2))
    texture = (1 - part_of_b) * a / a.std() + part_of_b * b / b.std()
    image = scale * np.where(inside, (100 + 20 * texture).clip(1), 0).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = 30 * part_of_b
    nibabel.save(nibabel.Nifti1Image(image, affine), path)
    return path


def test_the_scan_most_like_the_others_comes_first(tmp_path: Path) -> None:
    parts = {"end": 0.0, "middle": 0.4, "between": 0.6, "far": 1.0}
    scans = [scan(tmp_path / f"{name}.nii.gz", part, 1 + part) for name, part in parts.items()]
    steps: list[tuple[int, int]] = []
    ranked = choose_atlas(scans, workers=1, progress=lambda *step: steps.append(step))
    assert dict(choose_atlas(str(tmp_path), workers=1)) == pytest.approx(dict(ranked)), "by their folder"
    assert {name for name, _ in ranked[:2]} == {"middle", "between"}
    assert sorted(name for name, _ in ranked) == sorted(parts)
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True) and scores[0] < 1
    assert steps[-1] == (8, 8)
    # The paper's form looks at the test scans, and at nothing else.
    test = scan(tmp_path / "test.nii.gz", 1.0)
    name, score = choose_atlas(scans, transductive=[test], workers=1)[0]
    assert name == "far" and score > 0.95


def test_pairwise_ncc_agrees_with_numpy_on_shared_voxels() -> None:
    random = np.random.default_rng(0)
    images, known = random.uniform(size=(4, 3000)), random.uniform(size=(4, 3000)) > 0.3
    images[1] += images[0]
    known[3] = False
    ncc = pairwise_ncc(images, known)
    for i in range(3):
        for j in range(3):
            both = known[i] & known[j]
            assert ncc[i, j] == pytest.approx(np.corrcoef(images[i][both], images[j][both])[0, 1], abs=1e-3)
    assert not ncc[3].any()


def test_one_scan_cannot_be_ranked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two scans"):
        choose_atlas([scan(tmp_path / "a.nii.gz", 0.0)])


def test_the_scan_closest_to_the_average_comes_first(tmp_path: Path) -> None:
    # Two alike, one between, one apart: the pull of the majority decides.
    parts = {"a": 0.2, "b": 0.3, "c": 0.4, "far": 1.0}
    scans = [scan(tmp_path / f"{name}.nii.gz", part, 1 + part) for name, part in parts.items()]
    steps: list[tuple[int, int]] = []
    ranked = closest_to_average(scans, workers=1, progress=lambda *step: steps.append(step))
    assert ranked[-1][0] == "far"
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True) and 0.5 < scores[0] < 1
    assert steps[-1] == (20, 20)
    assert choose_atlas(tmp_path, workers=1, by="average") == ranked
    with pytest.raises(InputError, match="leave out --transductive"):
        choose_atlas(scans, transductive=scans[:1], by="average")
    with pytest.raises(InputError, match="at least three"):
        closest_to_average(scans[:2])


def test_a_scan_is_not_compared_with_a_mean_that_holds_it() -> None:
    random = np.random.default_rng(0)
    images, known = random.uniform(size=(3, 4, 5, 6)), random.uniform(size=(3, 4, 5, 6)) > 0.2
    found = correlation_with_others(images, known)
    for i in range(3):
        rest = [j for j in range(3) if j != i]
        pairs = [
            (images[i][p], np.mean([images[j][p] for j in rest if known[j][p]]))
            for p in np.ndindex(4, 5, 6)
            if known[i][p] and any(known[j][p] for j in rest)
        ]
        assert found[i] == pytest.approx(np.corrcoef(np.array(pairs).T)[0, 1], abs=1e-9)
