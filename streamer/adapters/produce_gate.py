"""What stands between the producer and the broker: is this worker still the owner, and has the broker asked for time?

Asked at the last moment before a produce request goes to its socket, first attempt or repetition. What is already in
the socket cannot be called back; the kernel is told to drop it when the broker has not taken it within the lease's
margin, so that a network that heals does not deliver it behind the successor's.

aiokafka repeats a failed request after a constant pause; here the pause grows, at random, so that many workers do
not come back to a broker in step.
"""

import asyncio
import logging
import random
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest

from streamer.core.lease import Lease, Standing

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 2.0
POLL_S = 0.02  # of a lapsed lease
TELL_EVERY_S = 5.0


class LeaseLost(KafkaError):
    """This worker is no longer the owner of what it was about to publish; never retried."""

    retriable = False


def backoff_s(failures: int, draw: float) -> float:
    """The pause after so many failures in a row, `draw` being random in [0, 1): "full jitter" of doubling ceilings.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if not failures:
        return 0.0
    return draw * min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 16))


class ProduceGate:
    """Holds, delays or refuses the produce requests of one producer."""

    def __init__(
        self, lease: Lease, now_s: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random
    ) -> None:
        self.withheld = 0  # requests that had to wait for the coordinator's word
        self._lease = lease
        self._now_s = now_s
        self._draw = draw
        self._failures: dict[int, int] = defaultdict(int)  # in a row, by broker
        self._client: Any = None
        self._send: Any = None

    def install(self, producer: AIOKafkaProducer) -> None:
        """Stand before this producer's client."""
        self._client = producer.client
        self._send = producer.client.send
        producer.client.send = self.send

    async def send(self, node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        """As the client's own.

        Raises:
            LeaseLost: the membership is gone, and with it the right to publish.
        """
        if not isinstance(request, ProduceRequest):
            return await self._send(node_id, request, group=group)
        if self._failures[node_id]:
            await asyncio.sleep(backoff_s(self._failures[node_id], self._draw()))
        try:
            await self._client.ready(node_id, group=group)  # connect first: that may take longer than the lease
            self._drop_what_is_late(node_id, group)
            await self._hold()
            response = await self._send(node_id, request, group=group)
        except KafkaError:
            self._failures[node_id] += 1
            raise
        self._failures[node_id] = self._failures[node_id] + 1 if _has_error(response) else 0
        return response

    async def _hold(self) -> None:
        """Return when the lease is held."""
        began_s = told_s = self._now_s()
        waiting = False
        while (standing := self._lease.standing(self._now_s())) is not Standing.HELD:
            if standing is Standing.LOST:
                self._lease.end()
                raise LeaseLost("the group has given this worker's partitions away: nothing more of it is published")
            if self._now_s() - told_s >= TELL_EVERY_S:
                told_s = self._now_s()
                log.warning("not publishing: the group's coordinator has been silent for %.0f s", told_s - began_s)
            self.withheld += not waiting
            waiting = True
            await asyncio.sleep(POLL_S)

    def _drop_what_is_late(self, node_id: int, group: Any) -> None:
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            return  # not Linux: then the window is the system's own patience
        connection = self._client._conns.get((node_id, group))
        writer = connection._writer if connection is not None else None
        if writer is not None:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._lease.margin_s * 1000))


def _has_error(response: Any) -> bool:
    return any(partition[1] for _, partitions in response.topics for partition in partitions)
