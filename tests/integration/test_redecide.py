"""`tagstream redecide` on real parts: what changes, what does not, who is told what, and that it can be taken back."""

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ops import redecide
from ops.local.services import Services
from ops.redecide import Asked, Redecisions, state_of
from ops.thresholds_admin import ThresholdsAdmin
from streamer.core.redecide_runs import Progress, State
from tests.checks import newest
from tests.checks_content import check_redecided
from tests.fixtures_secure import Command, Ended
from tests.harness import TUNED, Artefacts, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

TRACKS = 600
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def pair(services: Services, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """Two workers that have decided some tracks, some of them twice and some withdrawn, for all tests of this file."""
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path_factory.mktemp("pair"), artefacts)
    stream.load(2 * TRACKS, tracks=TRACKS, withdraw_every=20).finish()
    stream.start("a", "b")
    stream.settle()
    yield stream
    stream.close()


@pytest.fixture
def tagstream(pair: Stream, command: Command) -> Run:
    """A command for this stream."""
    return partial(command, pair.worker_settings)


def told(ended: Ended) -> dict:
    assert ended.code == 0, ended.err
    return json.loads(ended.out.splitlines()[-1])  # `verify` tells what it found before it


def set_some(tagstream: Run, pair: Stream, value: float) -> str:
    """Set every fifth tag; the version that all workers obey."""
    changes = [f"{tag}={value}" for tag in pair.layout.tags[::5]]
    return told(tagstream("thresholds", "set", *changes, "--json"))["thresholds"]


def test_a_change_is_counted_applied_and_taken_back(pair: Stream, tagstream: Run):
    version = set_some(tagstream, pair, 0.6)
    before = pair.verify()
    kept = newest(before.found.decisions)
    counted = told(tagstream("redecide", "--dry-run", "--json"))
    assert counted["changed"] > 100 and counted["removed"] == {} and set(counted["added"]) <= set(pair.layout.tags[::5])
    assert len(pair.verify().decisions) == len(before.decisions), "published by a dry run"

    done = told(tagstream("redecide", "--json", "--why", "too strict"))
    same = "examined", "changed", "added", "removed", "thresholds", "other_models", "unexplained", "unreadable"
    assert [done[name] for name in same] == [counted[name] for name in same]
    assert (done["state"], done["thresholds"], done["why"], done["errors"]) == ("done", [version], "too strict", [])
    after = pair.verify()
    assert check_redecided(pair.layout, after.found, pair.tables(), version) == done["examined"]
    redecided = [d for d in after.decisions if d.redecided == done["run"]]
    assert len(redecided) == done["changed"] == len(after.decisions) - len(before.decisions)

    again = told(tagstream("redecide", "--json"))
    assert (again["changed"], again["examined"]) == (0, done["examined"])
    assert len(pair.verify().decisions) == len(after.decisions), "the second time nothing changes"

    original = set_some(tagstream, pair, TUNED)
    back = told(tagstream("redecide", "--json"))
    assert (back["changed"], back["removed"], back["added"]) == (done["changed"], done["added"], {})
    report = pair.verify()
    check_redecided(pair.layout, report.found, pair.tables(), original)
    now = newest(report.found.decisions)
    for track in {(d.partition, d.track) for d in redecided}:
        assert now[track].content == kept[track].content and now[track].identity != kept[track].identity


def test_a_run_that_is_going_on_is_not_begun_twice_and_can_be_ended(pair: Stream, tagstream: Run):
    ended = tagstream("redecide", "--cancel")
    assert ended.code == 1 and "no re-decide run is going on: the last one" in ended.err
    runs = Redecisions(pair.settings)
    asked = runs.look_up()
    run = runs.begin(
        Asked(asked.model, asked.thresholds, asked.partitions + 1), "of one more than there are", dry_run=True
    )
    ended = tagstream("redecide")
    assert ended.code == 1 and f"the re-decide run {run.name} of" in ended.err and "--cancel" in ended.err
    ended = tagstream("redecide", "--cancel", "--json")
    assert (told(ended)["state"], told(ended)["run"]) == ("cancelled", run.name)
    assert tagstream("redecide", "--follow").code == 1
    assert told(tagstream("redecide", "--dry-run", "--no-wait", "--json"))["state"] == "running"
    eventually(lambda: runs.newest().is_over, 20, "it goes on without the command", runs.newest)  # type: ignore[union-attr]


