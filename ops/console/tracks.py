"""One track: what upstream said, what the network made of it, what was decided, and for each tag why or why not."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar

from model.errors import ModelError
from model.manifest import read_manifest
from model.vocabulary import Vocabulary
from ops.console.view import Fields, View
from ops.errors import OpsError
from ops.thresholds_history import table_named
from ops.track_lookup import Track, look_up, probabilities_of
from ops.track_reasons import Reason, Why, explain, of
from streamer.core.errors import TagstreamError
from streamer.core.layout import Layout

BELOW_SHOWN = 12  # of those far below, unless all are asked for


class TracksView(View):
    """`query`: id, all."""

    name = "tracks"
    title = "Tracks"
    regions: ClassVar = {"track": "tracks/track.html"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.track: Track | None = None
        self.reasons: list[Reason] = []
        self.looking = ""
        self.no_event = ""  # why there are no probabilities
        self.no_scores = ""  # why no tag can be explained

    async def open(self) -> None:
        if self.query.get("id"):
            await self._look(self.query["id"])

    def context(self) -> dict[str, Any]:
        parts = {why.name.lower(): of(self.reasons, why) for why in Why}
        shown = parts["below"] if self.query.get("all") else parts["below"][:BELOW_SHOWN]
        return {
            "track": self.track, "looking": self.looking, "no_event": self.no_event, "no_scores": self.no_scores,
            "parts": parts, "below": shown, "reasons": self.reasons,
            "changes": [reason for reason in self.reasons if reason.changes],
        }  # fmt: skip

    def verbs(self) -> Mapping[str, Callable[[Fields], Coroutine[Any, Any, None]]]:
        return {"find": self._find, "all": self._all}

    async def _find(self, fields: Fields) -> None:
        self.query = {"id": fields.get("id", "").strip()[:300]}
        if not self.query["id"]:
            self.track, self.reasons = None, []
            return
        self.beside(self._look(self.query["id"]))

    async def _all(self, _: Fields) -> None:
        self.query["all"] = "" if self.query.get("all") else "yes"

    async def _look(self, track_id: str) -> None:
        self.looking, self.track, self.reasons = track_id, None, []
        self.changed.set()
        try:
            track = await look_up(self.desk.settings, track_id)
            if self.looking == track_id:
                await self._explain(track)
                self.track = track
        finally:
            if self.looking == track_id:
                self.looking = ""

    async def _explain(self, track: Track) -> None:
        """Why each tag was decided or not, under the table that the track was decided by."""
        self.reasons, self.no_event, self.no_scores = [], "", ""
        if track.scores is None:
            return
        try:
            registry, admin = self.desk.registry, self.desk.admin(self.session)
            manifest = read_manifest(registry.path(track.model))
            vocabulary = Vocabulary.from_json(manifest["vocabulary"])
            if len(track.scores) != len(vocabulary.tags):
                raise OpsError(f"its {len(track.scores):,} scores are not those of {len(vocabulary.tags):,} tags.")
            live = await asyncio.to_thread(admin.live, track.model)
            table = await asyncio.to_thread(table_named, admin, live, track.thresholds)
        except (ModelError, OpsError) as error:
            self.no_scores = str(error)
            return
        probabilities = None
        try:
            if track.source is None:
                self.no_event = "its scores do not say where its event was."
            else:
                probabilities = await probabilities_of(self.desk.settings, vocabulary, track.source)
                self.no_event = "" if probabilities is not None else "the input topic no longer keeps its event."
        except (OpsError, TagstreamError) as error:
            self.no_event = str(error)
        layout = Layout.build(vocabulary.fingerprint, vocabulary.classes)
        now = live.table if self.desk.feed.now.redis.model == track.model else None
        self.reasons = explain(layout, track.scores, table, now, probabilities)
