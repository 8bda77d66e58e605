"""Learning atlas-to-scan registration (OS-MedSeg III-A), shared by every method that registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from soloatlas import fields
from soloatlas.devices import autocast, choose_precision, room_for
from soloatlas.losses.contrastive import contrastive
from soloatlas.losses.divergence import gaussian_divergence
from soloatlas.losses.similarity import local_cross_correlation, mutual_information, squared_difference
from soloatlas.losses.smoothness import bending_energy, diffusion
from soloatlas.material import Material
from soloatlas.networks.choice import build
from soloatlas.networks.registration import RegistrationOutput
from soloatlas.randomness import seeded_modules
from soloatlas.settings import Registration
from soloatlas.training import Session, Stage, fit, steps_of


def registration_network(
    settings: Registration, seed: int, device: torch.device, purpose: str = "registration"
) -> nn.Module:
    """The network named in the settings, with weights drawn from ``seed`` for this ``purpose``."""
    with seeded_modules(seed, purpose):
        network = build(settings.network, channels=settings.channels, half_resolution=settings.half_resolution)
    return network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def field_of(output: RegistrationOutput, settings: Registration) -> Tensor:
    """The displacement field of a network's output: integrated where it is a velocity."""
    field = output.field.float()
    if not settings.integration_steps:
        return field
    if settings.integration_grid == "full":
        return fields.integrate(field, settings.integration_steps)
    shape = field.shape[2:]
    coarse = fields.resize(field, [(n + 1) // 2 for n in shape])
    return fields.resize(fields.integrate(coarse, settings.integration_steps), shape)


def registration_terms(
    moving: Tensor,
    fixed: Tensor,
    output: RegistrationOutput,
    settings: Registration,
    negatives: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of Eq. 5, OS-MedSeg: similarity, smoothness, contrast (all minimised).

    Args:
        moving: (1 or batch, 1, x, y, z), the atlas.
        fixed: (batch, 1, x, y, z), the scans.
        output: of the registration network for them.
        negatives: (others, features) of images that are not in the batch, for the contrast; without a gradient.
    """
    field = field_of(output, settings)
    warped = fields.warp(moving.expand_as(fixed), field)
    terms = {}
    if settings.similarity == "cc":
        terms["similarity"] = local_cross_correlation(fixed, warped, settings.window)
    elif settings.similarity == "mse":
        terms["similarity"] = squared_difference(fixed, warped)
    else:
        terms["similarity"] = mutual_information(fixed, warped, settings.bins)
    terms["smoothness"] = smoothness_of(output, settings)
    if settings.beta and output.fixed_features is not None and output.moving_features is not None:
        features = output.fixed_features, output.moving_features
        terms["contrast"] = contrastive(*features, settings.temperature, negatives)
    if settings.divergence and output.mean is not None and output.log_deviation is not None:
        terms["divergence"] = gaussian_divergence(output.mean, output.log_deviation)
    return terms


def registration_weights(settings: Registration) -> dict[str, float]:
    """Factors of `registration_terms`."""
    return {
        "similarity": 1.0,
        "smoothness": settings.alpha,
        "contrast": settings.beta,
        "divergence": settings.divergence,
    }


def smoothness_of(output: RegistrationOutput, settings: Registration) -> Tensor:
    """Eq. 8 or Eq. 9 of the field that the network put out, before integration."""
    smoothness = diffusion if settings.smoothness == "diffusion" else bending_energy
    return smoothness(output.field.float())


def learn_registration(
    material: Material, settings: Registration, session: Session, back: bool = False, share: float = 1.0
) -> nn.Module:
    """Train a registration network of the atlas to the pool (stage ``register``).

    With ``back`` the scans are moved to the atlas instead (stage ``back``), without the contrast of Eq. 2: what is
    fixed is the same in every pair then, and nothing is its negative. ``share``: see `Stage`.
    """
    settings = replace(settings, beta=0.0) if back else settings
    name = "back" if back else "registration"
    network = registration_network(settings, session.seed, session.device, name)

    def objective(step: int, items: Sequence[int]) -> dict[str, Tensor]:
        scans = material.scans(items)
        moving, fixed = (scans, material.atlas.expand_as(scans)) if back else (material.atlas, scans)
        return registration_terms(moving, fixed, network(moving, fixed), settings)

    items = len(material.names)
    stage = Stage(
        name="back" if back else "register",
        networks={name: network},
        objective=objective,
        weights=registration_weights(settings),
        items=items,
        steps=steps_of(settings.steps, settings.epochs, items, settings.batch),
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        amsgrad=settings.amsgrad,
        share=share,
    )
    fit(stage, session)
    return network


@torch.inference_mode()
def predict(network: nn.Module, atlas: Tensor, scan: Tensor, precision: str = "auto") -> RegistrationOutput:
    """What the network puts out for a pair of images, each (1, 1, x, y, z)."""
    with autocast(scan.device, choose_precision(precision, scan.device)):
        output: RegistrationOutput = network(atlas, scan)
    return output


@torch.inference_mode()
def predict_field(
    network: nn.Module, atlas: Tensor, scan: Tensor, settings: Registration, precision: str = "auto"
) -> Tensor:
    """Field (1, 3, x, y, z) on the grid of ``scan`` pointing into ``atlas``, voxels, float32."""
    return field_of(predict(network, atlas, scan, precision), settings)


def trained_network(
    settings: Registration, load: Callable[[str], dict[str, Tensor]], session: Session, name: str = "registration"
) -> nn.Module:
    """A run's network ``name`` with the weights that ``load`` gives by name, ready to predict."""
    network = registration_network(settings, session.seed, session.device, name)
    network.load_state_dict(load(name))
    return network.eval()


def registrar(
    settings: Any,
    load: Callable[[str], dict[str, Tensor]],
    session: Session,
    name: str = "registration",
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Callable[[Tensor, Tensor], Tensor]:
    """A run's registration network, or SyN, ready to use: (atlas, prepared scan) to the field (1, 3, x, y, z).

    Args:
        settings: of a method with a ``registration``.
        load: gives stored weights by name.
        session: device and seed.
        name: of the network.
        spacing: of the working grid, mm; only SyN looks at it.
    """
    if not settings.registration.learnt:
        from soloatlas.syn_fields import syn_field

        return partial(syn_field, spacing=spacing)
    network = trained_network(settings.registration, load, session, name)

    def register(moving: Tensor, fixed: Tensor) -> Tensor:
        return predict_field(network, moving, fixed, settings.registration, settings.loop.precision)

    return register


class PoolFields:
    """The fields of the pool under a trained network: computed once where they fit, else at each use.

    Fields are kept in float16: half a thousandth of a displacement of one voxel is nothing.
    """

    def __init__(
        self,
        network: nn.Module,
        material: Material,
        settings: Registration,
        precision: str,
        room: float | None = None,
    ) -> None:
        """``room``: bytes that may be filled; default: 4 GB, or the part of what is free that a student leaves."""
        room = room_for(0.15, 4e9, material.device) if room is None else room
        self.network, self.material, self.settings = network, material, settings
        self.precision = precision
        needed = len(material.names) * material.atlas.numel() * 3 * 2
        self.kept = [self._compute(i).half() for i in range(len(material.names))] if needed <= room else None

    def _compute(self, item: int) -> Tensor:
        scan = self.material.scans([item])
        return predict_field(self.network, self.material.atlas, scan, self.settings, self.precision)

    def __getitem__(self, item: int) -> Tensor:
        """Field (1, 3, x, y, z) of one scan of the pool, float32, outside any gradient."""
        field = self.kept[item].float() if self.kept is not None else self._compute(item)
        return field.clone() if field.is_inference() else field


class FieldsOfPool(Protocol):
    """The fields of the pool, whoever found them."""

    def __getitem__(self, item: int) -> Tensor:
        """Field (1, 3, x, y, z) of one scan of the pool, voxels, float32."""


def learn_fields(
    material: Material, settings: Any, session: Session, share: float = 1.0
) -> tuple[dict[str, nn.Module], FieldsOfPool]:
    """The network that registers the atlas to the pool, by name, and its fields; with ``network=syn`` no network.

    Args:
        settings: of a method with a ``registration``.
        share: see `Stage`.
    """
    if not settings.registration.learnt:
        from soloatlas.syn_fields import SynFields

        return {}, SynFields(material, session)
    network = learn_registration(material, settings.registration, session, share=share)
    fields_found = PoolFields(network, material, settings.registration, settings.loop.precision)
    return {"registration": network}, fields_found
