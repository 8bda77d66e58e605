"""Every item at its smallest size: results are equal, every side runs. No time is looked at."""

import warnings

import pytest

from harness import ALONE, Place, differing, load
from items import NAMES

PARTS = [(name, part) for name in NAMES for part in load(name).parts if "tiny" in part.shapes]
NOT_HERE = {"ANTs": "minutes of another program", "cpu-settings": "trains in processes of its own"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of an item's input files, which its parts share; made when first asked for."""
    base, made = tmp_path_factory.mktemp("benchmarks"), set()

    def folder(name, part):
        (base / name).mkdir(exist_ok=True)
        if part.files and part.files not in made:
            part.files(Place("tiny", part.shapes["tiny"], "cpu", base / name))
        made.add(part.files)
        return base / name

    return folder


@pytest.mark.parametrize(("name", "part"), PARTS, ids=[f"{name}: {part.name}" for name, part in PARTS])
def test_results_are_equal_and_every_side_runs(name, part, folders):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peers, as where they are measured
        place = Place("tiny", part.shapes["tiny"], "cpu", folders(name, part))
        case = part.build(place)
        assert differing(case.agree()) == []
        for side in (ALONE, *case.peers):
            if not any(word in f"{name} {side}" for word in NOT_HERE):
                case.side(side)()
    for peer in part.targets:
        assert peer in (ALONE, *case.peers), f"a target for {peer}, which is not there"


def test_names_are_those_of_the_files():
    for name in NAMES:
        item = load(name)
        assert item.name == name
        assert len({part.name for part in item.parts}) == len(item.parts)


def test_items_can_be_listed_without_torch():
    import subprocess
    import sys
    from pathlib import Path

    script = (
        "import sys; from harness import load; from items import NAMES; [load(n) for n in NAMES]; "
        "sys.exit('torch' in sys.modules)"
    )
    folder = Path(__file__).parents[2] / "benchmarks"
    assert subprocess.run([sys.executable, "-c", script], cwd=folder).returncode == 0
