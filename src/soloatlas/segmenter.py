"""Learning to segment from labelled pairs, shared by every method with a student (OS-MedSeg III-C, Eq. 11)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from soloatlas import fields
from soloatlas.augmentation import (
    change_intensity,
    sample_intensity,
    sample_spatial,
    spatial_displacement,
)
from soloatlas.losses.overlap import cross_entropy, cross_entropy_and_dice, log_target_error, soft_dice
from soloatlas.material import Material
from soloatlas.networks.group_unet import GroupUNet
from soloatlas.networks.residual_unet import ResidualUNet
from soloatlas.networks.slice_unet import SliceUNet
from soloatlas.randomness import generator, seeded_modules
from soloatlas.settings import Augment, Segmenter
from soloatlas.training import Session, Stage, fit, steps_of

T = TypeVar("T")

Pairs = Callable[[int, Sequence[int]], tuple[Tensor, ...]]
"""(step, items) to images, class maps and what else a method needs of each, all (batch, 1, x, y, z)."""


def residual_unet(
    settings: Segmenter, outputs: int, session: Session, name: str, head: Literal["linear", "paper"] = "linear"
) -> nn.Module:
    """The network of Fig. 3 with ``outputs`` channels, initialised from the run's seed and its ``name``."""
    with seeded_modules(session.seed, name):
        network = ResidualUNet(
            out_channels=outputs,
            channels=settings.channels,
            residual=settings.residual,
            decoder_residual=settings.decoder_residual,
            norm=settings.norm,
            order=settings.order,
            head=head,
        )
    return network.to(session.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def segmentation_network(settings: Segmenter, classes: int, session: Session) -> nn.Module:
    """The student's network, the one that the settings name, initialised from the run's seed."""
    if settings.network == "residual":
        return residual_unet(settings, classes, session, "student")
    kind = GroupUNet if settings.network == "group" else SliceUNet
    with seeded_modules(session.seed, "student"):
        network = kind(classes, settings.channels)
    return network.to(session.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def segmentation_terms(logits: Tensor, classes: Tensor, settings: Segmenter) -> dict[str, Tensor]:
    """Cross entropy (Eq. 11) and soft Dice, each where its weight is not 0; none where the whole has no weight."""
    if not settings.weight:
        return {}
    if settings.cross_entropy and settings.dice:
        entropy, dice = cross_entropy_and_dice(logits, classes, settings.balance)
        return {"cross entropy": entropy, "dice": dice}
    if settings.dice:
        return {"dice": soft_dice(logits, classes)}
    return {"cross entropy": cross_entropy(logits, classes, settings.balance)}


def segmentation_weights(settings: Segmenter) -> dict[str, float]:
    """Factors of `segmentation_terms`."""
    whole = settings.weight
    return {"cross entropy": whole * settings.cross_entropy, "dice": whole * settings.dice}


def learn_segmentation(pairs: Pairs, items: int, classes: int, settings: Segmenter, session: Session) -> nn.Module:
    """Train a student on labelled pairs (stage ``segment``), after the stage ``warm-up`` if there is one.

    Args:
        pairs: makes what a step sees.
        items: number of things that ``pairs`` draws from.
        classes: background included.
    """
    student = segmentation_network(settings, classes, session)
    total = steps_of(settings.steps, settings.epochs, items, settings.batch)
    first = round(settings.warm_up * total)
    seen = first * session.loop.accumulate  # batches before the main stage: their draws are not drawn again

    def shown(step: int, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, labels, *_ = pairs(step, chosen)
        if settings.network == "slices":
            images, labels = drawn_slices(images, labels, settings.slices, session.seed, step)
        return student(images)[0], labels

    def fit_logarithms(step: int, chosen: Sequence[int]) -> dict[str, Tensor]:
        return {"log labels": log_target_error(*shown(step, chosen))}

    def fit_classes(step: int, chosen: Sequence[int]) -> dict[str, Tensor]:
        return segmentation_terms(*shown(seen + step, chosen), settings)

    stage = Stage(
        name="segment",
        networks={"student": student},
        objective=fit_classes,
        weights=segmentation_weights(settings),
        items=items,
        steps=total - first,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        amsgrad=settings.amsgrad,
    )
    if first:
        warm_up = replace(stage, name="warm-up", objective=fit_logarithms, weights={"log labels": 1.0}, steps=first)
        fit(replace(warm_up, share=settings.warm_up), session)
    fit(stage, session)
    return student


def drawn_slices(images: Tensor, labels: Tensor, count: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """``count`` axial slices of a batch of volumes (batch, 1, x, y, z), no slice twice; all if there are no more."""
    chosen = torch.randperm(images.shape[4], generator=generator(seed, "slices", step))[:count].to(images.device)
    return images[..., chosen], labels[..., chosen]


def learn_from_atlas(material: Material, settings: Any, session: Session) -> nn.Module:
    """Train a student on random changes of the atlas alone; ``settings``: see `changed_pairs`."""
    pairs = changed_pairs(lambda _: (material.atlas, material.classes), settings, material, session.seed)
    return learn_segmentation(pairs, 1, material.class_count, settings.student, session)


def changed_pairs(
    scan_of: Callable[[int], tuple[Tensor, Tensor]], settings: Any, material: Material, seed: int
) -> Pairs:
    """What a step sees of labelled scans: each under a random change of its own.

    Args:
        scan_of: item to (image, class map), each (1, 1, x, y, z).
        settings: of a method with ``augment`` and ``student``.
        material: the study.
        seed: of the run.
    """
    augment, patch = settings.augment, settings.student.patch
    return batches_of(lambda visit, item: changed_pair(*scan_of(item), augment, patch, material.spacing, seed, visit))


def batches_of(one: Callable[[int, int], tuple[Tensor, ...]]) -> Pairs:
    """Batches of what ``one`` makes of (visit, item): visits count through the whole training."""

    def pairs(step: int, items: Sequence[int]) -> tuple[Tensor, ...]:
        made = [one(step * len(items) + k, item) for k, item in enumerate(items)]
        return tuple(torch.cat(parts) for parts in zip(*made, strict=True))

    return pairs


def changed_pair(
    image: Tensor,
    classes: Tensor,
    augment: Augment,
    patch: Sequence[int],
    spacing: Sequence[float],
    seed: int,
    visit: int,
) -> tuple[Tensor, Tensor]:
    """A labelled scan under the random change number ``visit`` in space and intensity, or a patch of it.

    Args:
        image, classes: (1, 1, x, y, z).
        patch: its size; empty: the whole grid.
        spacing: mm.
    """
    draw = generator(seed, "augment", visit)
    displacement, origin = spatial_change(image.shape[2:], spacing, augment, patch, draw, image.device)
    if displacement is not None:
        classes = fields.warp_labels(classes, displacement, origin=origin)
        image = fields.warp(image, displacement, origin=origin)
    return intensity_change(image, augment, draw, seed, visit), classes


def intensity_change(image: Tensor, augment: Augment, draw: torch.Generator, seed: int, visit: int) -> Tensor:
    """``image`` under the random change of intensity number ``visit``; as it is where nothing changes."""
    if not augment.enabled:
        return image
    noise = generator(seed, "noise", visit, device=image.device)
    return change_intensity(image, sample_intensity(augment, draw), noise)


def spatial_change(
    shape: Sequence[int],
    spacing: Sequence[float],
    augment: Augment,
    patch: Sequence[int],
    draw: torch.Generator,
    device: torch.device,
) -> tuple[Tensor | None, tuple[int, int, int]]:
    """A random displacement (1, 3, u, v, w) of a patch of the grid and the patch's first voxel.

    The patch is the whole grid where none is asked for. None where nothing changes.
    """
    if not (patch or augment.enabled):
        return None, (0, 0, 0)
    size, origin = _place_patch(shape, patch, draw)
    if not augment.enabled:
        return torch.zeros(1, 3, *size, device=device), origin
    change = sample_spatial(shape, augment, draw)
    displacement = spatial_displacement(change, shape, spacing, device)
    x, y, z = (slice(o, o + n) for o, n in zip(origin, size, strict=True))
    return displacement[:, :, x, y, z], origin


def drawn_patch(images: Tensor, patch: Sequence[int], draw: torch.Generator) -> Tensor:
    """The same random patch of each image (batch, channel, x, y, z); the images where no size is given."""
    size, origin = _place_patch(images.shape[2:], patch, draw)
    x, y, z = (slice(o, o + n) for o, n in zip(origin, size, strict=True))
    return images[:, :, x, y, z]


def _place_patch(
    shape: Sequence[int], patch: Sequence[int], draw: torch.Generator
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Size and first voxel of a patch placed anywhere in the grid."""
    if not patch:
        return (shape[0], shape[1], shape[2]), (0, 0, 0)
    size = [min(n, p) for n, p in zip(shape, patch, strict=True)]
    first = [int(torch.randint(0, n - s + 1, (), generator=draw)) for n, s in zip(shape, size, strict=True)]
    return (size[0], size[1], size[2]), (first[0], first[1], first[2])


def segmenter(settings: Any, load: Callable[[str], dict[str, Tensor]], classes: int, session: Session) -> nn.Module:
    """The student of a run, ready to use: prepared scan (1, 1, x, y, z) to logits.

    Args:
        settings: of a method with a ``student``.
        load: gives stored weights by name.
        classes: background included.
    """
    student = segmentation_network(settings.student, classes, session)
    student.load_state_dict(load("student"))
    return student.eval()


def fit_to_memory(settings: T, shape: Sequence[int], classes: int, room: float) -> T:
    """``settings`` (of a method with a ``student``) with a patch if the whole grid does not fit into ``room`` bytes.

    Args:
        settings: frozen dataclass with ``student``.
        shape: of the working grid.
        classes: background included.
        room: free bytes.

    A training step takes about 3 kB a voxel for student and teacher in bf16, and 8 bytes more for
    each class; patches are cubes as large as fit, of whole multiples of the networks' 16. A network of slices sees
    few of them at once.
    """
    s: Segmenter = settings.student  # type: ignore[attr-defined]
    voxel = s.batch * (3000 * s.channels[0] / 16 + 8 * classes)
    if s.patch or s.network == "slices" or math.prod(shape) * voxel < 0.7 * room:
        return settings
    side = max(32, int((0.7 * room / voxel) ** (1 / 3)) // 16 * 16)
    x, y, z = (min(side, n) for n in shape)
    return replace(settings, student=replace(s, patch=(x, y, z)))  # type: ignore[type-var]
