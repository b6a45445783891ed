"""A sample of what upstream said of the tracks of some spans of time, out of the input topic, as histograms.

Of each partition one run of events, at another place of the span for each, so that a sample is spread over it at the
cost of one reading. Joins no group. What cannot be decided is no sample of anything and is passed over.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from model.curves import histograms
from ops.drift import Inputs, Span
from ops.kafka_io import read_ranges
from streamer.adapters.arrow_events import ArrowEventDecoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.adapters.kafka_client import client_options, running
from streamer.adapters.kafka_topics import partition_count
from streamer.core.events import ARROW_CONTENT_TYPE, Rejected
from streamer.core.layout import Layout
from streamer.core.outputs import content_type
from streamer.settings import Settings

ROWS_OF_A_MESSAGE = 64  # of a bulk message, which may have thousands of tracks that arrived together

OnProgress = Callable[[int, int], None]  # spans done, and to do


async def sample(
    settings: Settings, layout: Layout, spans: Sequence[Span], tracks: int, on_progress: OnProgress
) -> list[Inputs | None]:
    """About so many tracks of each span; None for those of which the topic keeps nothing any more.

    Raises:
        TagstreamError: Kafka cannot be reached, or the topic is missing.
    """
    found: list[Inputs | None] = []
    for number, there in enumerate(await _offsets(settings, settings.topic_probabilities, spans)):
        rows = await _rows(settings, layout, _runs(there, tracks))
        found.append(Inputs(histograms(rows), len(rows)) if len(rows) else None)
        on_progress(number + 1, len(spans))
    return found


async def _offsets(settings: Settings, topic: str, spans: Sequence[Span]) -> list[dict[int, range]]:
    """By partition, the offsets of each span's time."""
    count = await partition_count(settings, topic)
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
    async with running(consumer, settings):
        partitions = [TopicPartition(topic, number) for number in range(count)]
        ends = await consumer.end_offsets(partitions)
        at: dict[int, dict[TopicPartition, int]] = {}
        for moment in sorted({edge for span in spans for edge in span}):
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, moment))
            at[moment] = {tp: place.offset if (place := found.get(tp)) else ends[tp] for tp in partitions}
    return [{tp.partition: range(at[start][tp], at[stop][tp]) for tp in partitions} for start, stop in spans]


def _runs(there: Mapping[int, range], tracks: int) -> dict[int, range]:
    """Of each partition's offsets a run, the first partition's at the beginning, the last one's at the end."""
    wanted = -(-tracks // max(len(there), 1))
    runs = {}
    for place, (number, mine) in enumerate(sorted(there.items())):
        room = max(0, len(mine) - wanted)
        start = mine.start + room * place // max(len(there) - 1, 1)
        runs[number] = range(start, min(start + wanted, mine.stop))
    return runs


async def _rows(settings: Settings, layout: Layout, runs: Mapping[int, range]) -> NDArray[np.float64]:
    """`[n, F]` of the events at these offsets."""
    json, arrow = JsonEventDecoder(layout), ArrowEventDecoder(layout)
    parts: list[NDArray[np.float64]] = []
    async with aclosing(read_ranges(settings, settings.topic_probabilities, runs)) as records:
        async for record in records:
            if record.value:
                try:
                    parts.append(_of_record(record, layout, json, arrow))
                except Rejected:
                    continue
    rows = np.concatenate(parts) if parts else np.zeros((0, layout.n_inputs))
    return rows[((rows >= 0) & (rows <= 1)).all(axis=1)]


def _of_record(
    record: ConsumerRecord, layout: Layout, json: JsonEventDecoder, arrow: ArrowEventDecoder
) -> NDArray[np.float64]:
    """`[n, F]` of one message."""
    if content_type(record.headers) != ARROW_CONTENT_TYPE:
        row = np.zeros((1, layout.n_inputs))
        json.decode(record.key, record.value or b"", row[0])
        return row
    bulk = arrow.decode(record.value or b"")
    step = -(-len(bulk) // ROWS_OF_A_MESSAGE)
    rows = np.zeros((len(bulk), layout.n_inputs))
    bulk.fill(layout, 0, rows)
    return rows[::step]
