"""What every part uses."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def number(value: float | None, digits: int) -> str:
    """A measured value as text; a dash where nothing was measured."""
    return "-" if value is None else f"{value:.{digits}f}"
