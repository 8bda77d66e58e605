"""BRBS: registration and segmentation learn from each other.

He, Ge, Qi, Chen, Wu, Coatrieux, Shu, Li: "Learning Better Registration to Learn Better Few-Shot Medical Image
Segmentation: Authenticity, Diversity, and Robustness" (IEEE TNNLS 2022). In every step a registration network aligns
two images, judged also by where the segmenter sees structures; then the segmenter learns from the atlas with a part of
one scan's style and a part of the way to another's shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from soloatlas import presets
from soloatlas.errors import InputError
from soloatlas.methods import Method, check_settings, trained_beside
from soloatlas.settings import Augment, Form, Loop, Prepare, Registration, Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from torch import Tensor, nn

    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="brbs",
    family="LRLS",
    paper="He et al. 2022, Learning Better Registration to Learn Better Few-Shot Medical Image Segmentation",
    needs="one labelled atlas, a pool of two or more unlabelled scans",
    typical="15-90 min, 1-6 GB",
    stages=("register", "student"),
    patches=False,
    least=2,  # the style of one and the shape of another
)


@dataclass(frozen=True)
class Joint:
    """What ties the two networks together; values of the published code."""

    semantic: float = 100.0  # weight of the overlap of structures in the registration's loss
    inverse: float = 0.1  # weight of how far the two directions are from inverse fields
    inverse_by: Literal["composition", "warping"] = "composition"  # warping: the code's, right to first order
    mix: float = 0.01  # weight of the consistency of mixed scans in the segmenter's loss
    beta: float = 0.3  # both parameters of the Beta distribution of how much style and shape is taken over


@dataclass(frozen=True)
class Settings:
    """Everything BRBS can be told. Steps, batch and schedule are the student's, for both networks."""

    prepare: Prepare = field(default_factory=Prepare)
    registration: Registration = field(default_factory=Registration)
    joint: Joint = field(default_factory=Joint)
    augment: Augment = field(default_factory=lambda: Augment(enabled=False))
    student: Segmenter = field(default_factory=Segmenter)
    loop: Loop = field(default_factory=Loop)
    form: Form = "table"


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct; Table I's rule for networks and losses."""
    return Settings(
        prepare=presets.prepare(name),
        registration=presets.registration(name),
        augment=presets.augment(name),
        student=presets.student(name),
    )


def original(name: str) -> Settings:
    """The authors' own networks, losses and changes of the images; every value is that of the published code.

    The presets quick and standard keep their own lengths, rates and schedules.
    """
    made = preset(name)
    registration = replace(
        made.registration,
        half_resolution=False,
        network="group",
        channels=(16, 32, 64, 128),  # and 256 at 1/16
        similarity="cc",
        window=9,
        smoothness="diffusion",
        alpha=1.0,
        beta=0.0,
    )
    student = replace(made.student, network="group", channels=(16, 32, 64, 128, 256), cross_entropy=0.0, dice=1.0)
    if name.startswith("paper"):
        registration = replace(registration, learning_rate=1e-4)
        student = replace(student, steps=200 * 200, learning_rate=1e-4)
    changes = Augment(rotation=20.0, scale=0.25, shear=0.0, translation=0.0, elastic=0.0)
    return replace(
        made,
        registration=registration,
        joint=Joint(inverse_by="warping"),
        augment=replace(changes, gamma=0.0, contrast=0.0, bias=0.0, noise=0.0),
        student=student,
        form="original",
    )


def validate(settings: Settings) -> None:
    """Refuse settings that cannot be trained, before anything is done.

    Raises:
        InputError: naming the setting and what it may be.
    """
    check_settings(settings)
    trained_beside(settings.student, "brbs", ("residual", "group"))
    if settings.joint.beta <= 0:
        raise InputError("joint.beta must be above 0")
    if settings.student.patch:
        raise InputError("student.patch: brbs registers whole scans in every step; use --spacing for a coarser grid")


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Train both networks in turns (stage ``joint``) and return them."""
    from soloatlas.registration import registration_network, registration_weights
    from soloatlas.segmenter import segmentation_network, segmentation_weights
    from soloatlas.training import Rival, Stage, fit, steps_of

    r, s = settings.registration, settings.student
    registration = registration_network(r, session.seed, session.device)
    student = segmentation_network(s, material.class_count, session)

    count = len(material.names)

    def objective(step: int, items: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        return play(step, _different(items, count), material, registration, student, settings, session.seed)

    weights = {
        **registration_weights(r),
        "semantic": settings.joint.semantic,
        "inverse": settings.joint.inverse,
    }
    stage = Stage(
        name="joint",
        networks={"student": student},
        objective=objective,
        weights={**segmentation_weights(s), "mix": settings.joint.mix},
        items=count,
        steps=steps_of(s.steps, s.epochs, count, 2),
        batch=2,  # two scans: one for style, one for shape
        learning_rate=s.learning_rate,
        schedule=s.schedule,
        rival=Rival({"registration": registration}, weights, r.learning_rate),
    )
    fit(stage, session)
    return {"registration": registration, "student": student}


def _different(items: Sequence[int], count: int) -> tuple[int, int]:
    """Two scans of the pool; where one pass ends and the next begins, both may be the same one."""
    first, second = items
    return first, second if second != first else (second + 1) % count


def play(
    step: int,
    items: Sequence[int],
    material: Material,
    registration: nn.Module,
    student: nn.Module,
    settings: Settings,
    seed: int,
) -> Iterator[dict[str, Tensor]]:
    """One step: the registration's terms, then the segmenter's, on the same changed atlas and two scans."""
    from soloatlas.randomness import generator
    from soloatlas.segmenter import intensity_change

    def look(image: Tensor) -> Tensor:
        return intensity_change(image, settings.augment, generator(seed, "look", step), seed, step)

    draw = generator(seed, "brbs", step)
    atlas, classes, first, second = _changed(step, items, material, settings, seed)
    yield registration_turn(atlas, classes, first, second, registration, student, settings, draw)
    yield segmentation_turn(atlas, classes, first, second, registration, student, settings, draw, look)


def _changed(
    step: int, items: Sequence[int], material: Material, settings: Settings, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Atlas, its class map and two scans under one random spatial change."""
    from soloatlas import fields
    from soloatlas.randomness import generator
    from soloatlas.segmenter import spatial_change

    images, classes = [material.atlas, *(material.scans([i]) for i in items)], material.classes
    if settings.augment.enabled:
        draw = generator(seed, "augment", step)
        displacement, _ = spatial_change(material.shape, material.spacing, settings.augment, (), draw, material.device)
        assert displacement is not None
        classes = fields.warp_labels(classes, displacement)
        images = [fields.warp(image, displacement) for image in images]
    atlas, first, second = images
    return atlas, classes, first, second


