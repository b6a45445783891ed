"""One poll of the consumer, bounded in bytes: what it hands over does not grow with partitions or compression.

aiokafka's poll hands over everything that was fetched, decompressed, of all partitions at once: 16 partitions with
4 MiB each, three times as much when unpacked, are 200 MB of Python objects in one answer. It unpacks lazily, though,
so asking for a few chunks at a time until there is enough leaves the rest as it was fetched.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from streamer.adapters.kafka_columns import Chunk

POLL_BYTES = 4 << 20  # unpacked: a poll ends with the piece that reaches it
PIECE_CHUNKS = 16  # what may go beyond it


async def poll_bounded(
    fetch: Callable[[float, int], Awaitable[Mapping[Any, list[Chunk]]]], timeout_s: float
) -> dict[Any, list[Chunk]]:
    """What `fetch(timeout_s, chunks)` gives, again and again without waiting, up to POLL_BYTES; by partition.

    What has been taken is never lost to an error that comes after it: the error is met again by the next poll.
    """
    polled = dict(await fetch(timeout_s, PIECE_CHUNKS))
    size_bytes = _size_bytes(polled.values())
    while polled and size_bytes < POLL_BYTES:
        try:
            piece = await fetch(0.0, PIECE_CHUNKS)
        except Exception:
            break
        if not piece:
            break
        for partition, chunks in piece.items():
            polled.setdefault(partition, []).extend(chunks)
        size_bytes += _size_bytes(piece.values())
    return polled


def _size_bytes(pieces: Iterable[list[Chunk]]) -> int:
    return sum(chunk.size_bytes for chunks in pieces for chunk in chunks)
