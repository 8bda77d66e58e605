"""A finished run with untrained weights: what segmenting costs does not depend on what was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soloatlas.data.volume import Volume


def write_run(folder: Path, atlas: Volume, labels: Volume, changes: Sequence[str]) -> None:
    """Write a run of OS-MedSeg (preset quick) on ``atlas``, with a student of random weights and no registration.

    Args:
        folder: of the run.
        labels: on the atlas's grid.
        changes: settings, as given to ``--set``.
    """
    import numpy as np
    import torch

    from soloatlas import runs
    from soloatlas.data.labels import label_table
    from soloatlas.methods import os_medseg
    from soloatlas.prepare import finite, working_grid
    from soloatlas.prepare.grids import grid_to_json
    from soloatlas.settings import override, to_dict
    from soloatlas.training import Session

    settings = override(os_medseg.preset("quick"), changes)
    table = label_table([int(v) for v in np.unique(labels.array)], None)
    session = Session(folder, 0, torch.device("cpu"), settings.loop)
    runs.store_atlas(folder, atlas, labels, table)
    runs.save_weights(folder, {"student": os_medseg.build_student(settings, table.classes, session)})
    record = {
        "format": runs.FORMAT,
        "state": "finished",
        "method": os_medseg.METHOD.name,
        "settings": to_dict(settings),
        "seed": 0,
        "grid": grid_to_json(working_grid(finite(atlas), settings.prepare)),
        "versions": runs.versions(),
    }
    runs.write_record(folder, record)
