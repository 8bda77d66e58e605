"""The only training loop: precision, accumulation, checkpoints, exact resume, progress, named loss terms.

A method describes what is learnt as a `Stage`; `fit` does the rest. Networks that play against each other
take turns (`Rival`). References: Adam (Kingma 2015), mixed precision with loss scaling (Micikevicius 2018),
alternating adversarial steps (Goodfellow 2014).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from soloatlas.devices import autocast, choose_precision
from soloatlas.networks.recomputation import recompute_activations
from soloatlas.randomness import seeded_modules, visiting_order
from soloatlas.settings import Schedule
from soloatlas.training.checkpoints import load_checkpoint, save_checkpoint, seconds_of_stage
from soloatlas.training.metrics import MetricsLog
from soloatlas.training.players import Player, players_of
from soloatlas.training.stage import Session, Stage, Terms

ENDLESS = 10**9  # steps of a stage that time alone ends


def fit(stage: Stage, session: Session) -> None:
    """Train the networks of ``stage`` in place.

    Starts from ``checkpoints/<stage>.safetensors`` in the run's folder if that is there, and leaves it there when done;
    a run that was killed therefore goes on where its last checkpoint was, to the same weights. Several processes share
    the batches of a step; a rival then steps once for as many batches as there are processes.

    Raises:
        RunError: a loss term became NaN or infinite.
    """
    loop, folder, device, processes = session.loop, session.folder, session.device, session.processes
    precision = choose_precision(loop.precision, device)
    players = players_of(stage, device, precision)
    if loop.recompute:
        for player in players:
            recompute_activations(player.modules)
    log = MetricsLog(folder / "metrics.csv", stage.name)
    checkpoint = folder / "checkpoints" / f"{stage.name}.safetensors"
    start = load_checkpoint(checkpoint, players)
    if processes.first:
        log.forget_after(start)
    saved, spent = time.monotonic(), seconds_of_stage(checkpoint)
    began, finished = saved - spent, start
    allowed = stage.share * (session.seconds_left() + spent)
    steps = ENDLESS if loop.fill and stage.steps else stage.steps
    for step in range(start, min(steps, session.trial.steps) if session.trial else steps):
        reached = max(step / steps, (time.monotonic() - began) / allowed if allowed else 1.0)
        reached = processes.agree(reached) if loop.minutes else reached
        if reached >= 1:
            break  # out of time
        for player in players:
            player.begin(_rate(stage.schedule, reached))
        for part in processes.share(loop.accumulate):
            _learn_from(stage, step * loop.accumulate + part, players, session, precision, log)
        processes.add_up_gradients(players[-1].modules)
        players[-1].step()
        finished = step + 1
        if session.trial:
            session.trial.step_ended(stage, device)
        if processes.first and ((step + 1) % loop.log_steps == 0 or step + 1 == steps):
            note = log.flush(step + 1)
            if session.progress:
                session.progress(stage.name, step + 1, _expected(step, steps, reached), note)
            # Only between rows of metrics.csv, so that a resumed run writes the rows of an unstopped one.
            if time.monotonic() - saved > 60 * loop.checkpoint_minutes and step + 1 < steps:
                save_checkpoint(checkpoint, players, step + 1, time.monotonic() - began)
                saved = time.monotonic()
    if processes.first and finished < steps:
        log.flush(finished)
    if processes.first and start < steps:  # a stage that ran out of time is done, too
        save_checkpoint(checkpoint, players, steps, time.monotonic() - began)
    for player in players:
        player.modules.eval()


def _expected(step: int, steps: int, reached: float) -> int:
    """Steps of a stage that time alone ends, by what is done; else as many as it has."""
    return steps if steps != ENDLESS else max(step + 1, round(step / reached) if reached else 0)


def _learn_from(
    stage: Stage,
    batch: int,
    players: Sequence[Player],
    session: Session,
    precision: torch.dtype,
    log: MetricsLog,
) -> None:
    """Gradients of the stage's own networks from one batch, after each rival's step."""
    items = visiting_order(session.seed, stage.name, stage.items, batch * stage.batch, stage.batch)
    turns = _turns(stage, batch, items)
    drawing = partial(seeded_modules, session.seed, stage.name, "layers", batch)
    for rival in players[:-1]:
        rival.modules.requires_grad_(True)
        terms, total = _take_turn(turns, rival, session.device, precision, drawing("rival"))
        rival.backward(total)
        session.processes.add_up_gradients(rival.modules, 1 / session.processes.count)
        rival.give_way()
        log.add(terms)
    terms, total = _take_turn(turns, players[-1], session.device, precision, drawing())
    players[-1].backward(total / session.loop.accumulate)
    log.add({**terms, "total": total})


def _turns(stage: Stage, batch: int, items: Sequence[int]) -> Iterator[Terms]:
    """The terms of each player in turn; nothing is computed before they are asked for, under autocast."""
    terms = stage.objective(batch, items)
    if isinstance(terms, dict):
        yield terms
    else:
        yield from terms


def _rate(schedule: Schedule, reached: float) -> float:
    """Factor of the learning rate after this part of a stage: 1, or down from there.

    ``cosine``: half a cosine to 0; ``poly``: (1 - part)^0.9, as TransMorph's code; ``step``: a tenth after every
    10 of 201 equal parts, as CLMorph's.
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * reached))
    if schedule == "poly":
        return (1 - reached) ** 0.9
    return 0.1 ** int(20.1 * reached) if schedule == "step" else 1.0


def _weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([terms[name].float() * weights[name] for name in terms if name in weights]).sum()


def _take_turn(
    turns: Iterator[Terms],
    player: Player,
    device: torch.device,
    precision: torch.dtype,
    drawing: AbstractContextManager[None],
) -> tuple[Terms, Tensor]:
    """A player's terms and the weighted sum that it minimises.

    Layers that draw (TransMorph's drop path, a sampled field) know torch's own generator alone; ``drawing`` seeds it
    meanwhile.
    """
    with autocast(device, precision), drawing:
        terms = next(turns)
    return terms, _weighted_sum(terms, player.weights)
