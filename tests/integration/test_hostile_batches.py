"""Batches that no honest producer writes, on a real broker, among good ones: read, or dead-lettered, and passed.

What a broker lets through was found by trying: it looks into batches, but not at header names, and it unpacks as a
stream what takes gigabytes. The worker in front of it must neither stand still nor grow.
"""

import asyncio
import itertools
import random
import struct
import time
from contextlib import aclosing
from pathlib import Path

import cramjam
import pytest
from aiokafka.structs import ConsumerRecord

from ops.kafka_io import read_topic
from ops.local.services import Services
from streamer.adapters.kafka_unpack import HEADERS_CUT, UNPACKED_BYTES_MAX
from tests.harness import Stream
from tests.raw_batches import (
    ATTRIBUTES_AT,
    CODECS,
    COUNT_AT,
    FIRST_RECORD,
    LENGTH_AT,
    Rec,
    batch,
    packed,
    produce_raw,
    signed,
    with_headers,
)

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

MIB = 2**20
GROWTH_MIB_MAX = 500  # of the worker's resident memory at its highest; what is sent unpacks to far more

SILENCE_S_MAX = 5.0  # on a busy machine


def event(stream: Stream, name: str) -> Rec:
    return Rec(name.encode(), b'{"track_id":"%b"' % name.encode() + stream.bodies[0])


def now_ms() -> int:
    return int(time.time() * 1000)


