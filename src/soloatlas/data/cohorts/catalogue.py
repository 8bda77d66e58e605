"""The public data sets, by name."""

from __future__ import annotations

import difflib

from soloatlas.data.cohorts.abdomen import ABDOMENCTCT, BCV, BTCV
from soloatlas.data.cohorts.candi import CANDI
from soloatlas.data.cohorts.dataset import Dataset
from soloatlas.data.cohorts.decathlon import MSD
from soloatlas.data.cohorts.oasis import OASIS, OASIS_L2R
from soloatlas.data.cohorts.verse import VERSE20
from soloatlas.errors import InputError

DATASETS = {dataset.name: dataset for dataset in (OASIS, OASIS_L2R, BCV, ABDOMENCTCT, BTCV, VERSE20, CANDI, MSD)}


def find_dataset(name: str) -> Dataset:
    """The data set called ``name``.

    Raises:
        InputError: there is none; the nearest name is told.
    """
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"{name}: not a data set; {hint}known: {', '.join(DATASETS)}")
    return DATASETS[name]
