"""One training from a study to a finished run folder: what is recorded, and when."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.atomic import replacing, require_own, write_csv
from soloatlas.data.files import file_sha256, read_labels, read_volume
from soloatlas.data.study import Study
from soloatlas.errors import InputError
from soloatlas.machine import about_machine, forget_peak_memory, peak_memory
from soloatlas.runs import (
    FORMAT,
    GENERATION,
    command_line,
    read_record,
    same_generation,
    save_weights,
    store_atlas,
    store_more_atlases,
    versions,
    write_record,
)
from soloatlas.settings import essential, flat, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from soloatlas.data.check import Finding
    from soloatlas.material import Material
    from soloatlas.prepare import PreparedStudy
    from soloatlas.training import Progress, Session, Trial

log = logging.getLogger("soloatlas")

SAMPLES = 4  # pairs of the pool kept for the report


@dataclass(eq=False)
class TrainingRun:
    """A run in the making."""

    study: Study
    folder: Path
    method: ModuleType
    settings: Any
    record: dict[str, Any]
    prepared: PreparedStudy | None = None
    networks: dict[str, nn.Module] = field(default_factory=dict)
    begun: bool = False  # in an earlier sitting
    trial: Trial | None = None  # a few steps of each stage are all that is wanted

    @classmethod
    def begin(
        cls,
        study: Study,
        folder: Path,
        method: ModuleType,
        preset: str,
        settings: Any,
        seed: int,
        resume: bool,
    ) -> TrainingRun:
        """Read what the folder holds; nothing is written yet.

        Raises:
            InputError: the folder holds a run and ``resume`` is off, one of another request, or other files.
        """
        record = _new_record(study, method, preset, settings, seed)
        if (folder / "run.json").exists():
            old = read_record(folder)
            if not resume:
                raise InputError(
                    f"{folder}: already holds a run; add --resume to go on with it, or choose another --output"
                )
            if not same_generation(old):
                raise InputError(
                    f"{folder}: begun by another version of soloatlas, which trained otherwise; train anew"
                )
            if old["fingerprint"] != record["fingerprint"]:
                raise InputError(
                    f"{folder}: holds a run of other {_difference(old, record)}; give what its run.json has to "
                    "--resume, or choose another --output"
                )
            record = old
        if not (resume and (folder / "checkpoints").is_dir()):  # another run's registration may be there to begin with
            require_own(folder, "run.json")
        return cls(study, folder, method, settings, record, begun=(folder / "run.json").exists())

    def start(self, findings: Sequence[Finding]) -> None:
        """Make the folder and its record, and log what `check` found."""
        record = self.record
        forget_peak_memory()
        write_record(self.folder, record)
        _log_to(self.folder / "log.txt")
        log.info("%s: %s, preset %s, seed %d", self.study.name, record["method"], record["preset"], record["seed"])
        for finding in findings:
            log.info("%s: %s: %s (%s)", finding.level, finding.where, finding.problem, finding.consequence)

    def withdraw(self) -> None:
        """Take back the record of a request that was refused before anything was learnt, or it would bar the next."""
        if not self.begun and not (self.folder / "checkpoints").exists():
            _let_log_go()
            for name in ("run.json", "log.txt", "metrics.csv"):
                (self.folder / name).unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.record["state"] == "finished")

    def session(self, progress: Progress | None) -> Session:
        """Where and how the networks are trained; begun as long ago as earlier sittings trained."""
        from soloatlas.devices import choose_device, choose_precision
        from soloatlas.processes import started_processes
        from soloatlas.training import Session, seconds_trained

        loop = self.settings.loop
        device = choose_device(loop.device)
        self.record["device"] = str(device)
        self.record["precision"] = str(choose_precision(loop.precision, device)).removeprefix("torch.")
        return Session(
            self.folder,
            self.record["seed"],
            device,
            loop,
            progress,
            began=time.monotonic() - seconds_trained(self.folder),
            trial=self.trial,
            processes=started_processes(),
        )

    def prepare(self, cache: Path | None, progress: Progress | None) -> None:
        """Bring atlas and pool onto the working grid."""
        from soloatlas.prepare.grids import grid_to_json
        from soloatlas.progress import counting

        start = time.monotonic()
        self.prepared = self._prepare_study(cache, counting(progress, "prepare"))
        told = "%s: does not align with the atlas (similarity %.2f): look at it, or leave it out"
        for scan in self.prepared.scans:
            if not scan.aligned:
                log.warning(told, scan.name, scan.score)
        self._look_for_structures()
        self.record["grid"] = grid_to_json(self.prepared.working)
        self.record["pool"] = [
            {"name": s.name, "similarity": round(s.score, 4), "aligned": s.aligned} for s in self.prepared.scans
        ]
        self._took("prepare", start)

    def _look_for_structures(self) -> None:
        """Name the structures of which the working grid holds no voxel; they cannot be learnt.

        Raises:
            InputError: it holds none at all.
        """
        assert self.prepared is not None
        table, present = self.prepared.table, set(np.unique(self.prepared.atlas_labels).tolist())
        lost = [name for number, name in enumerate(table.names) if number and number not in present]
        remedy = "a finer --spacing, or a larger prepare.size, would hold them"
        if len(lost) == table.classes - 1:
            raise InputError(f"{self.study.atlas_labels}: no structure is left on the working grid; {remedy}")
        if lost:
            log.warning("not on the working grid, so never segmented: %s; %s", ", ".join(lost), remedy)

    def _prepare_study(self, cache: Path | None, watch: Callable[[int, int], None] | None = None) -> PreparedStudy:
        """Atlas and pool on the working grid, the pool left out where the method does not look at it."""
        from soloatlas.prepare import prepare_study

        study = replace(self.study, unlabelled=()) if self.method.METHOD.pool == "none" else self.study
        return prepare_study(study, self.settings.prepare, cache=cache or default_cache(), progress=watch)

    def learn(self, progress: Progress | None) -> None:
        """Train the networks and measure the fields on the pool."""
        assert self.prepared is not None
        session = self.session(progress)
        material = material_of(self.prepared, session, self.study)
        self.prepared = replace(self.prepared, scans=())  # the material has them, and they are large
        self.train(material, session)
        self.measure_fields(material, session)

    def train(self, material: Material, session: Session) -> None:
        """Train the networks on this material and keep their weights."""
        self._fit_to_memory(material, session)
        session.processes.wait()  # all is ready for those that assist
        self.networks = self.method.train(material, self.settings, session)
        if session.paused:
            self._took("register", time.monotonic() - sum(session.paused))
        self._took("learn", session.started())  # in all sittings
        save_weights(self.folder, self.networks)
        self.record["parameters"] = {
            name: sum(p.numel() for p in net.parameters()) for name, net in self.networks.items()
        }

    def assist(self, cache: Path | None) -> None:
        """Train along with the first process, which prepares the scans and writes everything."""
        session = self.session(None)
        session.processes.wait()
        self.record = read_record(self.folder)
        self._keep_to_decision()
        prepared = self._prepare_study(cache)
        self.method.train(material_of(prepared, session, self.study), self.settings, session)

    def _fit_to_memory(self, material: Material, session: Session) -> None:
        """Train on patches where the whole grid does not fit; a resumed run keeps to the first decision."""
        from soloatlas.devices import free_memory
        from soloatlas.segmenter import fit_to_memory

        if not hasattr(self.settings, "student"):
            return
        if "adapted" not in self.record:
            asked, room = to_dict(self.settings), free_memory(session.device)
            adapted = fit_to_memory(self.settings, material.shape, material.class_count, room)
            if to_dict(adapted) != asked and not self.method.METHOD.patches:
                log.warning("the working grid may not fit into memory, and %s takes no patches", self.record["method"])
                adapted = self.settings
            self.record |= {"adapted": to_dict(adapted) != asked, "settings": to_dict(adapted)}
            if self.record["adapted"]:
                log.warning("not enough memory for the whole grid: training on patches of %s", adapted.student.patch)
        self._keep_to_decision()
        write_record(self.folder, self.record)

    def _keep_to_decision(self) -> None:
        """Take the patch that was decided on when memory was looked at."""
        from soloatlas.settings import merge

        if self.record.get("adapted"):
            patch = {"student": {"patch": self.record["settings"]["student"]["patch"]}}
            self.settings = merge(self.settings, patch)

    def measure_fields(self, material: Material, session: Session) -> None:
        """Write fields.csv (folding, SDlogJ, similarity) and samples.npz (pairs for the report)."""
        from soloatlas.quality import describe_field

        start = time.monotonic()
        states = {name: net.state_dict() for name, net in self.networks.items()}
        field_to = self._fields_of_pool(states, material, session)
        if field_to is None:
            return
        reverse = None
        if hasattr(self.method, "reverser"):
            reverse = self.method.reverser(self.settings, states.__getitem__, session)
        rows: list[dict[str, Any]] = []
        samples: dict[str, np.ndarray] = {}
        for i, name in enumerate(material.names):
            row, pair = describe_field(material, i, field_to(i), reverse)
            rows.append({"scan": name, **row})
            if i < SAMPLES:
                samples |= {f"{kind}_{i}": array for kind, array in pair.items()}
        write_csv(self.folder / "fields.csv", [list(rows[0]), *(row.values() for row in rows)])
        with replacing(self.folder / "samples.npz") as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **samples)
        self._took("measure fields", start)

    def _fields_of_pool(
        self, states: dict[str, Any], material: Material, session: Session
    ) -> Callable[[int], Tensor] | None:
        """What gives the field to a scan of the pool by its number; None where the method has no fields."""
        if "registration" in states:
            from soloatlas.registration import registrar

            register = registrar(self.settings, states.__getitem__, session)
            return lambda item: register(material.atlas, material.scans([item]))
        registration = getattr(self.settings, "registration", None)
        if registration is not None and not registration.learnt:
            from soloatlas.syn_fields import SynFields

            return SynFields(material, session).__getitem__  # training has made them
        return None

    def finish(self) -> None:
        """Store the atlas, its ceiling and the record; from here the folder is a finished run."""
        assert self.prepared is not None
        from soloatlas.quality import ceiling

        atlas, labels = read_volume(self.study.atlas), read_labels(self.study.atlas_labels)
        table = self.prepared.table
        store_atlas(self.folder, atlas, labels, table)
        store_more_atlases(self.folder, [(read_volume(a), read_labels(b)) for a, b in self.study.more_atlases])
        self.record["ceiling"] = ceiling(self.prepared, labels)
        self.record["peak_memory_gb"] = round(peak_memory() / 1e9, 2)
        self.record["state"] = "finished"
        write_record(self.folder, self.record)
        log.info("finished: %s", self.folder)

    def _took(self, part: str, start: float) -> None:
        seconds = time.monotonic() - start
        self.record["seconds"][part] = round(seconds, 2)
        write_record(self.folder, self.record)
        log.info("%s: %.1f s", part, seconds)


def material_of(prepared: PreparedStudy, session: Session, study: Study) -> Material:
    """The prepared study as tensors on the session's device, with labels of the pool if the study has them."""
    from soloatlas.material import make_material
    from soloatlas.prepare import prepare_pool_labels

    return make_material(
        prepared.atlas.image,
        prepared.atlas_labels,
        [scan.image for scan in prepared.scans],
        [scan.name for scan in prepared.scans],
        prepared.table.classes,
        prepared.working.spacing,
        session.device,
        prepare_pool_labels(prepared, study) if study.pool_labels else None,
    )


