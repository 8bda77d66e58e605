"""The command that says what a training will take before it is started."""

from __future__ import annotations

import json
from typing import Any

import click

from soloatlas.command_parts import Asked, asks_for_training, watched


@click.command()
@asks_for_training
@click.option("--json", "as_json", is_flag=True)
@watched
def plan(asked: Asked, as_json: bool, progress: Any) -> None:
    """Say what a training will take here (time, memory, disk), by doing a little of it; give what train would be given.

    Nothing is left behind but a few prepared scans in the cache, which the training will find there.
    """
    from soloatlas import pipeline
    from soloatlas.planning import as_text

    found = pipeline.plan(*asked, progress=progress)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else as_text(found))
