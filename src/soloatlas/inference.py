"""From a prepared scan to labels on its own grid: whole volume or sliding window, arg-max over classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from soloatlas import fields
from soloatlas.devices import autocast, choose_precision

if TYPE_CHECKING:
    from soloatlas.prepare import Placement

CLASSES_AT_ONCE = 8  # classes resampled together: the positions are computed once for all of them


@torch.inference_mode()
def student_probabilities(
    student: nn.Module,
    image: Tensor,
    window: Sequence[int] = (),
    precision: str = "auto",
    pairs: Sequence[tuple[int, int]] = (),
    flip: bool = False,
) -> Tensor:
    """Class probabilities of one prepared scan.

    Args:
        student: network returning (logits, features).
        image: (1, 1, x, y, z) on the network's device.
        window: size of the sliding window in voxels (overlap one half, Gaussian weights); (): whole volume.
        precision: of the autocast.
        pairs: (left, right) classes, swapped when the scan is mirrored.
        flip: average with the mirrored scan; needs every side declared in ``pairs``.

    Returns:
        (classes, x, y, z) float32, summing to 1.
    """
    with autocast(image.device, choose_precision(precision, image.device)):
        logits = _logits(student, image, window)
    probabilities = logits.float().softmax(dim=1)[0]
    if flip:
        mirrored = student_probabilities(student, image.flip(2), window, precision).flip(1)
        order = list(range(len(mirrored)))
        for left, right in pairs:
            order[left], order[right] = right, left
        probabilities = (probabilities + mirrored[order]) / 2
    return probabilities


def _logits(student: nn.Module, image: Tensor, window: Sequence[int]) -> Tensor:
    if not window or all(n <= w for n, w in zip(image.shape[2:], window, strict=True)):
        logits: Tensor = student(image)[0]
        return logits
    from monai.inferers import sliding_window_inference

    def predict(part: Tensor) -> Tensor:
        out: Tensor = student(part)[0]
        return out.float()

    size = [min(n, w) for n, w in zip(image.shape[2:], window, strict=True)]  # as patches were drawn
    out = sliding_window_inference(image, size, 1, predict, overlap=0.5, mode="gaussian")
    assert isinstance(out, Tensor)
    return out


@torch.inference_mode()
def warped_atlas_probabilities(classes: Tensor, field: Tensor, count: int) -> Tensor:
    """The atlas's one-hot labels warped along ``field``, (classes, x, y, z) float16: label propagation."""
    out = torch.empty(count, *field.shape[2:], dtype=torch.float16, device=field.device)
    for c in range(count):
        out[c] = fields.warp((classes == c).float(), field)[0, 0].half()
    out[0] += 1 - out.sum(dim=0)  # outside the atlas is background
    return out


@torch.inference_mode()
def native_classes(probabilities: Tensor, placement: Placement) -> np.ndarray:
    """Arg-max on the scan's own grid: probabilities are interpolated there first, a few classes at a time.

    Args:
        probabilities: (classes, x, y, z) on the working grid.
        placement: where the scan lies on it.

    Returns:
        (i, j, k) class map in the order of the scan's own axes; background outside the working grid.
    """
    shape = placement.native.shape
    best = torch.zeros(shape, device=probabilities.device)
    classes = torch.zeros(shape, dtype=torch.int16, device=probabilities.device)
    for start, grid in _slabs(placement, probabilities):
        part = slice(start, start + grid.shape[1])
        for first in range(0, len(probabilities), CLASSES_AT_ONCE):
            some = probabilities[first : first + CLASSES_AT_ONCE].float()[None]
            sampled = functional.grid_sample(some, grid, align_corners=True)[0]
            value, index = sampled.max(dim=0)
            wins = value > best[part]
            best[part] = torch.where(wins, value, best[part])
            classes[part] = torch.where(wins, (index + first).to(torch.int16), classes[part])
    return classes.cpu().numpy()


@torch.inference_mode()
def native_probabilities(probabilities: Tensor, placement: Placement) -> Iterator[tuple[int, np.ndarray]]:
    """(class, its probability on the scan's own grid, float32), one map at a time, the background last.

    Args:
        probabilities: (classes, x, y, z) on the working grid.
        placement: where the scan lies on it; outside the working grid there is background.
    """
    others = np.zeros(placement.native.shape, np.float32)
    for number in range(1, len(probabilities)):
        one = np.zeros_like(others)
        for start, grid in _slabs(placement, probabilities):
            sampled = functional.grid_sample(probabilities[None, number : number + 1].float(), grid, align_corners=True)
            one[start : start + grid.shape[1]] = sampled[0, 0].cpu().numpy()
        others += one
        yield number, one
    yield 0, 1 - others


def _slabs(placement: Placement, probabilities: Tensor, thickness: int = 32) -> Iterator[tuple[int, Tensor]]:
    """Sampling positions (normalised, reversed order) of the native grid, slab by slab along its first axis.

    Slabs that lie outside the working grid altogether are left out.
    """
    shape = placement.native.shape
    to_working = torch.from_numpy(np.linalg.inv(placement.matrix)).to(probabilities.device)
    limits = torch.tensor(probabilities.shape[1:], device=to_working.device).view(3, 1, 1, 1) - 1
    linear, shift = to_working[:3, :3], to_working[:3, 3]
    for start in range(0, shape[0], thickness):
        size = (min(thickness, shape[0] - start), shape[1], shape[2])
        index = fields.identity(size, to_working.float(), (start, 0, 0))[0].double()
        position = torch.einsum("ij,jxyz->ixyz", linear, index) + shift.view(3, 1, 1, 1)
        if bool(((position < -1) | (position > limits + 1)).any(dim=0).all()):
            continue
        grid = (position * 2 / limits.clamp(min=1) - 1).float().flip(0).permute(1, 2, 3, 0)[None]
        yield start, grid


def largest_components(classes: np.ndarray) -> np.ndarray:
    """Keep the largest 26-connected piece of each class; the rest becomes background."""
    from scipy import ndimage

    out = np.zeros_like(classes)
    for c, box in enumerate(ndimage.find_objects(classes), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(classes[box] == c, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:] if count else np.zeros(1)
        out[box][pieces == 1 + int(sizes.argmax())] = c
    return out
