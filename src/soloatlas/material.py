"""What every method is given: the prepared atlas and pool as tensors on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Material:
    """Training data of one study on the working grid; intensities in [0, 1].

    Attributes:
        atlas: (1, 1, x, y, z) float32.
        classes: (1, 1, x, y, z) int16 class map of the atlas, 0 is background.
        pool: (scans, 1, x, y, z) float16, the unlabelled scans.
        names: of the pool's scans, in order.
        class_count: number of classes, background included.
        spacing: mm along each axis.
        pool_classes: (scans, 1, x, y, z) class maps of the pool, for methods that are not one-shot; else None.
    """

    atlas: Tensor
    classes: Tensor
    pool: Tensor
    names: tuple[str, ...]
    class_count: int
    spacing: tuple[float, float, float]
    pool_classes: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the working grid."""
        x, y, z = self.atlas.shape[2:]
        return x, y, z

    @property
    def device(self) -> torch.device:
        """Where the computing happens (the pool may be kept elsewhere)."""
        return self.atlas.device

    def scans(self, items: Sequence[int]) -> Tensor:
        """The pool's scans ``items`` as (batch, 1, x, y, z) float32 on the device."""
        chosen = self.pool[list(items)]
        return chosen.to(self.device, torch.float32, non_blocking=True)


def make_material(
    atlas: np.ndarray,
    classes: np.ndarray,
    scans: Sequence[np.ndarray],
    names: Sequence[str],
    class_count: int,
    spacing: tuple[float, float, float],
    device: torch.device,
    pool_classes: Sequence[np.ndarray] | None = None,
) -> Material:
    """Put prepared (x, y, z) arrays on ``device``; the pool stays in main memory if it would take over
    half of the device's free memory, and so do its class maps, if there are any."""
    pool = torch.empty(len(scans), 1, *atlas.shape, dtype=torch.float16)
    for kept, scan in zip(pool, scans, strict=True):  # one copy of the pool, never two
        kept[0] = torch.from_numpy(scan)
    return Material(
        atlas=torch.from_numpy(atlas).float()[None, None].to(device),
        classes=_class_tensor(classes).to(device),
        pool=pool.to(device) if _fits(pool, device) else pool.pin_memory(),
        names=tuple(names),
        class_count=class_count,
        spacing=spacing,
        pool_classes=torch.stack([_class_tensor(c)[0] for c in pool_classes]) if pool_classes is not None else None,
    )


def _class_tensor(classes: np.ndarray) -> Tensor:
    return torch.from_numpy(classes.astype("int16"))[None, None]


def _fits(pool: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return pool.numel() * pool.element_size() < free / 2
