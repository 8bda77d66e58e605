"""LT-Net: label transfer by reversible voxel-wise correspondence.

Wang, Cao, Wei, Wang, Ma, Wang, Meng, Zheng: "LT-Net: Label Transfer by Learning Reversible Voxel-wise
Correspondence for One-shot Medical Image Segmentation" (CVPR 2020). A forward generator warps the atlas to a
scan, a discriminator compares the two, and a backward generator leads the warped atlas back home, where
image, transformation and labels must be what they were. Only the forward generator segments.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from soloatlas import presets
from soloatlas.errors import InputError
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Loop, Prepare, Registration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from soloatlas.losses.cycle import Box
    from soloatlas.material import Material
    from soloatlas.training import Rival, Session

METHOD = Method(
    name="lt-net",
    family="ABS",
    paper="Wang et al. 2020, LT-Net: Label Transfer by Learning Reversible Voxel-wise Correspondence for "
    "One-shot Medical Image Segmentation",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="4-20 min, 1-4 GB",
    stages=("register",),
)


@dataclass(frozen=True)
class Adversary:
    """The discriminator of real scans and warped atlases (Eq. 4)."""

    enabled: bool = True  # false: no L_GAN
    weight: float = 1.0
    form: Literal["least-squares", "printed"] = "least-squares"  # the printed form needs a bounded D
    channels: tuple[int, ...] = (64, 128, 256, 512)  # of the PatchGAN of Isola 2017; not in the paper
    learning_rate: float = 0.0  # of the discriminator; 0: that of the generators
    betas: tuple[float, float] = (0.5, 0.999)  # of its Adam; CycleGAN's
    appearance: Literal["none", "histogram"] = "none"  # what D sees of the atlas takes the scan's intensities
    noise: float = 0.0  # SD of what is added to all that D sees (instance noise, Soenderby 2017); scans are in [0, 1]


@dataclass(frozen=True)
class Cycle:
    """The way back and what must return from it (Eqs. 5-10)."""

    enabled: bool = True  # false: no backward generator
    image: float = 10.0  # lambda_1, "following CycleGAN"
    transformation: float = 3.0  # lambda_2
    anatomy: float = 3.0  # lambda_2
    difference: float = 3.0  # lambda_2
    average: Literal["class", "pooled"] = "class"  # how Eq. 9 combines classes; not in the paper
    background: bool = False  # whether background is a class in Eqs. 9 and 10
    warm_up: float = 0.0  # share of the steps in which the way back learns and the forward generator is not pulled
    # How much of these terms' gradient reaches the forward generator. Small weights starve the way back, which has no
    # other terms than these and its smoothness; a small pull leaves it the printed ones.
    pull: float = 1.0


@dataclass(frozen=True)
class Settings:
    """Everything LT-Net can be told; the defaults are the paper's, or `methods.md`'s where it is silent."""

    prepare: Prepare = field(default_factory=Prepare)
    registration: Registration = field(
        default_factory=lambda: Registration(
            network="voxelmorph",
            channels=(16, 32, 32, 32),
            alpha=3.0,  # lambda_2
            beta=0.0,  # no contrast
            epochs=100,  # not in the paper
            batch=1,
            learning_rate=2e-4,
        )
    )
    adversary: Adversary = field(default_factory=Adversary)
    cycle: Cycle = field(default_factory=Cycle)
    betas: tuple[float, float] = (0.5, 0.999)  # of Adam; CycleGAN's, from which rate and lambda_1 come as well
    loop: Loop = field(default_factory=Loop)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct."""
    paper = Settings()
    if name == "paper":
        return paper
    if name == "paper-ct":  # the paper has MR only: the similarity and smoothness of OS-MedSeg's CT recipe
        return replace(
            paper,
            prepare=presets.prepare(name),
            registration=replace(paper.registration, similarity="mi", smoothness="bending"),
        )
    # On dev scans, with means in place of sums: the discriminator's printed weight leads the field to nowhere; the
    # cycle's leave it at 0 unless hardly anything of them reaches it, and smaller ones starve the way back. With
    # CycleGAN's betas Adam leaps when a field takes off.
    milder = replace(
        paper, adversary=replace(paper.adversary, weight=0.003), cycle=Cycle(pull=0.003), betas=(0.9, 0.99)
    )
    if name == "quick":  # half-resolution fields, a narrower discriminator, few steps
        registration = replace(
            paper.registration, half_resolution=True, steps=1000, learning_rate=1e-3, schedule="cosine"
        )
        adversary = replace(milder.adversary, channels=(32, 64, 128, 256), learning_rate=1e-4)
        return replace(milder, registration=registration, adversary=adversary)
    registration = replace(paper.registration, steps=8000, schedule="cosine")
    return replace(milder, registration=registration)


