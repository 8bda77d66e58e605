"""Several runs at once: what goes first, who works where."""

import os
from dataclasses import replace
from pathlib import Path

from soloatlas.data.study import Study
from soloatlas.reproduction.row_run import Conditions, Task
from soloatlas.reproduction.side_by_side import places, waves

STUDY = Study("heads", Path("a.nii"), Path("l.nii"), (Path("1.nii"), Path("2.nii")))


def task(stage="student", seed=0, study=STUDY, *changes):
    return Task("os-medseg", stage, seed, Conditions(study, changes=changes))


def test_one_of_each_registration_goes_first_and_a_run_folder_stays_together():
    half = replace(STUDY, unlabelled=STUDY.unlabelled[:1])
    tasks = [
        task("register"),
        task("student", 0, STUDY, "hint.weight=0"),
        task("student"),
        task("student", 1),
        task("student", 0, STUDY, "registration.steps=5"),
        task("student", 0, half),
    ]
    first, rest = waves(tasks)
    assert first == [[0, 2], [3], [4], [5]], "default run with both its stages, another seed, network, and pool"
    assert rest == [[1]], "the same registration with another student"


def test_places_share_out_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [sorted(p.cores) for p in places(2)] == [[0, 2], [1, 5]]
    assert [sorted(p.cores) for p in places(6)] == [[0], [1], [2], [5], [0], [1]]
    assert [p.gpu for p in places(3)] == ["4", "7", "4"]
