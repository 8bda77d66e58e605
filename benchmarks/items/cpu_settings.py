"""What the two settings of the process are worth on a CPU: short waits of OpenMP, and freed memory that is kept.

A student's training step (38 structures, bf16 where the processor has it) in processes of its own: with and without
each setting, alone and beside another busy process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

from harness import Case, Clocked, Item, Part, Place, Shape

STEPS = 5
BUSY = "while True: pass"
CHILD = "from items.cpu_settings import median_step; print(median_step({keep}, {shape}))"


def median_step(keep: bool, shape: Shape) -> float:
    """Median seconds of some training steps of this process, after a first one."""
    import torch

    from soloatlas.devices import autocast, choose_precision, keep_freed_memory
    from soloatlas.networks.residual_unet import ResidualUNet
    from soloatlas.segmenter import segmentation_terms
    from soloatlas.settings import Segmenter

    if keep:
        keep_freed_memory()
    device = torch.device("cpu")
    network = ResidualUNet(out_channels=39).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image, classes = torch.rand(1, 1, *shape), torch.randint(0, 39, (1, 1, *shape)).to(torch.uint8)
    optimiser, settings = torch.optim.Adam(network.parameters(), fused=True), Segmenter(dice=1.0)
    found = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, choose_precision("auto", device)):
            terms = segmentation_terms(network(image)[0], classes, settings)
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        optimiser.step()
        found.append(time.perf_counter() - start)
    return median(found[1:])


def measured(shape: Shape, busy: bool, short: bool, keep: bool) -> Clocked:
    """The same in a fresh process with these settings: ``short`` waits, ``keep`` freed memory."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GOMP_")}
    if short:
        environment["GOMP_SPINCOUNT"] = "1000"
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    command = [sys.executable, "-c", CHILD.format(keep=keep, shape=shape)]
    try:
        place = Path(__file__).parents[1]
        done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=True)
    finally:
        if other:
            other.kill()
            other.wait()
    return Clocked(done.stdout)


def build(busy: bool, place: Place) -> Case:
    """As the command sets it, beside a process without one of the settings."""
    run = partial(measured, place.shape, busy)
    peers = {"long waits": partial(run, False, True), "freed memory returned": partial(run, True, False)}
    return Case(partial(run, True, True), peers)


SHAPES = {"tiny": (32, 32, 32), "small": (80, 96, 80)}
part = partial(Part, shapes=SHAPES, rounds=(3, 5), memory=False, devices=("cpu",))
ITEM = Item(
    "cpu-settings",
    "a student's training step with the settings of the process that the command makes",
    [part("alone", partial(build, False)), part("beside a busy process", partial(build, True))],
)
