"""The command that says what recorded results mean for the papers' claims."""

from __future__ import annotations

import json
from pathlib import Path

import click

from soloatlas.command_parts import FOLDER
from soloatlas.errors import InputError


@click.command()
@click.option(
    "--results", type=FOLDER, default=Path("results"), show_default=True, help="Folder that reproduce wrote to."
)
@click.option("--cohort", default="", help="One cohort alone (default: all that have records of test scans).")
@click.option("--paper", type=click.Choice(["os-medseg", "lt-net"]), default=None, help="Claims of one paper alone.")
@click.option("--output", type=FOLDER, help="Also write claims.md and claims.json there.")
@click.option("--json", "as_json", is_flag=True)
def claims(results: Path, cohort: str, paper: str | None, output: Path | None, as_json: bool) -> None:
    """Judge each claim of the papers by the recorded results; nothing is run.

    confirmed, not confirmed, or open: three seeds of 8 minutes do not say; undecided: too few, or too short; not
    measured: no record, run reproduce.
    """
    from soloatlas.atomic import write_json, write_text
    from soloatlas.reproduction import verdict_tables
    from soloatlas.reproduction.verdicts import read_records, verdicts

    records = read_records(results)
    if not records:
        raise InputError(f"--results {results}: holds no record of test scans; soloatlas reproduce writes them")
    found = verdicts(records, paper or "", cohort)
    plain = verdict_tables.as_json(found)
    click.echo(json.dumps(plain, indent=1) if as_json else verdict_tables.as_text(found))
    if output is not None:
        write_text(output / "claims.md", verdict_tables.as_markdown(found) + "\n")
        write_json(output / "claims.json", plain)
