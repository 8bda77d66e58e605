"""Claims as data, and verdicts on records small enough to judge by hand."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from soloatlas.claims_command import claims as command
from soloatlas.errors import InputError
from soloatlas.evaluation.statistics import pitman_morgan
from soloatlas.reproduction import TABLES
from soloatlas.reproduction.claims import CLAIMS, Claim, Comparison
from soloatlas.reproduction.verdict_tables import as_json, as_markdown, as_text, standing
from soloatlas.reproduction.verdicts import holm_intervals, judge, read_records, verdicts

BASE = [0.60, 0.62, 0.64, 0.66, 0.68, 0.70, 0.72, 0.74]  # DSC of eight scans


def run(scores, minutes=8.0, **more):
    case_dice = {f"scan{number}": score for number, score in enumerate(scores)}
    trained = {"parameters": {"student": 10}, "seconds": {"learn": 60.0 * minutes}}
    return {"case_dice": case_dice, **trained, "settings": {"loop": {"minutes": 2.5}}, **more}


def record(rows, key="a:table", cohort="heads", split="test"):
    """A record of `reproduce`, as far as verdicts read it; rows: name -> runs."""
    listed = [{"name": name, "method": "os-medseg", "runs": runs} for name, runs in rows.items()]
    return {"id": key, "cohort": cohort, "split": split, "preset": "quick", "rows": listed}


def claim(*pairs, **more):
    comparisons = tuple(Comparison(f"{a} against {b}", ((a, 1.0), (b, -1.0))) for a, b in pairs or [("A", "B")])
    return Claim("a:claim", "A is above B.", "source", ("a:table",), comparisons, **more)


def verdict_of(one, rows):
    return judge(one, "heads", {"a:table": record(rows)})


def moved(by, seeds=3):
    """Three seeds of the base, moved by one number or one for each scan."""
    return [run(list(np.array(BASE) + by))] * seeds


@pytest.mark.parametrize("one", CLAIMS.values(), ids=CLAIMS)
def test_every_claim_speaks_of_rows_that_its_tables_have(one):
    assert CLAIMS[one.id] is one and one.id.split(":")[0] in ("os-medseg", "lt-net")
    names = {name for comparison in one.comparisons for name, _ in comparison.weights}
    for key in one.tables:
        assert names <= {row.name for row in TABLES[key].rows}, key
    assert len({comparison.name for comparison in one.comparisons}) == len(one.comparisons)
    assert bool(one.margin) == bool(one.reason) == (one.direction != "above")


@pytest.mark.parametrize("one", [c for c in CLAIMS.values() if not c.cohorts], ids=lambda c: c.id)
def test_the_papers_own_figures_bear_their_claims_out(one):
    table = TABLES[one.tables[0]]
    if one.measure not in table.measures:
        return
    column = table.measures.index(one.measure)
    sign = -1 if one.measure in ("hd95_mm", "sd") else 1
    printed = {row.name: row.published[column] for row in table.rows if len(row.published) > column}
    for comparison in one.comparisons:
        cells = [(printed.get(name), weight) for name, weight in comparison.weights]
        if all(cell is not None for cell, _ in cells):
            effect = sign * sum(cell * weight for cell, weight in cells)
            assert abs(effect) < one.margin if one.direction == "within" else effect > -one.margin, comparison.name


def test_a_clear_gain_on_three_seeds_is_confirmed():
    gains = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08])
    found = verdict_of(claim(), {"A": moved(gains), "B": moved(0)})
    assert (found.status, found.preliminary, found.scans, found.seeds, found.minutes) == ("confirmed", "", 8, 3, 8.0)
    (finding,) = found.findings
    assert finding.effect == pytest.approx(0.045)  # the mean of the gains
    assert 0.01 < finding.ci95[0] < 0.045 < finding.ci95[1] < 0.08 and finding.interval == finding.ci95
    assert finding.p == finding.p_holm == pytest.approx(2 / 2**8)  # all of one sign
    assert standing(found) == "confirmed"


def test_a_loss_is_not_confirmed_and_one_seed_makes_it_preliminary():
    found = verdict_of(claim(), {"A": moved(-0.02, seeds=1), "B": moved(0, seeds=1)})
    assert (found.status, found.preliminary) == ("not confirmed", "1 seed")
    assert standing(found) == "not confirmed, preliminary (1 seed)"
    assert found.findings[0].effect == pytest.approx(-0.02)


def test_differences_of_both_signs_are_open():
    rows = {"A": moved(np.array([0.03, -0.03] * 4)), "B": moved(0)}
    assert standing(verdict_of(claim(), rows)) == "open"
    one_seed = {name: runs[:1] for name, runs in rows.items()}
    assert standing(verdict_of(claim(), one_seed)) == "undecided (1 seed)"
    assert verdict_of(claim(), {"A": moved(0), "B": moved(0)}).status == "open"  # the same scores
    assert verdict_of(claim(), {"A": moved(1e-12), "B": moved(0)}).status == "open"  # but for rounding


def test_seeds_are_drawn_as_scans_are():
    """One seed of three that fails says little of the next seed, however many scans show it."""
    good, bad = (run([score + by for score in BASE]) for by in (0.0, -0.03))
    found = verdict_of(claim(), {"A": [good, good, bad], "B": moved(0)})
    by_seed = [0.0, 0.0, -0.03]  # the same for every scan: three numbers, two degrees of freedom
    assert found.findings[0].effect == pytest.approx(-0.01) and found.status == "open"
    assert found.findings[0].ci95 == pytest.approx(stats.t.interval(0.95, 2, -0.01, stats.sem(by_seed)), abs=1e-4)
    two = verdict_of(claim(), {"A": [good, bad], "B": moved(0, seeds=2)})
    assert (two.status, two.preliminary) == ("undecided", "2 seeds")


def test_short_training_is_preliminary_and_what_learns_nothing_is_never_too_short():
    plain = {"parameters": {}, "seconds": {"learn": 1.0}}
    short = [run([s + 0.02 for s in BASE], minutes=2.5)] * 3
    found = verdict_of(claim(), {"A": short, "B": [run(BASE, **plain)] * 3})
    assert (found.minutes, found.preliminary) == (2.5, "2.5 min of training")
    both = {"A": [run([s + 0.02 for s in BASE], **plain)] * 3, "B": [run(BASE, **plain)] * 3}
    assert (verdict_of(claim(), both).minutes, verdict_of(claim(), both).preliminary) == (None, "")


def test_beside_syn_a_student_s_share_of_the_limit_counts_as_all_of_it():
    settings = {"registration": {"network": "syn"}, "loop": {"minutes": 8.0}}
    runs = [run([s + 0.02 for s in BASE], minutes=6.0, settings=settings)] * 3
    found = verdict_of(claim(), {"A": runs, "B": moved(0)})
    assert (found.minutes, found.preliminary) == (8.0, "")
    unlimited = {"registration": {"network": "syn"}, "loop": {"minutes": 0.0}}
    runs = [run([s + 0.02 for s in BASE], minutes=6.0, settings=unlimited)] * 3
    assert verdict_of(claim(), {"A": runs, "B": moved(0)}).preliminary == "6.0 min of training"


def test_less_is_better_for_distances():
    def runs(distances):
        return [run(BASE, case_hd95_mm={f"scan{n}": d for n, d in enumerate(distances)})] * 3

    rows = {"A": runs([2.0, 3.0] * 4), "B": runs([3.0, 5.0] * 4)}
    found = verdict_of(claim(measure="hd95_mm"), rows)
    assert found.status == "confirmed" and found.findings[0].effect == pytest.approx(1.5)


def test_spread_has_an_interval_and_a_test_of_its_own():
    narrow = [run([0.70, 0.71] * 4)] * 3
    steadier = verdict_of(claim(measure="sd"), {"A": narrow, "B": moved(0)})
    expected = np.std(BASE) - np.std([0.70, 0.71] * 4)
    assert steadier.findings[0].effect == pytest.approx(expected)
    assert steadier.findings[0].p == pytest.approx(pitman_morgan(np.array([0.70, 0.71] * 4), np.array(BASE)))
    assert steadier.findings[0].p < 0.05 and steadier.status == "confirmed"


def test_the_worst_scans_are_the_lowest_quarter_of_both_rows_together():
    base = [0.5 + 0.01 * n for n in range(6)] + [0.8] * 18
    lifted = [run([s + 0.05 for s in base[:6]] + base[6:])] * 3  # the other 18 of the 24 scans do not count
    found = verdict_of(claim(measure="low"), {"A": lifted, "B": [run(base)] * 3})
    assert found.scans == 6 and found.status == "confirmed"
    assert found.findings[0].effect == pytest.approx(0.05)
    # Where the first row has its six lowest elsewhere, those are taken whose mean of both rows is lowest.
    moved_on = [run([*base[:18], *([0.1] * 6)])] * 3
    found = verdict_of(claim(measure="low"), {"A": moved_on, "B": [run(base)] * 3})
    assert found.findings[0].effect == pytest.approx(-0.7), "0.45 each, below the others' 0.5 to 0.55"
    few = verdict_of(claim(measure="low"), {"A": moved(0.05), "B": moved(0)})
    assert standing(few) == "undecided (2 scans are too few to decide)"


@pytest.mark.parametrize(
    ("by", "within", "not_below"),
    [
        (0.002, "confirmed", "confirmed"),
        (0.02, "not confirmed", "confirmed"),
        (-0.02, "not confirmed", "not confirmed"),
        (np.array([0.04, -0.02] * 4), "open", "open"),
    ],
)
def test_margins(by, within, not_below):
    rows = {"A": moved(by), "B": moved(0)}
    assert verdict_of(claim(direction="within", margin=0.009, reason="x"), rows).status == within
    border = 0.009 if isinstance(by, float) else 0.0
    assert verdict_of(claim(direction="not below", margin=border), rows).status == not_below
    assert verdict_of(claim(direction="within", margin=0.009, reason="x"), rows).findings[0].p is None


def test_weights_ask_for_a_share_of_a_bound():
    share = Claim("a:c", "s", "s", ("a:table",), (Comparison("95 %", (("A", 1.0), ("B", -0.95))),))
    assert verdict_of(share, {"A": moved(0.0), "B": moved(0)}).findings[0].effect == pytest.approx(0.05 * 0.67)
    assert verdict_of(share, {"A": moved(-0.06), "B": moved(0)}).status == "not confirmed"


def test_all_comparisons_must_hold_and_losses_are_judged_at_the_levels_of_holm():
    # A weak gain: its own 95 % interval is clear of 0, that of half the error is not.
    weak = np.array([0.05, 0.04, 0.045, 0.03, -0.02, 0.035, 0.0, 0.005])
    alone = verdict_of(claim(("A", "B")), {"A": moved(weak), "B": moved(0)})
    assert alone.status == "confirmed"
    two = claim(("A", "B"), ("A", "C"))
    both = verdict_of(two, {"A": moved(weak), "B": moved(0), "C": moved(-0.2)})
    assert both.status == "confirmed"
    same = verdict_of(two, {"A": moved(weak), "B": moved(0), "C": moved(0)})
    assert same.status == "confirmed" and [one.status for one in same.findings] == ["confirmed"] * 2
    worse = verdict_of(two, {"A": moved(-weak), "B": moved(0), "C": moved(0)})
    assert worse.status == "open", "of two comparisons one may lie there by chance"
    assert [(one.status, one.refuted) for one in worse.findings] == [("not confirmed", False)] * 2
    assert verdict_of(claim(("A", "B")), {"A": moved(-weak), "B": moved(0)}).status == "not confirmed"
    assert same.findings[0].ci95[0] > 0 > same.findings[0].interval[0]
    assert same.findings[0].ci95 == pytest.approx(stats.t.interval(0.95, 7, weak.mean(), stats.sem(weak)), abs=1e-4)
    assert same.findings[0].p_holm == pytest.approx(min(1, 2 * same.findings[0].p))
    against = verdict_of(two, {"A": moved(0.0), "B": moved(-0.1), "C": moved(0.1)})
    assert against.status == "not confirmed"
    assert [one.status for one in against.findings] == ["confirmed", "not confirmed"]


def test_intervals_widen_with_the_comparisons_that_are_left():
    drawn = np.linspace(-0.02, 0.98, 1001)  # the 2.5th hundredth lies above 0, the 1.25th below
    assert [status for _, status in holm_intervals([drawn], claim())] == ["confirmed"]
    assert [status for _, status in holm_intervals([drawn, drawn], claim())] == ["open", "open"]
    assert [status for _, status in holm_intervals([drawn, drawn + 1], claim())] == ["confirmed", "confirmed"]


def test_few_scans_decide_nothing():
    rows = {name: [run(BASE[:5])] * 3 for name in ("A", "B")} | {"A": [run([s + 0.1 for s in BASE[:5]])] * 3}
    found = verdict_of(claim(), rows)
    assert standing(found) == "undecided (5 scans are too few to decide)"
    assert found.status == "undecided" and found.why == "5 scans are too few to decide" and found.findings[0].effect > 0
    single = verdict_of(claim(), {name: [run(BASE[:1])] * 3 for name in ("A", "B")})
    assert single.status == "undecided" and single.findings == () and "single scan" in single.why


def test_scans_that_a_row_could_not_score_are_left_out():
    found = verdict_of(claim(), {"A": [run([*BASE, None])] * 3, "B": [run([*BASE, 0.1])] * 3})
    assert found.scans == 8


def test_what_a_record_lacks_is_not_measured():
    rows = {"A": moved(0), "B": moved(0)}
    nothing = judge(claim(), "heads", {})
    assert (nothing.status, nothing.why) == ("not measured", "no record of a:table")
    row = verdict_of(claim(), {"A": moved(0)})
    assert row.status == "not measured" and "no row 'B'" in row.why
    assert "HD95 mm of each scan; run reproduce again" in verdict_of(claim(measure="hd95_mm"), rows).why
    unscored = {name: [run(BASE, case_small_dice=dict.fromkeys(("scan0", "scan1")))] * 3 for name in rows}
    assert "nothing to score" in verdict_of(claim(measure="small"), unscored).why


def test_a_claim_about_some_cohorts_is_not_judged_on_others():
    records = {"a:table": record({"A": moved(0.02), "B": moved(0)})}
    ct = claim(cohorts=("bcv",))
    found = [judge(ct, name, records).status for name in ("heads", "bcv", "bcv-code", "bcvs")]
    assert found == ["not of this cohort", "confirmed", "confirmed", "not of this cohort"]


@pytest.fixture
def results(tmp_path):
    """Records of two cohorts: Table V on both, a dev record, and a file of another kind."""
    for cohort, by in (("heads", 0.03), ("hearts", -0.03)):
        rows = {"Cosine similarity loss": moved(by), "L2 loss": moved(0)}
        for split in ("test", "dev"):
            made = record(rows, "os-medseg:table-5", cohort, split)
            path = tmp_path / "results" / cohort / f"os-medseg-table-5-{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(made))
    (tmp_path / "results/heads/other.json").write_text("[]")
    return tmp_path / "results"


def test_records_of_test_scans_are_read(results, tmp_path):
    assert {cohort: list(tables) for cohort, tables in read_records(results).items()} == {
        "heads": ["os-medseg:table-5"],
        "hearts": ["os-medseg:table-5"],
    }
    with pytest.raises(InputError, match="no such folder"):
        read_records(tmp_path / "nowhere")
    (results / "heads/broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json: not JSON"):
        read_records(results)


def test_no_claim_is_left_out(results):
    found = verdicts(read_records(results))
    assert [(v.cohort, v.claim) for v in found] == [(c, name) for c in ("heads", "hearts") for name in CLAIMS]
    assert {v.cohort: v.status for v in found if v.claim == "os-medseg:cosine-above-l2"} == {
        "heads": "confirmed",
        "hearts": "not confirmed",
    }
    assert {v.status for v in verdicts({})} == {"not measured", "not of this cohort"} and len(verdicts({})) == len(
        CLAIMS
    )
    assert {v.claim.split(":")[0] for v in verdicts(read_records(results), "lt-net")} == {"lt-net"}
    with pytest.raises(InputError, match="recorded: heads, hearts"):
        verdicts(read_records(results), cohort="lungs")


def test_tables_show_every_claim_and_what_was_measured(results):
    found = verdicts(read_records(results))
    text, markdown = as_text(found), as_markdown(found)
    assert all(name in text and f"`{name}`" in markdown for name in CLAIMS)
    line = next(line for line in text.splitlines() if "cosine-above-l2" in line)
    assert line.split() == ["os-medseg:cosine-above-l2", "confirmed", "1", "of", "1", "+0.030", "[+0.030,", "+0.030]"]
    assert "| `os-medseg:cosine-above-l2` | Zhou" not in markdown and "| confirmed | not confirmed |" in markdown
    assert "| DSC | Cosine similarity loss against L2 loss | -0.030 [-0.030, -0.030] | 0.0078 |" in markdown
    assert "Margin of `lt-net:image-cycle-adds-little`: 0.009 DSC, since" in markdown
    plain = json.loads(json.dumps(as_json(found)))
    assert len(plain["claims"]) == len(CLAIMS) and "Holm" in plain["rule"]
    one = next(c for c in plain["claims"] if c["id"] == "os-medseg:cosine-above-l2")
    assert [v["status"] for v in one["verdicts"]] == ["confirmed", "not confirmed"]
    assert one["comparisons"] == {
        "Cosine similarity loss against L2 loss": {"Cosine similarity loss": 1.0, "L2 loss": -1.0}
    }
    assert as_markdown(verdicts({})).count("| not measured |") == len(CLAIMS) - 1


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no record of test scans; soloatlas reproduce writes them"):
        CliRunner().invoke(command, ["--results", str(tmp_path)], catch_exceptions=False)


def test_the_command_prints_and_writes(results, tmp_path):
    asked = ["--results", str(results), "--cohort", "hearts", "--paper", "os-medseg"]
    shown = CliRunner().invoke(command, [*asked, "--output", str(tmp_path / "out")], catch_exceptions=False)
    assert shown.exit_code == 0 and "hearts" in shown.output and "heads" not in shown.output
    assert "not confirmed" in (tmp_path / "out/claims.md").read_text()
    as_written = json.loads((tmp_path / "out/claims.json").read_text())
    printed = CliRunner().invoke(command, [*asked, "--json"], catch_exceptions=False)
    assert json.loads(printed.output) == as_written
