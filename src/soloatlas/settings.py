"""Settings: frozen dataclasses, changed by ``key=value``, read and written as TOML or JSON.

A method composes these parts in its own file (``methods/<name>.py``) and gives the values of each preset
there, beside the source of each value. An unknown key is answered with the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

from soloatlas.errors import InputError

T = TypeVar("T")

Align = Literal["none", "centre", "rigid", "affine"]
Preset = Literal["quick", "standard", "paper", "paper-ct"]
PRESETS: tuple[str, ...] = typing.get_args(Preset)
Form = Literal["table", "original"]  # Table I's rule, or the authors' own; `methods.settings_of` applies it
Schedule = Literal["constant", "cosine", "poly", "step"]


@dataclass(frozen=True)
class Prepare:
    """How every scan is brought onto the working grid."""

    align: Align = "affine"  # scans of one kind rarely share a frame; "none" for cohorts already aligned
    spacing: float | None = None  # mm, isotropic; None: the atlas's own spacing along each axis
    crop: Literal["body", "labels", "none"] = "body"  # "labels": around the atlas's labels, for parts of a body
    margin: float = 6.0  # mm around the body, a fifth of it at most: room for scans larger than the atlas
    size: tuple[int, int, int] | None = None  # voxels to R, A and S about the crop's centre; None: what it needs
    multiple: int = 16  # four halvings in every network
    normalise: Literal["percentile", "zscore", "window"] = "percentile"
    percentiles: tuple[float, float] = (0.5, 99.5)  # robust against a few bright voxels
    window: tuple[float, float] = (-160.0, 240.0)  # HU, soft tissue; used by normalise="window"


@dataclass(frozen=True)
class Loop:
    """How every network is trained, whatever it learns."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    accumulate: int = 1  # batches per optimiser step
    recompute: bool = False  # blocks of the networks are computed again in the backward pass: slower, far less memory
    checkpoint_minutes: float = 2.0  # what a killed run loses at most
    minutes: float = 0.0  # of training at most, shared among the stages; 0: as long as the steps take
    fill: bool = False  # train until the minutes are over, however many steps that makes
    log_steps: int = 10  # metrics.csv holds the mean of each term over so many steps


@dataclass(frozen=True)
class Augment:
    """Random changes of the training pairs; each draw is uniform within plus and minus the value."""

    enabled: bool = True
    rotation: float = 15.0  # degrees about each axis
    scale: float = 0.15  # relative size along each axis
    shear: float = 0.1
    translation: float = 0.05  # of the grid's length
    elastic: float = 2.0  # voxels, standard deviation at the control points; smoothed to a third of it
    elastic_spacing: int = 12  # voxels between its control points
    gamma: float = 0.35  # exponent of the intensity curve: exp(draw)
    contrast: float = 0.15  # relative gain, and half of it as an offset
    bias: float = 0.25  # of the log of the smooth multiplicative field, at its control points
    noise: float = 0.04  # standard deviation at most, intensities being in [0, 1]


@dataclass(frozen=True)
class Registration:
    """Atlas-to-scan registration by a network (OS-MedSeg III-A, Eqs. 2, 5-9)."""

    network: str = "siamese"  # any name of networks.choice.REGISTRATION_NETWORKS; or syn, in os-medseg
    channels: tuple[int, ...] = (32, 64, 64, 64)  # "doubled"; (16, 32, 32, 32) is undoubled
    half_resolution: bool = False  # decode the field at half the resolution: 4x cheaper
    integration_steps: int = 0  # > 0: the output is a velocity, the field diffeomorphic
    integration_grid: Literal["full", "half"] = "full"  # half: as VoxelMorph's PyTorch code
    similarity: Literal["cc", "mi", "mse"] = "cc"
    window: int = 9  # "n = 9 as recommended by [26]"
    bins: int = 32
    smoothness: Literal["diffusion", "bending"] = "diffusion"
    alpha: float = 1.0  # "Following [1], we set alpha to 1 and beta to 0.01"
    beta: float = 0.01
    temperature: float = 0.5  # not in the paper; the withdrawn code's default
    divergence: float = 0.0  # weight of a Gaussian field's divergence from N(0, 1): CLMorph's own form
    steps: int = 0  # optimiser steps; 0: `epochs` passes over the pool
    epochs: int = 500
    batch: int = 2
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"
    amsgrad: bool = False  # the variant of Adam of TransMorph's code

    @property
    def learnt(self) -> bool:
        """Whether a network is trained; ``syn`` registers each scan by itself."""
        return self.network != "syn"


