"""OS-MedSeg: distillation learning guided by image reconstruction.

Zhou, Zhou, Wang, Peng, Carlson, Tu: "Distillation Learning Guided by Image Reconstruction for One-Shot
Medical Image Segmentation" (2024). Three stages: a registration network learns to deform the atlas into
each unlabelled scan (III-A); a student learns to segment the deformed atlases while its features are drawn
to those of a teacher that reconstructs the real scans (III-B, III-C); only the student is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from soloatlas.errors import InputError
from soloatlas.methods import Method
from soloatlas.settings import Augment, Loop, Prepare, Registration, Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from soloatlas.material import Material
    from soloatlas.registration import PoolFields
    from soloatlas.training import Session

METHOD = Method(
    name="os-medseg",
    family="LRLS",
    paper="Zhou et al. 2024, Distillation Learning Guided by Image Reconstruction for One-Shot Medical "
    "Image Segmentation",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="5-40 min, 2-4 GB",
)


@dataclass(frozen=True)
class Teacher:
    """The network that reconstructs real scans (Eq. 10)."""

    enabled: bool = True  # false: rows M1 and M2 of Table III
    schedule: Literal["joint", "pretrain", "freeze"] = "joint"  # Eq. 12 is one objective
    weight: float = 1.0  # lambda_recon (IV-C); 0 is the third row of Table IV
    head: Literal["linear", "paper"] = "linear"  # Fig. 3's head cannot reach every intensity
    every: int = 1  # steps from one visit of the teacher to the next; the paper visits it at each


@dataclass(frozen=True)
class Hint:
    """What draws the student's features to the teacher's (Eqs. 3-4)."""

    weight: float = 1.0  # lambda_hint (IV-C: 1 for OASIS and VerSe, 10 for BCV)
    levels: int = 2  # feature levels counted from the output, 0 to 5; "last two" (Fig. 7b)
    distance: Literal["cosine", "l2"] = "cosine"  # Table V
    mode: Literal["flat", "voxel", "flat_batch"] = "flat"  # one vector per sample; per voxel; per batch
    stop_gradient: bool = False  # true: the hint changes the student alone


@dataclass(frozen=True)
class Synthesis:
    """How the training pairs are made (Eq. 1)."""

    pairs: Literal["synthetic", "real"] = "synthetic"  # SI+SL, or RI+SL (Table III)
    label_warp: Literal["linear", "nearest"] = "linear"
    appearance: Literal["none", "histogram"] = "none"  # give each pair its scan's intensity distribution


@dataclass(frozen=True)
class Settings:
    """Everything OS-MedSeg can be told; the defaults are the paper's."""

    prepare: Prepare = field(default_factory=Prepare)
    registration: Registration = field(default_factory=Registration)
    synthesis: Synthesis = field(default_factory=Synthesis)
    augment: Augment = field(default_factory=lambda: Augment(enabled=False))
    student: Segmenter = field(default_factory=Segmenter)
    teacher: Teacher = field(default_factory=Teacher)
    hint: Hint = field(default_factory=Hint)
    loop: Loop = field(default_factory=Loop)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct."""
    paper = Settings()
    if name == "paper":
        return paper
    if name == "paper-ct":  # the BCV recipe of III-C and IV-C
        return replace(
            paper,
            prepare=replace(paper.prepare, normalise="window"),
            registration=replace(paper.registration, similarity="mi", smoothness="bending"),
            hint=replace(paper.hint, weight=10.0),
        )
    return _quick() if name == "quick" else _standard()


def _standard() -> Settings:
    """The paper's networks with augmentation and a schedule that needs fewer steps."""
    return replace(
        Settings(),
        registration=Registration(steps=8000, learning_rate=3e-4, schedule="cosine"),
        synthesis=Synthesis(appearance="histogram"),
        augment=Augment(),
        student=Segmenter(dice=1.0, steps=12000, schedule="cosine"),
    )


