"""Figures drawn from finished runs: one drawing a file.

A drawing is a module with ``draw(sheet, of, rows)``: it fills an empty matplotlib figure from the rows of a table or
figure of a paper and returns, ready for JSON, what it shows; ``caption`` among it says how to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from soloatlas.reproduction.row_run import Finished
from soloatlas.reproduction.rows import Pictures, Table


def drawn(of: Table | Pictures, rows: Sequence[Finished], stem: Path) -> dict[str, Any]:
    """Draw into ``stem.png`` and ``stem.svg``, and return what is shown.

    Raises:
        InputError: a run lacks what is to be drawn.
    """
    from soloatlas.reproduction.drawings.sheet import new_sheet, save

    module = import_module(f"soloatlas.reproduction.drawings.{of.drawing}")
    with new_sheet() as sheet:
        shown: dict[str, Any] = module.draw(sheet, of, rows)
        save(sheet, stem)
    return shown