def validate(settings: Settings) -> None:
    """Refuse settings that cannot be trained, before anything is done.

    Raises:
        InputError: naming the setting and what it may be.
    """
    check_settings(settings)
    if len(settings.adversary.channels) != 4:
        raise InputError("adversary.channels takes four widths")
    if not 0 <= settings.cycle.warm_up <= 1:
        raise InputError(f"cycle.warm_up={settings.cycle.warm_up}: a share of the steps, 0 to 1")
    if not 0 <= settings.cycle.pull <= 1:
        raise InputError(f"cycle.pull={settings.cycle.pull:g}: a share of the gradient, 0 to 1")
    if settings.adversary.noise < 0:
        raise InputError(f"adversary.noise={settings.adversary.noise:g}: a standard deviation, 0 or more")


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Train all networks together (Eq. 11) and return those a run keeps: ``registration`` and ``backward``."""
    from soloatlas.losses.cycle import class_boxes
    from soloatlas.registration import registration_weights
    from soloatlas.training import Stage, fit, steps_of

    r, cycle, adversary = settings.registration, settings.cycle, settings.adversary
    networks = {"registration": _generator(settings, session, "registration")}
    if cycle.enabled:
        networks["backward"] = _generator(settings, session, "backward")
    discriminator = _discriminator(settings, session) if adversary.enabled else None
    boxes = class_boxes(material.classes, material.class_count, cycle.background)
    items = len(material.names)
    steps = steps_of(r.steps, r.epochs, items, r.batch)
    batches = steps * settings.loop.accumulate

    def objective(batch: int, chosen: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        pull = cycle.pull if batch >= cycle.warm_up * batches else 0.0
        return play(material, chosen, boxes, networks, discriminator, settings, pull)

    stage = Stage(
        name="correspond",
        networks=networks,
        objective=objective,
        weights={
            **registration_weights(r),
            "adversarial": adversary.weight,
            "image cycle": cycle.image,
            "transformation": cycle.transformation,
            "anatomy cycle": cycle.anatomy,
            "anatomy difference": cycle.difference,
        },
        items=items,
        steps=steps,
        batch=r.batch,
        learning_rate=r.learning_rate,
        schedule=r.schedule,
        amsgrad=r.amsgrad,
        betas=settings.betas,
        rival=_rival(discriminator, adversary) if discriminator else None,
    )
    fit(stage, session)
    return networks


def _rival(discriminator: nn.Module, adversary: Adversary) -> Rival:
    from soloatlas.training import Rival

    weights = {"discriminator": 1.0}
    return Rival({"discriminator": discriminator}, weights, adversary.learning_rate or None, adversary.betas)


def _generator(settings: Settings, session: Session, purpose: str) -> nn.Module:
    from soloatlas.registration import registration_network

    return registration_network(settings.registration, session.seed, session.device, purpose)


def _discriminator(settings: Settings, session: Session) -> nn.Module:
    import torch

    from soloatlas.networks.discriminator import PatchDiscriminator
    from soloatlas.randomness import seeded_modules

    with seeded_modules(session.seed, "discriminator"):
        network = PatchDiscriminator(settings.adversary.channels)  # type: ignore[arg-type]
    return network.to(session.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def play(
    material: Material,
    items: Sequence[int],
    boxes: Sequence[Box | None],
    networks: dict[str, nn.Module],
    discriminator: nn.Module | None,
    settings: Settings,
    pull: float = 1.0,
) -> Iterator[dict[str, Tensor]]:
    """One batch: the discriminator's terms, if there is one, and then the generators' (Eq. 11).

    The discriminator sees warped atlases without a way back to the generator. The backward terms reach the backward
    generator whole and the forward one with the share ``pull`` (0 to 1) of their gradient.
    """
    import torch

    from soloatlas import fields
    from soloatlas.losses.adversarial import discriminator_loss, generator_loss, verdicts
    from soloatlas.registration import field_of, registration_terms

    form = settings.adversary.form
    scans, atlas = material.scans(items), material.atlas.expand(len(items), -1, -1, -1, -1)
    output = networks["registration"](material.atlas, scans)
    forward = field_of(output, settings.registration)
    warped = fields.warp(atlas, forward)  # Eq. 1
    if discriminator is not None:
        shown = shown_atlas(material.atlas, scans, forward, warped, settings.adversary)
        noise = settings.adversary.noise
        seen = with_noise(torch.cat([scans, shown.detach()]), noise)
        of_real, of_warped = discriminator(seen).chunk(2)  # together: its many weights are read once
        yield {
            "discriminator": discriminator_loss(of_real, of_warped, form),
            **verdicts(of_real, of_warped, form),
        }
    terms = registration_terms(material.atlas, scans, output, settings.registration)
    if discriminator is not None:
        terms["adversarial"] = generator_loss(discriminator(with_noise(shown, noise)), form)
    if "backward" in networks:
        there = (slackened(warped, pull), slackened(forward, pull))
        back, more = cycle_terms(material, boxes, networks["backward"], *there, settings)
        terms["smoothness"] = terms["smoothness"] + back
        terms |= more
    yield terms


def slackened(x: Tensor, share: float) -> Tensor:
    """``x``, through which this share of the gradient goes back."""
    if share == 1:
        return x
    return x.detach() + share * (x - x.detach()) if share else x.detach()


def shown_atlas(atlas: Tensor, scans: Tensor, forward: Tensor, warped: Tensor, adversary: Adversary) -> Tensor:
    """What the discriminator sees of the atlas: warped, and with the contrast of each scan where that is asked for.

    A field cannot change contrast: a discriminator that sees a difference there has nothing to teach.
    """
    import torch

    from soloatlas import fields
    from soloatlas.synthesis import match_histogram

    if adversary.appearance == "none":
        return warped
    return fields.warp(torch.cat([match_histogram(atlas, scan[None]) for scan in scans]), forward)


def with_noise(images: Tensor, noise: float) -> Tensor:
    """Images with white noise of this standard deviation, which hides grain and interpolation from a discriminator."""
    import torch

    return images + noise * torch.randn_like(images) if noise else images


def cycle_terms(
    material: Material,
    boxes: Sequence[Box | None],
    backward_network: nn.Module,
    warped: Tensor,
    forward: Tensor,
    settings: Settings,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Smoothness of the way back (Eq. 6), and the terms of Eqs. 7-10 whose weight is not 0."""
    import torch

    from soloatlas import fields
    from soloatlas.losses import cycle as losses
    from soloatlas.registration import field_of, smoothness_of

    cycle, r = settings.cycle, settings.registration
    atlas = material.atlas.expand_as(warped)
    output = backward_network(warped, atlas)
    backward = field_of(output, r)
    terms = {}
    if cycle.image:
        terms["image cycle"] = losses.image_cycle(atlas, fields.warp(warped, backward))  # Eqs. 5, 7
    if cycle.transformation:
        terms["transformation"] = losses.transformation_consistency(forward, backward)
    if cycle.anatomy or cycle.difference:
        followed = [
            losses.cycle_labels(material.classes, boxes, f[None], b[None])
            for f, b in zip(forward, backward, strict=True)
        ]
        if cycle.anatomy:
            losses_of = [losses.anatomy_cycle(labels, cycle.average) for labels in followed]
            terms["anatomy cycle"] = torch.stack(losses_of).mean()
        if cycle.difference:
            losses_of = [losses.anatomy_difference(labels) for labels in followed]
            terms["anatomy difference"] = torch.stack(losses_of).mean()
    return smoothness_of(output, r), terms


def reverser(
    settings: Settings, load: Callable[[str], dict[str, Tensor]], session: Session
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The backward generator: (warped atlas, atlas) to the field on the atlas's grid; None if there is none."""
    from soloatlas.registration import registrar

    return registrar(settings, load, session, "backward") if settings.cycle.enabled else None
