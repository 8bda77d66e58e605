"""Which device computes, and in which precision."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from soloatlas.errors import InputError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: the device is not there, or is one that cannot do the work.
    """
    import torch

    if name == "mps":
        raise InputError(
            "--device mps: PyTorch has no 3-D grid sampling on Apple GPUs; use --device cpu on this machine"
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device was found; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


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
