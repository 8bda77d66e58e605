"""The straight line: study, prepare, register, synthesise, distil, segment, evaluate, report.

Each verb of the command line is one function here; the Python API is these functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from soloatlas.atomic import held, no_empty_folders
from soloatlas.data.check import Finding, check_study
from soloatlas.data.study import Study, as_study
from soloatlas.errors import InputError
from soloatlas.methods import Method, lacks_modules, load_method, settings_of
from soloatlas.settings import PRESETS

if TYPE_CHECKING:
    from soloatlas.planning import Plan
    from soloatlas.training import Progress


def train(
    study: Study | str | Path,
    output: str | Path,
    method: str = "os-medseg",
    preset: str = "quick",
    changes: Sequence[str] = (),
    seed: int = 0,
    resume: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a method on a study and leave a self-sufficient run folder.

    Args:
        study: the labelled atlas and the unlabelled pool; or their folder, as `read_study` takes it.
        output: the run folder; must not hold a run unless ``resume``.
        method: name of the method; ``preset`` of its settings.
        changes: ``key=value`` settings, as given to ``--set``.
        seed: of every random draw.
        resume: go on with a run that was stopped; ends with the result of an unstopped one.
        cache: where prepared scans are kept (default: the user's cache folder).
        progress: told how far each part is.

    Returns:
        The run folder.

    Raises:
        InputError: the study or the request is wrong.
        RunError: training failed.
    """
    from soloatlas.devices import find_device
    from soloatlas.processes import joined_processes
    from soloatlas.runs import open_run
    from soloatlas.training_run import TrainingRun

    study = as_study(study)
    module, settings = requested(study, method, preset, changes)
    with joined_processes(settings.loop.accumulate, find_device(settings.loop.device).type) as processes:
        run = TrainingRun.begin(study, Path(output), module, preset, settings, seed, resume or not processes.first)
        if run.finished:
            return open_run(output).folder
        if not processes.first:
            run.assist(cache)
            return Path(output)
        findings = refuse_bad_study(study)  # before anything is written
        with no_empty_folders(Path(output)), held(output):
            run.start(findings)
            try:
                run.prepare(cache, progress)
                run.learn(progress)
            except InputError:  # what no look at the study alone could tell
                run.withdraw()
                raise
    run.finish()
    write_report(output)
    return Path(output)


def plan(
    study: Study | str | Path,
    method: str = "os-medseg",
    preset: str = "quick",
    changes: Sequence[str] = (),
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Plan:
    """What `train` with the same arguments will take here: time, memory, disk; measured on a few steps of every stage.

    Raises:
        InputError: the study or the request is wrong.
        RunError: a step failed.
    """
    from soloatlas.planning import plan_training
    from soloatlas.training_run import default_cache

    study = as_study(study)
    module, settings = requested(study, method, preset, changes)
    refuse_bad_study(study)
    return plan_training(study, module, preset, settings, seed, cache or default_cache(), progress)


def requested(study: Study, method: str, preset: str, changes: Sequence[str]) -> tuple[ModuleType, Any]:
    """The method's module and its settings, once they, the study and the machine are known to fit one another.

    Raises:
        InputError: they do not.
    """
    from soloatlas.devices import choose_precision, find_device

    module = load_method(method)
    if preset not in PRESETS:
        raise InputError(f"--preset {preset}: not one of {', '.join(PRESETS)}")
    settings = settings_of(module, preset, changes)
    module.validate(settings)
    _fit_for(study, module.METHOD)
    choose_precision(settings.loop.precision, find_device(settings.loop.device))
    return module, settings


def _fit_for(study: Study, method: Method) -> None:
    """Refuse a study that lacks what the method needs, or has labels that it must not see, and a missing extra."""
    if lacking := lacks_modules(method):
        raise InputError(f"--method {method.name} {lacking}")
    if len(study.unlabelled) < method.least:
        raise InputError(f"--method {method.name} needs {method.least} unlabelled scans, not {len(study.unlabelled)}")
    if method.pool == "labelled" and not study.pool_labels:
        raise InputError(f"--method {method.name} learns from the pool's labels; give --pool-labels DIR")
    if study.pool_labels and method.pool != "labelled":
        raise InputError(f"--method {method.name} is one-shot and reads no label of the pool; leave out --pool-labels")
    if method.atlases == "several" and not study.more_atlases:
        raise InputError(f"--method {method.name} needs two atlases or more; repeat --atlas and --atlas-labels")
    if study.more_atlases and method.atlases == "one":
        raise InputError(f"--method {method.name} takes one atlas; give --atlas and --atlas-labels once")


def refuse_bad_study(study: Study) -> list[Finding]:
    """What `check` finds, if there is no error among it.

    Raises:
        InputError: the study has an error; the first is named and the others are counted.
    """
    findings = check_study(study)
    errors = [f for f in findings if f.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: run soloatlas check)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0].where}: {errors[0].problem}; {errors[0].consequence}{more}")
    return findings


def segment(
    run: str | Path,
    inputs: str | Path | Iterable[str | Path],
    output: str | Path,
    stage: str = "",
    save_fields: bool = False,
    save_probabilities: bool = False,
    flip: bool = False,
    largest_component: bool = False,
    refine: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Segment scans with a finished run, each on its own grid; see `soloatlas.segmentation.segment_scans`.

    ``refine``: steps of gradient descent on each field that a network predicts, with stage ``register``.
    """
    from soloatlas.runs import open_run
    from soloatlas.segmentation import Wishes, segment_scans

    wishes = Wishes(stage, save_fields, save_probabilities, flip, largest_component, refine)
    given = [inputs] if isinstance(inputs, (str, Path)) else inputs
    return segment_scans(open_run(run), [Path(p) for p in given], Path(output), wishes, device, progress)


def synthesise(run: str | Path, output: str | Path, device: str = "auto", progress: Progress | None = None) -> Path:
    """Write the labelled pairs of a run and their fields as files; see `soloatlas.segmentation`."""
    from soloatlas.runs import open_run
    from soloatlas.segmentation import write_pairs

    return write_pairs(open_run(run), Path(output), device, progress)


def write_report(run: str | Path, evaluations: Iterable[str | Path] = ()) -> Path:
    """Write the run's report.html anew, with evaluations of its segmentations (folders of `evaluate`).

    Without ``evaluations`` those of the last report are shown again.

    Raises:
        InputError: no run, no evaluation, or one of another run's segmentations.
    """
    from soloatlas.reporting import render_report
    from soloatlas.reporting.contents import require_scores_of
    from soloatlas.runs import read_record, write_record

    record = read_record(Path(run))
    folders = [Path(folder).resolve() for folder in evaluations]
    require_scores_of(Path(run), folders)
    if folders:
        write_record(Path(run), {**record, "evaluations": [str(folder) for folder in folders]})
    else:
        folders = [Path(folder) for folder in record.get("evaluations", []) if Path(folder).is_dir()]
    return render_report(Path(run), folders)
