"""What ops do to thresholds and the active model, as transactions on Redis (contract section 4).

Every write carries who and why into the history, and starts from the version its author saw: of two people editing
at once one is told. Workers are not asked; their heartbeats say when they obey.
"""

import difflib
import getpass
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import WatchError
from redis.retry import Retry

from model.errors import ModelError
from model.manifest import read_manifest
from model.registry import CHAMPION, Registry
from model.vocabulary import Vocabulary
from ops.errors import OpsError
from streamer.adapters.redis_client import REDIS_FAILURES, RedisRefuses, connection_options, redis_error
from streamer.adapters.redis_keys import Keys
from streamer.core.thresholds import BadThreshold, ThresholdTable
from streamer.settings import Settings

if TYPE_CHECKING:
    from model.artifact import Artifact

SOCKET_TIMEOUT_S = 3.0
LOOPBACK = ("localhost", "127.0.0.1", "::1", None)
OBEYED_POLL_S = 0.01
HISTORY_MAX_ENTRIES = 100_000
NAME_CHARACTERS = 60  # of a tag that is none, in a message


@dataclass(frozen=True, slots=True)
class Live:
    """A model's table as Redis holds it now, beside what the trainer tuned."""

    model: str
    vocabulary: Vocabulary
    tuned: Mapping[str, float | str]  # a number, or "off"
    table: ThresholdTable
    raw: Mapping[str, str]  # the live hash as it was read
    refusal: str  # why workers refuse that hash; empty where they do not

    def number_of(self, tag: str) -> int:
        """Where a tag stands in the vocabulary.

        Raises:
            OpsError: it does not, with the nearest names.
        """
        if tag in self.vocabulary.tags:
            return self.vocabulary.tags.index(tag)
        near = difflib.get_close_matches(tag[:NAME_CHARACTERS], self.vocabulary.tags, 3, cutoff=0.3)
        nearest = f"; the nearest: {', '.join(near)}" if near else ""
        raise OpsError(f"no tag {tag[:NAME_CHARACTERS]!r} in the vocabulary of {self.model}{nearest}.")


@dataclass(frozen=True, slots=True)
class Written:
    """A change that is in Redis."""

    model: str
    before: str
    after: str
    at_ms: float  # wall clock, when Redis had acknowledged it


def client(settings: Settings) -> Any:
    """A Redis client for tools: bounded waits, text. (`Any`: redis-py's stubs do not know decode_responses.)"""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        retry=Retry(NoBackoff(), 1),
        **connection_options(settings, SOCKET_TIMEOUT_S),
    )


@contextmanager
def telling_redis_errors(settings: Settings):
    """Redis's own errors as one sentence."""
    try:
        yield
    except WatchError:
        raise OpsError("somebody else changed the thresholds at the same moment: look again and repeat.") from None
    except REDIS_FAILURES as error:
        raise OpsError(f"{redis_error(settings, error)}{_how_to_get_one(settings, error)}") from None


def _how_to_get_one(settings: Settings, error: Exception) -> str:
    """Where none answers on this machine, who tries things out has none running."""
    here = urlsplit(settings.redis_url.get_secret_value()).hostname in LOOPBACK
    refused = isinstance(redis_error(settings, error), RedisRefuses)
    return ' To try it: `eval "$(tagstream local up)"` starts one.' if here and not refused else ""


