"""`soloatlas datasets`: what it lists, checks and makes."""

import json
import subprocess
import sys

import click
import nibabel
import numpy as np
import pytest

from soloatlas.cli import cli
from soloatlas.data.cohorts.catalogue import DATASETS
from soloatlas.errors import InputError


def run(*arguments):
    """The exit code of the command."""
    try:
        return cli.main(["datasets", *map(str, arguments)], standalone_mode=False) or 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code


@pytest.fixture
def task(tmp_path):
    """Six labelled scans of a Decathlon task: an egg that differs a little from scan to scan."""
    folder = tmp_path / "Task11_Made"
    rng = np.random.default_rng(0)
    x, y, z = np.indices((14, 16, 12)).astype(float)
    inside = (x - 6.5) ** 2 / 25 + (y - 7.5) ** 2 / 36 + (z - 5.5) ** 2 / 16 < 1
    for number in range(1, 7):
        image = np.where(inside, 100 + 3 * x + rng.normal(size=x.shape), 0).astype(np.float32)
        for kind, array in (("imagesTr", image), ("labelsTr", inside.astype(np.uint8))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / f"made_{number}.nii.gz")
    (folder / "dataset.json").write_text('{"labels": {"0": "background", "1": "egg"}}')
    return folder


def test_the_list_tells_what_licence_and_source(capsys):
    assert run() == 0
    text = capsys.readouterr().out
    assert run("--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(DATASETS)
    for entry in listed:
        assert all(entry[key] in text for key in ("name", "what", "used", "licence", "ask"))
        assert all(files in text for files in entry["files"]) and entry["splits"]


def test_the_list_imports_neither_torch_nor_readers_of_scans():
    code = (
        "import sys; from soloatlas.cli import cli; cli.main(['datasets'], standalone_mode=False);"
        "print(sorted({'torch', 'nibabel', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", DATASETS)
def test_all_of_one_data_set(name, capsys):
    assert run(name) == 0
    text = capsys.readouterr().out
    assert all(note in text for note in DATASETS[name].notes) and DATASETS[name].what in text
    assert run(name, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"] == {str(value): title for value, title in DATASETS[name].names.items()}


def test_a_copy_is_checked(task, capsys):
    assert run("msd", "--data", task) == 0
    assert capsys.readouterr().out == "msd, Decathlon: 6 scans, 6 with labels\nno problem found\n"
    (task / "imagesTr" / "made_2.nii.gz").write_bytes(b"")
    assert run("msd", "--data", task) == 2
    assert "made_2.nii.gz: cannot be read (0 bytes); copy it again" in capsys.readouterr().out
    assert run("msd", "--data", task, "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["scans"], told["labelled"], told["layout"]) == (6, 6, "Decathlon")
    assert [finding["level"] for finding in told["findings"]] == ["error"]
    assert run("msd", "--data", task / "imagesTr", "--output", task.parent / "cohorts") == 2
    assert not (task.parent / "cohorts").exists()


def test_a_cohort_is_made_and_read_as_a_study(task, tmp_path, capsys):
    assert run("msd", "--data", task, "--output", tmp_path / "cohorts") == 0
    told = capsys.readouterr().out.splitlines()
    folder = tmp_path / "cohorts" / "Task11_Made"
    assert told[-2:] == [f"cohort: {folder}", f"soloatlas train {folder} --output run"]
    assert run("msd", "--data", task, "--output", tmp_path / "cohorts", "--atlas", "made_3", "--json") == 0
    json.loads(capsys.readouterr().out)
    assert json.loads((folder / "split.json").read_text())["atlas"] == "made_3"
    assert cli.main(["check", str(folder)], standalone_mode=False) in (None, 0)
    assert "the scans of imagesTs are not used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "x"], "--data: name the data set, one of oasis"),
        (["oasis", "--output", "x"], "--output needs your copy of oasis; add --data DIR"),
        (["oasis", "--data", "x", "--split", "code"], "--split says how a cohort is made; add --output DIR"),
        (["oasis", "--data", "x", "--atlas", "1"], "--atlas says how a cohort is made; add --output DIR"),
        (["oassis"], "oassis: not a data set; did you mean oasis"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        run(*arguments)
