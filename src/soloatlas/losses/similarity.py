"""How alike two images are: local cross-correlation, mutual information, mean squared error."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from soloatlas.losses._common import full_precision, precise, wanted, with_gradients


def local_cross_correlation(
    fixed: Float[Tensor, "batch 1 x y z"],
    warped: Float[Tensor, "batch 1 x y z"],
    window: int = 9,
    epsilon: float = 1e-5,
) -> Float[Tensor, ""]:
    """Minus the squared correlation of the two images in a window around each voxel, averaged over voxels.

    Eq. (6), Zhou 2024; window of 9 after Balakrishnan 2018. Departures from the printed form: a mean with a
    minus sign, since it is minimised; the sums of a window are means, as in the authors' withdrawn code, so
    that ``epsilon`` (intensity to the fourth) has the weight it had there: windows whose intensities vary by
    less than about its fourth root, 0.06, count little. Windows are cut off at the border and averaged over
    the voxels inside, so that no made-up zeros correlate there.

    Computed in float32 (float64 for float64 images), also under autocast. The gradient is in closed form from
    the same box sums.

    Args:
        fixed: the scan.
        warped: the atlas brought onto it, intensities like the scan's (about 0 to 1).
        window: odd width of the cubic window, in voxels.
        epsilon: added to the product of the two variances; keeps constant windows at 0.

    Returns:
        Scalar between -1 (every window linearly related) and 0.
    """
    need_f, need_w = wanted(fixed), wanted(warped)
    with torch.no_grad(), torch.autocast(fixed.device.type, enabled=False):
        f, w = _centred(fixed), _centred(warped)
        inverse = _inverse_counts(f, window)

        def mean(x: Tensor) -> Tensor:
            return _box_sums(x, window).mul_(inverse)

        mean_f, mean_w = mean(f), mean(w)
        variance_f = mean(f * f).addcmul_(mean_f, mean_f, value=-1).clamp_(min=0)
        variance_w = mean(w * w).addcmul_(mean_w, mean_w, value=-1).clamp_(min=0)
        covariance = mean(f * w).addcmul_(mean_f, mean_w, value=-1)
        product = variance_f * variance_w
        bound = product.sqrt()  # rounding can exceed it where a bright region is constant
        covariance.clamp_(-bound, bound)
        ratio = covariance / product.add_(epsilon)
        value = -(covariance * ratio).mean()

        by_f = by_w = None
        if need_f or need_w:
            # The slope of each window's term in its moments, with the window's 1 / count already in it.
            shared = ratio * inverse * (2 / f.numel())
            crossed = -_box_sums(shared, window)
            shared_ratio = ratio.mul_(shared)
            if need_f:
                own = shared_ratio * variance_w
                constant = (own * mean_f).addcmul_(shared, mean_w, value=-1)
                by_f = _box_sums(own, window).mul_(f).addcmul_(crossed, w).sub_(_box_sums(constant, window))
            if need_w:
                own = shared_ratio * variance_f
                constant = (own * mean_w).addcmul_(shared, mean_f, value=-1)
                by_w = _box_sums(own, window).mul_(w).addcmul_(crossed, f).sub_(_box_sums(constant, window))
    return with_gradients(value, (fixed, by_f), (warped, by_w))


def mutual_information(
    fixed: Float[Tensor, "batch 1 x y z"], warped: Float[Tensor, "batch 1 x y z"], bins: int = 32
) -> Float[Tensor, ""]:
    """Minus the mutual information of the two images' intensities, averaged over the batch.

    Eq. (7), Zhou 2024, with a minus sign since it is minimised. The joint histogram is soft: each voxel is
    shared among ``bins`` centres spread evenly over [0, 1] by a Gaussian as wide (standard deviation) as the
    distance between centres, its shares adding up to 1 (Parzen windows, Viola 1997).

    Voxels pass through in blocks, so that no (voxels, bins) matrix of the volume exists; the shares are made
    once more for the gradient. Computed in float32 (float64 for float64 images), also under autocast.

    Args:
        fixed: the scan, intensities in [0, 1]; what lies outside is clamped (and gets no gradient).
        warped: the atlas brought onto it, likewise.
        bins: number of centres.

    Returns:
        Scalar in nats: 0 for independent images, at least -log(bins).
    """
    total = fixed.new_zeros((), dtype=precise(fixed))
    gradients = [torch.zeros_like(x, dtype=precise(x)) if wanted(x) else None for x in (fixed, warped)]
    with torch.no_grad(), torch.autocast(fixed.device.type, enabled=False):
        for sample in range(len(fixed)):
            f, w = fixed[sample].flatten(), warped[sample].flatten()
            joint = _joint_histogram(f, w, bins)
            pointwise = _pointwise_information(joint)
            total -= (joint * pointwise).sum() / len(fixed)
            scale = -1 / (len(fixed) * f.numel())
            views = [None if g is None else g[sample].view(-1) for g in gradients]
            if any(view is not None for view in views):
                _add_information_gradient(f, w, pointwise * scale, views)
    return with_gradients(total, (fixed, gradients[0]), (warped, gradients[1]))


def reconstruction_error(
    image: Float[Tensor, "batch 1 x y z"], reconstruction: Float[Tensor, "batch 1 x y z"]
) -> Float[Tensor, ""]:
    """Mean squared difference between a real scan and the teacher's reconstruction of it, in float32.

    Eq. (10), Zhou 2024. Scalar of at least 0, intensity squared.
    """
    return functional.mse_loss(full_precision(reconstruction), full_precision(image))


def squared_difference(
    fixed: Float[Tensor, "batch 1 x y z"], warped: Float[Tensor, "batch 1 x y z"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the two images' intensities, in float32: VoxelMorph's and CLMorph's own similarity.

    Balakrishnan 2019, Liu 2023. Scalar of at least 0, intensity squared.
    """
    return functional.mse_loss(full_precision(warped), full_precision(fixed))


