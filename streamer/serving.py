"""Which model and which thresholds hold: what Redis says, made safe.

The hot path asks `current()` once per micro-batch and never waits. Everything slow happens here, beside it: a new
model is loaded aside, a new table is validated whole and entered in `:tables` before the first batch under it, and
both are swapped together by one assignment. What cannot be used is refused, counted and told; the last good stays.

`refresh` is one pass from what Redis holds to what is served; it repeats until nothing changes, so it may be called
at any time and any number of times. Knows Redis only as a `ThresholdStore`.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from streamer.core.errors import TagstreamError
from streamer.core.thresholds import BadThreshold, ThresholdTable
from streamer.ports import Clock, LoadedModel, Serving

log = logging.getLogger(__name__)

MODEL_RETRY_S = 5.0  # between two attempts to load a model that could not be loaded


class StoreUnavailable(TagstreamError):
    """Redis does not answer, or answers with an error: keep what there is and try again."""


class ModelUnusable(TagstreamError):
    """A model that cannot be loaded, or must not be served here."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store holds about one model, read in one transaction."""

    live: Mapping[str, str] | None  # None where the live hash is missing
    knows_version: bool  # whether `:tables` has the version that was asked about


@dataclass(frozen=True, slots=True)
class LastGood:
    """What was in force last. `entered`: the store has acknowledged the table under `:tables`."""

    model: str
    canonical: str
    entered: bool
    saved_at_ms: float
    vocabulary: str = ""  # the model's; empty where it was not kept


class ThresholdStore(Protocol):
    """The shared truth (Redis). Every method may raise StoreUnavailable."""

    async def active_model(self) -> str | None: ...

    async def name_model(self, model: str) -> None:
        """Name the active model where none is named."""

    async def read(self, model: str, version: str | None) -> Snapshot: ...

    async def adopt(self, model: str, table: ThresholdTable, live: Mapping[str, str], before: str | None) -> None:
        """Enter the table, and once per change the history entry of an edit made outside our tools."""

    async def enter(self, model: str, table: ThresholdTable) -> None:
        """Enter a table that was used while the store was away."""

    async def restore(self, model: str, table: ThresholdTable, why: str) -> None:
        """Write the table where the store has lost it: per tag only where absent, so that later edits win."""


class ModelLoader(Protocol):
    """Where models come from. Synchronous: called off the event loop."""

    def champion(self) -> str | None: ...

    def load(self, version: str) -> LoadedModel:
        """Raises ModelUnusable."""


class LastGoodStore(Protocol):
    """Where the last good model and table survive a restart."""

    def save(self, state: LastGood) -> None: ...

    def newest(self) -> LastGood | None: ...


@dataclass(slots=True)
class ServingStatus:
    """What operators are told about it: heartbeat, metrics and health read this."""

    store_up: bool = False
    store_lost: bool = False  # it did not answer when it was asked last
    answered_at_ms: float = 0.0  # when it answered last
    source: str = "none"  # redis | disk | tuned | none
    obeyed_at_ms: float = 0.0
    swaps: int = 0
    refused_tables: int = 0
    refusal: str = ""
    restored: int = 0
    model_failures: int = 0
    model_failure: str = ""


