"""Trust without ground truth: what the fields do, and what the working grid can hold at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.data.volume import Volume

if TYPE_CHECKING:
    from torch import Tensor

    from soloatlas.material import Material
    from soloatlas.prepare import PreparedStudy


Register = Callable[["Tensor", "Tensor"], "Tensor"]  # (moving, fixed) to the field on fixed's grid


def describe_field(
    material: Material, item: int, field: Tensor, reverse: Register | None = None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Measures of the field to one scan of the pool, and its pair as small arrays.

    Args:
        material: the prepared study; ``item`` one of its pool.
        field: (1, 3, x, y, z) on the scan's grid, pointing into the atlas, voxels.
        reverse: finds the field from the warped atlas back to the atlas, for methods that learn one.

    Returns:
        (row, pair): folding in % of voxels, SDlogJ, mean displacement in mm, local correlation with the
        scan before and after, and with ``reverse`` how far a voxel ends from home (mean, mm, over voxels
        that stay within the grid); and ``real``, ``synthetic`` (uint8, 0-255), ``classes`` (int16) and
        ``jacobian`` (float16), each (x, y, z).
    """
    import torch

    from soloatlas import fields
    from soloatlas.losses.similarity import local_cross_correlation

    with torch.inference_mode():
        scan = material.scans([item])
        warped = fields.warp(material.atlas, field)
        mm = field * torch.tensor(material.spacing, device=field.device).view(1, 3, 1, 1, 1)
        row = {
            "folding_percent": 100 * float(fields.folding_fraction(field)),
            "sd_log_jacobian": float(fields.sd_log_jacobian(field)),
            "mean_displacement_mm": float(mm.norm(dim=1).mean()),
            "similarity_before": -float(local_cross_correlation(scan, material.atlas)),
            "similarity_after": -float(local_cross_correlation(scan, warped)),
        }
        if reverse:
            row["inverse_error_mm"] = _inverse_error(field, reverse(warped, material.atlas), material.spacing)
        pair = {
            "real": _bytes(scan),
            "synthetic": _bytes(warped),
            "classes": fields.warp_labels(material.classes, field)[0, 0].cpu().numpy(),
            "jacobian": fields.jacobian_determinant(field)[0].half().cpu().numpy(),
        }
    return {k: round(v, 5) for k, v in row.items()}, pair


def _inverse_error(forward: Tensor, backward: Tensor, spacing: Sequence[float]) -> float:
    import torch

    from soloatlas.losses.cycle import inverse_residual, stays_inside

    mm = torch.tensor(tuple(spacing), device=forward.device).view(1, 3, 1, 1, 1)
    length = (inverse_residual(forward, backward) * mm).norm(dim=1, keepdim=True)
    inside = stays_inside(forward)
    return float((length * inside).sum() / inside.sum().clamp(min=1))


def _bytes(image: Tensor) -> np.ndarray:
    array: np.ndarray = (image[0, 0].clamp(0, 1) * 255).round().byte().cpu().numpy()
    return array


def ceiling(prepared: PreparedStudy, labels: Volume) -> dict[str, Any]:
    """What no method can exceed on this working grid: the atlas's labels taken there and back.

    Returns:
        ``mean_dice`` and ``dice`` by label name.
    """
    import torch

    from soloatlas.evaluation import evaluate_case
    from soloatlas.fields import identity
    from soloatlas.inference import native_classes, warped_atlas_probabilities

    classes = torch.from_numpy(prepared.atlas_labels.astype("int16"))[None, None]
    still = torch.zeros_like(identity(classes.shape[2:], torch.zeros(())))
    maps = warped_atlas_probabilities(classes, still, prepared.table.classes)
    back = prepared.table.decode(native_classes(maps, prepared.atlas.placement))
    values = prepared.table.values[1:]
    scores = evaluate_case(Volume(back, labels.grid, labels.path), labels, values)
    dice = {
        name: round(scores[value]["dice"], 4)
        for value, name in zip(values, prepared.table.names[1:], strict=True)
        if scores.get(value, {}).get("dice") is not None
    }
    return {"mean_dice": round(float(np.mean(list(dice.values()))), 4), "dice": dice}
