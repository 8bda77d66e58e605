"""Sections on the run itself: what went in, what it took, what it was told, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from soloatlas.data.files import read_labels, read_volume
from soloatlas.data.labels import LabelTable
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError
from soloatlas.reporting import slices, wording
from soloatlas.reporting.blocks import (
    DASH,
    Block,
    Gallery,
    Remark,
    Section,
    Table,
    css,
    duration,
    listed,
    number,
    swatch,
)
from soloatlas.reporting.contents import Contents


def inputs(contents: Contents) -> Section:
    """The atlas with its labels, the structures and what the working grid can hold of them, the pool."""
    blocks: list[Block] = [_input_table(contents), *_atlas(contents), *_pool(contents)]
    given = contents.record.get("inputs", {})
    lead = "One labelled scan, the atlas, and a pool of scans without labels."
    if given.get("pool_labels"):
        lead = "A labelled scan, the atlas, and a pool of labelled scans."
    elif given.get("more_atlases"):
        lead = "Several labelled scans, the atlases, and a pool of scans without labels."
    return Section("inputs", "Inputs", lead, blocks)


def _input_table(contents: Contents) -> Table:
    record = contents.record
    given = record.get("inputs", {})
    pool = given.get("unlabelled", [])
    rows = [
        ["Study", str(record.get("study", DASH))],
        ["Atlas", _path(given.get("atlas"))],
        ["Atlas labels", _path(given.get("atlas_labels"))],
        ["Label names", record.get("label_names") or "none given"],
        ["Pool", f"{len(pool)} scans" + (f" in {Path(pool[0]['path']).parent}" if pool else "")],
    ]
    if grid := record.get("grid"):
        spacing = np.linalg.norm(np.array(grid["affine"])[:3, :3], axis=0)
        size = " × ".join(str(n) for n in grid["shape"])
        rows.append(["Working grid", f"{size} voxels of {' × '.join(f'{s:.3g}' for s in spacing)} mm"])
    return Table(("What", "Which"), rows, "What the run was given.", text_columns=2)


def _path(entry: dict[str, str] | None) -> str:
    return entry["path"] if entry else DASH


def _atlas(contents: Contents) -> list[Block]:
    """Pictures of the atlas, and its structures with volume and ceiling."""
    table = contents.table
    if table is None:
        return [Remark(f"Structures are left out: labels.json {contents.missing['labels.json']}.")]
    try:
        image, labels = (
            read_volume(contents.folder / "atlas.nii.gz"),
            read_labels(contents.folder / "atlas_labels.nii.gz"),
        )
        classes = table.encode(labels.array)
    except InputError as error:
        if not contents.finished:
            return [
                Remark("The atlas is shown when training has finished."),
                _structures(contents, table, None),
            ]
        return [Remark(f"The atlas is left out: {error}."), _structures(contents, table, None)]
    coded = Volume(classes, labels.grid)
    return [_atlas_gallery(image, coded, table, contents), _structures(contents, table, coded)]


def _atlas_gallery(image: Volume, labels: Volume, table: LabelTable, contents: Contents) -> Gallery:
    array, spacing = slices.to_ras(image)
    classes, _ = slices.to_ras(labels)
    view = slices.view_of(array.shape, spacing, slices.centre_of(classes > 0), 300, 300)
    window, colours = display_window(contents, array), np.array(table.colours, dtype=np.uint8)
    pictures = []
    for plane in slices.PLANES:
        plain = slices.grey(array, view, plane, window)
        flat = slices.classes_of(classes, view, plane)
        labelled = slices.outline(slices.fill(plain, flat, colours), flat, colours)
        pictures.append(
            slices.shown(
                slices.stack([plain, labelled]),
                plane,
                f"Atlas, {plane} plane: the scan above, the scan with its labels below",
            )
        )
    caption = (
        "The atlas: above the scan, below the scan with its labels. Planes through the centre of all labels. "
        + slices.HANGING
    )
    return Gallery(pictures, caption, legend=legend(table) if table.classes <= 16 else ())


def legend(table: LabelTable) -> list[tuple[str, str]]:
    """(CSS colour, name) of each structure."""
    return [(css(c), name) for c, name in zip(table.colours[1:], table.names[1:], strict=True)]


def display_window(contents: Contents, array: np.ndarray) -> tuple[float, float]:
    """Intensities shown black and white: the settings' window for CT, else robust percentiles."""
    if contents.setting("prepare.normalise") == "window":
        low, high = contents.setting("prepare.window")
        return float(low), float(high)
    known = array[np.isfinite(array)]
    low, high = np.percentile(known, [0.5, 99.7]) if known.size else (0.0, 1.0)
    return float(low), float(high)


def _structures(contents: Contents, table: LabelTable, labels: Volume | None) -> Table:
    ceiling = contents.record.get("ceiling", {})
    of = ceiling.get("dice", {})
    volumes: Sequence[str] = [DASH] * table.classes
    if labels is not None:
        voxel_ml = abs(np.linalg.det(labels.grid.affine[:3, :3])) / 1000
        counts = np.bincount(labels.array.ravel(), minlength=table.classes)
        volumes = [number(count * voxel_ml, 2) for count in counts]
    rows: list[list[str]] = [
        [
            swatch(table.colours[c], table.names[c]),
            str(table.values[c]),
            volumes[c],
            number(of.get(table.names[c])),
        ]
        for c in range(1, table.classes)
    ]
    if ceiling:
        rows.append([Markup("<strong>mean</strong>"), "", "", number(ceiling.get("mean_dice"))])
    return Table(
        ("Structure", "Label value", "In the atlas\nml", "Ceiling\nDSC"),
        rows,
        "Structures. The ceiling is the DSC of the atlas's own labels after the way to the working grid and back: "
        "no segmentation made on this grid can be expected to exceed it.",
        note="" if ceiling else "The ceiling is measured at the end of training.",
    )


