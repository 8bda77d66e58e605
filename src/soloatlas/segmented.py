"""The lists of a folder of segmentations, volumes.csv and segment.json: what a run has written there."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soloatlas.atomic import write_csv, write_json
from soloatlas.data.files import file_sha256, written_name
from soloatlas.errors import InputError
from soloatlas.runs import Run, versions
from soloatlas.transfer import Case

if TYPE_CHECKING:
    from soloatlas.segmentation import Wishes


def write_lists(run: Run, wishes: Wishes, output: Path, found: Sequence[Case], scans: Sequence[Path]) -> None:
    """Write volumes.csv and segment.json: what is there already and not made anew, then what was found, by name.

    Written before the first map, too: segment.json names the files of ``scans``, so that a call that was killed
    may be given again, and a map that somebody else put there is known as theirs. Read again each time: other calls
    may segment other scans into the same folder meanwhile.
    """
    before = _read(output)
    made = {case["case"] for case, _ in found}
    kept = [(case, volumes) for case, volumes in _cases(output, before) if case["case"] not in made]
    every = [*kept, *sorted(found, key=lambda one: str(one[0]["case"]))]
    rows = [[case["case"], *row] for case, volumes in every for row in volumes]
    write_csv(output / "volumes.csv", [["case", "label", "name", "ml"], *rows])
    files = _ours(before) | {written_name(path) for path in scans}
    record = {"run": str(run.folder.resolve()), **asdict(wishes), "files": sorted(files)}
    write_json(output / "segment.json", {**record, "cases": [case for case, _ in every], "versions": versions()})


def remove_empty_lists(output: Path) -> None:
    """Take away the lists of a folder where nothing was segmented."""
    if not _read(output).get("cases"):
        for name in ("volumes.csv", "segment.json"):
            (output / name).unlink(missing_ok=True)


def require_free(run: Run, wishes: Wishes, scans: Sequence[Path], output: Path) -> None:
    """See that nothing is lost: what the folder holds must be segmented by this run in the same way.

    Raises:
        InputError: the folder holds segmentations by another run or with other wishes, or files that the
            segmentations of ``scans`` would overwrite: of others, or corrected by hand.
    """
    record = _read(output)
    names = {written_name(path) for path in scans} - _ours(record)
    foreign = sorted(name for name in names if (output / name).exists())
    if foreign:
        raise InputError(f"--output {output}: holds {foreign[0]}, which is not of this run; choose another folder")
    if not record:
        return
    if record["run"] != str(run.folder.resolve()):
        raise InputError(f"--output {output}: holds segmentations by {record['run']}; choose another folder")
    other = [name for name, value in asdict(wishes).items() if record.get(name) != value]
    if other:
        raise InputError(
            f"--output {output}: holds segmentations with {other[0]} {record.get(other[0])}, not "
            f"{getattr(wishes, other[0])}; choose another folder"
        )
    _volumes(output)
    made = {written_name(path) for path in scans}
    corrected = sorted(case["output"] for case in record["cases"] if case["output"] in made and _changed(output, case))
    if corrected:
        raise InputError(
            f"--output {output}: {corrected[0]} was changed after it was segmented; move it or choose another folder"
        )


def _changed(output: Path, case: dict[str, Any]) -> bool:
    """Whether somebody has changed a map since; not known of those that earlier versions made."""
    path = output / case["output"]
    return "output_sha256" in case and path.exists() and file_sha256(path) != case["output_sha256"]


def _cases(output: Path, record: dict[str, Any]) -> list[Case]:
    """The cases of the lists whose maps are still there."""
    rows = _volumes(output) if record else []
    kept = [case for case in record.get("cases", []) if (output / case["output"]).exists()]
    return [(case, [list(row[1:]) for row in rows if row[0] == case["case"]]) for case in kept]


def all_segmented(run: Path, stage: str, scans: Sequence[Path], output: Path) -> bool:
    """Whether ``output`` holds what the run folder's ``stage`` makes, with no other wish, of every one of ``scans``."""
    record = _read(output)
    made = {**{name: record.get(name) for name in _PLAIN}, "run": record.get("run")}
    if made != {**_PLAIN, "run": str(run.resolve()), "stage": stage}:
        return False
    done = {case["output"]: case["sha256"] for case, _ in _cases(output, record) if not _changed(output, case)}
    return all(done.get(written_name(path)) == file_sha256(path) for path in scans)


_PLAIN = {"stage": "", "flip": False, "largest_component": False, "refine": 0}


def _read(output: Path) -> dict[str, Any]:
    """segment.json of the folder; empty where there is none."""
    try:
        record: dict[str, Any] = json.loads((output / "segment.json").read_text(encoding="utf-8"))
        return record
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(output, error) from error


def _volumes(output: Path) -> list[list[str]]:
    try:
        with (output / "volumes.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]
    except (OSError, ValueError) as error:
        raise _damaged(output, error) from error


def _damaged(output: Path, error: Exception) -> InputError:
    return InputError(f"--output {output}: its lists are damaged ({error}); choose another folder")


def _ours(record: dict[str, Any]) -> set[str]:
    return {*record.get("files", []), *(case["output"] for case in record.get("cases", []))}
