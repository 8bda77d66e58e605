"""Lines of progress: an estimate from this round of a task, not from an earlier one of the same name."""

import pytest

from soloatlas import progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_estimate_starts_anew_with_each_round(clock, capsys):
    show = progress._lines()
    for round_start in (0.0, 1000.0):
        clock.now = round_start
        show("distil", 10, 110)
        clock.now = round_start + 30
        show("distil", 40, 110)
        assert "distil: 40/110, 70 s left" in capsys.readouterr().err
        clock.now = round_start + 100
        show("distil", 110, 110)
        assert "0 s left" in capsys.readouterr().err


def test_quiet_between_lines(clock, capsys):
    show = progress._lines()
    for second in range(19):
        clock.now = float(second)
        show("segment", second, 100)
    assert capsys.readouterr().err == ""


def test_bars_can_begin_a_task_anew():
    with progress._bars() as show:
        show("distil", 5, 5)
        show("distil", 1, 5, "second round")


def test_counting_names_the_task():
    seen = []
    count = progress.counting(lambda task, done, total, note="": seen.append((task, done, total)), "prepare")
    count(1, 3)
    assert seen == [("prepare", 1, 3)]
    assert progress.counting(None, "prepare") is None
