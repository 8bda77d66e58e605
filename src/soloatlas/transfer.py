"""Methods without learning: the atlas's labels carried to each scan, several scans side by side."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.classical import Transferred
from soloatlas.data.files import file_sha256, read_scan, scan_name, write_displacements, write_volume, written_name
from soloatlas.data.labels import looks_drawn
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError
from soloatlas.prepare import Prepared, labels_to_native, prepare_labels, prepare_scan
from soloatlas.prepare.cohort import in_processes

if TYPE_CHECKING:
    from soloatlas.runs import Run
    from soloatlas.segmentation import Wishes
    from soloatlas.training import Progress

log = logging.getLogger("soloatlas")

Case = tuple[dict[str, Any], list[list[Any]]]  # a scan's entry of segment.json and its rows of volumes.csv


def transfer_scans(
    run: Run,
    scans: Sequence[Path],
    output: Path,
    wishes: Wishes,
    progress: Progress | None,
    tell: Callable[[Case], None],
) -> None:
    """Carry the atlas's labels to every scan and write them; in as many processes as there are cores.

    ``tell`` hears of each scan that is written.

    Raises:
        InputError: the wishes need a network, or a program is missing.
    """
    if wishes.probabilities or wishes.flip:
        raise InputError(f"{run.record['method']}: labels are carried over, there are no probabilities to give")
    done = 0

    def count(case: Case) -> None:
        nonlocal done
        done += 1
        tell(case)
        if progress:
            progress("segment", done, len(scans))

    work = functools.partial(_transfer_one, folder=run.folder, output=output, wishes=wishes)
    in_processes(work, list(scans), None, count)


def _transfer_one(path: Path, folder: Path, output: Path, wishes: Wishes) -> Case:
    from soloatlas.runs import open_run

    run, start = open_run(folder), time.monotonic()
    scan = read_scan(path)
    found: Transferred = run.method.transfer(run.atlas, run.atlas_labels, scan, run.settings, wishes.fields)
    if found.field is not None:
        write_displacements(output / "fields" / f"{scan_name(path)}_field.nii.gz", found.field, scan.grid)
    case, volumes = write_case(run, path, scan, run.table.encode(found.labels), output, wishes)
    return {**case, "seconds": round(time.monotonic() - start, 2)}, volumes


def write_case(run: Run, path: Path, scan: Volume, classes: np.ndarray, output: Path, wishes: Wishes) -> Case:
    """Write the labels of one scan, cleaned up where that is wished, beside those of the others.

    Args:
        path: of the scan; ``scan`` as read from it.
        classes: class map on its own grid.
        output: folder of the segmentations.
    """
    if looks_drawn(scan.array):
        log.warning("%s: looks like a label map, not like a scan; segmented all the same", path)
    if wishes.largest_component:
        from soloatlas.inference import largest_components

        classes = largest_components(classes)
    target = output / written_name(path)
    write_volume(target, run.table.decode(classes), scan.grid, like=scan)
    entry = {
        "case": scan_name(path),
        "input": str(path.absolute()),
        "sha256": file_sha256(path),
        "output": target.name,
        "output_sha256": file_sha256(target),
    }
    return entry, run.table.volumes(classes, scan.grid)


def transfer_group(
    run: Run,
    scans: Sequence[Path],
    output: Path,
    wishes: Wishes,
    progress: Progress | None,
    tell: Callable[[Case], None],
) -> None:
    """Label a group of scans together from all atlases of the run, on the working grid, and write them.

    ``tell`` hears of each scan that is written.

    Raises:
        InputError: fields or probabilities are asked for.
    """
    import torch

    from soloatlas.runs import read_more_atlases

    if wishes.probabilities or wishes.flip or wishes.fields:
        raise InputError(
            f"{run.record['method']}: a group is labelled as a whole; leave out fields, probabilities, flip"
        )
    start = time.monotonic()

    def tensor(array: np.ndarray, kind: type) -> Any:
        return torch.from_numpy(array.astype(kind))[None, None]

    def on_grid(volume: Volume) -> Prepared:
        return prepare_scan(volume, run.atlas, run.working, run.settings.prepare, run.atlas_labels)

    atlases, labels = [], []
    for image, drawn in [(run.atlas, run.atlas_labels), *read_more_atlases(run.folder)]:
        ready = on_grid(image)
        classes = prepare_labels(run.table.encode(drawn.array), ready.placement, run.table.classes)
        atlases.append(tensor(ready.image, np.float32))
        labels.append(tensor(classes, np.int16))
    volumes = [read_scan(path) for path in scans]
    prepared = [on_grid(volume) for volume in volumes]
    images = [tensor(p.image, np.float32) for p in prepared]
    found = run.method.group(atlases, labels, images, run.table.classes, run.settings, progress)
    seconds = round((time.monotonic() - start) / len(scans), 2)
    for path, volume, place, classes in zip(scans, volumes, prepared, found, strict=True):
        native = labels_to_native(classes, place.placement, run.table.classes)
        case, rows = write_case(run, path, volume, native, output, wishes)
        aligned = {"similarity": round(place.score, 4), "aligned": place.aligned}
        tell(({**case, **aligned, "seconds": seconds}, rows))  # the group's time, shared among its scans
