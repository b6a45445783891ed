"""`tagstream produce`: probability events into the input topic, as the ingestion upstream would write them."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, progress_bar, stdout_console
from ops.errors import OpsError

if TYPE_CHECKING:
    from model.dataset import Dataset
    from streamer.core.layout import Layout
    from streamer.settings import Settings


class Lane(StrEnum):
    """How tracks travel."""

    JSON = "json"
    ARROW = "arrow"


EPILOG = "Example: tagstream produce --data data/jamendo-hot --split val --rate 500 --limit 5000"


def produce(
    *,
    data: Annotated[
        Path | None, typer.Option(help="A data set in the challenge's layout; of one with splits, val is taken.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A JSONL file: each line is sent as it is, keyed by its track_id if it has one.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events per second (default: as fast as it goes).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events.")] = None,
    lane: Annotated[Lane, typer.Option(help="json: an event per message; arrow: thousands (with --data).")] = Lane.JSON,
    split: Annotated[str | None, typer.Option(help="Which split of the data set: train, val or test.")] = None,
    json: JsonFlag = False,
) -> None:
    """Produce probability events, keyed by track id, acknowledged by all in-sync replicas."""
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    if (data is None) == (file is None):
        raise OpsError("say what to produce: either --data DIR or --file FILE.jsonl.")
    if split is not None and data is None:
        raise OpsError("--split belongs to --data.")
    if lane is Lane.ARROW and data is None:
        raise OpsError("--lane arrow belongs to --data: the lines of a file are sent as they are.")
    if file is not None and not file.exists():
        raise OpsError(f"{file} does not exist.")
    quiet_client_logs()
    settings = load_settings()
    producing, total = _producing(settings, data, file, split, lane, rate, limit)
    started = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("producing", total=total)
        count = asyncio.run(producing(lambda acknowledged: bar.update(task, completed=acknowledged)))
    seconds = time.perf_counter() - started
    per_s = count / seconds if seconds else 0.0
    if json:
        emit_json({"produced": count, "seconds": seconds, "events_per_s": per_s, "topic": settings.topic_probabilities})
    else:
        stdout_console.print(
            f"{count:,} events to {settings.topic_probabilities} in {seconds:.1f} s ({per_s:,.0f}/s)", markup=False
        )


def _producing(
    settings: "Settings",
    data: Path | None,
    file: Path | None,
    split: str | None,
    lane: Lane,
    rate: float | None,
    limit: int | None,
) -> tuple[Callable[[Callable[[int], None]], Coroutine[Any, Any, int]], int | None]:
    """What produces, given where to tell its progress; and how many events that will be, where it is known."""
    from ops.kafka_io import produce_events

    if data is not None and lane is Lane.ARROW:
        from ops.bulk_lane import produce_bulk

        dataset, layout = _read(data, split)
        stop = len(dataset) if limit is None else min(limit, len(dataset))
        tracks = zip(dataset.track_ids[:stop], dataset.probabilities, strict=False)
        return lambda tell: produce_bulk(settings, layout, tracks, rate, tell), stop
    events, total = events_of_data(data, split) if data is not None else (events_of_file(file), None)  # type: ignore[arg-type]
    if limit is not None:
        events, total = islice(events, limit), limit if total is None else min(limit, total)
    return lambda tell: produce_events(settings, events, rate, tell), total


def events_of_data(directory: Path, split: str | None) -> tuple[Iterator, int]:
    """The events of a data set and how many there are.

    Raises:
        ModelError: where it is not a data set, or has no such split.
    """
    from ops.kafka_io import event_json

    dataset, layout = _read(directory, split)
    events = (
        (track_id.encode(), event_json(layout, track_id, row), ())
        for track_id, row in zip(dataset.track_ids, dataset.probabilities, strict=True)
    )
    return events, len(dataset)


def _read(directory: Path, split: str | None) -> tuple["Dataset", "Layout"]:
    from model.dataset import load
    from streamer.core.layout import Layout

    dataset = load(choose_split(directory, split))
    return dataset, Layout.build(dataset.vocabulary.fingerprint, dataset.vocabulary.classes)


def choose_split(directory: Path, split: str | None) -> Path:
    """The folder of the split asked for; of a folder with splits val where none is; else the folder itself."""
    if split is not None:
        if not (directory / split).is_dir():
            raise OpsError(f"{directory} has no split '{split}': there is no such folder in it.")
        return directory / split
    return directory / "val" if (directory / "val").is_dir() else directory


def events_of_file(path: Path) -> Iterator:
    """Each line of a JSONL file as one event's bytes, malformed ones too; blank lines are skipped.

    Raises:
        OpsError: where the file cannot be read.
    """
    try:
        lines = path.open("rb")
    except OSError as error:
        raise OpsError(f"{path} cannot be read: {error.strerror}.") from None
    with lines:
        yield from events_of_lines(lines)


def events_of_lines(lines: Iterable[bytes]) -> Iterator:
    """Events of lines: the value is the line without its newline, the key its track_id where it parses."""
    for line in lines:
        value = line.removesuffix(b"\n")
        if value.strip():
            yield _key_of(value), value, ()


def _key_of(value: bytes) -> bytes | None:
    import orjson

    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    track_id = event.get("track_id") if isinstance(event, dict) else None
    return track_id.encode() if isinstance(track_id, str) and track_id else None
