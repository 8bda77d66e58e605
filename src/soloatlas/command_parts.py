"""What several commands share: kinds of arguments, and progress and log on the terminal."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from soloatlas.errors import InputError

if TYPE_CHECKING:
    from soloatlas.data.study import Study

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
ANY = click.Path(path_type=Path)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="auto: an NVIDIA GPU if there is one. mps (Apple) is refused: PyTorch lacks what is needed there.",
)


def watched(command: Callable[..., Any]) -> Callable[..., Any]:
    """Run a command with its log on the terminal and a progress display handed in as ``progress``."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from soloatlas.progress import shown_progress

        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.setLevel(logging.WARNING)
        logging.getLogger("soloatlas").addHandler(handler)
        try:
            with shown_progress() as progress:
                return command(*args, progress=progress, **kwargs)
        finally:
            logging.getLogger("soloatlas").removeHandler(handler)

    return wrapper


def integers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Numbers with commas between them, as an option's callback.

    Raises:
        InputError: something else was given.
    """
    if value is None:
        return None
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise InputError(f"{parameter.opts[-1]}: expected integers such as 1,3,4; got {value!r}") from None
    if len(set(found)) < len(found):
        raise InputError(f"{parameter.opts[-1]} {value}: names a number twice")
    return found


class Asked(NamedTuple):
    """A training as it was asked for: the first arguments of `pipeline.train` and `pipeline.plan`."""

    study: Study
    method: str
    preset: str
    changes: list[str]
    seed: int


STUDY = (
    click.argument("study", type=FOLDER, required=False),
    click.option("--atlas", type=FILE, multiple=True, help="The labelled scan; multi-atlas methods take several."),
    click.option("--atlas-labels", type=FILE, multiple=True, help="Its label map; as many as --atlas, in its order."),
    click.option("--unlabelled", "--unlabeled", type=FOLDER, help="Folder of unlabelled scans."),
    click.option("--label-names", type=FILE, help="labels.json, dataset.json, ITK-SNAP or FreeSurfer table."),
)

TRAINING = (
    click.option("--pool-labels", type=FOLDER, help="Labels of the unlabelled scans, for --method supervised alone."),
    click.option("--method", default="os-medseg", show_default=True, help="See soloatlas methods."),
    click.option(
        "--preset",
        type=click.Choice(["quick", "standard", "paper", "paper-ct"]),
        default="quick",
        show_default=True,
    ),
    click.option("--spacing", type=float, help="Working grid in mm, isotropic (default: the atlas's own)."),
    click.option("--align", type=click.Choice(["none", "centre", "rigid", "affine"]), help="Alignment to the atlas."),
    device_option,
    click.option("--seed", type=int, default=0, show_default=True),
    click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Any setting; repeatable."),
)


def asks_for_study(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument and options that name a study, handed in as ``study``."""

    @functools.wraps(command)
    def wrapper(
        *,
        study: Path | None,
        atlas: tuple[Path, ...],
        atlas_labels: tuple[Path, ...],
        unlabelled: Path | None,
        label_names: Path | None,
        **others: Any,
    ) -> Any:
        return command(study=_study(study, atlas, atlas_labels, unlabelled, label_names), **others)

    return _with(STUDY, wrapper)


def asks_for_training(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument and options that say what to train, handed in as ``asked``."""

    @functools.wraps(command)
    def wrapper(
        *,
        study: Study,
        pool_labels: Path | None,
        method: str,
        preset: str,
        spacing: float | None,
        align: str | None,
        device: str,
        seed: int,
        changes: tuple[str, ...],
        **others: Any,
    ) -> Any:
        from soloatlas.data.study import with_pool_labels

        study = with_pool_labels(study, pool_labels) if pool_labels else study
        settings = [f"loop.device={device}"]
        settings += [f"prepare.spacing={spacing}"] if spacing is not None else []
        settings += [f"prepare.align={align}"] if align else []
        return command(asked=Asked(study, method, preset, [*settings, *changes], seed), **others)

    return asks_for_study(_with(TRAINING, wrapper))


def _with(parameters: tuple[Callable[..., Any], ...], command: Callable[..., Any]) -> Callable[..., Any]:
    for add in reversed(parameters):
        command = add(command)
    return command


def _study(
    folder: Path | None,
    atlases: tuple[Path, ...],
    labels: tuple[Path, ...],
    unlabelled: Path | None,
    label_names: Path | None,
) -> Study:
    from dataclasses import replace

    from soloatlas.data.study import make_study, read_study

    parts = {"--atlas": atlases, "--atlas-labels": labels, "--unlabelled": unlabelled}
    if folder is not None:
        extra = [name for name, value in parts.items() if value]
        if extra:
            raise InputError(f"STUDY {folder} and {extra[0]} exclude each other; give one or the other")
        found = read_study(folder)
        return replace(found, label_names=label_names) if label_names else found
    missing = [name for name, value in parts.items() if not value]
    if missing:
        raise InputError(f"{' and '.join(missing)} missing; give a STUDY folder, or all of {', '.join(parts)}")
    if len(atlases) != len(labels):
        raise InputError(f"{len(atlases)} --atlas and {len(labels)} --atlas-labels; give as many of each, in one order")
    assert unlabelled
    made = make_study(atlases[0], labels[0], unlabelled, label_names)
    return replace(made, more_atlases=tuple(zip(atlases[1:], labels[1:], strict=True)))
