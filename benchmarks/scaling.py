"""How time and memory of training grow: with voxels, classes, the pool's size and processes.

    python benchmarks/scaling.py [AXIS ...]

Each point trains a few steps of OS-MedSeg (preset quick) in processes of its own, one thread each, on made-up volumes.
Strong scaling: two batches a step, taken by one process or by two (torchrun). Weak scaling: one batch for each process.
Writes results/scaling.json; other axes' points are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEPS = 17  # of each stage; in the last eight the teacher is visited as often as in a whole training


@dataclass(frozen=True)
class Point:
    """What is trained: the grid, its classes, the pool, and batches of a step for how many processes."""

    shape: tuple[int, int, int] = (80, 96, 80)
    classes: int = 10
    pool: int = 8
    batches: int = 1
    processes: int = 1


SHAPES = [(32, 32, 32), (48, 64, 48), (80, 96, 80), (96, 112, 96), (128, 144, 128)]
AXES: dict[str, list[Point]] = {
    "voxels": [Point(shape=shape) for shape in SHAPES],
    "classes": [Point(classes=n) for n in (3, 10, 39, 133)],
    "pool": [Point(shape=(48, 64, 48), pool=n) for n in (8, 80, 400)],
    "processes, strong": [Point(batches=2, processes=n) for n in (1, 2)],
    "processes, weak": [Point(batches=n, processes=n) for n in (1, 2)],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the axes asked for and record them."""
    from soloatlas.atomic import write_json
    from soloatlas.machine import about_machine
    from soloatlas.runs import command_line, versions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=f"of {', '.join(AXES)}; default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "scaling.json")
    options = parser.parse_args(arguments)
    if unknown := [axis for axis in options.axes if axis not in AXES]:
        parser.error(f"{unknown[0]}: no such axis; known: {', '.join(AXES)}")
    record = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {"axes": {}}
    for axis in options.axes or AXES:
        record["axes"][axis] = [measured(point) for point in AXES[axis]]
        record |= {"machine": about_machine(), "versions": versions(), "command": command_line()}
        write_json(options.output, record)
        for found in record["axes"][axis]:
            print(axis, found, flush=True)


def measured(point: Point) -> dict[str, Any]:
    """A point's seconds a step of each stage, and its largest process in GB; from processes of its own."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(point.processes)]
    with tempfile.TemporaryDirectory() as folder:
        task = [str(Path(__file__).with_name("scaling_point.py")), json.dumps(asdict(point)), folder]
        command = [sys.executable, *(start if point.processes > 1 else []), *task]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("process-*.json")]
    stages = found[0]["seconds"]
    slowest = {stage: max(one["seconds"][stage] for one in found) for stage in stages}
    return {**asdict(point), "seconds": slowest, "process_gb": max(one["process_gb"] for one in found)}


def train(point: Point, folder: Path) -> None:
    """Train a few steps of each stage and write what this process measured."""
    import torch

    from harness import Place
    from inputs import material
    from soloatlas.atomic import write_json
    from soloatlas.devices import keep_freed_memory
    from soloatlas.machine import peak_memory
    from soloatlas.methods import os_medseg
    from soloatlas.processes import joined_processes
    from soloatlas.settings import override
    from soloatlas.training import Session, Trial

    keep_freed_memory()
    settings = override(os_medseg.preset("quick"), (f"loop.accumulate={point.batches}",))
    place = Place("scaling", point.shape, "cpu", folder)
    with joined_processes(point.batches, "cpu") as processes:
        trial = Trial(steps=STEPS)
        session = Session(folder / "run", 0, torch.device("cpu"), settings.loop, trial=trial, processes=processes)
        (folder / "run").mkdir(exist_ok=True)
        os_medseg.train(material(place, point.classes, point.pool), settings, session)
        seconds = {name: _per_step(times) for name, (_, times) in trial.stages.items()}
        found = {"seconds": seconds, "process_gb": peak_memory() / 1e9}
        write_json(folder / f"process-{processes.rank}.json", found)


def _per_step(times: Sequence[float]) -> float:
    """Mean seconds of the last eight steps: some visit the teacher, the first meet each scan for the first time."""
    return (times[-1] - times[-9]) / 8


if __name__ == "__main__":
    main()
