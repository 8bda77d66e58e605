"""The methods of both papers, and the settings that make each row of their tables."""

from __future__ import annotations

from itertools import zip_longest

from soloatlas.tables import markdown_table as table
from soloatlas.tables import number

# Methods of both papers in the order of their tables; one that is installed is described by its own METHOD.
MISSING = {
    "unet": ("LS", "Ronneberger et al. 2015, U-Net"),
    "resunet": ("LS", "He et al. 2016; Diakogiannis et al. 2020, ResUNet"),
    "supervised": ("supervised", "upper bound: the student's network trained on true labels"),
    "rigid": ("Trad", "Arun et al. 1987; by ANTs"),
    "affine": ("Trad", "by ANTs"),
    "syn": ("Trad", "Avants et al. 2008, SyN; by ANTs"),
    "greedy": ("Trad", "Yushkevich et al. 2016, greedy diffeomorphic registration"),
    "voxelmorph-1": ("ABS", "Balakrishnan et al. 2018, VoxelMorph"),
    "voxelmorph-2": ("ABS", "Balakrishnan et al. 2019, VoxelMorph"),
    "transmorph": ("ABS", "Chen et al. 2022, TransMorph"),
    "clmorph": ("ABS", "Liu et al. 2023, CLMorph"),
    "dataaug": ("LRLS", "Zhao et al. 2019, DataAug"),
    "brbs": ("LRLS", "He et al. 2022, BRBS"),
    "mabmis": ("multi-atlas", "Jia, Yap, Shen 2012, MABMIS"),
    "lt-net": ("ABS", "Wang et al. 2020, LT-Net"),
}


def methods_table() -> str:
    """Every method of both papers, with the extra that it needs, and those that are not there."""
    from soloatlas.methods import available_methods

    here = available_methods()
    rows = [[f"`{m.name}`", m.family, m.paper, "`ants`" if m.modules else ""] for m in here.values()]
    rows += [[f"`{n}`", family, paper, "**missing**"] for n, (family, paper) in MISSING.items() if n not in here]
    return table(["name", "family", "paper", "extra"], rows)


def table_rows() -> str:
    """Which settings make which row of the papers' tables."""
    from soloatlas.reproduction import TABLES
    from soloatlas.reproduction.rendering import MEASURES

    parts = []
    for key, one in TABLES.items():
        rows = [
            [
                row.name,
                f"`{row.method or one.method}`"
                + (f", {row.atlases} atlases" if row.atlases > 1 else "")
                + (f", {row.share:.0%} of the pool" if row.share < 1 else ""),
                ", ".join(f"`{c}`" for c in row.changes) or "none",
                "`segment --stage register`" if row.stage == "register" else "student",
                *(number(value, MEASURES.get(m, (m, 3))[1]) for m, value in zip_longest(one.measures, row.published)),
            ]
            for row in one.rows
        ]
        published = [f"{MEASURES.get(m, (m, 3))[0]}, {one.published_on}" for m in one.measures]
        header = ["row", "method", "settings", "what is scored", *published]
        parts.append(f"**`{key}`: {one.title}** ({one.source})\n\n{table(header, rows)}")
    return "\n\n".join(parts)
