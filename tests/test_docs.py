"""The documentation is true: its commands run, its tables are those of the code, its links lead somewhere."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from made.benchmarks import NONE_MEASURED, benchmarks
from made.meanings import MEANING
from made.methods import methods_table
from made.results import NONE_YET, all_results, headline_results
from make_tables import stale

from soloatlas import pipeline
from soloatlas.cli import cli
from soloatlas.data.demo import simulate_cohort
from soloatlas.data.study import read_study
from soloatlas.errors import InputError
from soloatlas.methods import available_methods, load_method
from soloatlas.settings import describe, override

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "soloatlas"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=IDS)

# Commands of the pages that are not run here, each with the reason. An entry that no page shows is an error.
NOT_RUN = {
    "make demo": "installs from the network; CI runs it",
    "make install": "installs from the network",
    ". .venv/bin/activate": "a matter of the shell",
    "make test": "runs this test",
    "make bench": "hours; tests/benchmarks",
    "python benchmarks/run.py lncc warp --size small": "minutes; tests/benchmarks",
    "python benchmarks/accuracy_minutes.py --cohort hippocampus": "hours, and a cohort",
    "python benchmarks/compare_cohort.py --cohort hippocampus --unlabelled 60 --minutes 6": "hours, and a cohort",
    "python benchmarks/scaling.py": "minutes; tests/benchmarks/test_scaling.py",
    "pip install --constraint constraints.txt torch": "network",
    "export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu": "a matter of the shell",
    'pip install --constraint constraints.txt ".[demo,ants]"': "network",
    "soloatlas demo": "minutes; CI runs it",
    "pip install --no-deps ./example_method": "tests/test_methods.py installs it",
    "soloatlas train my-study --method voxelmorph-mi --output example-run": "not installed; tests/test_methods.py",
    "torchrun --nproc-per-node 2 -m soloatlas.cli train my-study --output two --set loop.accumulate=2": "not soloatlas "
    "itself; tests/test_processes.py",
    "soloatlas compare my-study --methods all --minutes 6 --output comparison": "hours; tests/test_comparison.py",
    "soloatlas reproduce os-medseg:table-3 --cohort hippocampus --seeds 0,1,2": "hours, and a cohort",
    "soloatlas claims --cohort hippocampus": "needs records; tests/reproduction/test_claims.py",
    "soloatlas reproduce os-medseg:table-1 --cohort brain_malf --budget 8 --jobs 2": "hours, and a cohort",
    "soloatlas reproduce os-medseg:figure-5 --cohort brain_malf --jobs 2": "hours, and a cohort",
    "soloatlas reproduce os-medseg:table-3 --data ~/neurite-oasis --cohort oasis": "days, and the data set",
    "soloatlas datasets oasis --data ~/neurite-oasis": "needs the data set; tests/test_dataset_command.py",
    "soloatlas datasets oasis --data ~/neurite-oasis --output cohorts": "needs it, too; tests/test_dataset_command.py",
    "soloatlas train cohorts/oasis --output oasis-run --set prepare.align=none --set prepare.crop=none "
    '--set prepare.normalise=window --set "prepare.window=[0,1]"': "needs it, too",
}

# What every training of the pages is changed to, so that it takes seconds: after the page's own settings.
TINY = (
    "registration.steps=2", "registration.channels=[4,4,4,4]", "student.steps=2", "student.channels=[4,4,8,8,8]",
    "prepare.align=centre", "prepare.spacing=8",
)  # fmt: skip


def fenced(page, *languages):
    """Contents of the fenced blocks of these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [content for language, content in found if language in languages]


