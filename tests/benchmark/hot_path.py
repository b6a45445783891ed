"""CPU of a thread per event: each fast way of the hot path beside the plain one that tests hold it to.

OMP_NUM_THREADS=1 python -m tests.benchmark.hot_path
"""

import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import torch
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from ops.bench.workload import Workload
from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.adapters.kafka_batches import record_batches
from streamer.adapters.kafka_records import BatchReader, _cut_at
from streamer.adapters.kafka_unpack import scratch
from streamer.core.batch import Run, Span
from streamer.core.decide import decide, tag_classes
from streamer.core.ids import Origins
from streamer.core.outputs import Stamp, span_outputs
from streamer.core.packed import Packed
from streamer.core.records import Records

EVENTS, PER_BATCH, ROUNDS = 2_048, 256, 15
TP = TopicPartition("tracks.probabilities", 0)
ROOM = scratch()


def cpu_us(work: Callable[[], Any]) -> float:
    """The least of some rounds: what else runs here only ever adds."""
    least_s = float("inf")
    for _ in range(ROUNDS):
        began_s = time.thread_time()
        work()
        least_s = min(least_s, time.thread_time() - began_s)
    return least_s / EVENTS * 1e6


def fetched(workload: Workload) -> bytes:
    """The events as a broker has them: lz4, as `tagstream produce` sends them."""
    data, events = b"", list(workload.values())
    for base in range(0, EVENTS, PER_BATCH):
        builder = DefaultRecordBatchBuilder(2, DefaultRecordBatch.CODEC_LZ4, 0, -1, -1, -1, 1 << 30)
        for number, (track_id, value) in enumerate(events[base : base + PER_BATCH]):
            builder.append(number, timestamp=1, key=track_id.encode(), value=value, headers=[])
        raw = bytearray(builder.build())
        struct.pack_into(">q", raw, 0, base)
        data += raw
    return data


def read(data: bytes) -> Records:
    """As the worker does."""
    records = PartitionRecords(TP, BatchReader(data, TP, {}, ROOM, in_chunks=True), [], 0, None, None, True, 0)
    records._consumer_record = _cut_at(records)
    return Records.joined([chunk.records for chunk in records])


def read_by_aiokafka(data: bytes) -> list[Any]:
    return list(PartitionRecords(TP, MemoryRecords(data), [], 0, None, None, True, 0))


def one_by_one(outputs: Any) -> bytes:
    builder = BatchBuilder(1 << 30, DefaultRecordBatch.CODEC_SNAPPY)
    for record in list(outputs):
        builder.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers)
    return bytes(builder._build())


def main() -> None:
    workload = Workload(EVENTS)
    data = fetched(workload)
    records = read(data)
    decoder, rows = JsonEventDecoder(workload.layout), np.zeros((EVENTS, workload.layout.n_inputs))
    track_ids, _ = decoder.decode_all(records, rows)
    scores = workload.scorer.scores(rows.astype(np.float32))
    plain_scores = torch.from_numpy(scores.astype(np.float32))
    span = Span(0, EVENTS, [Run.of(records, np.arange(EVENTS), track_ids)])
    stamp = Stamp(TP.topic, "20261122T094500Z-1a2b3c4d", "9f03c2d1e4aa", workload.layout.fingerprint)
    encoder = JsonDecisionEncoder(workload.layout)
    decided = decide(scores, workload.scorer.thresholds, tag_classes(workload.layout))
    origins = Origins([TP.topic], np.zeros((EVENTS, 4), np.int64))

    def encoded() -> Packed:
        now = "2026-11-22T09:45:00.123Z"
        return encoder.encode(decided, scores, track_ids, origins, stamp.model, stamp.thresholds, now)

    decisions = encoded()
    tags, retained = span_outputs(span, stamp, decisions, Packed.rows(scores))
    objects = list(records)
    dictionaries = [orjson.loads(one) for one in decisions]  # made for it: that they must be made first is not counted
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "read what was fetched (lz4)": (lambda: read_by_aiokafka(data), lambda: read(data)),
        "JSON into rows": (
            lambda: [decoder.decode(r.key, r.value, rows[n]) for n, r in enumerate(objects)],
            lambda: decoder.decode_all(records, rows),
        ),
        "scores to float16": (lambda: plain_scores.numpy().astype(np.float16), lambda: plain_scores.half().numpy()),
        "decisions to JSON": (lambda: [orjson.dumps(one) for one in dictionaries], encoded),
        "record batch of decisions": (
            lambda: one_by_one(tags),
            lambda: [one._build() for one in record_batches(tags, 1 << 30, snappy=True)],
        ),
        "record batch of scores": (
            lambda: one_by_one(retained),
            lambda: [one._build() for one in record_batches(retained, 1 << 30, snappy=True)],
        ),
    }
    print(f"{'CPU us per event':32}{'plain':>8}{'fast':>8}")
    for name, (plain, fast) in pairs.items():
        print(f"{name:32}{cpu_us(plain):8.2f}{cpu_us(fast):8.2f}")


if __name__ == "__main__":
    main()