@dataclass(frozen=True)
class Segmenter:
    """The residual U-Net of Fig. 3, or another network, and how it is trained on labelled pairs (Eq. 11)."""

    network: Literal["residual", "group", "slices"] = "residual"  # group: BRBS's own; slices: DataAug's own, 2-D
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    residual: bool = True  # Fig. 3; the withdrawn code's student is plain
    decoder_residual: bool = True
    norm: Literal["instance", "instance_affine", "layer"] = "instance"
    order: Literal["NDA", "ADN"] = "NDA"  # norm-dropout-activation; the text says conv-PReLU-norm
    weight: float = 1.0  # of the segmentation loss; 0 is the first row of Table IV
    cross_entropy: float = 1.0  # 0 leaves soft Dice alone: BRBS's own form
    balance: float = 0.0  # how far cross entropy evens out the sizes of classes: 0 not at all (the paper), 1 fully
    dice: float = 0.0  # weight of the soft Dice loss beside cross entropy; the paper has none
    warm_up: float = 0.0  # share of the steps that first fit the logits to log labels: DataAug's own form
    slices: int = 16  # of each pair that a step of the network of slices sees; DataAug's code
    patch: tuple[int, ...] = ()  # voxels; (): the whole grid, or what of it fits in memory
    steps: int = 0
    epochs: int = 200
    batch: int = 2
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    amsgrad: bool = False  # the variant of Adam of DataAug's code


@dataclass(frozen=True)
class Groupwise:
    """How a group is registered and its labels fused; values of the published program."""

    simulated: bool = True  # simulated templates between the atlases; needs three atlases or more
    modes: int = 4  # of the fields between atlases, from which templates are drawn
    tree_iterations: tuple[int, ...] = (15, 10, 5)  # demons at 1/4, 1/2 and full size, along the tree
    tree_sigma: float = 1.5  # voxels, smoothing of the field
    refine_iterations: tuple[int, ...] = (5, 3, 2)
    refine_sigma: float = 2.0
    rounds: int = 3  # of fusion; from the second on, scans of the group vote, too


@dataclass(frozen=True)
class Segmenting:
    """Settings of a method that learns to segment from labelled scans."""

    prepare: Prepare = dataclasses.field(default_factory=Prepare)
    augment: Augment = dataclasses.field(default_factory=Augment)
    student: Segmenter = dataclasses.field(default_factory=Segmenter)
    loop: Loop = dataclasses.field(default_factory=Loop)


@dataclass(frozen=True)
class Registering:
    """Settings of a method that learns to register."""

    prepare: Prepare = dataclasses.field(default_factory=Prepare)
    registration: Registration = dataclasses.field(default_factory=Registration)
    loop: Loop = dataclasses.field(default_factory=Loop)
    form: Form = "table"


def to_dict(settings: Any) -> dict[str, Any]:
    """Nested plain dictionary of a settings dataclass, ready for JSON or TOML (``None`` left out)."""
    out: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            out[field.name] = to_dict(value)
        elif value is not None:
            out[field.name] = list(value) if isinstance(value, tuple) else value
    return out


