"""The command line: one function per command, heavy imports inside them.

Exit codes: 0 done, 1 failed, 2 the input or the request is wrong.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from soloatlas.claims_command import claims
from soloatlas.command_parts import (
    ANY,
    FILE,
    FOLDER,
    Asked,
    asks_for_study,
    asks_for_training,
    device_option,
    integers,
    watched,
)
from soloatlas.comparing import compare, reproduce
from soloatlas.dataset_command import datasets
from soloatlas.errors import InputError, RunError
from soloatlas.plan_command import plan

if TYPE_CHECKING:
    from soloatlas.data.study import Study


def main() -> NoReturn:
    """Entry point of the ``soloatlas`` command: every expected ending is one line and an exit code."""
    # OpenMP threads that wait by spinning slow each other several times where another program shares the cores
    # (benchmarks/items/cpu_settings.py). Read when torch is imported, which is later.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    logging.raiseExceptions = False  # a log that cannot be written (disk full) prints no traceback
    try:
        code = cli.main(standalone_mode=False) or 0  # the code of an Exit, which click does not let through
    except click.ClickException as error:
        click.echo(f"soloatlas: {error.format_message()}", err=True)
        code = 2
    except InputError as error:
        click.echo(f"soloatlas: {error}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        again = "goes on with --resume" if sys.argv[1:2] == ["train"] else "may be given again"
        click.echo(f"soloatlas: stopped; nothing half-written; the command {again}", err=True)
        code = 1
    except RunError as error:
        click.echo(f"soloatlas: {error}", err=True)
        code = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"soloatlas: {where}{error.strerror or error}", err=True)
        code = 1
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        click.echo(
            "soloatlas: out of memory; try --set loop.recompute=true, student.patch=[64,64,64] or a coarser --spacing",
            err=True,
        )
        code = 1
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="soloatlas", prog_name="soloatlas")
def cli() -> None:
    """One labelled scan in, a segmenter out."""


@cli.command()
@asks_for_training
@click.option("--output", type=FOLDER, required=True, help="The run folder to make.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@watched
def train(asked: Asked, output: Path, resume: bool, progress: Any) -> None:
    """Train a segmenter from one labelled atlas and unlabelled scans.

    STUDY is a folder with atlas/image.nii.gz, atlas/labels.nii.gz and unlabelled/, or in nnU-Net form;
    or give --atlas, --atlas-labels and --unlabelled.
    """
    from soloatlas import pipeline
    from soloatlas.processes import started_processes

    folder = pipeline.train(asked.study, output, *asked[1:], resume=resume, progress=progress)
    if started_processes().first:
        click.echo(f"run: {folder}\nreport: {folder / 'report.html'}")


@cli.command()
@click.argument("run", type=FOLDER)
@click.argument("inputs", type=ANY, nargs=-1, required=True)
@click.option("--output", type=FOLDER, required=True, help="Results: one file per input, same name and grid.")
@click.option(
    "--stage",
    type=click.Choice(["student", "register"]),
    default=None,
    help="student, or register: the atlas's labels warped, nothing more. [default: what the method ends with]",
)
@click.option("--save-fields", is_flag=True, help="Also displacement fields (ITK, mm) and Jacobians.")
@click.option("--save-probabilities", is_flag=True, help="Also one probability map per structure.")
@click.option("--flip", is_flag=True, help="Average with the mirrored scan (sides must be declared).")
@click.option("--largest-component", is_flag=True, help="Keep the largest piece of each structure.")
@click.option(
    "--refine",
    type=int,
    default=0,
    metavar="N",
    help="Improve each learnt field by N steps on the scan at hand, with --stage register. [default: 0, off]",
)
@device_option
@watched
def segment(
    run: Path,
    inputs: tuple[Path, ...],
    output: Path,
    stage: str | None,
    save_fields: bool,
    save_probabilities: bool,
    flip: bool,
    largest_component: bool,
    refine: int,
    device: str,
    progress: Any,
) -> None:
    """Segment scans (files or folders) with a finished RUN, each on its own grid."""
    from soloatlas import pipeline

    wishes = (stage or "", save_fields, save_probabilities, flip, largest_component, refine)
    pipeline.segment(run, inputs, output, *wishes, device=device, progress=progress)
    click.echo(f"segmentations: {output}\nvolumes: {output / 'volumes.csv'}")


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--output", type=FOLDER, required=True)
@device_option
@watched
def synthesise(run: Path, output: Path, device: str, progress: Any) -> None:
    """Write a RUN's labelled pairs and their fields as files."""
    from soloatlas import pipeline

    pipeline.synthesise(run, output, device, progress)
    click.echo(f"pairs: {output}")


