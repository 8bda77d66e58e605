"""The only training loop: precision, accumulation, checkpoints, exact resume, progress, named loss terms.

A method describes what is learnt as a `Stage`; `fit` does the rest. Networks that play against each other
take turns (`Rival`). References: Adam (Kingma 2015), mixed precision with loss scaling (Micikevicius 2018),
alternating adversarial steps (Goodfellow 2014).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from soloatlas.atomic import replacing
from soloatlas.devices import autocast, choose_precision
from soloatlas.errors import InputError, RunError
from soloatlas.networks.recomputation import recompute_activations
from soloatlas.randomness import seeded_modules, visiting_order
from soloatlas.settings import Loop, Schedule

Terms = dict[str, Tensor]


class Progress(Protocol):
    """Where long work tells how far it is."""

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of ``task`` are finished."""


@dataclass(frozen=True)
class Rival:
    """Networks that play against those of a stage: at every batch they take their step first.

    Attributes:
        networks: trained together.
        weights: factors of the terms that they minimise.
        learning_rate: of their optimiser; None: the stage's. Both follow the stage's schedule.
    """

    networks: Mapping[str, nn.Module]
    weights: Mapping[str, float]
    learning_rate: float | None = None


@dataclass(frozen=True)
class Stage:
    """One thing to learn.

    Attributes:
        name: names the checkpoint and the rows of metrics.csv.
        networks: trained together; named, so that their weights can be found again.
        objective: (step, items of the pool) -> loss terms by name, unweighted scalars; with a ``rival`` it
            is a generator that yields the rival's terms and, once the rival has stepped, the stage's own.
        weights: factor of each term in the sum that is minimised; terms without one are only logged.
        items: size of the pool that steps visit.
        steps, batch, learning_rate, schedule, betas, amsgrad: of the optimiser (Adam).
        share: of the time that is left, where time is limited (``loop.minutes``), that this stage may take.
        rival: who plays against these networks.
    """

    name: str
    networks: Mapping[str, nn.Module]
    objective: Callable[[int, Sequence[int]], Terms | Iterator[Terms]]
    weights: Mapping[str, float]
    items: int
    steps: int
    batch: int
    learning_rate: float
    schedule: Schedule = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    amsgrad: bool = False
    rival: Rival | None = None
    share: float = 1.0


def steps_of(steps: int, epochs: int, items: int, batch: int) -> int:
    """Optimiser steps of a stage: ``steps``, or as many as ``epochs`` passes over the pool take."""
    return steps or epochs * math.ceil(items / batch)


@dataclass
class Trial:
    """A few steps of every stage in place of all of them, and when each ended: what `soloatlas plan` measures.

    Attributes:
        steps: made of each stage, at most.
        stages: name to (steps of the whole stage, time after each step that was made).
    """

    steps: int = 9  # the first warms up; a teacher that is visited every 2nd or 4th step is then visited as often
    stages: dict[str, tuple[int, list[float]]] = field(default_factory=dict)

    def step_ended(self, stage: Stage, device: torch.device) -> None:
        """Note the time, once the device has done its work."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.stages.setdefault(stage.name, (stage.steps, []))[1].append(time.monotonic())


@dataclass(frozen=True)
class Session:
    """Where and how one run trains: its folder, seed, device, loop settings, who watches, and since when.

    With a ``trial``, stages stop early.
    """

    folder: Path
    seed: int
    device: torch.device
    loop: Loop
    progress: Progress | None = None
    began: float = field(default_factory=time.monotonic)
    trial: Trial | None = None

    def seconds_left(self) -> float:
        """Until ``loop.minutes`` are over; infinite where there is no limit."""
        if not self.loop.minutes:
            return math.inf
        return max(0.0, 60 * self.loop.minutes - (time.monotonic() - self.began))


def fit(stage: Stage, session: Session) -> None:
    """Train the networks of ``stage`` in place.

    Starts from ``checkpoints/<stage>.safetensors`` in the run's folder if that is there, and leaves it there when done;
    a run that was killed therefore goes on where its last checkpoint was, to the same weights.

    Raises:
        RunError: a loss term became NaN or infinite.
    """
    loop, folder, seed, device = session.loop, session.folder, session.seed, session.device
    precision = choose_precision(loop.precision, device)
    players = _players(stage)
    if loop.recompute:
        for player in players:
            recompute_activations(player.modules)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    log = MetricsLog(folder / "metrics.csv", stage.name)
    checkpoint = folder / "checkpoints" / f"{stage.name}.safetensors"
    start = load_checkpoint(checkpoint, players, scaler)
    log.forget_after(start)
    saved = began = time.monotonic()
    allowed, finished = stage.share * session.seconds_left(), start
    for step in range(start, min(stage.steps, session.trial.steps) if session.trial else stage.steps):
        reached = max(step / stage.steps, (time.monotonic() - began) / allowed if allowed else 1.0)
        if reached >= 1:
            break  # out of time
        for player in players:
            player.begin(_rate(stage.schedule, reached))
        for part in range(loop.accumulate):
            batch = step * loop.accumulate + part
            items = visiting_order(seed, stage.name, stage.items, batch * stage.batch, stage.batch)
            turns = _turns(stage, batch, items)
            drawing = partial(seeded_modules, seed, stage.name, "layers", batch)
            for rival in players[:-1]:
                rival.modules.requires_grad_(True)
                terms, total = _take_turn(turns, rival, device, precision, drawing("rival"))
                scaler.scale(total).backward()
                rival.give_way(scaler)
                log.add(terms)
            terms, total = _take_turn(turns, players[-1], device, precision, drawing())
            scaler.scale(total / loop.accumulate).backward()
            log.add({**terms, "total": total})
        scaler.step(players[-1].optimiser)
        scaler.update()
        finished = step + 1
        if session.trial:
            session.trial.step_ended(stage, device)
        if (step + 1) % loop.log_steps == 0 or step + 1 == stage.steps:
            note = log.flush(step + 1)
            if session.progress:
                session.progress(stage.name, step + 1, stage.steps, note)
            # Only between rows of metrics.csv, so that a resumed run writes the rows of an unstopped one.
            if time.monotonic() - saved > 60 * loop.checkpoint_minutes and step + 1 < stage.steps:
                save_checkpoint(checkpoint, players, scaler, step + 1)
                saved = time.monotonic()
    if finished < stage.steps:
        log.flush(finished)
    if start < stage.steps:  # a stage that ran out of time is done, too
        save_checkpoint(checkpoint, players, scaler, stage.steps)
    for player in players:
        player.modules.eval()


class _Player:
    """Networks with an optimiser of their own; the stage's own are the last to play."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        rate: float,
        stage: Stage,
    ) -> None:
        self.modules = nn.ModuleDict(dict(networks)).train()
        self.optimiser = torch.optim.Adam(self.modules.parameters(), lr=rate, betas=stage.betas, amsgrad=stage.amsgrad)
        self.weights, self.rate = weights, rate

    def begin(self, factor: float) -> None:
        """Start a step with this factor of the learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        self.optimiser.zero_grad(set_to_none=True)

    def give_way(self, scaler: torch.amp.GradScaler) -> None:
        """A rival's step; in the turn that follows it stays as it is and gets no gradient."""
        scaler.step(self.optimiser)
        self.optimiser.zero_grad(set_to_none=True)
        self.modules.requires_grad_(False)


