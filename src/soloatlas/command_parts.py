"""What several commands share: kinds of arguments, and progress and log on the terminal."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from soloatlas.errors import InputError

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
ANY = click.Path(path_type=Path)


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
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise InputError(f"{parameter.opts[-1]}: expected integers such as 1,3,4; got {value!r}") from None
