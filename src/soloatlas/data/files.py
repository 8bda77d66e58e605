"""Reading and writing scans: NIfTI (nibabel), NRRD and MetaImage (SimpleITK), FreeSurfer MGZ (reading).

Whatever the format, an array comes with an affine that takes its voxel index to RAS+ millimetres. nibabel
works in RAS+ itself; SimpleITK in LPS+, so its first two world axes change sign on the way in and out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soloatlas.atomic import replacing
from soloatlas.data.volume import Grid, Volume, fault_of
from soloatlas.errors import InputError

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".mgz")
# MetaImage headers with a separate data file and MGZ are read, but written in the nearest single-file format.
_WRITTEN_AS = {".mhd": ".mha", ".mgz": ".nii.gz"}
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _ending(path: Path) -> str | None:
    lower = path.name.lower()
    return next((ending for ending in ENDINGS if lower.endswith(ending) and len(lower) > len(ending)), None)


def scan_name(path: str | Path) -> str:
    """File name without folder and without the ending of a scan format (``a/b.nii.gz`` -> ``b``)."""
    path = Path(path)
    return path.name[: len(path.name) - len(_ending(path) or "")]


def written_name(path: str | Path) -> str:
    """File name under which a result for the scan ``path`` is written.

    The scan's own file name; ``.mgz`` becomes ``.nii.gz`` and ``.mhd`` becomes ``.mha``, which are only read.
    """
    path = Path(path)
    ending = _ending(path) or ""
    return scan_name(path) + _WRITTEN_AS.get(ending, path.name[len(path.name) - len(ending) :])


def _require_utf8(path: Path) -> None:
    """Refuse a name that no record can hold."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        shown = str(path).encode("utf-8", "replace").decode()
        raise InputError(f"{shown}: its name is not UTF-8; rename it") from error


def list_scans(folder: str | Path) -> list[Path]:
    """Every scan directly in ``folder``, sorted by name; hidden and other files are passed over.

    Raises:
        InputError: no such folder, no scan in it, or two files of one name (``a.nii`` and ``a.nii.gz``).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of scans")
    found = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file() and _ending(p))
    for path in found:
        _require_utf8(path)
    if not found:
        known = f"known endings are {', '.join(ENDINGS)}"
        raise InputError(f"{folder}: holds no scan; {known}; convert others first, DICOM for example by dcm2niix")
    _require_unique(found)
    return found


def find_scans(inputs: Sequence[str | Path]) -> list[Path]:
    """Scans named by files and folders, in the order given; a file named twice counts once.

    Raises:
        InputError: a file or folder is missing, a file is of no known format, or two scans share a name
            (their results would overwrite each other).
    """
    found: dict[Path, Path] = {}
    for item in map(Path, inputs):
        for path in list_scans(item) if item.is_dir() else [_existing(item)]:
            found.setdefault(path.resolve(), path)
    if not found:
        raise InputError("no scan given; name files or folders")
    _require_unique(found.values())
    return list(found.values())


def _require_unique(paths: Iterable[Path]) -> None:
    paths = list(paths)
    names = Counter(scan_name(p) for p in paths)
    for name, count in names.items():
        if count > 1:
            same = ", ".join(str(p) for p in paths if scan_name(p) == name)
            raise InputError(f"{count} scans are called '{name}' ({same}); rename them or give one of them")


def _existing(path: Path) -> Path:
    """``path`` if it is a file of a known format that is not of length 0."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a scan; give a file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if _ending(path) is None:
        known = ", ".join(ENDINGS)
        raise InputError(f"{path}: not a known format ({known}); convert it, DICOM for example by dcm2niix")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); copy it again from its source")
    return path


def read_volume(path: str | Path) -> Volume:
    """Read an image as float32, (x, y, z) in the file's own axis order, with the file's intensity scaling.

    Trailing axes of length 1 are dropped. For NIfTI the sform is used when its code is set, else the qform.
    NaN and infinite values are passed on: ``check`` reports them.

    Raises:
        InputError: missing, a folder, unknown format, unreadable, truncated, not 3-D, without voxels,
            complex or colour values, or an affine that cannot be inverted.
    """
    array, grid, header = _read(Path(path))
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which check reports
        image = np.array(array, dtype=np.float32, order="C")
    return Volume(image, grid, Path(path), header)


def read_scan(path: str | Path) -> Volume:
    """Read a scan to be segmented.

    Raises:
        InputError: as `read_volume`, or it holds NaN or infinite values, or the same value everywhere.
    """
    scan = read_volume(path)
    fault = fault_of(scan)
    if fault:
        raise InputError(f"{path}: {fault}; repair the scan, or leave it out")
    return scan


