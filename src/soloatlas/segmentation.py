"""Segmenting scans with a finished run, and writing its synthetic pairs, as files."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from soloatlas.atomic import no_empty_folders, read_json, require_own, require_writable, write_json
from soloatlas.data.files import file_sha256, find_scans, scan_name, write_volume, written_name
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError, RunError
from soloatlas.field_files import write_field, write_way_to_atlas
from soloatlas.prepare import Prepared, place, prepare_ahead, prepare_labels, prepare_scan
from soloatlas.prepare.grids import grid_to_json
from soloatlas.runs import Run, load_weights, versions
from soloatlas.segmented import remove_empty_lists, require_free, write_lists
from soloatlas.transfer import Case, transfer_group, transfer_scans, write_case

if TYPE_CHECKING:
    from torch import Tensor

    from soloatlas.training import Progress, Session

log = logging.getLogger("soloatlas")


@dataclass(frozen=True)
class Wishes:
    """What a user may ask of `segment` beyond the labels.

    Attributes:
        stage: ``student``, or ``register``: the atlas's labels warped and nothing more; empty for what the
            method ends with.
        fields: also write each scan's displacement field (ITK convention, mm) and its Jacobian determinant.
        probabilities: also write each structure's probability.
        flip: average with the mirrored scan (every side must be declared).
        largest_component: keep the largest piece of each structure.
        refine: steps of gradient descent on each predicted field (stage ``register`` of a learnt registration).
    """

    stage: str = ""
    fields: bool = False
    probabilities: bool = False
    flip: bool = False
    largest_component: bool = False
    refine: int = 0


def segment_scans(
    run: Run,
    inputs: Sequence[Path],
    output: Path,
    wishes: Wishes = Wishes(),
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Segment each scan on its own grid: ``output/<file name>``, ``volumes.csv`` and ``segment.json``.

    Repeats the preparation of the training (alignment to the stored atlas included) and warns of a scan
    that does not align. What the same run has segmented into that folder before stays, in the lists as well.

    Raises:
        InputError: an input is missing or unreadable, the wishes do not fit the method or its labels, or the folder
            holds segmentations by another run or with other wishes.
    """
    scans = find_scans(inputs)
    wishes = replace(wishes, stage=wishes.stage or result_stage(run.method))
    _refuse(run, wishes, scans, output)
    found: list[Case] = []
    with no_empty_folders(output):
        require_writable(output)
        require_free(run, wishes, scans, output)
        write_lists(run, wishes, output, found, scans)
        try:
            _way_of(run.method, device)(run, scans, output, wishes, progress, found.append)
        except BaseException as error:  # what was written before an unreadable scan is in the lists, too
            with contextlib.suppress(RunError):  # a full disk: the first error tells
                write_lists(run, wishes, output, found, scans)
                remove_empty_lists(output)
            if isinstance(error, InputError) and len(scans) > 1:
                raise InputError(f"{error}; {len(found)} of {len(scans)} scans were segmented before it") from error
            raise
        write_lists(run, wishes, output, found, scans)
    return output


def _way_of(method: ModuleType, device: str) -> Callable[..., None]:
    """What segments and writes all scans with a run of the method: (run, scans, output, wishes, progress, tell)."""
    if hasattr(method, "transfer"):
        return transfer_scans
    return transfer_group if hasattr(method, "group") else partial(_with_networks, device=device)


def _with_networks(
    run: Run,
    scans: Sequence[Path],
    output: Path,
    wishes: Wishes,
    progress: Progress | None,
    tell: Callable[[Case], None],
    device: str,
) -> None:
    """Segment and write every scan, one after the other, with the run's networks; ``tell`` hears of each."""
    worker = Worker(run, wishes, device)
    ready = worker.prepared(scans)
    for done, path in enumerate(scans):
        if progress:
            progress("segment", done, len(scans), path.name)
        start = time.monotonic()
        scan, prepared = next(ready)
        classes = worker.segment(scan, prepared, output, scan_name(path))
        case, volumes = write_case(run, path, scan, classes, output, wishes)
        more = {
            "similarity": round(prepared.score, 4),
            "aligned": prepared.aligned,
            # (4, 4): voxel of the working grid to voxel of the scan; saved fields lie on the working grid.
            "working_to_scan": prepared.placement.matrix.round(8).tolist(),
            "seconds": round(time.monotonic() - start, 2),
        }
        tell(({**case, **more}, volumes))
        if not prepared.aligned:
            log.warning("%s: does not align with the atlas (similarity %.2f)", path, prepared.score)
    if progress:
        progress("segment", len(scans), len(scans))


