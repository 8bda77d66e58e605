"""Reading what a run and its evaluations left behind; what is missing or damaged is said, not fatal."""

from __future__ import annotations

import csv
import json
import logging
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soloatlas.data.labels import LabelTable
from soloatlas.errors import InputError
from soloatlas.runs import read_record

log = logging.getLogger("soloatlas")

# stage -> term -> points (step, value), in the order of training
Curves = dict[str, dict[str, list[tuple[int, float]]]]

STAGE_NAMES = {"register": "Atlas labels warped", "student": "Student"}


@dataclass(frozen=True, eq=False)
class Sample:
    """One pair of the pool on the working grid, each array (x, y, z), axes RAS+."""

    real: np.ndarray  # uint8
    synthetic: np.ndarray  # uint8
    classes: np.ndarray  # class indices
    jacobian: np.ndarray  # determinant; 1 keeps volume, 0 and less folds


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A folder that `evaluate` wrote.

    Attributes:
        name: what was scored, for headings.
        folder: where metrics.json lies; ``result`` is its content.
        segmentation: content of segment.json beside the predictions, or empty.
    """

    name: str
    folder: Path
    result: dict[str, Any]
    segmentation: dict[str, Any]


CERTAIN, CONFUSED = 0.95, 0.55  # shares of patches that a discriminator judges rightly


@dataclass(frozen=True, eq=False)
class Contents:
    """A run folder, as far as it can be read. ``missing`` maps a file name to why it cannot be shown."""

    folder: Path
    record: dict[str, Any]
    table: LabelTable | None
    curves: Curves
    fields: list[dict[str, Any]]
    samples: list[Sample]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.record.get("state") == "finished"

    def setting(self, key: str, default: Any = None) -> Any:
        """The setting of a dotted key, or ``default`` where the method has none."""
        value: Any = self.record.get("settings", {})
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def game(self) -> dict[str, float]:
        """How sure an adversarial run's discriminator was; empty where there was none.

        ``certain``: share of the rows of metrics.csv (each a mean over some steps) in which it judged over 95 % of
        the patches rightly; ``confused``: below 55 %. Mean and standard deviation of the share judged rightly.
        """
        right = np.array([value for terms in self.curves.values() for _, value in terms.get("D right", [])])
        if not right.size:
            return {}
        return {
            "certain": float(np.mean(right > CERTAIN)),
            "confused": float(np.mean(right < CONFUSED)),
            "mean_right": float(right.mean()),
            "sd_right": float(right.std()),
        }

    def field_means(self) -> dict[str, float]:
        """Mean over the pool of each column of fields.csv; empty where there are no fields."""
        columns = [key for key in (self.fields[0] if self.fields else {}) if key != "scan"]
        return {key: float(np.mean([row[key] for row in self.fields])) for key in columns}


def read_contents(folder: Path) -> Contents:
    """Read a run folder.

    Raises:
        InputError: run.json is missing, damaged or of another version.
    """
    record = read_record(folder)
    missing: dict[str, str] = {}

    def attempt(name: str, read: Any, empty: Any) -> Any:
        path = folder / name
        if not path.is_file():
            missing[name] = "not written yet" if record.get("state") != "finished" else "not in the run folder"
            return empty
        try:
            return read(path)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            missing[name] = f"cannot be read ({type(error).__name__})"
            return empty

    return Contents(
        folder=folder,
        record=record,
        table=attempt("labels.json", _read_table, None),
        curves=attempt("metrics.csv", _read_curves, {}),
        fields=attempt("fields.csv", _read_fields, []),
        samples=attempt("samples.npz", _read_samples, []),
        missing=missing,
    )


def _read_table(path: Path) -> LabelTable:
    return LabelTable.from_json(json.loads(path.read_text(encoding="utf-8")))


def _read_curves(path: Path) -> Curves:
    curves: Curves = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            point = int(row["step"]), float(row["value"])
            curves.setdefault(row["stage"], {}).setdefault(row["term"], []).append(point)
    return curves


def _read_fields(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v if k == "scan" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _read_samples(path: Path) -> list[Sample]:
    with path.open("rb") as file, np.load(file) as arrays:
        kinds = ("real", "synthetic", "classes", "jacobian")
        numbers = sorted(int(key.removeprefix("real_")) for key in arrays.files if key.startswith("real_"))
        return [Sample(*(arrays[f"{kind}_{i}"] for kind in kinds)) for i in numbers]


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """Read the folders that `evaluate` wrote.

    Raises:
        InputError: one holds no metrics.json, or a damaged one.
    """
    found = [_read_evaluation(folder) for folder in folders]
    names = [evaluation.name for evaluation in found]
    return [
        e if names.count(e.name) == 1 else Evaluation(f"{e.name} ({e.folder.name})", e.folder, e.result, e.segmentation)
        for e in found
    ]


def require_scores_of(run: Path, folders: Sequence[Path]) -> None:
    """See that evaluations are of segmentations that ``run`` made, as far as these say who made them.

    Raises:
        InputError: one is of another run, which still is where it was.
    """
    for evaluation in read_evaluations(folders):
        maker = evaluation.segmentation.get("run")
        if maker and Path(maker) != run.resolve() and (Path(maker) / "run.json").exists():
            raise InputError(f"--evaluation {evaluation.folder}: scores segmentations by {maker}, not by {run}")
        if not maker:
            log.warning("%s: does not say which run made what it scores; shown as this run's", evaluation.folder)


def _read_evaluation(folder: Path) -> Evaluation:
    path = folder / "metrics.json"
    if not path.is_file():
        raise InputError(f"{folder}: holds no metrics.json; give the --output of soloatlas evaluate")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        _ = result["mean_dice"], result["labels"], result["cases"], result["case_means"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged; run soloatlas evaluate again") from error
    segmentation = _read_segmentation(Path(result.get("predictions", "")))
    name = STAGE_NAMES.get(segmentation.get("stage", ""), folder.name or str(folder))
    if steps := segmentation.get("refine"):
        name += f", refined by {steps} steps"
    return Evaluation(name, folder, result, segmentation)


def _read_segmentation(predictions: Path) -> dict[str, Any]:
    folder = predictions if predictions.is_dir() else predictions.parent
    try:
        content = json.loads((folder / "segment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def finite(values: Sequence[float]) -> list[float]:
    """The values that are numbers."""
    return [value for value in values if math.isfinite(value)]
