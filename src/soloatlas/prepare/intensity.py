"""Where the body is in a scan, and intensities brought to one range."""

from __future__ import annotations

import numpy as np

from soloatlas.settings import Prepare

# A background is narrow: its voxels lie this many of its own spreads below the body. A bell-shaped histogram
# cut in the middle gives 2.7, a flat one 3.5, air around a head or a body more than 10.
_CONTRAST = 5.0
_PADDING = 0.05  # share of voxels with exactly the lowest value from which that value is padding
_SAMPLE = 500_000  # voxels that are enough for a histogram
_ZSCORE_RANGE = 3.0  # standard deviations around the mean kept by normalise="zscore"


def body(array: np.ndarray) -> np.ndarray:
    """Voxels of the body (or brain): the largest connected object that is not background, holes filled.

    Padding with the lowest value is taken away first, then air, if the histogram of the rest shows any: the
    threshold of Otsu (IEEE Trans SMC 9:62, 1979) is accepted where the darker class is narrow and lies far
    below the brighter one, and lowered to where that class ends. A tight crop without background is body
    throughout, and so is a constant image.

    Args:
        array: (x, y, z), finite intensities in any unit.

    Returns:
        (x, y, z) bool, never empty.
    """
    lowest = array.min()
    inside = array > lowest
    if not inside.any() or not (~inside).mean() > _PADDING:
        inside = np.ones(array.shape, dtype=bool)
    threshold = _air_threshold(array, inside)
    if threshold is not None:
        inside &= array > threshold
    return inside if inside.all() else _filled(_largest(inside))


def normalise(array: np.ndarray, settings: Prepare, inside: np.ndarray | None = None) -> np.ndarray:
    """Intensities in [0, 1], where 0 is also the value of everything outside the field of view.

    - ``percentile``: the lower and upper percentile of the body become 0 and 1.
    - ``zscore``: mean minus and plus 3 standard deviations of the body become 0 and 1, so that the mean is
      0.5 and every mode has the range that losses and networks expect; outside the body is 0.
    - ``window``: the ends of the window (CT: HU) become 0 and 1, the same for every scan.

    Args:
        array: (x, y, z), finite intensities.
        settings: ``normalise``, ``percentiles``, ``window``.
        inside: (x, y, z) bool, the body; `body` of the array if not given. Not needed for ``window``.

    Returns:
        (x, y, z) float32; a constant body gives zeros.
    """
    if settings.normalise == "window":
        return _rescale(array, *settings.window)
    inside = body(array) if inside is None else inside
    values = _sample(array[inside])
    if settings.normalise == "percentile":
        low, high = np.percentile(values, settings.percentiles)
        return _rescale(array, low, high)
    mean, reach = values.mean(dtype=np.float64), _ZSCORE_RANGE * values.std(dtype=np.float64)
    return np.where(inside, _rescale(array, mean - reach, mean + reach), np.float32(0))


def _rescale(array: np.ndarray, low: float, high: float) -> np.ndarray:
    if not high > low:
        return np.zeros(array.shape, dtype=np.float32)
    scaled = (array.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def _sample(values: np.ndarray) -> np.ndarray:
    """Every n-th value, so that percentiles of a large scan cost little."""
    return values[:: max(1, values.size // _SAMPLE)]


def _air_threshold(array: np.ndarray, inside: np.ndarray) -> float | None:
    """The intensity that parts air from body, or nothing if there is no air."""
    values = _sample(array[inside]).astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    if not high > low:
        return None
    values = np.clip(values, low, high)
    threshold = _otsu(values, low, high)
    dark, bright = values[values <= threshold], values[values > threshold]
    if dark.size == 0 or bright.size == 0:
        return None
    quarter, middle, three = np.percentile(dark, (25, 50, 75))
    reach = _CONTRAST * max((three - quarter) / 1.349, 1e-6 * (high - low))  # a bell curve's standard deviation
    contrast = float(bright.mean()) - middle
    # Dim tissue lies below the threshold of Otsu, air does not reach further than its own spread.
    return float(min(threshold, middle + max(reach, 0.1 * contrast))) if contrast > reach else None


def _otsu(values: np.ndarray, low: float, high: float) -> float:
    """The threshold with the largest variance between the two classes."""
    counts, edges = np.histogram(values, bins=256, range=(low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1 + int(np.nanargmax(apart))])


def _largest(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if count == 0:
        return np.ones(mask.shape, dtype=bool)
    # A slab at a time: the whole would be copied in 64 bits.
    sizes = np.sum([np.bincount(slab.ravel(), minlength=count + 1) for slab in parts], axis=0)
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _filled(mask: np.ndarray) -> np.ndarray:
    """``mask`` with the holes that do not reach the border of the array."""
    from scipy import ndimage

    parts, count = ndimage.label(~mask)
    reaches = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for face in (0, -1):
            reaches[np.unique(parts.take(face, axis))] = True
    reaches[0] = False
    return np.asarray(~reaches[parts])
