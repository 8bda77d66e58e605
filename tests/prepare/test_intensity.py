from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from soloatlas.prepare import body, normalise
from soloatlas.settings import Prepare

SHAPE = (40, 44, 36)


def ball(radius: float, centre: tuple[float, ...] = (20, 22, 18)) -> np.ndarray:
    index = np.indices(SHAPE)
    return sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)) <= radius**2


def tissue(seed: int = 0) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return (500 + 1000 * noise / noise.std() / 4).astype(np.float32)


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    return 2 * np.sum(one & two) / (one.sum() + two.sum())


def test_stripped_brain_with_a_ventricle_of_zero() -> None:
    brain = ball(13)
    image = np.where(brain & ~ball(3), np.clip(tissue(), 1, None), 0)
    np.testing.assert_array_equal(body(image), brain)


def test_specks_outside_the_body_are_left_out() -> None:
    image = np.where(ball(12), tissue(), 0)
    image[0, 0, 0] = 900
    assert not body(image)[0, 0, 0]


def test_raw_ct_in_a_padded_circle() -> None:
    random = np.random.default_rng(1)
    patient = ball(13)
    image = np.where(patient, 40 + 30 * random.normal(size=SHAPE), -1000 + 15 * random.normal(size=SHAPE))
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    image[(x - 20) ** 2 + (y - 22) ** 2 > 19**2] = -2048
    assert overlap(body(image), patient) > 0.99


def test_mr_with_noise_around_the_head() -> None:
    random = np.random.default_rng(2)
    patient = ball(14)
    signal = np.where(patient, np.clip(tissue(), 250, None), 0)
    image = np.hypot(signal + 15 * random.normal(size=SHAPE), 15 * random.normal(size=SHAPE))
    assert overlap(body(image), patient) > 0.98


@pytest.mark.parametrize("seed", range(5))
def test_a_tight_crop_is_body_throughout(seed: int) -> None:
    assert body(tissue(seed)).all()


def test_a_constant_image_is_body_and_becomes_zero() -> None:
    image = np.full(SHAPE, 3.0)
    assert body(image).all()
    assert not normalise(image, Prepare()).any()


def test_percentiles_of_the_body_become_0_and_1() -> None:
    image = np.where(ball(12), np.clip(tissue(), 1, None), 0).astype(np.float32)
    low, high = np.percentile(image[ball(12)], (0.5, 99.5))
    out = normalise(image, Prepare())
    np.testing.assert_allclose(out, np.clip((image - low) / (high - low), 0, 1), atol=1e-5)
    np.testing.assert_allclose(out, normalise(image * 1e4, Prepare()), atol=1e-5)
    assert out.dtype == np.float32


def test_zscore_puts_the_mean_in_the_middle() -> None:
    image = np.where(ball(12), np.clip(tissue(), 1, None), 0)
    inside = image[ball(12)]
    out = normalise(image, Prepare(normalise="zscore"))
    expected = np.clip(0.5 + (inside - inside.mean()) / inside.std() / 6, 0, 1)
    np.testing.assert_allclose(out[ball(12)], expected, atol=1e-5)
    assert not out[~ball(12)].any()


def test_window_is_the_same_for_every_scan() -> None:
    image = np.array([-1000.0, -160.0, 40.0, 240.0, 3000.0]).reshape(5, 1, 1)
    out = normalise(image, Prepare(normalise="window", window=(-160.0, 240.0)))
    np.testing.assert_allclose(out.ravel(), [0, 0, 0.5, 1, 1], atol=1e-6)
