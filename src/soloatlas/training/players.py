"""Networks with an optimiser, and a scale of their gradients, of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from soloatlas.training.stage import Stage


class Player:
    """Networks with an optimiser of their own; the stage's own are the last to play.

    The scaler keeps gradients in float16's range (Micikevicius 2018); without float16 it does nothing.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        rate: float,
        betas: tuple[float, float],
        amsgrad: bool,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.modules = nn.ModuleDict(dict(networks)).train()
        # fused: one pass over weights and moments instead of a dozen; all must lie in memory in the same order.
        self.optimiser = torch.optim.Adam(self.modules.parameters(), rate, betas, amsgrad=amsgrad, fused=True)
        self.weights, self.rate, self.scaler = weights, rate, scaler

    def begin(self, factor: float) -> None:
        """Start a step with this factor of the learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        self.optimiser.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Change the weights along the gradients that `backward` left; not at all where one overflowed."""
        self.scaler.step(self.optimiser)
        self.scaler.update()

    def backward(self, total: Tensor) -> None:
        """Add the gradients of what is minimised, scaled."""
        self.scaler.scale(total).backward()

    def give_way(self) -> None:
        """A rival's step; in the turn that follows it stays as it is and gets no gradient."""
        self.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.modules.requires_grad_(False)


def players_of(stage: Stage, device: torch.device, precision: torch.dtype) -> list[Player]:
    """The stage's rivals, then its own networks: in the order in which they take their turns."""

    def scaler() -> torch.amp.GradScaler:
        return torch.amp.GradScaler(device.type, enabled=precision == torch.float16)

    own = Player(stage.networks, stage.weights, stage.learning_rate, stage.betas, stage.amsgrad, scaler())
    if stage.rival is None:
        return [own]
    r = stage.rival
    rate, betas = r.learning_rate or stage.learning_rate, r.betas or stage.betas
    return [Player(r.networks, r.weights, rate, betas, stage.amsgrad, scaler()), own]
