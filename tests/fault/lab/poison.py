"""Events that can never be decided, of as many kinds as there are ways to break one.

Their keys begin as the checker's broken events do, so that each must become a dead letter, and nothing else may.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Event as Stopping

from ops.bulk_lane import HEADERS as BULK
from ops.kafka_io import Event, Headers
from tests.harness import BAD_KEY

DEEP = 20_000  # brackets
LARGE_BYTES = 300 * 1024  # beyond what an event may have
HUGE_BYTES = 4 << 20
MANY_HEADERS = 90  # a worker reads 100

ARROW_CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "arrow"  # whole ones and broken ones

Make = Callable[[bytes, bytes, random.Random], tuple[bytes | None, Headers]]  # key, a good body -> value, headers


@cache
def _arrow() -> list[bytes]:
    return [path.read_bytes() for path in sorted(ARROW_CORPUS.iterdir())]


def _whole(key: bytes, body: bytes) -> bytes:
    return b'{"track_id":"%b"' % key + body


MAKERS: dict[str, Make] = {
    "not JSON": lambda key, body, rng: (b"{]", ()),
    "nothing at all": lambda key, body, rng: (b"", ()),
    "not UTF-8": lambda key, body, rng: (b'{"track_id":"\xff\xfe"}', ()),
    "cut short": lambda key, body, rng: (_whole(key, body)[: rng.randrange(1, 500)], ()),
    "another track": lambda key, body, rng: (_whole(b"somebody-else", body), ()),
    "a number beyond 1": lambda key, body, rng: (_whole(key, body).replace(b"[0.", b"[7.", 1), ()),
    "a huge number": lambda key, body, rng: (_whole(key, body).replace(b"[0.", b"[1e999,0.", 1), ()),
    "NaN": lambda key, body, rng: (_whole(key, body).replace(b"[0.", b"[NaN,0.", 1), ()),
    "another vocabulary": lambda key, body, rng: (_whole(key, body).replace(b'"vocabulary":"', b'"vocabulary":"x'), ()),
    "a list inside a list": lambda key, body, rng: (_whole(key, body).replace(b"[0.", b"[[0.1],0.", 1), ()),
    "deep": lambda key, body, rng: (b"[" * DEEP + b"]" * DEEP, ()),
    "deep in a field": lambda key, body, rng: (b'{"x":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}", ()),
    "large": lambda key, body, rng: (_whole(key, body[:-1]) + b',"x":"' + b"y" * LARGE_BYTES + b'"}', ()),
    "huge": lambda key, body, rng: (rng.randbytes(HUGE_BYTES), ()),
    "a foreign content type": lambda key, body, rng: (_whole(key, body), (("content-type", b"application/x-odd"),)),
    "a content type that is no text": lambda key, body, rng: (_whole(key, body), (("Content-Type", b"\xff\x00"),)),
    "many headers": lambda key, body, rng: (b"x", tuple((f"h{n}", b"v" * 50) for n in range(MANY_HEADERS))),
    "no Arrow": lambda key, body, rng: (_whole(key, body), BULK),
    "Arrow of another vocabulary": lambda key, body, rng: (rng.choice(_arrow()), BULK),
    "Arrow cut short": lambda key, body, rng: ((one := rng.choice(_arrow()))[: rng.randrange(1, len(one))], BULK),
    "our own headers": lambda key, body, rng: (
        b"x", (("source", b"nowhere"), ("error.code", b"none"), ("attempt", b"many"), ("failed_at", b""), ("", b"")),
    ),
}  # fmt: skip


def poison_events(bodies: Sequence[bytes], name: str, count: int, seed: int, stopping: Stopping) -> Iterator[Event]:
    """`count` broken events, each kind in turn from a random one on; `name` keeps their keys apart."""
    rng = random.Random(seed)
    makers = list(MAKERS.values())
    first = rng.randrange(len(makers))
    for number in range(count):
        if stopping.is_set():
            return
        key = f"{BAD_KEY}{name}-{number}".encode()
        value, headers = makers[(first + number) % len(makers)](key, bodies[number % len(bodies)], rng)
        yield key, value, headers
