"""OS-MedSeg: distillation learning guided by image reconstruction.

Zhou, Zhou, Wang, Peng, Carlson, Tu: "Distillation Learning Guided by Image Reconstruction for One-Shot
Medical Image Segmentation" (2024). Three stages: a registration network learns to deform the atlas into
each unlabelled scan (III-A); a student learns to segment the deformed atlases while its features are drawn
to those of a teacher that reconstructs the real scans (III-B, III-C); only the student is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from soloatlas import presets
from soloatlas.errors import InputError
from soloatlas.methods import Method, check_settings, trained_beside
from soloatlas.settings import Augment, Loop, Prepare, Registration, Segmenter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from soloatlas.material import Material
    from soloatlas.registration import FieldsOfPool
    from soloatlas.segmenter import Pairs
    from soloatlas.training import Session

METHOD = Method(
    name="os-medseg",
    family="LRLS",
    paper="Zhou et al. 2024, Distillation Learning Guided by Image Reconstruction for One-Shot Medical "
    "Image Segmentation",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="10-70 min, 1-4 GB",
    stages=("register", "student"),
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


REGISTRATION = 0.25  # its share of a limited training


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
    common = Settings(
        prepare=presets.prepare(name),
        registration=presets.registration(name),
        augment=presets.augment(name),
        student=presets.student(name),
    )
    if name == "paper":
        return common
    if name == "paper-ct":
        return replace(common, hint=Hint(weight=10.0))  # IV-C, for BCV
    common = replace(common, synthesis=Synthesis(appearance="histogram"))
    if name == "standard":
        return common
    return replace(
        common,
        teacher=Teacher(every=4),  # the time of a step in two goes into more steps of the student
        # After 400 steps on hippocampus dev scans DSC is that of the paper's weight of 1, and HD95 is less, 3.43
        # against 3.79 mm (results/hippocampus/os-medseg-readings-dev.json).
        hint=Hint(weight=0.1),
    )


def validate(settings: Settings) -> None:
    """Refuse settings that cannot be trained, before anything is done.

    Raises:
        InputError: naming the setting and what it may be.
    """
    s, h, teacher = settings.student, settings.hint, settings.teacher
    check_settings(settings, syn=True)
    trained_beside(s, "os-medseg", ("residual",))
    if not 0 <= h.levels <= 5:
        raise InputError(f"hint.levels={h.levels}: a network has levels 1 to 5; 0 leaves the hint out")
    if teacher.every < 1:
        raise InputError("teacher.every must be at least 1")
    if not (s.weight or (teacher.enabled and (teacher.weight or (h.weight and h.levels)))):
        raise InputError("student.weight=0: no other term of the loss is on; set one of its weights")


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Run the stages and return the networks that a run keeps: ``registration`` (unless SyN's fields serve) and
    ``student``.
    """
    from soloatlas.registration import learn_fields

    networks, fields = learn_fields(material, settings, session, share=REGISTRATION)
    if not settings.registration.learnt:  # SyN does not count: a student gets no more time than beside a network
        loop = replace(session.loop, minutes=(1 - REGISTRATION) * session.loop.minutes)
        session = replace(session, loop=loop)
    student, teacher = build_student(settings, material.class_count, session), None
    if settings.teacher.enabled:
        teacher = build_teacher(settings, session)
        if settings.teacher.schedule != "joint":
            learn_reconstruction(teacher, material, settings, session)
    distil(student, teacher, material, fields, settings, session)
    return {**networks, "student": student}


def build_student(settings: Settings, classes: int, session: Session) -> nn.Module:
    """The segmenting network, initialised from the run's seed."""
    from soloatlas.segmenter import residual_unet

    return residual_unet(settings.student, classes, session, "student")


def build_teacher(settings: Settings, session: Session) -> nn.Module:
    """The reconstructing network: the student's trunk with another head."""
    from soloatlas.segmenter import residual_unet

    return residual_unet(settings.student, 1, session, "teacher", settings.teacher.head)


