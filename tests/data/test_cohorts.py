"""Cohorts by name, from a made-up shared folder and the real one; the download from a loopback server."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from soloatlas.data.cohorts import data_root, fetch_hippocampus, hippocampus, recorded_atlas, shared, shared_cohort
from soloatlas.data.files import read_labels, read_volume
from soloatlas.data.labels import read_label_names
from soloatlas.errors import InputError, RunError

POOL, DEV, TEST = ["c", "a", "e", "b"], ["d"], ["f", "g"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shared folder with one cohort, its atlas "e" recorded, and nothing else in reach."""
    folder = tmp_path / "data" / "made"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for case in POOL + DEV + TEST:
            (folder / kind / f"{case}.nii.gz").touch()
    (folder / "split.json").write_text(json.dumps({"pool": POOL, "dev": DEV, "test": TEST}))
    (folder / "labels.json").write_text('{"1": "one"}')
    (tmp_path / "atlases.json").write_text('{"made": {"atlas": "e", "mean_ncc": 0.9}}')
    monkeypatch.setattr(shared, "ATLASES", tmp_path / "atlases.json")
    monkeypatch.setenv("SOLOATLAS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def stems(paths: tuple[Path, ...]) -> list[str]:
    return [path.name.removesuffix(".nii.gz") for path in paths]


def test_the_recorded_atlas_and_the_pool_in_its_listed_order(root: Path) -> None:
    study = shared_cohort("made")
    assert study.atlas == root / "made" / "images" / "e.nii.gz"
    assert study.atlas_labels == root / "made" / "labels" / "e.nii.gz"
    assert stems(study.unlabelled) == ["c", "a", "b"]
    assert stems(study.test_images) == stems(study.test_labels) == TEST
    assert study.test_labels[0].parent.name == "labels"
    assert (study.name, study.label_names) == ("made", root / "made" / "labels.json")


def test_other_atlas_split_and_count(root: Path) -> None:
    study = shared_cohort("made", unlabelled=2, split="dev", atlas="c")
    assert stems((study.atlas, *study.unlabelled, *study.test_images)) == ["c", "a", "e", "d"]


def test_merged_labels_are_the_default_target(root: Path) -> None:
    folder = root / "made"
    (folder / "labels").rename(folder / "labels_reduced")
    (folder / "labels.json").rename(folder / "labels_reduced.json")
    study = shared_cohort("made")
    assert study.atlas_labels.parent.name == study.test_labels[0].parent.name == "labels_reduced"
    assert study.label_names == folder / "labels_reduced.json"


@pytest.mark.parametrize("count", [0, -1, 4])
def test_impossible_counts_are_refused(root: Path, count: int) -> None:
    with pytest.raises(InputError, match="1 to 3 are possible"):
        shared_cohort("made", unlabelled=count)


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cohort 'other'; known: made"):
        shared_cohort("other")
    with pytest.raises(InputError, match="atlas 'f' is not in the pool"):
        shared_cohort("made", atlas="f")
    (root / "made" / "images" / "g.nii.gz").unlink()
    with pytest.raises(InputError, match=r"g\.nii\.gz: no such file, though"):
        shared_cohort("made")
    (tmp_path / "atlases.json").unlink()
    with pytest.raises(InputError, match="choose-atlas"):
        shared_cohort("made")
    assert recorded_atlas("made") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"pool": []}', '{"pool": 3, "dev": [], "test": []}'])
def test_a_broken_split_is_refused(root: Path, content: str) -> None:
    (root / "made" / "split.json").write_text(content)
    with pytest.raises(InputError, match="expected lists of ids"):
        shared_cohort("made")


def test_where_shared_data_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLOATLAS_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.setenv("SOLOATLAS_DATA", str(tmp_path / "none"))
    with pytest.raises(InputError, match="SOLOATLAS_DATA="):
        data_root()
    monkeypatch.delenv("SOLOATLAS_DATA")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    there = tmp_path / "x" / "repo" / "src" / "soloatlas" / "data" / "cohorts" / "shared.py"
    monkeypatch.setattr(shared, "__file__", str(there))
    assert data_root() is None
    with pytest.raises(InputError, match="set SOLOATLAS_DATA"):
        shared_cohort("made")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert data_root() == tmp_path / "shared" / "data"
    (tmp_path / "x" / "shared" / "data").mkdir(parents=True)
    assert data_root() == tmp_path / "x" / "shared" / "data"


REAL = data_root()


@pytest.mark.cohort
@pytest.mark.skipif(REAL is None, reason="the shared cohorts are not here")
@pytest.mark.parametrize(
    ("name", "atlas", "pool", "test", "structures"),
    [
        ("hippocampus", "hippocampus_001", 129, 40, 2),
        ("brain_malf", "1000", 11, 7, 38),
        ("headneck_openkbp", "pt_001", 79, 30, 7),
        ("mouse_fvb", "fvb1", 3, 3, 37),
    ],
)
def test_real_cohorts(name: str, atlas: str, pool: int, test: int, structures: int) -> None:
    study = shared_cohort(name, atlas=atlas, root=REAL)
    assert (len(study.unlabelled), len(study.test_images), len(study.test_labels)) == (pool, test, test)
    assert not {study.atlas, *study.unlabelled} & set(study.test_images)
    assert study.label_names is not None
    names = read_label_names(study.label_names)
    assert len(set(names) - {0}) == structures
    image, labels = read_volume(study.atlas), read_labels(study.atlas_labels)
    assert labels.grid.matches(image.grid)
    assert set(labels.array.ravel().tolist()) <= {0, *names}