def _quick() -> Settings:
    """Minutes on 2 cores: undoubled registration filters, half-resolution fields, few steps (all said)."""
    return replace(
        Settings(),
        registration=Registration(
            channels=(16, 32, 32, 32),
            half_resolution=True,
            steps=600,
            batch=2,  # two scans: each is the other's negative in Eq. 2
            learning_rate=1e-3,
            schedule="cosine",
        ),
        synthesis=Synthesis(appearance="histogram"),
        # Half the default changes: scans are aligned to the atlas, and few steps learn less from rare poses.
        augment=Augment(rotation=7.0, scale=0.08, shear=0.03, translation=0.025, elastic=1.5),
        # Five times the paper's rate: few steps with a cosine to 0 learn far more than at 1e-3 (dev scans).
        student=Segmenter(dice=1.0, steps=1200, batch=1, learning_rate=5e-3, schedule="cosine"),
        teacher=Teacher(every=4),  # the time of a step in two goes into more steps of the student
        # At the paper's weight of 1 the hint slows the first hundreds of steps: 0.400 instead of 0.772 DSC after
        # 200 steps on hippocampus dev scans (results/hippocampus/os-medseg-readings-dev.json).
        hint=Hint(weight=0.1),
    )


def validate(settings: Settings) -> None:
    """Refuse settings that cannot be trained, before anything is done.

    Raises:
        InputError: naming the setting and what it may be.
    """
    s, h, teacher = settings.student, settings.hint, settings.teacher
    if s.patch and (len(s.patch) != 3 or any(n < 32 or n % 16 for n in s.patch)):
        raise InputError(f"student.patch={list(s.patch)}: give three multiples of 16, each at least 32")
    if len(s.channels) != 5 or len(settings.registration.channels) != 4:
        raise InputError("student.channels takes five widths, registration.channels four")
    if not 0 <= h.levels <= 5:
        raise InputError(f"hint.levels={h.levels}: a network has levels 1 to 5; 0 leaves the hint out")
    counts = (s.batch, settings.registration.batch, teacher.every, settings.loop.accumulate, settings.loop.log_steps)
    if min(counts) < 1:
        raise InputError("batch, teacher.every, loop.accumulate and loop.log_steps must be at least 1")
    if not (s.weight or (teacher.enabled and (teacher.weight or (h.weight and h.levels)))):
        raise InputError("student.weight=0: no other term of the loss is on; set one of its weights")


