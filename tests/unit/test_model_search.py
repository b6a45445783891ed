"""The search on little data: resumed after a kill, shared by processes, repeatable, and its winner trains."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.storages.journal._base import BaseJournalSnapshot
from optuna.trial import TrialState

from model import config, search, search_life, search_report, search_storage
from model.errors import ModelError
from model.folds import artist_folds
from model.registry import Registry
from model.search_space import BCE, SPACES, Space
from tests.model_data import make_dataset, write_dataset
from tests.search_data import TINY, TRACKS, open_tiny

UNTIL_THE_SECOND_EPOCH = 3  # askings whether to go on: before the trial, and after each epoch
TINY_LOSS = replace(TINY, name="tiny-loss", objective=BCE)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

# A process that hangs in its fourth trial, as a person's would be if it took that long.
HANGING = """
import sys, time
from model import search
from tests.search_data import open_tiny

fit_fold, calls = search._fit_fold, []

def hang(*arguments):
    calls.append(1)
    if len(calls) == 3 * search.FOLDS + 1:
        print("hangs", flush=True)
        time.sleep(120)
    return fit_fold(*arguments)

search._fit_fold = hang
search.run(open_tiny(sys.argv[1]), 5)
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def tiny_spaces(monkeypatch):
    monkeypatch.setitem(SPACES, "tiny", TINY)


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data" / "train", make_dataset(TRACKS))
    write_dataset(tmp_path / "data" / "val", make_dataset(40, seed=5))
    return tmp_path / "data"


def memory(space: Space = TINY, seed: int = 0, tracks: int = TRACKS) -> search.Search:
    return search.open_search(optuna.storages.InMemoryStorage(), "s", space, make_dataset(tracks), seed)


def outline(trials) -> list:
    return [(trial.state, trial.params, trial.value) for trial in trials]


def trials_of(journal) -> list:
    storage = search_storage.open_storage(str(journal), "s")
    return optuna.load_study(study_name="s", storage=storage).get_trials()


