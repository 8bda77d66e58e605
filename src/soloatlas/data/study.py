"""A study: one labelled scan (the atlas), a pool of unlabelled ones, perhaps labelled test scans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from soloatlas.data.files import file_sha256, list_scans, scan_name
from soloatlas.errors import InputError

# Where the names of the labels are looked for, beside them, when none are given.
_NAME_FILES = ("labels.json", "dataset.json", "labels.txt")


@dataclass(frozen=True)
class Study:
    """Where the files of a study lie.

    Attributes:
        name: for titles and reports.
        atlas: the labelled scan.
        atlas_labels: its labels, on the same grid.
        unlabelled: the pool, in the order in which it is used; no two share a name.
        label_names: table of label names (`soloatlas.data.labels.read_label_names`).
        test_images: held-out scans.
        test_labels: their labels, in the same order; or none.
        pool_labels: labels of the pool, in its order; only for methods that are not one-shot (the supervised
            bound).
        more_atlases: further labelled scans and their labels, for multi-atlas methods alone.
        notes: what the reader should know about how the study was put together.
    """

    name: str
    atlas: Path
    atlas_labels: Path
    unlabelled: tuple[Path, ...]
    label_names: Path | None = None
    test_images: tuple[Path, ...] = ()
    test_labels: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    pool_labels: tuple[Path, ...] = ()
    more_atlases: tuple[tuple[Path, Path], ...] = ()


def with_pool_labels(study: Study, folder: str | Path) -> Study:
    """``study`` with the labels of its pool, for methods that are not one-shot.

    A label map has the name of its scan (nnU-Net's channel number left out).

    Raises:
        InputError: a scan of the pool has none.
    """
    truth = {scan_name(path): path for path in list_scans(Path(folder))}
    found = [truth.get(scan_name(p)) or truth.get(re.sub(r"_\d{4}$", "", scan_name(p))) for p in study.unlabelled]
    missing = [scan.name for scan, labels in zip(study.unlabelled, found, strict=True) if labels is None]
    if missing:
        first = ", ".join(missing[:5])
        raise InputError(f"--pool-labels {folder}: no labels for {len(missing)} scans of the pool ({first}); add them")
    return replace(study, pool_labels=tuple(path for path in found if path))


def with_more_atlases(study: Study, count: int) -> Study:
    """``study`` with the first ``count`` scans of its labelled pool as further atlases; no other label is kept.

    ``pool_labels`` may be those of these scans alone.
    """
    pairs = tuple(zip(study.unlabelled[:count], study.pool_labels[:count], strict=True))
    return replace(study, more_atlases=pairs, unlabelled=study.unlabelled[count:], pool_labels=())


def with_test(study: Study, images: str | Path | None, labels: str | Path | None) -> Study:
    """``study`` with these test scans and labels, matched by name.

    Raises:
        InputError: one of the two is missing, or a scan has no labels.
    """
    if images is None or labels is None:
        raise InputError("--test and --test-labels go together; give both")
    scans, truth, notes = _test_pairs(Path(images), Path(labels), plain=True)
    if not truth:
        raise InputError(f"{labels}: holds no labels of the scans in {images}")
    return replace(study, test_images=scans, test_labels=truth, notes=study.notes + notes)


def as_study(study: Study | str | Path) -> Study:
    """``study``, or the one in the folder of that name (`read_study`)."""
    return study if isinstance(study, Study) else read_study(study)


def read_study(folder: str | Path) -> Study:
    """The study in ``folder``, which has one of three layouts.

    Ours: ``atlas/image.*``, ``atlas/labels.*``, ``unlabelled/``, optionally ``test/images``, ``test/labels``,
    ``labels.json``. nnU-Net's (and the Medical Segmentation Decathlon's): ``imagesTr``, ``labelsTr`` with the
    labels of one case, the atlas; optionally ``imagesTs``, ``labelsTs``, ``dataset.json``. A cohort's
    (`soloatlas.data.cohorts`): ``images``, ``labels``, ``labels.json``, ``split.json``.

    Raises:
        InputError: none of the layouts, a part missing, an empty pool, no or several labelled cases, several
            channels, or test labels that do not belong to the test images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a study folder")
    if (folder / "atlas").is_dir():
        return _read_own(folder)
    if (folder / "imagesTr").is_dir():
        return _read_nnunet(folder)
    if (folder / "split.json").is_file():
        from soloatlas.data.cohorts.shared import shared_cohort

        return shared_cohort(folder.resolve().name, root=folder.resolve().parent)
    raise InputError(
        f"{folder}: not a study; expected atlas/image, atlas/labels and unlabelled/, or imagesTr and labelsTr, "
        "or images, labels and split.json"
    )