# The download: an archive with the layout of Task04_Hippocampus.tar, served on this machine.


def archive(path: Path, cases: int = 200) -> str:
    """Write the archive; returns its hash."""
    with tarfile.open(path, "w") as tar:
        for k in range(cases, 0, -1):
            for kind in ("imagesTr", "labelsTr"):
                add(tar, f"Task04_Hippocampus/{kind}/hippocampus_{k:03d}.nii.gz", f"{kind} {k}".encode())
                add(tar, f"Task04_Hippocampus/{kind}/._hippocampus_{k:03d}.nii.gz", b"of a Mac")
        add(tar, "Task04_Hippocampus/dataset.json", b'{"labels": {"0": "background", "1": "Anterior"}}')
        add(tar, "Task04_Hippocampus/imagesTs/hippocampus_002.nii.gz", b"not needed")
        add(tar, "../escaped.nii.gz", b"bad")
        add(tar, "/imagesTr/../../../escaped.nii.gz", b"bad")
        link = tarfile.TarInfo("Task04_Hippocampus/imagesTr/hippocampus_999.nii.gz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """(address, folder that is served); no shared data, no recorded atlas."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr(hippocampus, "data_root", lambda: None)
    monkeypatch.setattr(shared, "ATLASES", tmp_path / "atlases.json")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def test_download(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    known = archive(folder / "Task04_Hippocampus.tar")
    cache = tmp_path / "deep" / "cache"
    study = fetch_hippocampus(cache, f"{address}/Task04_Hippocampus.tar", known)
    ids = [f"hippocampus_{k:03d}" for k in range(1, 201)]
    assert stems((study.atlas, *study.unlabelled)) == ids[:130]
    assert stems(study.test_images) == stems(study.test_labels) == ids[-40:]
    assert study.unlabelled[0].read_bytes() == b"imagesTr 2"
    assert study.test_labels[-1].read_bytes() == b"labelsTr 200"
    assert study.label_names is not None
    assert read_label_names(study.label_names)[1] == ("Anterior", None)
    assert "CC-BY-SA" in study.notes[0]

    # Again: from the cache, without the server; a file that was lost is put back.
    (folder / "Task04_Hippocampus.tar").unlink()
    study.atlas.unlink()
    study.atlas_labels.write_bytes(b"cut")
    assert fetch_hippocampus(cache, f"{address}/Task04_Hippocampus.tar", known) == study
    assert study.atlas.read_bytes() == b"imagesTr 1" and study.atlas_labels.read_bytes() == b"labelsTr 1"


def test_nothing_in_the_archive_reaches_another_place(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    known = archive(folder / "x.tar")
    fetch_hippocampus(tmp_path / "a" / "b" / "cache", f"{address}/x.tar", known)
    written = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()}
    task = Path("a/b/cache/Task04_Hippocampus")
    outside = {p for p in written if task not in p.parents}
    assert outside == {Path("served/x.tar"), Path("a/b/cache/x.tar")}
    assert {p.parent.name for p in written - outside} == {"imagesTr", "labelsTr", "Task04_Hippocampus"}
    assert not [p for p in written if p.name.startswith(".") or "999" in p.name]


def test_the_recorded_atlas_is_taken_out_of_the_download(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    known = archive(folder / "x.tar")
    (tmp_path / "atlases.json").write_text('{"hippocampus": {"atlas": "hippocampus_180"}}')
    study = fetch_hippocampus(tmp_path / "cache", f"{address}/x.tar", known)
    assert stems((study.atlas,)) == ["hippocampus_180"]
    assert len(study.unlabelled) == 129 and len(study.test_images) == 40
    assert study.atlas not in (*study.unlabelled, *study.test_images)


def test_the_shared_cohort_is_preferred(root: Path, tmp_path: Path) -> None:
    (root / "made").rename(root / "hippocampus")
    (tmp_path / "atlases.json").write_text('{"hippocampus": {"atlas": "c"}}')
    study = fetch_hippocampus(tmp_path / "cache", "http://127.0.0.1:9/none.tar", "md5:0")
    assert study.atlas == root / "hippocampus" / "images" / "c.nii.gz"
    assert not (tmp_path / "cache").exists()


def test_a_wrong_hash_is_refused_and_nothing_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    archive(folder / "x.tar")
    with pytest.raises(RunError, match="cannot download") as caught:
        fetch_hippocampus(tmp_path / "cache", f"{address}/x.tar", "md5:" + "0" * 32)
    assert "\n" not in str(caught.value) and "hash" in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.nii.gz"))
    assert not (tmp_path / "cache" / "x.tar").exists()


def test_no_such_file_and_no_server_are_one_clear_line(server: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = server
    for url in (f"{address}/none.tar", "http://127.0.0.1:9/none.tar"):
        with pytest.raises(RunError, match=r"put none\.tar in") as caught:
            fetch_hippocampus(tmp_path / "cache", url, "md5:" + "0" * 32)
        assert "\n" not in str(caught.value) and url in str(caught.value)


def test_a_broken_or_short_archive_is_refused(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (folder / "x.tar").write_bytes(b"not an archive" * 100)
    known = "sha256:" + hashlib.sha256((folder / "x.tar").read_bytes()).hexdigest()
    with pytest.raises(RunError, match="cannot be unpacked"):
        fetch_hippocampus(tmp_path / "cache", f"{address}/x.tar", known)
    known = archive(folder / "y.tar", cases=30)
    with pytest.raises(RunError, match="holds 30 labelled scans"):
        fetch_hippocampus(tmp_path / "cache", f"{address}/y.tar", known)
