"""Each public layout on tiny files: what is found, under which name, and how it is shared out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from soloatlas.data.cohorts.abdomen import ABDOMENCTCT, BCV, BTCV, TO_FOUR
from soloatlas.data.cohorts.candi import CANDI
from soloatlas.data.cohorts.catalogue import DATASETS, find_dataset
from soloatlas.data.cohorts.dataset import Found, parts, splits_of, wanted
from soloatlas.data.cohorts.decathlon import MSD
from soloatlas.data.cohorts.oasis import OASIS, OASIS_L2R
from soloatlas.data.cohorts.verse import VERSE20, shows_thoracic, subject
from soloatlas.data.labels import relabel
from soloatlas.errors import InputError
from soloatlas.methods import load_method
from soloatlas.settings import override

Write = Callable[..., Path]


def shared(found: Found, name: str, split: str = "paper") -> dict[str, list[str]]:
    made = parts(found, splits_of(name)[split])
    every = [case for part in made.values() for case in part]
    assert len(every) == len(set(every)), "a case is in two parts"
    assert not found.held_out & set(made["pool"])
    return made


def sizes(made: dict[str, list[str]]) -> tuple[int, int, int]:
    return len(made["pool"]), len(made["dev"]), len(made["test"])


def case(found: Found, name: str) -> tuple[Path, Path | None]:
    one = next(case for case in found.cases if case.name == name)
    return one.image, one.labels


def test_neurite(neurite: Path) -> None:
    found = OASIS.find(neurite)
    assert len(found.cases) == len(found.labelled) == OASIS.labelled == 414
    first = neurite / "OASIS_OAS1_0001_MR1"
    assert case(found, first.name) == (first / "aligned_norm.nii.gz", first / "aligned_seg35.nii.gz")
    paper, code = shared(found, "oasis"), shared(found, "oasis", "code")
    assert sizes(paper) == (335, 0, 79) and sizes(code) == (335, 40, 39)
    names = [c.name for c in found.cases]
    assert names == sorted(names)
    assert paper["pool"] == code["pool"] == names[:335]
    assert paper["test"] == names[335:] == code["dev"] + code["test"]
    assert OASIS.find(neurite.parent).cases == found.cases, "the folder above will do, too"


def make_l2r(write: Write, folder: Path, name: str, training: int, tests: int, labels: object = None) -> Path:
    """A data set of Learn2Reg: the last 20 of imagesTr stand under training and under registration_val."""
    files = [f"{name}_{n:04d}_0000.nii.gz" for n in range(1, training + tests + 1)]
    for file in files[:training]:
        write(f"{folder.name}/imagesTr/{file}")
        write(f"{folder.name}/labelsTr/{file}", tuple(range(1, 14)))
    for file in files[training:]:
        write(f"{folder.name}/imagesTs/{file}")
    places = [f"./imagesTr/{file}" for file in files[:training]]
    entries = [{"image": p, "label": p.replace("images", "labels"), "mask": "./masksTr/none"} for p in places]
    pairs = [{"fixed": one, "moving": two} for one, two in zip(places[-20:], places[-19:], strict=False)]
    content = {"labels": labels, "training": entries, "registration_val": pairs}
    (folder / f"{name}_dataset.json").write_text(json.dumps(content))
    return folder


def test_learn2reg_oasis(write: Write, tmp_path: Path) -> None:
    found = OASIS_L2R.find(make_l2r(write, tmp_path / "l2r", "OASIS", 414, 3))
    assert len(found.cases) == 414, "imagesTs has no labels and is not used"
    image, labels = case(found, "OASIS_0001")
    assert labels == tmp_path / "l2r/labelsTr/OASIS_0001_0000.nii.gz" and image.parent.name == "imagesTr"
    assert found.held_out == {f"OASIS_{n:04d}" for n in range(395, 415)}
    paper, code = shared(found, "oasis-l2r"), shared(found, "oasis-l2r", "code")
    assert sizes(paper) == (335, 0, 79) and sizes(code) == (335, 40, 39)
    assert found.held_out <= set(paper["test"]) and found.held_out <= set(code["test"])
    (said,) = found.findings
    assert said.level == "note" and said.problem.endswith("under registration_val, too: 20 (OASIS_0395 to OASIS_0414)")


def test_validation_subjects_are_in_no_pool_wherever_they_stand(write: Write, tmp_path: Path) -> None:
    folder = make_l2r(write, tmp_path / "l2r", "OASIS", 100, 0)
    content = json.loads((folder / "OASIS_dataset.json").read_text())
    pair = {"fixed": "./imagesTr/OASIS_0003_0000.nii.gz", "moving": "./imagesTr/OASIS_0005_0000.nii.gz"}
    (folder / "OASIS_dataset.json").write_text(json.dumps({**content, "registration_val": [pair]}))
    pool = shared(OASIS_L2R.find(folder), "oasis-l2r")["pool"]
    assert pool[:4] == ["OASIS_0001", "OASIS_0002", "OASIS_0004", "OASIS_0006"] and len(pool) == 19
    (folder / "OASIS_dataset.json").unlink()
    found = OASIS_L2R.find(folder)
    assert found.held_out == {f"OASIS_{n:04d}" for n in range(81, 101)}
    assert found.findings[0].problem == "is missing"
    for broken in ("{", "[1]", "3"):
        (folder / "OASIS_dataset.json").write_text(broken)
        said = OASIS_L2R.find(folder).findings[0]
        assert said.level == "error" and said.problem.startswith("is not the description of a data set")


def test_learn2reg_task_1(write: Write, tmp_path: Path) -> None:
    numbers = [*range(1, 11), *range(21, 41), *range(61, 81)]
    for number in numbers:
        write(f"data/L2R_Task1_CT/img{number:04d}_bcv_CT.nii.gz")
        write(f"data/L2R_Task1_CT/seg{number:04d}_bcv_CT.nii.gz", (1, 2, 3, 4))
    write("data/L2R_Task1_CT/img0001_tcia_CT.nii.gz")
    write("data/L2R_Task1_MR/img0001_chaos_MR.nii.gz")
    found = BCV.find(tmp_path / "data")
    assert len(found.labelled) == len(found.cases) == BCV.labelled == 50
    made = shared(found, "bcv")
    assert sizes(made) == (30, 0, 20)
    assert made["pool"] == [f"img{n:04d}_bcv_CT" for n in numbers[:30]]
    assert made["test"] == [f"img{n:04d}_bcv_CT" for n in numbers[30:]]
    assert case(found, "img0036_bcv_CT")[1] == tmp_path / "data/L2R_Task1_CT/seg0036_bcv_CT.nii.gz"
    assert set(BCV.bad) <= {c.name for c in found.cases}


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {"0": {"0": "background", "1": "spleen", "6": "Liver"}},
        {"0": "background", "6": "liver", "2": "right kidney"},
        {"liver": 6, "left kidney": "3"},
    ],
)
def test_abdomenctct(write: Write, tmp_path: Path, labels: object) -> None:
    found = ABDOMENCTCT.find(make_l2r(write, tmp_path / "ctct", "AbdomenCTCT", 30, 20, labels))
    assert (len(found.labelled), len(found.cases)) == (30, 50)
    assert not [finding for finding in found.findings if finding.level != "note"]
    made = shared(found, "abdomenctct")
    # The last 20 labelled scans are tested; the first ten and the unlabelled ones are the pool.
    assert sizes(made) == (30, 0, 20)
    assert made["test"] == [f"AbdomenCTCT_{n:04d}" for n in range(11, 31)]
    assert made["pool"] == [f"AbdomenCTCT_{n:04d}" for n in (*range(1, 11), *range(31, 51))]


def test_another_order_of_labels_is_an_error(write: Write, tmp_path: Path) -> None:
    labels = {"0": {"1": "liver", "2": "right kidney"}}
    found = ABDOMENCTCT.find(make_l2r(write, tmp_path / "ctct", "AbdomenCTCT", 30, 20, labels))
    (said,) = [finding for finding in found.findings if finding.level == "error"]
    assert said.problem == "its table of labels gives liver the value 1, not 6"


def test_the_label_map_of_abdomenctct() -> None:
    # Spleen, right and left kidney, gallbladder, oesophagus, liver, ... to liver, spleen, right and left kidney.
    drawn = np.array([0, 1, 2, 3, 4, 5, 6, 13])
    assert relabel(drawn, TO_FOUR).tolist() == [0, 2, 3, 4, 0, 0, 1, 0]
    assert [ABDOMENCTCT.names[TO_FOUR[value]] for value in (6, 1, 2, 3)] == list(BCV.names.values())


def test_btcv(write: Write, tmp_path: Path) -> None:
    for number in (*range(1, 11), *range(21, 41)):
        write(f"RawData/Training/img/img{number:04d}.nii.gz")
        write(f"RawData/Training/label/label{number:04d}.nii.gz", tuple(range(1, 14)))
    for number in range(61, 81):
        write(f"RawData/Testing/img/img{number:04d}.nii.gz")
    found = BTCV.find(tmp_path / "RawData")
    assert BTCV.find(tmp_path).cases == found.cases
    assert (len(found.labelled), len(found.cases)) == (BTCV.labelled, 50)
    assert case(found, "img0021")[1] == tmp_path / "RawData/Training/label/label0021.nii.gz"
    made = shared(found, "btcv")
    assert sizes(made) == (30, 0, 20) and made["test"][0] == "img0021" and made["pool"][10] == "img0061"
    assert len(BTCV.names) == 13


WHOLE, LUMBAR = tuple(range(6, 24)), tuple(range(15, 26))


def centroids(path: Path, labels: tuple[int, ...]) -> None:
    entries: list[dict[str, object]] = [{"direction": ["L", "A", "S"]}]
    path.write_text(json.dumps(entries + [{"label": v, "X": 1.0, "Y": 2.0, "Z": 3.0} for v in labels]))


def verse_miccai(write: Write, folder: str, stem: str, shown: tuple[int, ...], listed: bool = True) -> None:
    image = write(f"{folder}/{stem}.nii.gz")
    write(f"{folder}/{stem}_seg.nii.gz", shown)
    if listed:
        centroids(image.parent / f"{stem}_iso-ctd.json", shown)


def verse_subject(write: Write, split: str, name: str, stem: str, shown: tuple[int, ...], listed: bool = True) -> None:
    write(f"{split}/rawdata/{name}/{stem}_ct.nii.gz")
    drawn = write(f"{split}/derivatives/{name}/{stem}_seg-vert_msk.nii.gz", shown)
    if listed:
        centroids(drawn.parent / f"{stem}_seg-subreg_ctd.json", shown)


def test_verse_in_the_challenges_layout(write: Write, tmp_path: Path) -> None:
    verse_miccai(write, "v/01_training/verse500", "verse500_CT-ax", WHOLE)
    verse_miccai(write, "v/01_training/verse501", "verse501_CT-iso", LUMBAR)
    verse_miccai(write, "v/02_validation/verse502", "verse502_CT-sag", WHOLE, listed=False)
    verse_miccai(write, "v/02_validation/verse503", "verse503_CT-sag", LUMBAR, listed=False)
    verse_miccai(write, "v/03_test/verse400", "verse400_verse090_CT-iso", WHOLE)
    verse_miccai(write, "v/03_test/verse400", "verse400_verse091_CT-iso", WHOLE)
    write("v/03_test/verse504/verse504_CT-ax.nii.gz")  # without labels
    found = VERSE20.find(tmp_path / "v")
    assert found.layout == "MICCAI"
    assert [c.name for c in found.cases] == ["verse400_verse090_CT-iso", "verse500_CT-ax", "verse502_CT-sag"]
    image, labels = case(found, "verse500_CT-ax")
    assert labels == image.with_name("verse500_CT-ax_seg.nii.gz")
    said = [f.problem for f in found.findings]
    assert said == [
        "has no label map", "scans that show T1 to T12: 4 of 7", "of these, further scans of a subject: 1",
    ]  # fmt: skip
    one = VERSE20.find(tmp_path / "v" / "01_training")
    assert [c.name for c in one.cases] == ["verse500_CT-ax"], "one split alone will do"


def test_verse_by_subjects(write: Write, tmp_path: Path) -> None:
    train, test = "v/dataset-01training", "v/dataset-03test"
    verse_subject(write, train, "sub-verse004", "sub-verse004_dir-ax", LUMBAR)
    verse_subject(write, train, "sub-verse010", "sub-verse010_dir-iso", (*WHOLE, 28))
    verse_subject(write, train, "sub-verse401", "sub-verse401_split-verse253", LUMBAR)
    verse_subject(write, train, "sub-verse401", "sub-verse401_split-verse254", WHOLE)
    verse_subject(write, test, "sub-verse600", "sub-verse600_dir-sag", WHOLE, listed=False)
    verse_subject(write, test, "sub-verse010", "sub-verse010_dir-iso", WHOLE)  # again
    found = VERSE20.find(tmp_path / "v")
    assert found.layout == "subjects"
    assert [c.name for c in found.cases] == [
        "sub-verse010_dir-iso", "sub-verse401_split-verse254", "sub-verse600_dir-sag",
    ]  # fmt: skip
    image, labels = case(found, "sub-verse600_dir-sag")
    assert image == tmp_path / test / "rawdata/sub-verse600/sub-verse600_dir-sag_ct.nii.gz"
    assert labels == tmp_path / test / "derivatives/sub-verse600/sub-verse600_dir-sag_seg-vert_msk.nii.gz"
    assert "scans that lie here twice: 1" in [f.problem for f in found.findings]


def test_which_scans_show_the_thoracic_spine() -> None:
    assert shows_thoracic(range(8, 20)) and shows_thoracic({*range(1, 25), 28})
    for lacking in range(8, 20):
        assert not shows_thoracic(set(range(1, 26)) - {lacking})
    assert subject("sub-verse400_split-verse253") == subject("verse400_CT-ax") == "verse400"


def test_vertebrae_become_t1_to_t12() -> None:
    drawn = np.array([0, 7, 8, 9, 18, 19, 20, 28])
    assert VERSE20.mapping is not None
    assert relabel(drawn, VERSE20.mapping).tolist() == [0, 0, 1, 2, 11, 12, 0, 0]
    assert (VERSE20.names[1], VERSE20.names[12], len(VERSE20.names)) == ("T1", "T12", 12)


def test_verse_shares_out_the_papers_counts(write: Write, tmp_path: Path) -> None:
    for number in range(500, 590):
        verse_miccai(write, f"v/all/verse{number}", f"verse{number}_CT-ax", WHOLE)
    made = shared(VERSE20.find(tmp_path / "v"), "verse20")
    assert sizes(made) == (70, 0, 16)
    assert made["test"][0] == "verse574_CT-ax" and made["pool"][-1] == "verse569_CT-ax"


def test_a_damaged_list_of_centroids_is_named(write: Write, tmp_path: Path) -> None:
    verse_miccai(write, "v/all/verse500", "verse500_CT-ax", WHOLE)
    (tmp_path / "v/all/verse500/verse500_CT-ax_iso-ctd.json").write_text("[{")
    verse_miccai(write, "v/all/verse501", "verse501_CT-ax", WHOLE)
    found = VERSE20.find(tmp_path / "v")
    assert [c.name for c in found.cases] == ["verse501_CT-ax"]
    assert found.findings[0].where == str(tmp_path / "v/all/verse500/verse500_CT-ax_iso-ctd.json")
    assert found.findings[0].level == "error" and found.findings[0].problem.startswith("not a list of centroids")


CORONAL = np.array([[-1.0, 0, 0, 0], [0, 0, 1.5, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])  # axes L, S, A


def candi_names() -> list[str]:
    groups = {"BPDwPsy": 19, "BPDwoPsy": 35, "HC": 29, "SS": 20}
    return [f"{group}_{n:03d}" for group, count in groups.items() for n in range(1, count + 1)]


def test_candi_as_nitrc_hands_it_out(write: Write, tmp_path: Path) -> None:
    for name in candi_names():
        write(f"candi/{name}_MR/anat/NIfTI/anat.nii.gz")
        write(f"candi/{name}_MR/{name}_MR_seg/NIfTI/seg.nii.gz", (2, 3, 41, 30))
    write("candi/BPDwPsy_001_MR/anat/NIfTI/anat.nii.gz", (1,), CORONAL)
    found = CANDI.find(tmp_path / "candi")
    assert found.layout == "NITRC" and len(found.labelled) == len(found.cases) == CANDI.labelled == 103
    assert case(found, "SS_020") == (
        tmp_path / "candi/SS_020_MR/anat/NIfTI/anat.nii.gz",
        tmp_path / "candi/SS_020_MR/SS_020_MR_seg/NIfTI/seg.nii.gz",
    )
    # 160 x 160 x 128 along the axes of the file (L, S, A) are 160 to the right, 128 to the front, 160 up.
    assert "prepare.size=[160,128,160]" in found.changes
    made = shared(found, "candi")
    assert sizes(made) == (83, 0, 20)
    assert {name.split("_")[0] for name in made["test"]} == {"BPDwPsy", "BPDwoPsy", "HC", "SS"}
    assert made["test"][:2] == [candi_names()[4], candi_names()[9]]


def test_candi_on_the_grid_of_mni152(write: Write, tmp_path: Path) -> None:
    for group, name in (("HC", "HC_001"), ("BPDwithPsy", "BPDwPsy_002")):
        folder = f"SchizBull_2008/{group}/{name}/MNI152_2mm_Linear"
        write(f"{folder}/{name}_linear_MRI.nii.gz")
        write(f"{folder}/{name}_linear_SEG.nii.gz", (2, 3))
    found = CANDI.find(tmp_path / "SchizBull_2008")
    assert CANDI.find(tmp_path).cases == found.cases
    assert [c.name for c in found.labelled] == ["BPDwPsy_002", "HC_001"]
    assert found.changes == ("prepare.align=none", "prepare.crop=none")


def test_a_broken_first_scan_of_candi_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "HC_001_MR" / "anat" / "NIfTI"
    folder.mkdir(parents=True)
    (folder / "anat.nii.gz").write_bytes(b"\r\n")
    with pytest.raises(InputError, match=r"anat\.nii\.gz: cannot be read"):
        CANDI.find(tmp_path)


def task(write: Write, tmp_path: Path, count: int, announced: int) -> Path:
    for number in range(1, count + 1):
        write(f"Task09_Spleen/imagesTr/spleen_{number:02d}.nii.gz")
        write(f"Task09_Spleen/labelsTr/spleen_{number:02d}.nii.gz")
    write("Task09_Spleen/imagesTr/._spleen_01.nii.gz")  # what macOS leaves in archives
    write("Task09_Spleen/imagesTs/spleen_99.nii.gz")
    content = {"labels": {"0": "background", "1": "spleen"}, "numTraining": announced}
    (tmp_path / "Task09_Spleen" / "dataset.json").write_text(json.dumps(content))
    return tmp_path / "Task09_Spleen"


def test_a_task_of_the_decathlon(write: Write, tmp_path: Path) -> None:
    found = MSD.find(task(write, tmp_path, 12, 12))
    assert (found.title, dict(found.names), found.findings) == ("Task09_Spleen", {1: "spleen"}, ())
    made = shared(found, "msd", "ours")
    assert sizes(made) == (10, 0, 2) and made["test"] == ["spleen_05", "spleen_10"]
    assert "announces 41" in MSD.find(task(write, tmp_path, 12, 41)).findings[0].problem


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_of_no_known_layout_is_told_what_is_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds none of the expected files; expected") as caught:
        DATASETS[name].find(tmp_path)
    assert all(files in str(caught.value) for files in DATASETS[name].files)
    with pytest.raises(InputError, match="no such folder"):
        DATASETS[name].find(tmp_path / "none")


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_described_and_its_settings_exist(name: str) -> None:
    dataset = DATASETS[name]
    assert all((dataset.what, dataset.used, dataset.licence, dataset.ask, dataset.files)) and name == dataset.name
    override(load_method("os-medseg").preset("paper"), dataset.changes)
    assert all(split["source"] for split in splits_of(name).values())
    if dataset.mapping is not None:
        assert set(dataset.mapping.values()) == set(dataset.names)


def test_the_papers_counts() -> None:
    counts = {name: wanted(splits_of(name)["paper"]) for name in DATASETS if name != "msd"}
    told = {name: tuple(count.values()) for name, count in counts.items()}
    assert told["oasis"] == told["oasis-l2r"] == (1 + 334, 0, 79)
    assert told["bcv"] == told["abdomenctct"] == told["btcv"] == (1 + 29, 0, 20)
    assert (told["verse20"], told["candi"]) == ((1 + 69, 0, 16), (83, 0, 20))
    assert tuple(wanted(splits_of("oasis")["code"]).values()) == (335, 40, 39)


def test_too_few_scans_are_refused(neurite: Path) -> None:
    found = OASIS.find(neurite)
    few = replace(found, cases=found.cases[:80])
    with pytest.raises(InputError, match="80 scans with labels, 0 without: too few"):
        parts(few, splits_of("oasis")["paper"])
    without = replace(found, cases=tuple(replace(c, labels=None) for c in found.cases))
    with pytest.raises(InputError, match="0 scans with labels, 414 without: too few"):
        parts(without, splits_of("oasis")["paper"])


def test_an_unknown_data_set_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean oasis"):
        find_dataset("oassis")
