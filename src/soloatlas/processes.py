"""One training in several processes, one to a GPU or to some cores, as torchrun starts them.

The batches of an optimiser step (``loop.accumulate``) are shared among the processes and the gradients added up: the
result is that of one process, but for rounding. The first process alone writes files and reports.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from soloatlas.errors import InputError

if TYPE_CHECKING:
    from torch import nn

PATIENCE = timedelta(days=7)  # the others wait while the first prepares the scans


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    def share(self, batches: int) -> range:
        """Which batches of a step are this one's."""
        return range(self.rank, batches, self.count)

    def wait(self) -> None:
        """Until all have come here."""
        from torch import distributed

        if self.count > 1:
            distributed.barrier()

    def agree(self, value: float) -> float:
        """The first one's value."""
        from torch import distributed

        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, 0)
        return values[0]

    def add_up_gradients(self, modules: nn.Module, factor: float = 1.0) -> None:
        """Replace each gradient by ``factor`` times the sum over all processes.

        A parameter that no process has a gradient for keeps none: its optimiser passes it over.
        """
        import torch
        from torch import distributed

        if self.count == 1:
            return
        parameters = list(modules.parameters())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        found = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        flat = torch.cat([*(g.flatten() for g in gradients), found])
        distributed.all_reduce(flat)
        *summed, found = flat.split([*(p.numel() for p in parameters), len(parameters)])
        for parameter, gradient, total, some in zip(parameters, gradients, summed, found.tolist(), strict=True):
            parameter.grad = gradient.copy_(total.view(parameter.shape)).mul_(factor) if some else None


def started_processes() -> Processes:
    """What torchrun says of this process; alone where it was not started by it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Processes()
    return Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@contextlib.contextmanager
def joined_processes(batches: int, device: str) -> Iterator[Processes]:
    """Join the processes that torchrun has started; without torchrun this one is alone.

    Args:
        batches: of an optimiser step.
        device: ``cpu`` or ``cuda``; each process takes a GPU of its own.

    Raises:
        InputError: they cannot be shared evenly.
    """
    started = started_processes()
    if started.count == 1:
        yield started
        return
    if batches % started.count:
        raise InputError(
            f"torchrun started {started.count} processes, which share the batches of a step: give "
            f"--set loop.accumulate=N with a multiple of {started.count}, not {batches}"
        )
    import torch
    from torch import distributed

    if device == "cuda":
        if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise InputError(f"torchrun started more processes here than there are GPUs ({torch.cuda.device_count()})")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(None if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield started
    finally:
        distributed.destroy_process_group()
