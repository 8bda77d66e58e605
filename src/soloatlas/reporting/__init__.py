"""One self-contained HTML page on a run: what went in, what came out, and whether to believe it."""

from soloatlas.reporting.page import render_report

__all__ = ["render_report"]
