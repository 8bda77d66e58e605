"""Networks with an optimiser of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from soloatlas.training.stage import Stage


class Player:
    """Networks with an optimiser of their own; the stage's own are the last to play."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        rate: float,
        betas: tuple[float, float],
        amsgrad: bool,
    ) -> None:
        self.modules = nn.ModuleDict(dict(networks)).train()
        self.optimiser = torch.optim.Adam(self.modules.parameters(), lr=rate, betas=betas, amsgrad=amsgrad)
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


def players_of(stage: Stage) -> list[Player]:
    """The stage's rivals, then its own networks: in the order in which they take their turns."""
    own = Player(stage.networks, stage.weights, stage.learning_rate, stage.betas, stage.amsgrad)
    if stage.rival is None:
        return [own]
    r = stage.rival
    rate, betas = r.learning_rate or stage.learning_rate, r.betas or stage.betas
    return [Player(r.networks, r.weights, rate, betas, stage.amsgrad), own]
