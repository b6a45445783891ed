"""The bad events of the demo: one of each kind that a careless producer sends."""

from collections.abc import Iterator

import orjson

from streamer.core.layout import Layout


def malformed_events(good: bytes, layout: Layout) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) pairs, each refused for another reason, made from a valid event in array form."""
    event = orjson.loads(good)
    piece = next(p for p in layout.lists if p.list_name == "tags" and p.names)
    values = event[piece.class_name]["tags"]

    def with_tags(track: str, tags: object, **changes: object) -> tuple[bytes, bytes]:
        lists = {**event[piece.class_name], "tags": tags}
        changed = {**event, "track_id": track, piece.class_name: lists, **changes}
        return track.encode(), orjson.dumps(changed)

    yield b"BAD-1", b"this is not JSON"
    yield with_tags("BAD-2", [1.2, *values[1:]])
    yield with_tags("BAD-3", values[:-1])
    yield with_tags("BAD-4", {**dict(zip(piece.names, values, strict=True)), "no-such-tag": 0.5})
    yield with_tags("BAD-5", values, vocabulary="000000000000")
    yield b"BAD-6", with_tags("another-track", values)[1]
