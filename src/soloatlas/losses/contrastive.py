"""Agreement between a scan's features and the atlas's, against other scans."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def contrastive(
    h_unlabelled: Float[Tensor, "batch features"],
    h_atlas: Float[Tensor, "batch features"],
    temperature: float = 0.5,
    negatives: Float[Tensor, "others features"] | None = None,
) -> Float[Tensor, ""]:
    """Minus the logarithm of the pair (atlas, scan)'s share among the scan's similarities, mean over scans.

    Eq. (2), Zhou 2024, after NT-Xent (Chen 2020). The printed equation has the same similarity in every
    term of the sum; it is read as the text around it says: the pair is (x, y_i), the negatives are the other
    scans. With u = h_unlabelled, a = h_atlas and cosines sim, scan i contributes

        -log  exp(sim(u_i, a_i) / t) / (exp(sim(u_i, a_i) / t) + sum over j != i of exp(sim(u_i, u_j) / t)).

    Plain NT-Xent would also take the atlas's copies in the batch as negatives of each other: with one atlas
    their cosine is always 1, and the loss hardly moves between its best value, 1.05 for two scans, and full
    collapse, log 3. Nor is the atlas an anchor: every scan of the batch would be its positive in one term and
    its negative in the others, which cancels.

    Args:
        h_unlabelled: features of the batch's scans.
        h_atlas: features of the atlas, one row per scan (equal rows for one atlas).
        temperature: t; the paper gives none, 0.5 is NT-Xent's usual value.
        negatives: features of scans seen earlier, taken as further negatives of every scan (detach them); the
            caller leaves out the batch's own scans.

    Returns:
        Scalar of at least 0. A batch of one without ``negatives`` has nothing to be told from: the loss and
        its gradient are 0.
    """
    with torch.autocast(h_unlabelled.device.type, enabled=False):
        u, a = _unit(h_unlabelled), _unit(h_atlas)
        positive = (u * a).sum(1, keepdim=True) / temperature
        others = (u @ u.T / temperature).masked_fill(torch.eye(len(u), dtype=torch.bool, device=u.device), -torch.inf)
        similarities = [positive, others]
        if negatives is not None:
            similarities.append(u @ _unit(negatives).T / temperature)
        return (torch.logsumexp(torch.cat(similarities, 1), 1, keepdim=True) - positive).mean()


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)
