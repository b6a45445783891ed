"""`tagstream tail`: what flows through a topic, as lines for people or as JSON, without disturbing its consumers."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any

import orjson
import typer

from ops.cli.output import JsonFlag, emit_json
from ops.errors import OpsError
from streamer.settings import Settings

MODELS_KEPT = 64  # whose tags are remembered: the names come out of records
EPILOG = "Example: tagstream tail --topic tags --tag indie-rock --from earliest --limit 10"


class Start(StrEnum):
    """Where reading begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


def tail(
    *,
    topic: Annotated[str, typer.Option(help="tags, scores, deadletter, probabilities or a topic's name.")] = "tags",
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only decisions with this tag.")] = None,
    code: Annotated[str | None, typer.Option(help="Only dead letters with this error.code.")] = None,
    start: Annotated[
        Start | None, typer.Option("--from", help="Where to begin (default: latest; earliest with --no-follow).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many records.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more, or end where it ends now.")
    ] = True,
    json: JsonFlag = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object per record, as they come.")] = False,
) -> None:
    """Show the records of a topic as they come. It joins no consumer group."""
    from ops.kafka_view import topic_of
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    if json and jsonl:
        raise OpsError("--json and --jsonl exclude each other.")
    if json and limit is None and follow:
        raise OpsError("--json prints one object at the end, so it wants --limit or --no-follow; --jsonl streams.")
    quiet_client_logs()
    settings = load_settings()
    from_start = (start or (Start.LATEST if follow else Start.EARLIEST)) is Start.EARLIEST
    query = Query(*topic_of(settings, topic), from_start, follow, limit, track, tag, code)
    found: list[dict[str, Any]] = []
    show: Callable[[dict[str, Any]], object] = found.append
    if not json:
        show = _print_json if jsonl else _print_text
    asyncio.run(_tail(settings, query, show))
    if json:
        emit_json({"records": found})


@dataclass(frozen=True)
class Query:
    """What to read and which of it to show; `kind` is the topic's `ops.kafka_view.Kind`."""

    topic: str
    kind: Any
    from_start: bool
    follow: bool
    limit: int | None
    track: str | None
    tag: str | None
    code: str | None

    def wants(self, seen: dict[str, Any]) -> bool:
        """Whether a described record passes every filter given."""
        from ops.kafka_view import printable, tags_of

        return (
            (self.track is None or seen["track_id"] == printable(self.track))
            and (self.tag is None or self.tag in tags_of(seen))
            and (self.code is None or seen.get("code") == self.code)
        )


async def _tail(settings: Settings, query: Query, show: Callable[[dict[str, Any]], object]) -> None:
    from ops.kafka_io import read_topic
    from ops.kafka_view import describe

    shown = 0
    tags_of_model = tags_by_model(settings)
    records = read_topic(settings, query.topic, from_start=query.from_start, follow=query.follow)
    async with aclosing(records):
        async for record in records:
            seen = describe(record, query.kind, tags_of_model)
            if query.wants(seen):
                show(seen)
                shown += 1
            if query.limit is not None and shown >= query.limit:
                return


def tags_by_model(settings: Settings) -> Callable[[str], Sequence[str]]:
    """Of a model version its tags in their order; nothing for one that is not in the folder of models."""
    from model.errors import ModelError
    from model.manifest import read_manifest
    from model.registry import Registry
    from model.vocabulary import Vocabulary

    @lru_cache(maxsize=MODELS_KEPT)
    def tags(version: str) -> Sequence[str]:
        try:
            folder = Registry(settings.models_dir).path(version)
            return Vocabulary.from_json(read_manifest(folder)["vocabulary"]).tags
        except (ModelError, OSError):
            return ()

    return tags


def _print_json(seen: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(seen).decode() + "\n")
    sys.stdout.flush()


def _print_text(seen: dict[str, Any]) -> None:
    from ops.kafka_view import render

    sys.stdout.write(render(seen) + "\n")
    sys.stdout.flush()
