"""A run from the entries of its stream: the same for the worker that takes it up and the command that follows."""

import json

import pytest

from streamer.core.redecide import Counts
from streamer.core.redecide_runs import LEFT_MAX, Progress, Run, State, newest_run

REQUEST = {
    "kind": "request", "run": "r", "dry_run": "0", "who": "me", "why": "", "model": "m", "thresholds": "t",
    "partitions": "2",
}  # fmt: skip


def progress(partition: int, position: int, state: State = State.RUNNING, **counts: int) -> dict[str, str]:
    one = Progress(partition, state, "w", "m", "t", 0, 100, position, Counts(**counts))  # type: ignore[arg-type]
    one.counts.added["é"] = 3
    return one.fields("r")


def run_of(*entries: dict[str, str]) -> Run | None:
    return newest_run((f"{number}-0", fields) for number, fields in enumerate(entries))


def test_progress_survives_the_entry():
    entry = progress(1, 40, examined=7, changed=2)
    run = run_of(REQUEST, entry)
    assert run is not None
    (one,) = run.progress.values()
    assert one.fields("r") == entry and one.entry == "1-0" and one.counts.added == {"é": 3}
    assert one.share == pytest.approx(0.6) and run.share == pytest.approx(0.3) and not run.is_over


def test_the_last_entry_of_a_partition_counts():
    run = run_of(REQUEST, progress(0, 80), progress(0, 40, examined=5), progress(1, 0, State.DONE, examined=2))
    assert run is not None and run.progress[0].position == 40 and run.counts.examined == 7
    assert not run.is_over, "one goes on"


@pytest.mark.parametrize("end", [State.DONE, State.FAILED, State.CANCELLED])
def test_it_is_over_when_every_partition_has_ended(end: State):
    run = run_of(REQUEST, progress(0, 0, State.DONE), progress(1, 10, end))
    assert run is not None and run.is_over


def test_a_cancel_ends_it_and_another_run_s_does_not():
    assert run_of(REQUEST, {"kind": "cancel", "run": "r"}).is_over  # type: ignore[union-attr]
    assert not run_of(REQUEST, {"kind": "cancel", "run": "q"}).is_over  # type: ignore[union-attr]


def test_the_newest_request_counts():
    run = run_of(REQUEST, progress(0, 0, State.DONE), REQUEST | {"run": "s"}, progress(1, 0, State.DONE))
    assert run is not None and run.name == "s" and run.progress == {}
    assert run_of() is None and run_of(progress(0, 1)) is None


def test_what_a_killed_walk_left_is_known_until_one_has_come_to_its_end():
    killed = progress(0, 40)
    first = run_of(REQUEST, killed, {"kind": "cancel", "run": "r"})
    assert first is not None and first.in_doubt() == {0: ("m/t",)}
    assert run_of(REQUEST | {"dry_run": "1"}, killed).in_doubt() == {}  # type: ignore[union-attr]
    assert run_of(REQUEST, killed | {"whole": "1"}).in_doubt() == {}  # type: ignore[union-attr]
    assert run_of(REQUEST, progress(0, 0, State.DONE)).in_doubt() == {}  # type: ignore[union-attr]

    request = REQUEST | {"left": json.dumps(first.in_doubt())}
    assert run_of(request).in_doubt() == {0: ("m/t",)}, "a run that nobody has begun"  # type: ignore[union-attr]
    again = run_of(request, killed | {"left": "m/t", "thresholds": "u"})
    assert again is not None and again.in_doubt() == {0: ("m/t", "m/u")}
    ended = run_of(request, progress(0, 0, State.DONE) | {"left": "n/v"})
    assert ended is not None and ended.in_doubt() == {0: ("n/v",)}, "another model's"
    many = run_of(request, killed | {"left": " ".join(f"m/{n}" for n in range(100))})
    assert many is not None and len(many.in_doubt()[0]) == LEFT_MAX


@pytest.mark.parametrize(
    "spoilt",
    [
        {"examined": "many"},
        {"state": "odd"},
        {"added": "[1]"},
        {"added": '{"a": "b"}'},
        {"partition": ""},
        {"removed": "{"},
    ],
)
def test_what_no_worker_writes_is_passed_over(spoilt: dict[str, str]):
    run = run_of({}, {"kind": "request"}, REQUEST, progress(0, 7) | spoilt, {"kind": "cancel"})
    assert run is not None and run.progress == {} and not run.cancelled
