"""Asking for a re-decide, following it and ending it (contract sections 3 and 4): the workers do it.

The run is in the Redis stream `tagstream:redecide`: who asked, how far each partition is, who cancelled. So a run goes
on without whoever asked for it, and anybody may follow it.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from redis.exceptions import WatchError

from ops.errors import OpsError
from ops.kafka_io import topic_ranges
from ops.thresholds_admin import ThresholdsAdmin, telling_redis_errors
from streamer.core.redecide_runs import ENTRIES_MAX, Run, State, newest_run
from streamer.settings import Settings

POLL_S = 0.2
SILENT_S = 10.0  # without any worker, after which there is no use in waiting here
CANCEL_S = 15.0  # for the workers to hear of it
ATTEMPTS = 5
PAGE = 100  # entries


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is to be about, looked up before anything is written."""

    model: str
    thresholds: str
    partitions: int


def state_of(run: Run) -> str:
    """In a word: running, done, failed or cancelled."""
    if run.cancelled:
        return "cancelled"
    if not run.is_over:
        return "running"
    return "failed" if any(one.error for one in run.progress.values()) else "done"


class Redecisions:
    """One deployment's runs, for a person."""

    def __init__(self, settings: Settings, admin: ThresholdsAdmin | None = None) -> None:
        self._settings = settings
        self._admin = admin or ThresholdsAdmin(settings)
        self._key = self._admin.keys.redecide

    def look_up(self) -> Asked:
        """The active model, its live table, and that there is something to do and somebody to do it.

        Raises:
            OpsError: no such model, a table that workers refuse, no worker, no retained scores.
            TagstreamError: Kafka does not answer, or has no such topic.
        """
        live = self._admin.live()
        if live.refusal:
            raise OpsError(f"{live.refusal}. Mend it first: `tagstream thresholds set`, or HDEL.")
        workers = self._admin.workers()
        if not workers:
            raise OpsError("no worker is alive: start one (`tagstream worker`), then the tracks can be re-decided.")
        if all(beat.get("model") != live.model for beat in workers.values()):
            failure = next((beat["model_failure"] for beat in workers.values() if beat.get("model_failure")), "")
            raise OpsError(f"no worker serves {live.model}, the active model{f': {failure}' if failure else ''}.")
        ranges = asyncio.run(topic_ranges(self._settings, self._settings.topic_scores))
        if not any(ranges.values()):
            raise OpsError(f"{self._settings.topic_scores} holds no retained scores: there is nothing to re-decide.")
        return Asked(live.model, live.table.version, len(ranges))

    def newest(self, since: str = "-") -> Run | None:
        """The run that was asked for last, as of this entry of the stream."""
        with telling_redis_errors(self._settings):
            return newest_run(self._admin.redis.xrange(self._key, since, "+"))

    def last_entry(self) -> str:
        """The id of the stream's newest entry, which any news has changed; empty where there is none."""
        with telling_redis_errors(self._settings):
            newest = self._admin.redis.xrevrange(self._key, "+", "-", count=1)
        return str(newest[0][0]) if newest else ""

    def lately(self, limit: int) -> list[Run]:
        """The runs that were asked for last, the newest first; no more of the stream is read than they take."""
        entries: list[tuple[str, dict[str, str]]] = []
        requests: list[int] = []
        upper = "+"
        while len(requests) < limit:
            with telling_redis_errors(self._settings):
                page = self._admin.redis.xrevrange(self._key, upper, "-", count=PAGE)
            for at, (_, fields) in enumerate(page, len(entries)):
                if fields.get("kind") == "request":
                    requests.append(at)
            entries += page
            if len(page) < PAGE:
                break
            upper = f"({page[-1][0]}"
        edges = pairwise([-1, *requests[:limit]])
        runs = [newest_run(reversed(entries[start + 1 : stop + 1])) for start, stop in edges]
        return [run for run in runs if run is not None]

    def begin(self, asked: Asked, why: str, *, dry_run: bool) -> Run:
        """Ask for a run.

        Raises:
            OpsError: another one is going on.
        """
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
        request = {
            "kind": "request", "run": name, "dry_run": str(int(dry_run)), "who": self._admin.who, "why": why,
            "model": asked.model, "thresholds": asked.thresholds, "partitions": str(asked.partitions),
        }  # fmt: skip
        for _ in range(ATTEMPTS):  # others may write to the stream at the same moment
            with telling_redis_errors(self._settings), self._admin.redis.pipeline() as transaction:
                transaction.watch(self._key)
                before = newest_run(transaction.xrange(self._key, "-", "+"))
                if before is not None and not before.is_over:
                    raise OpsError(
                        f"the re-decide run {before.name} of {before.who} is going on, {before.share:.0%} done: "
                        "`tagstream redecide --follow` follows it, `tagstream redecide --cancel` ends it."
                    )
                left = before.in_doubt() if before is not None else {}
                transaction.multi()
                transaction.xadd(self._key, request | {"left": json.dumps(left)}, maxlen=ENTRIES_MAX, approximate=True)
                try:
                    (entry,) = transaction.execute()
                except WatchError:
                    continue
            return Run(name, entry, dry_run, request["who"], why, asked.model, asked.thresholds, asked.partitions)
        raise OpsError(
            "somebody else asks for a re-decide at the same moment: look with `tagstream redecide --follow`."
        )

    def going_on(self) -> Run:
        """The run that is going on.

        Raises:
            OpsError: there is none.
        """
        run = self.newest()
        if run is None or run.is_over:
            last = (
                f": the last one, {run.name}, is {'cancelled' if run.cancelled else 'done'}" if run is not None else ""
            )
            raise OpsError(f"no re-decide run is going on{last}.")
        return run

    def cancel(self) -> Run:
        """End the run that is going on; returns when no worker is at it any more.

        Raises:
            OpsError: there is none, or a worker has not answered in time.
        """
        run = self.going_on()
        with telling_redis_errors(self._settings):
            self._admin.redis.xadd(self._key, {"kind": "cancel", "run": run.name, "who": self._admin.who})
        deadline_s = time.monotonic() + CANCEL_S
        while time.monotonic() < deadline_s:
            now = self.newest(run.entry)
            if now is None or now.name != run.name or not self._at_work(now):
                return now if now is not None and now.name == run.name else run
            time.sleep(POLL_S)
        raise OpsError(f"run {run.name} is cancelled, but a worker has not said within {CANCEL_S:g} s that it stopped.")

    def _at_work(self, run: Run) -> bool:
        """Whether a live worker has not let go of a partition yet."""
        alive = self._admin.workers()
        return any(one.state is State.RUNNING and one.worker in alive for one in run.progress.values())

    def follow(self, run: Run, on_progress: Callable[[Run], None]) -> Run:
        """Wait for the run's end.

        Raises:
            OpsError: Redis has lost the run, or no worker is alive any more.
        """
        heard_s = time.monotonic()
        while True:
            now = self.newest(run.entry)
            if now is None or now.name != run.name:
                raise OpsError(f"Redis does not know the run {run.name} any more: ask for it again.")
            on_progress(now)
            if now.is_over:
                return now
            if self._admin.workers():
                heard_s = time.monotonic()
            elif time.monotonic() > heard_s + SILENT_S:
                raise OpsError(
                    f"no worker is alive any more: the run {run.name} goes on from {now.share:.0%} when one is; "
                    "`tagstream redecide --cancel` ends it."
                )
            time.sleep(POLL_S)