def result_stage(method: ModuleType) -> str:
    """What a method ends with: its ``student``, or the atlas's labels warped (``register``)."""
    stage: str = method.METHOD.stages[-1]
    return stage


def _refuse(run: Run, wishes: Wishes, scans: Sequence[Path], output: Path) -> None:
    """Refuse wishes that cannot be met before any work is done."""
    if wishes.stage not in ("student", "register"):
        raise InputError(f"--stage {wishes.stage}: not one of student, register")
    stages = run.method.METHOD.stages
    if wishes.stage == "student" and "student" not in stages:
        raise InputError(f"{run.folder}: {run.record['method']} has no student; leave out --stage")
    needs_fields = wishes.stage == "register" or wishes.fields
    if needs_fields and "register" not in stages:
        asked = "--stage register" if wishes.stage == "register" else "--save-fields"
        raise InputError(f"{run.folder}: {run.record['method']} does not register; leave out {asked}")
    if (output / "run.json").exists():
        raise InputError(f"--output {output}: is a run; choose another folder")
    if wishes.refine:
        _refuse_refining(run, wishes)
    if wishes.flip:
        if wishes.stage == "register":
            raise InputError("--flip: mirrors the scan for a student; leave it out with --stage register")
        sided = {c for pair in run.table.pairs for c in pair}
        named = [n for c, n in enumerate(run.table.names) if c not in sided and _says_side(n)]
        if not sided or named:
            raise InputError(
                f"--flip: a mirrored scan needs every left/right pair declared; {run.folder}/labels.json has "
                + (f"'{named[0]}' without its other side" if named else "none")
            )
    inputs = {path.resolve() for path in scans}
    clash = [path for path in scans if (output / written_name(path)).resolve() in inputs]
    if clash:
        raise InputError(f"--output {output}: would overwrite the input {clash[0]}; choose another folder")


def _refuse_refining(run: Run, wishes: Wishes) -> None:
    """Only a field that a network predicts for the labels to follow can be refined."""
    if wishes.refine < 0:
        raise InputError(f"--refine {wishes.refine}: the number of steps must be at least 0")
    registration = getattr(run.settings, "registration", None)
    if registration is None or not registration.learnt:
        raise InputError(f"{run.folder}: {run.record['method']} has learnt no registration; leave out --refine")
    if wishes.stage != "register":
        raise InputError(f"--refine {wishes.refine}: the student follows no field; add --stage register")


def _says_side(name: str) -> bool:
    return any(word in name.lower() for word in ("left", "right"))


def _computable(run: Run, device: str) -> Run:
    """``run``, on a CPU in a type that it computes in: a GPU may have trained the networks in fp16."""
    if device != "cpu" or run.settings.loop.precision != "fp16":
        return run
    return replace(run, settings=replace(run.settings, loop=replace(run.settings.loop, precision="auto")))


