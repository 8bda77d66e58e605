"""A simulated cohort from real anatomy: the MNI152 template that nilearn ships, deformed at random.

The template (ICBM 2009a nonlinear symmetric, skull-stripped T1 with grey- and white-matter maps; Fonov et
al. 2011) is the average of many people, so every simulated scan has the same folds; what differs between the
scans is shape, contrast, bias field, noise and grid. Good for seeing the program run, not for claims about
patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from soloatlas import atomic
from soloatlas.data.files import write_volume
from soloatlas.data.study import Study, read_study
from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError

LABELS = {
    1: "left grey matter",
    2: "right grey matter",
    3: "left white matter",
    4: "right white matter",
    5: "ventricles and other fluid",
}
KINDS = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2}  # of each label: grey matter, white matter, fluid
TISSUE = 0.5  # a voxel belongs to grey or white matter where the template's map is above this
AIR = 20  # voxels of 1 mm around the template's brain: room for it to grow and tilt
RIM_MM = 6  # fluid is labelled only this deep inside the brain: the outer rim is partial volume, not fluid
SPECK_MM3 = 500  # smaller pools of fluid are gaps between the two maps
FIELD_STEP_MM = 5.0  # grid of the random velocity: finer than its smoothness needs
FIELD_SMOOTHNESS_MM = 16.0  # sd of the Gaussian that smooths the random velocity
FIELD_MAX_MM = (
    4.0,
    8.0,
)  # largest displacement of a scan: lobes and ventricles differ by that much in people
SQUARINGS = 6
POSES = (  # signs of the RAS axes, relative voxel size, largest tilt in degrees: what clinical archives mix
    ((1, 1, 1), (1.0, 1.0, 1.0), 0.0),
    ((-1, 1, 1), (1.0, 1.0, 1.0), 0.0),  # LAS
    ((-1, -1, 1), (0.9, 0.9, 1.2), 0.0),  # LPS, thicker slices
    ((-1, -1, -1), (1.0, 1.0, 1.0), 0.0),  # LPI
    ((1, 1, 1), (1.1, 0.9, 1.0), 10.0),  # slightly oblique
)
FIRST_LINE = "SIMULATED COHORT: made by soloatlas, not scans of patients."
NOTE = """{first}

Source: the MNI152 template (ICBM 2009a nonlinear symmetric, skull-stripped T1, grey- and white-matter maps)
as shipped with nilearn {nilearn}. Every scan is this one anatomy, deformed by a random diffeomorphism (at
most {largest:g} mm) and a small affine, with random contrast, bias field, noise, voxel size and orientation.
The atlas is the undeformed template with noise of its own. Labels were deformed together with the images, not
drawn again. Left and right are the signs of x in MNI space; cerebellum and brain stem count as grey or white
matter; fluid is what is neither, at least {rim} mm inside the brain. Good for seeing the program run, not for
claims about patients.

