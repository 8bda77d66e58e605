"""Write the parts of README.md and docs/ that are made from the code and from results/.

``python docs/make_tables.py`` writes them, ``python docs/make_tables.py --check`` only says which are out of
date (exit code 1). Such a part lies between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from made.benchmarks import benchmarks, scaling
from made.common import ROOT
from made.datasets import dataset_tables
from made.interface import api, commands
from made.methods import methods_table, table_rows
from made.results import all_results, claims, comparisons, headline_results
from made.settings import settings_tables


def blocks() -> dict[tuple[str, str], str]:
    """The made parts: (file relative to the repository, name of the part) -> Markdown."""
    return {
        ("README.md", "methods"): methods_table(),
        ("README.md", "results"): headline_results(),
        ("docs/reference/results.md", "results"): all_results(),
        ("docs/reference/results.md", "comparisons"): comparisons(),
        ("docs/reference/claims.md", "claims"): claims(),
        ("docs/reference/benchmarks.md", "benchmarks"): benchmarks(),
        ("docs/reference/benchmarks.md", "scaling"): scaling(),
        ("docs/reference/settings.md", "settings"): settings_tables(),
        ("docs/reference/cli.md", "commands"): commands(),
        ("docs/reference/api.md", "api"): api(),
        ("docs/how-to/settings.md", "rows"): table_rows(),
        ("docs/how-to/public-data.md", "datasets"): dataset_tables(),
    }


def filled(text: str, name: str, content: str, where: str) -> str:
    """``text`` with ``content`` between the markers ``name``."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{where}: lacks the markers {begin} and {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def stale() -> dict[Path, str]:
    """Files whose made parts are out of date, with the text they should have."""
    texts: dict[Path, str] = {}
    for (file, name), content in blocks().items():
        path = ROOT / file
        texts[path] = filled(texts.get(path) or path.read_text(encoding="utf-8"), name, content, file)
    return {path: text for path, text in texts.items() if text != path.read_text(encoding="utf-8")}


def main() -> None:
    """Write the made parts, or with ``--check`` name those that are out of date."""
    changed = stale()
    for path, text in changed.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if changed and "--check" in sys.argv[1:] else 0)


if __name__ == "__main__":
    main()
