"""soloatlas: one labelled scan in, a segmenter out.

The verbs of the command line, as functions: `train`, `plan`, `segment`, `synthesise`, `evaluate`,
`check_study`, `choose_atlas`, `write_report`, `available_methods`; and what they are given and give back: `Study`,
`read_study`, `make_study`, `open_run`, `InputError`, `RunError`. Names are imported when first used, so
``import soloatlas`` is quick.
"""

from importlib import import_module, metadata
from typing import Any

_HOMES = {
    "train": "pipeline",
    "plan": "pipeline",
    "segment": "pipeline",
    "synthesise": "pipeline",
    "write_report": "pipeline",
    "evaluate": "evaluation",
    "check_study": "data.check",
    "choose_atlas": "prepare",
    "available_methods": "methods",
    "Study": "data.study",
    "read_study": "data.study",
    "make_study": "data.study",
    "open_run": "runs",
    "InputError": "errors",
    "RunError": "errors",
}

__version__ = metadata.version("soloatlas")
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"soloatlas.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'soloatlas' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