class ThresholdsAdmin:
    """One deployment's thresholds, seen and changed by a person or a tool."""

    def __init__(self, settings: Settings, who: str | None = None) -> None:
        self._settings = settings
        self.keys = Keys(settings.redis_prefix)
        self.redis = client(settings)
        self._registry = Registry(settings.models_dir)
        self.who = who or getpass.getuser()

    def telling(self):
        """A block in which Redis's own errors become one sentence."""
        return telling_redis_errors(self._settings)

    def active_model(self) -> str:
        """The model that workers obey.

        Raises:
            OpsError: when none is named.
        """
        model = self.named_model()
        if not model:
            raise OpsError("Redis names no active model: run `tagstream models promote VERSION`.")
        return model

    def named_model(self) -> str:
        """The model that Redis names; empty where it names none."""
        with self.telling():
            return str(self.redis.get(self.keys.model) or "")

    def _active_here(self) -> str:
        """The active model, where this machine's registry has it."""
        model = self.active_model()
        if model not in self._registry.versions():
            raise OpsError(
                f"Redis names {model!r} as the active model, which is not in {self._registry.models_dir}: "
                "run `tagstream models promote VERSION`, or set TAGSTREAM_MODELS_DIR."
            )
        return model

    def live(self, model: str | None = None) -> Live:
        """The table in effect of a model (the active one by default).

        Raises:
            OpsError: Redis is away, or holds no table of that model.
        """
        model = self._registry.resolve(model) if model else self._active_here()
        manifest = read_manifest(self._registry.path(model))
        vocabulary = Vocabulary.from_json(manifest["vocabulary"])
        with self.telling():
            raw = self.redis.hgetall(self.keys.live(model))
        if not raw:
            raise OpsError(f"Redis holds no thresholds of {model}: run `tagstream models promote {model}`.")
        tuned = manifest["thresholds"]
        table, refusal = self._table(vocabulary, raw, tuned, self.keys.live(model))
        return Live(model, vocabulary, tuned, table, raw, refusal)

    @staticmethod
    def _table(
        vocabulary: Vocabulary, raw: Mapping[str, str], tuned: Mapping[str, float | str], key: str
    ) -> tuple[ThresholdTable, str]:
        """The table in effect; of a hash that workers refuse, the table without what is wrong, and what that is."""
        try:
            return ThresholdTable.build(vocabulary.tags, raw, tuned), ""
        except BadThreshold as error:
            refusal = f"Redis holds what workers refuse, in {key}: {error}"
        valid = {}
        for tag, value in raw.items():
            try:
                ThresholdTable.build(vocabulary.tags, {tag: value}, tuned)
                valid[tag] = value
            except BadThreshold:
                continue
        return ThresholdTable.build(vocabulary.tags, valid, tuned), refusal

    def stage(self, live: Live, values: Mapping[str, str], *, whole: bool = False) -> ThresholdTable:
        """The table that these values would make of the live one, or with `whole` by themselves; nothing is written.

        Raises:
            BadThreshold: an unknown tag or an invalid value among `values`.
            OpsError: the live hash holds what workers refuse, and `values` do not mend it.
        """
        below = {} if whole else live.raw
        try:
            return ThresholdTable.build(live.vocabulary.tags, {**below, **values}, live.tuned)
        except BadThreshold as error:
            if error.tag in values:
                raise
            raise OpsError(
                f"Redis holds what workers refuse, in {self.keys.live(live.model)}, field {error.tag!r}: {error}. "
                "Take the field out (HDEL), or give the tag a valid value in the same command."
            ) from None

    def change(
        self, live: Live, values: Mapping[str, str], why: str, *, action: str = "set", whole: bool = False
    ) -> Written:
        """Set some tags, or with `whole` replace the hash, starting from the table that `live` shows.

        A change that changes nothing is not written: its version after is the one before.

        Raises:
            BadThreshold: an unknown tag or an invalid value; nothing is written.
            OpsError: the table has changed since it was read, or Redis is away.
        """
        key = self.keys.live(live.model)
        table = self.stage(live, values, whole=whole)
        written = {tag: text for tag, text in table.as_hash().items() if whole or tag in values}
        if table.version != live.table.version or live.refusal:
            with self.telling(), self.redis.pipeline() as transaction:
                transaction.watch(key)
                if transaction.hgetall(key) != live.raw:
                    raise WatchError
                transaction.multi()
                if whole:
                    transaction.delete(key)
                transaction.hset(key, mapping=written)
                self._enter(transaction, live.model, table, action, why, live.table.version)
                transaction.execute()
        return Written(live.model, live.table.version, table.version, time.time() * 1000)

    def promote(self, name: str, why: str, *, action: str = "promote", instead_of: str | None = None) -> Written:
        """Make a model the one that workers obey: verify, table to Redis, `tagstream:model`, alias.

        A live hash that is there already is kept: ops' edits survive a second promotion. Two who promote at once do it
        one after the other, so that Redis and the alias end up with the same model.

        Raises:
            OpsError: the model has another vocabulary than the active one, that one is not `instead_of` (any more), or
                Redis is away.
            ModelError: the artefact is not what it says, or the registry cannot be written.
        """
        artifact = self._registry.load(name)
        model = artifact.version
        with self._registry.writing() as set_alias:
            before, table = self._activate(artifact, why, action, instead_of)
            at_ms = time.time() * 1000
            try:
                set_alias(CHAMPION, model, self.who, why, action)
            except ModelError as error:
                raise OpsError(
                    f"Redis names {model} and the workers obey, but the alias does not: {str(error).rstrip('.')}; "
                    "mend that and repeat the command."
                ) from None
        return Written(model, before, table.version, at_ms)

    def _activate(
        self, artifact: "Artifact", why: str, action: str, instead_of: str | None
    ) -> tuple[str, ThresholdTable]:
        """Table, history and `tagstream:model` in one transaction; the model before, and the table in effect."""
        model = artifact.version
        key = self.keys.live(model)
        with self.telling(), self.redis.pipeline() as transaction:
            transaction.watch(key, self.keys.model)
            before = transaction.get(self.keys.model) or ""
            if instead_of is not None and before not in ("", instead_of):
                raise OpsError(f"somebody else promoted {before} at the same moment: look again and repeat.")
            self._refuse_other_vocabulary(before, model, artifact.vocabulary.fingerprint)
            raw = transaction.hgetall(key)
            table, refusal = self._table(artifact.vocabulary, raw, artifact.thresholds, key)
            if refusal:
                raise OpsError(f"{refusal}. Mend it first: `tagstream thresholds set`, or HDEL.")
            transaction.multi()
            if not raw:
                transaction.hset(key, mapping=dict(table.as_hash()))
            self._enter(transaction, model, table, action, why, table.version if raw else "")
            transaction.set(self.keys.model, model)
            transaction.execute()
        return before, table

    def _refuse_other_vocabulary(self, active: str, model: str, fingerprint: str) -> None:
        """Running workers would refuse it, but one that starts would serve it, and dead-letter the whole stream."""
        try:
            mine = read_manifest(self._registry.path(active))["fingerprint"] if active else fingerprint
        except ModelError:
            return  # the active model is not in this folder any more: nobody can tell
        if mine != fingerprint:
            raise OpsError(
                f"{model} has vocabulary {fingerprint}, the active model {mine}: another vocabulary needs topics, "
                "a group and a Redis prefix of its own."
            )

    def _enter(self, transaction: Any, model: str, table: ThresholdTable, action: str, why: str, before: str) -> None:
        """The table under its version, and the history entry, in the caller's transaction."""
        transaction.hsetnx(self.keys.tables(model), table.version, table.canonical)
        entry = {"who": self.who, "why": why, "action": action, "before": before, "after": table.version}
        transaction.xadd(self.keys.history(model), entry, maxlen=HISTORY_MAX_ENTRIES, approximate=True)

    def workers(self) -> dict[str, dict[str, str]]:
        """The heartbeats of live workers, by name."""
        prefix = self.keys.worker("")
        with self.telling():
            names = sorted(self.redis.scan_iter(self.keys.workers, count=1000))
            beats = {name[len(prefix) :]: self.redis.hgetall(name) for name in names}
        return {name: beat for name, beat in beats.items() if beat}

    def wait_obeyed(self, written: Written, timeout_s: float, *, others: bool = True) -> dict[str, float | None]:
        """Milliseconds from the write until each live worker decided by it; None where it has not in time.

        A worker that dies meanwhile leaves the list with its heartbeat; clocks are taken to agree. Without `others`
        only those count that serve this model: to another model's workers its thresholds are nothing.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            obeyed: dict[str, float | None] = {}
            for name, beat in self.workers().items():
                mine = beat.get("model") == written.model
                if mine or others:
                    took_ms = float(beat.get("obeyed_at_ms", 0)) - written.at_ms
                    obeyed[name] = max(0.0, took_ms) if mine and beat.get("thresholds") == written.after else None
            if all(took is not None for took in obeyed.values()) or time.monotonic() >= deadline_s:
                return obeyed
            time.sleep(OBEYED_POLL_S)
