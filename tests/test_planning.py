"""What a training will take: the arithmetic by hand, and a plan beside the training that it foretells."""

import json

import pytest
from click.testing import CliRunner

from soloatlas import pipeline
from soloatlas.cli import cli
from soloatlas.data.demo import simulate_cohort
from soloatlas.errors import InputError
from soloatlas.planning import SAMPLE, Part, as_text, duration, stage_parts
from soloatlas.prepare import unprepared
from soloatlas.runs import open_run
from soloatlas.settings import Prepare
from soloatlas.training import Trial

SMALL = (
    "registration.steps=14", "registration.channels=[4,4,4,4]", "student.steps=16", "student.channels=[4,4,8,8,8]",
    "prepare.spacing=8", "prepare.align=centre",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "study"
    return simulate_cohort(folder, pool=SAMPLE + 2, test=1, seed=0, spacing=5.0)


def test_the_price_of_a_stage_is_that_of_its_steps_but_the_first():
    trial = Trial(stages={"register": (100, [10.0, 10.5, 11.5]), "once": (1, [20.0])})
    register, once, around = stage_parts(trial, taken=7.0)
    assert register == Part("register", 75.0, "100 steps of 0.750 s")  # (11.5 - 10) / 2 steps
    assert once.seconds == 0 and around.seconds == 5.5  # 7 - (11.5 - 10)


def test_a_limit_of_time_is_shared_by_the_stages():
    trial = Trial(stages={"register": (100, [0.0, 1.0]), "distil": (300, [5.0, 6.0])})
    assert [part.seconds for part in stage_parts(trial, 4.0, minutes=1)] == [15.0, 45.0, 2.0]
    assert [part.seconds for part in stage_parts(trial, 4.0, minutes=10)] == [100.0, 300.0, 2.0]


def test_durations_are_readable():
    assert [duration(s) for s in (44.6, 61, 3600, 7530)] == ["45 s", "1 min 01 s", "1 h 00 min", "2 h 05 min"]


def test_a_plan_names_what_the_training_then_does(study, tmp_path):
    cache = tmp_path / "cache"
    plan = pipeline.plan(study, changes=SMALL, cache=cache)
    parts = {part.name: part for part in plan.parts}
    assert list(parts) == ["prepare", "register", "distil", "around them", "measure fields"]
    assert parts["prepare"].how.startswith(f"{SAMPLE + 2} scans of ")
    assert parts["register"].how.startswith("14 steps of ") and parts["distil"].how.startswith("16 steps of ")
    assert plan.seconds == pytest.approx(sum(part.seconds for part in plan.parts))
    assert all(part.seconds > 0 for part in plan.parts)
    assert plan.scans == SAMPLE + 2 and plan.memory_gb > 0 and plan.segment_seconds > 0 and plan.disk_gb > 0

    # The sample is in the cache, and nothing else; a second plan finds it there.
    prepare = Prepare(align="centre", spacing=8.0)
    assert unprepared(study, prepare, cache) == [SAMPLE, SAMPLE + 1]
    run = open_run(pipeline.train(study, tmp_path / "run", changes=SMALL, cache=cache))
    assert run.working.shape == plan.shape and run.record["precision"] == plan.precision
    rows = [line.split(",") for line in (run.folder / "metrics.csv").read_text().splitlines()[1:]]
    made = {stage: max(int(step) for name, step, *_ in rows if name == stage) for stage in ("register", "distil")}
    assert made == {"register": 14, "distil": 16}
    assert pipeline.plan(study, changes=SMALL, cache=cache).parts[0].how == "from the cache"


def test_the_command_shows_it_and_leaves_nothing(study, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    folder, student = str(study.atlas.parents[1]), [word for change in SMALL[2:] for word in ("--set", change)]
    shown = CliRunner().invoke(cli, ["plan", folder, "--method", "resunet", *student], catch_exceptions=False)
    assert "working grid:" in shown.output and "segmenting:" in shown.output and "in all" in shown.output
    plain = CliRunner().invoke(cli, ["plan", folder, "--method", "rigid", "--json"], catch_exceptions=False)
    found = json.loads(plain.stdout)
    assert found["method"] == "rigid" and found["segment_seconds"] > 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_training_refuses_is_refused(study):
    with pytest.raises(InputError, match="give --pool-labels"):
        pipeline.plan(study, "supervised")
    with pytest.raises(InputError, match="not one of"):
        pipeline.plan(study, preset="fast")


def test_the_text_says_how_each_part_was_found(study):
    text = as_text(pipeline.plan(study, "resunet", changes=[*SMALL[2:], "loop.minutes=1"]))
    assert "16 steps of" in text and "GB" in text and "in all" in text
