"""The methods: one file each, found by entry point, listed without importing torch."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from types import ModuleType
from typing import Any, Literal

from soloatlas import presets
from soloatlas.errors import InputError
from soloatlas.settings import Segmenter, describe, override

log = logging.getLogger("soloatlas")

Family = Literal["LS", "Trad", "ABS", "LRLS", "supervised", "multi-atlas"]


@dataclass(frozen=True)
class Method:
    """What a reader should know of a method before running it.

    Attributes:
        name: on the command line.
        family: LS learns from the atlas alone; Trad registers classically; ABS learns to register; LRLS
            learns registration to learn segmentation.
        paper: citation.
        needs: what it trains on.
        typical: time of training (of a scan where nothing is trained) and memory at most, with the preset ``quick`` on
            2 CPU cores, from hippocampi to brains at 2 mm.
        stages: what `segment --stage` can give, the method's own result last: ``register``, the atlas's labels
            warped; ``student``, the network that segments.
        pool: what it learns from the pool: its ``scans``, ``labelled`` scans (which is not one-shot), or ``none``.
        atlases: how many labelled scans it takes.
        patches: whether it can be trained on patches of the working grid, where the whole does not fit in memory.
        learns: whether anything is learnt: else the seed changes nothing.
        least: unlabelled scans that it can do with.
        modules: Python modules that it needs beside the package's own, from the extra ``ants``.
    """

    name: str
    family: Family
    paper: str
    needs: str
    typical: str
    stages: tuple[Literal["register", "student"], ...]
    pool: Literal["scans", "labelled", "none"] = "scans"
    atlases: Literal["one", "several"] = "one"
    patches: bool = True
    learns: bool = True
    least: int = 1
    modules: tuple[str, ...] = ()


def available_methods() -> dict[str, Method]:
    """Every installed method by name; another package adds one by the entry point ``soloatlas.methods``."""
    found = {}
    for name in _entry_points():
        try:
            found[name] = load_method(name).METHOD
        except InputError as error:  # somebody else's package: the other methods are none the worse
            log.warning("%s", error)
    return found


def lacks_modules(method: Method) -> str:
    """What has to be installed before a method works, in words; empty where nothing has."""
    absent = [name for name in method.modules if util.find_spec(name) is None]
    return f"needs {', '.join(absent)}; pip install 'soloatlas[ants]'" if absent else ""


def load_method(name: str) -> ModuleType:
    """The module of a method; what it holds is told in docs/explanation/architecture.md.

    Raises:
        InputError: there is no such method.
    """
    points = _entry_points()
    if name not in points:
        close = difflib.get_close_matches(name, points, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"{name}: not a method; {hint}known: {', '.join(points)}")
    try:
        module: ModuleType = points[name].load()
    except Exception as error:  # whatever an installed package does when it is imported
        raise InputError(
            f"{name}: the package of this method cannot be loaded ({error}); update or remove it"
        ) from error
    if getattr(getattr(module, "METHOD", None), "name", "") != name:
        raise InputError(f"{name}: the package of this method calls it otherwise; its METHOD.name must be {name!r}")
    return module


def settings_of(method: ModuleType, preset: str, changes: Iterable[str] = ()) -> Any:
    """What a method is told: its preset, in the form asked for, and every other change.

    Args:
        method: the module of a method.
        preset: name of the preset.
        changes: ``key=value``, as given to ``--set``.

    Raises:
        InputError: a change that the method's settings do not take.
    """
    changes = with_network_values(list(changes), preset)
    settings = override(method.preset(preset), changes)
    if getattr(settings, "form", "table") == "table":
        return settings
    # A form is another start, not one more change: `preset` and `original` each give a whole set of settings, so that
    # a run's record shows every value in effect, and any --set still wins, wherever it stands. Networks are chosen by
    # the settings alone; no code asks for the form.
    return override(method.original(preset), changes)


def with_network_values(changes: list[str], preset: str) -> list[str]:
    """The changes, and before them what the registration network that they name takes of its own."""
    given = {key.strip(): value.strip().strip("\"'") for key, _, value in (change.partition("=") for change in changes)}
    own = presets.of_network(given.get("registration.network", ""), preset)
    values = {f"registration.{key}": list(v) if isinstance(v, tuple) else v for key, v in own.items()}
    return [*(f"{key}={value}" for key, value in values.items() if key not in given), *changes]


def check_settings(settings: Any, syn: bool = False) -> None:
    """Refuse values that no method can work with, in the parts that ``settings`` has.

    Args:
        syn: whether the method can do with SyN's fields instead of a network's (``registration.network=syn``).

    Raises:
        InputError: naming the setting and what it may be.
    """
    _check_numbers(settings)
    if settings.loop.fill and not settings.loop.minutes:
        raise InputError("loop.fill=true: needs a time; add --set loop.minutes=10, or leave it out")
    if hasattr(settings, "student"):
        _check_student(settings.student)
    if hasattr(settings, "registration"):
        if not (settings.registration.learnt or syn):
            raise InputError("registration.network=syn: this method trains a network; os-medseg takes SyN's fields")
        if len(settings.registration.channels) != 4:
            raise InputError("registration.channels takes four widths")


# By the last part of a setting's name. No other number may be below 0, but for the Hounsfield units of a window.
AT_LEAST_1 = ("accumulate", "log_steps", "batch", "slices", "multiple", "size", "channels", "window", "elastic_spacing")
ABOVE_0 = ("spacing", "learning_rate", "temperature")


def _check_numbers(settings: Any) -> None:
    for key, value in describe(settings):
        numbers = [n for n in (value if isinstance(value, tuple) else (value,)) if type(n) in (int, float)]
        name = key.rpartition(".")[2]
        if not numbers or key == "prepare.window":
            continue
        if not all(math.isfinite(n) for n in numbers):
            raise InputError(f"{key}={_plain(value)}: must be a number, and finite")
        if name in AT_LEAST_1 and min(numbers) < 1:
            raise InputError(f"{key}={_plain(value)}: must be at least 1")
        if name in ABOVE_0 and key != "adversary.learning_rate" and min(numbers) <= 0:
            raise InputError(f"{key}={_plain(value)}: must be above 0")
        if min(numbers) < 0:
            raise InputError(f"{key}={_plain(value)}: must be 0 or more")
        if name == "betas" and max(numbers) >= 1:
            raise InputError(f"{key}={_plain(value)}: both must be below 1")
    if settings.prepare.multiple % 16:
        raise InputError(f"prepare.multiple={settings.prepare.multiple}: networks halve four times; give 16 or 32")
    if hasattr(settings, "registration") and settings.registration.window % 2 == 0:
        raise InputError(f"registration.window={settings.registration.window}: must be odd, with a voxel in its middle")
    for key in ("percentiles", "window"):
        low, high = getattr(settings.prepare, key)
        if low >= high:
            raise InputError(f"prepare.{key}={_plain((low, high))}: the first must be below the second")


def _plain(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def _check_student(s: Segmenter) -> None:
    if s.patch and (len(s.patch) != 3 or any(n < 32 or n % 16 for n in s.patch)):
        raise InputError(f"student.patch={list(s.patch)}: give three multiples of 16, each at least 32")
    if s.patch and s.network == "slices":
        raise InputError("student.patch: a network of slices sees whole slices; leave the patch out")
    if len(s.channels) != 5 and s.network != "slices":
        raise InputError("student.channels takes five widths")
    if len(s.channels) < 2:
        raise InputError("student.channels takes two widths or more")
    if s.weight and not (s.cross_entropy or s.dice):
        raise InputError("student.cross_entropy=0 and student.dice=0: nothing is left to learn from; set one of them")
    if not 0 <= s.balance <= 1:
        raise InputError(f"student.balance={s.balance:g}: from 0 (every voxel counts the same) to 1 (every class)")
    if not 0 <= s.warm_up <= 1:
        raise InputError(f"student.warm_up={s.warm_up:g}: a share of the steps, from 0 to 1")


def trained_beside(student: Segmenter, name: str, networks: Sequence[str]) -> None:
    """Refuse what a student that is trained together with another network cannot have.

    Args:
        student: its settings.
        name: of the method.
        networks: that the method can train so.

    Raises:
        InputError: naming the setting.
    """
    if student.network not in networks:
        raise InputError(f"student.network={student.network}: {name} takes {' or '.join(networks)}")
    for key in ("warm_up", "amsgrad"):
        if getattr(student, key):
            raise InputError(f"student.{key}: {name} trains its student together with another network; leave it out")


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in sorted(metadata.entry_points(group="soloatlas.methods"))}
