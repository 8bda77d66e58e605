"""What all drawings share: paper width, type, colours, and files that are the same byte for byte each time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soloatlas.atomic import replacing
from soloatlas.reproduction.row_run import Finished

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from soloatlas.data.labels import LabelTable

WIDTH = 7.16  # inches: two columns of the papers
COLUMN = 3.5  # one column
_BESIDE, _TEXT, _GAP = 0.42, 0.125, 0.05  # inches: text left of a line of pictures, a line of text, between pictures
# Okabe and Ito's colours, which the colour-blind tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
YELLOW, BLUE, VERMILION, PURPLE = "#f0e442", "#0072b2", "#d55e00", "#cc79a7"
SERIES = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)
STRUCTURES = {  # neighbours far apart, on grey scans
    "red": VERMILION,
    "blue": BLUE,
    "yellow": YELLOW,
    "green": GREEN,
    "pink": PURPLE,
    "light blue": SKY,
    "orange": ORANGE,
}
_STYLE = {
    "svg.fonttype": "path",  # looks the same wherever it is shown
    "svg.hashsalt": "soloatlas",  # the same ids each time
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 6.5,
    "axes.titlesize": 6.5,
    "axes.labelsize": 6.5,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}


@contextlib.contextmanager
def new_sheet() -> Iterator[Figure]:
    """An empty figure; what is drawn and saved within the block has the style of all."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = _STYLE
    with rc_context(style):
        yield Figure(figsize=(WIDTH, WIDTH), layout="constrained")


def save(sheet: Figure, stem: Path) -> None:
    """Write ``stem.png`` (300 dots an inch) and ``stem.svg``, without date or program."""
    for ending, nothing in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        with replacing(stem.with_name(f"{stem.name}.{ending}")) as temporary:
            sheet.savefig(temporary, format=ending, dpi=300, metadata=nothing)


def picture_grid(
    sheet: Figure, aspects: Sequence[float], columns: int, above: Sequence[int], below: Sequence[int]
) -> list[list[Axes]]:
    """Places for pictures over the paper's width, close together; the sheet becomes as high as they need.

    Args:
        sheet: an empty figure.
        aspects: height to width of the pictures of each line.
        columns: pictures side by side.
        above, below: lines of text over and under the pictures of each line.
    """
    sheet.set_layout_engine("none")
    width = (WIDTH - _BESIDE) / columns - _GAP
    heights = [aspect * width for aspect in aspects]
    text = [_TEXT * (a + b) + _GAP for a, b in zip(above, below, strict=True)]
    total = sum(heights) + sum(text)
    sheet.set_size_inches(WIDTH, total)
    grid, top = [], total
    for height, over, room in zip(heights, above, text, strict=True):
        bottom = top - _TEXT * over - height
        lefts = [_BESIDE + column * (width + _GAP) for column in range(columns)]
        places = [(left / WIDTH, bottom / total, width / WIDTH, height / total) for left in lefts]
        grid.append([sheet.add_axes(place) for place in places])
        top -= height + room
    return grid


def show(axes: Axes, picture: np.ndarray | None, title: str = "", below: str = "", beside: str = "") -> None:
    """A picture, (rows, columns, 3) uint8, pixel by pixel, with text around it; None: an empty place."""
    axes.set_title(title, pad=2)
    axes.set_xlabel(below, labelpad=1.5)
    axes.set_ylabel(beside, labelpad=2)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if picture is None:
        axes.set_facecolor("none")
        return
    axes.imshow(picture, interpolation="nearest")


def class_colours(table: LabelTable) -> np.ndarray:
    """Colour of each class, (classes, 3) uint8: ours where they suffice, else the table's own."""
    import numpy as np
    from matplotlib.colors import to_rgb

    few = [tuple(round(255 * part) for part in to_rgb(colour)) for colour in STRUCTURES.values()]
    own = table.colours[1:] if table.classes - 1 > len(few) else few[: table.classes - 1]
    return np.array([(0, 0, 0), *own], dtype=np.uint8)


def named_colours(table: LabelTable) -> str:
    """Which structure has which colour, as the end of a caption; empty where there are too many to tell."""
    if table.classes - 1 > len(STRUCTURES):
        return ""
    pairs = zip(STRUCTURES, table.names[1:], strict=False)
    return " Colours: " + ", ".join(f"{name} {colour}" for colour, name in pairs) + "."


def short(name: str) -> str:
    """The name of a row without what is said of it in brackets."""
    return name.partition(" (")[0]


def heading(name: str) -> str:
    """The name of a row on several lines, to stand above a narrow picture."""
    import textwrap

    return "\n".join(textwrap.wrap(name, 15))


def cohort_of(rows: Sequence[Finished]) -> str:
    """Name of the cohort that the rows were run on."""
    return rows[0].tasks[0].conditions.study.name