def fit_to_memory(settings: Settings, shape: Sequence[int], classes: int, room: float) -> Settings:
    """``settings`` with a patch size if the whole grid would not fit into ``room`` bytes.

    Args:
        shape: of the working grid.
        classes: background included.
        room: free bytes.

    A training step was measured to take 3 kB a voxel for student and teacher in bf16, and 8 bytes more for
    each class; patches are cubes as large as fit, of whole multiples of the networks' 16.
    """
    s = settings.student
    voxel = s.batch * (3000 * s.channels[0] / 16 + 8 * classes)
    if s.patch or math.prod(shape) * voxel < 0.7 * room:
        return settings
    side = max(32, int((0.7 * room / voxel) ** (1 / 3)) // 16 * 16)
    x, y, z = (min(side, n) for n in shape)
    return replace(settings, student=replace(s, patch=(x, y, z)))


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Run the stages and return the networks that a run keeps: ``registration`` and ``student``."""
    from soloatlas.registration import PoolFields, learn_registration

    registration = learn_registration(material, settings.registration, session)
    fields = PoolFields(registration, material, settings.registration, settings.loop.precision, room=4e9)
    student, teacher = build_student(settings, material.class_count, session), None
    if settings.teacher.enabled:
        teacher = build_teacher(settings, session)
        if settings.teacher.schedule != "joint":
            learn_reconstruction(teacher, material, settings, session)
    distil(student, teacher, material, fields, settings, session)
    return {"registration": registration, "student": student}


def build_student(settings: Settings, classes: int, session: Session) -> nn.Module:
    """The segmenting network, initialised from the run's seed."""
    return _network(settings, session, "student", classes, "linear")


def build_teacher(settings: Settings, session: Session) -> nn.Module:
    """The reconstructing network: the student's trunk with another head."""
    return _network(settings, session, "teacher", 1, settings.teacher.head)


def _network(
    settings: Settings, session: Session, name: str, outputs: int, head: Literal["linear", "paper"]
) -> nn.Module:
    import torch

    from soloatlas.networks.residual_unet import ResidualUNet
    from soloatlas.randomness import seeded_modules

    s = settings.student
    with seeded_modules(session.seed, name):
        network = ResidualUNet(
            out_channels=outputs,
            channels=s.channels,
            residual=s.residual,
            decoder_residual=s.decoder_residual,
            norm=s.norm,
            order=s.order,
            head=head,
        )
    return network.to(session.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def learn_reconstruction(teacher: nn.Module, material: Material, settings: Settings, session: Session) -> None:
    """Train the teacher alone first (the schedules ``pretrain`` and ``freeze``)."""
    from soloatlas.losses.similarity import reconstruction_error
    from soloatlas.training import Stage, fit, steps_of

    def objective(step: int, items: Sequence[int]) -> dict[str, Tensor]:
        scans = material.scans(items)
        return {"reconstruction": reconstruction_error(scans, teacher(scans)[0])}

    s, items = settings.student, len(material.names)
    steps = steps_of(s.steps, s.epochs, items, s.batch)
    weights = {"reconstruction": 1.0}
    fit(
        Stage("reconstruct", {"teacher": teacher}, objective, weights, items, steps, s.batch, s.learning_rate),
        session,
    )


def distil(
    student: nn.Module,
    teacher: nn.Module | None,
    material: Material,
    fields: PoolFields,
    settings: Settings,
    session: Session,
) -> None:
    """Train the student, and the teacher beside it, on Eq. 12 (stage ``distil``)."""
    from soloatlas.training import Stage, fit, steps_of

    def objective(step: int, items: Sequence[int]) -> dict[str, Tensor]:
        pairs = training_pairs(step, items, material, fields, settings, session.seed)
        visited = step % settings.teacher.every == 0 or not settings.student.weight
        return distillation_terms(student, teacher if visited else None, pairs, settings)

    networks = {"student": student}
    if teacher is not None and settings.teacher.schedule == "freeze":
        teacher.requires_grad_(False)
    elif teacher is not None:
        networks["teacher"] = teacher
    s, items = settings.student, len(material.names)
    weights = {
        "cross entropy": s.weight,
        "dice": s.weight * s.dice,
        "reconstruction": settings.teacher.weight,
        "hint": settings.hint.weight,
    }
    steps = steps_of(s.steps, s.epochs, items, s.batch)
    fit(
        Stage("distil", networks, objective, weights, items, steps, s.batch, s.learning_rate, s.schedule),
        session,
    )


def training_pairs(
    step: int,
    items: Sequence[int],
    material: Material,
    fields: PoolFields,
    settings: Settings,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of the student, its class maps, and the teacher's real scans, each (batch, 1, x, y, z).

    Scan, synthetic image and labels of a pair undergo the same spatial change; the intensity change is the
    student's alone.
    """
    import torch

    made = [_one_pair(step * len(items) + k, item, material, fields, settings, seed) for k, item in enumerate(items)]
    inputs, classes, real = (torch.cat(parts) for parts in zip(*made, strict=True))
    return inputs, classes, real


def _one_pair(
    visit: int, item: int, material: Material, fields: PoolFields, settings: Settings, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    from soloatlas.augmentation import (
        change_intensity,
        sample_intensity,
        sample_spatial,
        spatial_displacement,
    )
    from soloatlas.randomness import generator
    from soloatlas.synthesis import match_histogram, synthesise_pair

    draw, origin, shape = generator(seed, "augment", visit), (0, 0, 0), material.shape
    displacement = None
    if settings.student.patch:
        shape, origin = _random_patch(material.shape, settings.student.patch, draw)
        displacement = torch.zeros(1, 3, *shape, device=material.device)
    if settings.augment.enabled:
        change = sample_spatial(material.shape, settings.augment, draw)
        displacement = spatial_displacement(change, material.shape, material.spacing, material.device)
        x, y, z = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
        displacement = displacement[:, :, x, y, z]
    scan, atlas = material.scans([item]), material.atlas
    if settings.synthesis.appearance == "histogram":
        atlas = match_histogram(atlas, scan)
    pair = synthesise_pair(
        atlas, material.classes, scan, fields[item], displacement, settings.synthesis.label_warp, origin
    )
    image = pair.synthetic if settings.synthesis.pairs == "synthetic" else pair.real
    if settings.augment.enabled:
        noise = generator(seed, "noise", visit, device=material.device)
        image = change_intensity(image, sample_intensity(settings.augment, draw), noise)
    return image, pair.labels, pair.real


def _random_patch(
    shape: Sequence[int], patch: Sequence[int], draw: object
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Size and first voxel of a patch placed anywhere in the grid."""
    import torch

    size = [min(n, p) for n, p in zip(shape, patch, strict=True)]
    first = [
        int(torch.randint(0, n - s + 1, (), generator=draw))  # type: ignore[call-overload]
        for n, s in zip(shape, size, strict=True)
    ]
    return (size[0], size[1], size[2]), (first[0], first[1], first[2])


def distillation_terms(
    student: nn.Module,
    teacher: nn.Module | None,
    pairs: tuple[Tensor, Tensor, Tensor],
    settings: Settings,
) -> dict[str, Tensor]:
    """The terms of Eq. 12: segmentation (Eq. 11), reconstruction (Eq. 10), hint (Eqs. 3-4)."""
    from soloatlas.losses.distillation import hint_cosine, hint_l2
    from soloatlas.losses.overlap import cross_entropy, soft_dice
    from soloatlas.losses.similarity import reconstruction_error

    inputs, classes, real = pairs
    logits, features = student(inputs)
    terms = {}
    if settings.student.weight:
        terms["cross entropy"] = cross_entropy(logits, classes)
        if settings.student.dice:
            terms["dice"] = soft_dice(logits, classes)
    if teacher is None:
        return terms
    reconstruction, guidance = teacher(real)
    if settings.teacher.weight and settings.teacher.schedule != "freeze":
        terms["reconstruction"] = reconstruction_error(real, reconstruction)
    if settings.hint.weight and settings.hint.levels:
        if settings.hint.stop_gradient:
            guidance = [level.detach() for level in guidance]
        ours, theirs = features[: settings.hint.levels], guidance[: settings.hint.levels]
        if settings.hint.distance == "cosine":
            terms["hint"] = hint_cosine(ours, theirs, settings.hint.mode)
        else:
            terms["hint"] = hint_l2(ours, theirs)
    return terms


def segmenter(
    settings: Settings, load: Callable[[str], dict[str, Tensor]], classes: int, session: Session
) -> Callable[[Tensor], Tensor]:
    """The student, ready to use: prepared scan (1, 1, x, y, z) to logits; ``load`` gives stored weights."""
    student = build_student(settings, classes, session)
    student.load_state_dict(load("student"))
    return student.eval()


def registrar(
    settings: Settings, load: Callable[[str], dict[str, Tensor]], session: Session
) -> Callable[[Tensor, Tensor], Tensor]:
    """The registration network, ready to use: (atlas, prepared scan) to the field (1, 3, x, y, z)."""
    from soloatlas.registration import predict_field, registration_network

    network = registration_network(settings.registration, session.seed, session.device)
    network.load_state_dict(load("registration"))
    network.eval()

    def register(atlas: Tensor, scan: Tensor) -> Tensor:
        return predict_field(network, atlas, scan, settings.registration, settings.loop.precision)

    return register
