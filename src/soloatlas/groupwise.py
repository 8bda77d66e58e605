"""Multi-atlas segmentation of a group of scans: tree-based registration, patch-weighted label fusion (MABMIS).

H. Jia, P.-T. Yap, D. Shen, "Iterative multi-atlas-based multi-image segmentation with tree-based registration",
NeuroImage 59:422, 2012. Images are (1, 1, x, y, z) tensors on one grid, fields (1, 3, x, y, z) in voxels: a field on
the grid of one image points into another, ``warp(other, field)`` resembles the one.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree
from torch import Tensor

from soloatlas import fields
from soloatlas.atomic import write_array
from soloatlas.errors import InputError
from soloatlas.settings import Groupwise

Tell = Callable[[str, int, int], None]


def segment_group(
    atlases: Sequence[Tensor],
    labels: Sequence[Tensor],
    scans: Sequence[Tensor],
    class_count: int,
    settings: Groupwise,
    tell: Tell | None = None,
) -> list[np.ndarray]:
    """Class maps (x, y, z) of all scans of a group.

    Args:
        atlases: images, (1, 1, x, y, z) in [0, 1]; ``labels`` their class maps, same shape.
        scans: the group, likewise.
        class_count: background included.
        settings: see `Groupwise`.
        tell: called with (task, done, total).
    """
    images, first = [*atlases, *scans], len(atlases)
    root, to_root = register_to_root(list(atlases), list(scans), settings, tell)
    from_root = [ways_back(images, i, root, field, settings) for i, field in enumerate(to_root)]
    classes = [c[0, 0].numpy() for c in labels] + [None] * len(scans)
    with tempfile.TemporaryDirectory(prefix="soloatlas-group-") as folder:
        _require_room(folder, atlases[0], len(images), len(scans))

        def between(target: int, voter: int) -> Tensor:
            path = Path(folder) / f"{target}-{voter}.npy"
            if not path.exists():
                there = fields.compose(from_root[target], to_root[voter])
                write_array(path, refined(images[target], images[voter], there, settings).half().numpy())
            return torch.from_numpy(np.load(path)).float()

        for number in range(settings.rounds):
            found = []
            for target in range(first, len(images)):
                voters = [i for i in range(len(images)) if i != target and classes[i] is not None]
                pairs = ((images[v], classes[v], between(target, v)) for v in voters)
                found.append(fuse(images[target], pairs, class_count))  # type: ignore[arg-type]
                if tell:
                    tell(f"fusion {number + 1}", target - first + 1, len(scans))
            classes[first:] = found
    return classes[first:]  # type: ignore[return-value]


def ways_back(images: Sequence[Tensor], image: int, root: int, to_image: Tensor, settings: Groupwise) -> Tensor:
    """Field on an image's grid pointing into the root: the inverse of the other, refined."""
    back = fields.invert(to_image)
    return back if image == root else refined(images[image], images[root], back, settings)


def refined(fixed: Tensor, moving: Tensor, start: Tensor, settings: Groupwise) -> Tensor:
    """A field that a few more steps bring nearer."""
    return demons(fixed, moving, settings.refine_iterations, settings.refine_sigma, start)


def _require_room(folder: str, image: Tensor, images: int, scans: int) -> None:
    """Fields of all pairs lie on the disk meanwhile, half a number each.

    Raises:
        InputError: the disk has no room for them.
    """
    needed, free = scans * (images - 1) * 3 * 2 * image.numel(), shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        raise InputError(
            f"a group of {scans} scans needs {needed / 1e9:.1f} GB in {Path(folder).parent} for the fields of all its "
            f"pairs, {free / 1e9:.1f} are free; segment fewer scans at a time, take a coarser --spacing, or set TMPDIR"
        )


