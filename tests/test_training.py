"""The loop: exact resume, accumulation, named terms, refusal of NaN."""

import csv
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from soloatlas.errors import InputError, RunError
from soloatlas.randomness import generator, seeded_modules, visiting_order
from soloatlas.settings import Loop
from soloatlas.training import Rival, Session, Stage, Trial, checkpoint_weights, fit, seconds_trained, steps_of
from soloatlas.training.loop import _rate
from soloatlas.training.players import players_of


def make_network():
    with seeded_modules(0, "net"):
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def make_stage(network, steps, scale=1.0, batch=2):
    def objective(step, items):
        x = torch.randn(len(items), 4, generator=generator(0, "x", step)) + torch.tensor(items)[:, None]
        out = network(x)
        return {"fit": ((out - x.sum(1, keepdim=True)) ** 2).mean() * scale, "size": out.abs().mean()}

    return Stage("toy", {"net": network}, objective, {"fit": 1.0}, 5, steps, batch, 1e-2, "cosine")


def weights_of(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


class KilledError(Exception):
    pass


def test_blocks_that_compute_again_train_to_the_same_weights(session):
    found = []
    for recompute in (False, True):
        with seeded_modules(0, "net"):
            network = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.Linear(8, 1))
        loop = replace(session.loop, recompute=recompute)
        fit(make_stage(network, 4), replace(session, folder=session.folder / str(recompute), loop=loop))
        found.append(weights_of(network))
    assert torch.equal(*found)


def test_a_killed_run_resumes_to_the_same_weights_and_rows(tmp_path):
    loop = Loop(precision="float32", log_steps=2, checkpoint_minutes=0)
    whole = make_network()
    fit(make_stage(whole, 12), Session(tmp_path / "whole", 0, torch.device("cpu"), loop))

    def die(task, done, total, note=""):
        if done == 8:
            raise KilledError

    session = Session(tmp_path / "cut", 0, torch.device("cpu"), loop, die)
    with pytest.raises(KilledError):
        fit(make_stage(make_network(), 12), session)
    resumed = make_network()
    fit(make_stage(resumed, 12), replace(session, progress=None))
    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert (tmp_path / "whole/metrics.csv").read_text() == (tmp_path / "cut/metrics.csv").read_text()


def test_weights_that_lie_channels_last_step_and_resume_as_adam_says(tmp_path):
    def make():
        with seeded_modules(0, "net"):
            return nn.Conv3d(3, 4, 3)

    def objective(network, step, items):
        x = torch.randn(2, 3, 6, 5, 4, generator=generator(0, "x", step))
        return {"fit": (network(x) - x[:, :1, 1:-1, 1:-1, 1:-1]).square().mean()}

    plain = make()
    optimiser = torch.optim.Adam(plain.parameters(), 1e-2, foreach=False, fused=False)
    for step in range(6):
        optimiser.zero_grad()
        objective(plain, step, ())["fit"].backward()
        optimiser.step()

    def stage():
        network = make().to(memory_format=torch.channels_last_3d)
        return network, Stage(
            "s", {"net": network}, partial(objective, network), {"fit": 1.0}, 5, 6, 1, 1e-2, "constant"
        )

    def die(task, done, total, note=""):
        if done == 3:
            raise KilledError

    loop = Loop(precision="float32", log_steps=1, checkpoint_minutes=0)
    session = Session(tmp_path, 0, torch.device("cpu"), loop, die)
    with pytest.raises(KilledError):
        fit(stage()[1], session)
    resumed, again = stage()
    fit(again, replace(session, progress=None))
    assert not resumed.weight.is_contiguous()
    torch.testing.assert_close(weights_of(resumed), weights_of(plain), rtol=1e-5, atol=1e-6)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [1000.0]
    monkeypatch.setattr("soloatlas.training.loop.time.monotonic", lambda: now[0])
    return now


def test_the_time_of_earlier_sittings_counts(tmp_path, clock):
    def slow(network, fail_at=0):
        stage = make_stage(network, 12)

        def objective(step, items):
            clock[0] += 10
            if step == fail_at > 0:
                raise KilledError
            return stage.objective(step, items)

        return replace(stage, objective=objective)

    loop = Loop(precision="float32", log_steps=2, checkpoint_minutes=0)
    with pytest.raises(KilledError):
        fit(slow(make_network(), fail_at=7), Session(tmp_path, 0, torch.device("cpu"), loop, began=clock[0]))
    assert seconds_trained(tmp_path) == 60  # six steps stand in the checkpoint
    clock[0] += 5000  # nobody trains
    fit(slow(make_network()), Session(tmp_path, 0, torch.device("cpu"), loop, began=clock[0] - 60))
    assert seconds_trained(tmp_path) == 120


