"""Files that appear whole or not at all, and folders that one process at a time works in."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from soloatlas.errors import InputError, RunError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block succeeds.

    The temporary name keeps the ending of ``path`` (writers choose a format by it) and starts with a dot.
    If the block fails, the temporary file is removed and an existing ``path`` stays as it was.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    with no_empty_folders(path.parent):
        _make_folder(path.parent)
        temporary = path.parent / f".{uuid.uuid4().hex[:8]}-{path.name}"
        try:
            yield temporary
            # Some writers make private files; ours are as readable as the user's other files.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Make ``folder`` and keep other processes from holding it meanwhile; a process that dies lets go of it.

    Where the system or the disk knows no such locks, nobody is kept out.

    Raises:
        InputError: another process holds it.
        RunError: it cannot be made.
    """
    _make_folder(Path(folder))
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another process is at work in it; wait for it, or stop it") from error
        except OSError:
            pass  # a disk without locks
        yield
    finally:
        os.close(handle)


def whole_files(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder without the temporary ones of `replacing`, which a killed process may have left there."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def require_writable(folder: str | Path) -> None:
    """See that ``folder`` can be made and written: before long work, not after it. Nothing is left behind.

    Raises:
        RunError: it cannot be made or written.
    """
    folder = Path(folder)
    with no_empty_folders(folder):
        _make_folder(folder)
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise RunError(f"cannot write in {folder}: {error.strerror}; name a place that you may write to") from error


@contextlib.contextmanager
def no_empty_folders(folder: Path) -> Iterator[None]:
    """Take away what the block makes of ``folder``, and of those above it, if it holds nothing in the end."""
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in absent:
            with contextlib.suppress(OSError):  # it holds something, or does not exist
                path.rmdir()


def require_own(folder: str | Path, marker: str) -> None:
    """See that ``folder`` holds nothing, or the file ``marker`` that this program leaves in a folder of its own.

    Raises:
        InputError: it holds files of others, which might be overwritten.
    """
    folder = Path(folder)
    if not folder.is_dir() or (folder / marker).exists():
        return
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if found:
        raise InputError(f"--output {folder}: holds other files ({', '.join(found[:3])}); choose a new or empty folder")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {error.strerror}; name a place that you may write to") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: str | Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write ``rows``, the titles first, to ``path`` (UTF-8), whole or not at all. ``None`` becomes an empty cell."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv_writer(file).writerows(rows)


def csv_writer(file: TextIO) -> Any:
    """A writer of rows whose lines end alike on every system."""
    return csv.writer(file, lineterminator="\n")


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write ``array`` in NumPy's own format to ``path``, whole or not at all."""
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as stream:
        try:
            np.save(stream, array, allow_pickle=False)
        except OSError as error:
            if error.strerror:
                raise
            raise OSError(f"{error}; is the disk full?") from error  # a short write has no reason of the system's


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write ``tensors`` as safetensors (nothing is pickled) to ``path``, whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file that `write_json` wrote.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON to ``path``, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
