"""The command that lists the public data sets, checks a user's copy, and makes a cohort of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soloatlas.command_parts import FOLDER, watched
from soloatlas.errors import InputError

if TYPE_CHECKING:
    from soloatlas.data.check import Finding
    from soloatlas.data.cohorts.dataset import Dataset, Found


@click.command()
@click.argument("name", required=False)
@click.option("--data", type=FOLDER, help="Your copy of the data set NAME: check it.")
@click.option("--output", type=FOLDER, help="Make a cohort of it in this folder (with --data).")
@click.option("--split", help="Which split of the data set, for --output (default: the first listed).")
@click.option("--atlas", help="Which scan of the pool is the atlas, for --output (default: choose-atlas).")
@click.option("--json", "as_json", is_flag=True)
@watched
def datasets(
    name: str | None,
    data: Path | None,
    output: Path | None,
    split: str | None,
    atlas: str | None,
    as_json: bool,
    progress: Any,
) -> None:
    """List the papers' public data sets, or tell all of NAME; check your copy of it, and make a cohort of it."""
    from soloatlas.data.cohorts.catalogue import DATASETS, find_dataset

    asked = {"--data": data, "--output": output, "--split": split, "--atlas": atlas}
    lacking = [option for option, value in asked.items() if value is not None]
    if name is None:
        if lacking:
            raise InputError(f"{lacking[0]}: name the data set, one of {', '.join(DATASETS)}")
        _list(list(DATASETS.values()), as_json)
        return
    dataset = find_dataset(name)
    if data is None:
        if lacking:
            raise InputError(f"{lacking[0]} needs your copy of {name}; add --data DIR")
        click.echo(json.dumps(_plain(dataset), indent=1) if as_json else _described(dataset))
        return
    if (split or atlas) and output is None:
        raise InputError(f"{'--split' if split else '--atlas'} says how a cohort is made; add --output DIR")
    _check(dataset, data, as_json)
    if output is not None:
        _make(dataset, data, output, split, atlas, as_json, progress)


def _list(known: list[Dataset], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_plain(dataset) for dataset in known], indent=1))
        return
    for dataset in known:
        click.echo(f"{dataset.name:<12} {dataset.what}\n{'':<12} used: {dataset.used}")
        click.echo(f"{'':<12} licence: {dataset.licence}\n{'':<12} from: {dataset.ask}")
        for files in dataset.files:
            click.echo(f"{'':<12} files: {files}")


def _plain(dataset: Dataset) -> dict[str, Any]:
    """What is told of a data set, for JSON."""
    from soloatlas.data.cohorts.dataset import splits_of

    told = ("name", "what", "used", "licence", "ask", "files", "changes", "shape", "labelled", "unlabelled", "notes")
    plain = {key: getattr(dataset, key) for key in told}
    tables = {"labels": dataset.names, "mapping": dataset.mapping, "bad": dataset.bad}
    tables = {key: None if table is None else dict(table) for key, table in tables.items()}
    return {**plain, **tables, "splits": splits_of(dataset.name)}


def _described(dataset: Dataset) -> str:
    from soloatlas.data.cohorts.dataset import splits_of, wanted

    lines = [f"{dataset.name}: {dataset.what}", f"used: {dataset.used}"]
    lines += [f"licence: {dataset.licence}", f"from: {dataset.ask}"]
    lines += [f"files: {files}" for files in dataset.files]
    if dataset.names:
        lines.append("labels: " + ", ".join(f"{value} {name}" for value, name in dataset.names.items()))
    if dataset.mapping is not None and any(old != new for old, new in dataset.mapping.items()):
        lines.append("made of: " + ", ".join(f"{new} of {old}" for old, new in dataset.mapping.items()))
    for name, split in splits_of(dataset.name).items():
        counts = ", ".join(f"{part} {'the rest' if n is None else n}" for part, n in wanted(split).items())
        lines.append(f"split {name}: {counts}, by the rule '{split['rule']}'; {split['source']}")
    lines += [f"prepared with: {' '.join(f'--set {change}' for change in dataset.changes) or 'defaults'}"]
    return "\n".join([*lines, *(f"note: {note}" for note in dataset.notes)])


def _check(dataset: Dataset, data: Path, as_json: bool) -> None:
    """Report on a user's copy; ends the command where there is an error."""
    from dataclasses import asdict

    from soloatlas.data.cohorts.checking import check_dataset

    found, findings = check_dataset(dataset, data)
    if as_json:
        counts = {"scans": len(found.cases), "labelled": len(found.labelled), "layout": found.layout} if found else {}
        listed = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"dataset": dataset.name, **counts, "findings": listed}, indent=1))
    else:
        click.echo("\n".join(_report(dataset, found, findings)))
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(2)


def _report(dataset: Dataset, found: Found | None, findings: list[Finding]) -> list[str]:
    lines = []
    if found is not None:
        lines.append(f"{dataset.name}, {found.layout}: {len(found.cases)} scans, {len(found.labelled)} with labels")
    lines += [f"{f.level}: {f.where}: {f.problem}; {f.consequence}" for f in findings]
    return lines if findings else [*lines, "no problem found"]


def _make(
    dataset: Dataset, data: Path, output: Path, split: str | None, atlas: str | None, as_json: bool, progress: Any
) -> None:
    from soloatlas.data.cohorts.shared import cohort_changes
    from soloatlas.reproduction.public import public_cohort

    folder = public_cohort(dataset, data, output, split, atlas, progress)
    changes = [word for change in cohort_changes(folder) for word in ("--set", change)]
    command = shlex.join(["soloatlas", "train", str(folder), "--output", "run", *changes])
    click.echo(f"cohort: {folder}\n{command}", err=as_json)
