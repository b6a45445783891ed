"""One dead letter in full, as lines for a terminal and as JSON.

Everything in it is the world's, so all of it goes through `printable`.
"""

import base64
from typing import Any

import orjson

from ops.deadletters import Letter
from ops.kafka_view import Kind, describe, printable, text_of

MAX_LINES = 60
MAX_LINE_CHARACTERS = 160
MAX_DEPTH = 6
HEX_BYTES = 256
HEX_WIDTH = 16
MAX_JSON_VALUE_BYTES = 256 * 1024  # of a value inside --json; --raw has all of it


def as_json(letter: Letter) -> dict[str, Any]:
    """A letter as one JSON-able dict: its value as `text` or `base64`, and `json` where it parses."""
    record, value = letter.record, letter.record.value
    seen = describe(record, Kind.DEADLETTER) | {
        "place": letter.place,
        "attempt": letter.attempt,
        "worker": letter.added.get("worker"),
        "failed_at": letter.added.get("failed_at"),
        "original_headers": [[printable(name), text_of(header)] for name, header in letter.original],
        "value_omitted_bytes": letter.omitted_bytes,
        "null": value is None,
    }
    clipped = (value or b"")[:MAX_JSON_VALUE_BYTES]
    seen["clipped"] = value is not None and len(clipped) < len(value)
    try:
        seen["text"] = clipped.decode()
    except UnicodeDecodeError:
        seen["base64"] = base64.b64encode(clipped).decode()
    parsed, is_json = _parsed(clipped)
    return seen | ({"json": parsed} if is_json else {})


def lines_of(letter: Letter) -> list[str]:
    """A letter for people: where it is, why it is there, its headers and its value."""
    record = letter.record
    when = letter.added.get("failed_at") or "at an unknown time"
    lines = [
        f"{letter.place}  attempt {letter.attempt}",
        f"  reason   {letter.code}" + (f" at {letter.field}" if letter.field else ""),
        f"  source   {letter.added.get('source') or '(unknown)'}",
        f"  worker   {letter.added.get('worker') or '(unknown)'}, {when}",
        f"  key      {'(none)' if record.key is None else record.key.decode('utf-8', 'backslashreplace')}",
    ]
    lines += [f"  header   {name}: {text_of(value)}" for name, value in letter.original]
    shown = [_clip(printable(line)) for line in lines]
    shown.insert(2, f"           {printable(letter.added.get('error.message', ''))}")  # whole: 500 characters at most
    return [*shown, "", *_value_lines(letter)]


def _value_lines(letter: Letter) -> list[str]:
    value = letter.record.value
    if letter.omitted_bytes is not None:
        return [
            f"The value, {printable(letter.omitted_bytes)} bytes, fitted no topic and was left out. The source "
            f"{printable(letter.added.get('source', ''))} has it for as long as that topic keeps it."
        ]
    if value is None:
        return ["The value is null: a withdrawal." if letter.record.key is not None else "The value is null."]
    if not value:
        return ["The value is empty."]
    parsed, is_json = _parsed(value)
    if is_json:
        lines = _pretty(parsed, "", MAX_DEPTH)
    else:
        try:
            lines = value.decode().splitlines() or [""]
        except UnicodeDecodeError:
            return [f"{len(value):,} bytes that are no text:", *_hex(value)]
    shown = [_clip(printable(line)) for line in lines[:MAX_LINES]]
    more = [f"... {len(lines) - MAX_LINES:,} more lines"] if len(lines) > MAX_LINES else []
    return [f"{len(value):,} bytes:", *shown, *more]


def _parsed(value: bytes) -> tuple[Any, bool]:
    try:
        return orjson.loads(value), True
    except orjson.JSONDecodeError:
        return None, False


def _pretty(value: Any, label: str, depth: int) -> list[str]:
    """JSON with one line per member; a list of numbers stays on one line."""
    if isinstance(value, dict) and value and depth:
        inner = [line for name, member in value.items() for line in _pretty(member, f"{name}: ", depth - 1)]
        return [f"{label}", *(f"  {line}" for line in inner)] if label else inner
    if isinstance(value, list):
        first = ", ".join(_short(item) for item in value[:12])
        more = f", ... {len(value):,} in all" if len(value) > 12 else ""
        return [f"{label}[{first}{more}]"]
    return [f"{label}{_short(value)}"]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    if isinstance(value, list):
        return "[...]" if value else "[]"
    return orjson.dumps(value).decode()


def _clip(line: str) -> str:
    return line if len(line) <= MAX_LINE_CHARACTERS else f"{line[:MAX_LINE_CHARACTERS]}... ({len(line):,} characters)"


def _hex(value: bytes) -> list[str]:
    lines = []
    for at in range(0, min(len(value), HEX_BYTES), HEX_WIDTH):
        piece = value[at : at + HEX_WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"  {at:08x}  {piece.hex(' '):<{HEX_WIDTH * 3}} {text}")
    return [*lines, f"  ... {len(value) - HEX_BYTES:,} more bytes"] if len(value) > HEX_BYTES else lines