def read_labels(path: str | Path) -> Volume:
    """Read a label map as int32, (x, y, z) in the file's own axis order; errors as `read_volume`.

    Integers stored as floating point or through a scale factor are accepted up to 1e-3.

    Raises:
        InputError: also for values that are not integers, negative, or above 2147483647.
    """
    array, grid, header = _read(Path(path))
    if not np.isfinite(array).all():
        raise InputError(f"{path}: a label map with NaN or infinite values; labels must be whole numbers")
    if array.dtype.kind == "f":
        whole = np.rint(array)
        if np.abs(array - whole).max() > 1e-3:
            value = array.flat[np.abs(array - whole).argmax()]
            raise InputError(f"{path}: label value {value:g} is not a whole number; is it a scan, or a resampled map?")
        array = whole
    if array.min() < 0:
        raise InputError(f"{path}: label value {array.min():g} is negative; labels must be 0 or more")
    if array.max() > np.iinfo(np.int32).max:
        raise InputError(f"{path}: label value {array.max():.0f} is above 2147483647; renumber the labels")
    return Volume(np.array(array, dtype=np.int32, order="C"), grid, Path(path), header)


def _read(path: Path) -> tuple[np.ndarray, Grid, Any]:
    """Array in the file's type (float if scaled), its grid, and the file's header."""
    _existing(path)
    reader = _read_nibabel if (_ending(path) or "").startswith((".nii", ".mgz")) else _read_simpleitk
    try:
        array, affine, header = reader(path)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: you may not read it ({error.strerror}); ask for the permission") from error
    except Exception as error:  # a broken file can fail a parser in any way, and each means the same here
        why = f"cannot be read ({_reason(error)}); the file is damaged or not what its ending says"
        raise InputError(f"{path}: {why}") from error
    array = _three_axes(array, path)
    _require_invertible(affine, path)
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return array, Grid(shape, np.asarray(affine, dtype=np.float64)), header


