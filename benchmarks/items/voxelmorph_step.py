"""A training step of VoxelMorph-2: the published form, the same network with MONAI's loss, and both under bf16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from harness import Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

WINDOW = 9


def build(place: Place) -> Case:
    """Everyone starts from the same weights; ours computes as `soloatlas train` does on this device."""
    import torch
    from monai.losses import LocalNormalizedCrossCorrelationLoss

    import published
    from gradients import training_step
    from inputs import scans
    from soloatlas.devices import choose_precision

    device = torch.device(place.device)
    fixed, moving = scans(place)
    network, transformer = voxelmorph(device), published.SpatialTransformer(place.shape).to(device)
    half = choose_precision("auto", device)
    similarities = {
        "published form": published.dense_correlation,
        "MONAI's correlation": LocalNormalizedCrossCorrelationLoss(kernel_size=WINDOW),
    }

    def peer(similarity: published.Similarity, half: torch.dtype | None, last: bool = False) -> Callable[[], None]:
        own = copy.deepcopy(network) if last else published.contiguous(network)
        loss = partial(published.registration_loss, own, transformer, moving, fixed, similarity, half)
        return training_step(loss, [own])

    trained = copy.deepcopy(network)
    peers = {f"{name}, float32": peer(similarity, None) for name, similarity in similarities.items()}
    if half != torch.float32:
        peers |= {f"{name}, bf16": peer(similarity, half) for name, similarity in similarities.items()}
        best = "MONAI's correlation"
        peers[f"{best}, bf16, channels last"] = peer(similarities[best], half, last=True)
    return Case(
        ours=training_step(lambda: our_loss(trained, moving, fixed, half), [trained]),
        peers=peers,
        agree=lambda: agreement(network, transformer, moving, fixed, half),
    )


def voxelmorph(device: torch.device) -> nn.Module:
    """The network of `voxelmorph-2`; its last layer widened, so that the field is not nearly nothing."""
    import torch
    from torch import nn

    from soloatlas.methods import voxelmorph_2
    from soloatlas.registration import registration_network

    network = registration_network(voxelmorph_2.preset("paper").registration, 0, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nn.init.normal_(network.decoder.flow.weight, std=0.1)  # type: ignore[union-attr,arg-type]
    return network


def our_loss(network: nn.Module, moving: Tensor, fixed: Tensor, half: torch.dtype) -> Tensor:
    """As `soloatlas.registration.learn_registration` trains it."""
    from soloatlas.devices import autocast
    from soloatlas.methods import voxelmorph_2
    from soloatlas.registration import registration_terms

    with autocast(fixed.device, half):
        output = network(moving, fixed)
        terms = registration_terms(moving, fixed, output, voxelmorph_2.preset("paper").registration)
    return terms["similarity"] + terms["smoothness"]


def agreement(
    network: nn.Module, transformer: nn.Module, moving: Tensor, fixed: Tensor, half: torch.dtype
) -> Agreement:
    """In float32 with the epsilon of the published sums: field, loss and gradient of the weights; then ours in bf16."""
    import torch

    import published
    from gradients import apart, relative, weight_gradient
    from soloatlas import fields
    from soloatlas.devices import autocast
    from soloatlas.losses.similarity import local_cross_correlation
    from soloatlas.losses.smoothness import diffusion

    def ours(half: torch.dtype) -> tuple[Tensor, Tensor]:
        with autocast(fixed.device, half):
            field = network(moving, fixed).field
            warped = fields.warp(moving, field)
            similarity = local_cross_correlation(fixed, warped, WINDOW, published.matching_epsilon(WINDOW))
            return field.detach(), similarity + diffusion(field)

    plain = published.contiguous(network)
    right = published.registration_loss(plain, transformer, moving, fixed, published.dense_correlation)
    slope = weight_gradient(right, [plain])
    field, loss = ours(torch.float32)
    _, lower = ours(half)
    return {
        "field, float32, voxels": (apart(field, plain(moving, fixed).field.detach()), 1e-3),
        "loss, float32": (abs(float(loss - right)), 1e-4),
        "gradient, float32": (relative(weight_gradient(loss, [network]), slope), 1e-2),
        "loss, ours in bf16": (abs(float(lower - right)), 1e-2),
        "gradient, ours in bf16": (relative(weight_gradient(lower, [network]), slope), 0.2),
    }


CPU, GPU = (
    {
        "published form, float32": {"ratio": slow, "memory_ratio": 0.5},
        "MONAI's correlation, float32": {"ratio": less, "memory_ratio": 0.5},
    }
    for slow, less in ((3.5, 2.5), (5, 3))
)
ITEM = Item(
    "voxelmorph-step",
    "a training step of VoxelMorph-2, one scan, local cross-correlation and diffusion, Adam",
    [Part("step", build, {peer: {"cpu": CPU[peer], "cuda": GPU[peer]} for peer in CPU}, rounds=(3, 15), busy=True)],
)
