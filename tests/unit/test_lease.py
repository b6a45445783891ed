"""A worker's word about itself: held, lapsed or lost, by its own clock."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.produce import ProduceRequest

from streamer.adapters.membership import keep_lease
from streamer.adapters.produce_gate import LONGEST_BACKOFF_S, LeaseLost, ProduceGate, backoff_s
from streamer.core.lease import Lease, Standing

SESSION_S = 8.0


def test_a_lease_lasts_for_the_session_less_the_margin_from_when_it_was_asked_for():
    lease = Lease(SESSION_S)
    assert lease.standing(0.0) is Standing.LAPSED
    lease.renew(100.0)
    assert lease.standing(100.0 + SESSION_S - lease.margin_s - 0.01) is Standing.HELD
    assert lease.standing(100.0 + SESSION_S - lease.margin_s) is Standing.LAPSED


def test_a_lost_lease_may_be_had_again_but_an_ended_one_never():
    lease = Lease(SESSION_S)
    lease.renew(0.0)
    lease.lose()
    assert lease.standing(1.0) is Standing.LOST
    lease.renew(1.0)
    assert lease.standing(2.0) is Standing.HELD
    lease.end()
    lease.renew(3.0)
    assert lease.standing(3.0) is Standing.LOST


class Coordinator:
    """Answers each request with the next of these error codes, `takes_s` later."""

    def __init__(self, clock: list[float], *codes: int, takes_s: float = 0.0) -> None:
        self._clock, self._codes, self._takes_s = clock, list(codes), takes_s

    async def _send_req(self, request: object) -> object:
        self._clock[0] += self._takes_s
        self.error_code = self._codes.pop(0)
        return self


def ask(clock: list[float], lease: Lease, coordinator: Coordinator, *requests: object) -> None:
    keep_lease(coordinator, lease, lambda: clock[0])

    async def all_of_them() -> None:
        for request in requests:
            await coordinator._send_req(request)

    asyncio.run(all_of_them())


BEAT = HeartbeatRequest("g", 1, "m")
SYNC = SyncGroupRequest("g", 1, "m", None, [])


@pytest.mark.parametrize(
    ("request_", "code", "standing"),
    [
        (BEAT, 0, Standing.HELD),
        (BEAT, 27, Standing.HELD),  # it rebalances: the coordinator waits for its members
        (SYNC, 0, Standing.HELD),
        (SYNC, 27, Standing.LAPSED),
        (BEAT, 16, Standing.LAPSED),  # not the coordinator: nobody knows
        (BEAT, 25, Standing.LOST),
        (BEAT, 22, Standing.LOST),
        (LeaveGroupRequest("g", "m"), 0, Standing.LOST),
    ],
)
def test_what_the_coordinator_says(request_, code, standing):
    clock, lease = [50.0], Lease(SESSION_S)
    ask(clock, lease, Coordinator(clock, code), request_)
    assert lease.standing(clock[0]) is standing


def test_an_answer_counts_from_when_it_was_asked_for():
    """A worker frozen between the two would otherwise take an old answer for a new one."""
    clock, lease = [50.0], Lease(SESSION_S)
    ask(clock, lease, Coordinator(clock, 0, takes_s=SESSION_S), BEAT)
    assert lease.standing(clock[0]) is Standing.LAPSED


class Client:
    """A broker's side: takes requests, or fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[object] = []
        self.failures = failures
        self._conns: dict[object, object] = {}

    async def ready(self, node_id: int, *, group: object) -> bool:
        return True

    async def send(self, node_id: int, request: object, *, group: object = None) -> object:
        if self.failures:
            self.failures -= 1
            raise KafkaConnectionError("away")
        self.sent.append(request)

        class Response:
            topics = (("t", ((0, 0),)),)

        return Response()


class Producer:
    def __init__(self, client: Client) -> None:
        self.client = client


PRODUCE = ProduceRequest(transactional_id=None, required_acks=-1, timeout=1, topics=[])


def gated(lease: Lease, client: Client, now_s: float = 0.0, draw: float = 0.0) -> Producer:
    producer = Producer(client)
    ProduceGate(lease, lambda: now_s, lambda: draw).install(producer)
    return producer


def test_nothing_is_published_without_a_lease_and_other_requests_pass():
    async def scenario() -> None:
        lease, client = Lease(SESSION_S), Client()
        producer = gated(lease, client)
        await producer.client.send(1, BEAT)
        assert client.sent == [BEAT]
        waiting = asyncio.create_task(producer.client.send(1, PRODUCE))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        lease.renew(0.0)
        await waiting
        assert client.sent == [BEAT, PRODUCE]

    asyncio.run(scenario())


def test_what_was_refused_once_is_refused_for_good():
    async def scenario() -> None:
        lease, client = Lease(SESSION_S), Client()
        lease.lose()
        producer = gated(lease, client)
        with pytest.raises(LeaseLost):
            await producer.client.send(1, PRODUCE)
        lease.renew(0.0)  # it has joined anew
        with pytest.raises(LeaseLost):
            await producer.client.send(1, PRODUCE)
        assert client.sent == []

    asyncio.run(scenario())


def test_the_pause_grows_with_failures_is_random_and_ends_with_success():
    assert backoff_s(0, 0.99) == 0
    ceilings = [backoff_s(failures, 1.0) for failures in range(1, 12)]
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] == LONGEST_BACKOFF_S
    assert backoff_s(3, 0.25) == 0.25 * backoff_s(3, 1.0)

    async def scenario() -> None:
        lease, client = Lease(SESSION_S), Client(failures=2)
        lease.renew(0.0)
        gate = ProduceGate(lease, lambda: 0.0, lambda: 0.01)
        producer = Producer(client)
        gate.install(producer)
        for _ in range(2):
            with pytest.raises(KafkaConnectionError):
                await producer.client.send(1, PRODUCE)
        assert gate._failures[1] == 2
        await producer.client.send(1, PRODUCE)
        assert gate._failures[1] == 0

    asyncio.run(scenario())
