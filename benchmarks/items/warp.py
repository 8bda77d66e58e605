"""Warping images, integrating velocities and warping class maps beside MONAI's layers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from harness import ALONE, Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    from torch import Tensor

CLASSES, SQUARINGS = 39, 7


def image(place: Place) -> Case:
    """Value and gradient with respect to the field."""
    from inputs import displacement, scans
    from soloatlas import fields

    moving, _ = scans(place)
    monai = _monai("Warp", padding_mode="zeros")
    return _differentiable(lambda u: fields.warp(moving, u), lambda u: monai(moving, u), displacement(place))


def integration(place: Place) -> Case:
    """Value and gradient with respect to the velocity."""
    from inputs import displacement
    from soloatlas import fields

    monai = _monai("DVF2DDF", num_steps=SQUARINGS, padding_mode="border")
    return _differentiable(lambda v: fields.integrate(v, SQUARINGS), monai, displacement(place))


def labels(place: Place) -> Case:
    """A class map of 39 classes beside its one-hot map warped whole."""
    from monai.networks import one_hot

    from inputs import displacement, structures
    from soloatlas import fields

    classes, field = structures(place, CLASSES), displacement(place)
    monai = _monai("Warp", padding_mode="zeros")

    def theirs() -> Tensor:
        warped = monai(one_hot(classes, CLASSES), field)
        warped[:, 0] += 1 - warped.sum(1)  # outside is background
        return warped.argmax(1, keepdim=True)

    def agree() -> Agreement:
        differ = float((fields.warp_labels(classes, field) != theirs()).float().mean())
        return {"share of voxels, MONAI": (differ, 1e-4), "kept in checkpoints": (float(_buffers()), 0)}

    one_hot_bytes = 4.0 * CLASSES * classes.numel()
    return Case(lambda: fields.warp_labels(classes, field), {"MONAI, one-hot": theirs}, agree, one_hot_bytes)


def _monai(name: str, **settings: Any) -> Any:
    from monai.networks import blocks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was not compiled with its own sampler
        return getattr(blocks, name)(**settings)


def _differentiable(ours: Any, theirs: Any, x: Tensor) -> Case:
    from gradients import apart, relative, value_and_gradient

    def run(warp: Any) -> tuple[Tensor, Tensor]:
        return value_and_gradient(lambda u: warp(u).square().sum(), x)

    def agree() -> Agreement:
        (_, gradient), (_, slope) = run(ours), run(theirs)
        return {"value, MONAI": (apart(ours(x), theirs(x)), 1e-3), "gradient, MONAI": (relative(gradient, slope), 1e-2)}

    return Case(lambda: run(ours), {"MONAI": lambda: run(theirs)}, agree)


def _buffers() -> int:
    """Tensors in a registration network's checkpoint that are no weights."""
    from soloatlas.networks.choice import REGISTRATION_NETWORKS

    network = REGISTRATION_NETWORKS["voxelmorph"]()
    return len(network.state_dict()) - len(list(network.parameters()))


# "Without holding all classes at once": less than the one-hot map alone.
LIMITS = {ALONE: {device: {"copies": 1} for device in ("cpu", "cuda")}}
ITEM = Item(
    "warp",
    "warping an image and integrating a velocity (7 squarings), value and gradient; warping 39 classes",
    [Part("image", image), Part("integration", integration), Part("39 classes", labels, LIMITS)],
)
