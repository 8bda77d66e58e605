"""The demo from end to end, shortened: everything it promises is there, and it can be run again."""

from functools import partial

import pytest

from soloatlas import demonstration
from soloatlas.data import demo


@pytest.fixture
def shortened(monkeypatch):
    tiny = (
        "registration.steps=2",
        "registration.channels=[4,4,4,4]",
        "student.steps=2",
        "student.channels=[4,4,8,8,8]",
    )
    monkeypatch.setattr(demonstration, "SIMULATED", tiny)
    monkeypatch.setattr(demonstration, "SPACING", 5.0)
    monkeypatch.setattr(demo, "simulate_cohort", partial(demo.simulate_cohort, pool=3, test=1))


def test_the_demo_prints_a_table_and_leaves_picture_and_report(shortened, tmp_path):
    said = demonstration.demonstrate("simulated", tmp_path, seed=0)
    assert said.startswith("SIMULATED cohort")
    assert "atlas labels warped" in said and "student" in said
    folder = tmp_path / "simulated"
    assert (folder / "overview.png").read_bytes().startswith(b"\x89PNG")
    report = (folder / "run/report.html").read_text()
    assert "simulated" in report and "test_01" in report


def test_the_demo_can_be_run_again_and_with_another_seed(shortened, tmp_path):
    first = demonstration.demonstrate("simulated", tmp_path, seed=0)
    weights = (tmp_path / "simulated/run/weights.safetensors").stat().st_mtime_ns
    assert demonstration.demonstrate("simulated", tmp_path, seed=0) == first
    assert (tmp_path / "simulated/run/weights.safetensors").stat().st_mtime_ns == weights
    demonstration.demonstrate("simulated", tmp_path, seed=1)
    assert (tmp_path / "simulated-seed1/run/report.html").exists()
