"""Thresholds and models changed under load with a raw Redis client: obeyed at once, whole, or refused whole."""

import time
from collections.abc import Iterator

import pytest

from ops.local.services import Services
from tests.harness import TUNED, Artefacts, Load, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

OBEYED_MAX_S = 1.0
NAMES = ("a", "b")


@pytest.fixture(scope="module")
def pair(services: Services, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """Two workers for all tests of this file: starting them is what takes the time."""
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path_factory.mktemp("pair"), artefacts)
    stream.start(*NAMES)
    yield stream
    stream.close()


@pytest.fixture
def load(pair: Stream) -> Iterator[Load]:
    """A steady load for one test."""
    running = pair.load(rate=1_000)
    running.wait(500)
    yield running
    running.stop()


def serving(stream: Stream, key: str = "thresholds") -> set[str]:
    """What the workers say they decide with."""
    return {str(stream.workers[name].health().get(key)) for name in NAMES}


def swapped(stream: Stream, before: str) -> str:
    """Wait until both workers have left the table `before` for the same one; its version."""

    def both() -> str:
        now = serving(stream)
        return now.pop() if len(now) == 1 and before not in now else ""

    return eventually(both, 5, f"both workers leave table {before}", lambda: serving(stream))


def restore(stream: Stream) -> None:
    """Mend the live hash of the first model to its tuned values."""
    live = stream.keys.live(stream.artefacts.first)
    with stream.redis.pipeline(transaction=True) as transaction:
        transaction.delete(live)
        transaction.hset(live, mapping=dict.fromkeys(stream.layout.tags, str(TUNED)))
        transaction.execute()


def test_an_edit_is_obeyed_within_a_second(pair: Stream, load: Load):
    live, tags = pair.keys.live(pair.artefacts.first), pair.layout.tags
    (before,) = serving(pair)
    owned = pair.wait_assigned(*NAMES)
    edits = []
    for value in ("0.3", "off", "0.05"):
        written_ms = time.time() * 1000
        pair.redis.hset(live, mapping=dict.fromkeys(tags[:40], value))
        version = swapped(pair, before)
        eventually(
            lambda version=version: all(pair.heartbeat(name).get("thresholds") == version for name in NAMES),
            3,
            "the heartbeats say so",
            lambda: [pair.heartbeat(name) for name in NAMES],
        )
        obeyed_ms = {name: float(pair.heartbeat(name)["obeyed_at_ms"]) - written_ms for name in NAMES}
        edits.append((version, written_ms, obeyed_ms))
        load.wait(load.acked + 400)
        before = version
    load.stop()
    report = pair.verify()  # holds every decision against its retained scores and the table it names
    for version, written_ms, obeyed_ms in edits:
        decided_ms = {name: report.first_ms(version, owned[name]) - written_ms for name in NAMES}
        shown = {name: f"obeyed {obeyed_ms[name]:.0f}, decided {decided_ms[name]:.0f}" for name in NAMES}
        print(f"edit {version}, ms after the write: {shown}")
        assert max(*obeyed_ms.values(), *decided_ms.values()) < OBEYED_MAX_S * 1000, f"{version}: {shown}"
    for partition in range(4):
        turns = [table for _, table in report.turns(partition)]
        assert len(turns) == len(set(turns)), f"partition {partition} went back and forth: {turns}"
    history = [entry for _, entry in pair.redis.xrange(pair.keys.history(pair.artefacts.first))]
    entered = [entry["after"] for entry in history if entry["action"] == "outside-edit"]
    assert entered[-3:] == [version for version, _, _ in edits], f"entered in the history: {entered}"


