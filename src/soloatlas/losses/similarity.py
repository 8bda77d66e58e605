"""How alike two images are: local cross-correlation, mutual information, mean squared error."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from soloatlas.losses._common import full_precision, precise, wanted, with_gradients

NODES = 16  # of the tables of mutual information, to a bin


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

    Since the shares depend on the intensity alone, they are tabulated, `NODES` to a distance between centres, and
    taken linearly between: a voxel costs its four corners in the fine joint histogram and in the gradient's table,
    not the square of the bins. Value and gradient are within 1e-3 of the exact ones. Computed in float32 (float64
    for float64 images), also under autocast.

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
        shares, slopes = _tabulated_shares(bins, total)
        for sample in range(len(fixed)):
            f, w = fixed[sample].flatten(), warped[sample].flatten()
            joint = shares.T @ _fine_histogram(f, w, len(shares)) @ shares / f.numel()
            pointwise = _pointwise_information(joint)
            total -= (joint * pointwise).sum() / len(fixed)
            by_joint = pointwise * (-1 / (len(fixed) * f.numel()))
            tables = (slopes @ by_joint @ shares.T, shares @ by_joint @ slopes.T)
            for x, table, gradient in zip((f, w), tables, gradients, strict=True):
                if gradient is not None:
                    gradient[sample] = _looked_up(table, f, w).mul_((x >= 0) & (x <= 1)).view(gradient[sample].shape)
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


def _tabulated_shares(bins: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """How each of the intensities 0 to 1, `NODES` to a bin, is shared among the bins, and the shares' slopes.

    exp(-(x - c)^2 / (2 s^2)) over its sum is the softmax of (x c - c^2 / 2) / s^2. Both (nodes, bins).
    """
    centres = torch.linspace(0, 1, bins, dtype=like.dtype, device=like.device)
    nodes = torch.linspace(0, 1, NODES * (bins - 1) + 1, dtype=like.dtype, device=like.device)
    steepness = centres * (bins - 1) ** 2
    shares = torch.softmax(torch.outer(nodes, steepness) - steepness * centres / 2, 1)
    slopes = shares * (steepness - (shares @ steepness)[:, None])
    return _for_linear_use(shares), _for_linear_use(slopes)


def _for_linear_use(table: Tensor) -> Tensor:
    """``table`` less a twelfth of its second differences: what linear interpolation adds to it on average."""
    table = table.clone()
    table[1:-1] -= table.diff(n=2, dim=0) / 12
    return table


def _corners(fixed: Tensor, warped: Tensor, nodes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Where in a flat (nodes, nodes) table each pair of intensities lies: four places, and what each counts."""
    (i, a), (j, b) = (_between(x, nodes) for x in (fixed, warped))
    first, ab = i * nodes + j, a * b
    yield first, 1 - a - b + ab
    yield first + 1, b - ab
    yield first + nodes, a - ab
    yield first + nodes + 1, ab


def _between(x: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Number of the node at or below each intensity (clamped to [0, 1]), and how far it is to the next, 0 to 1."""
    place = x.to(precise(x)).clamp(0, 1) * (nodes - 1)
    node = place.nan_to_num().floor().clamp(max=nodes - 2)  # NaN stays in what it counts
    return node.long(), place - node


def _blocks(*flat: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some of the voxels after the other, so that their numbers stay in a CPU's cache."""
    size = 2**16 if flat[0].device.type == "cpu" else 2**24
    return zip(*(x.split(size) for x in flat), strict=True)


def _fine_histogram(fixed: Tensor, warped: Tensor, nodes: int) -> Tensor:
    """Joint histogram (nodes, nodes), each voxel shared linearly among the four nodes around it."""
    # float64: a million equal parts of a voxel, those of a constant background, do not add up in float32.
    flat = torch.zeros(nodes**2, dtype=torch.float64, device=fixed.device)
    for f, w in _blocks(fixed, warped):
        for place, counts in _corners(f, w, nodes):
            flat.index_add_(0, place, counts.double())
    return flat.view(nodes, nodes).to(precise(fixed))


def _looked_up(table: Tensor, fixed: Tensor, warped: Tensor) -> Tensor:
    """A (nodes, nodes) table at each pair of intensities, taken linearly between nodes; flat like them."""
    out = torch.zeros(fixed.shape, dtype=table.dtype, device=table.device)
    for into, f, w in _blocks(out, fixed, warped):
        for place, counts in _corners(f, w, len(table)):
            into.addcmul_(table.view(-1)[place], counts)
    return out


def _pointwise_information(joint: Tensor) -> Tensor:
    """log p(i, j) / (p(i) p(j)), finite where a bin is empty."""
    tiny = torch.finfo(joint.dtype).tiny
    logs = joint.clamp(min=tiny).log()
    return logs - joint.sum(1, keepdim=True).clamp(min=tiny).log() - joint.sum(0).clamp(min=tiny).log()
