"""Refining a predicted field on the scan at hand (instance optimisation): gradient descent, nothing is trained.

A network has learnt to minimise an objective over a whole pool; here the same objective is minimised for one pair of
images, beginning with what the network put out for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from soloatlas.networks.registration import RegistrationOutput
from soloatlas.registration import field_of, predict, registration_terms, trained_network
from soloatlas.settings import Registration
from soloatlas.training import Session

RATE = 0.05  # voxels: about what Adam moves a displacement by in one step


def objective(output: Tensor, moving: Tensor, fixed: Tensor, settings: Registration) -> Tensor:
    """Eq. 5, OS-MedSeg, as far as it depends on the field: similarity and smoothness with the run's own weights.

    Args:
        output: (1, 3, x, y, z), a displacement in voxels, or a velocity where the settings integrate.
        moving, fixed: (1, 1, x, y, z), the atlas and a scan.
        settings: which similarity and smoothness, their weights, integration.
    """
    terms = registration_terms(moving, fixed, RegistrationOutput(output), settings)
    return terms["similarity"] + settings.alpha * terms["smoothness"]


def refine(output: Tensor, moving: Tensor, fixed: Tensor, settings: Registration, steps: int) -> Tensor:
    """The field after ``steps`` of gradient descent (Adam) on `objective`, beginning with ``output``.

    Arguments are those of `objective`, in any mode of autograd; 0 steps give the field of ``output`` itself.

    Returns:
        Displacement (1, 3, x, y, z) in voxels, float32.
    """
    # Predictions made in inference mode can take no part in a gradient; copies of them can.
    with torch.inference_mode(False), torch.enable_grad():
        refined, moving, fixed = (tensor.detach().clone().float() for tensor in (output, moving, fixed))
        optimiser = torch.optim.Adam([refined.requires_grad_()], lr=RATE)
        for _ in range(steps):
            optimiser.zero_grad()
            # A sum over voxels: on a large grid the gradient of their mean would drown in Adam's epsilon.
            (refined.numel() * objective(refined, moving, fixed, settings)).backward()
            optimiser.step()
        return field_of(RegistrationOutput(refined.detach()), settings)


def refining_registrar(
    settings: Any, load: Callable[[str], dict[str, Tensor]], session: Session, steps: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """As `registration.registrar`, each field refined by ``steps``."""
    network, registration = trained_network(settings.registration, load, session), settings.registration

    def register(moving: Tensor, fixed: Tensor) -> Tensor:
        output = predict(network, moving, fixed, settings.loop.precision)
        return refine(output.field, moving, fixed, registration, steps)

    return register
