"""The retained scores and the artefact's curves for all who look at thresholds: read once, then followed.

The preview itself is `ops.thresholds_preview`'s; here it is only seen to that nobody who moves a slider waits for
Kafka, Redis or a disk.
"""

import asyncio
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress

from model import curves as model_curves
from model.curves import Curves
from model.errors import ModelError
from model.manifest import read_manifest
from model.registry import Registry
from ops.errors import OpsError
from ops.thresholds_admin import Live
from ops.thresholds_follow import follow
from ops.thresholds_preview import Lately, lately
from ops.thresholds_scores import RetainedScores, Window
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

FOLLOW_S = 5.0
FOLLOW_SHARE = 20  # of a million tracks a look takes longer: at most so small a part of the time goes into it
WAIT_S = 0.1  # until somebody says which model
LATELY_S = 30.0  # how old the figures of all tags may be
SPANS_S = {"all": None, "24h": 86_400, "1h": 3_600}  # of the tracks that a question is asked of


class Retained:
    """What a preview is made from, as of a few seconds ago."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.error = ""  # why there are no scores
        self.progress: tuple[int, int] | None = None  # offsets read, and to read, during the first reading
        self.read_at_ms: float | None = None
        self._settings = settings
        self._registry = registry
        self._scores: RetainedScores | None = None
        self._windows: dict[tuple[str, str], Window] = {}
        self._lately: tuple[Hashable, float, dict[str, Lately]] = (None, 0.0, {})  # of what, when, the figures
        self._curves: dict[str, Curves | None] = {}
        self._watchers: dict[asyncio.Event, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._live: Live | None = None

    @property
    def known(self) -> bool:
        """Whether the topic has been read."""
        return self._scores is not None

    @contextmanager
    def watched(self, told: asyncio.Event) -> Iterator[None]:
        """Follow while the block lasts, and set `told` when there is news."""
        self._watchers[told] = 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            del self._watchers[told]

    def of(self, live: Live) -> None:
        """Whose scores are wanted."""
        self._live = live

    async def _follow(self) -> None:
        while self._watchers:
            if self._live is not None:
                began_s = time.monotonic()
                await self._look(self._live)
                for watcher in self._watchers:
                    watcher.set()
                await asyncio.sleep(max(FOLLOW_S, FOLLOW_SHARE * (time.monotonic() - began_s)))
            else:
                await asyncio.sleep(WAIT_S)

    async def _look(self, live: Live) -> None:
        def on_progress(done: int, total: int) -> None:
            self.progress = (done, total) if self._scores is None else None

        try:
            found = await follow(self._settings, live.vocabulary, on_progress)
        except (OpsError, TagstreamError) as error:
            self.error = str(error)
            return
        self.error, self.progress = "", None
        if self._scores is None or found.stored.meta != self._scores.stored.meta:
            self._scores, self._windows, self.read_at_ms = found, {}, time.time() * 1000

    async def stop(self) -> None:
        """End the following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def window(self, model: str, span: str) -> Window | None:
        """The tracks of a model in a span; None where none is retained."""
        if self._scores is None:
            return None
        if (model, span) not in self._windows:
            length_s = SPANS_S.get(span)
            since_ms = None if length_s is None else int((time.time() - length_s) * 1000)
            self._windows[model, span] = self._scores.window(model, since_ms=since_ms)
        found = self._windows[model, span]
        return found if found.tracks else None

    def lately(self, live: Live, span: str) -> dict[str, Lately]:
        """Each tag's decided tracks and near misses; of a few seconds ago, as there are many. Empty without scores."""
        window = self.window(live.model, span)
        if window is None:
            return {}
        key = (live.model, live.table.version, span)
        known, at_s, _ = self._lately
        if known != key or time.monotonic() - at_s > LATELY_S:
            self._lately = (key, time.monotonic(), lately(window, live.table))
        return self._lately[2]

    def curves(self, model: str) -> Curves | None:
        """What the artefact knows of each tag; None where it knows nothing."""
        if model not in self._curves:
            try:
                folder = self._registry.path(model)
                self._curves = {model: model_curves.read(folder, read_manifest(folder))}
            except ModelError:
                self._curves = {model: None}
        return self._curves[model]
