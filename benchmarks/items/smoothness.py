"""Bending energy and diffusion: a few copies of the field in memory at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness import ALONE, Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    from torch import Tensor

FEW = 4  # copies of the field


def bending(place: Place) -> Case:
    """Beside MONAI's, which is the same formula."""
    from monai.losses import BendingEnergyLoss

    from soloatlas.losses.smoothness import bending_energy

    return _case(place, bending_energy, "MONAI", BendingEnergyLoss())


def first_differences(place: Place) -> Case:
    """Beside the published form (MONAI's takes central differences)."""
    import published
    from soloatlas.losses.smoothness import diffusion

    return _case(place, diffusion, "published form", published.diffusion)


def _case(place: Place, ours: Callable[[Tensor], Tensor], name: str, peer: Callable[[Tensor], Tensor]) -> Case:
    from gradients import relative, value_and_gradient
    from inputs import displacement

    field = displacement(place)

    def agree() -> Agreement:
        (value, gradient), (right, slope) = value_and_gradient(ours, field), value_and_gradient(peer, field)
        return {
            f"value, {name}": (relative(value, right), 1e-4),
            f"gradient, {name}": (relative(gradient, slope), 1e-4),
        }

    return Case(
        ours=lambda: value_and_gradient(ours, field),
        peers={name: lambda: value_and_gradient(peer, field)},
        agree=agree,
        unit=field.numel() * field.element_size(),
    )


LIMITS = {ALONE: {device: {"copies": FEW} for device in ("cpu", "cuda")}}
ITEM = Item(
    "smoothness",
    "smoothness of a field, value and gradient, float32",
    [Part("bending energy", bending, LIMITS), Part("diffusion", first_differences, LIMITS)],
)
