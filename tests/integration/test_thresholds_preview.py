"""A change foreseen on real topics: retained scores followed as they come, and counted as they are decided."""

import asyncio
import json
import time
from collections.abc import Sequence

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from ops import thresholds_follow
from ops.thresholds_admin import ThresholdsAdmin
from ops.thresholds_follow import follow
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import create_topics
from tests.harness import BODIES, PARTITIONS, Stream, a_vocabulary, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

VOCABULARY = a_vocabulary()
N_TAGS = len(VOCABULARY.tags)
TRACKS = 6 * BODIES  # so that a track's event is the same in each round of a load


@pytest.fixture
def desk(stream: Stream, monkeypatch, tmp_path) -> Stream:
    """A stream without workers, whose commands see it too; a cache of its own."""
    ThresholdsAdmin(stream.settings, "tester").promote(stream.artefacts.first, "first")
    names = ("kafka_bootstrap", "redis_prefix", "group", "topic_probabilities", "topic_tags", "topic_scores")
    for name in (*names, "topic_deadletter", "models_dir", "state_dir", "redis_url"):
        monkeypatch.setenv(f"TAGSTREAM_{name.upper()}", str(stream.worker_settings[name]))
    monkeypatch.setenv("TAGSTREAM_CACHE_DIR", str(tmp_path / "cache"))
    return stream


def row(value: float) -> bytes:
    """The scores of one track, all the same."""
    return np.full(N_TAGS, value, "<f2").tobytes()


def put(stream: Stream, records: Sequence[tuple[str, bytes | None]], *, model: str = "", words: str = "") -> None:
    """Scores (None: a tombstone) as a worker would retain them; a track's partition is its number's."""

    async def send() -> None:
        async with running(AIOKafkaProducer(**client_options(stream.settings)), stream.settings) as producer:
            for number, (track, value) in enumerate(records):
                place = int(track[2:]) % PARTITIONS
                headers = {
                    "model": model or stream.artefacts.first,
                    "vocabulary": words or VOCABULARY.fingerprint,
                    "thresholds": "abc",
                    "source": f"{stream.settings.topic_probabilities}/{place}/{number}/3",
                }
                await producer.send(
                    stream.settings.topic_scores, value, key=track.encode(), partition=place,
                    headers=[] if value is None else [(name, text.encode()) for name, text in headers.items()],
                )  # fmt: skip
            await producer.flush()

    asyncio.run(send())


def tracks(stream: Stream) -> dict[str, float]:
    """Every retained track of the first model and its score, through the cache."""
    kept = asyncio.run(follow(stream.settings, VOCABULARY))
    window = kept.window(stream.artefacts.first)
    return dict(window.examples(0, 0.0, float("inf"), window.tracks or 1))


def test_the_topic_is_followed_as_compaction_will_leave_it(desk: Stream, monkeypatch):
    asked = []
    reading = thresholds_follow.read_ranges
    monkeypatch.setattr(
        thresholds_follow, "read_ranges", lambda s, t, r: (asked.append(sum(map(len, r.values()))), reading(s, t, r))[1]
    )
    put(desk, [(f"T-{n}", row(0.25)) for n in range(20)])
    assert tracks(desk) == {f"T-{n}": 0.25 for n in range(20)}
    put(desk, [("T-1", row(0.5)), ("T-2", None), ("T-3", row(0.75)), ("T-3", row(1.0)), ("T-30", row(0.0))])
    put(desk, [("T-4", row(0.5))], model="20200101T000000Z-aaaaaaaa")
    put(desk, [("T-5", row(0.5))], words="0123456789ab")
    put(desk, [("T-6", b"odd"), ("T-7", row(float("nan"))), ("T-8", row(1.5)), ("T-9", row(-0.0))])
    expected = {f"T-{n}": 0.25 for n in range(20) if n not in (2, 4, 5, 6, 7, 8)}
    expected |= {"T-1": 0.5, "T-3": 1.0, "T-30": 0.0, "T-9": 0.0}
    assert tracks(desk) == expected
    assert asked[-1] <= 11 + PARTITIONS, "only what is new is read, and the last record of each partition"
    reads = len(asked)
    assert tracks(desk) == expected and len(asked) == reads, "nothing is new: nothing is read"
    one = asyncio.run(follow(desk.settings, VOCABULARY)).track("T-3")
    assert one is not None and one["source"] == {"partition": 3, "offset": 3, "row": 3} and one["thresholds"] == "abc"


