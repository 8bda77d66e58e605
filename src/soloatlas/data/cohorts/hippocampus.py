"""The hippocampus cohort of the Medical Segmentation Decathlon, downloaded where no shared one is found."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from soloatlas.atomic import replacing
from soloatlas.data.cohorts.shared import data_root, recorded_atlas, shared_cohort
from soloatlas.data.files import list_scans, scan_name
from soloatlas.data.study import Study
from soloatlas.errors import RunError

HIPPOCAMPUS_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
HIPPOCAMPUS_HASH = "md5:9d24dba78a72977dbd1d2e110310f31b"
# The archive's labelled scans in order of their names, the atlas taken out: so many unlabelled, then so many
# dev, and the last so many test. The sizes are those of the shared split; the scans are not the same.
HIPPOCAMPUS_COUNTS = {"pool": 129, "dev": 30, "test": 40}
_HIPPOCAMPUS_NOTE = "Task04 Hippocampus, Medical Segmentation Decathlon (Antonelli et al. 2022), CC-BY-SA 4.0"


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
