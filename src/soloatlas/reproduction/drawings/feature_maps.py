"""Features that enter the last levels' output (OS-MedSeg, Fig. 6): teacher, student, and a student without teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.data.files import scan_name
from soloatlas.errors import InputError
from soloatlas.reporting import slices
from soloatlas.reproduction.drawings.sheet import heading, picture_grid, show
from soloatlas.reproduction.row_run import Finished
from soloatlas.reproduction.rows import Pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from soloatlas.segmentation import Worker

LEVELS = 2  # counted from the output, as the hint's
CHANNELS = 8  # shown of each level: the first
PIXELS = 260  # of a picture's longer side
MAP = "viridis"  # told apart by the colour-blind, and in grey


@dataclass(frozen=True, eq=False)
class Features:
    """Maps (channel, x, y, z) of a network at each level, and per level each channel's cosine with the teacher's."""

    name: str
    levels: list[np.ndarray]
    cosines: list[list[float]]


def draw(sheet: Figure, pictures: Pictures, rows: Sequence[Finished]) -> dict[str, Any]:
    """For each level a line a network: the scan, then the first channels, each from its 1st to its 99th percentile.

    Returns:
        ``scan``; ``voxel`` of the working grid in the plane; ``cosine``: network -> level -> cosine of the whole
        level with the teacher's, and of each channel.

    Raises:
        InputError: the first row's run has no teacher.
    """
    path = rows[0].tasks[0].conditions.study.test_images[0]
    image, at, spacing, found = _networks_on(path, rows)
    plane = pictures.planes[0]
    view = slices.view_of(image.shape, spacing, at, PIXELS, PIXELS)
    scan = slices.grey(image, view, plane, (0.0, 1.0))
    lines = [(level, network) for level in range(LEVELS) for network in found]
    aspect = scan.shape[0] / scan.shape[1]
    opens = [int(network is found[0]) for _, network in lines]
    grid = picture_grid(sheet, [aspect] * len(lines), CHANNELS + 1, opens, [1 - o for o in opens])
    for line, (level, network) in enumerate(lines):
        opening = network is found[0]
        title = "scan" if line == 0 else ""
        show(grid[line][0], scan if opening else None, title, "", f"{heading(network.name)}\nlevel {level + 1}")
        for channel, axes in enumerate(grid[line][1:]):
            if channel >= len(network.levels[level]):
                show(axes, None)
                continue
            below = "" if opening else f"cos {network.cosines[level][1 + channel]:.2f}"
            title = f"channel {channel + 1}" if opening else ""
            show(axes, _coloured(network.levels[level][channel], image.shape, view, plane), title, below)
    told = {network.name: network.cosines for network in found[1:]}
    return {"caption": _caption(scan_name(path)), "scan": scan_name(path), "voxel": list(at), "cosine": told}


def _networks_on(
    path: Any, rows: Sequence[Finished]
) -> tuple[np.ndarray, tuple[int, int, int], tuple[float, float, float], list[Features]]:
    """The prepared scan, where it is cut, its spacing (mm), and the features of teacher and students on it."""
    from soloatlas.runs import open_run
    from soloatlas.segmentation import Wishes, Worker

    workers = [Worker(open_run(f.tasks[0].folder()), Wishes(stage="student")) for f in rows]
    first = workers[0]
    teacher = trained_teacher(first)
    ((_, prepared),) = first.prepared([path])
    image = first.tensor(prepared.image)
    classes = first.atlas_classes[0, 0].cpu().numpy()
    x, y, z = _patch(image.shape[2:], slices.centre_of(classes > 0), getattr(first.run.settings.student, "patch", ()))
    image, classes = image[..., x, y, z], classes[x, y, z]
    guide = _features_of(teacher, image)
    found = [Features("teacher", _arrays(guide), [])]
    names = ["student", *(finished.row.name for finished in rows[1:])]
    for name, worker in zip(names, workers, strict=True):
        assert worker.student is not None
        maps = _features_of(worker.student, image)
        found.append(Features(name, _arrays(maps), [_cosines(a, b) for a, b in zip(maps, guide, strict=True)]))
    return image[0, 0].cpu().numpy(), slices.busiest(classes > 0), first.run.working.spacing, found


def trained_teacher(worker: Worker) -> nn.Module:
    """The teacher of an OS-MedSeg run, which keeps it among its checkpoints alone.

    Raises:
        InputError: the run trained none, or its checkpoint is gone.
    """
    from soloatlas.training import checkpoint_weights

    run = worker.run
    if not run.settings.teacher.enabled:
        raise InputError(f"{run.folder}: trained no teacher (teacher.enabled=false), so it has no features to draw")
    stage = "reconstruct" if run.settings.teacher.schedule == "freeze" else "distil"
    path = run.folder / "checkpoints" / f"{stage}.safetensors"
    network: nn.Module = run.method.build_teacher(run.settings, worker.session)
    network.load_state_dict(checkpoint_weights(path, "teacher"))
    return network.eval()


def _patch(shape: Sequence[int], centre: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """What a network that learnt from patches sees of the grid: one about ``centre``; all where ``size`` is empty."""
    if not size:
        return tuple(slice(0, n) for n in shape)
    first = [min(max(0, c - s // 2), max(0, n - s)) for c, s, n in zip(centre, size, shape, strict=True)]
    return tuple(slice(f, f + s) for f, s in zip(first, size, strict=True))


def _features_of(network: nn.Module, image: Tensor) -> list[Tensor]:
    import torch

    with torch.inference_mode():
        features: list[Tensor] = network(image)[1][:LEVELS]
    return features


def _arrays(maps: Sequence[Tensor]) -> list[np.ndarray]:
    return [level[0].float().cpu().numpy() for level in maps]


def _cosines(a: Tensor, b: Tensor) -> list[float]:
    """Cosine of two (1, channel, x, y, z) maps as wholes, then channel by channel."""
    from torch.nn.functional import cosine_similarity

    whole = cosine_similarity(a.float().flatten(1), b.float().flatten(1))
    each = cosine_similarity(a[0].float().flatten(1), b[0].float().flatten(1))
    return [round(float(value), 4) for value in (*whole, *each)]


def _coloured(channel: np.ndarray, shape: Sequence[int], view: slices.View, plane: str) -> np.ndarray:
    """A plane of a map, (rows, columns, 3) uint8, at the size of the scan's; a level may lie on a coarser grid."""
    from matplotlib import colormaps

    steps = [whole / n for whole, n in zip(shape, channel.shape, strict=True)]
    i, j, k = (min(int(at / step), n - 1) for at, step, n in zip(view.index, steps, channel.shape, strict=True))
    x, y, z = (size * step for size, step in zip(view.spacing, steps, strict=True))
    coarse = slices.View((i, j, k), (x, y, z), view.scale)
    low, high = np.percentile(channel, [1, 99])
    level = slices.grey(channel, coarse, plane, (float(low), float(high)))[..., 0]
    colour: np.ndarray = (colormaps[MAP](level)[..., :3] * 255).round().astype(np.uint8)
    return colour


def _caption(scan: str) -> str:
    return (
        f"Test scan {scan}: the first of the split, not chosen; in the plane that holds most of the atlas's labels. "
        "Level 1 is what enters the head, at full size, level 2 the one before, at half the size; of each the first "
        f"{CHANNELS} channels, each from its 1st percentile (dark) to its 99th (bright). cos: cosine with the "
        "teacher's map of the same channel over the whole scan. " + slices.HANGING
    )