class ServingControl:
    """Keeps `current()` true to the store; see the module's docstring."""

    def __init__(self, store: ThresholdStore, loader: ModelLoader, last_good: LastGoodStore, clock: Clock) -> None:
        self.status = ServingStatus()
        self.swapped = asyncio.Event()
        self._store = store
        self._loader = loader
        self._last_good = last_good
        self._clock = clock
        self._serving: Serving | None = None
        self._entered = False
        self._aside: LoadedModel | None = None  # loaded, and not served yet: its table is refused, or the store away
        self._retry_model_at_s: dict[str, float] = {}

    @property
    def ready(self) -> bool:
        return self._serving is not None

    def current(self) -> Serving:
        """What holds now.

        Raises:
            RuntimeError: before the first model is there; the worker joins Kafka only after that.
        """
        if self._serving is None:
            raise RuntimeError("no model is being served yet")
        return self._serving

    async def refresh(self) -> None:
        """One pass; without the store, what the disk or the artefact says where nothing is served yet."""
        try:
            await self._follow_store()
            if self.status.store_lost:
                log.info("Redis answers again")
            self.status.store_up, self.status.store_lost = True, False
            self.status.answered_at_ms = self._clock.wall_ms()
        except StoreUnavailable as error:
            if not self.status.store_lost:
                log.warning("%s; the last good model and thresholds are used, where there are any", error)
            self.status.store_up, self.status.store_lost = False, True
            if self._serving is None:
                await self._start_without_store()

    async def _follow_store(self) -> None:
        named = await self._store.active_model()
        candidates = [named, *await self._fallback(named)] if named else await self._candidates()
        model = await self._first_usable(candidates)
        if named is None and model is not None:
            if self._serving is not None and self._entered:
                self._tell_restore(f"Redis names no active model any more: naming {model.version} again")
            await self._store.name_model(model.version)
        if model is None and self._serving is not None:
            model = self._serving.model  # keep the model there is, and go on following its thresholds
        if model is not None:
            await self._follow_thresholds(model)

    async def _fallback(self, named: str) -> list[str]:
        """What a start takes where the named model is not usable: its peers keep to that too."""
        remembered = None if self._serving is not None else await asyncio.to_thread(self._last_good.newest)
        return [remembered.model] if remembered is not None and remembered.model != named else []

    async def _candidates(self) -> list[str]:
        """The models to serve where the store names none, best first: in use, remembered, champion."""
        if self._serving is not None:
            return [self._serving.model.version]
        remembered = await asyncio.to_thread(self._last_good.newest)
        found = [remembered.model] if remembered else []
        try:
            champion = await asyncio.to_thread(self._loader.champion)
        except ModelUnusable as error:
            self._tell_model_failure(str(error))
            return found
        if not champion and not found:
            self._tell_model_failure(
                "Redis names no model, none is remembered on disk and there is no champion: train one and promote it"
            )
        return [*found, champion] if champion else found

    async def _first_usable(self, candidates: list[str]) -> LoadedModel | None:
        for version in candidates:
            model = await self._model(version)
            if model is not None:
                return model
        return None

    async def _model(self, version: str) -> LoadedModel | None:
        """The model of this version, loaded aside if it is not the one in use; None where it is not usable."""
        if self._serving is not None and self._serving.model.version == version:
            self.status.model_failure = ""
            self._aside = None
            return self._serving.model
        if self._aside is not None and self._aside.version == version:
            return self._aside
        if self._clock.monotonic_s() < self._retry_model_at_s.get(version, 0.0):
            return None
        try:
            model = await asyncio.to_thread(self._loader.load, version)
            await self._refuse_other_vocabulary(model)
        except Exception as error:  # a full device, say: whatever it is, the model in use goes on
            self._retry_model_at_s = {version: self._clock.monotonic_s() + MODEL_RETRY_S}
            if not isinstance(error, ModelUnusable):
                log.exception("model %s cannot be loaded", version)
            self._tell_model_failure(str(error) or type(error).__name__)
            return None
        self._retry_model_at_s = {}
        self.status.model_failure = ""
        self._aside = model
        return model

    async def _refuse_other_vocabulary(self, model: LoadedModel) -> None:
        """The vocabulary that holds here is that of the model in use, or at a start of the last one that was."""
        if self._serving is not None:
            mine = self._serving.model.layout.fingerprint
        else:
            remembered = await asyncio.to_thread(self._last_good.newest)
            mine = remembered.vocabulary if remembered is not None else ""
        other = model.layout.fingerprint
        if mine and mine != other:
            raise ModelUnusable(
                f"model {model.version} has vocabulary {other}, this topic is decided under {mine}: "
                "another vocabulary needs a topic and a consumer group of its own "
                "(where the topic was made anew: remove the files in TAGSTREAM_STATE_DIR and start again)"
            )

    async def _follow_thresholds(self, model: LoadedModel) -> None:
        base, entered = await self._base(model)
        snapshot = await self._store.read(model.version, base.version if base else None)
        if base is not None and not entered:
            await self._store.enter(model.version, base)
        lost = base is not None and entered and not snapshot.knows_version
        if snapshot.live is None or lost:
            if base is not None and entered:
                self._tell_restore(f"Redis has lost the thresholds of {model.version}: restoring the last good table")
            table = base or tuned_table(model)
            await self._store.restore(model.version, table, "restored after data loss" if base else "first use")
            snapshot = await self._store.read(model.version, table.version)
        live = snapshot.live or {}
        try:
            table = ThresholdTable.build(model.layout.tags, live, model.tuned)
        except BadThreshold as error:
            await self._refuse(model, base, error)
            return
        self.status.refusal = ""
        if not self._holds(model, table):
            await self._store.adopt(model.version, table, live, base.version if base else None)
            await self._swap(model, table, "redis", entered=True)

    def _holds(self, model: LoadedModel, table: ThresholdTable) -> bool:
        now = self._serving
        return (
            now is not None
            and now.model.version == model.version
            and now.table.version == table.version
            and self._entered
            and self.status.source == "redis"
        )

    async def _base(self, model: LoadedModel) -> tuple[ThresholdTable | None, bool]:
        """The last good table of this model, and whether the store has acknowledged it."""
        if self._serving is not None and self._serving.model.version == model.version:
            return self._serving.table, self._entered
        remembered = await asyncio.to_thread(self._last_good.newest)
        if remembered is None or remembered.model != model.version:
            return None, False
        try:
            return ThresholdTable.from_canonical(model.layout.tags, remembered.canonical), remembered.entered
        except BadThreshold as error:
            log.warning("the remembered table is not usable: %s", error)
            return None, False

    async def _refuse(self, model: LoadedModel, base: ThresholdTable | None, error: BadThreshold) -> None:
        """Keep the last good table; where nothing is served yet, the remembered or the tuned one."""
        if self.status.refusal != str(error):
            self.status.refused_tables += 1
            self.status.refusal = str(error)
            log.error("thresholds of %s refused, the last good table stays: %s", model.version, error)
        if self._serving is None:
            table = base or tuned_table(model)
            await self._store.enter(model.version, table)
            await self._swap(model, table, "disk" if base else "tuned", entered=True)

    async def _start_without_store(self) -> None:
        model = await self._first_usable(await self._candidates())
        if model is None:
            return
        base, entered = await self._base(model)
        if base is None:
            log.warning("no remembered thresholds: deciding with the tuned table of %s", model.version)
        await self._swap(model, base or tuned_table(model), "disk" if base else "tuned", entered=entered)

    async def _swap(self, model: LoadedModel, table: ThresholdTable, source: str, *, entered: bool) -> None:
        before = self._serving
        self._serving = Serving(model, table)
        self._entered = entered
        status = self.status
        status.source = source
        status.swaps += before is not None
        status.obeyed_at_ms = self._clock.wall_ms()
        self.swapped.set()
        log.info("deciding with model %s and thresholds %s (%s)", model.version, table.version, source)
        state = LastGood(
            model.version, table.canonical, entered, status.obeyed_at_ms, vocabulary=model.layout.fingerprint
        )
        try:
            await asyncio.to_thread(self._last_good.save, state)
        except OSError as error:
            log.error("the last good thresholds could not be kept on disk: %s", error)

    def _tell_restore(self, text: str) -> None:
        self.status.restored += 1
        log.error("%s", text)

    def _tell_model_failure(self, text: str) -> None:
        self.status.model_failures += 1
        if text != self.status.model_failure:
            log.error("%s", text)
        self.status.model_failure = text


def tuned_table(model: LoadedModel) -> ThresholdTable:
    """The table that the trainer chose."""
    return ThresholdTable.build(model.layout.tags, {}, model.tuned)
