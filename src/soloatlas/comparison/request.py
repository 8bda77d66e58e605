"""What is asked of every method of a comparison, and what each may see of the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from soloatlas.data.study import Study, with_more_atlases
from soloatlas.errors import InputError
from soloatlas.evaluation import EVERY_LABEL, Scoring
from soloatlas.methods import Method, available_methods, lacks_modules, load_method
from soloatlas.settings import applicable, require_applicable


@dataclass(frozen=True)
class Request:
    """What is asked of every method.

    Attributes:
        preset: of its settings; ``changes`` to them: ``key=value`` where a method has the setting, and
            ``method:key=value`` for one method alone.
        seeds: each method is trained with each.
        minutes: of training, filled by every method that trains; 0: as long as the steps take.
        reference: the method that others are tested against; empty: os-medseg where it takes part, else the first.
        scoring: of the study's test scans.
        atlases: labelled scans that a multi-atlas method gets: the atlas, and others from the labelled pool.
    """

    preset: str = "quick"
    changes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    minutes: float = 0.0
    reference: str = ""
    scoring: Scoring = EVERY_LABEL
    atlases: int = 5


def chosen_methods(study: Study, methods: Sequence[str] | None, request: Request) -> list[str]:
    """The methods asked for; None: every installed one that the study suffices for.

    Raises:
        InputError: an unknown method, or one that needs what the study lacks.
    """
    known = available_methods()
    if methods is None:
        return [name for name, m in known.items() if not _lacking(study, m, request)]
    for name in methods:
        lacking = _lacking(study, load_method(name).METHOD, request)
        if lacking:
            raise InputError(f"compare: {name} {lacking}")
    return list(methods)


def chosen_reference(names: Sequence[str], asked: str) -> str:
    """The method that the others are tested against."""
    if asked and asked not in names:
        raise InputError(f"--reference {asked}: not among the methods to compare ({', '.join(names)})")
    return asked or ("os-medseg" if "os-medseg" in names else names[0])


def _lacking(study: Study, method: Method, request: Request) -> str:
    """What a method needs and the study or this machine has not; empty where nothing is missing."""
    if method.pool == "labelled" and not study.pool_labels:
        return "learns from the pool's labels; give --pool-labels DIR"
    if method.atlases == "several" and not study.pool_labels:
        return "takes further atlases from the pool; give --pool-labels DIR"
    taken = request.atlases - 1 if method.atlases == "several" else 0
    if len(study.unlabelled) < method.least + taken:
        return f"needs {method.least + taken} scans in the pool; give more" + (", or fewer --atlases" if taken else "")
    return lacks_modules(method)


def study_for(method: Method, study: Study, request: Request) -> Study:
    """The study as a method may see it: labels of the pool for the bound, some as atlases, or none."""
    if method.pool == "labelled":
        return study
    if method.atlases == "one":
        return replace(study, pool_labels=())
    return with_more_atlases(study, request.atlases - 1)


def changes_for(name: str, request: Request) -> list[str]:
    """The request's changes that this method's settings have, its own after everyone's, and its time."""
    shared, own = _shared_and_own(request.changes)
    wanted = applicable(load_method(name).preset(request.preset), shared)
    wanted += [change for method, change in own if method == name]
    return [*wanted, f"loop.minutes={request.minutes}", "loop.fill=true"] if request.minutes else wanted


def require_changes_used(names: Sequence[str], request: Request) -> None:
    """Refuse a change that none of these methods takes.

    Raises:
        InputError: naming the change.
    """
    shared, own = _shared_and_own(request.changes)
    require_applicable([load_method(name).preset(request.preset) for name in names], shared)
    for method, change in own:
        if method not in names:
            raise InputError(f"--set {method}:{change}: {method} is not among the methods here ({', '.join(names)})")


def _shared_and_own(changes: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Changes for every method, and for one method with its name."""
    shared, own = [], []
    for change in changes:
        method, colon, rest = change.partition(":")
        if colon and "=" not in method:
            own.append((method, rest))
        else:
            shared.append(change)
    return shared, own
