"""Write the parts of README.md and docs/ that are made from the code and from results/.

``python docs/make_tables.py`` writes them, ``python docs/make_tables.py --check`` only says which are out of
date (exit code 1). Such a part lies between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
"""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from soloatlas.tables import markdown_table as table

ROOT = Path(__file__).resolve().parents[1]

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

# What each setting does. The test compares the keys with the dataclasses.
MEANING = {
    "prepare.align": "how each scan is aligned to the atlas",
    "prepare.spacing": "working grid, mm, isotropic; none: the atlas's own spacing along each axis",
    "prepare.crop": "crop the working grid to the atlas's body or to its labels, or keep its field of view",
    "prepare.margin": "mm kept around the body, at most a fifth of its size",
    "prepare.size": "voxels of the working grid to R, A and S about the centre of the crop; none: what it needs",
    "prepare.multiple": "the working grid is padded to this multiple: four halvings in the networks",
    "prepare.normalise": "how intensities are brought to [0, 1]",
    "prepare.percentiles": "of the body, become 0 and 1 (normalise=percentile)",
    "prepare.window": "ends that become 0 and 1, HU for CT (normalise=window)",
    "registration.network": "registration network, by name; os-medseg alone: syn, SyN's fields instead of a network's",
    "registration.channels": "encoder filters at 1/2, 1/4, 1/8, 1/16; the paper doubles (16, 32, 32, 32)",
    "registration.half_resolution": "decode the field at half resolution, then double it",
    "registration.integration_steps": "0: displacement; more: velocity, integrated by so many squarings",
    "registration.integration_grid": "half: the velocity is integrated on a grid of half the size",
    "registration.similarity": "cc: Eq. 6; mi: Eq. 7; mse: mean squared difference",
    "registration.window": "window of Eq. 6, voxels",
    "registration.bins": "bins of Eq. 7",
    "registration.smoothness": "diffusion: Eq. 8; bending: Eq. 9",
    "registration.alpha": "weight of the smoothness in Eq. 5",
    "registration.beta": "weight of the contrastive term in Eq. 5",
    "registration.temperature": "of the contrastive term, Eq. 2",
    "registration.divergence": "weight of the divergence of a drawn field from N(0, 1) (network=clmorph-gaussian)",
    "registration.steps": "optimiser steps; 0: epochs decide",
    "registration.epochs": "passes over the pool where steps is 0",
    "registration.batch": "scans per step",
    "registration.learning_rate": "of Adam",
    "registration.schedule": "of the learning rate: cosine to 0, (1 - part)^0.9 (poly), tenths (step)",
    "registration.amsgrad": "Adam with the largest second moment so far",
    "synthesis.pairs": "what the student sees: warped atlas (SI+SL) or the real scan (RI+SL)",
    "synthesis.label_warp": "linear one-hot with arg-max, or nearest voxel",
    "synthesis.appearance": "histogram: the warped atlas takes the scan's intensity distribution",
    "augment.enabled": "change the training pairs at random",
    "augment.rotation": "degrees about each axis",
    "augment.scale": "relative size along each axis",
    "augment.shear": "off-diagonal entries of the matrix",
    "augment.translation": "share of the grid's length",
    "augment.elastic": "voxels, standard deviation of the random displacement",
    "augment.elastic_spacing": "voxels between its control points",
    "augment.gamma": "exponent of the intensity curve is exp(draw)",
    "augment.contrast": "relative gain, and half of it as offset",
    "augment.bias": "log amplitude of the smooth multiplicative field",
    "augment.noise": "largest standard deviation of the noise, intensities being in [0, 1]",
    "form": "is table (Table I's rule) or original (the authors' own)",
    "student.network": "residual: Fig. 3; group: BRBS's own; slices: DataAug's own, 2-D",
    "student.channels": "filters from full size down; the teacher has the same",
    "student.residual": "residual blocks in the encoder",
    "student.decoder_residual": "residual blocks in the decoder",
    "student.norm": "normalisation",
    "student.order": "NDA: norm, then activation; ADN: activation, then norm",
    "student.weight": "weight of the segmentation loss, Eq. 11 (and of Dice)",
    "student.cross_entropy": "weight of cross entropy beside soft Dice",
    "student.warm_up": "share of the steps that first fit the logits to log labels, cut off at -100",
    "student.slices": "axial slices of a pair that a step sees (network=slices)",
    "student.balance": "0: every voxel counts the same in cross entropy; 1: every class; 0.5: between",
    "student.dice": "weight of soft Dice beside cross entropy",
    "student.patch": "training patch and sliding window, voxels, multiples of 16; empty: the whole grid",
    "student.steps": "optimiser steps; 0: epochs decide",
    "student.epochs": "passes over the pool where steps is 0",
    "student.batch": "pairs per step",
    "student.learning_rate": "of Adam, teacher and student",
    "student.schedule": "of the learning rate, as the registration's",
    "student.amsgrad": "Adam with the largest second moment so far",
    "teacher.enabled": "train the teacher at all; `--set teacher=false` for short",
    "teacher.schedule": "joint: with the student; pretrain: first alone, then joint; freeze: first alone, then fixed",
    "teacher.weight": "weight of the reconstruction, Eq. 10",
    "teacher.every": "steps between visits of the teacher; `quick` saves time, the student makes more steps",
    "teacher.head": "linear: block and 1x1x1 convolution; paper: Fig. 3's normalised output",
    "hint.weight": "weight of the hint, Eqs. 3-4",
    "hint.levels": "feature levels compared, counted from the output, 1 to 5",
    "hint.distance": "cosine (Eq. 4) or l2 (Table V)",
    "hint.mode": "what one feature vector is: a scan's map, a voxel's channels, the batch's map",
    "hint.stop_gradient": "the hint changes the student alone",
    "adversary.enabled": "train a discriminator; `--set adversary=false` for short",
    "adversary.weight": "weight of the adversarial term, Eq. 4",
    "adversary.form": "least-squares, or Eq. 4 as printed (behind a sigmoid)",
    "adversary.learning_rate": "of the discriminator; 0: that of the generators",
    "adversary.channels": "filters of the discriminator",
    "adversary.appearance": "none, or histogram: what the discriminator sees of the atlas takes the scan's contrast",
    "adversary.noise": "SD of the noise on all that the discriminator sees; scans lie in 0 to 1",
    "cycle.enabled": "train the way back; `--set cycle=false` for short",
    "cycle.image": "lambda_1, weight of the image cycle, Eq. 7",
    "cycle.transformation": "lambda_2, weight of the transformation's consistency, Eq. 8",
    "cycle.anatomy": "lambda_2, weight of the labels' cycle, Eq. 9",
    "cycle.difference": "lambda_2, weight of the labels' difference, Eq. 10",
    "cycle.average": "how Eq. 9 combines classes: mean of their losses, or pooled within the fraction",
    "cycle.background": "count the background as a class in Eqs. 9 and 10",
    "cycle.warm_up": "share of the steps in which the backward generator learns and does not pull the forward one",
    "appearance.similarity": "weight of the squared difference on the scan's grid",
    "appearance.smoothness": "weight of the smoothness of the change",
    "appearance.steps": "optimiser steps; 0: epochs decide",
    "appearance.epochs": "passes over the pool where steps is 0",
    "appearance.learning_rate": "of Adam",
    "sampling.pairs": "look and place of different scans, of one, at random, or the real scan",
    "sampling.displacement": "voxels, standard deviation of random displacements (pairs=random)",
    "sampling.label_warp": "linear one-hot with arg-max, or nearest voxel",
    "sampling.atlas": "the atlas is one of the scans that places and looks are learnt from",
    "sampling.factor": "intensities are multiplied by 1 plus or minus this at most (pairs=random)",
    "joint.semantic": "weight of the overlap of structures in the registration's loss",
    "joint.inverse": "weight of how far both directions are from inverse fields",
    "joint.inverse_by": "composition of both fields; warping: minus the field warped by itself, as the code",
    "joint.mix": "weight of the consistency of mixed scans in the segmenter's loss",
    "joint.beta": "both parameters of the Beta distribution of style and shape",
    "groupwise.simulated": "draw simulated templates between the atlases (three atlases or more)",
    "groupwise.modes": "of the atlases' fields, from which templates are drawn",
    "groupwise.tree_iterations": "demons along the tree, at 1/4, 1/2 and full size",
    "groupwise.tree_sigma": "voxels, smoothing of the field along the tree",
    "groupwise.refine_iterations": "demons between templates and between pairs, at 1/4, 1/2 and full size",
    "groupwise.refine_sigma": "voxels, smoothing of those fields",
    "groupwise.rounds": "of label fusion; from the second on, scans of the group vote, too",
    "ants.transform": "which registration ANTs runs",
    "ants.metric": "similarity of SyN",
    "ants.iterations": "of SyN at each level, from coarse to fine",
    "ants.gradient_step": "of SyN",
    "ants.flow_sigma": "smoothing of SyN's updates",
    "ants.total_sigma": "smoothing of SyN's whole field",
    "ants.labels": "how labels are interpolated",
    "ants.seed": "of the sampling of the linear stages",
    "greedy.affine_iterations": "at each level, from coarse to fine",
    "greedy.iterations": "of the deformable stage, from coarse to fine",
    "greedy.radius": "of the patch of the local cross-correlation, voxels",
    "greedy.smoothing": "of the update and of the whole warp, voxels",
    "loop.device": "where networks are trained; `--device` for short",
    "loop.precision": "autocast type",
    "loop.accumulate": "batches per optimiser step",
    "loop.recompute": "blocks of the networks are computed again in the backward pass: slower, far less memory",
    "loop.checkpoint_minutes": "time between checkpoints",
    "loop.minutes": "training time at most, shared among stages; the rate's schedule ends with it; 0: no limit",
    "loop.log_steps": "metrics.csv holds means over so many steps",
}


