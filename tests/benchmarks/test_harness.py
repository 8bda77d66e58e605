"""What follows from timings made by hand: order, ratios, spread, targets, records, exit code."""

import json

import pytest

import run
from harness import ALONE, Item, Memory, Part, differing, in_turn, judged, line, merged, own_row, peer_row, speed


def test_sides_take_turns_and_every_second_round_goes_backwards():
    calls = []

    def once(side):
        calls.append(side)
        return float(len(calls))

    seconds = in_turn({"ours": "o", "peer": "p"}, (3, 3), once)
    assert calls == ["o", "p", "p", "o", "o", "p"]
    assert seconds == {"ours": [1, 4, 5], "peer": [2, 3, 6]}


@pytest.mark.parametrize(
    ("rounds", "budget", "made"),
    [
        ((2, 9), 0, 2),  # the least number, however long it takes
        ((2, 9), 10, 4),  # 3 s a round: the fourth begins at 9 s, no fifth at 12 s
        ((2, 3), 1000, 3),  # the most, however much time is left
        ((0, 0), 1000, 0),  # not timed at all
    ],
)
def test_number_of_rounds(rounds, budget, made):
    seconds = in_turn({"a": 1.0, "b": 2.0}, rounds, lambda side: side, budget)
    assert [len(found) for found in seconds.values()] == [made, made]


def test_speed_is_the_ratio_of_medians_with_the_quartiles_of_paired_ratios():
    # paired ratios 2, 4, 3, 2, 10: quartiles of 2 2 3 4 10 are 2 and 4; medians 2 and 6
    ratio, spread = speed([1, 1, 2, 3, 4], [2, 4, 6, 6, 40])
    assert ratio == 3
    assert spread == [2, 4]


def test_speed_of_a_single_round_has_no_spread():
    assert speed([2.0], [7.0]) == (3.5, [3.5, 3.5])


def test_differences_are_named_and_nan_is_one():
    assert differing({"value": (1e-5, 1e-4), "equal": (0, 0)}) == []
    found = differing({"value": (2e-4, 1e-4), "gradient": (float("nan"), 1)})
    assert found == ["value by 0.0002, 0.0001 is allowed", "gradient by nan, 1 is allowed"]


@pytest.mark.parametrize(
    ("known", "limits", "fits", "missed", "met"),
    [
        ({"ratio": 3.0}, {"ratio": 3}, True, [], True),
        ({"ratio": 2.9}, {"ratio": 3}, True, ["ratio"], False),  # a speed is at least its limit
        ({"memory_ratio": 0.5, "ratio": 9}, {"memory_ratio": 0.5, "ratio": 3}, True, [], True),
        ({"memory_ratio": 0.6, "ratio": 9}, {"memory_ratio": 0.5, "ratio": 3}, True, ["memory_ratio"], False),
        ({"cost": 3.6}, {"cost": 3.5}, True, ["cost"], False),  # everything else at most
        ({"ratio": 2.0}, {}, True, [], None),
        ({}, {"ratio": 3}, True, [], None),  # cannot be measured: not missed
        ({}, {"process_gb": 6}, False, ["process_gb"], False),  # ours that does not fit misses what it may take
        ({}, {"ratio": 3}, False, [], None),  # a peer that does not fit proves nothing
    ],
)
def test_targets(known, limits, fits, missed, met):
    assert judged(known, limits, fits) == {"target": limits, "missed": missed, "met": met}


def test_row_of_a_peer():
    seconds = {ALONE: [1.0, 1.0, 1.0], "MONAI": [3.0, 4.0, 5.0]}
    memory = {ALONE: Memory(2e9, 5e9), "MONAI": Memory(8e9, 9e9)}
    assert peer_row("MONAI", seconds, memory, {"ratio": 3, "memory_ratio": 0.5}, True) == {
        "peer": "MONAI", "fits": True, "seconds": 4, "ratio": 4, "spread": [3.5, 4.5], "cost": 0.25,
        "memory_gb": 8, "memory_ratio": 0.25,
        "target": {"ratio": 3, "memory_ratio": 0.5}, "missed": [], "met": True,
    }  # fmt: skip


def test_row_of_a_peer_that_does_not_fit():
    row = peer_row("huge", {ALONE: [1.0]}, {ALONE: Memory(1, 1), "huge": None}, {"ratio": 3}, False)
    assert row == {"peer": "huge", "fits": False, "target": {"ratio": 3}, "missed": [], "met": None}
    assert "does not fit" in line("lncc", "large", "value", row)


def test_row_of_ours_alone():
    row = own_row([1.0, 3.0, 2.0], Memory(6e9, 7e9), 2e9, {"seconds": 2, "copies": 2}, True)
    assert row["seconds"] == 2 and row["memory_gb"] == 6 and row["process_gb"] == 7 and row["copies"] == 3
    assert row["missed"] == ["copies"] and row["met"] is False
    assert line("warp", "small", "labels", row).endswith("MISSED: copies")


