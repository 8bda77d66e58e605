"""A folder of predictions against a folder of truths: matching, scoring in parallel, tables."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from soloatlas import atomic
from soloatlas.data.files import list_scans, read_labels, scan_name
from soloatlas.data.labels import Names, read_label_names, relabel, united_sides, without_side
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError, RunError
from soloatlas.evaluation.scores import (
    ABSENT,
    EXTRA,
    METRICS,
    MISSING,
    NOT_CONTOURED,
    SCORED,
    evaluate_case,
    values_present,
)
from soloatlas.evaluation.statistics import summarise
from soloatlas.machine import cores, worker_pool

log = logging.getLogger("soloatlas")

Scores = dict[int, dict[str, Any]]
COLUMNS = ("case", "label", "name", *METRICS, "volume_truth_ml", "volume_prediction_ml", "status")


def evaluate(
    predictions: str | Path,
    truth: str | Path | Sequence[Path],
    output: str | Path | None,
    label_names: str | Path | None = None,
    labels: Collection[int] | None = None,
    not_contoured_if_absent: Collection[int] = (),
    tolerance_mm: float = 1.0,
    unite_sides: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score predicted label maps against true ones; write ``metrics.csv`` and ``metrics.json`` to ``output``.

    Args:
        predictions: a file, or a folder whose files bear the names of the truths (or ``<name>_0000``).
        truth: a file, a folder, or a list of files. Every truth needs a prediction; predictions without a
            truth are only named.
        output: folder for the two tables, or ``None`` to write nothing.
        label_names: table of label names, in any form `read_label_names` knows; default: the names in the
            ``volumes.csv`` that `segment` wrote beside its maps, if they are such.
        labels: label values to score; default: all that occur in any truth or prediction.
        not_contoured_if_absent: label values that are not scored in a case whose truth lacks them.
        tolerance_mm: tolerance of the NSD, mm.
        unite_sides: score left and right as one structure, under the left one's value (LT-Net, Table 4).
        workers: processes; 1 works in this process; default: one per four cases, at most one per core.
        progress: called with (cases done, cases in all).

    Returns:
        The content of ``metrics.json``: mean, population sd, min, max and bootstrap interval of the case
        means of each metric, ``labels`` (the same per structure), ``cases`` (case -> label value -> scores),
        ``case_means``, ``counts``, and the rule in words. What was not scored is ``None``.

    Raises:
        InputError: a missing prediction, different grids, an unreadable file, a wrong label or tolerance, sides
            to unite that no name tells apart, or an ``output`` that is a run.
        RunError: the tables cannot be written, or a worker process was killed.
    """
    _check_request(labels, not_contoured_if_absent, tolerance_mm)
    names = _names(Path(predictions), label_names)
    united = united_sides(names) if unite_sides else {}
    if unite_sides and not united:
        raise InputError("--unite-sides: no structure has a left and a right name; give --label-names, or leave it out")
    labels = None if labels is None else {united.get(value, value) for value in labels}
    given = Path(truth) if isinstance(truth, str) else truth
    pairs, unused = match_files(Path(predictions), given)
    if output is not None:
        _require_free(Path(output))
    if isinstance(given, Path) and (given / "segment.json").exists():
        log.warning("%s: the true labels are segmentations by soloatlas; are the two folders swapped?", given)
    score = partial(
        _score_pair,
        labels=labels,
        tolerance_mm=tolerance_mm,
        not_contoured=frozenset(not_contoured_if_absent),
        united=united,
    )
    results = _each(score, list(pairs.values()), workers, progress)
    cases = _with_absent(dict(zip(pairs, results, strict=True)), not_contoured_if_absent)
    if labels is not None:
        _refuse_unseen(labels, cases)
    described = {value: names[value][0] if value in names else f"label {value}" for value in _values(cases)}
    described |= {value: " ".join(without_side(described[value])) for value in united.values() if value in described}
    content = {
        **_summary(cases, described),
        "rule": rule(tolerance_mm, labels, not_contoured_if_absent, unite_sides),
        "tolerance_mm": float(tolerance_mm),
        "predictions": str(Path(predictions).absolute()),
        "truth": str(given.absolute()) if isinstance(given, Path) else [str(path.absolute()) for path in given],
        "predictions_without_truth": unused,
        "soloatlas": _version(),
    }
    if output is not None:
        atomic.write_csv(Path(output) / "metrics.csv", _rows(cases, described))
        atomic.write_json(Path(output) / "metrics.json", content)
    return content


