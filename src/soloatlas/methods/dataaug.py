"""DataAug: labelled scans from the atlas by learnt spatial and appearance transforms, drawn independently.

Zhao, Balakrishnan, Durand, Guttag, Dalca: "Data augmentation using learned transformations for one-shot medical image
segmentation" (CVPR 2019). One network finds where the atlas lies in a scan, one brings the scan onto the atlas, one
finds the change of intensity between the two; a student learns from the atlas under all combinations of both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from soloatlas import presets
from soloatlas.errors import InputError
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Augment, Form, Loop, Prepare, Registration, Schedule, Segmenter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from soloatlas.material import Material
    from soloatlas.registration import PoolFields
    from soloatlas.segmenter import Pairs
    from soloatlas.training import Session

METHOD = Method(
    name="dataaug",
    family="LRLS",
    paper="Zhao et al. 2019, Data augmentation using learned transformations for one-shot medical image segmentation",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="8-60 min, 1-4 GB",
    stages=("register", "student"),
)


@dataclass(frozen=True)
class Appearance:
    """The appearance model (section 3.2.2)."""

    similarity: float = 50.0  # weight of the squared difference on the scan's grid
    smoothness: float = 1.0  # weight of the smoothness of the change
    steps: int = 0
    epochs: int = 20
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"


@dataclass(frozen=True)
class Sampling:
    """How a training pair is drawn (section 3.3)."""

    pairs: Literal["independent", "coupled", "random", "real"] = "independent"
    # independent: place of one scan, look of another; coupled: both of one; random: the paper's rand-aug, smooth
    # random displacements and one factor of intensity; real: its SAS-aug, the scan itself with the warped labels.
    displacement: float = 4.0  # voxels, standard deviation of random displacements; not comparable in the paper
    factor: float = 0.5  # random intensities are multiplied by 1 +- this
    label_warp: Literal["linear", "nearest"] = "linear"
    atlas: bool = False  # whether the atlas is one of the scans that places and looks are learnt from


@dataclass(frozen=True)
class Settings:
    """Everything DataAug can be told."""

    prepare: Prepare = field(default_factory=Prepare)
    registration: Registration = field(default_factory=Registration)
    appearance: Appearance = field(default_factory=Appearance)
    sampling: Sampling = field(default_factory=Sampling)
    augment: Augment = field(default_factory=lambda: Augment(enabled=False))
    student: Segmenter = field(default_factory=Segmenter)
    loop: Loop = field(default_factory=Loop)
    form: Form = "table"


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct; Table I's rule.

    Registration network, similarity, smoothness and student are OS-MedSeg's.
    """
    made = Settings(
        prepare=presets.prepare(name),
        registration=presets.registration(name),
        augment=presets.augment(name),
        student=presets.student(name),
    )
    if name == "quick":
        return replace(made, appearance=Appearance(steps=300, learning_rate=1e-3, schedule="cosine"))
    if name == "standard":
        return replace(made, appearance=Appearance(steps=2000, learning_rate=3e-4, schedule="cosine"))
    return made


def original(name: str) -> Settings:
    """The authors' own networks, losses and sampling; every value is that of the published code unless it says not.

    The presets quick and standard keep their own lengths, rates and schedules.
    """
    made = preset(name)
    registration = replace(
        made.registration,
        half_resolution=False,
        network="voxelmorph-pooled",
        channels=(16, 32, 32, 32),
        similarity="cc",
        window=9,
        smoothness="diffusion",
        alpha=1.0,
        beta=0.0,
        batch=1,
    )
    student = replace(
        made.student,
        network="slices",
        channels=(32, 32, 64, 64, 128, 128),
        slices=16,
        batch=1,  # scans that the slices of a step come from: not in our sources
        warm_up=0.5,
        dice=0.0,
        balance=0.0,
        amsgrad=True,
        learning_rate=made.appearance.learning_rate,  # 1e-4 in the paper presets; without norms 5e-3 is too much
    )
    if name.startswith("paper"):
        registration = replace(registration, epochs=500, learning_rate=1e-4)
        # 500 passes of the warm-up, and as many by cross entropy: the code stops by labels of validation scans.
        student = replace(student, epochs=1000)
    return replace(
        made,
        registration=registration,
        appearance=replace(made.appearance, similarity=50.0, smoothness=1.0),
        sampling=Sampling(label_warp="nearest", atlas=True),
        augment=replace(made.augment, enabled=False),  # the learnt transforms are the augmentation
        student=student,
        form="original",
    )


