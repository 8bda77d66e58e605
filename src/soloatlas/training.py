"""The only training loop: precision, accumulation, checkpoints, exact resume, progress, named loss terms.

A method describes what is learnt as a `Stage`; `fit` does the rest. References: Adam (Kingma 2015), mixed
precision with loss scaling (Micikevicius 2018).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from soloatlas.atomic import replacing
from soloatlas.devices import autocast, choose_precision
from soloatlas.errors import RunError
from soloatlas.randomness import visiting_order
from soloatlas.settings import Loop


class Progress(Protocol):
    """Where long work tells how far it is."""

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of ``task`` are finished."""


@dataclass(frozen=True)
class Stage:
    """One thing to learn.

    Attributes:
        name: names the checkpoint and the rows of metrics.csv.
        networks: trained together; named, so that their weights can be found again.
        objective: (step, items of the pool) -> loss terms by name, unweighted scalars.
        weights: factor of each term in the sum that is minimised; terms without one are only logged.
        items: size of the pool that steps visit.
        steps, batch, learning_rate, schedule: of the optimiser (Adam).
    """

    name: str
    networks: Mapping[str, nn.Module]
    objective: Callable[[int, Sequence[int]], dict[str, Tensor]]
    weights: Mapping[str, float]
    items: int
    steps: int
    batch: int
    learning_rate: float
    schedule: Literal["constant", "cosine"] = "constant"


def steps_of(steps: int, epochs: int, items: int, batch: int) -> int:
    """Optimiser steps of a stage: ``steps``, or as many as ``epochs`` passes over the pool take."""
    return steps or epochs * math.ceil(items / batch)


@dataclass(frozen=True)
class Session:
    """Where and how one run trains: its folder, seed, device, loop settings and who watches."""

    folder: Path
    seed: int
    device: torch.device
    loop: Loop
    progress: Progress | None = None


def fit(stage: Stage, session: Session) -> None:
    """Train the networks of ``stage`` in place.

    Starts from ``checkpoints/<stage>.safetensors`` in the run's folder if that is there, and leaves it there when done;
    a run that was killed therefore goes on where its last checkpoint was, to the same weights.

    Raises:
        RunError: a loss term became NaN or infinite.
    """
    loop, folder, seed, device = session.loop, session.folder, session.seed, session.device
    precision = choose_precision(loop.precision, device)
    modules = nn.ModuleDict(dict(stage.networks)).train()
    optimiser = torch.optim.Adam(modules.parameters(), lr=stage.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    log = MetricsLog(folder / "metrics.csv", stage.name)
    checkpoint = folder / "checkpoints" / f"{stage.name}.safetensors"
    start = load_checkpoint(checkpoint, modules, optimiser, scaler)
    log.forget_after(start)
    saved = time.monotonic()
    for step in range(start, stage.steps):
        for group in optimiser.param_groups:
            group["lr"] = stage.learning_rate * _rate(stage.schedule, step, stage.steps)
        optimiser.zero_grad(set_to_none=True)
        for part in range(loop.accumulate):
            visit = (step * loop.accumulate + part) * stage.batch
            items = visiting_order(seed, stage.name, stage.items, visit, stage.batch)
            with autocast(device, precision):
                terms = stage.objective(step * loop.accumulate + part, items)
            total = _weighted_sum(terms, stage.weights)
            scaler.scale(total / loop.accumulate).backward()
            log.add({**terms, "total": total})
        scaler.step(optimiser)
        scaler.update()
        if (step + 1) % loop.log_steps == 0 or step + 1 == stage.steps:
            note = log.flush(step + 1)
            if session.progress:
                session.progress(stage.name, step + 1, stage.steps, note)
            # Only between rows of metrics.csv, so that a resumed run writes the rows of an unstopped one.
            if time.monotonic() - saved > 60 * loop.checkpoint_minutes and step + 1 < stage.steps:
                save_checkpoint(checkpoint, modules, optimiser, scaler, step + 1)
                saved = time.monotonic()
    if start < stage.steps:
        save_checkpoint(checkpoint, modules, optimiser, scaler, stage.steps)
    modules.eval()


def _rate(schedule: str, step: int, steps: int) -> float:
    """Factor of the learning rate: 1, or half a cosine down to 0."""
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / steps))


def _weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([terms[name].float() * weights[name] for name in terms if name in weights]).sum()


class MetricsLog:
    """Rows (stage, step, term, value) of metrics.csv: means of each loss term since the last row."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage
        self.sums: dict[str, Tensor] = {}
        self.count = 0

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
        self.count += 1

    def flush(self, step: int) -> str:
        """Append the means up to ``step`` and return them as a short text.

        Raises:
            RunError: a term is not finite.
        """
        if not self.count:
            return ""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        wrong = [name for name, value in means.items() if not math.isfinite(value)]
        if wrong:
            raise RunError(
                f"{self.stage}: loss term '{wrong[0]}' is not finite at step {step}; lower the learning rate "
                "or use --set loop.precision=float32, then go on with --resume"
            )
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([self.stage, step, n, f"{v:.6g}"] for n, v in means.items())
        self.sums, self.count = {}, 0
        return " ".join(f"{name} {value:.4f}" for name, value in means.items())

    def _rows(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.reader(file) if len(row) == 4 and row[1].isdigit()]


def save_checkpoint(
    path: Path,
    modules: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    step: int,
) -> None:
    """Write weights, optimiser state and step count as safetensors (nothing is pickled)."""
    from safetensors.torch import save_file

    tensors = {f"weights.{k}": v.contiguous() for k, v in modules.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v.contiguous() for k, v in state.items()}
    scale = scaler.state_dict()
    metadata = {"step": str(step), **{f"scaler.{k}": str(v) for k, v in scale.items()}}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(
    path: Path, modules: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> int:
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
        modules.load_state_dict(_part(tensors, "weights."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimiser.").items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunError(f"{path}: does not fit these settings; start again without --resume") from error
    if scaler.is_enabled():
        saved = {k.removeprefix("scaler."): float(v) for k, v in metadata.items() if k.startswith("scaler.")}
        scaler.load_state_dict({k: int(v) if k.startswith("_g") else v for k, v in saved.items()})
    return int(metadata["step"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