def _pool(contents: Contents) -> list[Block]:
    """How well each scan of the pool lies on the atlas before any network has seen it."""
    pool = contents.record.get("pool")
    if not pool:
        return [Remark("Alignment of the pool is not recorded yet.")]
    lost = [scan["name"] for scan in pool if not scan["aligned"]]
    how = contents.setting("prepare.align", "none")
    values = sorted(scan["similarity"] for scan in pool)
    low, middle, high = values[0], float(np.median(values)), values[-1]
    said = (
        f"Alignment to the atlas ({how}): normalised cross-correlation where both overlap, median "
        f"{number(middle, 2)}, from {number(low, 2)} to {number(high, 2)} over {len(pool)} scans. "
    )
    if lost:
        return [
            Remark(
                said + f"Not aligned, to be looked at or left out: {listed(lost)} ({len(lost)} of {len(pool)}).",
                True,
            )
        ]
    return [Remark(said + "Every scan aligns.")]


def cost(contents: Contents, segmentations: Sequence[tuple[str, Sequence[float]]]) -> Section:
    """Time per part, parameters, memory and the machine. ``segmentations``: (name, seconds of each scan)."""
    record = contents.record
    seconds: dict[str, float] = record.get("seconds", {})
    total = sum(seconds.values())
    rows = [
        [part.capitalize(), duration(s), f"{100 * s / total:.0f}" if total else DASH] for part, s in seconds.items()
    ]
    rows.append([Markup("<strong>Training in all</strong>"), duration(total), "100" if total else DASH])
    rows += [
        [f"Segmenting one scan: {name.lower()}", f"{np.mean(times):.2f} s", DASH]
        for name, times in segmentations
        if times
    ]
    blocks: list[Block] = [Table(("Part", "Time", "Share\n%"), rows, "Wall-clock time of each part.")]
    blocks.append(_machine_table(record))
    return Section("cost", "Time and memory", "", blocks)


def _machine_table(record: dict[str, Any]) -> Table:
    machine = record.get("machine", {})
    parameters = record.get("parameters", {})
    rows = [
        [
            "Parameters",
            "; ".join(f"{name} {count / 1e6:.2f} million" for name, count in parameters.items()) or DASH,
        ],
        ["Peak memory", f"{record['peak_memory_gb']:.2f} GB" if "peak_memory_gb" in record else DASH],
        ["Device", f"{record.get('device', DASH)}, {record.get('precision', DASH)}"],
        ["Processor", f"{machine.get('processor', DASH)}, {machine.get('cores', DASH)} cores"],
        ["System", f"{machine.get('system', DASH)}, Python {machine.get('python', DASH)}"],
    ]
    return Table(("What", "Which"), rows, "Networks and machine.", text_columns=2)


def settings(contents: Contents) -> Section:
    """Every setting by part, after the preset in words."""
    plain: dict[str, Any] = contents.record.get("settings", {})
    blocks: list[Block] = [Remark(wording.preset_in_words(contents))]
    parts = {name: value for name, value in plain.items() if isinstance(value, dict)}
    loose = {name: value for name, value in plain.items() if not isinstance(value, dict)}
    for name, part in (({"": loose} if loose else {}) | parts).items():
        rows = [[key, _shown(value)] for key, value in part.items()]
        title = wording.SETTING_GROUPS.get(name, name.capitalize() or "General")
        blocks.append(Table((title, ""), rows, "", text_columns=2))
    lead = "Change any of them with --set part.key=value."
    return Section("settings", "Settings", lead, blocks)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def provenance(contents: Contents) -> Section:
    """The command, versions and hashes with which the run can be repeated."""
    record = contents.record
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    rows: list[list[str]] = [
        ["Command", Markup("<code>{}</code>").format(record.get("command", DASH))],
        ["Method", f"{record.get('method', DASH)}, preset {record.get('preset', DASH)}"],
        ["Seed", str(record.get("seed", DASH))],
        ["Versions", versions or DASH],
        ["Run folder", str(contents.folder.resolve())],
    ]
    blocks: list[Block] = [Table(("What", "Which"), rows, "How to repeat this run.", text_columns=2)]
    given = record.get("inputs", {})
    several = [file for key in ("unlabelled", "pool_labels", "more_atlases") for file in given.get(key, [])]
    files = [given.get("atlas"), given.get("atlas_labels"), *several]
    hashes = [[f["path"], Markup("<code>{}</code>").format(f["sha256"][:16])] for f in files if f]
    if hashes:
        caption = f"The {len(hashes)} input files and the first 16 digits of their SHA-256."
        blocks.append(Table(("File", "SHA-256"), hashes, caption, text_columns=2, folded=True))
    return Section("provenance", "Provenance", "", blocks)
