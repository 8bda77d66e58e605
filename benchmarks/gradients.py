"""Gradients and training steps, the same for ours and for every peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from harness import Run


def value_and_gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """``loss(x)`` and its gradient with respect to ``x``."""
    x = x.detach().requires_grad_()
    value = loss(x)
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


def weight_gradient(loss: Tensor, networks: Sequence[nn.Module]) -> Tensor:
    """Gradient of ``loss`` with respect to every weight of the networks, as one vector."""
    weights = [p for network in networks for p in network.parameters()]
    found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return torch.cat([g.float().flatten() for g in found])


def training_step(loss: Callable[[], Tensor], networks: Sequence[nn.Module], rate: float = 1e-4) -> Run:
    """One step of Adam on ``loss``, as `soloatlas.training.fit` makes it."""
    optimiser = torch.optim.Adam([p for network in networks for p in network.parameters()], lr=rate, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        optimiser.step()

    return step


def relative(found: Tensor, right: Tensor) -> float:
    """Length of the difference of two tensors over the length of the right one."""
    return float((found.double() - right.double()).norm() / right.double().norm())


def apart(found: Tensor, right: Tensor) -> float:
    """Largest absolute difference of two tensors' elements."""
    return float((found.double() - right.double()).abs().max())
