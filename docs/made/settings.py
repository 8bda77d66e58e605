"""Every setting of every method."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

from made.meanings import MEANING
from soloatlas.tables import markdown_table as table


def settings_tables() -> str:
    """Every setting of every method with its value in each preset.

    The first method's are given in full; of another's, those it has alone and those whose values differ.
    """
    from soloatlas.methods import available_methods, load_method
    from soloatlas.settings import PRESETS, describe

    names = sorted(available_methods(), key=lambda name: (name != "os-medseg", name))
    full = [dict(describe(load_method(names[0]).preset(preset))) for preset in PRESETS]
    parts = []
    for name in names:
        module = load_method(name)
        values = [dict(describe(module.preset(preset))) for preset in PRESETS]
        alike = [
            key for key in values[0] if name != names[0] and [v[key] for v in values] == [f.get(key) for f in full]
        ]
        parts.append(f"## {name}\n\n{_sections(typing.get_type_hints(module.Settings), values, alike)}")
        if hasattr(module, "original"):
            parts.append(_original(name, module, values))
    return "\n\n".join(parts)


def _original(name: str, module: Any, values: Sequence[dict[str, Any]]) -> str:
    """What the authors' own form of a method has otherwise."""
    from soloatlas.settings import PRESETS, describe

    own = [dict(describe(module.original(preset))) for preset in PRESETS]
    keys = [key for key in values[0] if key != "form" and [v[key] for v in values] != [o[key] for o in own]]
    rows = [[f"`{key}`", *(_value(o[key]) for o in own)] for key in keys]
    title, given = f"### {name}, form=original", f"`form` {MEANING['form']}; with the latter:"
    return f"{title}\n\n{given}\n\n{table(['setting', *PRESETS], rows)}\n\nAll others stay as they are."


def _sections(hints: dict[str, Any], values: Sequence[dict[str, Any]], left_out: Sequence[str]) -> str:
    """A table of settings for each section; those ``left_out`` are only mentioned."""
    from soloatlas.settings import PRESETS

    parts = []
    single = {key: kind for key, kind in hints.items() if not is_dataclass(kind) and key != "form"}  # has its own table
    for section, kind in {"general": None, **hints}.items():
        if not (kind is None or is_dataclass(kind)):
            continue
        types = single if kind is None else {f"{section}.{k}": t for k, t in typing.get_type_hints(kind).items()}
        keys = [k for k in values[0] if k in types and k not in left_out]
        rows = [[f"`{k}`", _kind(types[k]), MEANING[k], *(_value(v[k]) for v in values)] for k in keys]
        if rows:
            parts.append(f"### {section}\n\n{table(['setting', 'values', 'what it does', *PRESETS], rows)}")
    if left_out:
        sections = ", ".join(f"`{s}`" for s in dict.fromkeys(k.partition(".")[0] for k in left_out))
        parts.append(f"All others of {sections} are as above.")
    return "\n\n".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(map(str, parts))
    if origin is tuple:
        return f"list of {_kind(parts[0])}"
    if parts:
        return " or ".join(_kind(p) for p in parts)
    return {"NoneType": "none", "str": "text"}.get(kind.__name__, kind.__name__)
