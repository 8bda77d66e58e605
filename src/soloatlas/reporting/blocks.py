"""What a page is made of: sections of tables, drawings, pictures and remarks; and numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup

DASH = "–"  # where nothing was scored


@dataclass(frozen=True)
class Remark:
    """A sentence of its own; ``important`` ones are set off."""

    text: str
    important: bool = False
    kind: ClassVar[str] = "remark"


@dataclass(frozen=True)
class Table:
    """A table with a caption above it.

    Attributes:
        header: one text per column; a line break stands before a unit.
        rows: cells as text or markup.
        caption: what it holds and how to read it.
        text_columns: how many leading columns are text (left); the others are numbers (right).
        note: small print below.
        folded: more rows than anyone reads at once: shown when asked for.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    text_columns: int = 1
    note: str = ""
    folded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Drawing:
    """A vector figure, set into the page so that it takes the page's colours."""

    svg: Markup
    alt: str
    caption: str
    title: str = ""
    kind: ClassVar[str] = "drawing"


@dataclass(frozen=True)
class Picture:
    """One image of a gallery: a PNG as a data URI, what it shows in a word and in a sentence, its pixels."""

    source: str
    title: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """Images side by side on one scale, with one caption (or none) and a legend of (CSS colour, name)."""

    pictures: Sequence[Picture]
    caption: str
    title: str = ""
    legend: Sequence[tuple[str, str]] = ()
    kind: ClassVar[str] = "gallery"


Block = Remark | Table | Drawing | Gallery


@dataclass(frozen=True)
class Section:
    """A heading, a lead sentence and what stands below."""

    name: str  # the anchor
    title: str
    lead: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Fact:
    """One number at the top of the page."""

    value: str
    name: str
    detail: str = ""


def number(value: float | None, digits: int = 3) -> str:
    """``value`` with a true minus sign, or a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(ends: Sequence[float] | None, digits: int = 3) -> str:
    """Both ends of an interval, or a dash."""
    return DASH if not ends else f"{number(ends[0], digits)} to {number(ends[1], digits)}"


def duration(seconds: float) -> str:
    """Seconds as the largest two units: ``3 h 05 min``, ``12 min 30 s``, ``4.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def css(colour: Sequence[int]) -> str:
    """A colour of 0..255 as CSS."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def swatch(colour: Sequence[int], text: str) -> Markup:
    """``text`` with a square of ``colour`` before it."""
    return Markup('<span class="swatch" style="background:{}"></span>{}').format(css(colour), text)


def listed(names: Iterable[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
