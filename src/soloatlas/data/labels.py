"""Label values, their names, colours and sides; the tables in which people keep them."""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soloatlas.atomic import write_text
from soloatlas.data.volume import Grid
from soloatlas.errors import InputError

Colour = tuple[int, int, int]
Names = dict[int, tuple[str, Colour | None]]

# One line of each table: ITK-SNAP "3 255 0 0 1 1 1 "name"", FreeSurfer (and 3D Slicer) "3 name 255 0 0 0".
_ITKSNAP = re.compile(r'(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+\d+\s+\d+\s+"(.*)"')
_FREESURFER = re.compile(r"(\d+)\s+(\S.*?)\s+(\d+)\s+(\d+)\s+(\d+)(?:\s+\d+)?")
_LEFT, _RIGHT = {"left", "l", "lh", "lt"}, {"right", "r", "rh", "rt"}


@dataclass(frozen=True)
class LabelTable:
    """The classes of a study; class ``i`` has the file value ``values[i]``.

    Attributes:
        values: file values, rising, the first is 0 (background); gaps are allowed.
        names: one for each value.
        colours: red, green, blue (0..255) for each value.
        pairs: (class on the left, class on the right) for each structure that has both sides.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.values or self.values[0] != 0 or np.any(np.diff(self.values) <= 0):
            raise InputError(f"label values {self.values} must start at 0 (background) and rise")
        if not len(self.values) == len(self.names) == len(self.colours):
            raise InputError("a label table needs one name and one colour for each value")

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.values)

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Class map (uint8 up to 256 classes, else int16) of an array of file values, of the same shape.

        Raises:
            InputError: the array holds values that the table does not know; they are named.
        """
        values = np.asarray(self.values)
        out = np.empty(array.shape, dtype=np.uint8 if self.classes <= 256 else np.int16)
        unknown: set[int] = set()
        for plane, target in zip(array, out, strict=True):  # one plane at a time: the search returns int64
            index = np.minimum(np.searchsorted(values, plane), self.classes - 1)
            target[...] = index
            unknown.update(np.unique(plane[values[index] != plane]).tolist())
        if unknown:
            raise InputError(f"label values {_some(sorted(unknown))} are not among the study's: {self.values}")
        return out

    def decode(self, classes: np.ndarray) -> np.ndarray:
        """File values of a class map, of the same shape, in the smallest unsigned type that fits."""
        return np.asarray(self.values, dtype=np.min_scalar_type(self.values[-1]))[classes]

    def volumes(self, classes: np.ndarray, grid: Grid) -> list[list[Any]]:
        """Rows (label value, name, ml) of every structure in a class map on ``grid``, 0 where it was not found."""
        voxel_ml = abs(np.linalg.det(grid.affine[:3, :3])) / 1000
        counts = np.bincount(classes.ravel(), minlength=self.classes)
        return [[self.values[c], self.names[c], f"{counts[c] * voxel_ml:.4f}"] for c in range(1, self.classes)]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary for JSON, keyed by file value; `read_label_names` reads it too."""
        return {
            "labels": {str(v): name for v, name in zip(self.values, self.names, strict=True)},
            "colours": {str(v): list(colour) for v, colour in zip(self.values, self.colours, strict=True)},
            "pairs": [[self.values[left], self.values[right]] for left, right in self.pairs],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LabelTable:
        """The table that `to_json` gave.

        Raises:
            InputError: ``content`` is not of that form.
        """
        try:
            values = tuple(sorted(int(v) for v in content["labels"]))
            names = tuple(str(content["labels"][str(v)]) for v in values)
            colours = tuple(_colour(content["colours"][str(v)]) for v in values)
            pairs = tuple((values.index(left), values.index(right)) for left, right in content["pairs"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a label table ({error!r}); expected labels, colours and pairs") from error
        return cls(values, names, colours, pairs)


def relabel(array: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """``array`` with each label value replaced by ``mapping[value]``, and by 0 where the mapping has none.

    Several values may become one (left and right, united). All are replaced at once, so that a new value is
    never taken for an old one.

    Args:
        array: integers, 0 or more, of any shape.
        mapping: old value to new value, none below 1.

    Returns:
        The same shape, in the smallest unsigned type that holds the new values.
    """
    if min((*mapping, *mapping.values())) < 1:
        raise InputError("relabel: values below 1 cannot be mapped; 0 is the background")
    new = np.zeros(max(mapping) + 1, dtype=np.min_scalar_type(max(mapping.values())))
    new[list(mapping)] = list(mapping.values())
    return new[np.where(array < len(new), array, 0)]


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")


def label_table(values: Iterable[int], names: Mapping[int, tuple[str, Colour | None]] | None) -> LabelTable:
    """Table for the file values of a study (0 is added), with names as `read_label_names` gives them.

    A value without a name is called "label 17". Values without a colour get colours far apart in hue.
    Left/right pairs are found from the names ("Left X", "X_R", "L-X", "XLeft", "ctx-lh-X").

    Raises:
        InputError: a negative value.
    """
    known = names or {}
    wanted = tuple(sorted({0, *(int(v) for v in values)}))
    default = [(0, 0, 0), *(_spread_colour(i) for i in range(len(wanted) - 1))]
    called = [known.get(v, ("background" if v == 0 else f"label {v}", None))[0] for v in wanted]
    colours = tuple(known.get(v, ("", None))[1] or default[i] for i, v in enumerate(wanted))
    return LabelTable(wanted, tuple(called), colours, _pairs(called))


def _spread_colour(index: int) -> Colour:
    # Golden-ratio steps keep any number of hues apart; three tones part neighbours once hues repeat.
    hue, tone = (index * 0.618034) % 1.0, index % 3
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.55, 0.95)[tone], (0.95, 1.0, 0.65)[tone])
    return round(red * 255), round(green * 255), round(blue * 255)


def _pairs(names: list[str]) -> tuple[tuple[int, int], ...]:
    """(left class, right class) for names that differ in nothing but their side."""
    sides: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for index, name in enumerate(names):
        side, stem = _side(name)
        if side:
            sides.setdefault(stem, {"left": [], "right": []})[side].append(index)
    both = [(s["left"], s["right"]) for s in sides.values()]
    return tuple(sorted((left[0], right[0]) for left, right in both if len(left) == len(right) == 1))


def united_sides(names: Mapping[int, tuple[str, Colour | None]]) -> dict[int, int]:
    """The right side's label value to the left's, for each structure that has one of each by name."""
    values = sorted(names)
    return {values[right]: values[left] for left, right in _pairs([names[value][0] for value in values])}


def without_side(name: str) -> tuple[str, ...]:
    """The words of a name in small letters, without left or right: "Left-VentralDC" is ("ventral", "dc")."""
    return _side(name)[1]


def _side(name: str) -> tuple[str | None, tuple[str, ...]]:
    """("left" or "right" or None, the words of the name without it); "L1", a vertebra, has no side."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)  # LParotid -> L Parotid
    tokens = [t for t in re.split(r"[\W_]+", words.lower()) if t]
    found = [t for t in tokens if t in _LEFT | _RIGHT]
    if len(found) != 1:
        return None, tuple(tokens)
    return ("left" if found[0] in _LEFT else "right"), tuple(t for t in tokens if t != found[0])