def test_a_time_limit_is_one_for_all_sittings(tmp_path, clock):
    steps = []

    def objective(step, items):
        clock[0] += 10
        steps.append(step)
        if len(steps) == 5:
            raise KilledError
        return {"a": network(torch.ones(1, 4)).sum()}

    network = make_network()
    stage = replace(make_stage(network, 100), objective=objective, weights={"a": 1.0})
    loop = Loop(precision="float32", log_steps=2, checkpoint_minutes=0, minutes=1)
    with pytest.raises(KilledError):
        fit(stage, Session(tmp_path, 0, torch.device("cpu"), loop, began=clock[0]))
    clock[0] += 5000
    began = clock[0] - seconds_trained(tmp_path)
    fit(stage, Session(tmp_path, 0, torch.device("cpu"), loop, began=began))
    assert steps == [0, 1, 2, 3, 4, 4, 5]  # six steps of ten seconds are in the result


def test_a_stage_may_fill_its_time_with_more_steps_than_it_has(tmp_path, clock):
    loop = Loop(precision="float32", minutes=1, fill=True, log_steps=5, checkpoint_minutes=0)
    told = []

    def watch(task, done, total, note=""):
        told.append((done, total))
        if done == 20 and len(told) < 5:
            raise KilledError

    def stage():
        made = make_stage(make_network(), 3)

        def objective(step, items):
            clock[0] += 2.0
            return made.objective(step, items)

        return replace(made, objective=objective)

    with pytest.raises(KilledError):
        fit(stage(), Session(tmp_path, 0, torch.device("cpu"), loop, watch, began=clock[0]))
    began = clock[0] - seconds_trained(tmp_path)
    fit(stage(), Session(tmp_path, 0, torch.device("cpu"), loop, watch, began=began))
    with (tmp_path / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["term"] == "total"]
    assert steps == [5, 10, 15, 20, 25, 30], "a minute of steps of two seconds"
    assert told[1][1] == pytest.approx(30, abs=3), "as many as the time will do for"
    before = clock[0]
    fit(stage(), Session(tmp_path, 0, torch.device("cpu"), loop, watch, began=clock[0]))
    assert clock[0] == before, "it is done"


def test_networks_that_draw_are_reproducible_and_resume_exactly(tmp_path):
    def drawing():
        return nn.Sequential(make_network(), nn.Dropout(0.5))

    loop = Loop(precision="float32", log_steps=2, checkpoint_minutes=0)

    def train(folder, progress=None):
        network = drawing()
        torch.rand(3)  # another state of torch's own generator
        stage = replace(make_stage(network, 8), amsgrad=True)
        fit(stage, Session(tmp_path / folder, 0, torch.device("cpu"), loop, progress))
        return weights_of(network)

    def die(task, done, total, note=""):
        if done == 4:
            raise KilledError

    whole = train("whole")
    with pytest.raises(KilledError):
        train("cut", die)
    assert torch.equal(whole, train("again"))
    assert torch.equal(whole, train("cut"))


