"""One picture that tells the story of a run: labelled atlas, unlabelled scan, its synthetic twin, a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from soloatlas.atomic import replacing
from soloatlas.data.files import read_labels, read_volume
from soloatlas.data.labels import LabelTable
from soloatlas.data.volume import Volume
from soloatlas.reporting import slices
from soloatlas.runs import Run, open_run

HEIGHT = 300  # pixels of each panel
TITLES = ("the one labelled scan", "an unlabelled scan", "its synthetic twin, labelled", "a new scan, segmented")


def draw_overview(run: str | Path, image: Path, segmentation: Path, output: Path) -> Path:
    """Write ``output`` (PNG): an axial plane each of the atlas with its labels, of a scan of the pool, of the
    synthetic scan made for it, and of ``image`` with its ``segmentation``.

    Raises:
        InputError: no finished run, or an unreadable scan.
    """
    from matplotlib.figure import Figure

    opened = open_run(run)
    result, scan = read_labels(segmentation), read_volume(image)
    pictures = [
        _plane(opened.atlas, opened.atlas_labels, opened.table),
        *_pair(opened),
        _plane(scan, result, opened.table),
    ]
    figure = Figure(figsize=(12, 3.6), layout="constrained", facecolor="white")
    for axes, picture, title in zip(figure.subplots(1, 4), pictures, TITLES, strict=True):
        axes.imshow(picture)
        axes.set_title(title, fontsize=12)
        axes.axis("off")
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return output


def _pair(run: Run) -> list[np.ndarray]:
    """The first scan of the pool and the warped atlas with its labels."""
    with np.load(run.folder / "samples.npz") as samples:
        real, synthetic, classes = (samples[f"{kind}_0"] for kind in ("real", "synthetic", "classes"))
    labels = Volume(run.table.decode(classes), run.working)
    plain = _plane(Volume(real, run.working), Volume(np.zeros_like(labels.array), run.working), run.table, labels)
    return [plain, _plane(Volume(synthetic, run.working), labels, run.table)]


def _plane(scan: Volume, labels: Volume, table: LabelTable, through: Volume | None = None) -> np.ndarray:
    """The axial plane through the centre of the labels (of ``through``, if given), labels tinted."""
    array, spacing = slices.to_ras(scan)
    classes = slices.to_ras(Volume(table.encode(labels.array).astype(np.int16), labels.grid))[0]
    centre = slices.centre_of(slices.to_ras(through or labels)[0] > 0)
    view = slices.view_of(array.shape, spacing, centre, HEIGHT, HEIGHT)
    low, high = np.percentile(array, [1, 99.5])
    picture = slices.grey(array, view, "axial", (float(low), float(high)))
    return slices.fill(picture, slices.classes_of(classes, view, "axial"), np.array(table.colours, np.uint8))