def _centred(x: Tensor) -> Tensor:
    """Each scan minus its mean: correlations stay, differences of squares lose fewer digits."""
    x = full_precision(x).contiguous()
    return x - x.mean((2, 3, 4), keepdim=True)


def _inverse_counts(x: Tensor, window: int) -> Tensor:
    """One over the number of voxels of the volume in each window, (x, y, z)."""
    ones = [torch.ones(n, dtype=x.dtype, device=x.device) for n in x.shape[2:]]
    a, b, c = (1 / _run_sums(functional.pad(o, [window // 2] * 2), 0, window) for o in ones)
    return a[:, None, None] * b[:, None] * c


def _box_sums(x: Tensor, window: int) -> Tensor:
    """Sum of ``x`` over a cube of ``window`` voxels around each voxel; nothing beyond the border.

    Plain sums of shifted copies, not running totals: no rounding piles up along an axis.
    """
    x = functional.pad(x, [window // 2] * 6)
    for axis in (2, 3, 4):
        x = _run_sums(x, axis, window)
    return x


def _run_sums(x: Tensor, axis: int, window: int) -> Tensor:
    """Sums of ``window`` neighbours along ``axis``, shorter by ``window - 1``, by doubling: 9 = 1 + 8."""
    length = x.shape[axis] - window + 1
    total, reach, size = None, 0, 1
    while True:
        if window & size:
            part = x.narrow(axis, reach, length)
            total = part if total is None else total + part
            reach += size
        if reach == window:
            return total  # type: ignore[return-value]
        kept = x.shape[axis] - size
        x = x.narrow(axis, 0, kept) + x.narrow(axis, size, kept)
        size *= 2


def _blocks(voxels: int, device: torch.device) -> Iterator[slice]:
    """Slices of voxels whose (block, bins) matrices stay in a CPU's cache, or fill a GPU."""
    size = 2**13 if device.type == "cpu" else 2**20
    return (slice(i, i + size) for i in range(0, voxels, size))


def _shares(x: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """How each voxel of ``x`` (n,) is shared among the bins, (n, bins), and the bins' factor in the exponent.

    exp(-(x - c)^2 / (2 s^2)) over its sum is the softmax of (x c - c^2 / 2) / s^2; its slope in x is c / s^2.
    """
    centres = torch.linspace(0, 1, bins, dtype=precise(x), device=x.device)
    slope = centres * (bins - 1) ** 2
    return torch.softmax(torch.outer(x.to(slope.dtype).clamp(0, 1), slope) - slope * centres / 2, 1), slope


def _joint_histogram(fixed: Tensor, warped: Tensor, bins: int) -> Tensor:
    joint = torch.zeros(bins, bins, dtype=precise(fixed), device=fixed.device)
    for block in _blocks(fixed.numel(), fixed.device):
        joint.addmm_(_shares(fixed[block], bins)[0].T, _shares(warped[block], bins)[0])
    return joint / fixed.numel()


def _pointwise_information(joint: Tensor) -> Tensor:
    """log p(i, j) / (p(i) p(j)), finite where a bin is empty."""
    tiny = torch.finfo(joint.dtype).tiny
    logs = joint.clamp(min=tiny).log()
    return logs - joint.sum(1, keepdim=True).clamp(min=tiny).log() - joint.sum(0).clamp(min=tiny).log()


def _add_information_gradient(fixed: Tensor, warped: Tensor, by_joint: Tensor, into: list[Tensor | None]) -> None:
    """Add the gradient through the joint histogram to the flat volumes of ``into`` (fixed's, warped's)."""
    for block in _blocks(fixed.numel(), fixed.device):
        shares_f, slope = _shares(fixed[block], len(by_joint))
        shares_w, _ = _shares(warped[block], len(by_joint))
        for volume, x, own, by_own in (
            (into[0], fixed, shares_f, lambda s=shares_w: s @ by_joint.T),
            (into[1], warped, shares_w, lambda s=shares_f: s @ by_joint),
        ):
            if volume is not None:
                gradient = by_own()
                gradient = own * (gradient - (own * gradient).sum(1, keepdim=True))  # through the softmax
                inside = (x[block] >= 0) & (x[block] <= 1)
                volume[block] = torch.where(inside, gradient @ slope, 0)
