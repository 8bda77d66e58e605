"""Random numbers that depend on where they are used, not on what was drawn before.

Every draw comes from a generator seeded by (seed, purpose, counter), so a resumed run draws the same
numbers as an unstopped one and one part of a method cannot disturb the numbers of another.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed from the user's seed and the purpose of the draw."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator for one purpose."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *purpose))


@contextlib.contextmanager
def seeded_modules(seed: int, *purpose: str | int) -> Iterator[None]:
    """What modules draw from torch's own generator inside depends on the purpose alone: weights, dropped paths.

    The generator is left as it was.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *purpose))
        yield


def visiting_order(seed: int, purpose: str, items: int, start: int, count: int) -> list[int]:
    """Items of visits ``start`` to ``start + count``: every item once per pass, each pass shuffled anew."""
    order: list[int] = []
    for visit in range(start, start + count):
        turn = np.random.default_rng(derive_seed(seed, purpose, "order", visit // items)).permutation(items)
        order.append(int(turn[visit % items]))
    return order