pool {pool}, test {test}, seed {seed}, spacing {spacing:g} mm
"""


@dataclass(frozen=True)
class _Look:
    """How a scanner shows the tissues: grey values before scaling are those of the template, 0..1."""

    gamma: float = 1.0
    shifts: tuple[float, float, float] = (0.0, 0.0, 0.0)  # added to grey matter, white matter, fluid
    bias: tuple[float, ...] = (0.0,) * 6  # log of the field: x, y, z, their squares, at 100 mm from the centre
    noise: float = 0.02  # sd
    gain: float = 1000.0  # stored value of 1


@dataclass(frozen=True, eq=False)
class _Template:
    """Smoothed template maps on one grid of 1 mm, float32, each (x, y, z) in 0..1.

    ``tissues`` maps each label value to its share of the voxel; ``brain`` is the share of brain.
    """

    t1: np.ndarray
    brain: np.ndarray
    tissues: dict[int, np.ndarray]
    affine: np.ndarray


def simulate_cohort(folder: str | Path, pool: int = 16, test: int = 4, seed: int = 0, spacing: float = 3.0) -> Study:
    """Write a simulated study (atlas, unlabelled pool, labelled test scans, names, a note) to ``folder``.

    Scan k of the pool or of the test set depends on ``seed`` and k alone.

    Args:
        folder: new or empty, or a simulated cohort, which is overwritten.
        pool: number of unlabelled scans.
        test: number of test scans with labels.
        seed: of all randomness.
        spacing: voxel size of the atlas, mm; the scans' own differ by up to a fifth.

    Raises:
        InputError: the folder holds something else, or nilearn is not installed.
    """
    folder = Path(folder)
    if pool < 1 or test < 0 or not 1 <= spacing <= 10:
        raise InputError("simulated cohort: give a pool of 1 or more, test of 0 or more, spacing 1 to 10 mm")
    _clear(folder)
    template, version = _load_template(spacing)
    note = NOTE.format(
        first=FIRST_LINE, nilearn=version, largest=FIELD_MAX_MM[1], rim=RIM_MM,
        pool=pool, test=test, seed=seed, spacing=spacing,
    )  # fmt: skip
    atomic.write_text(folder / "NOTE.txt", note)  # first, so that what follows is known as ours
    atomic.write_json(folder / "labels.json", {str(value): name for value, name in LABELS.items()})
    image, labels = _atlas(template, spacing, np.random.default_rng((seed, 0)))
    _write(folder / "atlas" / "image.nii.gz", image)
    _write(folder / "atlas" / "labels.nii.gz", labels)
    for number in range(1, pool + 1):
        image, _ = _scan(template, spacing, number, np.random.default_rng((seed, 1, number)))
        _write(folder / "unlabelled" / f"scan_{number:02d}.nii.gz", image)
    for number in range(1, test + 1):
        image, labels = _scan(template, spacing, number, np.random.default_rng((seed, 2, number)))
        _write(folder / "test" / "images" / f"test_{number:02d}.nii.gz", image)
        _write(folder / "test" / "labels" / f"test_{number:02d}.nii.gz", labels)
    return replace(read_study(folder), name="simulated MNI152 cohort")


def _clear(folder: Path) -> None:
    """Remove the scans of an earlier simulation, which a smaller cohort must not inherit; nothing else."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    note = folder / "NOTE.txt"
    if not note.is_file() or FIRST_LINE not in note.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{folder} is not empty and not a simulated cohort; give a new folder")
    for pattern in ("unlabelled/scan_*.nii.gz", "test/images/test_*.nii.gz", "test/labels/test_*.nii.gz"):
        for scan in folder.glob(pattern):
            scan.unlink()


def _write(path: Path, volume: Volume) -> None:
    write_volume(path, volume.array, volume.grid)


def _load_template(spacing: float) -> tuple[_Template, str]:
    """Template smoothed for voxels of ``spacing`` mm, so that sampling does not alias; nilearn's version."""
    from scipy.ndimage import gaussian_filter

    t1, grey, white, affine, version = _read_maps()
    tissues = _tissues(t1, grey, white, affine)
    sd = 0.42 * spacing  # full width at half maximum = one voxel
    brain = (t1 > 0).astype(np.float32)
    smooth = {value: gaussian_filter(mask.astype(np.float32), sd) for value, mask in tissues.items()}
    return _Template(gaussian_filter(t1, sd), gaussian_filter(brain, sd), smooth, affine), version