def looks_drawn(array: np.ndarray) -> bool:
    """Whether a volume (x, y, z) is a label map by its values: whole numbers, most voxels equal to the next."""
    return evenness(array) > 0.8 and bool((array == np.rint(array)).all())


def evenness(array: np.ndarray) -> float:
    """Share of neighbouring voxels above the lowest value that are equal, 0 to 1; in some planes of (x, y, z).

    At least 0.88 in the label maps of the shared cohorts, at most 0.08 in their scans.
    """
    planes = array[:: max(1, len(array) // 32)]
    one, next_one, low = planes[:, 1:], planes[:, :-1], array.min()
    inside = (one > low) & (next_one > low)
    return float(((one == next_one) & inside).sum() / max(1, inside.sum()))


def read_label_names(path: str | Path) -> Names:
    """Names (and colours, where the file has them) by label value, from any of the usual tables.

    ``labels.json`` ({"1": "name"}), ``dataset.json`` in nnU-Net's form ({"labels": {"name": 1}}) and the
    Medical Segmentation Decathlon's ({"labels": {"1": "name"}}), a run's own labels.json, ITK-SNAP label
    descriptions and FreeSurfer colour tables. The content decides, not the file name.

    Raises:
        InputError: missing, not one of these, a value with two names, or nnU-Net regions.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"{path}: cannot read label names: {why}") from error
    names = _from_json(text, path) if text.lstrip().startswith(("{", "[")) else _from_lines(text, path)
    if not names:
        raise InputError(f"{path}: holds no label names; expected labels.json, ITK-SNAP or FreeSurfer form")
    return names


def _from_json(text: str, path: Path) -> Names:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON (line {error.lineno}: {error.msg})") from error
    labels = content.get("labels", content) if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        raise InputError(f'{path}: expected an object such as {{"1": "name"}}')
    colours = content.get("colours", {}) if labels is not content else {}
    names: Names = {}
    for key, item in labels.items():
        value, name = _entry(key, item, path)
        try:
            colour = _colour(colours[str(value)]) if str(value) in colours else None
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: the colour of {value} is not three numbers, as in [255, 0, 0]") from error
        _add(names, value, name, colour, path)
    return names


def _entry(key: str, item: Any, path: Path) -> tuple[int, str]:
    """(value, name) of one JSON entry, whichever of the two is the key."""
    if isinstance(item, list):
        raise InputError(f"{path}: '{key}' is a region of several labels; give one value for each name")
    if key.strip().isdecimal() and isinstance(item, str):
        return int(key), item
    if (isinstance(item, int) and not isinstance(item, bool)) or str(item).strip().isdecimal():
        return int(item), key
    raise InputError(f"{path}: '{key}': {item!r} pairs no whole number with a name")


def _from_lines(text: str, path: Path) -> Names:
    names: Names = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if found := _ITKSNAP.fullmatch(line):
            value, *colour, name = found.groups()
        elif found := _FREESURFER.fullmatch(line):
            value, name, *colour = found.groups()
        else:
            raise InputError(f"{path}: line {number} is neither ITK-SNAP nor FreeSurfer form: {line[:60]}")
        _add(names, int(value), name, _colour(colour), path)
    return names


def _add(names: Names, value: int, name: str, colour: Colour | None, path: Path) -> None:
    if value in names and names[value][0] != name:
        raise InputError(f"{path}: value {value} has two names, '{names[value][0]}' and '{name}'; keep one")
    names[value] = (name.strip(), colour)


def _colour(parts: Iterable[Any]) -> Colour:
    red, green, blue = (min(255, max(0, int(part))) for part in parts)
    return red, green, blue


def write_label_table(path: str | Path, table: LabelTable) -> None:
    """Write ``table`` as an ITK-SNAP label description (text), whole or not at all."""
    lines = ["# ITK-SNAP label description", "# value, red, green, blue, opacity, visible, mesh, name"]
    for value, name, (red, green, blue) in zip(table.values, table.names, table.colours, strict=True):
        shown = int(value != 0)
        quoted = name.replace('"', "'")
        lines.append(f'{value:5d} {red:3d} {green:3d} {blue:3d} {shown:6d} {shown} {shown} "{quoted}"')
    write_text(path, "\n".join(lines) + "\n")
