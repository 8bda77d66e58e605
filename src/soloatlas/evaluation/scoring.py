"""How the scans of a study are scored, where every run of it has to be scored alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from soloatlas.data.study import Study
from soloatlas.evaluation.cohort import evaluate


@dataclass(frozen=True)
class Scoring:
    """What `evaluate` is told of a study.

    Attributes:
        labels: values to score; None: all.
        not_contoured_if_absent: values that are not scored in a scan whose truth lacks them.
        unite_sides: left and right are scored as one structure.
    """

    labels: tuple[int, ...] | None = None
    not_contoured_if_absent: tuple[int, ...] = ()
    unite_sides: bool = False

    def in_words(self) -> str:
        """What is scored, for a caption."""
        listed = ", ".join(map(str, self.labels or ()))
        undrawn = ", ".join(map(str, self.not_contoured_if_absent))
        parts = [f"labels {listed}" if listed else "every label"]
        if undrawn:
            same = undrawn == listed
            parts.append(f"{'each' if same else f'labels {undrawn}'} left out of a scan whose truth lacks it")
        if self.unite_sides:
            parts.append("left and right as one")
        return ", ".join(parts)


EVERY_LABEL = Scoring()  # in every scan


def score_study(
    predictions: Path, study: Study, scoring: Scoring = EVERY_LABEL, output: Path | None = None
) -> dict[str, Any]:
    """Score segmentations of a study's test scans; the content of ``metrics.json``, see `evaluate`.

    Args:
        predictions: folder whose files bear the names of the test labels.
        study: with labelled test scans.
        scoring: how.
        output: folder for the tables; None: none are written.

    Raises:
        InputError, RunError: as `evaluate` does.
    """
    return evaluate(predictions, study.test_labels, output, label_names=study.label_names, **asdict(scoring))
