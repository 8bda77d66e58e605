"""Classical registration, no learning: ANTs and greedy carry the atlas's labels to a scan.

The scans are registered as they are, on their own grids: nothing is prepared; `ants_field` alone works on prepared
images. One thread and a fixed seed for each scan, so that the same input gives the same labels; scans run side by side
instead.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from soloatlas.atomic import write_array
from soloatlas.data.files import write_volume
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError, RunError
from soloatlas.settings import Loop, Prepare


@dataclass(frozen=True)
class Ants:
    """What ANTsPy is told."""

    transform: Literal["Rigid", "Affine", "SyN", "SyNOnly"] = "SyN"
    metric: Literal["mattes", "meansquares", "CC"] = "mattes"  # of SyN; the linear stages take Mattes
    iterations: tuple[int, ...] = (40, 20, 0)  # of SyN, from coarse to fine; ANTsPy's own
    gradient_step: float = 0.2
    flow_sigma: float = 3.0
    total_sigma: float = 0.0
    labels: Literal["genericLabel", "nearestNeighbor"] = "genericLabel"
    seed: int = 1  # of the random sampling of the linear stages


@dataclass(frozen=True)
class AntsSettings:
    """Of the methods by ANTs; ``prepare`` and ``loop`` only shape what a run records of its atlas."""

    prepare: Prepare = field(default_factory=Prepare)
    ants: Ants = field(default_factory=Ants)
    loop: Loop = field(default_factory=Loop)


@dataclass(frozen=True)
class Greedy:
    """What greedy is told."""

    affine_iterations: tuple[int, ...] = (100, 50, 10)
    iterations: tuple[int, ...] = (100, 50, 10)  # from coarse to fine
    radius: int = 2  # of the patch of the normalised cross-correlation, voxels
    smoothing: tuple[float, float] = (2.0, 0.5)  # voxels: of the update, of the whole warp
    seed: int = 1  # of the samples of the affine stage, and of the noise that its correlation adds; 0: by the clock


@dataclass(frozen=True, eq=False)
class Transferred:
    """The atlas's labels in a scan.

    Attributes:
        labels: file values on the scan's own grid, (x, y, z).
        field: displacement from scan to atlas on that grid, (x, y, z, 3) mm in LPS+; None if not asked for.
    """

    labels: np.ndarray
    field: np.ndarray | None = None


def ants_transfer(atlas: Volume, labels: Volume, scan: Volume, settings: Ants, field: bool = False) -> Transferred:
    """Register the atlas to the scan with ANTsPy and carry its labels over.

    Args:
        atlas, labels: on one grid; ``scan`` on any.
        settings: see `Ants`.
        field: also return the whole displacement (affine part included).

    Raises:
        InputError: ANTsPy is not installed, or a grid is sheared.
        RunError: the registration failed.
    """
    ants = _seeded_ants(settings)
    _require_right_angles(scan, atlas, labels)
    fixed, moving, moving_labels = (_ants_image(volume) for volume in (scan, atlas, labels))
    with tempfile.TemporaryDirectory() as folder:
        try:
            forward = _register(ants, fixed, moving, settings, folder)
            warped = ants.apply_transforms(fixed, moving_labels, forward, interpolator=settings.labels)
            whole = _whole_field(ants, fixed, moving, forward, folder) if field else None
        except Exception as error:  # ANTs raises RuntimeError and ValueError from many places
            raise RunError(f"{scan.path or 'scan'}: ANTs {settings.transform} failed: {error}") from error
    return Transferred(warped.numpy().round().astype(labels.array.dtype), whole)


def ants_field(
    moving: np.ndarray, fixed: np.ndarray, spacing: Sequence[float], settings: Ants, name: str = "scan"
) -> np.ndarray:
    """Displacement (3, x, y, z) on the grid of ``fixed`` pointing into ``moving``, in voxels (affine part included).

    Args:
        moving, fixed: (x, y, z), prepared images on one grid.
        spacing: of the grid, mm.
        settings: see `Ants`.
        name: of the fixed image, for messages.

    Raises:
        InputError: ANTsPy is not installed.
        RunError: the registration failed.
    """
    ants = _seeded_ants(settings)
    target, atlas = (
        ants.from_numpy(np.ascontiguousarray(a, dtype=np.float32), spacing=list(spacing)) for a in (fixed, moving)
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            forward = _register(ants, target, atlas, settings, folder)
            mm = _whole_field(ants, target, atlas, forward, folder)
        except Exception as error:  # ANTs raises RuntimeError and ValueError from many places
            raise RunError(f"{name}: ANTs {settings.transform} failed: {error}") from error
    in_voxels: np.ndarray = np.moveaxis(mm / np.asarray(spacing), -1, 0)
    return in_voxels


def write_ants_field(
    job: tuple[np.ndarray, Path], moving: np.ndarray, spacing: Sequence[float], settings: Ants
) -> None:
    """Write `ants_field` of a (scan, path) as float16: half a thousandth of a displacement of one voxel is nothing."""
    scan, path = job
    write_array(path, ants_field(moving, scan, spacing, settings, path.stem).astype(np.float16))


def _seeded_ants(settings: Ants) -> Any:
    """ANTsPy on one thread, its random numbers seeded."""
    # Read when ITK is loaded; several threads would not always give the same, whatever the user's shell says.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    try:
        import ants
    except ImportError as error:
        raise InputError("registration by ANTs needs ANTsPy; pip install 'soloatlas[ants]'") from error
    # The only way to a seed: `registration` takes a random_seed and ignores it (ANTsPy 0.6.3).
    ants.config.set_ants_deterministic(on=False, seed_value=settings.seed)
    return ants


def _register(ants: Any, fixed: Any, moving: Any, settings: Ants, folder: str) -> list[str]:
    """Files of the transforms that carry the moving image to the fixed one."""
    found: dict[str, list[str]] = ants.registration(
        fixed,
        moving,
        type_of_transform=settings.transform,
        outprefix=str(Path(folder) / "to_scan_"),
        reg_iterations=settings.iterations,
        syn_metric=settings.metric,
        syn_sampling=4 if settings.metric == "CC" else 32,  # the radius of a window; or bins, ANTsPy's own default
        grad_step=settings.gradient_step,
        flow_sigma=settings.flow_sigma,
        total_sigma=settings.total_sigma,
    )
    return found["fwdtransforms"]


def _whole_field(ants: Any, fixed: Any, moving: Any, forward: list[str], folder: str) -> np.ndarray:
    """All transforms as one displacement on the fixed grid, (x, y, z, 3) mm in LPS+."""
    composed = ants.apply_transforms(fixed, moving, forward, compose=str(Path(folder) / "whole_"))
    array: np.ndarray = ants.image_read(composed).numpy()
    return array


def _ants_image(volume: Volume) -> Any:
    """As ANTsPy reads the file itself, where it reads the same: its spacing differs from the affine's in the last bits.

    Where sform and qform differ, or neither is set, ITK may read another grid than the rest of the program.
    """
    import ants

    if volume.path is not None and volume.path.is_file():
        with contextlib.suppress(RuntimeError, ValueError):  # a header that ITK refuses
            image = ants.image_read(str(volume.path))
            if _is_same(image, volume):
                return image
    spacing, origin, direction = volume.grid.itk()
    array = np.ascontiguousarray(volume.array, dtype=np.float32)
    return ants.from_numpy(array, origin=origin.tolist(), spacing=list(spacing), direction=direction)


def _is_same(image: Any, volume: Volume) -> bool:
    """Whether an ANTs image has the volume's values on the volume's grid."""
    spacing, origin, direction = volume.grid.itk()
    return (
        image.shape == volume.array.shape
        and np.allclose(image.spacing, spacing, rtol=0, atol=1e-4)
        and np.allclose(image.origin, origin, rtol=0, atol=1e-2)
        and np.allclose(image.direction, direction, rtol=0, atol=1e-4)
        and np.array_equal(image.numpy(), volume.array.astype(np.float32))
    )


def _require_right_angles(*volumes: Volume) -> None:
    """Refuse sheared grids (CT with a tilted gantry), which ITK's images cannot have."""
    for volume in volumes:
        if volume.grid.shear() > 1e-3:
            raise InputError(
                f"{volume.path or 'scan'}: its axes are not at right angles (a tilted gantry?), which ITK's images "
                "cannot have; resample it, or use a method that learns"
            )


