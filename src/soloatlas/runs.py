"""A run folder: everything `segment` needs, and where each thing in it is written and read.

``run.json`` (inputs with hashes, settings, versions, seed, device, command), ``atlas.nii.gz``,
``atlas_labels.nii.gz``, ``labels.json``, ``metrics.csv``, ``fields.csv``, ``samples.npz``, ``log.txt``,
``weights.safetensors``, ``report.html``, ``checkpoints/`` (what --resume goes on from).
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from soloatlas.atomic import read_json, whole_files, write_json, write_tensors
from soloatlas.data.files import read_labels, read_volume, write_volume
from soloatlas.data.labels import LabelTable
from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.settings import from_dict

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1  # of the run folder; raised when an older program could not read a new one
GENERATION = 2  # of training; raised when the same settings come to give other results: no older run is reused


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, opened.

    Attributes:
        folder: where it lies.
        record: the content of run.json.
        method: the module of its method; ``settings`` its settings.
        table: label values, names and sides.
        atlas, atlas_labels: as they were given.
        working: the working grid.
    """

    folder: Path
    record: dict[str, Any] = field(repr=False)
    method: ModuleType = field(repr=False)
    settings: Any = field(repr=False)
    table: LabelTable = field(repr=False)
    atlas: Volume = field(repr=False)
    atlas_labels: Volume = field(repr=False)
    working: Grid = field(repr=False)


def same_generation(record: dict[str, Any]) -> bool:
    """Whether this program would train the run of ``record`` to the same weights, as far as it knows."""
    return bool(record.get("generation") == GENERATION)


def versions() -> dict[str, str]:
    """Versions of the program and of what it computes with."""
    names = ("soloatlas", "torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK", "antspyx", "picsl-greedy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write run.json."""
    write_json(folder / "run.json", record)


def read_record(folder: Path) -> dict[str, Any]:
    """The content of run.json.

    Raises:
        InputError: the folder is no run, is damaged, or was made by another version.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise InputError(f"{folder}: not a run folder (no run.json); give the --output of soloatlas train")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = record["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged run record; train again") from error
    if found != FORMAT:
        made = record.get("versions", {}).get("soloatlas", "another version")
        raise InputError(
            f"{folder}: made by soloatlas {made} (run format {found}, this program reads {FORMAT}); "
            "train again, or use that version"
        )
    return record


def open_run(folder: str | Path) -> Run:
    """Open a finished run.

    Raises:
        InputError: no run, unfinished, damaged, from another version, or of a method not installed here.
    """
    from soloatlas.methods import load_method
    from soloatlas.prepare.grids import grid_from_json

    folder = Path(folder)
    record = read_record(folder)
    if record.get("state") != "finished":
        raise InputError(f"{folder}: training has not finished; go on with soloatlas train ... --resume")
    method = load_method(record["method"])
    table = LabelTable.from_json(read_json(folder / "labels.json"))
    return Run(
        folder=folder,
        record=record,
        method=method,
        settings=from_dict(method.Settings, record["settings"], where=str(folder / "run.json")),
        table=table,
        atlas=read_volume(folder / "atlas.nii.gz"),
        atlas_labels=read_labels(folder / "atlas_labels.nii.gz"),
        working=grid_from_json(record["grid"]),
    )


def store_atlas(folder: Path, atlas: Volume, labels: Volume, table: LabelTable) -> None:
    """Keep the atlas with the run, so that `segment` can repeat the preparation."""
    write_volume(folder / "atlas.nii.gz", atlas.array, atlas.grid, like=atlas)
    write_volume(folder / "atlas_labels.nii.gz", labels.array, labels.grid, like=labels)
    write_json(folder / "labels.json", table.to_json())


def store_more_atlases(folder: Path, pairs: Sequence[tuple[Volume, Volume]]) -> None:
    """Keep further atlases of a multi-atlas method: ``atlases/<number>.nii.gz`` and ``<number>_labels.nii.gz``."""
    for number, (image, labels) in enumerate(pairs, start=2):
        write_volume(folder / "atlases" / f"{number}.nii.gz", image.array, image.grid, like=image)
        write_volume(folder / "atlases" / f"{number}_labels.nii.gz", labels.array, labels.grid, like=labels)


def read_more_atlases(folder: Path) -> list[tuple[Volume, Volume]]:
    """What `store_more_atlases` wrote, in its order."""
    images = sorted(
        (path for path in whole_files(folder / "atlases", "*.nii.gz") if "_labels" not in path.name),
        key=lambda path: int(path.name.split(".")[0]),
    )
    return [
        (read_volume(path), read_labels(path.with_name(path.name.replace(".nii", "_labels.nii")))) for path in images
    ]


def save_weights(folder: Path, networks: dict[str, nn.Module]) -> None:
    """Write all networks to weights.safetensors, each tensor named network.parameter."""
    tensors = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    write_tensors(folder / "weights.safetensors", tensors)


def load_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """State of the network ``name`` of a run.

    Raises:
        InputError: the file is missing or damaged, or holds no such network.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / "weights.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(f"{name}.")]  # noqa: SIM118 - not a dict
            state = {key.removeprefix(f"{name}."): file.get_tensor(key) for key in keys}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read; train again") from error
    if not state:
        raise InputError(f"{path}: holds no network '{name}' (this method does not make one)")
    return state