def _names(predictions: Path, table: str | Path | None) -> Names:
    """Names by label value: of the table given, else as `segment` called its structures beside the maps."""
    if table:
        return read_label_names(Path(table))
    volumes = predictions / "volumes.csv"
    if not (volumes.is_file() and (predictions / "segment.json").is_file()):
        return {}
    with volumes.open(newline="", encoding="utf-8") as file:
        return {int(row["label"]): (row["name"], None) for row in csv.DictReader(file)}


def _require_free(output: Path) -> None:
    """Refuse a folder that cannot be written, or whose own metrics.csv would be lost."""
    if (output / "run.json").exists():
        raise InputError(f"--output {output}: is a run, whose metrics.csv tells of its training; choose another folder")
    atomic.require_writable(output)


def kept_scores(content: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps of `evaluate`'s content: the cohort's means, sd, min and max, each case's DSC and HD95."""
    kept = {key: value for key, value in content.items() if key.split("_")[0] in ("mean", "sd", "min", "max")}
    for metric in ("dice", "hd95_mm"):
        kept[f"case_{metric}"] = {case: means[metric] for case, means in content["case_means"].items()}
    return kept


def match_files(predictions: Path, truth: Path | Sequence[Path]) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Pair predictions and truths by name: case -> (prediction, truth), and the predictions without a truth.

    Two single files are a pair whatever their names. A prediction named ``<case>_0000`` (nnU-Net's name of
    the case's image) matches the truth ``<case>``.

    Raises:
        InputError: a missing file or folder, two files of one name, or a truth without a prediction.
    """
    if predictions.is_file() and isinstance(truth, Path) and truth.is_file():
        return {scan_name(truth): (predictions, truth)}, []
    predicted = _by_name(predictions)
    true = _by_name(truth) if isinstance(truth, Path) else {scan_name(path): path for path in truth}
    pairs = {case: (predicted.get(case) or predicted.get(f"{case}_0000"), path) for case, path in true.items()}
    missing = [case for case, (path, _) in pairs.items() if path is None]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise InputError(f"{predictions}: no prediction for {shown}; predict every case of the truth first")
    found = {case: (path, true_path) for case, (path, true_path) in pairs.items() if path is not None}
    used = {path for path, _ in found.values()}
    return found, sorted(name for name, path in predicted.items() if path not in used)


def rule(
    tolerance_mm: float, labels: Collection[int] | None, not_contoured_if_absent: Collection[int], unite_sides: bool
) -> str:
    """How the numbers of a table were made, in words that go with the table."""
    scored = f"labels {_listed(labels)}" if labels is not None else "all labels of truths and predictions"
    undrawn = _listed(not_contoured_if_absent)
    exception = f" Labels {undrawn} are not scored where the truth lacks them." if undrawn else ""
    sides = " Left and right are one structure." if unite_sides else ""
    return (
        f"Scored: {scored}.{sides} DSC; HD95: the larger of the two directed 95th percentiles of surface distances, "
        f"mm; ASSD, mm; NSD at {tolerance_mm:g} mm. Surface: voxels with a 6-neighbour outside the mask. "
        "A structure absent in truth and prediction is not scored; one present in only one of them has "
        f"DSC and NSD 0 and the image diagonal as distances.{exception} Mean over labels per case, then over "
        "cases; population standard deviation; 95% percentile bootstrap interval over cases."
    )


def _listed(values: Collection[int] | None) -> str:
    return ", ".join(str(value) for value in sorted(values or ()))


def _check_request(labels: Collection[int] | None, undrawn: Collection[int], tolerance_mm: float) -> None:
    if labels is not None and not labels:
        raise InputError("labels: the list is empty; name at least one label value, or leave it out to score all")
    given = [*(labels or ()), *undrawn]
    strange = [value for value in given if not isinstance(value, (int, np.integer))]
    if strange:
        raise InputError(f"labels: {strange[0]!r} is not a whole number; give label values such as [1, 3, 4]")
    wrong = sorted(value for value in given if value <= 0)
    if wrong:
        raise InputError(f"label {wrong[0]} cannot be scored: label values are positive and 0 is the background")
    if not 0 <= tolerance_mm < float("inf"):
        raise InputError(f"tolerance {tolerance_mm} mm: give a distance of 0 or more")


def _refuse_unseen(labels: Collection[int], cases: dict[str, Scores]) -> None:
    """Refuse a label to score that no truth and no prediction has: a slip, or a table of another cohort."""
    unseen = {value for value in labels if all(scores[value]["status"] == ABSENT for scores in cases.values())}
    if unseen == set(labels):
        raise InputError(f"labels {_listed(unseen)}: in no truth and no prediction; name labels that are there")
    if unseen:
        log.warning("labels %s: in no truth and no prediction, so not scored", _listed(unseen))


def _by_name(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in [path] if path.is_file() else list_scans(path):
        name = scan_name(file)
        if name in found:
            raise InputError(f"{file} and {found[name].name} have the same name; keep one of them")
        found[name] = file
    return found


def _score_pair(
    pair: tuple[Path, Path],
    labels: Collection[int] | None,
    tolerance_mm: float,
    not_contoured: frozenset[int],
    united: Mapping[int, int],
) -> Scores:
    prediction, truth = (_with_united(read_labels(path), united) for path in pair)
    values = values_present(prediction.array, truth.array) if labels is None else set(labels)
    return evaluate_case(prediction, truth, sorted(values), tolerance_mm, not_contoured)


def _with_united(volume: Volume, united: Mapping[int, int]) -> Volume:
    if not united:
        return volume
    one = {value: united.get(value, value) for value in values_present(volume.array)}
    return replace(volume, array=relabel(volume.array, one)) if one else volume


def _each(
    score: Callable[[tuple[Path, Path]], Scores],
    pairs: Sequence[tuple[Path, Path]],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[Scores]:
    """``score`` of every pair, in order. Starting a process costs about as much as scoring a few cases."""
    from concurrent.futures.process import BrokenProcessPool

    count = workers or max(1, min(cores(), len(pairs) // 4))
    if count == 1:
        return _collect(map(score, pairs), len(pairs), progress)
    try:
        with worker_pool(count) as pool:
            return _collect(pool.map(score, pairs), len(pairs), progress)
    except BrokenProcessPool as error:
        raise RunError("a scoring process was killed (memory?); run again with fewer workers") from error


def _collect(results: Iterable[Scores], total: int, progress: Callable[[int, int], None] | None) -> list[Scores]:
    done = []
    for result in results:
        done.append(result)
        if progress:
            progress(len(done), total)
    return done


def _values(cases: dict[str, Scores]) -> list[int]:
    return sorted({value for scores in cases.values() for value in scores})


def _with_absent(cases: dict[str, Scores], undrawn: Collection[int]) -> dict[str, Scores]:
    """Every case with every label of the cohort: a label found in other cases only is absent here."""
    empty = dict.fromkeys(METRICS) | {"volume_truth_ml": 0.0, "volume_prediction_ml": 0.0}
    return {
        case: {
            value: scores.get(value, empty | {"status": NOT_CONTOURED if value in undrawn else ABSENT})
            for value in _values(cases)
        }
        for case, scores in cases.items()
    }


def _mean(values: Iterable[float | None]) -> float | None:
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None


def _summary(cases: dict[str, Scores], names: dict[int, str]) -> dict[str, Any]:
    means = {
        case: {metric: _mean(row[metric] for row in scores.values()) for metric in METRICS}
        for case, scores in cases.items()
    }
    content: dict[str, Any] = {}
    for metric in METRICS:
        content |= summarise(metric, [mean[metric] for mean in means.values()])
    rows = [row for scores in cases.values() for row in scores.values()]
    content |= {"counts": {"cases": len(cases), "labels": len(names), **_counts(rows)}}
    content["labels"] = {str(value): _label_summary(cases, value, name) for value, name in names.items()}
    content["case_means"] = means
    content["cases"] = {case: {str(v): row for v, row in scores.items()} for case, scores in cases.items()}
    return content


def _label_summary(cases: dict[str, Scores], value: int, name: str) -> dict[str, Any]:
    rows = [scores[value] for scores in cases.values()]
    summary: dict[str, Any] = {"name": name, **_counts(rows)}
    for metric in METRICS:
        summary |= summarise(metric, [row[metric] for row in rows])
    return summary


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Scored (missing and extra included), missing, extra and unscored structures."""
    of = {status: sum(row["status"] == status for row in rows) for status in (SCORED, MISSING, EXTRA)}
    scored = sum(of.values())
    return {"scored": scored, "missing": of[MISSING], "extra": of[EXTRA], "unscored": len(rows) - scored}


def _rows(cases: dict[str, Scores], names: dict[int, str]) -> Iterator[list[Any]]:
    """The lines of metrics.csv, titles first."""
    yield list(COLUMNS)
    for case, scores in cases.items():
        for value, row in scores.items():
            cells = {"case": case, "label": value, "name": names[value], **row}
            yield [_cell(cells[column]) for column in COLUMNS]


def _cell(value: Any) -> Any:
    return f"{value:.6f}" if isinstance(value, float) else value


def _version() -> str:
    import soloatlas

    return str(getattr(soloatlas, "__version__", "unknown"))
