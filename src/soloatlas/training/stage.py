"""What is learnt, by whom and where: the words in which a method tells the loop what to do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from soloatlas.processes import Processes
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
        learning_rate, betas: of their optimiser; None: the stage's. Both follow the stage's schedule.
    """

    networks: Mapping[str, nn.Module]
    weights: Mapping[str, float]
    learning_rate: float | None = None
    betas: tuple[float, float] | None = None


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

    ``began`` lies as far back as earlier sittings trained: a time limit is one for all of them.
    With a ``trial``, stages stop early; with several ``processes``, each takes its share of every step. In ``paused``
    stand seconds since ``began`` in which nothing was learnt.
    """

    folder: Path
    seed: int
    device: torch.device
    loop: Loop
    progress: Progress | None = None
    began: float = field(default_factory=time.monotonic)
    trial: Trial | None = None
    processes: Processes = field(default_factory=Processes)
    paused: list[float] = field(default_factory=list)

    def seconds_left(self) -> float:
        """Until ``loop.minutes`` are over; infinite where there is no limit."""
        if not self.loop.minutes:
            return math.inf
        return max(0.0, 60 * self.loop.minutes - (time.monotonic() - self.started()))

    def started(self) -> float:
        """When training would have begun, had it been in one sitting and without pause."""
        return self.began + sum(self.paused)