def test_two_processes_share_a_search_and_one_is_killed(tmp_path):
    """What was finished stays, what was running is tried again, and all is as if one had done it undisturbed."""
    journal = tmp_path / "j.jsonl"
    command = [sys.executable, "-c", HANGING, str(journal)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == b"hangs\n"
        before = trials_of(journal)
        assert [trial.state for trial in before] == [TrialState.COMPLETE] * 3 + [TrialState.RUNNING]

        def kill_when_waited_for(what: str, done: int, total: int) -> None:
            if what.startswith("waiting for trial 3, of another process"):
                assert (done, total) == (4, 5)
                process.send_signal(signal.SIGKILL)

        search.run(open_tiny(journal), 5, tell=kill_when_waited_for)
    after = trials_of(journal)
    assert outline(after[:3]) == outline(before[:3])
    assert [trial.datetime_complete for trial in after[:3]] == [trial.datetime_complete for trial in before[:3]]
    assert after[3].state == TrialState.FAIL and after[3].user_attrs[search_life.WHY] == "its process died"
    assert search_report.count(after) == {"completed": 5, "pruned": 0, "failed": 1, "retried": 1, "unfinished": 0}
    pids = [trial.user_attrs[search_life.PROCESS]["pid"] for trial in after]
    assert pids == [process.pid] * 4 + [os.getpid()] * 2

    undisturbed = memory()
    search.run(undisturbed, 5)
    assert outline(undisturbed.study.trials) == outline([*after[:3], after[5], after[4]])
    search.run(open_tiny(journal), 5)
    assert len(trials_of(journal)) == len(after)  # nothing is left to do


@pytest.mark.slow
def test_workers_of_one_command(run, data, tmp_path):
    """The process that was asked only watches; the others are as a person's own would be."""
    journal = tmp_path / "j.jsonl"
    code, out, err = run(
        *("search", "--data", data, "--study", "s", "--storage", journal),
        *("--trials", 6, "--workers", 2, "--json"),
    )
    assert code == 0, err
    trials = trials_of(journal)
    assert len(search_life.first_attempts(trials)) == 6 and not search_life.pending(trials)
    assert os.getpid() not in {trial.user_attrs[search_life.PROCESS]["pid"] for trial in trials}
    assert json.loads(out)["best"]["value"] == max(trial.value for trial in trials if trial.value is not None)
    assert trials[0].params == SPACES["ours"].base_params() and "trial 0: weighted F1" in err


def test_the_same_seed_proposes_the_same():
    one, same, other = memory(), memory(), memory(seed=1)
    for each, trials in (one, 12), (same, 12), (other, 2):  # 12: past the random ones
        search.run(each, trials)
    assert outline(one.study.trials) == outline(same.study.trials)
    assert one.study.trials[1].params != other.study.trials[1].params
    assert one.study.trials[0].params == {"learning_rate": config.CONFIGS["linear"].learning_rate}


@pytest.mark.parametrize("space", [TINY, TINY_LOSS])
def test_hopeless_trials_are_pruned_by_the_held_out_loss(space):
    opened = memory(space)
    search.run(opened, 20)
    trials, sign = opened.study.trials, -1 if space.maximises else 1
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(pruned) >= 2 and len(complete) >= 6 and len(pruned) + len(complete) == 20
    assert {trial.state for trial in trials[: search.UNPRUNED_TRIALS]} == {TrialState.COMPLETE}
    for trial in pruned:
        seen = len(trial.intermediate_values)
        assert search.UNPRUNED_EPOCHS < seen <= config.CONFIGS["linear"].epochs
        lowest = min(sign * loss for loss in trial.intermediate_values.values())
        others = [other.intermediate_values.get(seen) for other in complete if other.number < trial.number]
        assert lowest > np.percentile([sign * loss for loss in others if loss is not None], search.KEPT_PERCENT)
    for trial in trials:  # Optuna gives pruned trials a value
        assert (search_report.columns(trial, space)[space.objective] is None) == (trial in pruned)
    assert search_report.ranking(trials, space)[0].number == opened.study.best_trial.number


def test_the_winner_trains_and_registers(run, data, tmp_path):
    code, out, err = run(
        *("search", "--data", data, "--space", "tiny", "--trials", 16, "--out", tmp_path / "out"),
        *("--train", "--alias", "challenger", "--json"),
    )
    found = json.loads(out)
    assert code == 0, err
    registry = Registry(tmp_path / "models")
    assert registry.aliases() == {"challenger": found["model"]} and registry.load("challenger")
    settings = config.load(found["config"])
    assert settings == TINY.configure(found["best"]["params"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert 0.5 < found["upstream"] < 1 and f"{found['upstream']:.4f}" in page
    assert page.count("data:image/png;base64,") == 4 and "http" not in page  # the fourth: importances
    assert f"Winner: trial {found['best']['trial']}" in page
    rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").open()))
    assert float(rows[found["best"]["trial"]]["weighted F1"]) == found["best"]["value"]
    assert (tmp_path / "models" / "searches" / "data-tiny" / "journal.jsonl").is_file()


@pytest.mark.parametrize("name", ["study", "ours"])
def test_the_base_lies_in_its_space_and_comes_back_from_the_file(name, tmp_path):
    space = SPACES[name]
    params = space.base_params()
    for field, distribution in space.ranges.items():
        assert distribution._contains(distribution.to_internal_repr(params[field])), field
    assert space.configure(params) == config.CONFIGS[space.base]
    sampled = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask(space.ranges).params
    path = tmp_path / "winner.toml"
    path.write_text(space.to_toml(sampled, "a remark"))
    made = config.load(str(path))
    assert made == space.configure(sampled) != config.CONFIGS[space.base]
    assert made.network.width % made.network.heads == 0


def test_the_objective_is_of_tracks_whose_artists_were_not_seen(monkeypatch):
    """Labels of the scored fold do not reach the network that scores it, but for the stop."""
    opened, seen = memory(), []
    real = search.fit

    def watched(network, logits, labels, *rest, held, **more):
        seen.append((len(logits), len(held[0])))
        return real(network, logits, labels, *rest, held=held, **more)

    monkeypatch.setattr(search, "fit", watched)
    search.run(opened, 1)
    folds = artist_folds(opened.dataset.artists, TRACKS, search.FOLDS, 0)
    assert seen == [((folds != fold).sum(), (folds == fold).sum()) for fold in range(search.FOLDS)]


def test_a_trial_in_trouble_is_marked_and_the_search_goes_on(monkeypatch):
    opened, real = memory(), search._fit_fold

    def troubled(searched, configuration, folds, fold, tick):
        if configuration.learning_rate > 0.05:
            raise MemoryError("no room")
        return real(searched, configuration, folds, fold, tick)

    monkeypatch.setattr(search, "_fit_fold", troubled)
    search.run(opened, 8)
    failed = [trial for trial in opened.study.trials if trial.state == TrialState.FAIL]
    assert 0 < len(failed) < 8 == len(opened.study.trials)
    assert all("MemoryError: no room" in trial.user_attrs[search_life.WHY] for trial in failed)


def test_a_search_that_only_fails_ends(monkeypatch):
    def broken(*_):
        raise RuntimeError("wrong")

    monkeypatch.setattr(search, "_fit_fold", broken)
    with pytest.raises(ModelError, match="first 3 trials failed, the last with RuntimeError: wrong"):
        search.run(memory(), 10)


@pytest.mark.parametrize("place", ["memory", "{tmp}/j.jsonl", "sqlite:///{tmp}/s.db"])
def test_an_interrupted_trial_has_not_failed_but_waits_and_keeps_its_number(tmp_path, place):
    """Trial 0 is the space's own start, interrupted or not; all is as if nobody had interrupted."""

    def opened() -> search.Search:
        if place == "memory":
            return in_memory
        storage = search_storage.open_storage(place.format(tmp=tmp_path), "s")
        return search.open_search(storage, "s", TINY, make_dataset(TRACKS), seed=0)

    in_memory = memory()
    calls = UNTIL_THE_SECOND_EPOCH
    with pytest.raises(KeyboardInterrupt):
        search.run(opened(), 3, wanted=iter([True] * calls + [False]).__next__)
    (waiting,) = opened().study.trials
    assert waiting.state == TrialState.WAITING and waiting.params == TINY.base_params()
    assert search_report.count([waiting]) == {
        "completed": 0, "pruned": 0, "failed": 0, "retried": 0, "unfinished": 1
    }  # fmt: skip
    search.run(opened(), 3)
    undisturbed = memory()
    search.run(undisturbed, 3)
    again = opened().study.trials
    assert outline(again) == outline(undisturbed.study.trials)
    assert [one.intermediate_values for one in again] == [one.intermediate_values for one in undisturbed.study.trials]


def test_a_silent_process_on_another_machine_is_dead():
    opened = memory()
    study, storage = opened.study, opened.storage
    silent, talking = study.ask(TINY.ranges), study.ask(TINY.ranges)
    for trial, beat in (silent, 1.0), (talking, 4e9):
        trial.set_user_attr(search_life.PROCESS, {"host": "elsewhere", "pid": 1, "started": 0.0})
        trial.set_user_attr(search_life.BEAT, beat)
    search_life.bury_the_dead(study, storage)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING", "WAITING"]
    for _ in range(search_life.RETRIES_MAX):  # and what kills every process is not tried for ever
        again = study.ask(TINY.ranges)
        again.set_user_attr(search_life.BEAT, 1.0)
        search_life.bury_the_dead(study, storage)
    assert len(study.trials) == 2 + search_life.RETRIES_MAX
    assert len(search_life.first_attempts(study.trials)) == 2


def test_no_more_trials_than_asked_for():
    """Two processes that start the last trial at once: one of them takes it back."""
    opened = memory()
    with search_life.signs_of_life(opened.storage, opened.study.ask(TINY.ranges)._trial_id):
        search._run_one(opened, 1, lambda *_: None, lambda: True)
    assert opened.study.trials[1].user_attrs[search_life.WHY] == search_life.SURPLUS
    assert len(search_life.first_attempts(opened.study.trials)) == 1


def test_a_torn_line_is_cut_off(tmp_path):
    journal = tmp_path / "j.jsonl"
    for trials in 1, 2:
        search.run(open_tiny(journal), trials)
        with journal.open("a") as file:
            file.write('{"op_code":4,"wor')
    assert len(trials_of(journal)) == 2


def test_a_full_disk_is_told_and_the_search_goes_on_when_there_is_room(run, data, tmp_path):
    words = ["search", "--data", data, "--space", "tiny", "--storage", tmp_path / "j.jsonl", "--trials", 4, "--json"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))  # bytes of a file: the journal is full in mid-trial
    try:
        code, out, err = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, out) == (1, "") and "The search stopped: [Errno 27] File too large" in err.splitlines()[-1]
    torn = (tmp_path / "j.jsonl").read_bytes()
    assert len(torn) == 12_000 and not torn.endswith(b"\n")
    code, out, err = run(*words)
    assert code == 0 and json.loads(out)["trials"]["completed"] == 4, err


def test_a_database_can_hold_a_search(tmp_path):
    storage = search_storage.open_storage(f"sqlite:///{tmp_path}/s.db", "s")
    opened = search.open_search(storage, "s", TINY, make_dataset(TRACKS), seed=0)
    search.run(opened, 2)
    assert outline(opened.study.trials) == outline(_first_two())


def _first_two() -> list:
    opened = memory()
    search.run(opened, 2)
    return opened.study.trials


def test_no_snapshot_of_redis_is_unpickled():
    assert not issubclass(search_storage._RedisJournal, BaseJournalSnapshot)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--trials", "0"), "--trials is at least 1, not 0"),
        (("--space", "outer"), "'outer' is not a search space; there are study, ours"),
        (("--study", "../s"), "is not a study's name"),
        (("--storage", "{tmp}/picture"), "is not the journal of a search"),
        (("--storage", "{tmp}/picture/j"), "cannot be used"),
        (("--storage", "redis://me:secret@127.0.0.1:1"), "redis://me:***@127.0.0.1:1 cannot be used"),
        (("--storage", "sqlite:////no/such/folder/s.db"), "cannot be used"),
        (("--storage", "nonsense://me:secret@host/db"), "nonsense://me:***@host/db cannot be used"),
        (("--alias", "challenger"), "--alias names the model that --train makes"),
        (("--train", "--alias", "champion"), "A training does not name the champion"),
        (("--train", "--alias", "No Good"), "is not an alias"),
        (("--data", "{tmp}/nowhere"), "is not a data set"),
        (("--data", "{tmp}/few"), "at least 100 tracks"),
        (("--storage", "{tmp}/begun.jsonl", "--study", "s", "--seed", "1"), "begun with other seed"),
    ],
)
def test_mistakes_are_one_sentence(run, data, tmp_path, words, told):
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n")
    write_dataset(tmp_path / "few", make_dataset(20))
    search.open_search(search_storage.open_storage(f"{tmp_path}/begun.jsonl", "s"), "s", TINY, make_dataset(TRACKS), 0)
    given = ["search", "--data", data, "--space", "tiny", "--trials", 2]
    code, out, err = run(*given, *(word.format(tmp=tmp_path) for word in words))
    assert code == 1 and out == "" and "secret" not in err
    assert told in err and "Traceback" not in err and len(err.strip().splitlines()) == 1
    assert (tmp_path / "picture").read_bytes() == b"\x89PNG\r\n"


def test_help_has_an_example(run):
    code, out, _ = run("search", "--help")
    assert code == 0 and "Example: tagstream search" in out
