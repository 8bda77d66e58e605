"""What happens in a process of its own: making files, measuring one side's memory, timing all sides in turn.

    python benchmarks/process.py TASK

TASK is JSON: action (``files``, ``memory`` or ``times``), item, part, size, device, folder, room, answer; side (of
``memory``) or without (of ``times``). The answer goes to the file ``answer``; ``{"fits": false}`` where memory did
not suffice.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from harness import ALONE, Case, Clocked, Part, Place, Run, differing, in_turn, load

BUSY_RUNS = 5  # over which it is seen how busy the device is


def main() -> None:
    """Do one task and write its answer."""
    from soloatlas.atomic import write_json
    from soloatlas.devices import keep_freed_memory

    task = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")  # of the peers: MONAI announces its defaults' changes
    if task["device"] == "cpu":
        _limit(task["room"])
        if not task.get("side"):  # as the command does; memory kept in store is not counted against a peer
            keep_freed_memory()
    try:
        answer = ACTIONS[task["action"]](*_part(task), task)
    except Exception as error:
        if not out_of_memory(error):
            raise
        answer = {"fits": False}
    write_json(task["answer"], answer)


def _part(task: dict[str, Any]) -> tuple[Part, Place]:
    part = next(p for p in load(task["item"]).parts if p.name == task["part"])
    shape = part.shapes[task["size"]]
    return part, Place(task["size"], shape, task["device"], Path(task["folder"]))


def _limit(room: float) -> None:
    """Let an allocation beyond ``room`` bytes fail, before the system ends some process."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (int(room), int(room)))


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, numpy or torch (on CPU or GPU) found no memory."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    words = ("allocate memory", "failed to map segment")  # of arrays; of a library that is loaded
    return named or any(word in str(error) for word in words)


def make_files(part: Part, place: Place, task: dict[str, Any]) -> dict[str, Any]:
    """Write the part's input files."""
    if part.files:
        part.files(place)
    return {"fits": True}


def measure_memory(part: Part, place: Place, task: dict[str, Any]) -> dict[str, Any]:
    """Peak memory of one side, in bytes; twice where that is cheap, since optimisers grow in their first step."""
    case = part.build(place)
    run, times = case.side(task["side"]), 2 if part.rounds[1] > 1 else 1
    above, process = (_gpu_peak if place.device == "cuda" else _cpu_peak)(run, times)
    return {"fits": True, "above": above, "process": process, "unit": case.unit, "peers": list(case.peers)}


def _cpu_peak(run: Run, times: int) -> tuple[float, float]:
    from soloatlas.machine import forget_peak_memory, peak_memory

    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what building freed would be used again, unseen
    forget_peak_memory()
    before = peak_memory()
    for _ in range(times):
        run()
    return max(0.0, peak_memory() - before), peak_memory()


def _gpu_peak(run: Run, times: int) -> tuple[float, float]:
    import torch

    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(times):
        run()
    peak = torch.cuda.max_memory_allocated()
    return peak - before, peak


def measure_times(part: Part, place: Place, task: dict[str, Any]) -> dict[str, Any]:
    """How far the results are apart; unless too far, the seconds of ours and of the peers not left out, in turn."""
    case = part.build(place)
    agreement = _agreement(case, bool(task["without"]))
    if apart := differing(agreement):
        return {"fits": True, "apart": apart}
    sides = {name: case.side(name) for name in (ALONE, *case.peers) if name not in task["without"]}
    if part.rounds[1] > 1:
        for run in sides.values():  # nobody pays for what a first run sets up
            run()
    seconds = in_turn(sides, part.rounds, lambda run: _seconds(run, place.device))
    busy = {"busy": _busy(case.ours, place.device)} if part.busy else {}
    return {"fits": True, "agreement": agreement, "seconds": seconds, **busy}


def _busy(run: Run, device: str) -> float:
    """Share of the time in which the device computes: of all threads, or of the GPU."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    gpu = device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA]) if gpu else nullcontext() as profiled:
        _wait(device)
        began, computed = time.perf_counter(), time.process_time()
        for _ in range(BUSY_RUNS):
            run()
        _wait(device)
        taken, computed = time.perf_counter() - began, time.process_time() - computed
    if profiled is not None:
        return sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6 / taken
    return computed / taken / torch.get_num_threads()


def _agreement(case: Case, may_lack: bool) -> dict[str, tuple[float, float]]:
    """How far the results are apart; nothing where a peer does not fit, and so cannot be compared at this size."""
    import torch

    try:
        # On a GPU float32 means float32 here, not TF32's ten bits; the sides are timed as PyTorch has it.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return dict(case.agree())
    except Exception as error:
        if may_lack and out_of_memory(error):
            return {}
        raise


def _seconds(run: Run, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    result = run()
    _wait(device)
    return float(result) if isinstance(result, Clocked) else time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


ACTIONS = {"files": make_files, "memory": measure_memory, "times": measure_times}

if __name__ == "__main__":
    main()
