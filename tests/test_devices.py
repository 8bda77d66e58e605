"""What is free of a machine's memory, and of a container's; how much a process took."""

import sys
from pathlib import Path

import pytest
import torch

from soloatlas import machine
from soloatlas.devices import free_memory, room_for
from soloatlas.machine import cores, forget_peak_memory, free_main_memory, own_cores, peak_memory


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch):
    whole = free_main_memory()
    assert 0 < whole < float("inf")
    assert machine._left_in(tmp_path, "memory.max", "memory.current") == float("inf")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert machine._left_in(tmp_path, "memory.max", "memory.current") == float("inf")
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 300\n")
    assert machine._left_in(tmp_path, "memory.max", "memory.current") == 4300
    monkeypatch.setattr(machine, "_left_in", lambda *_: 123.0)
    assert free_main_memory() == free_memory(torch.device("cpu")) == 123.0
    assert room_for(0.5, 1e9, torch.device("cpu")) == 61.5 and room_for(0.5, 10, torch.device("cpu")) == 10
    assert cores() == len(own_cores()) >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts the peak anew")
def test_the_peak_of_memory_is_counted_anew_in_bytes():
    forget_peak_memory()
    before = peak_memory()
    held = bytearray(b"1" * 200_000_000)  # twice for a moment
    assert 190e6 < peak_memory() - before < 500e6
    del held
    forget_peak_memory()
    assert peak_memory() < before + 100e6
