"""What can be reproduced, what it needs, and how long it took."""

import json
import re

import pytest

from soloatlas.errors import InputError
from soloatlas.machine import about_machine
from soloatlas.methods import load_method
from soloatlas.reproduction.figures import FIGURES
from soloatlas.reproduction.listing import as_lines, described

RECORD = {
    "id": "os-medseg:table-3",
    "cohort": "hippocampus",
    "unlabelled": 100,
    "changes": [],
    "reference": "ours",
    "rows": [
        {"name": "base", "changes": [], "runs": [{"seconds": {"prepare": 30.0, "learn": 90.0}}]},
        {"name": "M2", "changes": ["teacher=false"], "method": "os-medseg", "runs": [{"seconds": {"learn": 60.0}}] * 2},
    ],
}


def test_tables_and_figures_are_listed_with_their_kind_needs_and_minutes(tmp_path):
    (tmp_path / "hippocampus").mkdir()
    (tmp_path / "hippocampus/a.json").write_text(json.dumps({**RECORD, "machine": about_machine()}))
    _, *lines = as_lines(tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    told = {line.split()[0]: re.split("  +", line)[1:] for line in lines}
    kind, needs, took, _ = told["os-medseg:table-2"]
    assert (kind, took) == ("table and figure", "2 min, 1 of 13 rows")
    assert needs == "13 methods, labels of the pool, extra ants"
    assert told["os-medseg:figure-6"] == ["figure", "os-medseg", "3 min", FIGURES["os-medseg:figure-6"].title]
    assert told["lt-net:table-3"][:3] == ["table", "2 methods, 5 atlases", "-"]


def test_needs_are_those_of_the_rows(tmp_path):
    listed = {entry["id"]: entry for entry in described(tmp_path)}
    needs = {"methods": ["lt-net", "mabmis"], "labelled_pool": False, "atlases": 5, "sides": False, "extra": ""}
    assert listed["lt-net:table-3"]["needs"] == needs
    assert listed["lt-net:table-4"]["needs"]["sides"] and listed["os-medseg:networks"]["needs"]["extra"] == "ants"
    assert listed["lt-net:figure-4"]["needs"]["labelled_pool"], "the upper bound learns from labels"
    assert not listed["os-medseg:figure-6"]["needs"]["labelled_pool"]
    row = listed["os-medseg:figure-7c"]["rows"][1]
    assert (row["method"], row["share"], row["recorded"]) == ("os-medseg", 0.2, [])
    assert row["typical"] == load_method("os-medseg").METHOD.typical


def test_times_are_those_of_the_records_and_shared_runs_count_once(tmp_path):
    here = {**about_machine(), "python": "3.0"}
    for number, of in enumerate((here, here, {**here, "processor": "another"})):
        folder = tmp_path / "hippocampus"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.json").write_text(json.dumps({**RECORD, "machine": of}))
    (tmp_path / "other.json").write_text(json.dumps({**RECORD, "id": "gone", "machine": here}))
    (tmp_path / "list.json").write_text("[]")
    listed = {entry["id"]: entry for entry in described(tmp_path)}
    ours = listed["os-medseg:figure-5"]["rows"][-1]["recorded"]
    assert [(took["minutes"], took["this_machine"]) for took in ours] == [([2.0], True), ([2.0], False)]
    assert listed["os-medseg:figure-6"]["rows"][1]["recorded"][0]["minutes"] == [1.0, 1.0]
    assert listed["os-medseg:table-5"]["rows"][0]["recorded"] == []


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "hippocampus").mkdir()
    (tmp_path / "hippocampus/half.json").write_text('{"id": ')
    with pytest.raises(InputError, match=r"half\.json: not JSON"):
        described(tmp_path)
