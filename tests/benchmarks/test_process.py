"""What is measured in processes of their own: one small item for real, and memory that is known."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import items.smoothness
import process
import run
from harness import ALONE, Case, Clocked, Part, Place


@pytest.fixture
def place(tmp_path):
    return Place("tiny", (8, 8, 8), "cpu", tmp_path)


def test_a_part_in_its_processes(tmp_path, capfd, monkeypatch):
    item = items.smoothness.ITEM
    monkeypatch.setattr(run, "load", lambda name: replace(item, parts=item.parts[1:]))
    assert run.main(["smoothness", "--size", "tiny", "--output", str(tmp_path)]) == 0  # no target is set at this size
    assert "FAILED" not in capfd.readouterr().out
    (measurement,) = json.loads((tmp_path / "smoothness.json").read_text())["measurements"]
    for part, known in zip(measurement["parts"], item.parts[1:], strict=True):
        own, peer = part["rows"]
        assert part["name"] == known.name and own["peer"] == ALONE
        assert own["copies"] >= 0 and own["process_gb"] > 0.05 and own["target"] == {}
        assert peer["ratio"] > 0 and peer["spread"][0] <= peer["spread"][1]
        assert len(part["seconds"][ALONE]) == len(part["seconds"][peer["peer"]]) >= 5


KNOWN = """
import process, torch
from harness import Case, Part, Place

def build(_):
    torch.ones(2**27).sum()  # 512 MB, given back before anything is measured
    held = torch.ones(2**26)  # 256 MB that are not the run's
    return Case(lambda: torch.ones(2**25).sum() + held[0])  # 128 MB for a moment

answer = process.measure_memory(Part("", build), Place("tiny", (8, 8, 8), "cpu", None), {"side": ""})
print(answer["above"] / 2**20, answer["process"] / 2**20)
"""


def test_memory_is_the_peak_above_what_was_there_and_an_earlier_peak_is_forgotten():
    folder = Path(run.__file__).parent
    done = subprocess.run([sys.executable, "-c", KNOWN], cwd=folder, capture_output=True, text=True, check=True)
    above, whole = map(float, done.stdout.split())
    assert above == pytest.approx(128, abs=24)
    assert whole > 256 + 128


def test_a_run_with_a_clock_of_its_own_is_believed(place):
    case = Case(lambda: Clocked("0.25"), {"other": lambda: Clocked(1.5), "left out": lambda: 1 / 0})
    part = Part("", lambda _: case, rounds=(2, 2))
    answer = process.measure_times(part, place, {"without": ["left out"]})
    assert answer["seconds"] == {ALONE: [0.25, 0.25], "other": [1.5, 1.5]}


def test_running_out_of_memory_is_told_from_other_errors():
    assert process.out_of_memory(MemoryError())
    assert process.out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not process.out_of_memory(RuntimeError("shapes differ"))


def test_what_exceeds_the_room_does_not_fit(place, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_room", lambda: 6e8)  # bytes; torch itself takes some, each volume 314 MB
    task = {"item": "segment-ct", "part": "file to file", "size": "large", "device": "cpu", "folder": str(tmp_path)}
    assert run._answer(task | {"action": "files"}, Part("", lambda _: None)) == {"fits": False}


def test_results_that_differ_are_not_timed(place):
    case = Case(lambda: 1 / 0, agree=lambda: {"value": (float("nan"), 1e-4)})
    answer = process.measure_times(Part("", lambda _: case), place, {"without": []})
    assert answer == {"fits": True, "apart": ["value by nan, 0.0001 is allowed"]}


def test_a_device_that_waits_is_not_busy(place):
    waiting = Case(lambda: time.sleep(0.05))
    answer = process.measure_times(Part("", lambda _: waiting, rounds=(1, 1), busy=True), place, {"without": []})
    assert 0 <= answer["busy"] < 0.3
    working = Case(lambda: sum(range(10**6)))  # one thread computes
    answer = process.measure_times(Part("", lambda _: working, rounds=(1, 1), busy=True), place, {"without": []})
    assert answer["busy"] * torch.get_num_threads() > 0.4
    assert "busy" not in process.measure_times(Part("", lambda _: waiting, rounds=(1, 1)), place, {"without": []})
