"""Label tables: values with gaps, every kind of name file, sides, colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from soloatlas.data.labels import LabelTable, label_table, read_label_names, relabel, write_label_table
from soloatlas.errors import InputError

TABLE = label_table([207, 4, 23, 30], {4: ("3rd Ventricle", None), 23: ("Right A", (9, 8, 7)), 30: ("Left A", None)})


def test_gaps_there_and_back() -> None:
    array = np.array([[[0, 4, 23], [30, 207, 4]]], dtype=np.int32)
    classes = TABLE.encode(array)
    assert classes.dtype == np.uint8
    assert classes.tolist() == [[[0, 1, 2], [3, 4, 1]]]
    np.testing.assert_array_equal(TABLE.decode(classes), array)
    assert TABLE.decode(classes).dtype == np.uint8


def test_very_large_values_and_very_many_classes() -> None:
    sparse = label_table([614454277, 15564], None)
    array = np.array([[[614454277, 0, 15564]]], dtype=np.int32)
    np.testing.assert_array_equal(sparse.decode(sparse.encode(array)), array)
    many = label_table(range(0, 900, 3), None)
    array = np.arange(0, 900, 3, dtype=np.int32).reshape(1, 3, 100)
    assert many.encode(array).dtype == np.int16
    np.testing.assert_array_equal(many.encode(array).ravel(), np.arange(300))


@pytest.mark.parametrize("stray", [5, 208, 1000, -1])
def test_unknown_values_are_named(stray: int) -> None:
    array = np.zeros((2, 2, 2), dtype=np.int32)
    array[1, 1, 0] = stray
    with pytest.raises(InputError, match=f"label values {stray} are not"):
        TABLE.encode(array)


def test_unknown_values_of_all_planes_are_gathered() -> None:
    with pytest.raises(InputError, match=r"values 1, 2, 3, 5, 6, 7, 8, 9, 10, 11 and 4 more"):
        TABLE.encode(np.arange(16, dtype=np.int32).reshape(4, 2, 2))


def test_values_are_replaced_all_at_once() -> None:
    drawn = np.array([[0, 1, 2], [3, 70000, 2]], dtype=np.int32)
    swapped = relabel(drawn, {1: 2, 2: 1, 3: 1})
    np.testing.assert_array_equal(swapped, [[0, 2, 1], [1, 0, 1]])
    assert swapped.dtype == np.uint8 and drawn[0, 1] == 1
    assert relabel(drawn, {70000: 300}).tolist() == [[0, 0, 0], [0, 300, 0]]
    for wrong in ({0: 1}, {1: 0}, {-1: 2}):
        with pytest.raises(InputError, match="0 is the background"):
            relabel(drawn, wrong)


def test_names_colours_and_defaults() -> None:
    assert TABLE.values == (0, 4, 23, 30, 207)
    assert TABLE.names == ("background", "3rd Ventricle", "Right A", "Left A", "label 207")
    assert TABLE.colours[0] == (0, 0, 0) and TABLE.colours[2] == (9, 8, 7)
    assert TABLE.pairs == ((3, 2),)
    assert TABLE.classes == 5


def test_default_colours_are_distinct() -> None:
    colours = np.array(label_table(range(1, 139), None).colours, dtype=int)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 1000 * np.eye(len(colours), dtype=int)
    assert apart.min() >= 4
    assert apart[:12, :12].min() >= 60


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Left Hippocampus", "Right Hippocampus"),
        ("hippocampus_L", "hippocampus_R"),
        ("L-Hippocampus", "R-Hippocampus"),
        ("Left-Cerebral-White-Matter", "Right-Cerebral-White-Matter"),
        ("LeftParotid", "RightParotid"),
        ("ParotidL", "ParotidR"),
        ("LParotid", "RParotid"),
        ("ctx-lh-bankssts", "ctx-rh-bankssts"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"),
        ("kidney (left)", "kidney (right)"),
        ("left", "right"),
    ],
)
def test_sides_are_found(left: str, right: str) -> None:
    names = {1: (right, None), 2: ("Brain Stem", None), 3: (left, None), 4: ("vertebra L1", None)}
    assert label_table(names, names).pairs == ((3, 1),)


@pytest.mark.parametrize(
    ("one", "other"),
    [("L1", "R1"), ("Left A", "Right B"), ("left to right", "right"), ("Lobe", "Robe"), ("Left A", "Left A")],
)
def test_no_sides_where_there_are_none(one: str, other: str) -> None:
    names = {1: (one, None), 2: (other, None)}
    assert label_table(names, names).pairs == ()


def test_an_ambiguous_side_is_not_paired() -> None:
    names = {1: ("Left A", None), 2: ("A_L", None), 3: ("Right A", None)}
    assert label_table(names, names).pairs == ()


def test_json_there_and_back() -> None:
    content = json.loads(json.dumps(TABLE.to_json()))
    assert LabelTable.from_json(content) == TABLE
    assert content["pairs"] == [[30, 23]]


@pytest.mark.parametrize(
    "content", [{}, {"labels": {"0": "a"}}, {"labels": {"x": "a"}, "colours": {}, "pairs": []}, {"labels": 3}]
)
def test_json_of_another_form_is_refused(content: dict) -> None:
    with pytest.raises(InputError, match="not a label table"):
        LabelTable.from_json(content)


def test_tables_that_make_no_sense_are_refused() -> None:
    black = (0, 0, 0)
    for values in ((1, 2), (0, 2, 2), (0, 3, 1), ()):
        with pytest.raises(InputError, match="must start at 0"):
            LabelTable(values, ("a",) * len(values), (black,) * len(values))
    with pytest.raises(InputError, match="one name and one colour"):
        LabelTable((0, 1), ("a",), (black, black))
    with pytest.raises(InputError, match="must start at 0"):
        label_table([-2], None)


EXPECTED = {0: "background", 1: "anterior hippocampus", 17: "posterior, body + tail"}

FORMS = {
    "labels.json": json.dumps({"0": "background", "1": "anterior hippocampus", "17": "posterior, body + tail"}),
    "bom.json": "\ufeff" + json.dumps({str(v): n for v, n in EXPECTED.items()}),
    "dataset.json (Decathlon)": json.dumps(
        {"name": "x", "modality": {"0": "MRI"}, "labels": {str(v): n for v, n in EXPECTED.items()}}
    ),
    "dataset.json (nnU-Net)": json.dumps(
        {
            "channel_names": {"0": "MRI"},
            "labels": {n: v for v, n in EXPECTED.items()},
            "file_ending": ".nii.gz",
        }
    ),
    "dataset.json (nnU-Net, text)": json.dumps({"labels": {n: str(v) for v, n in EXPECTED.items()}}),
    "ITK-SNAP": """################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "background"
    1   255    0    0        1  1  1    "anterior hippocampus"
   17     0  255    0        0.5  1  1    "posterior, body + tail"
