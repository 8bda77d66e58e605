"""SyN's fields on the working grid, where they stand in for those of a network (``registration.network=syn``).

OS-MedSeg III-A holds that any registration serves; this is the classical one. Settings of SyN are those of the method
``syn``: ANTsPy's defaults.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from soloatlas.classical import Ants, ants_field, write_ants_field
from soloatlas.material import Material
from soloatlas.prepare.cohort import in_processes
from soloatlas.training import Session


def syn_field(moving: Tensor, fixed: Tensor, spacing: Sequence[float]) -> Tensor:
    """Field (1, 3, x, y, z) on the grid of ``fixed`` pointing into ``moving``, voxels, float32.

    Args:
        moving, fixed: (1, 1, x, y, z), on one grid.
        spacing: of the grid, mm.
    """
    field = ants_field(_array(moving), _array(fixed), spacing, Ants())
    return torch.from_numpy(field.astype(np.float32))[None].to(fixed.device)


class SynFields:
    """The fields of the pool by SyN, one file each in the run's folder: made once, read at each use.

    Several processes make them; those that a stopped run has made are not made again. Their time is no part of a
    limited training's: a network could be given less, SyN cannot.
    """

    def __init__(self, material: Material, session: Session) -> None:
        began, folder = time.monotonic(), session.folder / "checkpoints" / "syn"
        self.device, self.paths = material.device, [folder / f"{name}.npy" for name in material.names]
        missing = [item for item, path in enumerate(self.paths) if not path.exists()]
        done = len(self.paths) - len(missing)

        def tell(_: None) -> None:
            nonlocal done
            done += 1
            if session.progress:
                session.progress("register", done, len(self.paths))

        jobs = [(_array(material.pool[item : item + 1]), self.paths[item]) for item in missing]
        work = functools.partial(
            write_ants_field, moving=_array(material.atlas), spacing=material.spacing, settings=Ants()
        )
        in_processes(work, jobs, None, tell)
        if jobs:
            session.paused.append(time.monotonic() - began)

    def __getitem__(self, item: int) -> Tensor:
        """Field (1, 3, x, y, z) of one scan of the pool, voxels, float32."""
        return torch.from_numpy(np.load(self.paths[item]))[None].to(self.device, torch.float32)


def _array(image: Tensor) -> np.ndarray:
    array: np.ndarray = image[0, 0].cpu().numpy()
    return array