def test_another_model_s_scores_are_counted_and_skipped(pair: Stream, tagstream: Run):
    pair.install(pair.artefacts.second)
    assert tagstream("models", "promote", pair.artefacts.second).code == 0
    skipped = told(tagstream("redecide", "--json"))
    assert skipped["examined"] == skipped["changed"] == 0 and skipped["other_models"] > TRACKS * 0.9
    pair.load(TRACKS // 4, tracks=TRACKS).finish()
    pair.settle()
    some = told(tagstream("redecide", "--dry-run", "--json"))
    assert 0 < some["examined"] <= TRACKS // 4
    assert some["examined"] + some["other_models"] >= skipped["other_models"]


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "two at once": (("--dry-run", "--cancel"), "exclude each other"),
    "nothing to cancel": (("--cancel",), "no re-decide run is going on."),
    "nothing to follow": (("--follow",), "no re-decide run is going on."),
    "no worker": ((), "no worker is alive: start one"),
}


@pytest.mark.parametrize(("words", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence(words: tuple[str, ...], sentence: str, idle: Stream, command: Command):
    mistake(command(idle.worker_settings, "redecide", *words), sentence)


def mistake(ended: Ended, sentence: str) -> None:
    assert ended.code == 1 and ended.out == "" and sentence in ended.err, ended
    assert ended.err.count("\n") == 1 and "Traceback" not in ended.err


@pytest.fixture
def idle(services: Services, artefacts: Artefacts, tmp_path) -> Iterator[Stream]:
    """Topics and a promoted model, and no worker."""
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts)
    stream.redis.set(stream.keys.model, artefacts.first)
    stream.redis.hset(stream.keys.live(artefacts.first), mapping=dict.fromkeys(stream.layout.tags, str(TUNED)))
    yield stream
    stream.close()


def test_no_scores_no_model_no_redis(idle: Stream, command: Command):
    words = idle.worker_settings, "redecide"
    beat = idle.keys.worker("w")
    idle.redis.hset(beat, mapping={"model": idle.artefacts.first})
    mistake(command(*words), f"{idle.settings.topic_scores} holds no retained scores: there is nothing to re-decide")
    idle.redis.hset(beat, mapping={"model": "another", "model_failure": "There is no model X"})
    mistake(command(*words), f"no worker serves {idle.artefacts.first}, the active model: There is no model X")
    idle.redis.hset(idle.keys.live(idle.artefacts.first), idle.layout.tags[0], "1.5")
    mistake(command(*words), "Mend it first")
    idle.redis.set(idle.keys.model, "20200101T000000Z-00000000")
    mistake(command(*words), "Redis names '20200101T000000Z-00000000' as the active model, which is not in")
    idle.redis.delete(idle.keys.model)
    mistake(command(*words), "Redis names no active model")
    away = {**idle.worker_settings, "redis_url": "redis://127.0.0.1:1/0"}
    mistake(command(away, "redecide"), "Redis at 127.0.0.1:1 does not answer")


def test_what_a_killed_walk_left_goes_with_the_next_request(idle: Stream):
    runs, asked = Redecisions(idle.settings), Asked(idle.artefacts.first, "t2", 4)
    first = runs.begin(asked, "", dry_run=False)
    walked = Progress(1, State.RUNNING, "w", asked.model, "t2", 0, 9, 5)
    idle.redis.xadd(idle.keys.redecide, walked.fields(first.name))  # type: ignore[arg-type]
    runs.cancel()
    runs.begin(Asked(asked.model, "t1", 4), "", dry_run=False)
    newest = runs.newest()
    assert newest is not None and newest.thresholds == "t1" and newest.left == {1: (f"{asked.model}/t2",)}


def test_the_runs_of_lately_say_who_asked_and_who_ended_them(idle: Stream, monkeypatch):
    monkeypatch.setattr(redecide, "PAGE", 2)
    anna, ben = (Redecisions(idle.settings, ThresholdsAdmin(idle.settings, name)) for name in ("anna", "ben"))
    asked = Asked(idle.artefacts.first, "t2", 4)
    assert anna.lately(5) == [] and not anna.last_entry()
    one = anna.begin(asked, "to count", dry_run=True)
    ben.cancel()
    ended = anna.last_entry()
    two = ben.begin(asked, "to do it", dry_run=False)
    assert anna.last_entry() == two.entry != ended
    found = anna.lately(5)
    told = [(run.name, run.who, run.why, state_of(run), run.cancelled_by) for run in found]
    assert told == [(two.name, "ben", "to do it", "running", ""), (one.name, "anna", "to count", "cancelled", "ben")]
    assert [run.name for run in anna.lately(1)] == [two.name]


def test_what_others_write_into_the_stream_of_runs_is_passed_over(idle: Stream, command: Command):
    for fields in (
        {"a": "b"},
        {"kind": "request"},
        {"kind": "progress", "run": "x"},
        {"kind": "request", "partitions": "\xff"},
    ):
        idle.redis.xadd(idle.keys.redecide, fields)
    mistake(command(idle.worker_settings, "redecide", "--follow"), "no re-decide run is going on")
