"""Checkpoints: everything that a resumed training needs to end in the weights of an unstopped one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from soloatlas.atomic import whole_files, write_tensors
from soloatlas.errors import InputError, RunError
from soloatlas.training.players import Player

T = TypeVar("T")


def save_checkpoint(path: Path, players: Sequence[Player], step: int, seconds: float) -> None:
    """Write weights, optimiser states, step count and time spent so far as safetensors (nothing is pickled)."""
    tensors: dict[str, Tensor] = {}
    metadata = {"step": str(step), "seconds": f"{seconds:.2f}"}
    for number, player in enumerate(players):
        tensors |= {f"weights.{number}.{k}": v.contiguous() for k, v in player.modules.state_dict().items()}
        for index, state in player.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{index}.{k}": v.contiguous() for k, v in state.items()}
        metadata |= {f"scaler.{number}.{k}": str(v) for k, v in player.scaler.state_dict().items()}
    write_tensors(path, tensors, metadata)


def load_checkpoint(path: Path, players: Sequence[Player]) -> int:
    """Restore what `save_checkpoint` wrote and return its step; 0 if there is no checkpoint.

    Raises:
        RunError: the checkpoint is damaged, or does not fit these networks.
    """
    if not path.exists():
        return 0
    metadata, tensors = _read(path)
    try:
        for number, player in enumerate(players):
            player.modules.load_state_dict(_part(tensors, f"weights.{number}."))
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _part(tensors, f"optimiser.{number}.").items():
                index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
            groups = player.optimiser.state_dict()["param_groups"]
            player.optimiser.load_state_dict({"state": state, "param_groups": groups})
            _lay_out_as_weights(player.optimiser)
            _load_scaler(player, _part(metadata, f"scaler.{number}."))
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunError(f"{path}: does not fit these settings; remove it to begin this stage anew") from error
    return int(metadata["step"])


def _lay_out_as_weights(optimiser: torch.optim.Optimizer) -> None:
    """Order the moments in memory as their weights, also channels last: a fused step takes them one by one as they lie.

    Files hold them channels first.
    """
    for weight, state in optimiser.state.items():
        for name, moment in state.items():
            if moment.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(moment)


def _load_scaler(player: Player, saved: Mapping[str, str]) -> None:
    """Restore the scale of the gradients; there is none where a sitting before this one had another precision."""
    if player.scaler.is_enabled() and saved:
        whole = ("growth_interval", "_growth_tracker")
        player.scaler.load_state_dict({k: int(v) if k in whole else float(v) for k, v in saved.items()})


def seconds_of_stage(path: Path) -> float:
    """Time that had been spent on a stage when its checkpoint was written; 0 if there is none."""
    if not path.exists():
        return 0.0
    return float(_read(path, tensors=False)[0].get("seconds", 0.0))


def seconds_trained(run: Path) -> float:
    """Time that the stages of a run took up to their checkpoints, also where another run made them."""
    return sum(seconds_of_stage(path) for path in whole_files(run / "checkpoints", "*.safetensors"))


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


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a checkpoint.

    Raises:
        RunError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118 - not a dict
            return file.metadata(), found
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: is damaged ({error}); remove it to begin this stage anew") from error


def _part(found: Mapping[str, T], prefix: str) -> dict[str, T]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
