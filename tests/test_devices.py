"""What is free of a machine's memory, and of a container's."""

from pathlib import Path

import torch

from soloatlas import machine
from soloatlas.devices import free_memory, room_for
from soloatlas.machine import cores, free_main_memory


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
    assert cores() >= 1
