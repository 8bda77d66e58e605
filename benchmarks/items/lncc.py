"""Local cross-correlation beside MONAI's and beside dense convolutions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from harness import Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    from torch import Tensor

WINDOW, VOXELS = 9, 500  # VOXELS: whose windows are computed one by one


def build(place: Place) -> Case:
    """Value and gradient with respect to the warped image, as registration needs them."""
    from monai.losses import LocalNormalizedCrossCorrelationLoss

    from gradients import value_and_gradient
    from inputs import scans
    from published import dense_correlation
    from soloatlas.losses.similarity import local_cross_correlation

    fixed, warped = scans(place)
    monai = LocalNormalizedCrossCorrelationLoss(kernel_size=WINDOW)
    peers = {"MONAI": lambda x: monai(x, fixed), "dense convolution": lambda x: dense_correlation(fixed, x, WINDOW)}
    return Case(
        ours=lambda: value_and_gradient(lambda x: local_cross_correlation(fixed, x, WINDOW), warped),
        peers={name: partial(value_and_gradient, loss, warped) for name, loss in peers.items()},
        agree=lambda: {**agreement(fixed, warped, peers), **at_the_border(*scans(place, filling=True))},
    )


def agreement(fixed: Tensor, warped: Tensor, peers: dict[str, Any]) -> Agreement:
    """Ours beside windows in float64, beside the peers (with the epsilon of their sums), and on constant images."""
    import torch

    from gradients import relative, value_and_gradient
    from published import matching_epsilon
    from soloatlas.losses.similarity import local_cross_correlation

    def ours(x: Tensor) -> Tensor:
        return local_cross_correlation(fixed, x, WINDOW, matching_epsilon(WINDOW))

    value, gradient = value_and_gradient(ours, warped)
    inside = one_by_one(fixed, warped, fixed[0, 0] > 0)
    found: dict[str, tuple[float, float]] = {"voxels, windows in float64": (inside, 1e-4)}
    for name, loss in peers.items():
        theirs, their_gradient = value_and_gradient(loss, warped)
        found[f"value, {name}"] = (abs(float(value - theirs)), 1e-4)
        found[f"gradient, {name}"] = (relative(gradient, their_gradient), 1e-2)
    constant = torch.full_like(fixed, 0.7)
    flat, slope = value_and_gradient(lambda x: local_cross_correlation(constant, x, WINDOW), constant)
    found["constant images"] = (abs(float(flat)) + float(slope.abs().max()), 1e-3)
    return found


def at_the_border(fixed: Tensor, warped: Tensor) -> Agreement:
    """Voxels whose windows the border cuts off; the peers, which count zeros beyond it, are no measure there."""
    import torch

    border = torch.ones_like(fixed[0, 0], dtype=torch.bool)
    reach = WINDOW // 2
    border[reach:-reach, reach:-reach, reach:-reach] = False
    return {"voxels at the border, windows in float64": (one_by_one(fixed, warped, border), 1e-4)}


def one_by_one(fixed: Tensor, warped: Tensor, where: Tensor) -> float:
    """Largest difference at random voxels between the map that ours averages and float64 windows taken one by one.

    Voxels of the mask ``where``, and only if both images vary in the window by more than 1e-4.
    """
    import torch

    from soloatlas.losses.similarity import local_cross_correlation

    epsilon = 1e-5
    with averaged_volume() as kept:
        local_cross_correlation(fixed, warped, WINDOW, epsilon)
    voxels = where.nonzero()
    chosen = torch.randperm(len(voxels), generator=torch.Generator().manual_seed(0))[:VOXELS]
    compared, worst = 0, 0.0
    for voxel in voxels[chosen.to(voxels.device)].tolist():
        around = tuple(slice(max(0, p - WINDOW // 2), p + WINDOW // 2 + 1) for p in voxel)
        f, w = (x[0, 0][around].double() for x in (fixed, warped))
        f, w = f - f.mean(), w - w.mean()
        variances = f.square().mean(), w.square().mean()
        if min(variances) > 1e-4:
            right = (f * w).mean() ** 2 / (variances[0] * variances[1] + epsilon)
            compared += 1
            worst = max(worst, abs(float(kept.volume[0, 0][tuple(voxel)] - right)))
    return worst if compared else float("nan")


def averaged_volume() -> Any:
    """Within it, `.volume` is the last volume of which a plain mean was taken: the map behind a loss."""
    from torch.overrides import TorchFunctionMode

    class Averaged(TorchFunctionMode):
        volume: Any = None

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__name__", "") == "mean" and len(args) == 1 and args[0].ndim == 5 and not kwargs:
                self.volume = args[0]
            return function(*args, **(kwargs or {}))

    return Averaged()


ITEM = Item(
    "lncc",
    "local cross-correlation (window 9), value and gradient, float32",
    [
        Part(
            "value and gradient",
            build,
            {
                "MONAI": {"cpu": {"ratio": 3, "memory_ratio": 0.5}, "cuda": {"ratio": 4, "memory_ratio": 0.5}},
                "dense convolution": {"cpu": {"ratio": 35}, "cuda": {"ratio": 10}},
            },
        )
    ],
)