def _players(stage: Stage) -> list[_Player]:
    players = [_Player(stage.networks, stage.weights, stage.learning_rate, stage)]
    if stage.rival:
        r = stage.rival
        players.insert(0, _Player(r.networks, r.weights, r.learning_rate or stage.learning_rate, stage))
    return players


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


class MetricsLog:
    """Rows (stage, step, term, value) of metrics.csv: means of each loss term since the last row.

    A term that not every batch has is averaged over those that have it.
    """

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def forget_after(self, step: int) -> None:
        """Drop this stage's rows after ``step``: they will be made again."""
        rows = self._rows()
        kept = [r for r in rows if r[0] != self.stage or int(r[1]) <= step]
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([["stage", "step", "term", "value"], *kept])

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Take up one batch's terms; stays on the device, so nothing waits for it."""
        for name, value in terms.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def flush(self, step: int) -> str:
        """Append the means up to ``step`` and return them as a short text.

        Raises:
            RunError: a term is not finite.
        """
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        wrong = [name for name, value in means.items() if not math.isfinite(value)]
        if wrong:
            raise RunError(
                f"{self.stage}: loss term '{wrong[0]}' is not finite at step {step}; lower the learning rate "
                "or use --set loop.precision=float32, then go on with --resume"
            )
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([self.stage, step, n, f"{v:.6g}"] for n, v in means.items())
        self.sums, self.counts = {}, {}
        return " ".join(f"{name} {value:.4f}" for name, value in means.items())

    def _rows(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.reader(file) if len(row) == 4 and row[1].isdigit()]


def _take_turn(
    turns: Iterator[Terms],
    player: _Player,
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


def save_checkpoint(path: Path, players: Sequence[_Player], scaler: torch.amp.GradScaler, step: int) -> None:
    """Write weights, optimiser states and step count as safetensors (nothing is pickled)."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for number, player in enumerate(players):
        tensors |= {f"weights.{number}.{k}": v.contiguous() for k, v in player.modules.state_dict().items()}
        for index, state in player.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{index}.{k}": v.contiguous() for k, v in state.items()}
    scale = scaler.state_dict()
    metadata = {"step": str(step), **{f"scaler.{k}": str(v) for k, v in scale.items()}}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(path: Path, players: Sequence[_Player], scaler: torch.amp.GradScaler) -> int:
    """Restore what `save_checkpoint` wrote and return its step; 0 if there is no checkpoint.

    Raises:
        RunError: the checkpoint does not fit these networks.
    """
    if not path.exists():
        return 0
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    try:
        for number, player in enumerate(players):
            player.modules.load_state_dict(_part(tensors, f"weights.{number}."))
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _part(tensors, f"optimiser.{number}.").items():
                index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
            groups = player.optimiser.state_dict()["param_groups"]
            player.optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunError(f"{path}: does not fit these settings; start again without --resume") from error
    if scaler.is_enabled():
        saved = {k.removeprefix("scaler."): float(v) for k, v in metadata.items() if k.startswith("scaler.")}
        scaler.load_state_dict({k: int(v) if k.startswith("_g") else v for k, v in saved.items()})
    return int(metadata["step"])


def checkpoint_weights(path: Path, name: str) -> dict[str, Tensor]:
    """State of the network ``name`` in a checkpoint: of the stage's own networks, not of a rival.

    Raises:
        InputError: the checkpoint is gone or damaged, or holds no such network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read, and only it holds the {name}; train the run again") from error
    players = {key.split(".")[1] for key in tensors if key.startswith("weights.")}
    found = _part(tensors, f"weights.{max(players, default='0')}.{name}.")
    if not found:
        raise InputError(f"{path}: holds no {name}; train the run again")
    return found


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
