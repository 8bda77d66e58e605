"""What the methods of a table were told that the preset of their papers would not tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soloatlas.methods import load_method, settings_of
from soloatlas.settings import applicable, essential, flat, to_dict


def deviations(methods: Sequence[str], preset: str, changes: Sequence[str], papers: str) -> dict[str, list[str]]:
    """For each method the settings, but for those that its rows vary, that are not the paper's.

    Args:
        methods: by name.
        preset: that was asked for; ``changes`` those for every row.
        papers: preset that is the paper's for such scans.

    Returns:
        Method -> "setting=value (paper: value)", methods without any left out.
    """
    found = {}
    for name in methods:
        module = load_method(name)
        own = settings_of(module, preset, applicable(module.preset(preset), changes))
        paper = module.preset(papers)
        now, then = (flat(essential(to_dict(settings))) for settings in (own, paper))
        keys = [key for key in {**then, **now} if now.get(key) != then.get(key)]  # what is None is not kept
        if apart := [f"{key}={now.get(key)} (paper: {then.get(key)})" for key in keys]:
            found[name] = apart
    return found


def as_notes(record: dict[str, Any]) -> str:
    """The same of a record in Markdown; empty where it holds none."""
    lines = [f"- `{method}`: {', '.join(apart)}" for method, apart in record.get("deviations", {}).items()]
    if not lines:
        return ""
    papers = record.get("papers_preset", "paper")
    return (
        f"\n\nSettings that are not those of the preset `{papers}`, for every row that does not say otherwise:\n\n"
        + "\n".join(lines)
    )