def blocks() -> dict[tuple[str, str], str]:
    """The made parts: (file relative to the repository, name of the part) -> Markdown."""
    return {
        ("README.md", "methods"): methods_table(),
        ("README.md", "results"): headline_results(),
        ("docs/reference/results.md", "results"): all_results(),
        ("docs/reference/claims.md", "claims"): claims(),
        ("docs/reference/benchmarks.md", "benchmarks"): benchmarks(),
        ("docs/reference/benchmarks.md", "scaling"): scaling(),
        ("docs/reference/settings.md", "settings"): settings_tables(),
        ("docs/reference/cli.md", "commands"): commands(),
        ("docs/reference/api.md", "api"): api(),
        ("docs/how-to/settings.md", "rows"): table_rows(),
        ("docs/how-to/public-data.md", "datasets"): dataset_tables(),
    }


def methods_table() -> str:
    """Every method of both papers and whether it is there."""
    from soloatlas.methods import available_methods

    here = available_methods()
    rows = [[f"`{m.name}`", m.family, m.paper, "works"] for m in here.values()]
    rows += [[f"`{n}`", family, paper, "**missing**"] for n, (family, paper) in MISSING.items() if n not in here]
    return table(["name", "family", "paper", "state"], rows)


def records(root: Path | None = None) -> list[tuple[str, dict[str, Any]]]:
    """(path, content) of the result files that `soloatlas reproduce` wrote, by path."""
    from soloatlas.reproduction.records import recorded_tables

    root = root or ROOT
    return [
        (path.relative_to(root).as_posix(), content)
        for path, content in recorded_tables(root / "results")
        if {"split", "reference"} <= set(content)
    ]


