"""Scans prepared ahead are those prepared one by one, in their order, and errors come when their turn has come."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import nibabel
import numpy as np
import pytest

from soloatlas.data.files import read_labels, read_volume
from soloatlas.errors import InputError
from soloatlas.prepare import prepare_ahead, prepare_scan, working_grid
from soloatlas.prepare.ahead import FEW
from soloatlas.settings import Prepare

SETTINGS = Prepare(align="rigid", margin=2.0, multiple=8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    """An ellipsoid with labels in it, and the same in other places."""
    folder = tmp_path_factory.mktemp("scans")
    x, y, z = np.indices((20, 24, 18)) - np.array([9.5, 11.5, 8.5]).reshape(3, 1, 1, 1)
    image = (100 + 5 * x + 3 * y) * ((x / 7) ** 2 + (y / 9) ** 2 + (z / 6) ** 2 < 1)

    def save(name: str, array: np.ndarray, shift: float = 0.0) -> Path:
        affine = np.eye(4)
        affine[0, 3] = shift
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / name)
        return folder / name

    scans = [save(f"s{n}.nii.gz", (image * (1 + n)).astype(np.float32), 3.0 * n) for n in range(FEW + 3)]
    labels = save("labels.nii.gz", ((image > 0) & (x > 0)).astype(np.int16))
    return save("atlas.nii.gz", image.astype(np.float32)), labels, scans


def test_ahead_gives_the_bits_of_one_by_one(files):
    atlas, labels, scans = read_volume(files[0]), read_labels(files[1]), files[2]
    working = working_grid(atlas, SETTINGS, labels)
    alone = [prepare_scan(read_volume(path), atlas, working, SETTINGS, labels) for path in scans]
    for found in (prepare_ahead(scans, atlas, working, SETTINGS, labels, w) for w in (1, 2)):
        for one, (scan, ahead) in zip(alone, found, strict=True):
            assert scan.grid.matches(one.placement.native)
            assert (ahead.name, ahead.score, ahead.aligned) == (one.name, one.score, one.aligned)
            assert np.array_equal(ahead.image, one.image)
            assert np.array_equal(ahead.placement.matrix, one.placement.matrix)


def test_an_unreadable_scan_is_named_after_those_before_it(files, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    atlas, labels, scans = read_volume(files[0]), read_labels(files[1]), files[2]
    found = prepare_ahead([*scans[:3], bad, *scans[3:]], atlas, working_grid(atlas, SETTINGS), SETTINGS, labels, 2)
    assert [p.name for _, p in islice(found, 3)] == ["s0", "s1", "s2"]
    with pytest.raises(InputError, match=r"bad\.nii\.gz"):
        next(found)


def test_work_goes_on_where_processes_cannot_start(files, tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys, warnings\n"
        "from pathlib import Path\n"
        "from soloatlas.data.files import read_labels, read_volume\n"
        "from soloatlas.prepare import prepare_ahead, working_grid\n"
        "from soloatlas.settings import Prepare\n"
        "atlas, labels, *scans = map(Path, sys.argv[1:])\n"
        "atlas, labels = read_volume(atlas), read_labels(labels)\n"
        "settings = Prepare(align='none', multiple=8)\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    found = list(prepare_ahead(scans, atlas, working_grid(atlas, settings), settings, labels, 2))\n"
        "print([p.name for _, p in found], len(seen))\n"
    )
    words = [sys.executable, str(script), *map(str, (files[0], files[1], *files[2]))]
    run = subprocess.run(words, capture_output=True, text=True, timeout=300)
    names = [path.name.split(".")[0] for path in files[2]]
    assert run.stdout.splitlines()[-1] == f"{names} 1", run.stderr