def registration_turn(
    atlas: Tensor,
    classes: Tensor,
    first: Tensor,
    second: Tensor,
    registration: nn.Module,
    student: nn.Module,
    settings: Settings,
    draw: torch.Generator,
) -> dict[str, Tensor]:
    """Terms of the registration for a drawn pair of the three images, in both directions.

    The semantic term compares where structures come to lie: the atlas's own labels, the segmenter's
    probabilities elsewhere (they get no gradient). For the contrast of Table I's rule the third image is what both of
    the pair are to be told from: alone in its batch a pair has no other.
    """
    import torch

    from soloatlas.losses.cycle import inverse_residual
    from soloatlas.losses.joint import overlap_of_maps, warped_inverse_residual
    from soloatlas.registration import field_of, registration_terms

    r = settings.registration
    triples = ((atlas, first, second), (atlas, second, first), (second, first, atlas))
    one, other, third = triples[int(torch.randint(3, (), generator=draw))]
    if torch.rand((), generator=draw) < 0.5:
        one, other = other, one
    there, back = registration(one, other), registration(other, one)
    negatives = None
    if r.beta:
        with torch.no_grad():
            negatives = registration(one, third).fixed_features
    terms = registration_terms(one, other, there, r, negatives)
    for name, value in registration_terms(other, one, back, r, negatives).items():
        terms[name] = terms[name] + value
    forward, backward = field_of(there, r), field_of(back, r)
    if settings.joint.semantic:
        maps = [structure_map(image, atlas, classes, student) for image in (one, other)]
        terms["semantic"] = overlap_of_maps(maps[0], maps[1], forward) + overlap_of_maps(maps[1], maps[0], backward)
    if settings.joint.inverse:
        residual = inverse_residual if settings.joint.inverse_by == "composition" else warped_inverse_residual
        terms["inverse"] = residual(forward, backward).square().mean()
    return terms


def structure_map(image: Tensor, atlas: Tensor, classes: Tensor, student: nn.Module) -> Tensor:
    """Where structures are in ``image``: (1, classes, x, y, z), the labels of the atlas or the student's view."""
    import torch

    with torch.no_grad():
        seen = student(image)[0].float().softmax(1)
        if image is not atlas:
            return seen
        own = torch.arange(seen.shape[1], device=classes.device).view(1, -1, 1, 1, 1)
        return (classes == own).float()


def segmentation_turn(
    atlas: Tensor,
    classes: Tensor,
    first: Tensor,
    second: Tensor,
    registration: nn.Module,
    student: nn.Module,
    settings: Settings,
    draw: torch.Generator,
    look: Callable[[Tensor], Tensor] = lambda image: image,
) -> dict[str, Tensor]:
    """Terms of the segmenter: the atlas with sampled style and shape, and the consistency of mixed scans.

    ``look`` changes the intensities of the image that is learnt from. The first scan is mixed with the second where it
    comes to lie in it by way of the atlas.
    """
    import torch

    from soloatlas import fields
    from soloatlas.losses.joint import mix_consistency
    from soloatlas.registration import field_of
    from soloatlas.segmenter import segmentation_terms

    r, beta = settings.registration, settings.joint.beta
    with torch.no_grad():
        brought = fields.warp(first, field_of(registration(first, atlas), r))
        towards = field_of(registration(atlas, second), r)
        style, shape, share = (_beta(beta, draw) for _ in range(3))
        image = fields.warp((atlas + style * (brought - atlas)).clamp(0, 1.5), shape * towards)
        labels = fields.warp_labels(classes, shape * towards)
    terms = segmentation_terms(student(look(image))[0], labels, settings.student)
    if settings.joint.mix:
        with torch.no_grad():
            moved = fields.warp(brought, towards)
        terms["mix"] = mix_consistency(student, moved, second, share)
    return terms


def _beta(parameter: float, draw: torch.Generator) -> float:
    """A draw of Beta(parameter, parameter) as a share of two Gamma draws, from ``draw`` alone."""
    import numpy as np
    import torch

    seed = int(torch.randint(2**31, (), generator=draw))
    return float(np.random.default_rng(seed).beta(parameter, parameter))