NONE_YET = "No results are recorded yet: `results/` holds no file written by `soloatlas reproduce`."


def headline_results(root: Path | None = None) -> str:
    """For each cohort the method, the warped atlas and the peers, test scans only; a row of several tables once.

    It is shown from the table with the most seeds.
    """
    best: dict[tuple[str, str], list[str]] = {}
    for path, record in records(root):
        if record["split"] != "test":
            continue
        for row in record["rows"]:
            key, seeds = (record["cohort"], row["name"]), len(row["runs"])
            if row.get("headline") and (key not in best or int(best[key][4]) < seeds):
                counts = [str(record["scans"]), str(record["unlabelled"])]
                best[key] = [*key, *counts, *_scores(row), f"[{Path(path).name}]({path})"]
    rows = [*best.values(), *peers(root or ROOT)]
    header = ["cohort", "row", "scans", "unlabelled", "seeds", "DSC", "HD95 mm", "recorded in"]
    return table(header, rows) if rows else NONE_YET


def peers(root: Path) -> list[list[str]]:
    """Rows of the peers that a script in benchmarks/ ran on the same test scans."""
    rows = []
    for path in sorted((root / "results").rglob("ants-syn.json")):
        r = json.loads(path.read_text(encoding="utf-8"))
        scores = [_number(r["mean_dice"], 3), _number(r["mean_hd95_mm"], 2)]
        name = path.relative_to(root).as_posix()
        row = [r["cohort"], "ANTs SyN, ANTsPy defaults, same atlas", str(len(r["case_dice"])), "0", "1", *scores]
        rows.append([*row, f"[{path.name}]({name})"])
    return sorted(rows)


