"""Keeps a worker's `Lease` by what its consumer and the group's coordinator say to each other.

aiokafka tells nobody when the coordinator last answered, so its requests are listened to where all of them pass.
Everything runs in the consumer's thread.
"""

import time
from collections.abc import Callable
from typing import Any

from aiokafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest, SyncGroupRequest

from streamer.core.lease import Lease

# While a group rebalances its coordinator waits for its members and takes their heartbeats.
CONFIRMED = {HeartbeatRequest: (0, RebalanceInProgressError.errno), SyncGroupRequest: (0,)}
NOT_A_MEMBER = (UnknownMemberIdError.errno, IllegalGenerationError.errno)


def keep_lease(coordinator: Any, lease: Lease, now_s: Callable[[], float] = time.monotonic) -> None:
    """Renew or lose `lease` at each heartbeat, joining and leaving of aiokafka's group coordinator."""
    send = coordinator._send_req

    async def listened(request: Any) -> Any:
        if isinstance(request, LeaveGroupRequest):
            lease.lose()
        asked_at_s = now_s()
        answer = await send(request)
        if type(request) in CONFIRMED:
            if answer.error_code in CONFIRMED[type(request)]:
                lease.renew(asked_at_s)
            elif answer.error_code in NOT_A_MEMBER:
                lease.lose()
        return answer

    coordinator._send_req = listened


def join_unless_leaving(coordinator: Any) -> None:
    """aiokafka finishes a rebalance before it leaves: a worker that ends would be given partitions first."""
    rejoin = coordinator._do_rejoin_group

    async def join(subscription: Any) -> bool:
        return not coordinator._closing.done() and bool(await rejoin(subscription))

    coordinator._do_rejoin_group = join