def validate(settings: Settings) -> None:
    """Refuse settings that cannot be trained, before anything is done.

    Raises:
        InputError: naming the setting and what it may be.
    """
    check_settings(settings)
    if settings.sampling.displacement < 0 or not 0 <= settings.sampling.factor < 1:
        raise InputError("sampling.displacement must be at least 0 and sampling.factor from 0 to 1")


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Run the stages and return the networks that a run keeps."""
    from soloatlas.registration import PoolFields, learn_registration
    from soloatlas.segmenter import learn_segmentation

    material = with_atlas(material) if settings.sampling.atlas else material
    registration = learn_registration(material, settings.registration, session, share=0.2)
    fields = PoolFields(registration, material, settings.registration, settings.loop.precision)
    networks = {"registration": registration}
    changes = None
    if settings.sampling.pairs in ("independent", "coupled"):
        networks["appearance"], changes = learn_appearance(material, fields, settings, session)
    pairs = augmented_pairs(material, fields, changes, settings, session.seed)
    items = len(material.names)
    networks["student"] = learn_segmentation(pairs, items, material.class_count, settings.student, session)
    return networks


def with_atlas(material: Material) -> Material:
    """The study with the atlas as the last scan of its pool."""
    import torch

    atlas = material.atlas.to(material.pool.device, material.pool.dtype)
    return replace(material, pool=torch.cat([material.pool, atlas]), names=(*material.names, "atlas"))


def learn_appearance(
    material: Material, fields: PoolFields, settings: Settings, session: Session
) -> tuple[nn.Module, Tensor]:
    """The appearance model (stage ``appearance``) and the changes it finds, (scans, 1, x, y, z) float16.

    Scans come onto the atlas's grid by a registration network of their own (stage ``back``).
    """
    import torch

    from soloatlas.fields import warp
    from soloatlas.losses.appearance import change_smoothness, label_contours
    from soloatlas.losses.similarity import reconstruction_error
    from soloatlas.networks.appearance import AppearanceNetwork
    from soloatlas.randomness import seeded_modules
    from soloatlas.training import Stage, fit, steps_of

    a, items = settings.appearance, len(material.names)
    brought = bring_back(material, settings, session)
    contours = label_contours(material.classes)
    with seeded_modules(session.seed, "appearance"):
        network = AppearanceNetwork().to(session.device)

    def objective(step: int, chosen: Sequence[int]) -> dict[str, Tensor]:
        change = network(material.atlas, brought[list(chosen)].to(material.device).float())
        made = warp(material.atlas + change, fields[chosen[0]])
        return {
            "appearance": reconstruction_error(material.scans(chosen), made),
            "change": change_smoothness(change, contours),
        }

    weights = {"appearance": a.similarity, "change": a.smoothness}
    steps = steps_of(a.steps, a.epochs, items, 1)
    networks = {"appearance": network}
    stage = Stage("appearance", networks, objective, weights, items, steps, 1, a.learning_rate, a.schedule)
    fit(replace(stage, share=0.2), session)
    with torch.inference_mode():
        found = [_kept(network(material.atlas, scan[None].to(material.device).float()), material) for scan in brought]
    return network, torch.cat(found).clone()


def bring_back(material: Material, settings: Settings, session: Session) -> Tensor:
    """The pool warped onto the atlas, (scans, 1, x, y, z) float16, by a network learnt for it (stage ``back``)."""
    import torch

    from soloatlas.fields import warp
    from soloatlas.registration import learn_registration, predict_field

    r = settings.registration
    network = learn_registration(material, r, session, back=True, share=0.2)
    found = []
    for item in range(len(material.names)):
        scan = material.scans([item])
        field = predict_field(network, scan, material.atlas, r, settings.loop.precision)
        found.append(_kept(warp(scan, field), material))
    return torch.cat(found)


def _kept(image: Tensor, material: Material) -> Tensor:
    """In float16 where the pool is kept: as large as the pool, all of them may not fit on the device."""
    return image.half().to(material.pool.device)


def augmented_pairs(
    material: Material, fields: PoolFields, changes: Tensor | None, settings: Settings, seed: int
) -> Pairs:
    """Training pairs: (step, items) to images and class maps; the item says where the atlas goes."""
    from soloatlas.segmenter import batches_of

    return batches_of(lambda visit, item: _one_pair(visit, item, material, fields, changes, settings, seed))


def _one_pair(
    visit: int,
    item: int,
    material: Material,
    fields: PoolFields,
    changes: Tensor | None,
    settings: Settings,
    seed: int,
) -> tuple[Tensor, Tensor]:
    from soloatlas.randomness import generator
    from soloatlas.segmenter import intensity_change, spatial_change
    from soloatlas.synthesis import synthesise_pair

    draw, augment = generator(seed, "augment", visit), settings.augment
    displacement, origin = spatial_change(
        material.shape, material.spacing, augment, settings.student.patch, draw, material.device
    )
    atlas, field = _drawn(visit, item, material, fields, changes, settings.sampling, seed)
    scan = material.scans([item])
    label_warp = settings.sampling.label_warp
    pair = synthesise_pair(atlas, material.classes, scan, field, displacement, label_warp, origin)
    image = pair.real if settings.sampling.pairs == "real" else pair.synthetic
    return intensity_change(image, augment, draw, seed, visit), pair.labels


def _drawn(
    visit: int,
    item: int,
    material: Material,
    fields: PoolFields,
    changes: Tensor | None,
    sampling: Sampling,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """The atlas with its drawn look, and the drawn field."""
    import torch

    from soloatlas.augmentation import smooth_displacement
    from soloatlas.randomness import generator

    draw = generator(seed, "sampling", visit)
    if sampling.pairs == "random":
        factor = 1 + sampling.factor * float(2 * torch.rand((), generator=draw) - 1)
        field = smooth_displacement(material.shape, sampling.displacement, 12, draw).to(material.device)
        return (material.atlas * factor).clamp(0, 1), field
    if changes is None:
        return material.atlas, fields[item]
    other = int(torch.randint(len(changes), (), generator=draw)) if sampling.pairs == "independent" else item
    change = changes[[other]].to(material.device, torch.float32)
    return (material.atlas + change).clamp(0, 1), fields[item]
