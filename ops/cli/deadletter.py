"""`tagstream deadletter`: what could not be decided, grouped by the reason."""

import asyncio
from collections import defaultdict
from contextlib import aclosing
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, progress_bar, stdout_console
from ops.errors import OpsError
from streamer.core.events import Code
from streamer.settings import Settings

app = typer.Typer(help="Inputs that can never be decided, and why.", no_args_is_help=True)
DEFAULT_EXAMPLES = 3


@dataclass
class Group:
    """The dead letters of one code: how many, and a heap of the newest, oldest of those first."""

    count: int = 0
    newest: list[tuple[tuple[int, int, int], dict[str, Any]]] = field(default_factory=list)

    def add(self, seen: dict[str, Any], keep: int) -> None:
        """Count a described dead letter and keep it while it is among the `keep` newest."""
        self.count += 1
        entry = ((seen["timestamp_ms"], seen["partition"], seen["offset"]), seen)
        if len(self.newest) < keep:
            heappush(self.newest, entry)
        else:
            heappushpop(self.newest, entry)

    def examples(self) -> list[dict[str, Any]]:
        """The newest first."""
        return [seen for _, seen in sorted(self.newest, key=lambda entry: entry[0], reverse=True)]


@app.command("list", epilog="Example: tagstream deadletter list --code wrong-length --limit 5")
def list_(
    *,
    code: Annotated[str | None, typer.Option(help="Only this error.code.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Newest examples per code.")] = DEFAULT_EXAMPLES,
    json: JsonFlag = False,
) -> None:
    """Count the dead letters by code and show the newest of each."""
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    codes_known = [str(known) for known in Code]
    if code is not None and code not in codes_known:
        raise OpsError(f"there is no error code {code!r}; there are {', '.join(codes_known)}.")
    quiet_client_logs()
    settings = load_settings()
    groups = asyncio.run(_group(settings, code, limit))
    total = sum(group.count for group in groups.values())
    by_count = sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))
    if json:
        codes = {name: {"count": group.count, "examples": group.examples()} for name, group in by_count}
        emit_json({"topic": settings.topic_deadletter, "total": total, "codes": codes})
        return
    kind = f" with the code {code}" if code else ""
    lines = [f"{total:,} dead letters{kind} in {settings.topic_deadletter}"]
    for name, group in by_count:
        lines.append(f"\n{name}: {group.count:,}")
        lines += [_lines_of(seen) for seen in group.examples()]
    stdout_console.print("\n".join(lines), markup=False, soft_wrap=True)


async def _group(settings: Settings, code: str | None, examples: int) -> dict[str, Group]:
    from ops.kafka_io import read_topic
    from ops.kafka_view import Kind, describe

    groups: dict[str, Group] = defaultdict(Group)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        records = read_topic(
            settings, settings.topic_deadletter, from_start=True, follow=False,
            on_span=lambda offsets: bar.update(task, total=offsets),
        )  # fmt: skip
        async with aclosing(records):
            async for record in records:
                bar.advance(task)
                seen = describe(record, Kind.DEADLETTER)
                name = seen.get("code") or "(no code)"
                if code is None or name == code:
                    groups[name].add(seen, examples)
    return groups


def _lines_of(seen: dict[str, Any]) -> str:
    from ops.kafka_view import render

    return "  " + render(seen).replace("\n", "\n  ")