def _reason(error: Exception) -> str:
    """The telling line of a library's message of several lines, without its prefix."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("-", "Reason:"))]
    return f"{type(error).__name__}: {lines[-1].split('ERROR: ')[-1][:160]}" if lines else type(error).__name__


def _three_axes(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        kind = "complex" if array.dtype.kind == "c" else "colour"
        raise InputError(f"{path}: has {kind} values; give one real number per voxel")
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise _not_three_axes(path, array.shape)
    if array.size == 0:
        raise InputError(f"{path}: has no voxels ({' x '.join(map(str, array.shape))})")
    return array


def _not_three_axes(path: Path, shape: Sequence[int]) -> InputError:
    size = " x ".join(map(str, shape))
    return InputError(f"{path}: has {len(shape)} axes ({size}), not 3; give one 3-D scan per file")


def _require_invertible(affine: np.ndarray, path: Path) -> None:
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    # The determinant of unit columns does not depend on the voxel size.
    if not np.isfinite(affine).all() or lengths.min() == 0 or abs(np.linalg.det(columns / lengths)) < 1e-6:
        raise InputError(f"{path}: its affine (voxel to world) cannot be inverted; repair the header")


def _read_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    import gzip

    from nibabel.imageglobals import LoggingOutputSuppressor

    with path.open("rb") as plain:
        compressed = plain.read(2) == b"\x1f\x8b"
    opener = gzip.open if compressed else open
    with opener(path, "rb") as stream, LoggingOutputSuppressor():
        image = _nibabel_class(path, stream).from_stream(stream)
        proxy = image.dataobj
        scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
        # Scaled in float32 (nibabel would take float64); copied, so that no file stays mapped.
        array = np.asarray(proxy, dtype=np.float32) if scaled else np.array(proxy.get_unscaled())
        while stream.read(1 << 20):  # gzip compares its checksum at the end of the stream only
            pass
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= mm_per_unit(image.header)
    return array, affine, image.header


def mm_per_unit(header: Any) -> float:
    """Millimetres in the unit of length of a NIfTI header; 1 where it names none, as ITK reads it."""
    unit = header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "mm"
    return {"micron": 1e-3, "meter": 1e3}.get(unit, 1.0)


def _nibabel_class(path: Path, stream: Any) -> Any:
    import nibabel

    if _ending(path) == ".mgz":
        return nibabel.MGHImage
    size = stream.read(4)
    stream.seek(0)
    two = size in ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))
    return nibabel.Nifti2Image if two else nibabel.Nifti1Image


def _read_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:  # one volume of a series: its grid is in the header
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    if image.GetDimension() != 3:
        raise _not_three_axes(path, image.GetSize())
    array = SimpleITK.GetArrayFromImage(image)
    channels = image.GetNumberOfComponentsPerPixel() > 1
    array = np.moveaxis(array.T, 0, -1) if channels else array.T  # (z, y, x[, channel]) to (x, y, z[, channel])
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    # What the library says of the file itself ("ITK_...", "NRRD_...") is written anew by the library.
    keys = [key for key in image.GetMetaDataKeys() if not key.startswith(("ITK_", "NRRD_"))]
    return array, _LPS @ affine, {key: image.GetMetaData(key) for key in keys}


def write_volume(path: str | Path, array: np.ndarray, grid: Grid, like: Volume | None = None) -> None:
    """Write ``array`` on ``grid``, whole or not at all; the format follows the ending.

    Args:
        path: ends in .nii, .nii.gz, .nrrd or .mha.
        array: (x, y, z), or (x, y, z, channel). Integers and booleans are stored in the smallest type that
            holds them (unsigned where none is negative), floating point as float32.
        grid: of the first three axes.
        like: the scan whose header the file continues (units, description, sform and qform with their
            codes; free metadata of NRRD and MHA). Its display window and intent are not taken over.

    Raises:
        InputError: an ending that is not written, or an array that does not fit the grid.
        RunError: the file cannot be written (disk full, no permission); nothing is left behind.
    """
    path = Path(path)
    ending = _ending(path)
    if ending is None or ending in _WRITTEN_AS:
        raise InputError(f"{path}: cannot write this format; choose .nii.gz, .nii, .nrrd or .mha")
    if array.ndim not in (3, 4) or array.shape[:3] != tuple(grid.shape):
        raise InputError(f"{path}: an array of shape {array.shape} does not fit a grid of shape {grid.shape}")
    array = array.astype(_stored_type(array), copy=False)
    write = _write_nifti if ending.startswith(".nii") else _write_simpleitk
    with replacing(path) as temporary:
        write(temporary, array, grid, like)


def _stored_type(array: np.ndarray) -> np.dtype:
    if array.dtype.kind == "f":
        return np.dtype(np.float32)
    if array.dtype.kind == "b" or array.size == 0:
        return np.dtype(np.uint8)
    low, high = int(array.min()), int(array.max())
    return np.min_scalar_type(high if low >= 0 else min(low, -high - 1))


def _write_nifti(path: Path, array: np.ndarray, grid: Grid, like: Volume | None) -> None:
    import nibabel

    header = like.header if like is not None and isinstance(like.header, nibabel.Nifti1Header) else None
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    if header is not None and like is not None and np.array_equal(like.grid.affine, grid.affine):
        image = kind(array, None, header)  # sform and qform stay as they are in the input, codes included
    else:
        image = kind(array, grid.affine, header)
        _set_geometry(image, grid, header)
    image.set_data_dtype(array.dtype)
    image.header["cal_min"] = image.header["cal_max"] = 0
    image.header.set_intent("none")
    _stream_nifti(path, image)


def _stream_nifti(path: Path, image: Any) -> None:
    import gzip

    # Our own streams: closed whatever happens, and no time of day in the gzip header.
    with path.open("wb") as out:
        if not path.name.lower().endswith(".gz"):
            image.to_stream(out)
            return
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=out, mtime=0) as packed:
            image.to_stream(packed)


def _set_geometry(image: Any, grid: Grid, header: Any) -> None:
    codes = (int(header["sform_code"]), int(header["qform_code"])) if header is not None else (0, 0)
    code = next((c for c in codes if c > 0), 1)
    image.set_sform(grid.affine, code=code)
    rigid = grid.shear() < 1e-5  # a qform cannot hold one
    image.set_qform(grid.affine if rigid else None, code=code if rigid else 0)
    image.header.set_xyzt_units("mm", None if header is None else header.get_xyzt_units()[1])


def _write_simpleitk(path: Path, array: np.ndarray, grid: Grid, like: Volume | None) -> None:
    import SimpleITK

    channels = array.ndim == 4
    image = SimpleITK.GetImageFromArray(np.moveaxis(array, -1, 0).T if channels else array.T, isVector=channels)
    set_itk_geometry(image, grid)
    if like is not None and isinstance(like.header, dict):
        for key, value in like.header.items():
            image.SetMetaData(key, value)
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(_reason(error)) from error


def set_itk_geometry(image: Any, grid: Grid) -> None:
    """Lay a SimpleITK image on ``grid``."""
    spacing, origin, direction = grid.itk()
    image.SetSpacing(spacing)
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())


def write_displacements(path: Path, vectors: np.ndarray, grid: Grid) -> None:
    """Write a displacement field as ITK, ANTs and Slicer read it: five axes, a vector at each voxel.

    nibabel writes it because ITK leaves a NIfTI file cut short on a full disk and says nothing.

    Args:
        path: of a NIfTI file; appears whole or not at all.
        vectors: (x, y, z, 3), mm along the world axes LPS+; stored as float32.
        grid: where they lie.

    Raises:
        RunError: the file cannot be written (disk full, no permission); nothing is left behind.
    """
    import nibabel

    image = nibabel.Nifti1Image(vectors.astype(np.float32)[:, :, :, None, :], None)
    _set_geometry(image, grid, None)
    image.header.set_intent("vector")
    with replacing(path) as temporary:
        _stream_nifti(temporary, image)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