def default_cache() -> Path:
    """Where prepared scans are kept: ``soloatlas/prepared`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "soloatlas" / "prepared"


def _new_record(study: Study, method: ModuleType, preset: str, settings: Any, seed: int) -> dict[str, Any]:
    inputs = {
        "atlas": _input(study.atlas),
        "atlas_labels": _input(study.atlas_labels),
        "unlabelled": [_input(path) for path in study.unlabelled],
    }
    if study.pool_labels:
        inputs["pool_labels"] = [_input(path) for path in study.pool_labels]
    if study.more_atlases:
        inputs["more_atlases"] = [_input(path) for pair in study.more_atlases for path in pair]
    names = file_sha256(study.label_names) if study.label_names else ""
    # What is left out of it may change between two sittings of a run.
    asked = [method.METHOD.name, essential(to_dict(settings)), seed, _hashes(inputs), names]
    return {
        "format": FORMAT,
        "generation": GENERATION,
        "state": "training",
        "method": method.METHOD.name,
        "preset": preset,
        "settings": to_dict(settings),
        "seed": seed,
        "study": study.name,
        "one_shot": not (study.pool_labels or study.more_atlases),
        "inputs": inputs,
        "label_names": str(study.label_names) if study.label_names else "",
        "fingerprint": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        "command": command_line(),
        "machine": about_machine(),
        "versions": versions(),
        "seconds": {},
    }


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first thing in which two records differ, in words."""
    for key in ("method", "preset", "seed"):
        if old.get(key) != new[key]:
            return f"{key} ({old.get(key)}, not {new[key]})"
    before, now = (flat(essential(record["settings"])) for record in (old, new))
    for key in now:
        if before.get(key) != now[key]:
            return f"settings ({key}={before.get(key)}, not {now[key]})"
    names = [name for name in new["inputs"] if old["inputs"].get(name) != new["inputs"][name]]
    return f"inputs ({names[0]})" if names else "inputs or label names"


def _input(path: Path) -> dict[str, str]:
    # Not where a link leads: the scans of a cohort are known by the names of their links.
    return {"path": str(Path(path).absolute()), "sha256": file_sha256(path)}


def _hashes(inputs: dict[str, Any]) -> list[str]:
    files = [inputs["atlas"], inputs["atlas_labels"], *inputs["unlabelled"]]
    files += [*inputs.get("pool_labels", []), *inputs.get("more_atlases", [])]
    return [file["sha256"] for file in files]


def _let_log_go() -> None:
    """Write the log to no file any more."""
    for handler in list(log.handlers):
        if isinstance(handler, logging.FileHandler):
            log.removeHandler(handler)
            handler.close()


def _log_to(path: Path) -> None:
    """Also write the log to ``path``, and to no file of an earlier run in this process."""
    _let_log_go()
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
