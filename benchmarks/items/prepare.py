"""Preparing scans at 1 mm: one scan on one core, a second run, several processes."""

from __future__ import annotations

import importlib.util
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness import ALONE, Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    from soloatlas.data.study import Study
    from soloatlas.prepare import PreparedStudy

POOL = 4


def write_files(place: Place) -> None:
    """The simulated atlas and copies of a test scan: the same work for each."""
    from inputs import brains, write

    (atlas, labels), (scan, _) = brains(place)
    for name, volume in (("atlas", atlas), ("labels", labels)):
        write(place.folder / f"{name}.nii.gz", volume)
    for number in range(POOL):
        write(place.folder / "pool" / f"scan_{number}.nii.gz", scan)


def study(place: Place) -> Study:
    """The files as a study."""
    from soloatlas.data.study import Study

    pool = tuple(sorted((place.folder / "pool").iterdir()))
    return Study("benchmark", place.folder / "atlas.nii.gz", place.folder / "labels.nii.gz", pool)


def one_scan(place: Place) -> Case:
    """Read, align to the atlas, normalise, resample. Beside ANTsPy's affine registration of the same files."""
    from soloatlas.data.files import read_labels, read_volume
    from soloatlas.prepare import finite, prepare_scan, working_grid
    from soloatlas.settings import Prepare

    settings, files = Prepare(), study(place)
    atlas, labels = finite(read_volume(files.atlas)), read_labels(files.atlas_labels)
    working, scan = working_grid(atlas, settings), files.unlabelled[0]
    peers = {"ANTsPy affine": partial(ants_affine, files.atlas, scan)} if importlib.util.find_spec("ants") else {}

    def agree() -> Agreement:
        found = prepare_scan(read_volume(scan), atlas, working, settings, labels)
        return {"scans that do not align": (float(not found.aligned), 0)}

    return Case(lambda: prepare_scan(read_volume(scan), atlas, working, settings, labels), peers, agree)


def ants_affine(atlas: Path, scan: Path) -> None:
    """The scan brought onto the atlas's grid by ANTsPy's affine registration."""
    import ants

    fixed, moving = ants.image_read(str(atlas)), ants.image_read(str(scan))
    ants.registration(fixed, moving, type_of_transform="Affine")["warpedmovout"].numpy()


def prepared(place: Place, cache: Path | None, workers: int | None = 1) -> PreparedStudy:
    """The whole study prepared."""
    from soloatlas.prepare import prepare_study
    from soloatlas.settings import Prepare

    return prepare_study(study(place), Prepare(), cache, workers)


def again(place: Place) -> Case:
    """With everything in the cache, beside a run that finds nothing there."""
    cache, empty = place.folder / "cache", place.folder / "empty"
    prepared(place, cache)

    def first() -> PreparedStudy:
        shutil.rmtree(empty, ignore_errors=True)
        return prepared(place, empty)

    def agree() -> Agreement:
        before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
        one, two = prepared(place, cache), first()
        apart = max(abs(a.image - b.image).max() for a, b in zip(one.scans, two.scans, strict=True))
        repeated = {path: path.stat().st_mtime_ns for path in cache.iterdir()} != before
        return {"intensities": (float(apart), 0), "anything repeated": (float(repeated), 0)}

    return Case(lambda: prepared(place, cache), {"first run": first}, agree)


def in_parallel(place: Place) -> Case:
    """In as many processes as there are cores, beside one."""
    return Case(lambda: prepared(place, None, None), {"one process": lambda: prepared(place, None)})


SHAPES = {"tiny": (32, 32, 32), "large": (160, 192, 224)}
part = partial(Part, shapes=SHAPES, files=write_files, threads=1, devices=("cpu",))
ITEM = Item(
    "prepare",
    "preparing scans of 160x192x224 voxels at 1 mm (affine alignment, percentiles, resampling)",
    [
        part("one scan, one core", one_scan, targets={ALONE: {"cpu": {"seconds": 5}}}, rounds=(3, 10)),
        part(f"{POOL} scans, second run", again, rounds=(2, 5)),
        part(f"{POOL} scans, all cores", in_parallel, rounds=(2, 3), memory=False),
    ],
)
