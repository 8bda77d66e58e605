from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from soloatlas.errors import InputError
from soloatlas.reporting import render_report

SECTIONS = ["results", "inputs", "pairs", "fields", "learning", "cost", "settings", "provenance"]
VOID = {"meta", "img", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and the cells of each table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def ids(self) -> list[str]:
        return [a["id"] for tag, a in self.tags if tag == "section" and a.get("id")]  # type: ignore[misc]

    def images(self) -> list[str]:
        return [str(a["alt"]) for tag, a in self.tags if tag == "img"]

    def row(self, *start: str) -> list[str]:
        """The first row of any table that begins with these cells."""
        return next(r for t in self.tables for r in t if r[: len(start)] == list(start))


@pytest.fixture(scope="module")
def page(rendered: tuple[Path, list[Path]]) -> Page:
    return Page(rendered[0].read_text(encoding="utf-8"))


def render(run: Path, evaluations: list[Path] | None = None) -> Page:
    path = render_report(run, evaluations or [])
    assert path == run / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_page_loads_nothing(rendered: tuple[Path, list[Path]]) -> None:
    text = rendered[0].read_text(encoding="utf-8")
    tags = Page(text).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "embed", "base"}
    targets = [v for _, a in tags for k, v in a.items() if k in ("src", "href", "srcset", "data", "action")]
    assert targets and all(str(v).startswith(("#", "data:image/png;base64,")) for v in targets)
    assert "http://" not in text and "https://" not in text
    assert all(v.startswith("#") for v in re.findall(r"url\(([^)]*)\)", text)) and "@import" not in text
    assert len(text) < 3_000_000


def test_every_section_is_there_and_linked(page: Page) -> None:
    expected = [*SECTIONS[:1], "cases", "overlays", *SECTIONS[1:]]
    assert page.ids() == expected
    assert [a["href"] for tag, a in page.tags if tag == "a"] == [f"#{name}" for name in expected]
    assert all(a.get("aria-label") for tag, a in page.tags if a.get("role") == "img")
    assert all(page.images())


def test_settings_and_the_missing_teacher_are_said(page: Page) -> None:
    text = page.text
    assert "Trained without the teacher" in text
    assert "undoubled registration filters (16, 32, 32, 32)" in text
    assert "60 optimiser steps for the registration" in text and "80 optimiser steps for the student" in text
    assert "half resolution" in text
    assert "Eq. 6, minus local correlation², n = 9" in text and "Eq. 9, bending energy" in text
    assert "Eq. 11, cross entropy" in text and "1 − soft Dice (ours" in text


def test_numbers_of_the_run(page: Page) -> None:
    assert page.row("left <core>", "3") == ["left <core>", "3", "0.24", "0.960"]  # 4 x 5 x 4 voxels of 3 mm3
    assert page.row("shell", "7") == ["shell", "7", "1.20", "0.990"]  # 8 x 10 x 6 - 80 voxels
    assert page.row("Learn") == ["Learn", "1 min 30 s", "75"]
    assert page.row("Training in all")[1] == "2 min 00 s"
    assert page.row("Folding") == ["Folding", "% of voxels", "1.000", "0.500", "1.000", "0.500", "1.500", "b"]
    assert page.row("Similarity after")[-1] == "b" and page.row("Similarity before")[-1] == "a"
    assert "Not aligned, to be looked at or left out: b (1 of 2)" in page.text
    assert "a, 50.00 % of voxels fold" in page.text
    assert page.row("Parameters")[1] == "student 1.50 million"
    assert page.row("Command")[1] == "soloatlas train --output run"


