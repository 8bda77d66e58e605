"""Which device computes, and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import TYPE_CHECKING

from soloatlas.errors import InputError
from soloatlas.machine import about_machine, cores, free_main_memory

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda``, made ready for long work.

    Raises:
        InputError: as `find_device`.
    """
    device = find_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def find_device(name: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: the device is not there, or is one that cannot do the work.
    """
    import torch

    if name not in ("auto", "cpu", "cuda", "mps"):
        raise InputError(f"--device {name}: not one of auto, cpu, cuda")
    if name == "mps":
        raise InputError(
            "--device mps: PyTorch has no 3-D grid sampling on Apple GPUs; use --device cpu on this machine"
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device was found; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks instead of returning them to the system.

    Otherwise every volume-sized tensor is mapped and page-faulted anew (benchmarks/items/cpu_settings.py says what
    that costs). Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap's end is not given back


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The autocast type: bfloat16 where the device computes in it, float16 on older GPUs, else float32.

    Raises:
        InputError: fp16 was asked for on a CPU.
    """
    import torch

    if name == "fp16" and device.type == "cpu":
        raise InputError("precision=fp16 needs a GPU; use bf16 or float32 on the CPU")
    if name != "auto":
        return {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def free_memory(device: torch.device) -> float:
    """Bytes that may still be filled on ``device``; infinite where the system does not tell."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    return free_main_memory()


def room_for(share: float, most: float, device: torch.device) -> float:
    """Bytes that a cache may fill: this share of what is free on ``device``, and no more than ``most``."""
    return min(most, share * free_memory(device))


def visible_gpus() -> list[str]:
    """Those that this process may use."""
    import torch

    given = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return given or [str(number) for number in range(torch.cuda.device_count())]


def power_of_each(jobs: int) -> str:
    """What so many runs at a time have each: a share of the cores or, where there is one, a GPU."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {jobs / min(jobs, len(visible_gpus())):g} runs each"
    return f"{about_machine()['processor']}, {cores() / jobs:g} cores"


def _cpu_has_bf16() -> bool:
    """Without bf16 instructions the CPU emulates them, slower than float32."""
    import torch

    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Autocast to ``precision``; nothing at all for float32."""
    import torch

    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=precision)
