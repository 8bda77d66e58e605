"""Vector drawings that live inside the page and take its colours, in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("#2f87d0", "#df7a2e", "#2b9f78", "#b16cc4")  # legible on white and on near-black
_INK = "#010203"  # stands for the page's text colour
_WIDTH = 9.4  # inches; at the page's width this makes 9 pt text about as large as the captions
_POINTS = 300  # of one loss curve: more than its pixels is only weight
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a structure may be called "$x"
    "font.family": "DejaVu Sans",  # wide: nothing overlaps in the page's own font
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": _INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Measure:
    """One panel of `draw_strips`: a title, its unit, and the values (of a second state beside, if any)."""

    title: str
    unit: str
    values: Sequence[float]
    before: Sequence[float] = ()


@dataclass(frozen=True)
class Spread:
    """One panel of `draw_structures`: per series and structure the scored values, and how many failed."""

    title: str
    values: Sequence[Sequence[Sequence[float]]]
    failed: Sequence[Sequence[int]]
    best: float | None = None  # where the axis ends for sure
    marks: Sequence[float | None] = ()  # per structure, the ceiling


def draw_curves(terms: Mapping[str, tuple[str, Sequence[tuple[int, float]]]]) -> Markup:
    """One small panel per loss term: name -> (second line of its title, points (step, value))."""
    columns = 2 if len(terms) == 4 else min(3, len(terms))
    rows = -(-len(terms) // columns)

    def draw(figure: Figure) -> None:
        for place, (name, (equation, points)) in enumerate(terms.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            _curve(axes, points)
            axes.set_title(name, pad=17)
            axes.text(0, 1.045, equation, transform=axes.transAxes, fontsize=7.5, alpha=0.75)
            axes.grid(True, axis="y")
            if place > len(terms) - columns:
                axes.set_xlabel("optimiser step")

    return _svg(draw, _WIDTH * (1 if len(terms) > 2 else columns / 3), 2.15 * rows + 0.2)


def _curve(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    steps, values = np.array(points, dtype=float).T
    thin = max(1, -(-len(steps) // _POINTS))
    if len(steps) < 30:
        axes.plot(steps, values, color=SERIES[0], linewidth=1.4, marker="o", markersize=2.2)
    else:
        axes.plot(steps[::thin], values[::thin], color=SERIES[0], linewidth=0.6, alpha=0.4)
        axes.plot(steps[::thin], _running_mean(values)[::thin], color=SERIES[0], linewidth=1.6)
    low, high = _inner_range(values)
    axes.set_ylim(low, high)
    axes.margins(x=0.01)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a centred window of a fifteenth of the curve; at the ends over what there is of it."""
    half = max(1, len(values) // 30)
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    out: np.ndarray = (total[last] - total[first]) / (last - first)
    return out


def _inner_range(values: np.ndarray) -> tuple[float, float]:
    """Limits that a few early spikes do not squeeze the curve with."""
    low, high = np.percentile(values, [0, 99])
    room = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
    return float(low - room), float(high + room)


def draw_strips(measures: Sequence[Measure]) -> Markup:
    """One panel per measure: a box, and a point per scan; with ``before``, lines from before to after."""

    def draw(figure: Figure) -> None:
        for place, measure in enumerate(measures, start=1):
            axes = figure.add_subplot(1, len(measures), place)
            groups = [measure.before, measure.values] if measure.before else [measure.values]
            offsets = [jitter(len(values)) for values in groups]
            if measure.before:
                for pair, shift in zip(zip(*groups, strict=True), offsets[0], strict=True):
                    axes.plot([shift, 1 + shift], pair, color=SERIES[0], linewidth=0.5, alpha=0.25)
            for at, (values, shift) in enumerate(zip(groups, offsets, strict=True)):
                draw_box(axes, values, at, SERIES[0], vertical=True)
                axes.plot(at + shift, values, "o", color=SERIES[0], markersize=2.6, alpha=0.6, markeredgewidth=0)
            axes.set_xticks(range(len(groups)), ["before", "after"] if measure.before else [""])
            axes.set_xlim(-0.6, len(groups) - 0.4)
            axes.set_title(measure.title, pad=17)
            axes.text(0, 1.03, measure.unit, transform=axes.transAxes, fontsize=7.5, alpha=0.75)
            axes.grid(True, axis="y")
            axes.tick_params(axis="x", length=0)

    return _svg(draw, _WIDTH, 2.5)


def draw_structures(panels: Sequence[Spread], structures: Sequence[str], series: Sequence[str]) -> Markup:
    """Structures from top to bottom, one panel per metric, one colour per series; boxes and points."""
    step = 0.36 if len(series) > 1 else 0.28
    height = max(1.6, step * len(structures) + 0.9 + 0.25 * (len(series) > 1))

    def draw(figure: Figure) -> None:
        for place, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(1, len(panels), place)
            _structures_panel(axes, panel, len(structures), len(series))
            axes.set_yticks(range(len(structures)), structures if place == 1 else [])
            axes.set_ylim(len(structures) - 0.4, -0.6)
            axes.tick_params(axis="y", length=0)
        if len(series) > 1:
            handles = [figure.axes[0].plot([], [], "s", color=c)[0] for c in SERIES[: len(series)]]
            figure.legend(handles, series, loc="outside upper right", ncols=len(series), frameon=False)

    return _svg(draw, _WIDTH, height)


def _structures_panel(axes: Axes, panel: Spread, structures: int, series: int) -> None:
    spread = 0.8 / series
    known = [v for group in panel.values for values in group for v in values]
    for s in range(series):
        colour = SERIES[s % len(SERIES)]
        for c in range(structures):
            values, at = panel.values[s][c], c + (s - (series - 1) / 2) * spread
            draw_box(axes, values, at, colour, vertical=False, width=0.62 * spread)
            shift = jitter(len(values), 0.22 * spread)
            axes.plot(values, at + shift, "o", color=colour, markersize=2.8, alpha=0.6, markeredgewidth=0)
    for c, mark in enumerate(panel.marks):
        if mark is not None:
            axes.plot([mark, mark], [c - 0.42, c + 0.42], color=_INK, linewidth=1.3)
    if panel.best is None and known:
        axes.set_xlim(0, max(known) * 1.08 or 1)
        _edge_marks(axes, panel, structures, series)
    elif known:
        axes.set_xlim(max(0.0, min(known) - 0.03), panel.best)
    axes.set_title(panel.title)
    axes.grid(True, axis="x")


def _edge_marks(axes: Axes, panel: Spread, structures: int, series: int) -> None:
    """A triangle at the right edge for structures that some case lacks: their distance is the image diagonal."""
    right = axes.get_xlim()[1]
    for s in range(series):
        for c in range(structures):
            if panel.failed[s][c]:
                at = c + (s - (series - 1) / 2) * 0.8 / series
                axes.plot([right], [at], ">", color=SERIES[s % len(SERIES)], markersize=5, clip_on=False)


def draw_box(axes: Axes, values: Sequence[float], at: float, colour: str, vertical: bool, width: float = 0.5) -> None:
    """Quartiles and median; whiskers to the furthest value within 1.5 quartile ranges."""
    if len(values) < 5:  # fewer points speak for themselves
        return
    line = {"color": colour, "linewidth": 1.0}
    axes.boxplot(
        [list(values)],
        positions=[at],
        widths=width,
        orientation="vertical" if vertical else "horizontal",
        showfliers=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.22, "edgecolor": "none"},
        medianprops={"color": colour, "linewidth": 2.0},
        whiskerprops=line,
        capprops={"linewidth": 0},
    )


def jitter(count: int, reach: float = 0.16) -> np.ndarray:
    """Sideways offsets that part the points: always the same, far apart for neighbours in the list."""
    out: np.ndarray = ((np.arange(count) * 0.618034) % 1 - 0.5) * 2 * reach * (count > 1)
    return out


def _svg(draw: Any, width: float, height: float) -> Markup:
    """What ``draw(figure)`` draws, as an SVG element without a trace of its surroundings."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    salt = f"{width}x{height}"  # fixed ids: the same run gives the same page
    style: Any = {**_STYLE, "svg.hashsalt": salt}
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    widest = round(1004 * width / _WIDTH)  # px of the page: a narrow figure is not blown up
    return _inlined(buffer.getvalue(), f"max-width:{widest}px")


def _inlined(text: str, style: str) -> Markup:
    text = text[text.index("<svg") :]
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href").replace(_INK, "currentColor")
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # it would style the page
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'\b(?:d|x|y|transform)="[^"]*"', _shortened, text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', rf'<svg style="{style}" \1', text, count=1)
    return Markup(re.sub(r"\n\s*", "\n", text))


def _shortened(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point."""
    return re.sub(r"(\d\.\d{2})\d+", r"\1", attribute.group())
