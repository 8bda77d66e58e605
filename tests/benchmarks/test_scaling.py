"""Points of the scaling figures are measured, by one process and by two. No time is looked at."""

import json

import scaling


def test_points_of_one_and_two_processes_are_recorded(tmp_path, monkeypatch):
    small = scaling.Point(shape=(32, 32, 32), classes=3, pool=2, batches=2)
    two = scaling.Point(**{**vars(small), "processes": 2})
    monkeypatch.setattr(scaling, "AXES", {"processes, strong": [small, two]})
    scaling.main(["--output", str(tmp_path / "scaling.json")])
    (points,) = json.loads((tmp_path / "scaling.json").read_text())["axes"].values()
    assert [point["processes"] for point in points] == [1, 2]
    for point in points:
        assert point["seconds"].keys() == {"register", "distil"} and point["process_gb"] > 0
