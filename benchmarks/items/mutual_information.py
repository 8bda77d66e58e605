"""Mutual information beside MONAI's, with the same bins and the same kernel width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    from torch import Tensor

BINS, BLOCK = 32, 2**18


def build(place: Place) -> Case:
    """Value and gradient with respect to the warped image."""
    from monai.losses import GlobalMutualInformationLoss

    from gradients import value_and_gradient
    from inputs import scans
    from soloatlas.losses.similarity import mutual_information

    fixed, warped = scans(place)
    monai = GlobalMutualInformationLoss(num_bins=BINS, sigma_ratio=1.0).to(place.device)
    bare = GlobalMutualInformationLoss(num_bins=BINS, sigma_ratio=1.0, smooth_nr=1e-20, smooth_dr=1e-20).to(
        place.device
    )

    def ours() -> tuple[Tensor, Tensor]:
        return value_and_gradient(lambda x: mutual_information(fixed, x, BINS), warped)

    def theirs() -> tuple[Tensor, Tensor]:
        return value_and_gradient(lambda x: monai(x, fixed), warped)

    def agree() -> Agreement:
        from gradients import relative

        (value, gradient), (right, slope) = ours(), value_and_gradient(lambda x: exact(fixed, x), warped)
        return {
            "value, exact in float64": (relative(value, right), 1e-3),
            "gradient, exact in float64": (relative(gradient, slope), 1e-3),
            "value, MONAI without its 1e-7": (relative(value, bare(warped, fixed)), 1e-3),
        }

    return Case(ours, {"MONAI": theirs}, agree)


def exact(fixed: Tensor, warped: Tensor) -> Tensor:
    """The definition in float64; blocks of voxels are gone through again for the gradient."""
    import torch
    from torch.utils.checkpoint import checkpoint

    def histogram(f: Tensor, w: Tensor) -> Tensor:
        centres = torch.linspace(0, 1, BINS, dtype=torch.float64, device=f.device)
        kernels = [torch.exp(-0.5 * ((x[:, None] - centres) * (BINS - 1)) ** 2) for x in (f, w)]
        shares_f, shares_w = (kernel / kernel.sum(1, keepdim=True) for kernel in kernels)
        return shares_f.T @ shares_w

    blocks = zip(*(x.double().flatten().split(BLOCK) for x in (fixed, warped)), strict=True)
    parts = [checkpoint(histogram, f, w, use_reentrant=False) for f, w in blocks]
    joint = torch.stack(parts).sum(0) / fixed.numel()
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return -(torch.special.xlogy(joint, joint) - torch.special.xlogy(joint, apart)).sum()


LIMITS = {"ratio": 10, "memory_ratio": 0.1}
ITEM = Item(
    "mutual-information",
    "mutual information (32 bins, Gaussian as wide as a bin), value and gradient, float32",
    [Part("value and gradient", build, {"MONAI": {"cpu": LIMITS, "cuda": LIMITS}})],
)