def test_schedules_of_the_rate():
    assert _rate("constant", 0.7) == 1
    assert _rate("cosine", 0.5) == pytest.approx(0.5)
    assert _rate("poly", 0.0) == 1 and _rate("poly", 0.75) == pytest.approx(0.25**0.9)
    # Passes 0 to 9 of 201 at the full rate, 10 to 19 at a tenth, and so on.
    assert [_rate("step", epoch / 201) for epoch in (0, 9.9, 10.1, 19.9, 20.1)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_finished_stage_is_not_trained_again(tmp_path, session):
    network = make_network()
    fit(make_stage(network, 4), session)
    before = weights_of(network).clone()
    other = make_network()
    fit(make_stage(other, 4, scale=100.0), session)
    assert torch.equal(weights_of(other), before)


def test_terms_are_logged_by_name_and_only_weighted_ones_are_minimised(session):
    fit(make_stage(make_network(), 4), session)
    with (session.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["term"] for r in rows} == {"fit", "size", "total"}
    by_term = {(r["term"], r["step"]): float(r["value"]) for r in rows}
    assert by_term["fit", "4"] == by_term["total", "4"]


def test_accumulation_takes_as_many_batches_per_step(session):
    seen = []
    network = make_network()
    stage = make_stage(network, 3)

    def watched(step, items):
        seen.append(step)
        return stage.objective(step, items)

    fit(replace(stage, objective=watched), replace(session, loop=replace(session.loop, accumulate=2)))
    assert seen == [0, 1, 2, 3, 4, 5]


def test_nan_is_refused_with_its_term_and_step(session):
    stage = make_stage(make_network(), 4, scale=float("nan"))
    with pytest.raises(RunError, match="'fit' is not finite at step 2"):
        fit(stage, session)


def test_a_checkpoint_of_other_networks_is_refused(session):
    fit(make_stage(make_network(), 2), session)
    with pytest.raises(RunError, match="does not fit these settings"):
        fit(make_stage(nn.Linear(4, 1), 4), session)


def test_a_network_is_read_back_from_a_checkpoint(session):
    network, other = make_network(), nn.Linear(4, 1)

    def objective(step, items):
        yield {"rival": other(torch.ones(2, 4)).square().mean()}
        yield {"fit": network(torch.ones(2, 4)).square().mean()}

    rival = Rival({"other": other}, {"rival": 1.0})
    fit(Stage("toy", {"net": network}, objective, {"fit": 1.0}, 5, 2, 2, 1e-2, rival=rival), session)
    path = session.folder / "checkpoints/toy.safetensors"
    found = checkpoint_weights(path, "net")
    assert set(found) == set(network.state_dict())
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())
    with pytest.raises(InputError, match=r"toy.safetensors: holds no teacher; train the run again"):
        checkpoint_weights(path, "teacher")
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"toy.safetensors: cannot be read, and only it holds the net"):
        checkpoint_weights(path, "net")


def test_every_pass_visits_every_item_once():
    order = visiting_order(0, "s", 7, 0, 21)
    for start in (0, 7, 14):
        assert sorted(order[start : start + 7]) == list(range(7))
    assert order[:7] != order[7:14]
    assert visiting_order(0, "s", 7, 5, 4) == order[5:9]


def test_epochs_count_the_last_short_batch():
    assert steps_of(0, 200, 334, 2) == 33400
    assert steps_of(0, 10, 5, 2) == 30
    assert steps_of(7, 10, 5, 2) == 7


def test_a_stage_out_of_time_ends_with_its_schedule_and_is_done(session):
    limited = replace(session, loop=replace(session.loop, minutes=1e-9))
    network = make_network()
    before = weights_of(network).clone()
    fit(make_stage(network, 50), limited)
    assert torch.equal(weights_of(network), before), "no time, no step"
    fit(make_stage(network, 50), replace(session, loop=replace(session.loop, minutes=10.0)))
    assert torch.equal(weights_of(network), before), "a stage that ended is not begun again"


@pytest.mark.parametrize("as_generator", [False, True])
def test_terms_are_computed_under_autocast(session, as_generator):
    network, types = make_network(), []

    def terms():
        out = network(torch.ones(2, 4))
        types.append(out.dtype)
        return {"fit": out.float().square().mean()}

    def turns(step, items):
        yield terms()

    objective = turns if as_generator else lambda step, items: terms()
    stage = Stage("toy", {"net": network}, objective, {"fit": 1.0}, 5, 1, 2, 1e-2)
    fit(stage, replace(session, loop=replace(session.loop, precision="bf16")))
    assert types == [torch.bfloat16]


def test_a_rival_steps_first_with_its_own_rate_and_gets_no_gradient_in_the_turn_that_follows(session):
    main, other = make_network(), make_network()
    frozen = []

    def objective(step, items):
        x = torch.ones(2, 4)
        yield {"rival": (other(x) - 1).square().mean() + 0 * main(x).sum()}
        frozen.append(all(not p.requires_grad for p in other.parameters()))
        yield {"main": (main(x) - other(x)).square().mean()}

    start = weights_of(other).clone()
    rival = Rival({"other": other}, {"rival": 1.0}, learning_rate=1e-3)
    fit(Stage("game", {"net": main}, objective, {"main": 1.0}, 5, 1, 2, 1e-2, rival=rival), session)
    assert frozen == [True]
    assert float((weights_of(other) - start).abs().max()) == pytest.approx(1e-3, rel=1e-2), "Adam's first step"
    again, its = make_network(), make_network()
    stage = Stage("game", {"net": again}, objective, {"main": 1.0}, 5, 1, 2, 1e-2, rival=Rival({"other": its}, {}))
    fit(stage, session)
    assert torch.equal(weights_of(again), weights_of(main)) and torch.equal(weights_of(its), weights_of(other))


