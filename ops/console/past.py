"""The tracks of the past, beside the thresholds: what the live table would change of them, and the re-decide that does.

First a dry run, which publishes nothing; only what it has counted under the table that is live still may be done. A run
is the workers': whoever looks at the page sees how far it is, whoever asked for it, and may end it.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError
from ops.redecide import Redecisions, state_of
from ops.thresholds_history import Entry
from streamer.core.redecide_runs import Run

if TYPE_CHECKING:
    from ops.console.thresholds import ThresholdsView
    from ops.console.view import Fields

BUSY_S, IDLE_S = 0.5, 3.0  # between two looks, while a run goes on and while none does
RUNS_SHOWN = 6
EVENTS_SHOWN = 15  # in the history
TAGS_SHOWN = 8


class Past:
    """One page's view of the runs."""

    def __init__(self, view: "ThresholdsView") -> None:
        self.runs: Sequence[Run] = ()  # lately asked for, the newest first
        self.asking = False  # between a click and the run's first entry
        self._view = view
        self._looked_s = 0.0
        self._last = ""  # entry of the stream

    @property
    def run(self) -> Run | None:
        """The newest."""
        return self.runs[0] if self.runs else None

    @property
    def is_counted(self) -> bool:
        """Whether the newest run is a dry one that has counted all under the table that is live."""
        run, live = self.run, self._view.live
        if run is None or live is None or not run.dry_run or state_of(run) != "done":
            return False
        ended_under = {(one.model, one.thresholds) for one in run.progress.values()}
        return ended_under == {(live.model, live.table.version)}

    @property
    def is_going_on(self) -> bool:
        """Whether workers are at it."""
        return self.run is not None and not self.run.is_over

    def events(self, entries: Sequence[Entry]) -> list[tuple[int, Entry | None, Run | None]]:
        """The history of thresholds and the runs that were more than a count, the newest first."""
        live = self._view.live
        found: list[tuple[int, Entry | None, Run | None]] = [(one.at_ms, one, None) for one in entries]
        for run in self.runs:
            if not run.dry_run and live is not None and run.model == live.model:
                found.append((int(run.entry.partition("-")[0]), None, run))
        return sorted(found, key=lambda event: -event[0])[:EVENTS_SHOWN]

    async def refresh(self) -> None:
        """Look how far the run is; seldom while there is none."""
        every_s = BUSY_S if self.is_going_on or self.asking else IDLE_S
        if time.monotonic() >= self._looked_s + every_s:
            await self._look()

    async def _look(self) -> None:
        self._looked_s = time.monotonic()
        redecisions = self._redecisions()
        last = await asyncio.to_thread(redecisions.last_entry)
        if last != self._last:
            self._last = last
            self.runs = await asyncio.to_thread(redecisions.lately, RUNS_SHOWN)

    def _redecisions(self) -> Redecisions:
        desk, session = self._view.desk, self._view.session
        return Redecisions(desk.settings, desk.admin(session))

    def context(self) -> dict[str, Any]:
        """For the templates."""
        run = self.run
        tags: list[tuple[str, int, int]] = []
        if run is not None:
            counts = run.counts
            both = counts.added + counts.removed
            tags = [(tag, counts.added[tag], counts.removed[tag]) for tag, _ in both.most_common()]
        return {
            "run": run, "run_state": state_of(run) if run else "", "asking": self.asking,
            "run_tags": tags[:TAGS_SHOWN], "run_tags_more": len(tags[TAGS_SHOWN:]), "counted": self.is_counted,
        }  # fmt: skip

    def verbs(self) -> "Mapping[str, Callable[[Fields], Coroutine[Any, Any, None]]]":
        """What may be asked."""
        return {"count": self._count, "redecide": self._redecide, "stoprun": self._stop}

    async def _count(self, _: "Fields") -> None:
        self._view.must_write()
        self._view.beside(self._begin("", dry_run=True))

    async def _redecide(self, fields: "Fields") -> None:
        self._view.must_write()
        why = fields.get("why", "").strip()
        if not why:
            raise OpsError("a re-decide takes a reason: it is what the history will say.")
        await self._look()
        if not self.is_counted:
            raise OpsError("count first: nobody has counted what the live thresholds would change.")
        self._view.beside(self._begin(why, dry_run=False))

    async def _begin(self, why: str, *, dry_run: bool) -> None:
        if self.asking:
            return
        self.asking, redecisions = True, self._redecisions()
        try:
            asked = await asyncio.to_thread(redecisions.look_up)
            await asyncio.to_thread(redecisions.begin, asked, why, dry_run=dry_run)
            await self._look()
        finally:
            self.asking = False

    async def _stop(self, _: "Fields") -> None:
        self._view.must_write()
        self._view.tell("Ending the run; what was published stays.")
        self._view.beside(self._cancel())

    async def _cancel(self) -> None:
        await asyncio.to_thread(self._redecisions().cancel)
        await self._look()
