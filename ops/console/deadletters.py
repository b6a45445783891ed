"""Dead letters by their reason, one of them in full, and another try for those whose cause is mended."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from ops.circuit import resume_workers
from ops.console.view import Fields, View
from ops.deadletter_replay import Rules, Skip
from ops.deadletter_send import Outcome, Prepared, make_plan, replay
from ops.deadletter_view import lines_of
from ops.deadletters import Group, Letter, Selection, by_count, moment_ms
from ops.errors import OpsError
from ops.kafka_io import read_ranges, topic_ranges
from ops.kafka_view import preview

SINCE = {"1h": "last hour", "24h": "last 24 h", "7d": "last 7 days"}  # no longer: Kafka remembers replays for 7 days
RATE_PER_S, MAX_ATTEMPTS = 500.0, 3
EXAMPLES = 5
PROGRESS_S = 0.25
RESUME_S = 5.0
WHY_NOT = {
    Skip.REPLAYED_BEFORE: "replayed before",
    Skip.MAX_ATTEMPTS: f"tried {MAX_ATTEMPTS} times or more",
    Skip.VALUE_OMITTED: "without their value, which fitted no topic",
    Skip.NO_SOURCE: "without a header that says where they came from",
    Skip.OTHER_TOPIC: "from another topic or partition than the input has",
    Skip.SAME_SOURCE: "of an event that another letter is of too",
    Skip.OVER_LIMIT: "over the limit",
}
logger = logging.getLogger(__name__)


class DeadLettersView(View):
    """`query`: since, code, place (a letter in full)."""

    name = "deadletters"
    title = "Dead letters"
    regions: ClassVar = {"groups": "deadletters/groups.html", "replay": "deadletters/replay.html"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.groups: Sequence[tuple[str, Group]] | None = None
        self.read_at_ms: float | None = None
        self.reading: tuple[int, int] | None = None  # records read, and to read
        self.letter: Sequence[str] = ()  # one in full
        self.plan: Prepared | None = None
        self.plan_code: str | None = None  # of one code, or "" of all; None: nothing is asked
        self.sent: int | None = None  # while a replay runs
        self.outcome: Outcome | None = None
        self._stop = asyncio.Event()

    @property
    def since(self) -> str:
        return self.query["since"] if self.query.get("since") in SINCE else "24h"

    async def open(self) -> None:
        await self._read()
        if self.query.get("place"):
            await self._show(self.query["place"])

    def context(self) -> dict[str, Any]:
        return {
            "groups": self.groups, "reading": self.reading, "read_at_ms": self.read_at_ms, "letter": self.letter,
            "plan": self.plan, "plan_code": self.plan_code, "sent": self.sent, "outcome": self.outcome,
            "why_not": WHY_NOT, "since_words": SINCE,
            "paused": [worker for worker in self.desk.feed.now.workers if worker.paused],
        }  # fmt: skip

    def verbs(self) -> Mapping[str, Callable[[Fields], Coroutine[Any, Any, None]]]:
        return {
            "since": self._since, "again": self._again, "code": self._code, "show": self._shown, "plan": self._plan,
            "replay": self._replay, "stop": self._stop_replay, "close": self._close, "resume": self._resume,
        }  # fmt: skip

    # Looking

    async def _since(self, fields: Fields) -> None:
        self.query["since"] = fields.get("value", "")
        self._forget_plan()
        self.beside(self._read())

    async def _again(self, _: Fields) -> None:
        self.beside(self._read())

    async def _code(self, fields: Fields) -> None:
        code = fields.get("code", "")
        self.query["code"] = "" if self.query.get("code") == code else code
        self.query["place"], self.letter = "", ()

    def _selection(self, code: str = "") -> Selection:
        codes = frozenset({code}) if code else frozenset()
        return Selection(codes=codes, since_ms=moment_ms(self.since, int(time.time() * 1000)))

    async def _read(self) -> None:
        settings, selection = self.desk.settings, self._selection()
        topic = settings.topic_deadletter
        groups: dict[str, Group] = {}
        ranges = await topic_ranges(settings, topic, selection.since_ms)
        total, done = sum(map(len, ranges.values())), 0
        async with aclosing(read_ranges(settings, topic, ranges)) as records:
            async for record in records:
                done += 1
                if done % 1000 == 0:
                    self.reading = (done, total)
                    self.changed.set()
                letter = Letter.parse(record)
                if selection.wants(letter):
                    groups.setdefault(letter.code, Group(EXAMPLES)).add(letter, _example)
        self.groups, self.reading, self.read_at_ms = by_count(groups), None, time.time() * 1000

    async def _shown(self, fields: Fields) -> None:
        self.query["place"] = fields.get("place", "")
        await self._show(self.query["place"])

    async def _show(self, place: str) -> None:
        topic = self.desk.settings.topic_deadletter
        found = re.fullmatch(r"(.+)/([0-9]{1,9})/([0-9]{1,18})", place)
        if found is None or found[1] != topic:
            raise OpsError(f"{place[:80]!r} is no place of a dead letter.")
        partition, offset = int(found[2]), int(found[3])
        ranges = {partition: range(offset, offset + 1)}
        held = (await topic_ranges(self.desk.settings, topic)).get(partition, range(0))
        if offset not in held:
            raise OpsError(f"{place} is not kept any more.")
        async with aclosing(read_ranges(self.desk.settings, topic, ranges)) as records:
            async for record in records:
                self.letter = lines_of(Letter.parse(record))
                return

    async def _close(self, _: Fields) -> None:
        self.query["place"], self.letter = "", ()
        if self.sent is None:
            self._forget_plan()

    # Another try

    def _forget_plan(self) -> None:
        self.plan, self.plan_code, self.outcome = None, None, None

    async def _plan(self, fields: Fields) -> None:
        if self.sent is not None:
            raise OpsError("a replay runs: wait for it or stop it.")
        self._forget_plan()
        self.plan_code = fields.get("code", "")
        self.beside(self._make_plan(self.plan_code))

    async def _make_plan(self, code: str) -> None:
        told_s = 0.0

        def on_read(done: int, total: int) -> None:
            nonlocal told_s
            if time.monotonic() - told_s >= PROGRESS_S:
                told_s, self.reading = time.monotonic(), (done, total)
                self.changed.set()

        try:
            self.plan = await make_plan(self.desk.settings, self._selection(code), Rules(MAX_ATTEMPTS), on_read)
        except BaseException:
            self.plan_code = None
            raise
        finally:
            self.reading = None

    async def _replay(self, _: Fields) -> None:
        self.must_write()
        if self.plan is None or self.sent is not None:
            raise OpsError("make a plan first.")
        self.sent = 0
        self._stop.clear()
        self.beside(self._send(self.plan))

    async def _send(self, plan: Prepared) -> None:
        def on_sent(count: int) -> None:
            self.sent = count
            self.changed.set()

        what = self.plan_code or "any code"
        logger.info("%s replays %d dead letters of %s", self.session.name, plan.chosen.total, what)
        try:
            self.outcome = await replay(self.desk.settings, plan, RATE_PER_S, on_sent, self._stop)
        finally:
            self.sent, self.plan = None, None
        failure = self.outcome.failure
        if failure is not None:
            raise OpsError(f"{self.outcome.sent:,} were sent, then Kafka refused one: {failure}")
        await self._read()

    async def _stop_replay(self, _: Fields) -> None:
        self._stop.set()

    async def close(self) -> None:
        """A replay that runs ends in good order: what it has sent is remembered."""
        self._stop.set()
        if self.sent is not None:
            await asyncio.wait(tuple(self._tasks), timeout=RESUME_S)
        await super().close()

    async def _resume(self, _: Fields) -> None:
        self.must_write()
        self.beside(self._let_go_on())

    async def _let_go_on(self) -> None:
        found = await asyncio.to_thread(resume_workers, self.desk.settings, RESUME_S, self.session.name)
        gone_on = [name for name, one in found.items() if one.resumed]
        self.tell(
            f"{', '.join(gone_on)} went on." if gone_on else "No worker went on in time.", "good" if gone_on else "bad"
        )


def _example(record: Any) -> dict[str, Any]:
    """What is shown of a letter in its group."""
    letter = Letter.parse(record)
    key = None if record.key is None else preview(record.key, 80)
    return {
        "place": letter.place, "at_ms": record.timestamp, "key": key,
        "field": letter.field, "message": letter.added.get("error.message", ""), "preview": preview(record.value, 100),
        "attempt": letter.attempt, "worker": letter.added.get("worker", ""),
    }  # fmt: skip
