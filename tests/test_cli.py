"""The command line as other tools call it: one train-segment-evaluate for real, and every clear refusal."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from soloatlas.data.demo import simulate_cohort
from soloatlas.training import seconds_trained

QUICK = ["--set", "registration.steps=120", "--set", "student.steps=220"]
TINY = [
    "--set", "registration.steps=4", "--set", "registration.channels=[4,4,4,4]",
    "--set", "student.steps=6", "--set", "student.channels=[4,4,8,8,8]",
    "--set", "loop.log_steps=1",
]  # fmt: skip


def run(*arguments, code=0, **kwargs):
    command = [sys.executable, "-m", "soloatlas.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def refused(*arguments, says, code=2):
    done = run(*arguments, code=code)
    lines = [line for line in done.stderr.splitlines() if line.startswith("soloatlas: ")]
    assert len(lines) == 1, done.stderr
    assert says in lines[0], lines[0]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    simulate_cohort(folder, pool=6, test=2, seed=0, spacing=4.0)
    return folder


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run("train", study, "--output", folder, *QUICK)
    return folder


@pytest.fixture(scope="module")
def tiny(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run("train", study, "--output", folder, *TINY)
    return folder


def dice_of(run_folder, study, folder, stage):
    run("segment", run_folder, study / "test/images", "--output", folder / stage, "--stage", stage)
    run("evaluate", folder / stage, study / "test/labels", "--output", folder / f"{stage}-scores")
    return json.loads((folder / f"{stage}-scores/metrics.json").read_text())


def test_train_segment_evaluate_for_real(trained, study, tmp_path):
    for name in [
        "run.json",
        "atlas.nii.gz",
        "atlas_labels.nii.gz",
        "labels.json",
        "metrics.csv",
        "fields.csv",
        "log.txt",
        "weights.safetensors",
        "report.html",
    ]:
        assert (trained / name).stat().st_size > 0, name
    student = dice_of(trained, study, tmp_path, "student")
    register = dice_of(trained, study, tmp_path, "register")
    assert register["mean_dice"] > 0.75
    assert student["mean_dice"] > 0.65
    assert set(student["cases"]) == {"test_01", "test_02"}
    assert set(student["cases"]["test_01"]["1"]) >= {"dice", "hd95_mm", "assd_mm"}
    record = json.loads((trained / "run.json").read_text())
    assert 0.8 < record["ceiling"]["mean_dice"] <= 1


def test_segmentations_lie_on_the_grid_of_their_input(tiny, study, tmp_path):
    scan = study / "test/images/test_01.nii.gz"
    run(
        "segment",
        tiny,
        scan,
        "--output",
        tmp_path,
        "--save-fields",
        "--save-probabilities",
        "--largest-component",
    )
    given, made = nibabel.load(scan), nibabel.load(tmp_path / "test_01.nii.gz")
    assert made.shape == given.shape
    np.testing.assert_array_equal(made.affine, given.affine)
    assert set(np.unique(made.get_fdata())) <= {0, 1, 2, 3, 4, 5}
    assert nibabel.load(tmp_path / "fields/test_01_field.nii.gz").header.get_intent()[0] == "vector"
    way = nibabel.load(tmp_path / "fields/test_01_to_atlas.nii.gz")
    assert way.shape == (*given.shape, 1, 3) and np.array_equal(way.affine, given.affine)
    total = sum(nibabel.load(p).get_fdata() for p in (tmp_path / "probabilities").glob("test_01_*.nii.gz"))
    np.testing.assert_allclose(total, 1, atol=1e-3)
    with (tmp_path / "volumes.csv").open() as file:
        volumes = {row["label"]: float(row["ml"]) for row in csv.DictReader(file)}
    voxel = abs(np.linalg.det(made.affine[:3, :3])) / 1000
    for value, ml in volumes.items():
        assert ml == pytest.approx((made.get_fdata() == int(value)).sum() * voxel, abs=1e-3)


def test_a_folder_gathers_what_one_run_segments_and_refuses_another(tiny, study, tmp_path):
    first, second = study / "test/images/test_01.nii.gz", study / "test/images/test_02.nii.gz"
    run("segment", tiny, first, "--output", tmp_path / "maps")
    run("segment", tiny, second, "--output", tmp_path / "maps")
    run("segment", tiny, first, "--output", tmp_path / "maps")
    listed = json.loads((tmp_path / "maps/segment.json").read_text())["cases"]
    assert sorted(case["case"] for case in listed) == ["test_01", "test_02"]
    with (tmp_path / "maps/volumes.csv").open() as file:
        rows = [(row["case"], row["label"]) for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows)) == 10
    refused("segment", tiny, first, "--output", tmp_path / "maps", "--stage", "register", says="with stage student")
    shutil.copytree(tiny, tmp_path / "other")
    refused("segment", tmp_path / "other", first, "--output", tmp_path / "maps", says="choose another folder")
    (tmp_path / "maps/volumes.csv").unlink()
    refused("segment", tiny, first, "--output", tmp_path / "maps", says="lists are damaged")


def test_a_saved_field_warps_the_atlas_in_simpleitk_as_it_does_here(tiny, study, tmp_path):
    import SimpleITK

    run("synthesise", tiny, "--output", tmp_path)
    name = "scan_01"
    field = SimpleITK.ReadImage(str(tmp_path / f"fields/{name}_field.nii.gz"), SimpleITK.sitkVectorFloat64)
    made = SimpleITK.ReadImage(str(tmp_path / f"images/{name}.nii.gz"))
    transform = SimpleITK.DisplacementFieldTransform(field)
    from soloatlas.data.files import write_volume
    from soloatlas.runs import open_run
    from soloatlas.segmentation import Wishes, Worker

    opened = open_run(tiny)
    write_volume(tmp_path / "atlas.nii.gz", Worker(opened, Wishes()).atlas_image[0, 0].numpy(), opened.working)
    atlas = SimpleITK.ReadImage(str(tmp_path / "atlas.nii.gz"))
    warped = SimpleITK.Resample(atlas, made, transform, SimpleITK.sitkLinear, 0.0)
    ours, theirs = SimpleITK.GetArrayFromImage(made), SimpleITK.GetArrayFromImage(warped)
    inner = (slice(2, -2),) * 3
    assert np.abs(ours - theirs)[inner].max() < 0.01
    assert {p.name for p in (tmp_path / "labels").iterdir()} == {f"scan_{i:02d}.nii.gz" for i in range(1, 7)}


def test_a_killed_training_resumes_to_the_weights_of_an_unstopped_one(study, tiny, tmp_path):
    folder = tmp_path / "run"
    slow = [*TINY, "--set", "loop.checkpoint_minutes=0"]
    command = [sys.executable, "-m", "soloatlas.cli", "train", str(study), "--output", str(folder), *slow]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (folder / "checkpoints/register.safetensors").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    refused("segment", folder, study / "test/images", "--output", tmp_path / "s", says="has not finished")
    before = seconds_trained(folder)
    run("train", study, "--output", folder, "--resume", *slow)
    assert before > 0
    assert json.loads((folder / "run.json").read_text())["seconds"]["learn"] > before  # of both sittings
    whole = tmp_path / "whole"
    run("train", study, "--output", whole, *slow)
    assert (folder / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert (whole / "weights.safetensors").read_bytes() == (tiny / "weights.safetensors").read_bytes()


def test_wrong_requests_are_refused_in_one_line(study, tiny, tmp_path):
    out = tmp_path / "out"
    refused("train", study, "--output", tiny, says="already holds a run")
    refused("train", study, "--output", tiny, "--resume", "--seed", "3", *TINY, says="other seed (0, not 3)")
    changed = [*TINY, "--set", "student.learning_rate=1"]
    refused(
        "train",
        study,
        "--output",
        tiny,
        "--resume",
        *changed,
        says="other settings (student.learning_rate=0.005, not 1.0)",
    )
    refused("train", study, "--output", out, "--spacing", "0", says="prepare.spacing=0.0: must be above 0")
    assert not out.exists()
    refused("train", study, "--output", out, "--method", "os-medsag", says="did you mean os-medseg?")
    refused("train", study, "--output", out, "--set", "hint.wieght=1", says="--set hint: unknown setting 'wieght'; did")
    refused("train", study, "--output", out, "--device", "mps", says="--device cpu")
    refused("train", study, "--output", out, "--device", "cpu", "--set", "loop.precision=fp16", says="fp16")
    assert not out.exists()  # refused before anything is prepared
    refused("train", "--output", out, says="--atlas")
    refused("train", tmp_path / "nowhere", "--output", out, says="nowhere")
    refused("train", study, "--preset", "fast", "--output", out, says="fast")
    refused("segment", tmp_path, study / "test/images", "--output", out, says="not a run folder")
    refused("segment", tiny, tmp_path / "no.nii.gz", "--output", out, says="no.nii.gz")
    refused("segment", tiny, study / "test/images", "--output", study / "test/images", says="overwrite")
    refused("evaluate", study / "test/images", study / "nowhere", "--output", out, says="nowhere")
    refused("evaluate", study, study, "--labels", "one", "--output", out, says="integers")
    twice = ["--cohort", "hippocampus", "--seeds", "0,0"]
    refused("reproduce", "os-medseg:table-3", *twice, says="--seeds 0,0: names a number twice")
    truth = study / "test/labels"
    refused("evaluate", truth, truth, "--labels", "9", "--output", out, says="labels 9: in no truth")
    refused("reproduce", "os-medseg:table-99", says="os-medseg:main, os-medseg:networks")
    refused("nonsense", says="nonsense")
    assert not (out / "run.json").exists() or json.loads((out / "run.json").read_text())["state"] == "training"


def test_files_of_others_are_never_overwritten(tiny, study, tmp_path):
    import shutil

    theirs = tmp_path / "theirs"
    shutil.copytree(study / "test/labels", theirs / "labels")
    (theirs / "run.json").write_text("{}")
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    images, labels = study / "test/images", theirs / "labels"
    refused("segment", tiny, images, "--output", labels, says="test_01.nii.gz, which is not of this run")
    refused("segment", tiny, images, "--output", tiny, says="is a run")
    refused("synthesise", tiny, "--output", labels, says="holds other files (test_01.nii.gz")
    refused("train", study, "--output", labels, says="holds other files (test_01.nii.gz")
    refused("evaluate", labels, labels, "--output", theirs, says="is a run")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs/synthesise.json").write_text('{"run": "/other"}')
    refused("synthesise", tiny, "--output", tmp_path / "pairs", says="holds pairs of /other")
    assert before == {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}


def test_scores_of_another_run_are_not_shown_as_this_run_s(tiny, study, tmp_path):
    import shutil

    scan, truth = study / "test/images/test_01.nii.gz", study / "test/labels/test_01.nii.gz"
    shutil.copytree(tiny, tmp_path / "other")
    run("segment", tmp_path / "other", scan, "--output", tmp_path / "maps")
    run("evaluate", tmp_path / "maps", truth, "--output", tmp_path / "scores")
    run("report", tmp_path / "other", "--evaluation", tmp_path / "scores")
    shutil.copytree(tiny, tmp_path / "third")
    refused("report", tmp_path / "third", "--evaluation", tmp_path / "scores", says="other, not by")
    shutil.rmtree(tmp_path / "third")
    (tmp_path / "other").rename(tmp_path / "third")
    run("report", tmp_path / "third", "--evaluation", tmp_path / "scores")  # a run that has moved is still itself


def test_what_warps_by_ants_synthesises_nothing(study, tmp_path):
    pytest.importorskip("ants")
    run("train", study, "--method", "rigid", "--output", tmp_path / "rigid")
    refused("synthesise", tmp_path / "rigid", "--output", tmp_path / "pairs", says="rigid synthesises nothing")


def test_a_killed_segmenting_may_be_given_again(tiny, study, tmp_path):
    from soloatlas.segmented import all_segmented

    scans = [study / "test/images/test_01.nii.gz"]
    run("segment", tiny, *scans, "--output", tmp_path / "maps")
    assert all_segmented(tiny, "student", scans, tmp_path / "maps")
    assert not all_segmented(tiny, "register", scans, tmp_path / "maps")
    listed = json.loads((tmp_path / "maps/segment.json").read_text())
    (tmp_path / "maps/segment.json").write_text(json.dumps({**listed, "cases": []}))  # as before its first map
    assert not all_segmented(tiny, "student", scans, tmp_path / "maps")
    run("segment", tiny, *scans, "--output", tmp_path / "maps")
    assert all_segmented(tiny, "student", scans, tmp_path / "maps")


def test_an_empty_pool_is_refused(study, tmp_path):
    (tmp_path / "empty").mkdir()
    atlas = ["--atlas", study / "atlas/image.nii.gz", "--atlas-labels", study / "atlas/labels.nii.gz"]
    refused("train", *atlas, "--unlabelled", tmp_path / "empty", "--output", tmp_path / "r", says="empty")


def test_a_run_of_another_version_is_refused(tiny, study, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**record, "format": 99}))
    refused("segment", other, study / "test/images", "--output", tmp_path / "s", says="run format 99")
    (other / "run.json").write_text("{")
    refused("report", other, says="damaged")


def test_a_run_trained_in_fp16_segments_on_a_cpu(tiny, study, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    record = json.loads((other / "run.json").read_text())
    record["settings"]["loop"]["precision"] = "fp16"
    (other / "run.json").write_text(json.dumps(record))
    run("segment", other, study / "test/images/test_01.nii.gz", "--output", tmp_path / "maps", "--device", "cpu")
    assert (tmp_path / "maps/test_01.nii.gz").exists()


def test_a_run_that_another_version_would_train_otherwise_is_not_gone_on_with(tiny, study, tmp_path):
    shutil.copytree(tiny, tmp_path / "other")
    record = json.loads((tmp_path / "other/run.json").read_text())
    (tmp_path / "other/run.json").write_text(json.dumps(record | {"generation": 0, "state": "training"}))
    refused("train", study, "--output", tmp_path / "other", "--resume", *TINY, says="begun by another version")


def test_damaged_weights_are_refused(tiny, study, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    (other / "weights.safetensors").write_bytes(b"nonsense")
    refused("segment", other, study / "test/images", "--output", tmp_path / "s", says="weights.safetensors")
    (other / "labels.json").write_text("{")
    refused("segment", other, study / "test/images", "--output", tmp_path / "s", says="labels.json: cannot be read")


def test_structures_that_the_working_grid_does_not_hold_are_named(study, tmp_path):
    labels = nibabel.load(study / "atlas/labels.nii.gz")
    drawn = np.asarray(labels.dataobj).copy()
    middle = tuple(n // 2 for n in drawn.shape)
    drawn[middle] = 9  # one voxel, which no grid of 12 mm holds
    nibabel.save(nibabel.Nifti1Image(drawn, labels.affine), tmp_path / "labels.nii.gz")
    given = ["--atlas", study / "atlas/image.nii.gz", "--unlabelled", study / "unlabelled", "--spacing", "12", *TINY]
    run("train", *given, "--atlas-labels", tmp_path / "labels.nii.gz", "--output", tmp_path / "run")
    assert "never segmented: label 9; a finer --spacing" in (tmp_path / "run/log.txt").read_text()
    nibabel.save(nibabel.Nifti1Image((drawn == 9).astype(np.uint8), labels.affine), tmp_path / "one.nii.gz")
    one = ["--atlas-labels", tmp_path / "one.nii.gz", "--output", tmp_path / "none"]
    refused("train", *given, *one, says="no structure is left on the working grid")
    assert not (tmp_path / "none").exists()  # or it would bar the corrected request
    (tmp_path / "none").mkdir()
    refused("train", *given, *one, says="no structure is left on the working grid")
    assert list((tmp_path / "none").iterdir()) == []


def test_a_grid_too_small_to_judge_leaves_no_run_behind(study, tmp_path):
    small = [*TINY[:4], "--method", "lt-net", "--spacing", "12"]
    refused("train", study, "--output", tmp_path / "run", *small, says="24 along each axis are the least")
    assert not (tmp_path / "run").exists()


def test_a_bad_scan_in_the_pool_is_named_before_anything_is_trained(study, tmp_path):
    import shutil

    pool = tmp_path / "pool"
    shutil.copytree(study / "unlabelled", pool)
    (pool / "broken.nii.gz").write_bytes(b"not a scan")
    atlas = ["--atlas", study / "atlas/image.nii.gz", "--atlas-labels", study / "atlas/labels.nii.gz"]
    refused("train", *atlas, "--unlabelled", pool, "--output", tmp_path / "r", says="broken.nii.gz")
    shutil.copytree(study, tmp_path / "study")
    (tmp_path / "study/unlabelled/broken.nii.gz").write_bytes(b"not a scan")
    assert "broken.nii.gz" in run("check", tmp_path / "study", code=2).stdout


def test_what_was_segmented_before_an_unreadable_scan_is_in_the_lists(tiny, study, tmp_path):
    shutil.copytree(study / "test/images", tmp_path / "scans")
    (tmp_path / "scans/test_015.nii.gz").write_bytes(b"not a scan")
    bad = tmp_path / "scans/test_015.nii.gz"
    refused("segment", tiny, tmp_path / "scans", "--output", tmp_path / "maps", says=f"{bad}: cannot be read")
    told = run("segment", tiny, tmp_path / "scans", "--output", tmp_path / "maps", code=2).stderr
    assert "1 of 3 scans were segmented before it" in told
    listed = json.loads((tmp_path / "maps/segment.json").read_text())["cases"]
    assert [case["output"] for case in listed] == ["test_01.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.nii.gz")) == ["test_01.nii.gz"]


@pytest.mark.parametrize(
    "spoilt, says", [(np.nan, "1 voxels are NaN or infinite"), (None, "empty: every voxel is 5")], ids=["nan", "empty"]
)
def test_a_scan_that_holds_nothing_to_segment_is_refused(tiny, study, tmp_path, spoilt, says):
    image = nibabel.load(study / "test/images/test_01.nii.gz")
    array = np.full(image.shape, 5, np.float32) if spoilt is None else np.asarray(image.dataobj).astype(np.float32)
    array[2, 2, 2] = array[2, 2, 2] if spoilt is None else spoilt
    nibabel.save(nibabel.Nifti1Image(array, image.affine), tmp_path / "bad.nii.gz")
    refused("segment", tiny, tmp_path / "bad.nii.gz", "--output", tmp_path / "new/maps", says=f"bad.nii.gz: {says}")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tiny, study, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    code = f"{limit}{ignore}sys.argv = sys.argv[1:]; from soloatlas.cli import main; main()"
    arguments = [
        "soloatlas",
        "segment",
        str(tiny),
        str(study / "test/images"),
        "--output",
        str(tmp_path / "s"),
    ]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "soloatlas: cannot write" in done.stderr
    assert list((tmp_path / "s").glob("*")) == []


def test_what_cannot_be_written_is_said_before_the_work(tiny, study, tmp_path):
    (tmp_path / "file").touch()
    for words in (
        ("segment", tiny, study / "test/images"),
        ("synthesise", tiny),
        ("evaluate", *[study / "test/labels"] * 2),
    ):
        done = run(*words, "--output", tmp_path / "file/x", code=1)
        assert "cannot create" in done.stderr and not re.search(r"^\w+: \d+/", done.stderr, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").is_file()


def test_methods_and_help():
    listed = json.loads(run("methods", "--json").stdout)
    assert {"name", "family", "paper"} <= set(listed[0])
    assert "os-medseg" in [m["name"] for m in listed]
    assert "choose-atlas" in run("--help").stdout
    assert "os-medseg:table-5" in run("reproduce", "--list").stdout
    assert "os-medseg:figure-5" in [one["id"] for one in json.loads(run("reproduce", "--list", "--json").stdout)]
    refused("reproduce", "os-medseg:figure-5", "--json", says="add --list")


def test_check_and_choose_atlas_answer_in_json(study):
    findings = json.loads(run("check", study, "--json").stdout)
    assert {"level", "where", "problem", "consequence"} <= set(findings[0])
    # The same by loose files; only the test scans are not among them.
    atlas = ["--atlas", study / "atlas/image.nii.gz", "--atlas-labels", study / "atlas/labels.nii.gz"]
    pool = ["--unlabelled", study / "unlabelled", "--label-names", study / "labels.json"]
    loose = json.loads(run("check", *atlas, *pool, "--json").stdout)
    assert loose == [f for f in findings if "/test/" not in f["where"]]
    refused("check", *atlas, says="--unlabelled missing")
    ranking = json.loads(run("choose-atlas", study / "unlabelled", "--json").stdout)["ranking"]
    assert len(ranking) == 6
    assert [r["ncc"] for r in ranking] == sorted((r["ncc"] for r in ranking), reverse=True)


def test_a_study_may_be_named_by_its_folder(study):
    import soloatlas

    assert soloatlas.check_study(str(study)) == soloatlas.check_study(soloatlas.read_study(study))


def test_the_python_api_has_the_verbs():
    import soloatlas

    for name in soloatlas.__all__:
        assert getattr(soloatlas, name) is not None
