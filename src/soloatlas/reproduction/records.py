"""The records that `reproduce` wrote, read again: for the claims, the listing and the pages of results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from soloatlas.errors import InputError


def recorded_tables(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(path, content) of every table's record under ``results/<cohort>/``, by path; other JSON is passed over.

    Raises:
        InputError: a file is not JSON.
    """
    for path in sorted(results.glob("*/*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); remove it or run reproduce again") from error
        if isinstance(content, dict) and {"id", "cohort", "rows"} <= set(content):
            yield path, content


def cohort_of(record: Mapping[str, Any]) -> str:
    """The cohort of a record, and what tells it from others of the same table there."""
    return "-".join(filter(None, (record["cohort"], record.get("tag", ""))))


def form_of(cohort: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that a cohort is, or is a form of ("bcv-code" of "bcv"); None where it is none."""
    return next((name for name in names if cohort == name or cohort.startswith(f"{name}-")), None)