def learn_reconstruction(teacher: nn.Module, material: Material, settings: Settings, session: Session) -> None:
    """Train the teacher alone first (the schedules ``pretrain`` and ``freeze``)."""
    from soloatlas.losses.similarity import reconstruction_error
    from soloatlas.randomness import generator
    from soloatlas.segmenter import drawn_patch
    from soloatlas.training import Stage, fit, steps_of

    s, count = settings.student, len(material.names)

    def objective(step: int, items: Sequence[int]) -> dict[str, Tensor]:
        scans = drawn_patch(material.scans(items), s.patch, generator(session.seed, "reconstruct", step))
        return {"reconstruction": reconstruction_error(scans, teacher(scans)[0])}

    steps = steps_of(s.steps, s.epochs, count, s.batch)
    weights = {"reconstruction": 1.0}
    networks = {"teacher": teacher}
    stage = Stage("reconstruct", networks, objective, weights, count, steps, s.batch, s.learning_rate, s.schedule)
    fit(replace(stage, share=0.4), session)


def distil(
    student: nn.Module,
    teacher: nn.Module | None,
    material: Material,
    fields: FieldsOfPool,
    settings: Settings,
    session: Session,
) -> None:
    """Train the student, and the teacher beside it, on Eq. 12 (stage ``distil``)."""
    from soloatlas.segmenter import segmentation_weights
    from soloatlas.training import Stage, fit, steps_of

    pairs = training_pairs(material, fields, settings, session.seed)

    def objective(step: int, items: Sequence[int]) -> dict[str, Tensor]:
        visited = step % settings.teacher.every == 0 or not settings.student.weight
        return distillation_terms(student, teacher if visited else None, pairs(step, items), settings)

    networks = {"student": student}
    if teacher is not None and settings.teacher.schedule == "freeze":
        teacher.requires_grad_(False)
    elif teacher is not None:
        networks["teacher"] = teacher
    s, items = settings.student, len(material.names)
    weights = {
        **segmentation_weights(s),
        "reconstruction": settings.teacher.weight,
        "hint": settings.hint.weight,
    }
    steps = steps_of(s.steps, s.epochs, items, s.batch)
    stage = Stage("distil", networks, objective, weights, items, steps, s.batch, s.learning_rate, s.schedule)
    fit(stage, session)


def training_pairs(material: Material, fields: FieldsOfPool, settings: Settings, seed: int) -> Pairs:
    """What a step sees: inputs of the student, its class maps, and the teacher's real scans.

    Scan, synthetic image and labels of a pair undergo the same spatial change; the intensity change is the
    student's alone.
    """
    from soloatlas.devices import room_for
    from soloatlas.segmenter import batches_of
    from soloatlas.synthesis import matched_atlases

    def own(item: int) -> Tensor:
        return material.atlas

    histogram, room = settings.synthesis.appearance == "histogram", room_for(0.05, 1e9, material.device)
    atlas_for = matched_atlases(material.atlas, lambda item: material.scans([item]), room) if histogram else own
    return batches_of(lambda visit, item: _one_pair(visit, item, atlas_for(item), material, fields, settings, seed))


def _one_pair(
    visit: int, item: int, atlas: Tensor, material: Material, fields: FieldsOfPool, settings: Settings, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    from soloatlas.randomness import generator
    from soloatlas.segmenter import intensity_change, spatial_change
    from soloatlas.synthesis import synthesise_pair

    draw, augment = generator(seed, "augment", visit), settings.augment
    displacement, origin = spatial_change(
        material.shape, material.spacing, augment, settings.student.patch, draw, material.device
    )
    scan = material.scans([item])
    label_warp = settings.synthesis.label_warp
    pair = synthesise_pair(atlas, material.classes, scan, fields[item], displacement, label_warp, origin)
    image = pair.synthetic if settings.synthesis.pairs == "synthetic" else pair.real
    return intensity_change(image, augment, draw, seed, visit), pair.labels, pair.real


def distillation_terms(
    student: nn.Module,
    teacher: nn.Module | None,
    pairs: tuple[Tensor, ...],
    settings: Settings,
) -> dict[str, Tensor]:
    """The terms of Eq. 12: segmentation (Eq. 11), reconstruction (Eq. 10), hint (Eqs. 3-4)."""
    from soloatlas.losses.distillation import hint_cosine, hint_l2
    from soloatlas.losses.similarity import reconstruction_error
    from soloatlas.segmenter import segmentation_terms

    inputs, classes, real = pairs
    logits, features = student(inputs)
    terms = segmentation_terms(logits, classes, settings.student)
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
