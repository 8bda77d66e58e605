"""What is measured, and what follows from the numbers: ratios with their spread, targets, records.

Nothing is measured here (`process` does that) and nothing heavy is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

Run = Callable[[], Any]
Shape = tuple[int, int, int]
Agreement = Mapping[str, tuple[float, float]]  # what was compared -> (difference, largest allowed)
Limits = Mapping[str, float]  # quantity -> what it must reach

SHAPES: dict[str, Shape] = {"tiny": (32, 32, 32), "small": (80, 96, 112), "large": (160, 192, 224)}
BUDGET = 120.0  # seconds of a part's timing after its least number of rounds
AT_LEAST = {"ratio"}  # every other quantity is to be at most its limit
OWN = {"seconds", "memory_gb", "process_gb", "copies"}  # quantities of ours alone
ALONE = ""  # the name of the peer in targets and rows that are about ours alone


class Clocked(float):
    """Seconds that a run took by its own clock, where the whole call is more than what counts."""


@dataclass(frozen=True)
class Place:
    """Where a part is measured.

    Attributes:
        size: name of the size; ``shape`` its voxels.
        device: ``cpu`` or ``cuda``.
        folder: where the part's input files are, and where it may write.
    """

    size: str
    shape: Shape
    device: str
    folder: Path


@dataclass(frozen=True)
class Case:
    """Ours and its peers, ready to run on the same inputs.

    Attributes:
        ours: does the work once; ``peers`` do the same work, by name.
        agree: shows how far the results are apart; empty where a peer does other work.
        unit: bytes; the memory of ours is counted in copies of it, too.
    """

    ours: Run
    peers: Mapping[str, Run] = field(default_factory=dict)
    agree: Callable[[], Agreement] = dict
    unit: float | None = None

    def side(self, name: str) -> Run:
        """The run of a peer, or ours where the name is `ALONE`."""
        return self.peers[name] if name else self.ours


@dataclass(frozen=True)
class Part:
    """One comparison of an item, measured in one process (and in one more for each side's memory).

    Attributes:
        name: what is compared, within the item.
        build: makes inputs and sides; only what it makes is in memory when a side begins.
        targets: peer (`ALONE`: ours) -> kind of device -> limits.
        shapes: sizes that this part knows.
        files: makes the input files, once, for every process.
        rounds: least and most; the most only as long as `BUDGET` lasts. (0, 0): only memory is measured.
        threads: of every library; None: as many as there are cores.
        memory: whether a process's memory says anything (not where the work is done in others).
        devices: kinds of device that it is meant for.
        busy: whether to show how much of the time the device computes while ours runs.
    """

    name: str
    build: Callable[[Place], Case]
    targets: Mapping[str, Mapping[str, Limits]] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=lambda: SHAPES)
    files: Callable[[Place], None] | None = None
    rounds: tuple[int, int] = (5, 15)
    threads: int | None = None
    memory: bool = True
    devices: Sequence[str] = ("cpu", "cuda")
    busy: bool = False


@dataclass(frozen=True)
class Item:
    """One thing that users wait for: ``what`` says what is measured, ``parts`` against whom."""

    name: str
    what: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Memory:
    """Peak memory of one side in a fresh process, bytes.

    Attributes:
        above: above what the process held when the inputs were there.
        process: of the whole process (on a GPU: of all tensors).
    """

    above: float
    process: float


def load(name: str) -> Item:
    """The item of ``items/<name>.py``."""
    item: Item = importlib.import_module(f"items.{name.replace('-', '_')}").ITEM
    return item


def in_turn(
    sides: Mapping[str, Run], rounds: tuple[int, int], once: Callable[[Run], float], budget: float = BUDGET
) -> dict[str, list[float]]:
    """Seconds of every side in rounds; every second round goes backwards, so that a drift favours nobody.

    Args:
        sides: by name.
        rounds: least and most; more than the least only within ``budget`` seconds.
        once: runs a side and tells the seconds.
    """
    least, most = rounds
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order, done = list(sides), 0
    while done < least or (done < most and sum(map(sum, seconds.values())) < budget):
        for name in order:
            seconds[name].append(once(sides[name]))
        order.reverse()
        done += 1
    return seconds


def speed(ours: Sequence[float], peer: Sequence[float]) -> tuple[float, list[float]]:
    """How many times faster ours is: the ratio of medians, and the quartiles of the ratios round by round."""
    paired = [p / o for o, p in zip(ours, peer, strict=True)]
    low, _, high = quantiles(paired, n=4, method="inclusive") if len(paired) > 1 else (paired * 3)
    return median(peer) / median(ours), [low, high]


def differing(agreement: Agreement) -> list[str]:
    """What differs by more than is allowed (or cannot be compared: NaN), in words."""
    return [
        f"{what} by {difference:.3g}, {limit:g} is allowed"
        for what, (difference, limit) in agreement.items()
        if not difference <= limit
    ]


def own_row(
    seconds: Sequence[float], memory: Memory | None, unit: float | None, limits: Limits, fits: bool
) -> dict[str, Any]:
    """What is known of ours alone, with its targets."""
    known: dict[str, float] = {"seconds": median(seconds)} if seconds else {}
    if memory is not None:
        known |= {"memory_gb": memory.above / 1e9, "process_gb": memory.process / 1e9}
        known |= {"copies": memory.above / unit} if unit else {}
    return {"peer": ALONE, "fits": fits, **known, **judged(known, limits, fits)}


def peer_row(
    name: str,
    seconds: Mapping[str, Sequence[float]],
    memory: Mapping[str, Memory | None],
    limits: Limits,
    fits: bool,
) -> dict[str, Any]:
    """Ours beside the peer ``name``, with the targets; what could not be measured is left out.

    Args:
        seconds: of each side that was timed; ``memory`` of each side that fits.
        fits: whether the peer fits into memory.
    """
    known: dict[str, Any] = {}
    if seconds.get(ALONE) and seconds.get(name):
        ratio, spread = speed(seconds[ALONE], seconds[name])
        known |= {"seconds": median(seconds[name]), "ratio": ratio, "spread": spread, "cost": 1 / ratio}
    ours, theirs = memory.get(ALONE), memory.get(name)
    if ours and theirs and theirs.above:
        known |= {"memory_gb": theirs.above / 1e9, "memory_ratio": ours.above / theirs.above}
    return {"peer": name, "fits": fits, **known, **judged(known, limits, fits)}


def judged(known: Mapping[str, Any], limits: Limits, fits: bool = True) -> dict[str, Any]:
    """The limits, those that were missed, and whether all that could be measured were met (None: none could).

    Ours is measured by what it needs: where it does not fit, its own limits are missed.
    """
    measured = {quantity: limit for quantity, limit in limits.items() if quantity in known}
    missed = [q for q, limit in measured.items() if (known[q] < limit if q in AT_LEAST else known[q] > limit)]
    if not fits:
        missed += [q for q in limits if q in OWN and q not in known]
    met = None if not (measured or missed) else not missed
    return {"target": dict(limits), "missed": missed, "met": met}


def merged(record: Mapping[str, Any] | None, item: Item, measurement: dict[str, Any]) -> dict[str, Any]:
    """The item's record with this measurement in the place of the last one of the same device and size."""
    key = (measurement["device"], measurement["size"])
    old = (record or {}).get("measurements", [])
    others = [m for m in old if (m["device"], m["size"]) != key]
    measurements = sorted([*others, measurement], key=lambda m: (m["device"], m["size"]))
    return {"id": item.name, "what": item.what, "measurements": measurements}


def line(item: str, size: str, part: str, row: Mapping[str, Any]) -> str:
    """One row for the terminal."""
    told = f"{item:<20} {size:<6} {part:<28} {row['peer'] or 'ours':<34}"
    if not row["fits"]:
        told += " does not fit"
    if "cost" in row["target"] and "cost" in row:
        told += f" costs {row['cost']:.2f}x"
    elif "ratio" in row:
        low, high = row["spread"]
        told += f" {row['ratio']:7.2f}x [{low:.2f}, {high:.2f}]"
    elif "seconds" in row:
        told += f" {row['seconds']:8.3f} s"
    told += f" {row['busy']:.0%} busy" if "busy" in row else ""
    told += f"  memory x{row['memory_ratio']:.2f}" if "memory_ratio" in row else ""
    told += f"  {row['process_gb']:.2f} GB" if "process_gb" in row else ""
    verdict = {None: "", True: "  met", False: f"  MISSED: {', '.join(row['missed'])}"}[row["met"]]
    return (told + verdict).rstrip()
