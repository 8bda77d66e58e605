"""How far a distribution of displacements is from its prior."""

from jaxtyping import Float
from torch import Tensor

from soloatlas.losses._common import full_precision


def gaussian_divergence(
    mean: Float[Tensor, "batch 3 x y z"], log_deviation: Float[Tensor, "batch 3 x y z"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of independent Gaussians from N(0, 1), mean over voxels and components.

    With mean m and standard deviation s it is (m^2 + s^2 - 1) / 2 - log s; CLMorph (Liu 2023), whose code divides by
    the number of elements, too. Scalar of at least 0, nats, in float32; displacements count in voxels.

    Args:
        mean: of the displacement, voxels.
        log_deviation: natural logarithm of its standard deviation.
    """
    m, log_s = full_precision(mean), full_precision(log_deviation)
    return ((m.square() + (2 * log_s).exp() - 1) / 2 - log_s).mean()
