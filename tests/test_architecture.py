"""The straight line holds: who may import whom."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "soloatlas"
FILES = sorted(SOURCE.rglob("*.py"))


def imports_of(path):
    """Our own modules that a file imports anywhere, as dotted names below soloatlas."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "soloatlas":
            base = node.module.removeprefix("soloatlas").lstrip(".")
            found |= {base} if base else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("soloatlas.") for a in node.names if a.name.startswith("soloatlas.")}
    return found


def part(module):
    return module.split(".")[0]


BASE = {"errors", "atomic", "machine", "settings"}
ALLOWED = {
    "data": BASE | {"data"},
    "fields.py": set(),
    "losses": {"fields", "losses", "errors"},
    "networks": {"fields", "networks", "errors"},
    "evaluation": BASE | {"data", "evaluation"},
    "prepare": BASE | {"data", "prepare"},
    "synthesis.py": {"fields"},
    "augmentation.py": {"fields", "settings"},
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    home = path.relative_to(SOURCE).parts[0]
    used = {part(m) for m in imports_of(path)}
    if home in ALLOWED:
        assert used <= ALLOWED[home], f"{path.name} imports {used - ALLOWED[home]}"
    if home == "methods" and path.stem != "__init__":
        assert "data" not in used
        assert {m for m in imports_of(path) if m.startswith("methods.")} == set()
    if path.stem != "cli":
        assert "cli" not in used


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 80, f"{node.name} is too long"
