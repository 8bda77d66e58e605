"""Drawings of numbers: what they show is what was scored, and they are the same byte for byte each time."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from soloatlas.data.study import Study
from soloatlas.reproduction import TABLES, Row, Table
from soloatlas.reproduction.drawings import curves, drawn, structures
from soloatlas.reproduction.drawings.sheet import SERIES, new_sheet
from soloatlas.reproduction.listing import everything
from soloatlas.reproduction.row_run import Conditions, Finished, Task
from soloatlas.reproduction.rows import Curve

STUDY = Study("heads", Path("a.nii"), Path("l.nii"), (Path("1.nii"), Path("2.nii")))


def finished(row, seeds, dice):
    tasks = tuple(Task(row.method or "os-medseg", row.stage, seed, Conditions(STUDY)) for seed in seeds)
    return Finished(row, tasks, tuple({"mean_dice": value} for value in dice))


@pytest.mark.parametrize("key", [key for key, of in everything().items() if of.drawing])
def test_every_figure_has_a_drawing_and_its_curves_have_rows(key):
    of = everything()[key]
    assert callable(import_module(f"soloatlas.reproduction.drawings.{of.drawing}").draw)
    names = [row.name for row in of.rows]
    assert len(set(names)) == len(names)
    if isinstance(of, Table):
        assert (of.drawing == "curves") == bool(of.curves) == bool(of.axis)
        assert {name for curve in of.curves for _, name in curve.points} == (set(names) if of.curves else set())


PLOT = Table(
    title="A curve",
    source="here",
    method="os-medseg",
    published_on="OASIS",
    reference="a",
    rows=(Row("a", published=(0.8,)), Row("b"), Row("c", published=(0.9,), method="brbs")),
    measures=("dice",),
    drawing="curves",
    axis="weight",
    curves=(Curve("one", ((0.0, "a"), (10.0, "b"))), Curve("two", ((10.0, "c"),))),
)
ROWS = [finished(PLOT.rows[0], (0, 1), (0.5, 0.7)), finished(PLOT.rows[1], (0, 1), (0.6, 0.6))]
ROWS.append(finished(PLOT.rows[2], (0, 1), (0.3, 0.4)))


def test_curves_show_the_mean_of_seeds_and_the_published_points():
    with new_sheet() as sheet:
        shown = curves.draw(sheet, PLOT, ROWS)
        axes = sheet.axes[0]
        lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        labels = [tick.get_text() for tick in axes.get_xticklabels()]
        assert (labels, axes.get_xlabel(), axes.get_ylabel()) == (["0", "10"], "weight", "DSC")
    one, printed = lines["one, ours (heads)"], lines["one, published (OASIS)"]
    assert list(one.get_ydata()) == pytest.approx([0.6, 0.6]) and list(one.get_xdata()) == [0, 1]
    assert (list(printed.get_xdata()), list(printed.get_ydata())) == ([0], [0.8]), "a cell that is lost is no point"
    assert list(lines["two, ours (heads)"].get_xdata()) == [1]
    assert (one.get_color(), lines["two, ours (heads)"].get_color()) == SERIES[:2]
    assert shown["curves"][0]["seeds"] == [[0.5, 0.7], [0.6, 0.6]]
    assert shown["curves"][1]["published"] == [0.9]


def test_what_registers_is_0_where_it_has_learnt_nothing():
    from_nothing = replace(PLOT, curves=(Curve("two", ((10.0, "c"),), begins_at_0=True),))
    with new_sheet() as sheet:
        (shown,) = curves.draw(sheet, from_nothing, ROWS)["curves"]
    assert (shown["x"], shown["ours"], shown["published"]) == ([0.0, 10.0], [0.0, 0.35], [0.0, 0.9])
    assert shown["seeds"] == [[0.0, 0.0], [0.3, 0.4]]


def test_the_same_figure_is_the_same_bytes(tmp_path):
    first, second = drawn(PLOT, ROWS, tmp_path / "1"), drawn(PLOT, ROWS, tmp_path / "2")
    assert first == second
    for ending in ("png", "svg"):
        assert (tmp_path / f"1.{ending}").read_bytes() == (tmp_path / f"2.{ending}").read_bytes()
    assert (tmp_path / "1.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "1.svg").read_text().count(
        "<svg"
    ) == 1


def scores(task, left, right, stem):
    """An evaluation of two scans: a structure with two sides, the right one not in the second scan, and a stem."""
    cases = {"x": {"1": {"dice": left}, "2": {"dice": right}, "3": {"dice": stem}}}
    cases["y"] = {"1": {"dice": left}, "2": {"dice": None}, "3": {"dice": stem}}
    names = {"1": {"name": "Left-Thalamus"}, "2": {"name": "Right-Thalamus"}, "3": {"name": "Brain-Stem"}}
    means = {"x": {"dice": (left + right + stem) / 3}, "y": {"dice": (left + stem) / 2}}
    task.scores().mkdir(parents=True, exist_ok=True)
    content = {"labels": names, "cases": cases, "case_means": means}
    (task.scores() / "metrics.json").write_text(json.dumps(content))


def test_structures_show_each_scan_sides_and_seeds_averaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = TABLES["os-medseg:table-2"]
    rows = [
        finished(next(row for row in table.rows if row.name == name), (0, 1), (0.5, 0.5))
        for name in ("ResUNet", "OS-MedSeg (student, teacher, SI+SL)")
    ]
    for of_row, dice in zip(rows, (0.4, 0.8), strict=True):
        for seed, task in enumerate(of_row.tasks):
            scores(task, dice + 0.1 * seed, dice - 0.1, 0.3)
    with new_sheet() as sheet:
        shown = structures.draw(sheet, table, rows)
        panels = {axes.get_title(): axes for axes in sheet.axes}
        assert list(panels) == ["mean of all structures", "thalamus", "brain stem"], "the mean, then the paper's order"
        assert [tick.get_text() for tick in sheet.axes[0].get_yticklabels()] == ["ResUNet", "OS-MedSeg"]
        drawn_at = [list(line.get_xdata()) for line in panels["thalamus"].lines]
    assert shown["structures"]["thalamus"]["ResUNet"] == {"x": 0.375, "y": 0.45}
    assert drawn_at[0] == [0.375, 0.45] and drawn_at[1] == [0.775, 0.85]
    ours = "OS-MedSeg (student, teacher, SI+SL)"
    assert shown["published"]["brain stem"] == {"ResUNet": 0.900}, "the other cell is lost"
    assert shown["published"]["mean of all structures"] == {"ResUNet": 0.724, ours: 0.854}
    assert [0.900] in [list(line.get_xdata()) for line in panels["brain stem"].lines]
