"""The list of methods comes without torch, and other packages can add to it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from soloatlas import methods
from soloatlas.data.demo import simulate_cohort
from soloatlas.data.files import read_labels, read_volume
from soloatlas.errors import InputError
from soloatlas.methods import available_methods


def test_listing_methods_and_help_import_no_torch():
    code = (
        "import sys; from soloatlas.methods import available_methods as a; a(); import soloatlas.cli;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_os_medseg_is_listed_with_its_family_and_paper():
    method = available_methods()["os-medseg"]
    assert method.family == "LRLS"
    assert "Zhou" in method.paper


@pytest.fixture(scope="module")
def with_example(tmp_path_factory):
    """The environment of a process that finds the package tests/example_method, installed without network."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(Path(__file__).parent / "example_method", folder / "source")  # a build leaves files there
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder / "site"), str(source)]
    subprocess.run(command, check=True)
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_a_method_of_another_package_is_listed_trained_and_segments(with_example, tmp_path):
    def soloatlas(*arguments):
        command = [sys.executable, "-m", "soloatlas.cli", *map(str, arguments)]
        done = subprocess.run(command, env=with_example, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "voxelmorph-mi" not in available_methods()
    listed = {method["name"]: method for method in json.loads(soloatlas("methods", "--json"))}
    assert listed["voxelmorph-mi"]["paper"] == "none: an example" and "os-medseg" in listed
    study = simulate_cohort(tmp_path / "study", pool=2, test=1, seed=0, spacing=6.0)
    small = ["prepare.spacing=8", "prepare.align=centre", "registration.steps=2", "registration.channels=[4,4,4,4]"]
    changes = [word for change in small for word in ("--set", change)]
    run = tmp_path / "run"
    soloatlas("train", tmp_path / "study", "--method", "voxelmorph-mi", "--output", run, *changes)
    record = json.loads((run / "run.json").read_text())
    assert record["method"] == "voxelmorph-mi" and record["settings"]["registration"]["similarity"] == "mi"
    soloatlas("segment", run, study.test_images[0], "--output", tmp_path / "found", "--refine", "1")
    found, given = read_labels(tmp_path / "found/test_01.nii.gz"), read_volume(study.test_images[0])
    assert found.grid.matches(given.grid) and set(np.unique(found.array)) == {0, 1, 2, 3, 4, 5}


def test_a_package_that_cannot_be_loaded_does_not_hide_the_others(monkeypatch, caplog):
    class Broken:
        def load(self):
            raise ImportError("no module named medpy")

    class Misnamed:
        def load(self):
            return methods.load_method("unet")

    points = {**methods._entry_points(), "broken": Broken(), "misnamed": Misnamed()}
    monkeypatch.setattr(methods, "_entry_points", lambda: points)
    known = available_methods()
    assert "os-medseg" in known and not {"broken", "misnamed"} & set(known)
    assert "no module named medpy" in caplog.text and "METHOD.name must be 'misnamed'" in caplog.text
    with pytest.raises(
        InputError, match=r"broken: the package of this method cannot be loaded \(no module named medpy"
    ):
        methods.load_method("broken")


def test_the_page_on_adding_a_method_shows_the_package_that_is_tested():
    page = (Path(__file__).parents[1] / "docs/how-to/add-a-method.md").read_text()
    for file in ("pyproject.toml", "soloatlas_example.py"):
        assert (Path(__file__).parent / "example_method" / file).read_text() in page, file


def test_no_method_took_more_memory_than_it_says():
    results = Path(__file__).parents[1] / "results"
    records = [json.loads(path.read_text()) for path in results.glob("*/compare.json")]
    known = methods.available_methods()
    for row in (row for record in records for row in record["rows"]):
        stated = known[row["method"]].typical
        assert row["peak_memory_gb"] <= float(stated.removesuffix(" GB").rpartition("-")[2]), row["method"]
