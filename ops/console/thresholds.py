"""Thresholds: one tag at a time over its picture, several edits as one change, and the way back.

Moving a slider asks nobody: the preview comes from what `Retained` holds. Redis is asked when something is applied.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ops.console import pictures, tags
from ops.console.past import Past
from ops.console.staging import Staged, way_back
from ops.console.view import Fields, View
from ops.errors import OpsError
from ops.thresholds_admin import Live, Written
from ops.thresholds_history import Entry, entries, roll_back
from ops.thresholds_preview import Lately, Preview, preview, suggest_by_curve, suggest_by_share
from streamer.core.thresholds import BadThreshold, threshold_text

HISTORY_SHOWN = 15
OBEY_TIMEOUT_S = 15.0
OBEY_POLL_S = 0.1
EXAMPLES = 6
SPANS = {"all": "all retained tracks", "24h": "tracks of the last 24 h", "1h": "tracks of the last hour"}
AIMS = {"precision": "precision of at least", "recall": "recall of at least", "share": "share of tracks near"}


@dataclass
class Applied:
    """The change that was made last from this page, and who obeys it."""

    written: Written
    edits: Mapping[str, tuple[str, str]]
    why: str
    obeyed_ms: dict[str, float | None] = field(default_factory=dict)
    done: bool = False


class ThresholdsView(View):
    """`query`: tag, q (search), sort, span."""

    name = "thresholds"
    title = "Thresholds"
    regions: ClassVar = {
        "tags": "thresholds/tags.html",
        "tag": "thresholds/tag.html",
        "change": "thresholds/change.html",
        "past": "thresholds/past.html",
        "history": "thresholds/history.html",
    }
    newest_wins = frozenset({"move", "search", "type"})

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.drafts: dict[str, str] = {}  # where the sliders were left
        self.applied: Applied | None = None
        self.preview: Preview | None = None
        self.staged_preview: Preview | None = None
        self.lately: dict[str, Lately] = {}
        self.history: Sequence[Entry] | None = None
        self.past = Past(self)
        self._history_of = ""
        self._seen: tuple[Hashable, ...] = ()

    # What is shown

    @property
    def live(self) -> Live | None:
        return self.desk.feed.live

    @property
    def tag(self) -> str:
        """The one that is looked at; the first where none or an unknown one is asked for."""
        known = self.live.vocabulary.tags if self.live else ()
        asked = self.query.get("tag", "")
        return asked if asked in known else (known[0] if known else "")

    @property
    def span(self) -> str:
        return self.query.get("span", "all")

    @contextmanager
    def watching(self) -> Iterator[None]:
        with super().watching(), self.desk.retained.watched(self.changed):
            yield

    async def open(self) -> None:
        await self.desk.feed.looked.wait()

    async def refresh(self) -> None:
        live = self.live
        if live is None:
            return
        await self.past.refresh()
        self.desk.retained.of(live)
        staged = self.session.staged
        seen = (
            live.model, live.table.version, self.desk.retained.read_at_ms, self.span, self.tag, self.draft(),
            tuple(staged.values.items()) if staged else (), staged.base.table.version if staged else "",
        )  # fmt: skip
        if seen != self._seen:
            self._seen = seen
            self.preview = await self._foresee(live, {self.tag: self.draft()})
            self.staged_preview = await self._foresee(staged.base, staged.values) if staged and staged.values else None
            self.lately = await asyncio.to_thread(self.desk.retained.lately, live, self.span)
        if self._history_of != live.table.version:
            self._history_of = live.table.version
            await self._read_history(live)

    async def _read_history(self, live: Live) -> None:
        self.history = await asyncio.to_thread(entries, self.desk.admin(self.session), live, limit=HISTORY_SHOWN)

    async def _foresee(self, live: Live, values: Mapping[str, str]) -> Preview:
        retained, admin = self.desk.retained, self.desk.admin(self.session)
        window, curves = retained.window(live.model, self.span), retained.curves(live.model)
        table = admin.stage(live, values)
        return await asyncio.to_thread(preview, live, table, window, curves, examples=EXAMPLES)

    def draft(self, tag: str | None = None) -> str:
        """Where a tag's slider stands: moved, staged or live."""
        tag = tag or self.tag
        if tag in self.drafts:
            return self.drafts[tag]
        staged = self.session.staged
        if staged and tag in staged.values:
            return staged.values[tag]
        return self.live.table.as_hash()[tag] if self.live else ""

    def context(self) -> dict[str, Any]:
        live = self.live
        base = {
            "live": live, "staged": self.session.staged, "applied": self.applied, "retained": self.desk.retained,
            "history": self.history, "events": self.past.events(self.history or ()), "aims": AIMS, "spans": SPANS,
            "sorts": tags.SORTS, **self.past.context(),
        }  # fmt: skip
        if live is None:
            return base
        window, curves = self.desk.retained.window(live.model, self.span), self.desk.retained.curves(live.model)
        foreseen = self.preview.tags[0] if self.preview and self.preview.tags else None
        one = tags.picture(live, self.tag, self.draft(), window, curves)
        return base | {"rows": self._rows(live), "foreseen": foreseen} | one

    def _rows(self, live: Live) -> list[tags.Row]:
        staged = self.session.staged.values if self.session.staged else {}
        window = self.desk.retained.window(live.model, self.span)
        tracks = window.tracks if window else 0
        asked = tags.Asked(self.query.get("q", ""), self.query.get("sort", ""))
        return tags.rows(live, asked, self.lately, tracks, staged, self.drafts.keys())

    def fresh_for(self, region: str) -> Hashable:
        live, staged = self.live, self.session.staged
        if live is None:
            return None
        version = (live.model, live.table.version)
        if region == "tags":
            values = tuple(staged.values.items()) if staged else ()
            moved = tuple(self.drafts.items())
            asked = (self.tag, self.query.get("q", ""), self.query.get("sort", ""), self.span)
            return (version, asked, values, tuple(dict(moved)), self.desk.retained.read_at_ms)
        if region == "history":
            runs = tuple((one.name, one.cancelled) for one in self.past.runs)
            return (version, tuple(self.history or ()), runs, bool(staged and staged.values), self.history is None)
        return None

    # What is done

    def verbs(self) -> Mapping[str, Callable[[Fields], Coroutine[Any, Any, None]]]:
        return {
            "pick": self._pick, "search": self._search, "sort": self._sort, "span": self._span, "move": self._move,
            "type": self._type, "take": self._take, "suggest": self._suggest, "stage": self._stage,
            "unstage": self._unstage, "discard": self._discard, "rebase": self._rebase, "apply": self._apply,
            "undo": self._undo, "back": self._back, **self.past.verbs(),
        }  # fmt: skip

    async def _pick(self, fields: Fields) -> None:
        self.query["tag"] = fields.get("tag", "")

    async def _search(self, fields: Fields) -> None:
        self.query["q"] = fields.get("value", "")[:100]
        live = self.live
        rows = self._rows(live) if live and self.query["q"].strip() else []
        if rows and self.tag not in {row.tag for row in rows}:
            self.query["tag"] = rows[0].tag

    async def _sort(self, fields: Fields) -> None:
        self.query["sort"] = fields.get("value", "") if fields.get("value") in tags.SORTS else ""

    async def _span(self, fields: Fields) -> None:
        self.query["span"] = fields.get("value", "") if fields.get("value") in SPANS else "all"

    def _place_draft(self, tag: str, text: str) -> None:
        live = self.live
        if live is None or tag not in live.table.tags:
            return
        self.drafts[tag] = threshold_text(tag, text)
        if self.drafts[tag] == live.table.as_hash()[tag] and not (
            self.session.staged and tag in self.session.staged.values
        ):
            del self.drafts[tag]

    async def _move(self, fields: Fields) -> None:
        try:
            at = float(fields.get("value", ""))
        except ValueError:
            return
        if math.isfinite(at):
            self._place_draft(fields.get("tag", ""), f"{pictures.threshold_at(at):.6f}")

    async def _type(self, fields: Fields) -> None:
        with suppress(BadThreshold):  # half typed; staging tells
            self._place_draft(fields.get("tag", ""), fields.get("value", ""))

    async def _take(self, fields: Fields) -> None:
        self._place_draft(fields.get("tag", ""), fields.get("value", ""))

    async def _suggest(self, fields: Fields) -> None:
        live, tag = self._needed_live(), self.tag
        aim, retained = fields.get("aim", ""), self.desk.retained
        try:
            percent = float(fields.get("percent", ""))
        except ValueError:
            raise OpsError("say how many per cent, such as 80.") from None
        if not 0 < percent <= 100:
            raise OpsError("a number of per cent above 0, at most 100, is needed.")
        window, curves = retained.window(live.model, self.span), retained.curves(live.model)
        if aim == "share":
            if window is None:
                raise OpsError("a share is counted over retained scores, and there are none of this model yet.")
            value = suggest_by_share(window, live.table.tags.index(tag), tag, percent / 100)
        elif aim in AIMS and curves is not None:
            value = suggest_by_curve(curves, tag, **{aim: percent / 100})
        else:
            raise OpsError(f"{live.model} has no curves: it was not made by training, so precision is not known.")
        self._place_draft(tag, f"{value:.6f}")

    def _needed_live(self) -> Live:
        if self.live is None:
            raise OpsError(
                self.desk.feed.now.redis.error or self.desk.feed.now.redis.live_error or "Redis is not read yet."
            )
        return self.live

    async def _stage(self, fields: Fields) -> None:
        self.must_write()
        live, tag = self._needed_live(), fields.get("tag", "") or self.tag
        if self.session.staged is None or not self.session.staged.values:
            self.session.staged = Staged(live)
        self.session.staged.put(tag, fields.get("value") or self.draft(tag))
        self.drafts.pop(tag, None)
        if not self.session.staged.values:
            self.tell(f"{tag} is at {live.table.as_hash()[tag]} already: nothing to stage.")

    async def _unstage(self, fields: Fields) -> None:
        if self.session.staged is not None:
            self.session.staged.take_out(fields.get("tag", ""))
            self.drafts.pop(fields.get("tag", ""), None)

    async def _discard(self, _: Fields) -> None:
        self.session.staged = None
        self.drafts.clear()

    async def _rebase(self, _: Fields) -> None:
        if self.session.staged is not None:
            self.session.staged = self.session.staged.onto(self._needed_live())

    async def _apply(self, fields: Fields) -> None:
        self.must_write()
        staged = self.session.staged
        if staged is None:
            raise OpsError("nothing is staged.")
        why = fields.get("why", "")
        written = await asyncio.to_thread(staged.apply, self.desk.admin(self.session), why)
        before = staged.base.table.as_hash()
        self.session.staged = None
        self.drafts.clear()
        self._wrote(written, {tag: (before[tag], text) for tag, text in staged.values.items()}, why.strip())

    def _wrote(self, written: Written, edits: Mapping[str, tuple[str, str]], why: str) -> None:
        self.applied = Applied(written, edits, why)
        self.desk.feed.look_again()
        self.beside(self._watch_obeying(self.applied))

    async def _watch_obeying(self, applied: Applied) -> None:
        """Until each worker of that model has followed, or the time is up."""
        admin, deadline_s = self.desk.admin(self.session), time.monotonic() + OBEY_TIMEOUT_S
        while not applied.done:
            applied.obeyed_ms = await asyncio.to_thread(admin.wait_obeyed, applied.written, 0.0, others=False)
            all_do = bool(applied.obeyed_ms) and None not in applied.obeyed_ms.values()
            applied.done = all_do or time.monotonic() >= deadline_s
            self.changed.set()
            await asyncio.sleep(OBEY_POLL_S)

    async def _undo(self, _: Fields) -> None:
        """The change that was made last from this page, at once."""
        self.must_write()
        applied = self.applied
        if applied is None:
            raise OpsError("nothing was applied from this page.")
        live = await asyncio.to_thread(self.desk.admin(self.session).live, applied.written.model)
        if live.table.version != applied.written.after:
            raise OpsError("somebody has changed the thresholds since: take the way back in the history instead.")
        why = f"undo of {applied.written.after}: {applied.why}"
        admin = self.desk.admin(self.session)
        written = await asyncio.to_thread(roll_back, admin, live, applied.written.before, why)
        edits = {tag: (after, before) for tag, (before, after) in applied.edits.items()}
        self._wrote(written, edits, why)

    async def _back(self, fields: Fields) -> None:
        """Stage the way back to a version; it is seen before it is taken."""
        self.must_write()
        if self.session.staged and self.session.staged.values:
            raise OpsError("apply or discard what is staged first.")
        live = await asyncio.to_thread(self.desk.admin(self.session).live)  # of now: the feed may lag behind
        self.session.staged = await asyncio.to_thread(
            way_back, self.desk.admin(self.session), live, fields.get("version", ""), fields.get("why", "")
        )
        self.drafts.clear()
