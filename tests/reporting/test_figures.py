from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from soloatlas.reporting.figures import SERIES, Measure, Spread, draw_curves, draw_strips, draw_structures


def texts(svg: str) -> list[str]:
    """All texts of a drawing, which must be well formed."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_curves_name_their_terms_and_equations() -> None:
    points = [(step, 1 / step) for step in range(1, 400)]
    svg = draw_curves({"similarity": ("Eq. 6", points), "hint": ("Eqs. 3–4", points[:4])})
    assert {"similarity", "Eq. 6", "hint", "Eqs. 3–4", "optimiser step"} <= set(texts(svg))


def test_drawings_take_the_colour_of_the_page_and_refer_to_nothing_outside() -> None:
    svg = draw_strips([Measure("Folding", "%", [0.1, 0.2, 0.3]), Measure("Similarity", "", [0.5] * 3, [0.1] * 3)])
    assert "currentColor" in svg and "#010203" not in svg and "#000000" not in svg
    assert "http" not in svg and "<style" not in svg and "DejaVu" not in svg
    assert {"before", "after"} <= set(texts(svg))


def test_small_tick_labels_keep_their_digits() -> None:
    svg = draw_curves({"a": ("", [(step, 0.0011 + 0.0001 * step) for step in range(1, 10)])})
    assert any(re.fullmatch(r"0\.00\d\d+", text) for text in texts(svg))


def test_every_series_structure_and_failure_is_drawn() -> None:
    values = [[[0.9, 0.8], [0.7]], [[0.95], []]]
    lost = [[0, 0], [0, 1]]
    panels = [Spread("DSC", values, lost, 1.0, [0.99, None]), Spread("HD95, mm", values, lost)]
    svg = draw_structures(panels, ["left", "right"], ["one", "two"])
    assert texts(svg).count("left") == 1 and {"right", "one", "two", "DSC", "HD95, mm"} <= set(texts(svg))
    uses = [element.attrib for element in ElementTree.fromstring(svg).iter("use")]
    # Points of both panels, one legend square each, and for the second series one triangle.
    drawn = [sum(f"fill: {colour}" in use.get("style", "") for use in uses) for colour in SERIES[:2]]
    assert drawn == [2 * 3 + 1, 2 * 1 + 1 + 1]


def test_nothing_scored_still_draws() -> None:
    svg = draw_structures([Spread("DSC", [[[]]], [[0]], 1.0), Spread("HD95, mm", [[[]]], [[0]])], ["a"], ["one"])
    assert "a" in texts(svg)
    assert np.isfinite([float(n) for n in re.findall(r'viewBox="([^"]*)"', svg)[0].split()]).all()
