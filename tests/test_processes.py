"""Training in several processes gives what one process gives; torchrun starts them as users would."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from soloatlas.data.demo import simulate_cohort

SMALL = [
    "registration.steps=4", "registration.channels=[4,4,4,4]", "student.steps=6", "student.channels=[4,4,8,8,8]",
    "teacher.every=2", "loop.log_steps=1", "loop.precision=float32", "loop.checkpoint_minutes=0",
]  # fmt: skip
RIVALS = ["registration.steps=3", "registration.channels=[4,4,4,4]", "adversary.channels=[4,4,4,4]", "loop.log_steps=1"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    simulate_cohort(folder, pool=4, test=1, seed=0, spacing=8.0)
    return folder


def train(study, output, changes, *more, processes=0, code=0):
    """``soloatlas train``, by torchrun where a number of processes is given."""
    start = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"] if processes else []
    settings = [word for change in changes for word in ("--set", change)]
    words = ["train", str(study), "--output", str(output), *settings, *more]
    command = [sys.executable, "-m", *start, "soloatlas.cli", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_two_processes_train_to_the_weights_of_one_that_takes_both_batches(study, tmp_path):
    changes = [*SMALL, "loop.accumulate=2"]
    train(study, tmp_path / "one", changes)
    done = train(study, tmp_path / "two", changes, processes=2)
    assert done.stdout.count("report: ") == 1
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=1e-4, msg=name)
    assert json.loads((tmp_path / "two/run.json").read_text())["state"] == "finished"
    # A run of two may be resumed by one, and nothing is left to do here.
    train(study, tmp_path / "two", changes, "--resume")


def test_networks_that_take_turns_train_together(study, tmp_path):
    done = train(study, tmp_path / "run", [*RIVALS, "loop.accumulate=2"], "--method", "lt-net", processes=2)
    assert "report: " in done.stdout
    terms = {line.split(",")[2] for line in (tmp_path / "run/metrics.csv").read_text().splitlines()}
    assert {"similarity", "total"} <= terms


def test_batches_that_cannot_be_shared_are_refused(study, tmp_path):
    done = train(study, tmp_path / "run", SMALL, processes=2, code=1)  # torchrun's own exit code
    assert "give --set loop.accumulate=N with a multiple of 2, not 1" in done.stderr
    assert not (tmp_path / "run").exists()