def test_a_record_keeps_other_devices_and_sizes_and_replaces_its_own():
    item = Item("lncc", "what", [])
    first = merged(None, item, {"device": "cpu", "size": "small", "parts": [1]})
    both = merged(first, item, {"device": "cpu", "size": "large", "parts": [2]})
    again = merged(both, item, {"device": "cpu", "size": "small", "parts": [3]})
    assert again["id"] == "lncc" and again["what"] == "what"
    assert [(m["size"], m["parts"]) for m in again["measurements"]] == [("large", [2]), ("small", [3])]


@pytest.fixture
def answers(monkeypatch):
    """Processes that answer what a test lays down: action, or (``memory``, side), to the answer."""
    laid: dict = {"files": {"fits": True}}

    def answer(task, part):
        return laid[("memory", task["side"]) if task["action"] == "memory" else task["action"]]

    part = Part("value", lambda place: None, {"MONAI": {"cpu": {"ratio": 3, "memory_ratio": 0.5}}})
    monkeypatch.setattr(run, "_answer", answer)
    monkeypatch.setattr(run, "_device", lambda: "cpu")
    monkeypatch.setattr(run, "load", lambda name: Item(name, "what", [part]))
    return laid


def peak(above, **others):
    return {"fits": True, "above": above, "process": 2 * above, **others}


def lay(answers, ours, peer):
    answers["memory", ALONE] = peak(1e9, unit=None, peers=["MONAI"])
    answers["memory", "MONAI"] = peak(4e9)
    answers["times"] = {"fits": True, "agreement": {"value": [0.0, 1e-4]}, "seconds": {ALONE: ours, "MONAI": peer}}


def test_the_command_records_and_ends_well_where_targets_are_met(answers, tmp_path, capsys):
    lay(answers, [1.0, 1.0], [4.0, 4.0])
    assert run.main(["lncc", "--size", "small", "--output", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "lncc.json").read_text())
    (measurement,) = record["measurements"]
    (part,) = measurement["parts"]
    assert (measurement["device"], measurement["size"], part["shape"]) == ("cpu", "small", [80, 96, 112])
    assert part["agreement"] == {"value": [0.0, 1e-4]}
    assert part["rows"][1]["ratio"] == 4 and part["rows"][1]["memory_ratio"] == 0.25 and part["rows"][1]["met"]
    assert {"machine", "versions", "command"} <= set(measurement)
    out = capsys.readouterr().out
    assert "4.00x [4.00, 4.00]" in out and "met" in out


def test_a_missed_target_is_recorded_and_ends_badly(answers, tmp_path, capsys):
    lay(answers, [2.0], [4.0])
    assert run.main(["lncc", "--size", "small", "--output", str(tmp_path)]) == 1
    assert json.loads((tmp_path / "lncc.json").read_text())["measurements"][0]["parts"][0]["rows"][1]["met"] is False
    assert "MISSED: ratio" in capsys.readouterr().out


def test_results_that_differ_fail_the_item_and_take_the_place_of_what_was_recorded(answers, tmp_path, capsys):
    lay(answers, [1.0], [9.0])
    assert run.main(["lncc", "--size", "small", "--output", str(tmp_path)]) == 0
    answers["times"] = {"fits": True, "apart": ["value by 0.1, 0.0001 is allowed"]}
    assert run.main(["lncc", "--size", "small", "--output", str(tmp_path)]) == 1
    assert "FAILED: value: results differ: value by 0.1" in capsys.readouterr().out
    (measurement,) = json.loads((tmp_path / "lncc.json").read_text())["measurements"]
    assert measurement["parts"] == [] and "results differ: value by 0.1" in measurement["failed"]


def test_where_ours_does_not_fit_whatever_was_asked_is_missed(answers, tmp_path):
    lay(answers, [1.0], [9.0])
    answers["memory", ALONE] = {"fits": False}
    assert run.main(["lncc", "--size", "small", "--output", str(tmp_path)]) == 1
    own, peer = json.loads((tmp_path / "lncc.json").read_text())["measurements"][0]["parts"][0]["rows"]
    assert (own["fits"], own["met"], own["missed"]) == (False, False, ["fits"])
    assert (peer["peer"], peer["met"]) == ("MONAI", None), "a peer with a target is always listed"


def test_a_peer_that_does_not_fit_is_left_out_of_the_timing(answers, tmp_path):
    lay(answers, [1.0], [9.0])
    answers["memory", "MONAI"] = {"fits": False}
    del answers["times"]["seconds"]["MONAI"]
    assert run.main(["lncc", "--size", "small", "--output", str(tmp_path)]) == 0
    _, row = json.loads((tmp_path / "lncc.json").read_text())["measurements"][0]["parts"][0]["rows"]
    assert row["fits"] is False and row["met"] is None


def test_an_unknown_item_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as end:
        run.main(["lnc"])
    assert end.value.code == 2
    assert "no such item; known: lncc, " in capsys.readouterr().err