def register_to_root(
    atlases: list[Tensor], scans: list[Tensor], settings: Groupwise, tell: Tell | None = None
) -> tuple[int, list[Tensor]]:
    """Fields on the root's grid pointing into each image (atlases first), found along a tree from the root out.

    Returns:
        The root's number among the atlases, and the fields.
    """
    root, _ = spanning_tree(distances(atlases))
    nodes = atlases
    if settings.simulated and len(atlases) > 2:
        nodes = atlases + simulated_templates(atlases, root, settings)
    _, parents = spanning_tree(distances(nodes), root)
    parents = attach(nodes, scans, parents)
    everyone = nodes + scans
    order = sorted(range(len(everyone)), key=lambda i: _depth(i, parents))
    found: dict[int, Tensor] = {root: torch.zeros(1, 3, *atlases[0].shape[2:])}
    for done, node in enumerate(order):
        if node != root:
            start = found[parents[node]]
            found[node] = demons(everyone[root], everyone[node], settings.tree_iterations, settings.tree_sigma, start)
        if tell:
            tell("tree", done + 1, len(order))
    kept = [*range(len(atlases)), *range(len(nodes), len(everyone))]  # templates have done their service
    return root, [found[i] for i in kept]


def distances(images: Sequence[Tensor]) -> np.ndarray:
    """(n, n): root mean squared difference of every pair of images."""
    flat = np.stack([image.numpy().ravel() for image in images]).astype(np.float64)
    squares = (flat**2).sum(1)
    between = squares[:, None] + squares[None] - 2 * flat @ flat.T
    return np.sqrt(np.maximum(between, 0) / flat.shape[1])


def spanning_tree(between: np.ndarray, root: int | None = None) -> tuple[int, dict[int, int]]:
    """Root and parents of the minimum spanning tree; by default the root has the shortest paths to all others."""
    # Zeros mean "no edge" there: equal images are a hair apart.
    tree = minimum_spanning_tree(csr_matrix(np.triu(between + 1e-12, 1)))
    lengths, before = dijkstra(tree, directed=False, return_predecessors=True)
    if root is None:
        root = int(lengths.sum(1).argmin())
    return root, {i: int(before[root, i]) for i in range(len(between)) if i != root}


def attach(nodes: Sequence[Tensor], scans: Sequence[Tensor], parents: dict[int, int]) -> dict[int, int]:
    """The tree with every scan as a leaf or a link: the scan closest to any node goes first, and may carry others."""
    parents, between = dict(parents), distances([*nodes, *scans])
    inside, outside = list(range(len(nodes))), list(range(len(nodes), len(between)))
    while outside:
        part = between[np.ix_(outside, inside)]
        scan, node = np.unravel_index(part.argmin(), part.shape)
        parents[outside[scan]] = inside[node]
        inside.append(outside.pop(scan))
    return parents


def _depth(node: int, parents: dict[int, int]) -> int:
    return 1 + _depth(parents[node], parents) if node in parents else 0