def _scores(row: dict[str, Any]) -> list[str]:
    return [str(len(row["runs"])), _number(row["dice"], 3), _number(row["hd95_mm"], 2)]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def all_results(root: Path | None = None) -> str:
    """Every recorded table, row by row, ours beside the published figures."""
    parts = [_record(path, record) for path, record in records(root)]
    return "\n\n".join(parts) if parts else NONE_YET


def _record(path: str, record: dict[str, Any]) -> str:
    from soloatlas.reproduction.rendering import cells, notebook_note

    every = ", ".join(f"`{c}`" for c in record["changes"]) or "none"
    return (
        f"### {record['id']} on {record['cohort']}, {record['split']} scans\n\n"
        f"{record['title']} ({record['source']}). {record['scans']} scans scored, {record['unlabelled']} unlabelled, "
        f"seeds {', '.join(map(str, record['seeds']))}; settings for every row: {every}. Published figures are those "
        f"of the paper on {record['published_on']}. Difference from: {record['reference']}, "
        f"paired over scans, 95 % bootstrap interval. File: [{path}](../../{path}).\n\n"
        + table(*cells({"measures": ["dice", "hd95_mm"], **record}))
        + notebook_note(record)
    )


def claims(root: Path | None = None) -> str:
    """Each claim of the papers and what the recorded results say of it."""
    from soloatlas.reproduction.verdict_tables import as_markdown
    from soloatlas.reproduction.verdicts import read_records, verdicts

    return as_markdown(verdicts(read_records((root or ROOT) / "results")))


# What a benchmark's target asks of each quantity.
ASKED = {
    "ratio": "at least {:g}x",
    "cost": "at most {:g}x its time",
    "memory_ratio": "at most {:g} of its memory",
    "seconds": "at most {:g} s",
    "process_gb": "at most {:g} GB",
    "memory_gb": "at most {:g} GB above inputs",
    "copies": "at most {:g} copies",
}

NONE_MEASURED = "Nothing is recorded yet: `results/benchmarks/` holds no file written by `make bench`."


