"""Cohorts by name: the real ones in a shared folder, and the hippocampus download.

A shared cohort is ``<root>/<name>/images/<id>.nii.gz``, ``labels/<id>.nii.gz``, ``labels.json`` and
``split.json`` ({"pool": [...], "dev": [...], "test": [...]}). The atlas is one of the pool; the others, in
the listed order, are the unlabelled scans. ``dev`` is for choosing defaults, ``test`` for reported results.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from soloatlas.atomic import replacing
from soloatlas.data.files import list_scans, scan_name
from soloatlas.data.study import Study
from soloatlas.errors import InputError, RunError

ATLASES = Path(__file__).parent.parent / "reproduction" / "atlases.json"

HIPPOCAMPUS_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
HIPPOCAMPUS_HASH = "md5:9d24dba78a72977dbd1d2e110310f31b"
# The archive's labelled scans in order of their names, the atlas taken out: so many unlabelled, then so many
# dev, and the last so many test. The sizes are those of the shared split; the scans are not the same.
HIPPOCAMPUS_COUNTS = {"pool": 129, "dev": 30, "test": 40}
_HIPPOCAMPUS_NOTE = "Task04 Hippocampus, Medical Segmentation Decathlon (Antonelli et al. 2022), CC-BY-SA 4.0"


def data_root() -> Path | None:
    """The folder of shared cohorts, or None where there is none.

    SOLOATLAS_DATA if it is set, else ``shared/data`` beside the repository or the working directory.

    Raises:
        InputError: SOLOATLAS_DATA names no folder.
    """
    given = os.environ.get("SOLOATLAS_DATA")
    if given:
        if not Path(given).is_dir():
            raise InputError(f"SOLOATLAS_DATA={given}: no such folder; correct or unset it")
        return Path(given)
    places = [base.parent / "shared" / "data" for base in (Path(__file__).resolve().parents[3], Path.cwd())]
    return next((place for place in places if place.is_dir()), None)


def recorded_atlas(name: str) -> str | None:
    """Id of the atlas recorded for the cohort ``name`` in `ATLASES` ({name: {"atlas": id, ...}}), or None."""
    record = json.loads(ATLASES.read_text(encoding="utf-8")) if ATLASES.is_file() else {}
    return record[name]["atlas"] if name in record else None


def shared_cohort(
    name: str,
    unlabelled: int | None = None,
    split: Literal["dev", "test"] = "test",
    atlas: str | None = None,
    root: Path | None = None,
) -> Study:
    """The study of a shared cohort.

    Args:
        name: folder of the cohort.
        unlabelled: how many of the pool, in the listed order without the atlas; None: all.
        split: which labelled scans become the test scans.
        atlas: id of the atlas; None: the recorded one.
        root: folder of the cohorts; None: `data_root`.

    Raises:
        InputError: no such cohort or atlas, no atlas recorded, more scans asked for than there are, or a file
            of the split missing.
    """
    folder = _cohort_folder(name, root)
    parts = _split(folder / "split.json")
    chosen = atlas or recorded_atlas(name)
    if chosen is None:
        raise InputError(f"no atlas is recorded for {name}; run `soloatlas choose-atlas` on its pool, or name one")
    if chosen not in parts["pool"]:
        raise InputError(f"{folder}: atlas '{chosen}' is not in the pool of split.json; choose one that is")
    pool = [case for case in parts["pool"] if case != chosen]
    if unlabelled is not None and not 0 < unlabelled <= len(pool):
        raise InputError(f"{folder}: {unlabelled} unlabelled scans asked for; 1 to {len(pool)} are possible")
    # A cohort with very many structures has a second set of labels, merged; that is the default target.
    labels = "labels_reduced" if (folder / "labels_reduced").is_dir() else "labels"
    return Study(
        name=name,
        atlas=_scan(folder, "images", chosen),
        atlas_labels=_scan(folder, labels, chosen),
        unlabelled=tuple(_scan(folder, "images", case) for case in pool[:unlabelled]),
        label_names=folder / f"{labels}.json",
        test_images=tuple(_scan(folder, "images", case) for case in parts[split]),
        test_labels=tuple(_scan(folder, labels, case) for case in parts[split]),
    )


def _cohort_folder(name: str, root: Path | None) -> Path:
    root = root or data_root()
    if root is None:
        raise InputError(f"cohort '{name}': no shared data found; set SOLOATLAS_DATA to their folder")
    if not (root / name / "split.json").is_file():
        known = ", ".join(sorted(place.parent.name for place in root.glob("*/split.json"))) or "none"
        raise InputError(f"{root}: no cohort '{name}'; known: {known}")
    return root / name


def _split(path: Path) -> dict[str, list[str]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return {part: [str(case) for case in content[part]] for part in ("pool", "dev", "test")}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected lists of ids under pool, dev and test ({error!r})") from error


def _scan(folder: Path, kind: str, case: str) -> Path:
    path = folder / kind / f"{case}.nii.gz"
    if not path.is_file():
        raise InputError(f"{path}: no such file, though split.json lists it; complete the cohort")
    return path


def fetch_hippocampus(
    cache: Path | None = None,
    url: str = HIPPOCAMPUS_URL,
    known_hash: str = HIPPOCAMPUS_HASH,
    root: Path | None = None,
) -> Study:
    """The hippocampus study: the shared cohort if it is found, else downloaded (27 MB) and checked by hash.

    The download is kept in ``cache`` (default: the user's cache folder), where a copy fetched by hand is used
    too. Its split is a rule, `HIPPOCAMPUS_COUNTS`; the atlas is the recorded one, or else the first scan.

    Raises:
        RunError: pooch is missing, no connection, or the file does not have the known hash.
    """
    root = root or data_root()
    if root is not None and (root / "hippocampus" / "split.json").is_file():
        return shared_cohort("hippocampus", root=root)
    archive = _download(cache, url, known_hash)
    folder = _unpack(archive, archive.parent)
    labels = {scan_name(path): path for path in list_scans(folder / "labelsTr")}
    cases = sorted(labels)
    recorded = recorded_atlas("hippocampus")
    atlas = recorded if recorded in cases else cases[0]
    pool, test = _parts([case for case in cases if case != atlas])
    images = folder / "imagesTr"
    return Study(
        name="hippocampus",
        atlas=images / f"{atlas}.nii.gz",
        atlas_labels=labels[atlas],
        unlabelled=tuple(images / f"{case}.nii.gz" for case in pool),
        label_names=folder / "dataset.json",
        test_images=tuple(images / f"{case}.nii.gz" for case in test),
        test_labels=tuple(labels[case] for case in test),
        notes=(_HIPPOCAMPUS_NOTE,),
    )


def _parts(cases: list[str]) -> tuple[list[str], list[str]]:
    """Unlabelled and test cases by `HIPPOCAMPUS_COUNTS`."""
    counts = HIPPOCAMPUS_COUNTS
    if len(cases) < sum(counts.values()):
        raise RunError(f"the hippocampus archive holds {len(cases) + 1} labelled scans; more are needed")
    return cases[: counts["pool"]], cases[-counts["test"] :]


def _download(cache: Path | None, url: str, known_hash: str) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise RunError("downloading needs pooch; install it by `pip install soloatlas[demo]`") from error
    folder = Path(cache) if cache is not None else Path(pooch.os_cache("soloatlas"))
    name = PurePosixPath(url).name
    try:
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder))
    except Exception as error:  # no route, refused, time-out, 404, wrong hash: libraries differ, the remedy not
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        remedy = f"check the connection, or put {name} in {folder}"
        raise RunError(f"cannot download {url}: {line}; {remedy}") from error


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack the scans and dataset.json of ``archive`` into ``target`` unless they lie there already.

    Only plain files directly in the three known folders are written, under names of our making, so nothing
    in the archive (links, absolute or parent paths) can reach another place.
    """
    folder = target / "Task04_Hippocampus"
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                place = _place(PurePosixPath(member.name)) if member.isfile() else None
                if place is not None:
                    _extract(tar, member, folder / place)
    except (tarfile.TarError, EOFError) as error:
        raise RunError(f"{archive}: cannot be unpacked ({error}); delete it and try again") from error
    return folder


def _place(member: PurePosixPath) -> PurePosixPath | None:
    """Where a member of the archive goes inside the folder of the task; None: nowhere."""
    hidden = member.name.startswith(".")  # "._x.nii.gz": what macOS leaves in archives
    if member.parts[-2:-1] == ("Task04_Hippocampus",) and member.name == "dataset.json":
        return PurePosixPath("dataset.json")
    if member.parent.name in ("imagesTr", "labelsTr") and member.name.endswith(".nii.gz") and not hidden:
        return PurePosixPath(member.parent.name, member.name)
    return None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if path.is_file() and path.stat().st_size == member.size:
        return
    source = tar.extractfile(member)
    assert source is not None  # a plain file
    with replacing(path) as temporary, temporary.open("wb") as out:
        shutil.copyfileobj(source, out)
