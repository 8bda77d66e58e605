"""What the two settings of the process are worth on a CPU: short waits of OpenMP, and freed memory that is kept.

    python benchmarks/cpu_settings.py

A student's training step (38 classes, 80x96x80, bf16 where the processor has it) in processes of its own: with and
without each setting, alone and beside another busy process. Writes results/benchmarks/cpu-settings.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

STEPS = 5
BUSY = "while True: pass"


def step_seconds(keep: bool) -> list[float]:
    """Seconds of each of some training steps of this process, after a first one."""
    import torch

    from soloatlas.devices import autocast, choose_precision, keep_freed_memory
    from soloatlas.networks.residual_unet import ResidualUNet
    from soloatlas.segmenter import segmentation_terms
    from soloatlas.settings import Segmenter

    if keep:
        keep_freed_memory()
    device = torch.device("cpu")
    network = ResidualUNet(out_channels=39).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image, classes = torch.rand(1, 1, 80, 96, 80), torch.randint(0, 39, (1, 1, 80, 96, 80)).to(torch.uint8)
    optimiser, settings = torch.optim.Adam(network.parameters()), Segmenter(dice=1.0)
    found = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, choose_precision("auto", device)):
            terms = segmentation_terms(network(image)[0], classes, settings)
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        optimiser.step()
        found.append(time.perf_counter() - start)
    return found[1:]


def measured(spin: str | None, keep: bool, busy: bool) -> float:
    """Median seconds of a step in a fresh process with these settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_"))}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        command = [sys.executable, __file__, "keep" if keep else "release"]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    finally:
        if other:
            other.kill()
            other.wait()
    return median(float(value) for value in out.split())


def main() -> None:
    """Measure and record; as a child process, print the seconds."""
    if len(sys.argv) > 1:
        print(*step_seconds(sys.argv[1] == "keep"))
        return
    from soloatlas.atomic import write_json
    from soloatlas.runs import command_line, machine, versions

    cases = {
        "as the command sets it": ("1000", True, False),
        "long waits": (None, True, False),
        "freed memory returned": ("1000", False, False),
        "as the command sets it, beside a busy process": ("1000", True, True),
        "long waits, beside a busy process": (None, True, True),
    }
    seconds = {name: measured(*case) for name, case in cases.items()}
    record = {
        "id": "cpu-settings",
        "step_seconds": seconds,
        "command": command_line(),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(Path("results") / "benchmarks" / "cpu-settings.json", record)
    for name, value in seconds.items():
        print(f"{value:6.2f} s  {name}")


if __name__ == "__main__":
    main()