def highest_mib(pid: int) -> float:
    """The most memory that a process has had resident."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def good(stream: Stream, *names: str) -> bytes:
    return bytes(batch(*(event(stream, name) for name in names), first_timestamp_ms=now_ms()))


def poisoned(stream: Stream, codec: str, *names: str) -> bytes:
    """Events, the first of which has a header name that is not UTF-8."""
    first, *others = (event(stream, name) for name in names)
    raw = batch(first._replace(headers=[("name", b"x")]), *others, first_timestamp_ms=now_ms())
    raw[raw.index(b"\x08name") + 1] = 0xFF
    return signed(raw) if codec == "none" else packed(raw, codec)


def bomb(codec: str, size: int, key: bytes = b"bomb") -> bytes:
    return bytes(batch(Rec(key, bytes(size)), codec=codec, first_timestamp_ms=now_ms()))


async def records(stream: Stream, topic: str) -> list[ConsumerRecord]:
    async with aclosing(read_topic(stream.settings, topic, from_start=True, follow=False)) as found:
        return [record async for record in found]


def test_what_brokers_let_through_does_not_stop_a_worker(stream: Stream):
    """One worker, four partitions, each with bad batches between good ones."""
    (worker,) = stream.start("only")
    usual_mib = highest_mib(worker.pid)
    many = with_headers(3_000_000, event(stream, "after-many"), first_timestamp_ms=now_ms())
    bombs = [bomb(codec, 40 * MIB) for codec in ("gzip", "zstd", "lz4")]
    within = [bomb("zstd", UNPACKED_BYTES_MAX // 2, b"within%d" % n) for n in range(3)]
    for partition, batches in enumerate(
        (
            [poisoned(stream, "none", "p1", "p2"), good(stream, "g1"), poisoned(stream, "zstd", "p3", "p4")],
            [bombs[0], good(stream, "g2"), bombs[1], good(stream, "g3"), bombs[2]],
            [many, good(stream, "g4")],
            [*within, good(stream, "g5")],
        )
    ):
        assert set(produce_raw(stream.settings, partition, *batches)) == {"NoError"}
    stream.settle(60)
    assert worker.is_running() and "Traceback" not in worker.log()
    assert highest_mib(worker.pid) < usual_mib + GROWTH_MIB_MAX
    decided = {record.key: record for record in asyncio.run(records(stream, stream.settings.topic_tags))}
    assert set(decided) == {b"p1", b"p2", b"p3", b"p4", b"g1", b"g2", b"g3", b"g4", b"g5", b"after-many"}
    dead = asyncio.run(records(stream, stream.settings.topic_deadletter))
    codes = sorted(dict(record.headers)["error.code"].decode() for record in dead)
    assert codes == ["not-json"] + ["too-large"] * 6, codes
    texts = {dict(record.headers)["source"]: dict(record.headers)["error.message"].decode() for record in dead}
    name = stream.settings.topic_probabilities
    for offset, whole in zip((0, 2, 4), bombs, strict=True):
        source = f"{name}/1/{offset}/0".encode()
        assert f"offsets {offset} to {offset}" in texts[source] and f"{UNPACKED_BYTES_MAX:,}" in texts[source]
        (letter,) = [record for record in dead if dict(record.headers)["source"] == source]
        assert letter.value[ATTRIBUTES_AT:] == whole[ATTRIBUTES_AT:], "the batch itself, less what brokers write"
    (cut,) = [record for record in dead if dict(record.headers)["error.code"] == b"not-json"]
    assert dict(cut.headers)[HEADERS_CUT] == b"2999900" and len(cut.headers) < 120


def test_what_brokers_refuse(stream: Stream):
    """The reader is tested on these too; that a broker refuses them bounds who could ever send them."""
    unknown = batch(Rec(b"k", b"v"), first_timestamp_ms=now_ms())
    unknown[ATTRIBUTES_AT + 1] |= 6
    count = batch(Rec(b"k", b"v"), first_timestamp_ms=now_ms())
    struct.pack_into(">i", count, COUNT_AT, 7)
    broken = batch(Rec(b"k", b"v" * 20), first_timestamp_ms=now_ms())
    broken[broken.index(b"k") - 1] = 0x7E
    unsigned = bytearray(good(stream, "x"))
    unsigned[-1] ^= 1
    said = produce_raw(stream.settings, 0, signed(unknown), signed(count), signed(broken), bytes(unsigned))
    assert "NoError" not in said, said


def test_a_batch_that_rots_on_the_brokers_disk_ends_the_worker_which_says_where(stream: Stream, services: Services):
    """Nobody can send such a batch: it is fetched again, never skipped, and what is before it is committed."""
    if not services.brokers:
        pytest.skip("the broker's disk is not ours")
    assert set(produce_raw(stream.settings, 0, good(stream, "a", "b"), good(stream, "c", "d"))) == {"NoError"}
    name = f"{stream.settings.topic_probabilities}-0"
    (log,) = services.brokers[0].folder.glob(f"data/{name}/*.log")
    content = bytearray(log.read_bytes())
    place = content.rindex(b'"track_id"')
    with log.open("r+b") as file:
        file.seek(place)
        file.write(b"'")
    worker = stream.worker("only")
    worker.start()
    assert worker.wait_exit(60) == 1, worker.log_tail()
    told = worker.log()
    assert f"{stream.settings.topic_probabilities}/0 at offset 2 is corrupt" in told and "--reset-offsets" in told
    decided = {record.key for record in asyncio.run(records(stream, stream.settings.topic_tags))}
    assert decided == {b"a", b"b"} and stream.lag() == 2


def test_keys_of_many_mebibytes(stream: Stream):
    """One that packs small with its producer's patience, and not with ours; one whose hash alone took 8 s."""
    (worker,) = stream.start("only")
    repeated = random.Random(7).randbytes(6 * MIB) * 3
    raw = batch(Rec(repeated, b"bad"), first_timestamp_ms=now_ms())
    hard = raw[:FIRST_RECORD] + cramjam.zstd.compress(bytes(raw[FIRST_RECORD:]), level=22)
    hard[ATTRIBUTES_AT + 1] |= CODECS["zstd"]
    struct.pack_into(">i", hard, LENGTH_AT, len(hard) - LENGTH_AT - 4)
    zeros = bytes(batch(Rec(bytes(30 * MIB), b"bad"), codec="zstd", first_timestamp_ms=now_ms()))
    said = produce_raw(stream.settings, 0, signed(hard), zeros, good(stream, "after"))
    assert said == ["NoError"] * 3, "this broker does not let it through: the test tests nothing"
    answered_s = [time.monotonic()]
    while stream.lag() and worker.is_running() and time.monotonic() < answered_s[0] + 60:
        if worker.health():
            answered_s.append(time.monotonic())
    assert worker.is_running(), "the worker ended"
    silent_s = max(later - before for before, later in itertools.pairwise(answered_s))
    assert silent_s < SILENCE_S_MAX, f"the worker's event loop stood still for {silent_s:.1f} s"
    letters = asyncio.run(records(stream, stream.settings.topic_deadletter))
    named = {len(letter.key or b""): dict(letter.headers) for letter in letters}
    assert set(named) == {0, 30 * MIB}
    assert named[0]["key.omitted"] == str(len(repeated)).encode() and named[0]["value.omitted"] == b"3"
    stream.settle()