def essential(plain: dict[str, Any]) -> dict[str, Any]:
    """What a result depends on: settings (of `to_dict`) but for where and how fast it is computed."""
    loop = {key: plain["loop"][key] for key in ("precision", "accumulate", "minutes")}
    # Left out where false: results from before there was such a setting stay known.
    return {**plain, "loop": {**loop, "fill": True} if plain["loop"].get("fill") else loop}


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings (of `to_dict`) by dotted key."""
    out: dict[str, Any] = {}
    for key, value in plain.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def from_dict(kind: type[T], content: dict[str, Any], where: str = "settings") -> T:
    """Build the settings dataclass ``kind`` from a nested dictionary; keys left out keep their default.

    Raises:
        InputError: an unknown key (the nearest known one is named) or a value of the wrong type.
    """
    return merge(kind(), content, where)


def merge(settings: T, content: dict[str, Any], where: str = "settings") -> T:
    """``settings`` with the values of the nested dictionary ``content`` put in (errors as `from_dict`)."""
    hints = typing.get_type_hints(type(settings))
    known = {f.name: hints[f.name] for f in fields(settings)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise InputError(f"{where}: unknown setting '{key}'{_nearest(key, known)}")
        current = getattr(settings, key)
        if is_dataclass(current) and not isinstance(current, type):
            changes[key] = merge(current, _section(value, current, f"{where}.{key}"), f"{where}.{key}")
        else:
            changes[key] = _convert(value, known[key], f"{where}.{key}")
    return replace(settings, **changes)  # type: ignore[type-var]


def override(settings: T, assignments: Iterable[str]) -> T:
    """``settings`` after ``key=value`` or ``section.key=value`` assignments, as given to ``--set``.

    A section that has an ``enabled`` key can be switched as a whole: ``teacher=false``.

    Raises:
        InputError: not of that form, an unknown key (the nearest is named) or a wrong value.
    """
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign or not key.strip():
            raise InputError(f"--set {assignment}: expected key=value, for example hint.weight=1")
        content: Any = _parse(text.strip())
        for part in reversed(key.strip().split(".")):
            content = {part: content}
        try:
            settings = merge(settings, content, where="--set")
        except InputError as error:  # "--set.hint.weight: ..." is how nobody writes it
            raise InputError(str(error).replace("--set.", "--set ", 1)) from error
    return settings


def _section(value: Any, current: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, bool) and any(f.name == "enabled" for f in fields(current)):
        return {"enabled": value}
    names = ", ".join(f.name for f in fields(current))
    raise InputError(f"{where}: is a section; set one of its keys ({names})")


def _parse(text: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word: choices need no quotes


def _nearest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def _convert(value: Any, kind: Any, where: str) -> Any:
    origin, choices = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value in choices:
            return value
        raise InputError(f"{where}: '{value}' is not one of {', '.join(map(str, choices))}")
    if origin in (typing.Union, types.UnionType):
        return None if value in (None, "none") else _convert(value, choices[0], where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (choices[-1] is not Ellipsis and len(value) != len(choices)):
            asked = "a list such as [1, 2]" if choices[-1] is Ellipsis else f"{len(choices)} numbers in a list"
            raise InputError(f"{where}: expected {asked}, got {value!r}")
        return tuple(_convert(item, choices[0], where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise InputError(f"{where}: expected {_KINDS.get(kind, kind.__name__)}, got {value!r}")


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def applicable(settings: Any, changes: Sequence[str]) -> list[str]:
    """Those of the changes (``key=value``) whose section these settings have: some are meant for other methods."""
    sections = {key.partition(".")[0] for key, _ in describe(settings)}
    return [change for change in changes if change.partition("=")[0].partition(".")[0] in sections]


def require_applicable(all_settings: Sequence[Any], changes: Sequence[str]) -> None:
    """Refuse a change whose section none of several methods' settings has.

    Raises:
        InputError: naming the change.
    """
    for change in changes:
        if not any(applicable(settings, [change]) for settings in all_settings):
            raise InputError(f"--set {change}: no method here has it; docs/reference/settings.md lists what each has")


def describe(settings: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Flat list of (dotted key, value), for tables."""
    rows: list[tuple[str, Any]] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        name = f"{prefix}{field.name}"
        rows += describe(value, f"{name}.") if is_dataclass(value) else [(name, value)]
    return rows