def test_a_topic_made_anew_and_a_cache_grown_old_are_read_from_the_start(desk: Stream, monkeypatch):
    put(desk, [(f"T-{n}", row(0.25)) for n in range(8)])
    assert len(tracks(desk)) == 8
    _delete(desk)
    put(desk, [(f"T-{n}", row(0.5)) for n in range(100, 120)])
    assert tracks(desk) == {f"T-{n}": 0.5 for n in range(100, 120)}
    later = time.time() + thresholds_follow.CACHE_S + 1
    progress: list[tuple[int, int]] = []
    monkeypatch.setattr(thresholds_follow.time, "time", lambda: later)
    asyncio.run(follow(desk.settings, VOCABULARY, lambda *now: progress.append(now)))
    assert progress[-1] == (20, 20), "tombstones may have gone by: all of it is read again"


def _delete(stream: Stream) -> None:
    """The scores topic is deleted, and made again."""

    async def delete() -> None:
        async with running(Admin(**client_options(stream.settings)), stream.settings) as admin:
            await admin.delete_topics([stream.settings.topic_scores])

    asyncio.run(delete())

    def made() -> bool:
        asyncio.run(create_topics(stream.settings, PARTITIONS, 1))
        return True

    eventually(made, 20, "the topic is there again")


def test_a_reading_that_is_broken_off_goes_on(desk: Stream, monkeypatch):
    monkeypatch.setattr(thresholds_follow, "CHUNK_RECORDS", 10)
    monkeypatch.setattr(thresholds_follow, "COMMIT_RECORDS", 10)
    put(desk, [(f"T-{n}", row(0.25)) for n in range(200)])

    def stop(done: int, total: int) -> None:
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(follow(desk.settings, VOCABULARY, stop))
    told: list[tuple[int, int]] = []
    kept = asyncio.run(follow(desk.settings, VOCABULARY, lambda *now: told.append(now)))
    assert len(kept.newest) == 200 and told[-1][1] <= 115, "about half of it was there already"


def test_commands_count_what_workers_decide(desk: Stream, run, monkeypatch):
    """Decisions of a real worker before and after a change, beside what the preview had said."""
    monkeypatch.setenv("TAGSTREAM_MODELS_DIR", str(desk.models_dir))
    desk.start("a")
    desk.load(3 * TRACKS, tracks=TRACKS, bad_every=10**9).finish()
    desk.settle()
    admin = ThresholdsAdmin(desk.settings, "tester")
    live = admin.live()
    scores = asyncio.run(follow(desk.settings, VOCABULARY)).window(live.model)
    tag, other = live.vocabulary.tags[:2]
    values = {tag: float(np.median(scores.bits(0).view(np.float16))), other: 0.0}
    words = [f"{name}={value:.6f}" for name, value in values.items()]
    code, out, err = run("thresholds", "preview", *words, "--json")
    assert code == 0 and "No precision and recall" in err
    found = json.loads(out)
    assert found["tracks"] == TRACKS
    first, second = found["tags"]
    assert (second["tag"], second["decided_after"], second["share_after"]) == (other, TRACKS, 1.0)
    assert TRACKS > found["touched"] >= max(first["gained"], second["gained"]) > 0
    assert first["lost"] == 0 and len(first["gaining"]) == 3
    shown = run("thresholds", "preview", *words)[1:]
    assert (
        f"{TRACKS} tracks, of which {found['touched']} would change" in shown[0]
        and f"--from {found['before']}" in shown[1]
    )

    code, out, err = run("thresholds", "set", *words, "--from", found["before"], "--why", "seen", "--json")
    assert code == 0 and list(json.loads(out)["obeyed_ms"]) == ["a"], err
    desk.load(TRACKS, tracks=TRACKS, bad_every=10**9).finish()  # each the same event again
    report = desk.verify()
    newest = {one.track: one for one in report.decisions}
    having = [json.loads(one.content)[0]["genres"] for one in newest.values()]
    assert sum(tag in tags for tags in having) == first["decided_after"]
    code, out, _ = run("thresholds", "show", tag, other, "--json")
    rows = json.loads(out.splitlines()[-1])["tags"]
    assert [one["decided"] for one in rows] == [first["decided_after"], TRACKS]
    code, out, _ = run("thresholds", "suggest", tag, "--share", "0.25", "--apply", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["preview"]["tags"][0]["decided_after"] == TRACKS / 4
    assert admin.live().table.as_hash()[tag] == answer["threshold"] and list(answer["obeyed_ms"]) == ["a"]