def test_scores_side_by_side_and_cases_worst_first(page: Page, rendered: tuple[Path, list[Path]]) -> None:
    results = [json.loads((folder / "metrics.json").read_text()) for folder in rendered[1]]
    means = [f"{r['mean_dice']:.3f}" for r in results]
    assert [page.row("Atlas labels warped")[2], page.row("Student")[2]] == means
    # The student's case 0 is perfect; its case 1 is one voxel off: the core then overlaps by 4 of 5 rows.
    row = page.row("left <core>", "0.700", "0.900")
    assert row[3] == "+0.200"
    student_cases = next(t for t in page.tables if t[0][0] == "Case")
    assert [r[0] for r in student_cases[1:]] == ["case1", "case0"]
    assert student_cases[1][1:3] == ["label 3", "0.800"]
    assert results[1]["rule"] in page.text
    assert page.row("Segmenting one scan: student")[1] == "2.00 s"
    assert "points above “Atlas labels warped”" in page.text


def test_overlays_name_worst_and_best(page: Page) -> None:
    assert page.text.index("Worst case: case1") < page.text.index("Best case: case0")
    overlays = [alt for alt in page.images() if alt.startswith("case")]
    assert len(overlays) == 2 * 3  # the scan alone and one picture per evaluation
    assert "case0: Student, DSC 1.000" in overlays[5]


def test_moved_files_leave_one_line(run: Path, evaluations: list[Path], tmp_path: Path) -> None:
    (tmp_path / "images" / "case1.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    page = render(run, evaluations)
    line = f"Worst case: case1 is left out: {tmp_path / 'images' / 'case1.nii.gz'}: no such file"
    assert line in page.text
    assert "Best case: case0" in page.text and len([a for a in page.images() if a.startswith("case0")]) == 3


def test_unfinished_run_shows_what_is_there(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    for key in ("ceiling", "peak_memory_gb", "parameters", "pool", "grid"):
        del record[key]
    (run / "run.json").write_text(json.dumps(record | {"state": "training", "seconds": {}}))
    for name in ("fields.csv", "samples.npz", "labels.json", "atlas.nii.gz", "atlas_labels.nii.gz"):
        (run / name).unlink()
    page = render(run)
    assert page.ids() == SECTIONS
    assert "Training has not finished" in page.text
    assert "fields.csv not written yet" in page.text and "samples.npz not written yet" in page.text
    assert "Eq. 11, cross entropy" in page.text


@pytest.mark.parametrize(("right", "said"), [(0.8, ""), (0.99, "certain of its"), (0.5, "no better than chance")])
def test_the_page_says_how_the_adversarial_game_went(run: Path, right: float, said: str) -> None:
    rows = [f"correspond,{step},{term}" for step in (10, 20) for term in (f"D right,{right}", "total,1")]
    (run / "metrics.csv").write_text("\n".join(["stage,step,term,value", *rows]) + "\n")
    text = render(run).text
    assert f"judged {100 * right:.0f} % of the patches rightly" in text
    assert "but for the discriminator's verdicts" in text
    assert ("The adversarial game was one-sided" in text) == bool(said) and said in text


def test_damaged_parts_are_left_out(run: Path) -> None:
    (run / "samples.npz").write_bytes(b"PK\x03\x04 cut short")
    (run / "metrics.csv").write_text("stage,step,term,value\nregister,ten,similarity,1\n")
    page = render(run)
    assert "samples.npz cannot be read" in page.text and "metrics.csv cannot be read" in page.text
    assert page.row("Folding")


def test_names_cannot_break_the_page(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"study": "<script>alert(1)</script>"}))
    page = render(run)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text


def test_same_run_gives_the_same_page(rendered: tuple[Path, list[Path]]) -> None:
    path, evaluations = rendered
    first = path.read_bytes()
    assert render_report(path.parent, evaluations).read_bytes() == first


@pytest.mark.parametrize("content", ["{", "[]", '{"state": "finished"}'])
def test_damaged_record_is_refused(run: Path, content: str) -> None:
    (run / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        render_report(run)
    assert not (run / "report.html").exists()


def test_missing_record_and_scores_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        render_report(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no metrics\.json"):
        render_report(run, [tmp_path])
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"metrics\.json: damaged"):
        render_report(run, [tmp_path])


def test_nothing_heavy_comes_with_the_import() -> None:
    code = "import sys, soloatlas.reporting; print({'torch', 'matplotlib', 'nibabel', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
