"""JSON events for the fuzzer: valid ones in both forms, and every way of spoiling one that has hurt a JSON reader."""

import json
import unicodedata
from random import Random
from typing import Any

from streamer.core.events import MAX_JSON_BYTES
from streamer.core.layout import CLASSES, LISTS, Layout

NUMBERS = (
    b"NaN Infinity -Infinity nan 1e400 -1e400 1e-400 1.0000000000000002 -0.1 2 -1 01 .5 1. +1 1E0 0e9 -0 -0.0 0x1 "
    b"18446744073709551616 9223372036854775808 0.1e 5e-324 0.1,0.2 1e999999999999 1e-999999999999 0.5\0 null true"
).split()
TEXTS = tuple(
    json.dumps(text).encode()
    for text in (
        "",
        "T-1",
        "\0",
        "é",
        "e\u0301",
        "\ufeff",
        "\u202e",
        "x" * 257,
        "'; DROP TABLE",
        "\\",
        '"',
        "[",
        "🎵" * 300,
    )
)
RAW_TEXTS = (
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"\n"',
    b'"\\x"',
    b'"',
)


def torture(random: Random, number: int) -> bytes:
    """The `number`th of the inputs that are large, deep or long; they wrap around."""
    size = random.choice((1_000, 60_000, MAX_JSON_BYTES - 2_000, MAX_JSON_BYTES + 1))
    long_digits = b"0." + b"7" * size
    shapes = (
        b"[" * size,
        b"[" * (size // 2) + b"]" * (size // 2),
        b'{"a":' * (size // 5),
        b'{"track_id":' + b"[" * 90 + b"]" * 90 + b"}",
        b'{"track_id":"' + b"x" * size + b'"}',
        b'{"track_id":"' + b"\\u0041" * (size // 6) + b'"}',
        b'"' + b'\\"' * (size // 2),
        b'{"a":' + b'"' * size,
        b'{"track_id":' + long_digits + b"}",
        b'{"track_id":' + b"9" * size + b"}",
        b'{"track_id":1e' + b"9" * size + b"}",
        b"{" + b'"a":0,' * (size // 6) + b'"a":0}',
        b'{"genres":{"tags":{' + b",".join(b'"%d":0' % n for n in range(size // 10)) + b"}}}",
        b'{"vocabulary":"3f9c0a17b2de","genres":{"tags":[' + b"0.5," * (size // 4) + b"1]}}",
        b" " * size,
        b"\0" * size,
        b"\xef\xbb\xbf" * 3 + b"{}",
        b"{}" * (size // 2),
        random.randbytes(min(size, 5_000)),
    )
    return shapes[number % len(shapes)]


TORTURES = 19


def valid(random: Random, layout: Layout, track_id: str = "T-1") -> bytes:
    """An event that must be accepted: arrays, objects, or both; with or without what is ignored."""
    named = random.random() < 0.5
    event: dict[str, Any] = {"track_id": track_id, "vocabulary": layout.fingerprint}
    for class_name in CLASSES:
        for part in LISTS:
            names = next(piece.names for piece in layout.lists if piece.field == f"{class_name}.{part}")
            numbers = [random.choice((0, 1, 0.5, random.random())) for _ in names]
            as_object = named and random.random() < 0.8
            event.setdefault(class_name, {})[part] = dict(zip(names, numbers, strict=True)) if as_object else numbers
    if random.random() < 0.3:
        event["extra"] = {"deep": [[[0]]], "text": "🎵"}
    items = list(event.items())
    if random.random() < 0.5:
        random.shuffle(items)
    return json.dumps(dict(items), ensure_ascii=random.random() < 0.5).encode()


def spoiled(random: Random, value: bytes) -> bytes:
    """One thing about an event changed, in its structure or in its bytes."""
    tokens = _tokens(value)
    kind = random.randrange(10)
    if kind < 5 and tokens:
        place = random.randrange(len(tokens))
        if kind == 0:
            del tokens[place]
        elif kind == 1:
            tokens.insert(random.randrange(len(tokens)), tokens[place])
        elif kind == 2:
            tokens[place] = random.choice((*NUMBERS, *TEXTS, *RAW_TEXTS))
        elif kind == 3:
            other = random.randrange(len(tokens))
            tokens[place], tokens[other] = tokens[other], tokens[place]
        else:
            end = random.randrange(place, min(len(tokens), place + 30) + 1)
            tokens[place:place] = tokens[place:end] * random.choice((1, 2, 40))
        return b"".join(tokens)
    if kind == 5:
        form = random.choice(("NFC", "NFD", "NFKC", "NFKD"))
        return unicodedata.normalize(form, value.decode("utf-8", "replace")).encode()
    if kind == 6:
        return value.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")))
    if kind == 7:
        return value[: random.randrange(len(value) + 1)]
    place = random.randrange(len(value) + 1)
    damage = random.choice((b"\0", b"\xff", b"\xef\xbb\xbf", b"\\", b'"', b"\x7f", random.randbytes(2)))
    return value[:place] + damage + value[place + (kind == 9) * len(damage) :]


def _tokens(value: bytes) -> list[bytes]:
    """The event cut at brackets, commas and colons, which stay; strings are not looked at."""
    tokens, start = [], 0
    for place, byte in enumerate(value):
        if byte in b"[]{},:":
            tokens += [value[start:place], value[place : place + 1]]
            start = place + 1
    return [token for token in (*tokens, value[start:]) if token]
