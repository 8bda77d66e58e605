"""Measure the program beside its peers: ``make bench``.

    python benchmarks/run.py [ITEM ...] [--size small|large]

Without names every item is measured, at every size that it has. Each writes results/benchmarks/<item>.json and a line
for each comparison. Exit code 1: a target that can be measured here was missed, or results differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import ALONE, SHAPES, Item, Limits, Memory, Part, line, load, merged, own_row, peer_row
from items import NAMES

ROOT = Path(__file__).resolve().parents[1]
KILLED = (-9, -6)  # by the system for memory; by a library whose allocation failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the items asked for; the exit code."""
    options = _options(arguments)
    device = _device()
    sizes = [options.size] if options.size else [size for size in SHAPES if size != "tiny"]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in options.items or NAMES:
            for size in sizes:
                failed |= not _measure(load(name), size, device, Path(folder) / size / name, options.output)
    return int(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--size", choices=list(SHAPES), help="default: small and large; tiny is for the tests")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks", help="folder of the records")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.items if name not in NAMES]
    if unknown:
        parser.error(f"{unknown[0]}: no such item; known: {', '.join(NAMES)}")
    return options


def _device() -> str:
    from soloatlas.devices import choose_device

    return choose_device("auto").type


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else device


def _measure(item: Item, size: str, device: str, folder: Path, output: Path) -> bool:
    """Measure an item at one size and record it, whole or not at all; whether nothing failed and all was met."""
    parts = [part for part in item.parts if size in part.shapes and device in part.devices]
    if not parts:
        return True
    try:
        found = _parts(item, parts, size, device, folder)
    except MeasureError as failure:
        print(f"{item.name:<20} {size:<6} FAILED: {failure}", flush=True)
        # In the place of what was measured before: that is not how it is any more.
        _record(item, {"device": _device_name(device), "size": size, "parts": [], "failed": str(failure)}, output)
        return False
    _record(item, {"device": _device_name(device), "size": size, "parts": found}, output)
    return all(row["met"] is not False for part in found for row in part["rows"])


class MeasureError(Exception):
    """A part could not be measured, or its results differ."""


def _parts(item: Item, parts: Sequence[Part], size: str, device: str, folder: Path) -> list[dict[str, Any]]:
    """Every part measured and told; parts with the same input files share them."""
    found, made = [], set()
    folder.mkdir(parents=True)
    for part in parts:
        task = {"item": item.name, "part": part.name, "size": size, "device": device, "folder": str(folder)}
        if part.files and part.files not in made and not _answer(task | {"action": "files"}, part)["fits"]:
            raise MeasureError(f"{part.name}: the input files do not fit into memory")
        made.add(part.files)
        found.append(measure_part(task, part))
        for row in found[-1]["rows"]:
            print(line(item.name, size, part.name, row), flush=True)
    return found


def measure_part(task: dict[str, Any], part: Part) -> dict[str, Any]:
    """All rows of a part: memory of each side in a process of its own, then the times of those that fit.

    Args:
        task: item, part, size, device and the folder of the input files.

    Raises:
        MeasureError: a process failed, or the results differ by more than is allowed.
    """
    memory, unit = _memory(task, part) if part.memory else ({}, None)
    without = [name for name, peak in memory.items() if peak is None]
    times: dict[str, Any] = {"agreement": {}, "seconds": {}}
    if ALONE not in without:
        times = _answer(task | {"action": "times", "without": without}, part)
    if not times.get("fits", True):
        raise MeasureError(f"{part.name}: the comparison of the results does not fit into memory")
    if "apart" in times:
        raise MeasureError(f"{part.name}: results differ: {'; '.join(times['apart'])}")
    # The smallest size is for the tests: it says nothing about speed.
    targets = {} if task["size"] == "tiny" else {peer: t.get(task["device"], {}) for peer, t in part.targets.items()}
    return {
        "name": part.name,
        "shape": list(part.shapes[task["size"]]),
        "threads": _threads(part),
        "agreement": times["agreement"],
        "seconds": times["seconds"],
        "rows": list(_rows(targets, memory, unit, times)),
    }


def _rows(
    targets: Mapping[str, Limits],
    memory: dict[str, Memory | None],
    unit: float | None,
    times: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    seconds: dict[str, list[float]] = times["seconds"]
    fits = {name: peak is not None for name, peak in memory.items()}
    own = own_row(seconds.get(ALONE, []), memory.get(ALONE), unit, targets.get(ALONE, {}), fits.get(ALONE, True))
    if not own["fits"] and any(targets.values()):  # whatever was asked of it
        own |= {"met": False, "missed": own["missed"] or ["fits"]}
    yield own | ({"busy": times["busy"]} if "busy" in times else {})
    for peer in dict.fromkeys([*memory, *seconds, *targets]):
        if peer != ALONE:
            yield peer_row(peer, seconds, memory, targets.get(peer, {}), fits.get(peer, True))


def _memory(task: dict[str, Any], part: Part) -> tuple[dict[str, Memory | None], float | None]:
    """Peak of each side, None where it does not fit; and the bytes that ours is also counted in."""
    ours = _answer(task | {"action": "memory", "side": ALONE}, part)
    answers = {ALONE: ours}
    for peer in ours.get("peers", []):
        answers[peer] = _answer(task | {"action": "memory", "side": peer}, part)
    peaks = {side: Memory(a["above"], a["process"]) if a["fits"] else None for side, a in answers.items()}
    return peaks, ours.get("unit")


def _answer(task: dict[str, Any], part: Part) -> dict[str, Any]:
    """What a fresh process answers to a task."""
    answer = Path(task["folder"]) / "answer.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("process.py"))]
    text = json.dumps(task | {"answer": str(answer), "room": _room()})
    done = subprocess.run([*command, text], env=_environment(part), capture_output=True, text=True)
    if done.returncode in KILLED:
        return {"fits": False}
    if done.returncode:
        raise MeasureError(f"{part.name}: {task['action']}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    content: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return content


def _room() -> float:
    """Bytes that a process may fill: most of what is free now."""
    import torch

    from soloatlas.devices import free_memory

    return min(0.9 * free_memory(torch.device("cpu")), 2.0**62)


def _environment(part: Part) -> dict[str, str]:
    """The same threads for every library, and the short waits that the command sets."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    return {**os.environ, "GOMP_SPINCOUNT": "1000", **dict.fromkeys(names, str(_threads(part)))}


def _threads(part: Part) -> int:
    return part.threads or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def _record(item: Item, measurement: dict[str, Any], output: Path) -> None:
    """Write the item's record, with what it held of other devices and sizes."""
    from soloatlas.atomic import write_json
    from soloatlas.machine import about_machine
    from soloatlas.runs import command_line, versions

    path = output / f"{item.name}.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    about = {"machine": about_machine(), "versions": versions(), "command": command_line()}
    write_json(path, merged(old, item, {**measurement, **about}))


if __name__ == "__main__":
    sys.exit(main())
