"""What a newer AsyncAPI document of ours takes away from neighbours who were built against an older one.

Additive only: what neighbours read stays there and stays the same, and nothing new is asked of what they write. New
fields, messages, topics and error codes are additions. Words (titles, descriptions, examples) are free.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WORDS = {"title", "description", "examples", "default"}
SELF = "additionalProperties", "items"  # of a schema, those that hold another one
RECEIVE = "receive"  # we receive it, so they write it

Json = Mapping[str, Any]


def taken_away(before: Json, after: Json) -> list[str]:
    """A sentence for everything that is gone, narrowed or asked for anew; empty for additions only."""
    found: list[str] = []
    theirs = {_last(one["channel"]["$ref"]) for one in before["operations"].values() if one["action"] == RECEIVE}
    for name, old in before["channels"].items():
        new = after["channels"].get(name)
        if new is None:
            found.append(f"the channel {name} is gone")
            continue
        if new["address"] != old["address"]:
            found.append(f"{name}: the topic was {old['address']}, is {new['address']}")
        for message in old["messages"]:
            if message not in new["messages"]:
                found.append(f"{name}: the message {message} is gone")
            else:
                found += _Comparison(before, after, written_by_them=name in theirs).of_message(
                    f"{name}.{message}", message
                )
    return found


class _Comparison:
    """Of one message in two documents; which changes do harm depends on who writes it."""

    def __init__(self, before: Json, after: Json, *, written_by_them: bool) -> None:
        self._before, self._after, self._written_by_them = before, after, written_by_them

    def of_message(self, path: str, name: str) -> Iterator[str]:
        old, new = (document["components"]["messages"][name] for document in (self._before, self._after))
        if old["contentType"] != new["contentType"]:
            yield f"{path}: the content type was {old['contentType']}, is {new['contentType']}"
        for part in ("headers", "payload"):
            if part in old:
                yield from self._schemas(f"{path}.{part}", old[part], new.get(part, {}))
            elif part in new and self._written_by_them and _resolved(self._after, new[part]).get("required"):
                yield f"{path}.{part} are asked for anew"

    def _schemas(self, path: str, old: Json, new: Json) -> Iterator[str]:
        old, new = _resolved(self._before, old), _resolved(self._after, new)
        yield from self._fields(path, old, new)
        for part in SELF:
            if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
                yield from self._schemas(f"{path}.{part}", old[part], new[part])
        for word in ("anyOf", "oneOf"):
            yield from self._alternatives(path, old.get(word, []), new.get(word, []))
        gone = [value for value in old.get("enum", []) if value not in new.get("enum", [])]
        if gone:
            yield f"{path}: the values {', '.join(map(str, gone))} are gone"
        followed = {"properties", "required", "anyOf", "oneOf", "enum", *SELF} | WORDS
        for word in sorted((old.keys() | new.keys()) - followed):
            if old.get(word) != new.get(word):
                yield f"{path}: {word} was {old.get(word)}, is {new.get(word)}"

    def _fields(self, path: str, old: Json, new: Json) -> Iterator[str]:
        for name, schema in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                yield f"{path}.{name} is gone"
            else:
                yield from self._schemas(f"{path}.{name}", schema, new["properties"][name])
        before, now = set(old.get("required", [])), set(new.get("required", []))
        if self._written_by_them:
            yield from (f"{path}.{name} is asked for anew" for name in sorted(now - before))
        else:
            yield from (f"{path}.{name} is no longer always there" for name in sorted(before - now))

    def _alternatives(self, path: str, old: Sequence[Json], new: Sequence[Json]) -> Iterator[str]:
        if len(new) < len(old) or (len(new) > len(old) and not self._written_by_them):
            yield f"{path}: there were {len(old)} forms, there are {len(new)}"
            return
        for place, (was, now) in enumerate(zip(old, new, strict=False)):
            yield from self._schemas(f"{path}[{place}]", was, now)


def _resolved(document: Json, schema: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][_last(schema["$ref"])]
    return schema


def _last(reference: str) -> str:
    return reference.rpartition("/")[2]
