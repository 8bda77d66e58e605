"""The page: sections in reading order, put into the template and written whole."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from soloatlas.atomic import write_text
from soloatlas.reporting import about_run, about_training, wording
from soloatlas.reporting.blocks import Fact, Section, duration, interval, number
from soloatlas.reporting.contents import Contents, Evaluation, read_contents, read_evaluations
from soloatlas.reporting.results import results

REPORT = "report.html"


def render_report(run: Path, evaluations: Sequence[Path] = ()) -> Path:
    """Write ``run/report.html``: one HTML file that loads nothing, whole or not at all.

    What the run folder lacks (training unfinished, a method that makes no fields) is left out with a line
    that says so.

    Args:
        run: a run folder.
        evaluations: folders that `soloatlas.evaluation.evaluate` wrote; the last is the one that matters
            most (its worst cases are shown), those before it are shown beside it.

    Returns:
        The path of the page.

    Raises:
        InputError: run.json or an evaluation's metrics.json is missing or damaged.
        RunError: the page cannot be written.
    """
    run = Path(run)
    contents = read_contents(run)
    scored = read_evaluations([Path(folder) for folder in evaluations])
    write_text(run / REPORT, page(contents, scored))
    return run / REPORT


def page(contents: Contents, evaluations: Sequence[Evaluation]) -> str:
    """The HTML text."""
    record = contents.record
    return rendered(
        title=f"{record.get('study', 'study')} by {record.get('method', 'a method')}",
        kicker=f"soloatlas {record.get('versions', {}).get('soloatlas', '')}".strip(),
        subtitle=f"Preset {record.get('preset')}, seed {record.get('seed')}, {len(_pool(contents))} unlabelled scans.",
        cautions=wording.cautions(contents),
        facts=facts(contents, evaluations),
        sections=sections(contents, evaluations),
    )


def rendered(**parts: Any) -> str:
    """The template filled with title, kicker, subtitle, cautions, facts and sections."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("soloatlas.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(**parts)


def _pool(contents: Contents) -> list[dict[str, str]]:
    pool: list[dict[str, str]] = contents.record.get("inputs", {}).get("unlabelled", [])
    return pool


def sections(contents: Contents, evaluations: Sequence[Evaluation]) -> list[Section]:
    """All sections in reading order: what came out first, how it was made after."""
    times = [
        (e.name, [case["seconds"] for case in e.segmentation.get("cases", []) if "seconds" in case])
        for e in evaluations
    ]
    return [
        *results(contents, evaluations),
        about_run.inputs(contents),
        about_training.pairs(contents),
        about_training.fields(contents),
        about_training.learning(contents),
        about_run.cost(contents, times),
        about_run.settings(contents),
        about_run.provenance(contents),
    ]


def facts(contents: Contents, evaluations: Sequence[Evaluation]) -> list[Fact]:
    """The few numbers at the top of the page."""
    record, found = contents.record, []
    for e in evaluations[-2:]:
        ends = e.result.get("mean_dice_ci95")
        found.append(
            Fact(
                number(e.result["mean_dice"]),
                f"DSC, {e.name.lower()}",
                f"95% {interval(ends)}" if ends else "",
            )
        )
    if evaluations:
        last = evaluations[-1]
        found.append(Fact(number(last.result.get("mean_hd95_mm"), 2), f"HD95, {last.name.lower()}", "mm"))
    if "ceiling" in record:
        found.append(Fact(number(record["ceiling"]["mean_dice"]), "Ceiling, DSC", "atlas labels there and back"))
    if contents.fields and "folding_percent" in contents.fields[0]:
        folding = [row["folding_percent"] for row in contents.fields]
        found.append(Fact(f"{number(sum(folding) / len(folding), 2)} %", "Folding", "of voxels, mean over the pool"))
    if record.get("seconds"):
        memory = f", {record['peak_memory_gb']:.1f} GB at most" if "peak_memory_gb" in record else ""
        found.append(Fact(duration(sum(record["seconds"].values())), "Training", f"{record.get('device', '')}{memory}"))
    return found
