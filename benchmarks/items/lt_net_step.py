"""What a training step of LT-Net costs beside one of its VoxelMorph row: same size, precision and generator."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness import ALONE, Case, Clocked, Item, Limits, Part, Place, Run, Shape

if TYPE_CHECKING:
    from soloatlas.material import Material

STEPS = 6  # that are timed in each run (tiny: 1), after a first one; making the networks and saving them is no step
WITHOUT = ("adversary=false", "cycle=false")  # what LT-Net's Table 1 calls VoxelMorph


def build(preset: str, classes: int, place: Place, steps: int = STEPS) -> Case:
    """A short training of each, by the program's own loop. Nothing to be equal: LT-Net does more."""
    from inputs import material

    prepared, steps = material(place, classes, 4), 1 if place.size == "tiny" else steps

    def training(*changes: str) -> Run:
        return lambda: train(prepared, preset, steps, changes)

    return Case(training(), {"VoxelMorph": training(*WITHOUT)})


def train(material: Material, preset: str, steps: int, changes: tuple[str, ...]) -> Clocked:
    """Seconds of so many steps of one scan; from new weights, in a folder of their own."""
    from soloatlas.methods import lt_net
    from soloatlas.settings import override
    from soloatlas.training import Session, Trial

    settings, trial = override(lt_net.preset(preset), changes), Trial(steps=steps + 1)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder), 0, material.device, settings.loop, trial=trial)
        lt_net.train(material, settings, session)
    ((_, ends),) = trial.stages.values()
    return Clocked(ends[-1] - ends[0])


def part(
    name: str, preset: str, classes: int, shapes: dict[str, Shape], cost: float, own: Mapping[str, Limits]
) -> Part:
    """One preset at one size."""
    targets: dict[str, Mapping[str, Limits]] = {
        ALONE: own,
        "VoxelMorph": {device: {"cost": cost} for device in ("cpu", "cuda")},
    }
    return Part(name, partial(build, preset, classes), targets, shapes, rounds=(3, 10))


HIPPOCAMPUS = {"tiny": (32, 32, 32), "small": (48, 64, 48)}
BRAIN = {"tiny": (32, 32, 32), "small": (80, 96, 112)}
ROOM = {"cpu": {"process_gb": 2}}
ITEM = Item(
    "lt-net-step",
    f"{STEPS} training steps of LT-Net, one scan; cost is its time over VoxelMorph's",
    [
        part("hippocampus size, quick", "quick", 3, HIPPOCAMPUS, 3.5, ROOM),
        part("hippocampus size, paper", "paper", 3, HIPPOCAMPUS, 3.5, ROOM),
        part("38 structures, quick", "quick", 39, BRAIN, 5, {}),
        part("38 structures, paper", "paper", 39, BRAIN, 5, {}),
        Part(
            "38 structures, 160x160x128",
            partial(build, "paper", 39),
            {ALONE: {"cuda": {"process_gb": 12}}},
            {"large": (160, 160, 128)},
            rounds=(3, 10),
            devices=("cuda",),
        ),
        Part(
            "38 structures, 160x160x128, memory",
            partial(build, "paper", 39, steps=1),
            {ALONE: {"cpu": {"process_gb": 12}}},
            {"large": (160, 160, 128)},
            rounds=(0, 0),
            devices=("cpu",),
        ),
    ],
)