def simulated_templates(atlases: Sequence[Tensor], root: int, settings: Groupwise) -> list[Tensor]:
    """Images between and beyond the atlases: the root warped by draws from the modes of the atlases' fields.

    Of all combinations of four coefficients for each mode, those twice as many as atlases are kept whose nearest atlas
    is farthest away.
    """
    others = [image for i, image in enumerate(atlases) if i != root]
    found = [demons(image, atlases[root], settings.refine_iterations, settings.refine_sigma) for image in others]
    small = [max(2, n // 2) for n in atlases[0].shape[2:]]
    matrix = np.stack([fields.resize(field, small).numpy().ravel() for field in found])
    mean = matrix.mean(0)
    _, sizes, modes = np.linalg.svd(matrix - mean, full_matrices=False)
    count = min(settings.modes, len(others) - 1)
    scales = sizes[:count] / np.sqrt(len(others))
    made = []
    for draw in itertools.product((-0.8416, -0.2533, 0.2533, 0.8416), repeat=count):
        flat = mean + (np.asarray(draw) * scales) @ modes[:count]
        field = torch.from_numpy(flat.reshape(1, 3, *small)).float()
        made.append(fields.warp(atlases[root], fields.resize(field, atlases[0].shape[2:])))
    apart = distances([*made, *atlases])[: len(made), len(made) :].min(1)
    farthest = np.argsort(-apart, kind="stable")[: 2 * len(atlases)]
    return [made[i] for i in sorted(farthest)]


STEP = 2.0  # voxels that an iteration moves at most, as in the published program; SimpleITK's own is 0.5


def demons(
    fixed: Tensor, moving: Tensor, iterations: Sequence[int], sigma: float, start: Tensor | None = None
) -> Tensor:
    """Field on the grid of ``fixed`` pointing into ``moving``, by diffeomorphic demons at three sizes (SimpleITK).

    Args:
        iterations: at 1/4, 1/2 and full size.
        sigma: of the Gaussian that smooths the field, voxels.
        start: field to begin with.
    """
    import SimpleITK

    shape = fixed.shape[2:]
    field = torch.zeros(1, 3, *shape) if start is None else start
    for shrink, steps in zip((4, 2, 1), iterations, strict=True):
        size = [max(4, n // shrink) for n in shape]
        images = [_itk(_resized(image, size)) for image in (fixed, moving)]
        demon = SimpleITK.DiffeomorphicDemonsRegistrationFilter()
        demon.SetNumberOfIterations(steps)
        demon.SetMaximumUpdateStepLength(STEP)
        demon.SetStandardDeviations(sigma)
        demon.SetSmoothDisplacementField(True)
        begun = _itk_field(fields.resize(field, size))
        moved = demon.Execute(*images, begun)
        array = SimpleITK.GetArrayFromImage(moved).transpose(3, 2, 1, 0)[None]
        field = fields.resize(torch.from_numpy(np.ascontiguousarray(array)).float(), shape)
    return field


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    return torch.nn.functional.interpolate(image.float(), size=tuple(size), mode="trilinear", align_corners=True)


def _itk(image: Tensor) -> Any:
    import SimpleITK

    array = image[0, 0].numpy().astype(np.float32).transpose(2, 1, 0)
    return SimpleITK.GetImageFromArray(np.ascontiguousarray(array))


def _itk_field(field: Tensor) -> Any:
    import SimpleITK

    array = field[0].numpy().astype(np.float64).transpose(3, 2, 1, 0)
    return SimpleITK.GetImageFromArray(np.ascontiguousarray(array), isVector=True)


def fuse(target: Tensor, voters: Iterable[tuple[Tensor, np.ndarray, Tensor]], class_count: int) -> np.ndarray:
    """Class map (x, y, z) of ``target`` by weighted votes.

    A voter's weight at a voxel is exp(-d^2 / (2 s^2)), d the root mean squared difference of the 3x3x3 patches there
    and s the median of d over voters (plus 1e-4).

    Args:
        target: (1, 1, x, y, z).
        voters: image, class map (x, y, z) and the field from the target into the voter.
        class_count: background included.
    """
    apart, votes = [], []
    for image, classes, field in voters:
        difference = (fields.warp(image, field) - target)[0, 0].numpy()
        apart.append(np.sqrt(np.maximum(uniform_filter(difference**2, 3), 0)))
        labels = torch.from_numpy(classes.astype(np.int16))[None, None]
        votes.append(fields.warp_labels(labels, field)[0, 0].numpy())
    d = np.stack(apart)
    weights = np.exp(-(d**2) / (2 * (np.median(d, axis=0) + 1e-4) ** 2))
    best, heaviest = np.zeros(d.shape[1:], np.int16), np.full(d.shape[1:], -1.0)
    for index in range(class_count):
        weight = sum(np.where(vote == index, w, 0.0) for vote, w in zip(votes, weights, strict=True))
        wins = weight > heaviest
        best[wins], heaviest[wins] = index, np.asarray(weight)[wins]
    return best
