"""Sections on what was learnt: loss curves, the fields on the pool, synthetic scans beside real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from soloatlas.data.labels import LabelTable
from soloatlas.reporting import slices, wording
from soloatlas.reporting.about_run import legend
from soloatlas.reporting.blocks import Block, Drawing, Gallery, Remark, Section, Table, listed, number
from soloatlas.reporting.contents import Contents, Sample, finite
from soloatlas.reporting.figures import Measure, draw_curves, draw_strips

SAMPLES = 3  # pairs shown: a fourth adds weight to the page and little to what is seen

# column of fields.csv: title, unit, digits, whether a large value is a bad one
MEASURES = {
    "folding_percent": ("Folding", "% of voxels", 3, True),
    "sd_log_jacobian": ("SDlogJ", "standard deviation of ln J", 3, True),
    "mean_displacement_mm": ("Displacement", "mean length, mm", 2, True),
    "inverse_error_mm": ("Inverse error", "mean distance from home, mm", 3, True),
    "similarity_after": ("Similarity", "mean local correlation²", 3, False),
}
BEFORE = {"similarity_after": "similarity_before"}


def learning(contents: Contents) -> Section:
    """Loss curves by stage and named term."""
    if not contents.curves:
        return Section("learning", "Loss curves", "", [_left_out(contents, "metrics.csv", "The loss curves are")])
    blocks: list[Block] = []
    for stage, terms in contents.curves.items():
        panels = {t: (wording.equation(contents, stage, t), points) for t, points in terms.items()}
        last = max(points[-1][0] for points in terms.values())
        ends = ", ".join(f"{t} {number(points[-1][1], 4)}" for t, points in terms.items())
        title = wording.stage_title(stage)
        verdicts = ", but for the discriminator's verdicts (D)" if "D right" in terms else ""
        blocks.append(
            Drawing(
                draw_curves(panels),
                f"{title}: loss curves over {last} steps. Last values: {ends}.",
                f"{last} optimiser steps. Each term is shown unweighted and is minimised{verdicts}; total is the "
                "weighted sum. Thin: as logged; thick: running mean. The upper hundredth of the values may lie "
                f"beyond the axis. Last values: {ends}.",
                title,
            )
        )
    if game := contents.game():
        blocks.append(Remark(wording.game_in_words(game)))
    return Section("learning", "Loss curves", "Each term of the objective by itself, stage by stage.", blocks)


def _left_out(contents: Contents, file: str, what: str) -> Remark:
    return Remark(f"{what} left out: {file} {contents.missing.get(file, 'is empty')}.")


def fields(contents: Contents) -> Section:
    """Folding, SDlogJ, displacement and similarity of the fields to each scan of the pool."""
    rows = contents.fields
    if not rows:
        return Section("fields", "Fields", "", [_left_out(contents, "fields.csv", "Measures of the fields are")])
    known = [key for key in MEASURES if key in rows[0]]
    panels, table = [], []
    for key in known:
        title, unit, digits, large_is_bad = MEASURES[key]
        values = [row[key] for row in rows]
        before = [row[BEFORE[key]] for row in rows] if BEFORE.get(key) in rows[0] else []
        panels.append(Measure(title, unit, finite(values), finite(before)))
        if before:
            table.append(_summary(f"{title} before", unit, rows, BEFORE[key], digits, large_is_bad))
        table.append(_summary(f"{title} after" if before else title, unit, rows, key, digits, large_is_bad))
    blocks: list[Block] = [_strips(panels, len(rows)), _fields_table(table, len(rows)), _worst(rows)]
    lead = "How the registration deforms the atlas into each scan of the pool, on the working grid."
    return Section("fields", "Fields", lead, blocks)


def _strips(panels: Sequence[Measure], scans: int) -> Drawing:
    middle = "; ".join(f"{p.title} {number(float(np.median(p.values)), 3)} {p.unit}" for p in panels if p.values)
    return Drawing(
        draw_strips(panels),
        f"Distribution over {scans} scans of the pool; medians: {middle}.",
        f"Each point is one of {scans} scans of the pool; boxes show quartiles and median. Folding: voxels whose "
        "Jacobian determinant J is 0 or less, where the field turns tissue inside out. SDlogJ: how unevenly it "
        "stretches. Inverse error, for methods that also learn the way back: how far from its place a voxel ends after "
        "both fields. Similarity: of the scan with the atlas before, and with the warped atlas after; 1 is the most.",
    )


def _summary(
    title: str, unit: str, rows: Sequence[dict[str, Any]], key: str, digits: int, large_is_bad: bool
) -> list[str]:
    values = np.array(finite([row[key] for row in rows]) or [np.nan])
    pick = max if large_is_bad else min
    worst = pick(rows, key=lambda row: row[key])
    numbers = [values.mean(), values.std(), np.median(values), values.min(), values.max()]
    return [title, unit, *(number(float(v), digits) for v in numbers), worst["scan"]]


def _fields_table(table: Sequence[Sequence[str]], scans: int) -> Table:
    header = ("Measure", "Unit", "Mean", "SD", "Median", "Min", "Max", "Worst scan")
    rows = [[row[0], row[1], *row[2:]] for row in table]
    return Table(header, rows, f"The same measures over {scans} scans (population standard deviation).", text_columns=2)


def _worst(rows: Sequence[dict[str, Any]]) -> Remark:
    """The scans to look at first."""
    said = []
    if "similarity_after" in rows[0]:
        low = sorted(rows, key=lambda r: r["similarity_after"])[:3]
        named = listed(f"{r['scan']} ({number(r['similarity_after'], 2)})" for r in low)
        said.append(f"Least similar after registration: {named}.")
    if "folding_percent" in rows[0]:
        high = [r for r in sorted(rows, key=lambda r: -r["folding_percent"])[:3] if r["folding_percent"] > 0]
        named = listed(f"{r['scan']} ({number(r['folding_percent'], 2)} %)" for r in high)
        said.append(f"Most folded: {named}." if high else "No field folds anywhere.")
    return Remark(" ".join(said))


def pairs(contents: Contents) -> Section:
    """Real scans beside the atlas warped into them."""
    if not contents.samples:
        missing = _left_out(contents, "samples.npz", "Synthetic and real scans are")
        return Section("pairs", "Synthetic next to real", "", [missing])
    spacing = _working_spacing(contents)
    names = [scan["name"] for scan in contents.record.get("pool", [])]
    blocks: list[Block] = []
    for i, sample in enumerate(contents.samples[:SAMPLES]):
        name = names[i] if i < len(names) else f"scan {i + 1}"
        blocks.append(
            _pair_gallery(name, sample, spacing, contents.table, last=i + 1 == min(SAMPLES, len(contents.samples)))
        )
    lead = "Each synthetic scan is the atlas warped into a real one of the pool; its labels come along."
    return Section("pairs", "Synthetic next to real", lead, blocks)


def _working_spacing(contents: Contents) -> tuple[float, float, float]:
    grid = contents.record.get("grid")
    if not grid:
        return 1.0, 1.0, 1.0
    x, y, z = np.linalg.norm(np.array(grid["affine"])[:3, :3], axis=0)
    return float(x), float(y), float(z)


def _pair_gallery(
    name: str, sample: Sample, spacing: tuple[float, float, float], table: LabelTable | None, last: bool
) -> Gallery:
    folded = f", {number(100 * float((sample.jacobian <= 0).mean()), 2)} % of voxels fold"
    sample = _cropped(sample)
    view = slices.view_of(sample.real.shape, spacing, slices.centre_of(sample.classes > 0), 200, 220)
    classes = sample.classes.astype(int)
    count = max(int(classes.max()) + 1, table.classes if table else 0)
    colours = np.full((count, 3), 200, np.uint8)
    if table:
        colours[: table.classes] = table.colours
    columns: dict[str, list[np.ndarray]] = {
        "real": [],
        "synthetic": [],
        "synthetic with labels": [],
        "Jacobian": [],
    }
    for plane in slices.PLANES:
        synthetic = slices.grey(sample.synthetic, view, plane, (0, 255))
        flat = slices.classes_of(classes, view, plane)
        columns["real"].append(slices.grey(sample.real, view, plane, (0, 255)))
        columns["synthetic"].append(synthetic)
        columns["synthetic with labels"].append(slices.outline(slices.fill(synthetic, flat, colours), flat, colours))
        columns["Jacobian"].append(slices.jacobian(sample.jacobian, view, plane))
    pictures = [
        slices.shown(slices.stack(rows), title, f"{name}: {title}; axial, coronal and sagittal planes")
        for title, rows in columns.items()
    ]
    if not last:
        return Gallery(pictures, "", f"{name}{folded}")
    caption = (
        "Real scans and the synthetic ones made for them. From above: axial, coronal and sagittal plane through the "
        "labels' centre. Look for borders that stand elsewhere in the synthetic scan than in the real one. "
        f"Jacobian: local change of volume. {slices.HANGING}"
    )
    labels = legend(table) if table and table.classes <= 16 else []
    return Gallery(pictures, caption, f"{name}{folded}", [*slices.jacobian_legend(), *labels])


def _cropped(sample: Sample) -> Sample:
    """Without the padding around what either scan shows."""
    box = slices.box_around((sample.real > 0) | (sample.synthetic > 0), (1, 1, 1), 1)
    return Sample(*(a[box] for a in (sample.real, sample.synthetic, sample.classes, sample.jacobian)))
