"""Models: which there are, which one decides, whether another is better, and the way back."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar

from model.alias_history import Change
from model.listed import Listed, listed
from model.registry import CHAMPION
from ops import promotion
from ops.console.view import Fields, View
from ops.errors import OpsError
from ops.promotion import Weighed
from ops.thresholds_admin import Written

HISTORY_SHOWN = 12
FOLLOW_TIMEOUT_S = 60.0  # a worker loads, verifies and warms up before it switches
FOLLOW_POLL_S = 0.25
READ_AGAIN_S = 10.0


class ModelsView(View):
    """No query: a page of one list."""

    name = "models"
    title = "Models"
    regions: ClassVar = {"promote": "models/promote.html", "list": "models/list.html", "history": "models/history.html"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.models: list[Listed] | None = None
        self.changes: Sequence[Change] = ()
        self.weighed: Weighed | None = None
        self.weighing = ""
        self.going_back = False
        self.written: Written | None = None
        self.followed: dict[str, bool] = {}
        self.done = True

    async def open(self) -> None:
        await self.desk.feed.looked.wait()
        await self._read()

    async def _read(self) -> None:
        self.models = await asyncio.to_thread(self._list)
        self.changes = await asyncio.to_thread(self.desk.registry.changes, CHAMPION)

    def _list(self) -> list[Listed]:
        return list(reversed(listed(self.desk.registry)))

    def context(self) -> dict[str, Any]:
        return {
            "models": self.models, "changes": list(reversed(self.changes))[:HISTORY_SHOWN], "weighed": self.weighed,
            "weighing": self.weighing, "going_back": self.going_back, "written": self.written,
            "followed": self.followed, "done": self.done, "active": self.desk.feed.now.redis.model,
            "folder": str(self.desk.registry.models_dir),
        }  # fmt: skip

    def verbs(self) -> Mapping[str, Callable[[Fields], Coroutine[Any, Any, None]]]:
        return {
            "weigh": self._weigh, "promote": self._promote, "goback": self._ask_back, "rollback": self._roll_back,
            "cancel": self._cancel,
        }  # fmt: skip

    async def _cancel(self, _: Fields) -> None:
        self.weighed, self.weighing, self.going_back = None, "", False

    async def _weigh(self, fields: Fields) -> None:
        await self._cancel(fields)
        self.weighing = fields.get("version", "")
        self.beside(self._do_weigh(self.weighing))

    async def _do_weigh(self, version: str) -> None:
        try:
            admin = self.desk.admin(self.session)
            self.weighed = await asyncio.to_thread(promotion.weigh, admin, self.desk.registry, version)
        finally:
            self.weighing = ""

    async def _promote(self, fields: Fields) -> None:
        self.must_write()
        if self.weighed is None:
            raise OpsError("choose a model first.")
        weighed, why = self.weighed, fields.get("why", "").strip()
        if not why:
            raise OpsError("a promotion takes a reason: it is what the history will say.")
        self.weighed = None
        self.beside(self._do(lambda: promotion.promote(
            self.desk.admin(self.session), weighed, why, force=fields.get("force") == "yes"
        )))  # fmt: skip

    async def _ask_back(self, fields: Fields) -> None:
        await self._cancel(fields)
        self.going_back = True

    async def _roll_back(self, fields: Fields) -> None:
        self.must_write()
        self.going_back, why = False, fields.get("why", "").strip()
        self.beside(self._do(lambda: promotion.roll_back(self.desk.admin(self.session), self.desk.registry, why)))

    async def _do(self, write: Callable[[], Written]) -> None:
        self.tell("Verifying the artefact, then promoting …")
        self.written = await asyncio.to_thread(write)
        self.followed, self.done = {}, False
        self.desk.feed.look_again()
        await self._read()
        await self._watch(self.written)

    async def _watch(self, written: Written) -> None:
        """Until every worker serves it, or the time is up."""
        admin, deadline_s = self.desk.admin(self.session), time.monotonic() + FOLLOW_TIMEOUT_S
        while not self.done and self.written is written:
            beats = await asyncio.to_thread(admin.workers)
            self.followed = {name: beat.get("model") == written.model for name, beat in beats.items()}
            self.done = all(self.followed.values()) or time.monotonic() >= deadline_s
            self.changed.set()
            await asyncio.sleep(FOLLOW_POLL_S)