def test_a_rival_has_betas_of_its_own_or_those_of_the_stage():
    stage = Stage("game", {"net": make_network()}, lambda *_: {}, {}, 5, 1, 2, 1e-2, betas=(0.9, 0.99))
    for betas, expected in ((None, (0.9, 0.99)), ((0.5, 0.999), (0.5, 0.999))):
        rival = Rival({"other": make_network()}, {}, betas=betas)
        first, own = players_of(replace(stage, rival=rival), torch.device("cpu"), torch.float32)
        assert first.optimiser.defaults["betas"] == expected and own.optimiser.defaults["betas"] == (0.9, 0.99)


@pytest.fixture
def in_fp16(monkeypatch):
    """Let the loop compute in float16 with scaled gradients on a CPU, which nobody is allowed to ask for."""
    monkeypatch.setattr("soloatlas.training.loop.choose_precision", lambda name, device: torch.float16)


def a_game(main, other, steps):
    def objective(step, items):
        x = torch.ones(2, 4) * (1 + 0.1 * step)
        yield {"rival": (other(x).float() - 1).square().mean()}
        yield {"main": (main(x).float() - other(x).float()).square().mean()}

    rival = Rival({"other": other}, {"rival": 1.0})
    return Stage("game", {"net": main}, objective, {"main": 1.0}, 5, steps, 2, 1e-2, rival=rival)


def test_in_fp16_a_rival_steps_at_every_accumulated_batch(session, in_fp16):
    main, other = make_network(), make_network()
    before = weights_of(other).clone()
    fit(a_game(main, other, 3), replace(session, loop=replace(session.loop, accumulate=2)))
    assert not torch.equal(weights_of(other), before)


def test_a_killed_run_in_fp16_resumes_to_the_same_weights(session, in_fp16):
    def die(task, done, total, note=""):
        if done == 6:
            raise KilledError

    loop = replace(session.loop, checkpoint_minutes=0)
    whole, resumed = make_network(), make_network()
    fit(a_game(whole, make_network(), 10), replace(session, loop=loop, folder=session.folder / "whole"))
    cut = replace(session, loop=loop, folder=session.folder / "cut")
    with pytest.raises(KilledError):
        fit(a_game(make_network(), make_network(), 10), replace(cut, progress=die))
    fit(a_game(resumed, make_network(), 10), cut)
    assert torch.equal(weights_of(whole), weights_of(resumed))


def test_a_checkpoint_of_another_precision_is_gone_on_with(session, monkeypatch):
    fit(make_stage(make_network(), 4), replace(session, trial=Trial(steps=2)))
    monkeypatch.setattr("soloatlas.training.loop.choose_precision", lambda name, device: torch.float16)
    network = make_network()
    fit(make_stage(network, 4), session)  # a finished checkpoint is read, too
    assert torch.isfinite(weights_of(network)).all()


def test_what_a_kill_left_half_written_does_not_count(session):
    fit(make_stage(make_network(), 4), session)
    spent = seconds_trained(session.folder)
    (session.folder / "checkpoints/.1a2b3c4d-toy.safetensors").write_bytes(b"half")
    assert seconds_trained(session.folder) == spent


def test_a_damaged_checkpoint_is_named(session):
    (session.folder / "checkpoints").mkdir()
    (session.folder / "checkpoints/toy.safetensors").write_bytes(b"half")
    with pytest.raises(RunError, match=r"toy\.safetensors: is damaged"):
        fit(make_stage(make_network(), 4), session)


def test_a_trial_stops_each_stage_and_notes_its_steps(session):
    tried = replace(session, trial=Trial(steps=3))
    fit(make_stage(make_network(), 50), tried)
    steps, ended = tried.trial.stages["toy"]
    assert steps == 50 and len(ended) == 3 and ended == sorted(ended)
    short = replace(session, trial=Trial(steps=3), folder=session.folder / "short")
    fit(make_stage(make_network(), 2), short)
    assert len(short.trial.stages["toy"][1]) == 2
