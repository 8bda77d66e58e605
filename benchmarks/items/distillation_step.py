"""A distillation step of OS-MedSeg beside the published form, which reads its pairs from gzip files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from harness import Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from soloatlas.material import Material

CLASSES, SCANS = 36, 4


def study(place: Place) -> tuple[Material, list[Tensor]]:
    """The prepared study, and the field of each scan of the pool as a run keeps it."""
    from inputs import displacement, material

    return material(place, CLASSES, SCANS), [displacement(place, seed=n).half() for n in range(SCANS)]


def pairs_of(place: Place) -> Callable[[int, list[int]], tuple[Tensor, ...]]:
    """The program's own pairs: (step, items) to synthetic scan, class map, real scan."""
    from soloatlas.methods.os_medseg import training_pairs

    prepared, fields = study(place)
    widened = cast(Any, [field.float() for field in fields])
    return training_pairs(prepared, widened, settings(), 0)


def settings() -> Any:
    """The paper's: no augmentation, no Dice, hints of weight 1."""
    from soloatlas.methods.os_medseg import preset

    return preset("paper")


def write_files(place: Place) -> None:
    """The pairs of the pool as the published code left them on disk."""
    import numpy as np

    from inputs import write
    from soloatlas.data.volume import Grid, Volume

    pairs = pairs_of(place)
    for number in range(SCANS):
        for kind, volume in zip(("synthetic", "classes", "real"), pairs(number, [number]), strict=True):
            array = volume[0, 0].cpu().numpy()
            write(place.folder / f"{kind}_{number}.nii.gz", Volume(array, Grid(place.shape, np.eye(4))))


def build(place: Place) -> Case:
    """Student and teacher of the same weights for everyone, one pair a step."""
    import torch

    from gradients import training_step
    from published import Triples, distillation_loss, forever, plain
    from soloatlas.devices import choose_precision

    device = torch.device(place.device)
    student, teacher = networks(place)
    half = choose_precision("auto", device)
    triples = Triples(place.folder, SCANS)

    def peer(half: torch.dtype | None, kept: bool = False, last: bool = False) -> Callable[[], None]:
        own = [plain(network, last) for network in (student, teacher)]
        batches: Iterator[Any] = forever(triples, place.device)
        if kept:
            batches = itertools.cycle(list(itertools.islice(batches, SCANS)))
        return training_step(lambda: distillation_loss(own[0], own[1], next(batches), half), own)

    # Pairs that are kept in memory: no loader, with however many processes, can be sooner.
    peers = {"published form, float32": peer(None), "the same, pairs in memory": peer(None, kept=True)}
    if half != torch.float32:
        peers |= {
            "published form, bf16": peer(half),
            "bf16, channels last, pairs in memory": peer(half, kept=True, last=True),
        }
    pairs, steps = pairs_of(place), itertools.count()

    def ours() -> Tensor:
        step = next(steps)
        return our_loss(student, teacher, pairs(step, [step % SCANS]), half)

    return Case(
        ours=training_step(ours, [student, teacher]),
        peers=peers,
        agree=lambda: agreement(place, next(forever(triples, place.device)), pairs(0, [0]), half),
    )


def networks(place: Place) -> tuple[nn.Module, nn.Module]:
    """Student and teacher as a run begins with them."""
    import torch

    from soloatlas.methods.os_medseg import build_student, build_teacher
    from soloatlas.training import Session

    session = Session(place.folder, 0, torch.device(place.device), settings().loop)
    return build_student(settings(), CLASSES, session), build_teacher(settings(), session)


def our_loss(student: nn.Module, teacher: nn.Module, pair: tuple[Tensor, ...], half: torch.dtype) -> Tensor:
    """Eq. 12 as the program computes it; the paper's weights are all 1."""
    import torch

    from soloatlas.devices import autocast
    from soloatlas.methods.os_medseg import distillation_terms

    with autocast(pair[0].device, half):
        terms = distillation_terms(student, teacher, pair, settings())
    return torch.stack([term.float() for term in terms.values()]).sum()


def agreement(place: Place, read: list[Tensor], made: tuple[Tensor, ...], half: torch.dtype) -> Agreement:
    """The pair from files and the pair made on the device; then loss and gradient, in float32 and ours in bf16."""
    import torch

    from gradients import apart, relative, weight_gradient
    from published import distillation_loss, plain

    student, teacher = networks(place)
    own = [plain(network) for network in (student, teacher)]
    right = distillation_loss(own[0], own[1], read)
    slope = weight_gradient(right, own)
    found = {"pair": (max(apart(a, b) for a, b in zip(read, made, strict=True)), 1e-5)}
    for name, type_, limits in (("float32", torch.float32, (1e-4, 1e-2)), ("ours in bf16", half, (5e-2, 0.2))):
        loss = our_loss(student, teacher, made, type_)
        found[f"loss, {name}"] = (abs(float(loss - right)), limits[0])
        found[f"gradient, {name}"] = (relative(weight_gradient(loss, (student, teacher)), slope), limits[1])
    return found


ITEM = Item(
    "distillation-step",
    "a distillation step of OS-MedSeg (student and teacher, 36 classes), one pair, Adam",
    [
        Part(
            "step",
            build,
            {
                "published form, float32": {
                    "cpu": {"ratio": 2.5, "memory_ratio": 0.5},
                    "cuda": {"ratio": 4, "memory_ratio": 0.5},
                }
            },
            files=write_files,
            rounds=(3, 15),
            busy=True,
        )
    ],
)
