"""The game between a discriminator and whoever made the images (LT-Net, Eq. 4)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from soloatlas.losses._common import full_precision

Form = Literal["least-squares", "printed"]


def discriminator_loss(
    of_real: Float[Tensor, "batch 1 u v w"], of_warped: Float[Tensor, "batch 1 u v w"], form: Form = "least-squares"
) -> Float[Tensor, ""]:
    """What the discriminator minimises: 1 is its verdict "real scan", 0 "warped atlas".

    Eq. (4), Wang 2020 (LT-Net), maximised over the discriminator. Two forms:

    - "least-squares" (Mao 2017, as in CycleGAN): mean (D(u) - 1)^2 + mean D(ubar)^2, with an unbounded D;
    - "printed": minus ||D(u)|| + ||D(ubar) - 1||, norms as root mean squares. Bounded only if D is: a sigmoid
      is put on it.

    Args:
        of_real: the discriminator's output for real scans; ``of_warped`` for warped atlases.
    """
    real, warped = full_precision(of_real), full_precision(of_warped)
    if form == "least-squares":
        return (real - 1).square().mean() + warped.square().mean()
    return -(_rms(real.sigmoid()) + _rms(warped.sigmoid() - 1))


def generator_loss(of_warped: Float[Tensor, "batch 1 u v w"], form: Form = "least-squares") -> Float[Tensor, ""]:
    """What the maker of the warped atlas minimises: how far the verdict is from "real scan".

    Eq. (4), Wang 2020, the term that depends on the generator: the same in both forms, squared or not.
    """
    warped = full_precision(of_warped)
    return (warped - 1).square().mean() if form == "least-squares" else _rms(warped.sigmoid() - 1)


def verdicts(
    of_real: Float[Tensor, "batch 1 u v w"], of_warped: Float[Tensor, "batch 1 u v w"], form: Form = "least-squares"
) -> dict[str, Tensor]:
    """Mean verdict on each side and the share of patches judged rightly, for the log."""
    real, warped = (x.detach().sigmoid() if form == "printed" else x.detach() for x in (of_real, of_warped))
    right = ((real > 0.5).float().mean() + (warped <= 0.5).float().mean()) / 2
    return {"D(real)": real.mean(), "D(warped)": warped.mean(), "D right": right}


def _rms(x: Tensor) -> Tensor:
    """Root mean square with a finite slope at 0."""
    return torch.sqrt(x.square().mean() + 1e-12)