def _read_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
    """T1, grey and white matter (x, y, z) in 0..1 at 1 mm around the brain; affine; nilearn's version."""
    try:
        import nilearn
        from nilearn import datasets
    except ImportError as error:
        raise InputError("the simulated cohort needs nilearn: pip install 'soloatlas[demo]'") from error
    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
    )
    images = [loader(resolution=1) for loader in loaders]
    maps = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    found = np.argwhere(maps[0] > 0)
    low, high = found.min(0), found.max(0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    t1, grey, white = (np.pad(values[box], AIR) for values in maps)
    affine = np.array(images[0].affine, dtype=float)
    affine[:3, 3] += affine[:3, :3] @ (low - AIR)
    return t1, grey, white, affine, str(nilearn.__version__)


def _tissues(t1: np.ndarray, grey: np.ndarray, white: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    """Masks of the labels on the template's grid."""
    from scipy.ndimage import binary_erosion, label

    brain = t1 > 0
    is_grey = brain & (grey >= white) & (grey > TISSUE)
    is_white = brain & (white > grey) & (white > TISSUE)
    parts, _ = label(binary_erosion(brain, iterations=RIM_MM) & ~is_grey & ~is_white)
    large = np.bincount(parts.ravel()) >= SPECK_MM3
    fluid = (parts > 0) & large[parts]
    x = affine[0, 0] * np.arange(t1.shape[0]) + affine[0, 3]  # RAS: negative is the person's left
    left = (x < 0)[:, None, None]
    return {1: is_grey & left, 2: is_grey & ~left, 3: is_white & left, 4: is_white & ~left, 5: fluid}


def _atlas(template: _Template, spacing: float, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """The undeformed template as a scan: plain look, RAS, isotropic; only its noise is random."""
    grid = _grid_around(template, np.eye(3) * spacing)
    return _render(template, grid, _world(grid), _Look(), rng)


def _scan(template: _Template, spacing: float, number: int, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """One simulated scan and its labels; the number chooses the pose, so that every pose occurs."""
    signs, relative, tilt = POSES[number % len(POSES)]
    steps = _rotation(rng.uniform(-tilt, tilt, 3)) @ np.diag(np.multiply(signs, relative) * spacing)
    grid = _grid_around(template, steps)
    points = _deform(_world(grid) @ _affine(rng).T, rng)
    return _render(template, grid, points, _look(rng), rng)


def _grid_around(template: _Template, steps: np.ndarray) -> Grid:
    """Grid with the given voxel steps (columns, mm) that holds the template's box."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    corners *= np.array(template.t1.shape) - 1
    voxels = (corners @ template.affine[:3, :3].T + template.affine[:3, 3]) @ np.linalg.inv(steps).T
    low, high = np.floor(voxels.min(0)), np.ceil(voxels.max(0))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, steps @ low
    a, b, c = (int(n) for n in high - low + 1)
    return Grid((a, b, c), affine)


def _world(grid: Grid) -> np.ndarray:
    """RAS position of every voxel, (x, y, z, 3) mm."""
    indices = np.moveaxis(np.indices(grid.shape), 0, -1)
    return np.asarray(indices @ grid.affine[:3, :3].T + grid.affine[:3, 3])


def _rotation(degrees: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix())


def _affine(rng: np.random.Generator) -> np.ndarray:
    """Small random affine about the origin, the anterior commissure, (3, 3): tilt, size and skew."""
    skew = np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3)) * (1 - np.eye(3))
    return np.asarray(_rotation(rng.uniform(-5, 5, 3)) @ np.diag(rng.uniform(0.93, 1.07, 3)) @ skew)


def _deform(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """World ``points`` (..., 3) mm moved by a random diffeomorphism of the space around them."""
    from scipy.ndimage import map_coordinates

    low = points.reshape(-1, 3).min(0)
    extent = points.reshape(-1, 3).max(0) - low
    shape = tuple(int(n) for n in np.ceil(extent / FIELD_STEP_MM) + 1)
    field = _integrate(_velocity(shape, rng) / FIELD_STEP_MM) * FIELD_STEP_MM
    voxels = np.moveaxis((points - low) / FIELD_STEP_MM, -1, 0)
    moves = [map_coordinates(component, voxels, order=1, mode="nearest") for component in field]
    return np.asarray(points + np.stack(moves, axis=-1))


def _velocity(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Smooth random velocity (3, x, y, z) mm whose largest vector has a random length within FIELD_MAX_MM."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal((3, *shape))
    smooth = np.stack([gaussian_filter(part, FIELD_SMOOTHNESS_MM / FIELD_STEP_MM) for part in noise])
    largest = np.sqrt((smooth**2).sum(0)).max()
    return np.asarray(smooth * (rng.uniform(*FIELD_MAX_MM) / largest))


def _integrate(velocity: np.ndarray) -> np.ndarray:
    """Displacement (3, x, y, z) of the stationary flow of ``velocity``, both in voxels.

    Scaling and squaring, Arsigny et al. 2006 (MICCAI); no point moves further than the largest velocity.
    """
    from scipy.ndimage import map_coordinates

    identity = np.indices(velocity.shape[1:]).astype(float)
    field = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        there = identity + field
        field = field + np.stack([map_coordinates(part, there, order=1, mode="nearest") for part in field])
    return np.asarray(field)


def _look(rng: np.random.Generator) -> _Look:
    grey, white, fluid = rng.uniform(-0.06, 0.06, 3)  # less than half of what separates the tissues
    return _Look(
        gamma=float(np.exp(rng.uniform(-0.3, 0.3))),
        shifts=(float(grey), float(white), float(fluid)),
        bias=tuple(float(value) for value in rng.uniform(-0.2, 0.2, 6)),
        noise=float(rng.uniform(0.015, 0.035)),
        gain=float(rng.uniform(300, 3000)),
    )


def _render(
    template: _Template, grid: Grid, points: np.ndarray, look: _Look, rng: np.random.Generator
) -> tuple[Volume, Volume]:
    """Image (uint16, 0 in the air) and labels (uint8) of the template seen at ``points`` (x, y, z, 3) mm.

    ``points`` says where in the template each voxel of ``grid`` lies; both are cut to the brain and some air.
    """
    grid, points = _cut(grid, points, _sample(template.brain, template, points) >= 0.5, rng)
    air = 1 - _sample(template.brain, template, points)
    shares = {value: _sample(mask, template, points) for value, mask in template.tissues.items()}
    image = np.clip(_sample(template.t1, template, points), 0, 1) ** look.gamma
    for value, kind in KINDS.items():
        image += look.shifts[kind] * shares[value]
    offset = (_world(grid) - grid.centre()) / 100
    image *= np.exp(np.concatenate([offset, offset**2], axis=-1) @ np.asarray(look.bias))
    image += look.noise * rng.standard_normal(image.shape)
    stored = np.clip(np.rint(image * look.gain), 1, 65535) * (air < 0.5)
    return Volume(stored.astype(np.uint16), grid), Volume(_largest(air, shares), grid)


def _cut(grid: Grid, points: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> tuple[Grid, np.ndarray]:
    """Grid and points in the box of the brain, with 2 to 6 voxels of air on each side, drawn at random."""
    found = np.argwhere(brain)
    low = np.maximum(found.min(0) - rng.integers(2, 7, 3), 0)
    high = np.minimum(found.max(0) + 1 + rng.integers(2, 7, 3), grid.shape)
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    a, b, c = (int(n) for n in high - low)
    return Grid((a, b, c), affine), points[low[0] : high[0], low[1] : high[1], low[2] : high[2]]


def _sample(values: np.ndarray, template: _Template, points: np.ndarray) -> np.ndarray:
    """``values`` on the template's grid at world ``points`` (..., 3) mm: linear, 0 outside; shape (...)."""
    from scipy.ndimage import map_coordinates

    voxels = (points - template.affine[:3, 3]) @ np.linalg.inv(template.affine[:3, :3]).T
    return np.asarray(map_coordinates(values, np.moveaxis(voxels, -1, 0), order=1), dtype=np.float64)


def _largest(air: np.ndarray, shares: dict[int, np.ndarray]) -> np.ndarray:
    """Label with the largest share of each voxel, 0 where air has it; uint8."""
    labels, best = np.zeros(air.shape, np.uint8), air.copy()
    for value, share in shares.items():
        labels[share > best] = value
        best = np.maximum(best, share)
    return labels
