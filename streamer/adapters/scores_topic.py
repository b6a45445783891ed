"""`tracks.scores` read by offset, for a re-decide: of no consumer group, and whole record batches instead of records.

aiokafka's consumer would read ahead and make an object of every record; here one request asks for just the offsets
that are wanted next. A broker that is away is waited for, as the stream itself waits for it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from streamer.adapters.kafka_client import client_options, running
from streamer.adapters.kafka_words import kafka_error
from streamer.adapters.score_batches import ScoreBatches
from streamer.core.errors import TagstreamError
from streamer.core.score_records import ScoreRecords
from streamer.settings import Settings

log = logging.getLogger(__name__)

FETCH_BYTES = 512 * 1024  # as it is compressed: unpacking and reading it stops the event loop for a few milliseconds
FETCH_WAIT_MS = 500
RETRY_S = 0.5
EMPTY_MAX = 10  # fetches without a whole batch, where there should be one


class ScoresTopic:
    """`streamer.redecide.Scores`."""

    def __init__(self, settings: Settings) -> None:
        self.worked_s = 0.0
        self._settings = settings
        self._topic = settings.topic_scores
        self._batches: dict[int, ScoreBatches] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Connect, if need be.

        Raises:
            TagstreamError: Kafka does not answer, or says no.
        """
        if self._consumer is None:
            consumer = AIOKafkaConsumer(**client_options(self._settings), enable_auto_commit=False)
            self._consumer = await self._stack.enter_async_context(running(consumer, self._settings))

    async def close(self) -> None:
        """Disconnect, if need be."""
        if self._consumer is not None:
            self._consumer, self._batches = None, {}
            await self._stack.aclose()

    async def span(self, partition: int) -> range:
        """The offsets that the partition has."""
        tp = TopicPartition(self._topic, partition)
        while True:
            try:
                start = (await self._require().beginning_offsets([tp]))[tp]
                return range(start, (await self._require().end_offsets([tp]))[tp])
            except KafkaError as error:
                await self._wait(error)

    async def read(self, partition: int, start: int, stop: int) -> AsyncIterator[tuple[range, ScoreRecords]]:
        """Whole batches in order, with the offsets each covers; the first may begin before `start`.

        Raises:
            TagstreamError: the partition cannot be read.
        """
        batches = self._batches.setdefault(partition, ScoreBatches(TopicPartition(self._topic, partition)))
        at, empty = start, 0
        while at < stop:
            try:
                data = await self._fetch(partition, at)
            except OffsetOutOfRangeError:  # retention, or somebody's deletion, has overtaken this
                span = await self.span(partition)
                if not at < span.start:
                    raise TagstreamError(
                        f"{self._topic}/{partition} ends before offset {at}: it was cut short"
                    ) from None
                at = span.start
                continue
            except KafkaError as error:
                await self._wait(error)
                continue
            began_s = time.monotonic()
            found = batches.read(data)
            self.worked_s += time.monotonic() - began_s
            empty = 0 if found else empty + 1
            if empty >= EMPTY_MAX:
                raise TagstreamError(f"{self._topic}/{partition} gives nothing at offset {at}, before its end {stop}")
            for covers, records in found:
                if covers.start >= stop:
                    return
                at = covers.stop
                yield covers, records

    async def _fetch(self, partition: int, offset: int) -> bytes:
        client: Any = self._require()._client
        node = client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if node in (None, -1):
            raise KafkaError(f"{self._topic}/{partition} has no leader")
        wanted = [(self._topic, [(partition, offset, FETCH_BYTES)])]
        response = await client.send(node, FetchRequest(FETCH_WAIT_MS, 1, FETCH_BYTES, 0, wanted))
        ((_, ((_, code, *_, data),)),) = response.topics
        if code:
            raise for_code(code)(f"{self._topic}/{partition}")
        return bytes(data or b"")

    async def _wait(self, error: KafkaError) -> None:
        """Before the same is tried again.

        Raises:
            TagstreamError: trying again will not help.
        """
        told = kafka_error(self._settings, error, "Read")
        if not (error.retriable or type(error) is KafkaError):
            raise told from error
        log.info("re-decide: %s; trying again", told)
        await asyncio.sleep(RETRY_S)
        await self._require()._client.force_metadata_update()

    def _require(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise TagstreamError("the reader of the retained scores is not connected")
        return self._consumer