def make_study(
    atlas: str | Path,
    atlas_labels: str | Path,
    unlabelled: str | Path,
    label_names: str | Path | None = None,
    name: str | None = None,
) -> Study:
    """A study from loose files: the labelled scan, its labels, and the folder of unlabelled scans.

    The atlas and its labels, if they lie in the folder too (compared by content), are left out of the pool
    and a note says so. Label names default to a labels.json, dataset.json or labels.txt beside the labels.

    Raises:
        InputError: a file or folder is missing, or the pool is empty.
    """
    atlas, atlas_labels, unlabelled = Path(atlas), Path(atlas_labels), Path(unlabelled)
    for path in (atlas, atlas_labels):
        if not path.is_file():
            raise InputError(f"{path}: no such file; the atlas needs an image and its labels")
    pool, notes = _pool(list_scans(unlabelled), atlas, atlas_labels, unlabelled)
    names = Path(label_names) if label_names is not None else _names_beside(atlas_labels.parent)
    if names is not None and not names.is_file():
        raise InputError(f"{names}: no such file of label names")
    return Study(name or unlabelled.resolve().name, atlas, atlas_labels, pool, names, notes=notes)


def _pool(
    scans: Sequence[Path], atlas: Path, atlas_labels: Path, where: Path
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The scans that are neither the atlas nor its labels, and what was left out."""
    known = {path: path.stat().st_size for path in (atlas, atlas_labels)}
    kept: list[Path] = []
    notes: list[str] = []
    for scan in scans:
        alike = [path for path, size in known.items() if size == scan.stat().st_size]  # others need no hash
        twin = next((path for path in alike if file_sha256(path) == file_sha256(scan)), None)
        if twin is not None:
            what = "the atlas" if twin is atlas else "the atlas's labels"
            notes.append(f"{scan} is {what}: left out of the unlabelled scans")
        else:
            kept.append(scan)
    if not kept:
        raise InputError(f"{where}: holds no unlabelled scan; training needs at least one besides the atlas")
    return tuple(kept), tuple(notes)


def _names_beside(*folders: Path) -> Path | None:
    places = [folder / name for folder in folders for name in _NAME_FILES]
    return next((place for place in places if place.is_file()), None)


def _read_own(folder: Path) -> Study:
    atlas, labels = _one(folder / "atlas", "image"), _one(folder / "atlas", "labels")
    pools = [folder / spelling for spelling in ("unlabelled", "unlabeled")]
    place = next((pool for pool in pools if pool.is_dir()), pools[0])
    pool, notes = _pool(list_scans(place), atlas, labels, place)
    images, truth, more = _test_pairs(folder / "test" / "images", folder / "test" / "labels", plain=True)
    names = _names_beside(folder, folder / "atlas")
    return Study(folder.resolve().name, atlas, labels, pool, names, images, truth, notes + more)


def _one(folder: Path, name: str) -> Path:
    found = [scan for scan in list_scans(folder) if scan_name(scan) == name]
    if not found:
        raise InputError(f"{folder}: holds no {name}.nii.gz (.nii, .nrrd, .mha)")
    return found[0]


def _read_nnunet(folder: Path) -> Study:
    labelled = {scan_name(path): path for path in list_scans(folder / "labelsTr")}
    # The Decathlon's images are called as their labels are; nnU-Net appends the channel, "_0000".
    plain = any(scan_name(image) in labelled for image in list_scans(folder / "imagesTr"))
    images = _cases(folder / "imagesTr", plain)
    atlases = [case for case in images if case in labelled]
    if len(atlases) != 1:
        many = f"{len(atlases)} cases of imagesTr have labels there"
        raise InputError(f"{folder / 'labelsTr'}: {many}; keep the labels of the atlas alone")
    atlas, labels = images[atlases[0]], labelled[atlases[0]]
    rest = [image for case, image in images.items() if case != atlases[0]]
    pool, notes = _pool(rest, atlas, labels, folder / "imagesTr")
    tests, truth, more = _test_pairs(folder / "imagesTs", folder / "labelsTs", plain)
    names = _names_beside(folder, folder / "labelsTr")
    return Study(folder.resolve().name, atlas, labels, pool, names, tests, truth, notes + more)


def _cases(folder: Path, plain: bool) -> dict[str, Path]:
    """Images by case: their name, without nnU-Net's channel number unless ``plain``."""
    cases: dict[str, Path] = {}
    for image in list_scans(folder):
        case = scan_name(image) if plain else re.sub(r"_\d{4}$", "", scan_name(image))
        if case in cases:
            both = f"{cases[case].name} and {image.name}"
            raise InputError(f"{folder}: case {case} has several channels ({both}); keep one")
        cases[case] = image
    return cases


def _test_pairs(images: Path, labels: Path, plain: bool) -> tuple[tuple[Path, ...], tuple[Path, ...], tuple[str, ...]]:
    """Test images, their labels in the same order (or none), and notes on labels without image."""
    if not images.is_dir() or not any(images.iterdir()):
        return (), (), ()
    cases = _cases(images, plain)
    if not labels.is_dir() or not any(labels.iterdir()):
        return tuple(cases.values()), (), ()
    truth = {scan_name(path): path for path in list_scans(labels)}
    missing = [case for case in cases if case not in truth]
    if missing:
        first = ", ".join(missing[:5])
        spare = ", ".join([case for case in truth if case not in cases][:5])
        called = f" (there are some called {spare})" if spare else ""
        remedy = f"add them, or take the scans out of {images}"
        raise InputError(f"{labels}: no labels for {len(missing)} test scans ({first}){called}; {remedy}")
    extra = [f"{truth[case]} has no test image: not used" for case in truth if case not in cases]
    return tuple(cases.values()), tuple(truth[case] for case in cases), tuple(extra)