class Worker:
    """The networks of a run, loaded once, and the atlas on the working grid."""

    def __init__(self, run: Run, wishes: Wishes, device: str = "auto") -> None:
        from soloatlas.devices import choose_device
        from soloatlas.training import Session

        chosen = choose_device(device)
        self.run = run = _computable(run, chosen.type)
        self.wishes = wishes
        self.session: Session = Session(run.folder, run.record["seed"], chosen, run.settings.loop)

        def load(name: str) -> dict[str, Tensor]:
            return load_weights(run.folder, name)

        self.register = self.student = None
        if wishes.refine:
            from soloatlas.refinement import refining_registrar

            self.register = refining_registrar(run.settings, load, self.session, wishes.refine)
        elif wishes.stage == "register" or wishes.fields:
            from soloatlas.registration import registrar

            self.register = registrar(run.settings, load, self.session, spacing=run.working.spacing)
        if wishes.stage == "student":
            from soloatlas.segmenter import segmenter

            self.student = segmenter(run.settings, load, run.table.classes, self.session)

    # Only registering needs the atlas on the working grid; the student alone does without.
    @cached_property
    def atlas_image(self) -> Tensor:
        """The prepared atlas, (1, 1, x, y, z) on the device."""
        run = self.run
        return self.tensor(prepare_scan(run.atlas, run.atlas, run.working, run.settings.prepare).image)

    @cached_property
    def atlas_classes(self) -> Tensor:
        """Its class map, (1, 1, x, y, z) int16 on the device."""
        import torch

        run = self.run
        classes = run.table.encode(run.atlas_labels.array)
        prepared = prepare_labels(classes, place(run.atlas_labels.grid, run.working), run.table.classes)
        return torch.from_numpy(prepared.astype(np.int16))[None, None].to(self.session.device)

    def tensor(self, image: np.ndarray) -> Tensor:
        """A prepared (x, y, z) image as (1, 1, x, y, z) on the device."""
        import torch

        return torch.from_numpy(image).float()[None, None].to(self.session.device)

    def prepared(self, scans: Sequence[Path]) -> Iterator[tuple[Volume, Prepared]]:
        """The scans, and on the working grid, brought there as in training, some of them ahead."""
        run = self.run
        return prepare_ahead(scans, run.atlas, run.working, run.settings.prepare, run.atlas_labels)

    def segment(self, scan: Volume, prepared: Prepared, output: Path, name: str) -> np.ndarray:
        """Class map on the scan's own grid; writes the extra files asked for."""
        from soloatlas.inference import native_classes

        image = self.tensor(prepared.image)
        field = self.register(self.atlas_image, image) if self.register else None
        maps = self._probabilities(image, field)
        classes = native_classes(maps, prepared.placement)
        if self.wishes.probabilities:
            self._write_probabilities(maps, prepared, scan, output / "probabilities", name)
        if self.wishes.fields and field is not None:
            write_field(field, prepared.placement, output / "fields", name)
            write_way_to_atlas(field, prepared.placement, output / "fields", name)
        return classes

    def _probabilities(self, image: Tensor, field: Tensor | None) -> Tensor:
        from soloatlas.inference import student_probabilities, warped_atlas_probabilities

        if self.student is None:
            assert field is not None
            return warped_atlas_probabilities(self.atlas_classes, field, self.run.table.classes)
        return student_probabilities(
            self.student,
            image,
            getattr(self.run.settings.student, "patch", ()),
            self.run.settings.loop.precision,
            self.run.table.pairs,
            self.wishes.flip,
        )

    def _write_probabilities(self, maps: Tensor, prepared: Prepared, scan: Volume, folder: Path, name: str) -> None:
        from soloatlas.inference import native_probabilities

        for number, probability in native_probabilities(maps, prepared.placement):
            write_volume(folder / f"{name}_{self.run.table.values[number]:03d}.nii.gz", probability, scan.grid)


def write_pairs(run: Run, output: Path, device: str = "auto", progress: Progress | None = None) -> Path:
    """Write the labelled pairs of a run (Eq. 1) on the working grid.

    ``images/<scan>.nii.gz`` (the warped atlas), ``labels/``, ``scans/`` (the prepared scan each imitates),
    ``fields/``, ``labels.json``, ``grid.json``, and ``synthesise.json``, which says whose they are.

    Raises:
        InputError: a scan of the pool has moved or changed since training, the method does not register, or the
            folder holds pairs of another run or files of others.
    """
    from soloatlas.fields import warp, warp_labels

    if "register" not in run.method.METHOD.stages or not hasattr(run.settings, "registration"):
        raise InputError(f"{run.folder}: {run.record['method']} synthesises nothing")
    paths = [_unchanged(entry) for entry in run.record["inputs"]["unlabelled"]]
    require_writable(output)
    _claim(output, run)
    worker = Worker(run, Wishes(stage="register"), device)
    assert worker.register is not None
    for done, (path, (_, prepared)) in enumerate(zip(paths, worker.prepared(paths), strict=True)):
        if progress:
            progress("synthesise", done, len(paths), path.name)
        field = worker.register(worker.atlas_image, worker.tensor(prepared.image))
        image = warp(worker.atlas_image, field)[0, 0].cpu().numpy()
        classes = warp_labels(worker.atlas_classes, field)[0, 0].cpu().numpy()
        name = f"{scan_name(path)}.nii.gz"
        write_volume(output / "images" / name, image, run.working)
        write_volume(output / "scans" / name, prepared.image, run.working)
        write_volume(output / "labels" / name, run.table.decode(classes), run.working)
        write_field(field, prepared.placement, output / "fields", scan_name(path))
    write_json(output / "labels.json", run.table.to_json())
    write_json(output / "grid.json", grid_to_json(run.working))
    return output


def _claim(output: Path, run: Run) -> None:
    """Mark a folder as that of this run's pairs."""
    require_own(output, "synthesise.json")
    owner, marker = str(run.folder.resolve()), output / "synthesise.json"
    before = read_json(marker)["run"] if marker.exists() else owner
    if before != owner:
        raise InputError(f"--output {output}: holds pairs of {before}; choose another folder")
    write_json(marker, {"run": owner, "versions": versions()})


def _unchanged(entry: dict[str, str]) -> Path:
    path = Path(entry["path"])
    if not path.is_file():
        raise InputError(f"{path}: a scan of the pool is gone; put it back, synthesise needs the pool")
    if file_sha256(path) != entry["sha256"]:
        raise InputError(f"{path}: has changed since training; put the old file back, or train again")
    return path