def greedy_transfer(atlas: Volume, labels: Volume, scan: Volume, settings: Greedy, field: bool = False) -> Transferred:
    """Register the atlas to the scan with greedy (affine, then deformable) and carry its labels over.

    Raises:
        InputError: greedy is not installed, or a grid is sheared.
        RunError: the registration failed.
    """
    try:
        from picsl_greedy import Greedy3D
    except ImportError as error:
        raise InputError("this method needs greedy; pip install 'soloatlas[ants]'") from error
    import SimpleITK

    _require_right_angles(scan, atlas, labels)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, volume in (("scan", scan), ("atlas", atlas), ("labels", labels)):
            write_volume(folder / f"{part}.nii.gz", volume.array.astype(np.float32), volume.grid)
        f, a = folder / "scan.nii.gz", folder / "atlas.nii.gz"
        by_levels, warped = "x".join(map(str, settings.iterations)), folder / "carried.nii.gz"
        linear = "x".join(map(str, settings.affine_iterations))
        first, second = settings.smoothing
        radius = "x".join([str(settings.radius)] * 3)
        commands = [
            f"-i {f} {a} -a -dof 12 -m NCC {radius} -n {linear} -ia-image-centers -o {folder}/affine.mat",
            f"-i {f} {a} -it {folder}/affine.mat -m NCC {radius} -n {by_levels} "
            f"-s {first}vox {second}vox -o {folder}/warp.nii.gz",
            f"-rf {f} -ri LABEL 0.2vox -rm {folder}/labels.nii.gz {warped} -rc {folder}/whole.nii.gz "
            f"-r {folder}/warp.nii.gz {folder}/affine.mat",
        ]
        try:
            for command in commands:
                request = f"-d 3 -V 0 -threads 1 -seed {settings.seed} {command}"
                Greedy3D().execute(request, out=sys.stderr, err=sys.stderr)  # not among the user's results
        except Exception as error:  # greedy raises its own exception type, which it does not export
            raise RunError(f"{scan.path or 'scan'}: greedy failed: {error}") from error
        carried = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(warped))).transpose(2, 1, 0)
        whole = SimpleITK.ReadImage(str(folder / "whole.nii.gz")) if field else None
        vectors = SimpleITK.GetArrayFromImage(whole).transpose(2, 1, 0, 3) if whole is not None else None
    return Transferred(carried.round().astype(labels.array.dtype), vectors)
