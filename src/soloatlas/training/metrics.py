"""metrics.csv: each named loss term along the training."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from soloatlas.atomic import csv_writer, write_csv
from soloatlas.errors import RunError


class MetricsLog:
    """Rows (stage, step, term, value) of metrics.csv: means of each loss term since the last row.

    A term that not every batch has is averaged over those that have it.
    """

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def forget_after(self, step: int) -> None:
        """Drop this stage's rows after ``step``: they will be made again."""
        rows = self._rows()
        kept = [r for r in rows if r[0] != self.stage or int(r[1]) <= step]
        write_csv(self.path, [["stage", "step", "term", "value"], *kept])

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Take up one batch's terms; stays on the device, so nothing waits for it."""
        for name, value in terms.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def flush(self, step: int) -> str:
        """Append the means up to ``step`` and return them as a short text.

        Raises:
            RunError: a term is not finite.
        """
        # In one order, whichever batch came first; the total is the last.
        order = sorted(self.sums, key=lambda name: (name == "total", name))
        means = {name: float(self.sums[name]) / self.counts[name] for name in order}
        wrong = [name for name, value in means.items() if not math.isfinite(value)]
        if wrong:
            raise RunError(
                f"{self.stage}: loss term '{wrong[0]}' is not finite at step {step}; lower the learning rate "
                "or use --set loop.precision=float32, then go on with --resume"
            )
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv_writer(file).writerows([self.stage, step, n, f"{v:.6g}"] for n, v in means.items())
        self.sums, self.counts = {}, {}
        return " ".join(f"{name} {value:.4f}" for name, value in means.items())

    def _rows(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file) if len(row) == 4 and row[1].isdigit()]