@cli.command()
@click.argument("predictions", type=ANY)
@click.argument("truth", type=ANY)
@click.option("--output", type=FOLDER, required=True, help="For metrics.csv and metrics.json.")
@click.option(
    "--label-names",
    type=FILE,
    help="Names for the tables; default: those beside the segmentations, if soloatlas made them.",
)
@click.option("--labels", callback=integers, metavar="1,3,4", help="Score these only (default: all).")
@click.option(
    "--not-contoured-if-absent",
    callback=integers,
    metavar="5,6",
    help="Labels not drawn in every case: not scored where the truth lacks them.",
)
@click.option("--tolerance", type=float, default=1.0, show_default=True, help="mm, of the normalised surface distance.")
@click.option(
    "--unite-sides", is_flag=True, help="Score left and right as one structure; needs names that tell the sides."
)
@watched
def evaluate(
    predictions: Path,
    truth: Path,
    output: Path,
    label_names: Path | None,
    labels: tuple[int, ...] | None,
    not_contoured_if_absent: tuple[int, ...] | None,
    tolerance: float,
    unite_sides: bool,
    progress: Any,
) -> None:
    """Score segmentations against true labels: DSC, HD95, ASSD, NSD per structure and case."""
    from soloatlas.evaluation import evaluate as score
    from soloatlas.progress import counting
    from soloatlas.tables import score_table

    result = score(
        predictions,
        truth,
        output,
        label_names=label_names,
        labels=labels,
        not_contoured_if_absent=not_contoured_if_absent or (),
        tolerance_mm=tolerance,
        unite_sides=unite_sides,
        progress=counting(progress, "evaluate"),
    )
    click.echo(score_table(result))
    click.echo(f"{result['rule']}\nmetrics: {output / 'metrics.json'}")


@cli.command()
@asks_for_study
@click.option("--json", "as_json", is_flag=True, help="The findings as a list.")
@watched
def check(study: Study, as_json: bool, progress: Any) -> None:
    """Report every problem of a STUDY at once, and what will happen to each.

    The study is named as for train: a folder, or --atlas, --atlas-labels and --unlabelled.
    """
    from dataclasses import asdict

    from soloatlas.data.check import check_study
    from soloatlas.progress import counting

    findings = check_study(study, progress=counting(progress, "check"))
    if as_json:
        click.echo(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        for f in findings:
            click.echo(f"{f.level}: {f.where}: {f.problem}; {f.consequence}")
        click.echo(f"{len(findings)} finding{'s' * (len(findings) > 1)}" if findings else "no problem found")
    if any(f.level == "error" for f in findings):
        raise click.exceptions.Exit(2)


@cli.command("choose-atlas")
@click.argument("scans", type=FOLDER)
@click.option(
    "--by",
    type=click.Choice(["ncc", "average"]),
    default="ncc",
    show_default=True,
    help="ncc: mean correlation with the others; average: correlation with their groupwise mean (slower).",
)
@click.option("--transductive", type=FOLDER, metavar="TEST", help="The paper's form: similarity to these test scans.")
@click.option("--json", "as_json", is_flag=True)
@watched
def choose_atlas(scans: Path, by: str, transductive: Path | None, as_json: bool, progress: Any) -> None:
    """Rank SCANS by how like the others they are: the first is the one to label."""
    from soloatlas.data.files import list_scans
    from soloatlas.prepare import choose_atlas as rank
    from soloatlas.progress import counting

    tests = list_scans(transductive) if transductive else ()
    watch = counting(progress, "choose-atlas")
    ranking = rank(list_scans(scans), tests, progress=watch, by=by)  # type: ignore[arg-type]
    rule = "mean NCC to the test scans (transductive)" if transductive else "mean NCC to the other scans"
    rule = "NCC to the mean of the other scans" if by == "average" else rule
    if as_json:
        rows = [{"scan": name, "ncc": round(score, 5)} for name, score in ranking]
        click.echo(json.dumps({"rule": rule, "ranking": rows}, indent=1))
        return
    click.echo(f"{'scan':<32} {rule}")
    for name, score in ranking:
        click.echo(f"{name:<32} {score:.4f}")


@cli.command()
@click.option("--json", "as_json", is_flag=True)
def methods(as_json: bool) -> None:
    """List the methods: name, family, what they need, typical cost, paper."""
    from dataclasses import asdict

    from soloatlas.methods import available_methods

    known = list(available_methods().values())
    if as_json:
        click.echo(json.dumps([asdict(m) for m in known], indent=1))
        return
    width = max(len(m.typical) for m in known)
    for m in known:
        click.echo(f"{m.name:<14} {m.family:<12} {m.typical:<{width}}  {m.needs}\n{'':<14} {m.paper}")


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--evaluation", type=FOLDER, multiple=True, help="An evaluate --output to show (repeatable).")
def report(run: Path, evaluation: tuple[Path, ...]) -> None:
    """Write a RUN's report.html anew, with these evaluations of its segmentations, or else those of the last page."""
    from soloatlas import pipeline

    click.echo(f"report: {pipeline.write_report(run, evaluation)}")


@cli.command()
@click.option("--cohort", type=click.Choice(["simulated", "hippocampus"]), default="simulated", show_default=True)
@click.option("--output", type=FOLDER, default=Path("soloatlas-demo"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@watched
def demo(cohort: str, output: Path, seed: int, progress: Any) -> None:
    """Train, segment, evaluate and report on a cohort made on the spot (or the real hippocampus cohort)."""
    from soloatlas.demonstration import demonstrate

    click.echo(demonstrate(cohort, output, seed, progress))


cli.add_command(plan)
cli.add_command(compare)
cli.add_command(datasets)
cli.add_command(reproduce)
cli.add_command(claims)


if __name__ == "__main__":
    main()