def benchmarks(root: Path | None = None) -> str:
    """Every recorded benchmark, row by row."""
    paths = sorted(((root or ROOT) / "results" / "benchmarks").glob("*.json"))
    parts = [_benchmark(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    return "\n\n".join(parts) if parts else NONE_MEASURED


def _benchmark(record: dict[str, Any]) -> str:
    rows = [
        [f"{m['size']}, {m['device']}", part["name"], row["peer"] or "(ours alone)", *_measured(row), _asked(row)]
        for m in record["measurements"]
        for part in m["parts"]
        for row in part["rows"]
    ]
    header = ["size, device", "what", "beside", "seconds", "times faster", "memory", "target"]
    return f"### {record['id']}\n\n{record['what'].capitalize()}.\n\n{table(header, rows)}"


def _measured(row: dict[str, Any]) -> list[str]:
    """Seconds, speed with its quartiles and memory of a row; what was not measured is a dash."""
    if not row["fits"]:
        return ["does not fit", "-", "-"]
    speed = "{:.2f} [{:.2f}, {:.2f}]".format(row["ratio"], *row["spread"]) if "ratio" in row else "-"
    memory = f"{row['process_gb']:.2f} GB" if "process_gb" in row else _number(row.get("memory_ratio"), 2)
    copies = f", {row['copies']:.1f} copies" if "copies" in row else ""
    return [_number(row.get("seconds"), 3), speed, memory + copies]


def _asked(row: dict[str, Any]) -> str:
    verdict = {True: "met", False: "**missed**", None: "not measured"}[row["met"]]
    asked = "; ".join(ASKED[quantity].format(limit) for quantity, limit in row["target"].items())
    return f"{asked}: {verdict}" if asked else "-"


def scaling(root: Path | None = None) -> str:
    """Seconds a step and memory of every recorded point, axis by axis."""
    path = (root or ROOT) / "results" / "scaling.json"
    if not path.exists():
        return "Nothing is recorded yet: `python benchmarks/scaling.py` has not been run."
    rows = [
        [
            axis,
            "x".join(map(str, p["shape"])),
            *(str(p[key]) for key in ("classes", "pool", "batches", "processes")),
            *(_number(p["seconds"].get(stage), 3) for stage in ("register", "distil")),
            f"{p['process_gb']:.2f}",
        ]
        for axis, points in json.loads(path.read_text(encoding="utf-8"))["axes"].items()
        for p in points
    ]
    header = ["grows", "voxels", "classes", "pool", "batches a step", "processes"]
    return table([*header, "registration step, s", "distillation step, s", "a process, GB"], rows)


def settings_tables() -> str:
    """Every setting of every method with its value in each preset.

    The first method's are given in full; of another's, those it has alone and those whose values differ.
    """
    from soloatlas.methods import available_methods, load_method
    from soloatlas.settings import PRESETS, describe

    names = sorted(available_methods(), key=lambda name: (name != "os-medseg", name))
    full = [dict(describe(load_method(names[0]).preset(preset))) for preset in PRESETS]
    parts = []
    for name in names:
        module = load_method(name)
        values = [dict(describe(module.preset(preset))) for preset in PRESETS]
        alike = [
            key for key in values[0] if name != names[0] and [v[key] for v in values] == [f.get(key) for f in full]
        ]
        parts.append(f"## {name}\n\n{_sections(typing.get_type_hints(module.Settings), values, alike)}")
        if hasattr(module, "original"):
            parts.append(_original(name, module, values))
    return "\n\n".join(parts)


def _original(name: str, module: Any, values: Sequence[dict[str, Any]]) -> str:
    """What the authors' own form of a method has otherwise."""
    from soloatlas.settings import PRESETS, describe

    own = [dict(describe(module.original(preset))) for preset in PRESETS]
    keys = [key for key in values[0] if key != "form" and [v[key] for v in values] != [o[key] for o in own]]
    rows = [[f"`{key}`", *(_value(o[key]) for o in own)] for key in keys]
    title, given = f"### {name}, form=original", f"`form` {MEANING['form']}; with the latter:"
    return f"{title}\n\n{given}\n\n{table(['setting', *PRESETS], rows)}\n\nAll others stay as they are."


def _sections(hints: dict[str, Any], values: Sequence[dict[str, Any]], left_out: Sequence[str]) -> str:
    """A table of settings for each section; those ``left_out`` are only mentioned."""
    from soloatlas.settings import PRESETS

    parts = []
    for section, kind in hints.items():
        if not is_dataclass(kind):
            continue  # the form, which has a table of its own
        types = typing.get_type_hints(kind)
        keys = [k for k in values[0] if k.startswith(f"{section}.") and k not in left_out]
        rows = [
            [f"`{k}`", _kind(types[k.partition(".")[2]]), MEANING[k], *(_value(v[k]) for v in values)] for k in keys
        ]
        if rows:
            parts.append(f"### {section}\n\n{table(['setting', 'values', 'what it does', *PRESETS], rows)}")
    if left_out:
        sections = ", ".join(f"`{s}`" for s in dict.fromkeys(k.partition(".")[0] for k in left_out))
        parts.append(f"All others of {sections} are as above.")
    return "\n\n".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(map(str, parts))
    if origin is tuple:
        return f"list of {_kind(parts[0])}"
    if parts:
        return " or ".join(_kind(p) for p in parts)
    return {"NoneType": "none", "str": "text"}.get(kind.__name__, kind.__name__)


def commands() -> str:
    """Every command with its arguments and options, from click's own help."""
    import click

    from soloatlas.cli import cli

    parts = []
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=name)
        usage = " ".join(["soloatlas", name, *command.collect_usage_pieces(context)])
        rows = [
            [f"`{record[0]}`", record[1]]
            for option in command.get_params(context)
            if (record := option.get_help_record(context)) and "--help" not in option.opts
        ]
        options = f"\n\n{table(['option', 'what it does'], rows)}" if rows else ""
        parts.append(
            f"### soloatlas {name}\n\n```text\n{usage}\n```\n\n{inspect.cleandoc(command.help or '')}{options}"
        )
    return "\n\n".join(parts)


def api() -> str:
    """The public names with signature and docstring."""
    import soloatlas

    parts = []
    for name in soloatlas.__all__:
        if name != "__version__":
            parts.append(_described(name, getattr(soloatlas, name)))
    return "\n\n".join(parts)


def _described(name: str, thing: Any) -> str:
    first, _, rest = (inspect.getdoc(thing) or "").partition("\n\n")
    lines = [f"### {name}", f"`soloatlas.{name}`, defined in `{thing.__module__}`."]
    if not (isinstance(thing, type) and issubclass(thing, Exception)):
        shown = inspect.signature(thing)
        given = [f"    {_parameter(parameter)}," for parameter in shown.parameters.values()]
        result = shown.return_annotation
        ending = f" -> {result}" if result not in (inspect.Signature.empty, None, "None") else ""
        lines.append("\n".join(["```text", f"{name}(", *given, f"){ending}", "```"]))
    lines.append(first.replace("\n", " "))
    if rest:
        lines.append(f"```text\n{rest}\n```")
    return "\n\n".join(lines)


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"


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
                *(_number(value, MEASURES.get(m, (m, 3))[1]) for m, value in zip_longest(one.measures, row.published)),
            ]
            for row in one.rows
        ]
        published = [f"{MEASURES.get(m, (m, 3))[0]}, {one.published_on}" for m in one.measures]
        header = ["row", "method", "settings", "what is scored", *published]
        parts.append(f"**`{key}`: {one.title}** ({one.source})\n\n{table(header, rows)}")
    return "\n\n".join(parts)