def commands_of(page):
    """The command lines of a page, in order: of bash blocks every line, of console blocks those after ``$``."""
    lines = []
    for content in fenced(page, "bash"):
        lines += [line for line in content.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    for content in fenced(page, "console"):
        lines += [line[2:] for line in content.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    return lines


def steps_of(page):
    """Commands and Python snippets in the order of the page."""
    text, steps = page.read_text(), []
    for match in re.finditer(r"^```(bash|console|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        language, content = match.groups()
        if language == "python":
            steps.append(("python", content))
            continue
        for line in content.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ") if language == "console" else line
            if line and (language == "bash" or line.startswith("$ ")) and command not in NOT_RUN:
                steps.append(("command", command))
    return steps


def prose(page):
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def code_words(page):
    """Inline code of the page; ``\\|`` is how a table writes ``|``."""
    return [word.replace("\\|", "|") for word in re.findall(r"`([^`\n]+)`", prose(page))]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "study"
    simulate_cohort(folder, pool=4, test=2, seed=0, spacing=4.0)
    return folder


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def run_folder(study, caches, tmp_path_factory):
    """One small trained run for every page that begins with a run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return pipeline.train(read_study(study), folder, changes=TINY, cache=caches)


@pytest.fixture
def workplace(study, run_folder, caches, tmp_path, monkeypatch):
    """A working folder with the names that the pages use, where trainings are small and the same one is run once."""
    for name in ("soloatlas-demo/simulated/cohort", "my-study"):
        shutil.copytree(study, tmp_path / name)
    for name, source in (("scans", "unlabelled"), ("new-scans", "test/images"), ("new-labels", "test/labels")):
        shutil.copytree(study / source, tmp_path / name)
    (tmp_path / "labelled").mkdir()
    for name, source in (
        ("scan.nii.gz", "atlas/image.nii.gz"),
        ("labels.nii.gz", "atlas/labels.nii.gz"),
        ("labels.json", "labels.json"),
    ):
        shutil.copy(study / source, tmp_path / "labelled" / name)
    train, plan = pipeline.train, pipeline.plan

    def small_plan(study, method, preset, changes, seed, **others):
        return plan(study, method, preset, [*changes, *TINY], seed, **{**others, "cache": caches})

    def small(study, output, method="os-medseg", preset="quick", changes=(), seed=0, resume=False, **others):
        changed = {c.partition("=")[0] for c in changes} - {"registration.steps", "student.steps", "loop.device"}
        plain = (method, preset, seed) == ("os-medseg", "quick", 0) and not changed
        override(pipeline.load_method(method).preset(preset), changes)  # the page's own settings are good ones
        if plain and not Path(output).exists():
            shutil.copytree(run_folder, output)
            return Path(output)
        sections = {key.partition(".")[0] for key, _ in describe(load_method(method).preset(preset))}
        tiny = [change for change in TINY if change.partition(".")[0] in sections]
        asked = tiny if plain else [*changes, *tiny]
        return train(study, output, method, preset, asked, seed, resume, **{**others, "cache": caches})

    monkeypatch.setattr(pipeline, "train", small)
    monkeypatch.setattr(pipeline, "plan", small_plan)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(command):
    words = shlex.split(command)
    if words[:2] == ["python", "docs/make_tables.py"]:
        words = [sys.executable, str(ROOT / words[1]), "--check"]  # must not write here
        subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
        return
    assert words[0] == "soloatlas", f"not run and not in NOT_RUN: {command}"
    try:
        code = cli.main(words[1:], standalone_mode=False)
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    assert not code, command


@pytest.mark.parametrize(
    "page", [p for p in PAGES if steps_of(p)], ids=[i for p, i in zip(PAGES, IDS, strict=True) if steps_of(p)]
)
def test_commands_and_snippets_run_in_order(page, workplace, run_folder, study, capsys):
    steps = steps_of(page)
    made = " ".join(command for kind, command in steps if kind == "command") + " "
    if "--output run " not in made:
        shutil.copytree(run_folder, workplace / "run")
    names = {}
    for kind, content in steps:
        if kind == "python":
            exec(compile(content, str(page), "exec"), names)
        else:
            run_command(content)
    capsys.readouterr()


def test_the_list_of_commands_not_run_is_not_stale():
    shown = {command for page in PAGES for command in commands_of(page)}
    assert set(NOT_RUN) <= shown


@every_page
def test_links_lead_to_files_of_the_repository(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"({name})" in index, name


def test_made_parts_are_those_that_the_script_makes():
    old = [path.relative_to(ROOT).as_posix() for path in stale()]
    assert not old, f"run python docs/make_tables.py: {old}"


def test_every_setting_has_a_meaning_and_no_meaning_is_left_over():
    every = [load_method(name).preset("quick") for name in available_methods()]
    assert set(MEANING) == {key for settings in every for key, _ in describe(settings)}


def test_installed_methods_are_not_called_missing():
    table = methods_table()
    assert table.count("`os-medseg`") == 1
    assert "| `os-medseg` | LRLS |" in table and "**missing**" not in table
    assert "2008, Symmetric diffeomorphic image registration with cross-correlation | `ants` |" in table
    for name in ("unet", "syn", "voxelmorph-2", "lt-net", "supervised"):
        assert f"| `{name}` |" in table


RUN = {"seconds": {"learn": 540.0}, "settings": {"loop": {"precision": "auto", "accumulate": 1, "minutes": 0}}}
RUN |= {"case_dice": {"a": 0.75, "b": 0.85}, "mean_dice": 0.8, "mean_hd95_mm": 2.0, "structure_dice": {}}
WORSE = RUN | {"case_dice": {"a": 0.65, "b": 0.75}, "mean_dice": 0.7}


def test_result_tables_show_what_the_records_hold(tmp_path):
    record = {
        "id": "os-medseg:table-3", "title": "T", "source": "S", "published_on": "OASIS", "cohort": "hippocampus",
        "split": "test", "scans": 40, "unlabelled": 100, "seeds": [0, 1], "changes": [], "reference": "ours",
        "rows": [
            {"name": "base", "method": "os-medseg", "headline": True, "changes": [],
             "stage": "register", "runs": [WORSE, WORSE], "dice": 0.7311, "hd95_mm": 2.5,
             "published": {"dice": 0.799, "hd95_mm": 3.214}},
            {"name": "other", "method": "os-medseg", "changes": ["teacher=false"], "stage": "student",
             "runs": [RUN, RUN], "dice": 0.8, "hd95_mm": 2.0, "published": {"dice": None, "hd95_mm": None}},
            {"name": "ours", "method": "os-medseg", "headline": True, "changes": [],
             "stage": "student", "runs": [RUN, RUN], "dice": 0.8266, "hd95_mm": 1.444,
             "published": {"dice": 0.854, "hd95_mm": 1.716}},
        ],
    }  # fmt: skip
    assert headline_results(tmp_path) == NONE_YET
    folder = tmp_path / "results" / "hippocampus"
    folder.mkdir(parents=True)
    (folder / "os-medseg-table-3.json").write_text(json.dumps(record))
    (folder / "unrelated.json").write_text("[]")
    headline, whole = headline_results(tmp_path), all_results(tmp_path)
    assert "| hippocampus | base | `os-medseg` | all | 40 | 100 | 2 | 9 | 0.731 | 2.50 |" in headline
    assert (
        "| hippocampus | ours | `os-medseg` | all | 40 | 100 | 2 | 9 | 0.827 | 1.44 |" in headline
        and "other" not in headline
    )
    record["scored"] = "labels 1, 3, 4, 7, each left out of a scan whose truth lacks it"
    (folder / "os-medseg-table-3.json").write_text(json.dumps(record))
    assert "| base | `os-medseg` | 4 | 40 |" in headline_results(tmp_path)
    assert "| other | 0.800 | 2.00 | - | - | - | - | +0.000 [+0.000, +0.000] |" in whole
    # 0.7 - 0.799; cases 0.65 and 0.75 in both seeds: t(0.975, 1) 12.706 times 0.05 on both sides.
    apart = "-0.099 [-0.734, +0.536] | -1.21 | -0.100 [-0.100, -0.100] |"
    assert f"| base | 0.700 | 2.00 | 0.799 | 3.21 | {apart}" in whole
    assert "`student.balance=0.0` (now 0.5)" in whole, "what the record does not have was as the class has it"


def test_benchmark_tables_show_what_the_records_hold(tmp_path):
    target = {"target": {"ratio": 3, "memory_ratio": 0.5}, "missed": ["ratio"], "met": False}
    rows = [
        {"peer": "", "fits": True, "seconds": 0.5, "process_gb": 0.71, "copies": 2.0, "target": {"copies": 4},
         "missed": [], "met": True},
        {"peer": "MONAI", "fits": True, "seconds": 1.2, "ratio": 2.4, "spread": [2.3, 2.51], "cost": 0.42,
         "memory_ratio": 0.444, **target},
        {"peer": "huge", "fits": False, "target": {"ratio": 3}, "missed": [], "met": None},
        {"peer": "other", "fits": True, "seconds": 2.0, "ratio": 4.0, "spread": [4.0, 4.0], "target": {}, "missed": [],
         "met": None},
    ]  # fmt: skip
    part = {"name": "value", "agreement": {"gradient": [2.04e-5, 1e-4]}, "rows": rows}
    measured = {"device": "cpu", "size": "small", "parts": [part]}
    failed = {"device": "cpu", "size": "large", "parts": [], "failed": "value: results differ"}
    assert benchmarks(tmp_path) == NONE_MEASURED
    folder = tmp_path / "results" / "benchmarks"
    folder.mkdir(parents=True)
    record = {"id": "lncc", "what": "local correlation", "measurements": [measured, failed]}
    (folder / "lncc.json").write_text(json.dumps(record))
    shown = benchmarks(tmp_path)
    assert "### lncc\n\nLocal correlation.\n" in shown
    assert "| small, cpu | value | (ours alone) | 0.500 | - | 0.71 GB, 2.0 copies | at most 4 copies: met |" in shown
    asked = "at least 3x; at most 0.5 of its memory: **missed**"
    assert f"| MONAI | 1.200 | 2.40 [2.30, 2.51] | 0.44 | {asked} |" in shown
    assert "| huge | does not fit | - | - | at least 3x: not measured |" in shown
    assert "| other | 2.000 | 4.00 [4.00, 4.00] | - | - |" in shown
    assert (
        "- small, cpu, value: gradient 2e-05 (0.0001 allowed)\n- large, cpu: **failed**: value: results differ" in shown
    )


@every_page
def test_settings_that_pages_name_exist_and_take_their_values(page):
    presets = [load_method(name).preset("quick") for name in available_methods()]
    keys = [{key for key, _ in describe(settings)} for settings in presets]
    known = set().union(*keys)
    sections = {key.partition(".")[0] for key in known}
    for word in code_words(page):
        if re.fullmatch(rf"({'|'.join(sections)})(\.\w+)?=\S+", word):
            name = word.partition("=")[0]
            takers = [s for s, own in zip(presets, keys, strict=True) if name in own or f"{name}.enabled" in own]
            assert takers, word
            for settings in takers:
                override(settings, [word])
        elif re.fullmatch(rf"({'|'.join(sections)})\.\w+", word) and word not in known:
            assert resolves(word), word


def resolves(name):
    """Whether a dotted name below soloatlas is a module of it or something in one."""
    *path, last = name.removeprefix("soloatlas.").split(".")
    for depth in range(len(path), -1, -1):
        place = SOURCE.joinpath(*path[:depth])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if not file.exists():
            continue
        inside = [*path[depth:], last]
        if place.is_dir() and len(inside) == 1 and ((place / last).is_dir() or (place / f"{last}.py").exists()):
            return True
        tree = ast.parse(file.read_text())
        defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        targets = [t for n in tree.body if isinstance(n, ast.Assign) for t in n.targets]
        defined |= {t.id for t in targets if isinstance(t, ast.Name)}
        handed_on = {a.asname for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names if a.asname}
        return len(inside) == 1 and last in defined | handed_on
    return False


@every_page
def test_functions_that_pages_name_exist(page):
    modules = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or p.is_dir()} - {"__init__", "__pycache__"}
    known = {key for name in available_methods() for key, _ in describe(load_method(name).preset("quick"))}
    endings = (".py", ".json", ".csv", ".safetensors", ".html", ".txt", ".npz", ".gz", ".md")
    for word in code_words(page):
        if re.fullmatch(r"[a-z_]+(\.\w+)+", word) and word.split(".")[0] in modules and word not in known:
            assert word.endswith(endings) or resolves(word), word
        if re.fullmatch(r"soloatlas\.\w+", word):
            import soloatlas

            name = word.removeprefix("soloatlas.")
            assert name in soloatlas.__all__ or name in modules, word


@every_page
def test_commands_and_options_that_pages_name_exist(page):
    context = click.Context(cli)
    options = {o for c in cli.commands.values() for p in c.get_params(click.Context(c)) for o in p.opts}
    options |= {o for p in cli.get_params(context) for o in p.opts}
    for word in code_words(page):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", word):
            assert option in options | {"--check", "--constraint"}, option
        if word.startswith("soloatlas ") and not word.split()[1].startswith(("-", "COMMAND")):
            assert word.split()[1] in cli.commands, word


def test_every_command_is_in_the_reference_of_commands():
    page = (ROOT / "docs/reference/cli.md").read_text()
    for name, command in cli.commands.items():
        section = page.partition(f"### soloatlas {name}\n")[2].partition("\n### ")[0]
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.opts[0] in section, (name, parameter)


def test_architecture_names_every_module_and_only_those_that_are_there():
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    listing = page.partition("src/soloatlas/\n")[2].partition("tests/  ")[0]
    named = set(re.findall(r"^  ([\w.]+?)/? ", listing, re.MULTILINE))
    there = {p.name for p in SOURCE.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")}
    assert named == there


def source_text():
    """All string constants of the source, f-strings with a blank where a value goes."""
    parts = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts.append("".join(v.value if isinstance(v, ast.Constant) else " " for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return "\n".join(parts)


def test_messages_in_troubleshooting_are_those_of_the_program():
    page = ROOT / "docs/how-to/troubleshooting.md"
    messages = re.findall(r"^\| `([^`]+)` \|", page.read_text(), re.MULTILINE)
    assert len(messages) > 30
    text = source_text()
    for message in messages:
        assert message in text, message


def test_the_files_that_a_run_leaves_are_described(workplace, run_folder):
    page = (ROOT / "docs/reference/files.md").read_text()
    pipeline.segment(run_folder, ["new-scans"], "s", save_fields=True, save_probabilities=True)
    pipeline.synthesise(run_folder, "pairs")
    for folder in (run_folder, workplace / "s", workplace / "pairs"):
        for path in folder.iterdir():
            plain = re.sub(r"(test|scan)_\d+", "<scan>", path.name)
            assert f"`{plain}" in page or f"`{plain}/" in page, path


def test_an_unknown_setting_would_be_found_here():
    with pytest.raises(InputError):
        override(load_method("os-medseg").preset("quick"), ["hint.strength=1"])
    assert resolves("fields.warp") and resolves("losses.similarity.mutual_information")
    assert not resolves("fields.wrap") and not resolves("losses.nothing.here")