@pytest.mark.parametrize(("field", "value", "said"), [("no-such-tag", "0.5", "no-such-tag"), ("", "1.5", "1.5")])
def test_a_refused_table_leaves_the_last_good(pair: Stream, load: Load, field, value, said):
    live = pair.keys.live(pair.artefacts.first)
    (before,) = serving(pair)
    refused = {name: pair.workers[name].metrics()["tagstream_thresholds_refused_total"] for name in NAMES}
    with pair.redis.pipeline(transaction=True) as edit:  # a good field beside the bad one: refused with it
        edit.hset(live, field or pair.layout.tags[3], value)
        edit.hset(live, pair.layout.tags[4], "0.777")
        edit.execute()
    eventually(
        lambda: all(said in pair.heartbeat(name).get("refusal", "") for name in NAMES),
        5,
        f"the heartbeats name {said}",
        lambda: [pair.heartbeat(name) for name in NAMES],
    )
    for name in NAMES:
        counted = pair.workers[name].metrics()["tagstream_thresholds_refused_total"] - refused[name]
        assert counted == 1, f"worker {name} counted {counted} refusals"
    refused_ms = time.time() * 1000
    load.wait(load.acked + 1_000)
    assert serving(pair) == {before}, f"decided under {serving(pair)}, not {before}"
    mended_ms = time.time() * 1000
    with pair.redis.pipeline(transaction=True) as mend:
        mend.hdel(live, field) if field else mend.hset(live, pair.layout.tags[3], str(TUNED))
        mend.execute()
    version = swapped(pair, before)
    eventually(lambda: not any(pair.heartbeat(name)["refusal"] for name in NAMES), 3, "the refusal is taken back")
    load.wait(load.acked + 500)
    load.stop()
    report = pair.verify()
    during = {d.thresholds for d in report.decisions if refused_ms < d.at_ms < mended_ms}
    assert during == {before}, f"decided under {during} while the table was refused"
    assert pair.known_tables[version][pair.layout.tags[4]] == "0.777000"
    restore(pair)
    swapped(pair, version)


def test_a_model_is_switched_under_load(pair: Stream, load: Load):
    first, second = pair.artefacts.first, pair.artefacts.second
    pair.install(second)
    (old_table,) = serving(pair)
    written_ms = time.time() * 1000
    with pair.redis.pipeline(transaction=True) as promote:
        promote.hset(pair.keys.live(second), mapping=dict.fromkeys(pair.layout.tags, "0.8"))
        promote.set(pair.keys.model, second)
        promote.execute()
    eventually(lambda: serving(pair, "model") == {second}, 10, "both serve the second", lambda: serving(pair, "model"))
    (new_table,) = serving(pair)
    load.wait(load.acked + 1_000)
    _refuse(pair, load, broken=True)
    _refuse(pair, load, broken=False)
    report_ms = time.time() * 1000
    pair.redis.set(pair.keys.model, first)  # back, as a rollback does
    eventually(lambda: serving(pair, "model") == {first}, 10, "both are back", lambda: serving(pair, "model"))
    load.wait(load.acked + 500)
    load.stop()
    report = pair.verify()
    used = {(d.model, d.thresholds) for d in report.decisions if d.at_ms > written_ms}
    assert used == {(first, old_table), (second, new_table)}, f"pairs of model and thresholds: {used}"
    for partition in range(4):
        turns = report.turns(partition)[-3:]
        assert turns == [(first, old_table), (second, new_table), (first, old_table)], f"{partition}: {turns}"
    swap_ms = [
        min(d.at_ms for d in report.decisions if d.model == second and d.partition == p) - written_ms for p in range(4)
    ]
    print(f"model switch: first decisions {sorted(round(ms) for ms in swap_ms)} ms after the write, by partition")
    assert max(d.at_ms for d in report.decisions if d.model == second) >= report_ms - 1000


def _refuse(stream: Stream, load: Load, *, broken: bool) -> None:
    """Name a model that cannot be served: the second stays, the heartbeat and a metric say why."""
    if broken:
        named = said = _broken_copy(stream)
    else:
        named, said = stream.artefacts.foreign, "vocabulary"
        stream.install(named)
    stream.redis.set(stream.keys.model, named)
    eventually(
        lambda: all(said in stream.heartbeat(name).get("model_failure", "") for name in NAMES),
        10,
        f"the heartbeats say that {named} is not usable",
        lambda: [stream.heartbeat(name) for name in NAMES],
    )
    print(f"refused: {stream.heartbeat('a')['model_failure']}")
    for name in NAMES:
        assert stream.workers[name].metrics()["tagstream_model_failures_total"] >= 1
    load.wait(load.acked + 300)
    assert serving(stream, "model") == {stream.artefacts.second}, f"served: {serving(stream, 'model')}"


def _broken_copy(stream: Stream) -> str:
    """The third artefact of the vocabulary, with one byte of its weights turned over."""
    weights = stream.install(stream.artefacts.broken) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 0x55
    weights.write_bytes(content)
    return stream.artefacts.broken
