"""What several evaluations scored: structures with the run's names and colours, cases in order of merit."""

from __future__ import annotations

from collections.abc import Sequence

from soloatlas.data.labels import Colour, LabelTable
from soloatlas.reporting.blocks import css
from soloatlas.reporting.contents import Contents, Evaluation


def structures_of(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Label value (as text) -> name of everything that any evaluation scored, by value."""
    found = {value: label.get("name", value) for e in evaluations for value, label in e.result["labels"].items()}
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def names_of(contents: Contents, evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """As `structures_of`, with the run's names where the evaluation had none."""
    table = contents.table
    known = dict(zip(map(str, table.values), table.names, strict=True)) if table else {}
    scored = structures_of(evaluations)
    return {v: known.get(v, name) if name == f"label {v}" else name for v, name in scored.items()}


def run_name(contents: Contents, value: str) -> str:
    """The run's own name of a label value; empty where it has none."""
    table = contents.table
    return dict(zip(map(str, table.values), table.names, strict=True)).get(value, "") if table else ""


def colour_of(table: LabelTable | None, value: str) -> Colour:
    """The structure's colour; grey for one that the run does not know."""
    known = dict(zip(map(str, table.values), table.colours, strict=True)) if table else {}
    return known.get(value, (170, 170, 170))


def worst_first(evaluation: Evaluation) -> list[str]:
    """Cases by rising mean DSC; those without any score last."""
    means = evaluation.result["case_means"]

    def key(case: str) -> tuple[bool, float]:
        dice = means[case].get("dice")
        return dice is None, dice or 0.0

    return sorted(means, key=key)


def legend_of(contents: Contents, evaluations: Sequence[Evaluation]) -> list[tuple[str, str]]:
    """(CSS colour, name) of the structures that were scored."""
    return [(css(colour_of(contents.table, v)), name) for v, name in names_of(contents, evaluations).items()]