""",
    "FreeSurfer": """#No. Label Name:            R   G   B   A

0   background               0   0   0   0
1   anterior hippocampus   255   0   0   0
17  posterior, body + tail   0 255   0   0
""",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_names(tmp_path: Path, form: str) -> None:
    (tmp_path / "names").write_text(FORMS[form], encoding="utf-8")
    found = read_label_names(tmp_path / "names")
    assert {value: name for value, (name, _) in found.items()} == EXPECTED
    coloured = form in ("ITK-SNAP", "FreeSurfer")
    assert found[17][1] == ((0, 255, 0) if coloured else None)


def test_a_freesurfer_table_without_opacity(tmp_path: Path) -> None:
    (tmp_path / "names.ctbl").write_text("17 Left-Hippocampus 220 216 20\r\n18 Left-Amygdala 103 255 255\r\n")
    assert read_label_names(tmp_path / "names.ctbl") == {
        17: ("Left-Hippocampus", (220, 216, 20)),
        18: ("Left-Amygdala", (103, 255, 255)),
    }


def test_written_tables_are_read_back(tmp_path: Path) -> None:
    write_label_table(tmp_path / "a.txt", TABLE)
    (tmp_path / "a.json").write_text(json.dumps(TABLE.to_json()))
    for name in ("a.txt", "a.json"):
        assert label_table(TABLE.values, read_label_names(tmp_path / name)) == TABLE


def test_quotes_in_a_name_do_not_break_the_table(tmp_path: Path) -> None:
    write_label_table(tmp_path / "a.txt", label_table([1], {1: ('the "real" one', None)}))
    assert read_label_names(tmp_path / "a.txt")[1][0] == "the 'real' one"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{not json", "line 1"),
        ("[1, 2]", "expected an object"),
        ('{"labels": ["a", "b"]}', "expected an object"),
        ('{"labels": {"whole": [1, 2]}}', "region of several"),
        ('{"a": "b"}', "pairs no whole number"),
        ('{"a": true}', "pairs no whole number"),
        ('{"1": "a", "01": "b"}', "two names, 'a' and 'b'"),
        ("1 name\n", "line 1 is neither"),
        ('0 0 0 0 0 0 0 "Clear"\nsomething else\n', "line 2 is neither"),
        ("# nothing here\n", "holds no label names"),
        ("{}", "holds no label names"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "names"
    path.write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        read_label_names(path)
    assert str(path) in str(caught.value)


def test_missing_folder_and_binary_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    for name, match in (("none", "No such file"), (".", "directory"), ("binary", "not text")):
        with pytest.raises(InputError, match=match):
            read_label_names(tmp_path / name)
