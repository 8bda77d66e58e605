"""The commands that put methods and rows of tables beside one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from soloatlas.command_parts import FOLDER, integers, watched
from soloatlas.errors import InputError


@click.command()
@click.argument("study", type=FOLDER)
@click.option("--methods", default="all", show_default=True, metavar="A,B,C", help="Names, or all.")
@click.option("--test", type=FOLDER, help="Test scans (default: those of the study).")
@click.option("--test-labels", type=FOLDER, help="Their labels.")
@click.option("--pool-labels", type=FOLDER, help="Labels of the pool: for the supervised bound and more atlases alone.")
@click.option(
    "--atlases",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Labelled scans of a multi-atlas method, the others from the pool.",
)
@click.option("--minutes", type=float, default=0.0, help="Training time of each method.")
@click.option("--preset", type=click.Choice(["quick", "standard", "paper", "paper-ct"]), default="quick")
@click.option("--seeds", callback=integers, default="0", show_default=True, metavar="0,1,2")
@click.option("--reference", help="The method that others are tested against.  [default: os-medseg, or the first]")
@click.option("--labels", callback=integers, metavar="1,3,4,7", help="Label values to score (default: all).")
@click.option(
    "--not-contoured-if-absent",
    callback=integers,
    metavar="5,6",
    help="Labels not drawn in every scan: not scored where the truth lacks them.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="[METHOD:]KEY=VALUE",
    help="For the methods that have the setting, or for one method.",
)
@click.option("--output", type=FOLDER, required=True)
@watched
def compare(
    study: Path,
    methods: str,
    test: Path | None,
    test_labels: Path | None,
    pool_labels: Path | None,
    atlases: int,
    minutes: float,
    preset: str,
    seeds: tuple[int, ...],
    reference: str | None,
    labels: tuple[int, ...] | None,
    not_contoured_if_absent: tuple[int, ...] | None,
    changes: tuple[str, ...],
    output: Path,
    progress: Any,
) -> None:
    """Train and score several methods on one STUDY, with the same data, seeds and time for each."""
    from soloatlas.comparison import Request, compare_methods
    from soloatlas.data.study import read_study, with_pool_labels, with_test
    from soloatlas.evaluation import Scoring

    given = read_study(study)
    given = with_test(given, test, test_labels) if test or test_labels else given
    given = with_pool_labels(given, pool_labels) if pool_labels else given
    names = None if methods == "all" else [name.strip() for name in methods.split(",")]
    scoring = Scoring(labels, not_contoured_if_absent or ())
    request = Request(preset, tuple(changes), tuple(seeds), minutes, reference or "", scoring, atlases)
    table = compare_methods(given, names, output, request, progress)
    click.echo(f"{table}\n\npage: {output / 'compare.html'}")


@click.command()
@click.argument("id_", metavar="ID", required=False)
@click.option("--cohort", default="hippocampus", show_default=True, help="A shared cohort, or of soloatlas datasets.")
@click.option("--data", type=FOLDER, help="Your copy of the public data set that --cohort names.")
@click.option("--output", type=FOLDER, default=Path("results"), show_default=True)
@click.option("--seeds", callback=integers, default="0", show_default=True, metavar="0,1,2")
@click.option("--split", type=click.Choice(["dev", "test"]), default="test", show_default=True)
@click.option("--preset", type=click.Choice(["quick", "standard", "paper", "paper-ct"]), default="quick")
@click.option("--budget", type=float, default=0.0, metavar="MINUTES", help="Training time of each run.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Runs at a time, each with its share of the cores.",
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting in every row that has it.")
@click.option("--tag", default="", metavar="WORD", help="Keeps this record apart from others of the table and cohort.")
@click.option("--list", "listed", is_flag=True, help="Show what can be reproduced.")
@click.option("--json", "as_json", is_flag=True, help="With --list: rows, needs and times, too.")
@watched
def reproduce(
    id_: str | None,
    cohort: str,
    data: Path | None,
    output: Path,
    seeds: tuple[int, ...],
    split: Any,
    preset: str,
    budget: float,
    jobs: int,
    tag: str,
    changes: tuple[str, ...],
    listed: bool,
    as_json: bool,
    progress: Any,
) -> None:
    """Run a table or figure of a paper, for example os-medseg:table-3, on a cohort; ours beside the published."""
    from soloatlas.reproduction import reproduce_table
    from soloatlas.reproduction.listing import as_lines, described

    if listed or id_ is None:
        click.echo(json.dumps(described(output), indent=1) if as_json else as_lines(output))
        return
    if as_json:
        raise InputError("--json tells what can be reproduced; add --list, or leave it out")
    click.echo(reproduce_table(id_, cohort, output, seeds, split, changes, progress, data, preset, budget, jobs, tag))
