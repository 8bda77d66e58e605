"""Checkpoints: everything that a resumed training needs to end in the weights of an unstopped one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from soloatlas.atomic import write_tensors
from soloatlas.errors import InputError, RunError
from soloatlas.training.players import Player


def save_checkpoint(
    path: Path, players: Sequence[Player], scaler: torch.amp.GradScaler, step: int, seconds: float
) -> None:
    """Write weights, optimiser states, step count and time spent so far as safetensors (nothing is pickled)."""
    tensors: dict[str, Tensor] = {}
    for number, player in enumerate(players):
        tensors |= {f"weights.{number}.{k}": v.contiguous() for k, v in player.modules.state_dict().items()}
        for index, state in player.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{index}.{k}": v.contiguous() for k, v in state.items()}
    scale = scaler.state_dict()
    metadata = {"step": str(step), "seconds": f"{seconds:.2f}", **{f"scaler.{k}": str(v) for k, v in scale.items()}}
    write_tensors(path, tensors, metadata)


def load_checkpoint(path: Path, players: Sequence[Player], scaler: torch.amp.GradScaler) -> int:
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


def seconds_of_stage(path: Path) -> float:
    """Time that had been spent on a stage when its checkpoint was written; 0 if there is none."""
    if not path.exists():
        return 0.0
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return float(file.metadata().get("seconds", 0.0))


def seconds_trained(run: Path) -> float:
    """Time that the stages of a run took up to their checkpoints, also where another run made them."""
    return sum(seconds_of_stage(path) for path in (run / "checkpoints").glob("*.safetensors"))


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