def dataset_tables() -> str:
    """The public data sets, and how each is shared out."""
    from soloatlas.data.cohorts.catalogue import DATASETS
    from soloatlas.data.cohorts.dataset import splits_of, wanted

    about = [[f"`{d.name}`", d.what, d.used, d.licence, d.ask] for d in DATASETS.values()]
    shares = [
        [f"`{d.name}`", name, *("the rest" if n is None else n for n in wanted(split).values()), split["rule"]]
        for d in DATASETS.values()
        for name, split in splits_of(d.name).items()
    ]
    first = table(["name", "what", "used", "licence", "where to ask"], about)
    return f"{first}\n\n{table(['data set', 'split', 'pool and atlas', 'dev', 'test', 'rule'], shares)}"


def filled(text: str, name: str, content: str, where: str) -> str:
    """``text`` with ``content`` between the markers ``name``."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{where}: lacks the markers {begin} and {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def stale() -> dict[Path, str]:
    """Files whose made parts are out of date, with the text they should have."""
    texts: dict[Path, str] = {}
    for (file, name), content in blocks().items():
        path = ROOT / file
        texts[path] = filled(texts.get(path) or path.read_text(encoding="utf-8"), name, content, file)
    return {path: text for path, text in texts.items() if text != path.read_text(encoding="utf-8")}


def main() -> None:
    """Write the made parts, or with ``--check`` name those that are out of date."""
    changed = stale()
    for path, text in changed.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if changed and "--check" in sys.argv[1:] else 0)


if __name__ == "__main__":
    main()
