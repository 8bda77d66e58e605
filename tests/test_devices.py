"""What is free of a machine's memory, and of a container's; how much a process took."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from soloatlas import machine
from soloatlas.devices import find_device, free_memory, room_for
from soloatlas.errors import InputError
from soloatlas.machine import cores, free_main_memory, own_cores


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


def test_a_device_of_another_name_is_refused():
    with pytest.raises(InputError, match="--device gpu: not one of auto, cpu, cuda"):
        find_device("gpu")


PEAKS = """
from soloatlas.machine import forget_peak_memory, peak_memory
forget_peak_memory()
before = peak_memory()
held = bytearray(300_000_000)
held[::4096] = b"1" * len(held[::4096])
print(peak_memory() - before)
del held
forget_peak_memory()
print(peak_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts the peak anew")
def test_the_peak_of_memory_is_counted_anew_in_bytes():
    # In a process of its own: one that has freed much takes from what it kept.
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    with_it, without = map(float, done.stdout.split())
    assert 295e6 < with_it < 330e6 and without < 50e6


def test_helpers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from soloatlas.machine import worker_pool\n"
        "def work():\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(1) as pool:\n"
        "        pool.submit(work).result()\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        helper = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(300):
        try:
            os.kill(helper, 0)
        except ProcessLookupError:
            return
        if (Path("/proc") / str(helper) / "stat").read_text().split()[2] == "Z":
            return  # ended; nobody has asked for its exit code
        time.sleep(0.1)
    os.kill(helper, signal.SIGKILL)
    pytest.fail("the helper outlived its parent")
