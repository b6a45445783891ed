"""`tagstream produce`: probability events into the input topic, as the ingestion upstream would write them."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, progress_bar, stdout_console
from ops.errors import OpsError

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
    split: Annotated[str | None, typer.Option(help="Which split of the data set: train, val or test.")] = None,
    json: JsonFlag = False,
) -> None:
    """Produce probability events, keyed by track id, acknowledged by all in-sync replicas."""
    from ops.kafka_io import produce_events
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    if (data is None) == (file is None):
        raise OpsError("say what to produce: either --data DIR or --file FILE.jsonl.")
    if split is not None and data is None:
        raise OpsError("--split belongs to --data.")
    if file is not None and not file.exists():
        raise OpsError(f"{file} does not exist.")
    quiet_client_logs()
    settings = load_settings()
    events, total = events_of_data(data, split) if data else (events_of_file(file), None)  # type: ignore[arg-type]
    if limit is not None:
        events, total = islice(events, limit), limit if total is None else min(limit, total)
    started = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("producing", total=total)
        count = asyncio.run(
            produce_events(settings, events, rate, lambda acknowledged: bar.update(task, completed=acknowledged))
        )
    seconds = time.perf_counter() - started
    per_s = count / seconds if seconds else 0.0
    if json:
        emit_json({"produced": count, "seconds": seconds, "events_per_s": per_s, "topic": settings.topic_probabilities})
    else:
        stdout_console.print(
            f"{count:,} events to {settings.topic_probabilities} in {seconds:.1f} s ({per_s:,.0f}/s)", markup=False
        )


def events_of_data(directory: Path, split: str | None) -> tuple[Iterator, int]:
    """The events of a data set and how many there are.

    Raises:
        ModelError: where it is not a data set, or has no such split.
    """
    from model.dataset import load
    from ops.kafka_io import event_json
    from streamer.core.layout import Layout

    dataset = load(choose_split(directory, split))
    layout = Layout.build(dataset.vocabulary.fingerprint, dataset.vocabulary.classes)
    events = (
        (track_id.encode(), event_json(layout, track_id, row), ())
        for track_id, row in zip(dataset.track_ids, dataset.probabilities, strict=True)
    )
    return events, len(dataset)


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
