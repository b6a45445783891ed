"""A page that is alive: rendered whole for the first paint, and then, over a websocket, region by region as it changes.

A view is one open page of one person. Its regions are templates; whatever an action or the feed changes, the regions
are rendered again and only those whose HTML differs are sent. So nothing is ever out of step, a page that reconnects
is simply rendered anew, and what browsers send is a verb with a few texts.

Notable choices:
- Verbs that come in floods (a slider that moves, a search as it is typed) are kept once each: the newest wins.
- An action that fails by a person's mistake, or because Redis or Kafka is away, becomes a notice, never a dead page.
"""

import asyncio
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import urlencode

from aiohttp import WSMsgType, web

from model.errors import ModelError
from ops.console.access import Session
from ops.errors import OpsError
from streamer.core.errors import TagstreamError

if TYPE_CHECKING:
    from ops.console.desk import Desk

MISTAKES = (OpsError, TagstreamError, ModelError)
FRAME_S = 0.04  # at least between two sendings
FIRST_PAINT_S = 0.15  # what the page waits for before it is shown without
MESSAGE_BYTES_MAX = 16 * 1024
OPEN_S = 0.5  # what the first sending waits for
ACTIONS_MAX = 32  # waiting; who clicks faster is told
NOTICE_S = 12.0
NOTICES_MAX = 4

Fields = Mapping[str, str]
logger = logging.getLogger(__name__)


class Notice(NamedTuple):
    """Something to tell a person, for a while."""

    number: int
    text: str
    level: str  # good, note or bad
    until_s: float


class View:
    """What all pages have in common; a page says its regions and what its verbs do."""

    name: ClassVar[str]
    title: ClassVar[str]
    regions: ClassVar[Mapping[str, str]]  # id -> template
    newest_wins: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, desk: "Desk", session: Session, query: Mapping[str, str]) -> None:
        self.desk = desk
        self.session = session
        self.query = dict(query)
        self.changed = asyncio.Event()
        self._notices: list[Notice] = []
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure = ""
        self.kept: dict[str, tuple[Hashable, str]] = {}  # by region: what it depended on, and its HTML

    async def open(self) -> None:
        """Read what the page shows at first."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Be told of news while the page is open."""
        with self.desk.feed.watched(self.changed):
            yield

    async def refresh(self) -> None:
        """Bring up to date what is derived from the feed; called before each sending, so cheap where nothing is new."""

    async def refreshed(self) -> None:
        """The same, with its failure told once."""
        try:
            await self.refresh()
            self._failure = ""
        except MISTAKES as error:
            if str(error) != self._failure:
                self._failure = str(error)
                self.tell(str(error), "bad")

    def context(self) -> dict[str, Any]:
        """What the templates may use."""
        return {}

    def fresh_for(self, region: str) -> Hashable:
        """What a large region depends on: while it is equal the region is not rendered again. None: always."""
        return None

    def verbs(self) -> Mapping[str, Callable[[Fields], Coroutine[Any, Any, None]]]:
        """What may be asked of the page."""
        return {}

    def address(self) -> str:
        """The page as it is now, so that it can be shared and reloaded."""
        query = {name: value for name, value in self.query.items() if value}
        return f"/{self.name}" + (f"?{urlencode(query)}" if query else "")

    def everything(self) -> dict[str, Any]:
        """The context with what every page has."""
        now_s = time.monotonic()
        self._notices = [notice for notice in self._notices if notice.until_s > now_s]
        return {
            "view": self, "session": self.session, "now": self.desk.feed.now, "notices": self._notices,
            **self.context(),
        }  # fmt: skip

    def tell(self, text: str, level: str = "note") -> None:
        """Show a notice."""
        notice = Notice(next(self._numbers), text, level, time.monotonic() + NOTICE_S)
        self._notices = [*self._notices, notice][-NOTICES_MAX:]
        self.changed.set()

    def must_write(self) -> None:
        """That this person may change something.

        Raises:
            OpsError: for a reader.
        """
        if not self.session.may_write:
            raise OpsError(f"{self.session.name} may look, not change: ask for the role write.")

    async def act(self, verb: str, fields: Fields) -> None:
        """Do what a browser asks for."""
        do = self.verbs().get(verb)
        if do is not None:
            await self._with_care(do(fields))

    def beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something long while the page goes on."""
        task = asyncio.create_task(self._with_care(work))
        task.add_done_callback(lambda _: self.changed.set())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _with_care(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except MISTAKES as error:
            self.tell(str(error), "bad")
        except Exception:
            logger.exception("an action of the console failed")
            self.tell("That failed inside the console; its log says why.", "bad")

    async def close(self) -> None:
        """The person has gone: what only they wanted ends."""
        for task in tuple(self._tasks):
            task.cancel()


async def first_paint(view: View) -> dict[str, str]:
    """The regions for the page itself; what takes longer comes by the websocket."""
    try:
        async with asyncio.timeout(FIRST_PAINT_S):
            await view._with_care(view.open())
            await view.refreshed()
    except TimeoutError:
        pass
    return rendered(view)


def rendered(view: View) -> dict[str, str]:
    """Every region as HTML."""
    context = view.everything()
    found = {}
    for region, template in {**COMMON_REGIONS, **view.regions}.items():
        key = view.fresh_for(region)
        if key is None or view.kept.get(region, (None, ""))[0] != key:
            view.kept[region] = (key, view.desk.renderer.text(template, context))
        found[region] = view.kept[region][1]
    return found


COMMON_REGIONS = {"notices": "notices.html", "standing": "standing.html"}


class Connection:
    """One websocket and its view: a reader that never waits, and a worker that acts, renders and sends."""

    def __init__(self, socket: web.WebSocketResponse, view: View, is_over: Callable[[], bool]) -> None:
        self._socket = socket
        self._view = view
        self._is_over = is_over  # the session
        self._newest: dict[str, Fields] = {}
        self._queue: deque[tuple[str, Fields]] = deque()
        self._sent: dict[str, str] = {}
        self._address = view.address()

    async def run(self) -> None:
        """Until the browser goes."""
        view = self._view
        with view.watching():
            # what the page shows already is not to be replaced by less, unless that takes long
            await asyncio.wait({view.beside(view.open())}, timeout=OPEN_S)
            worker = asyncio.create_task(self._work())
            reader = asyncio.create_task(self._read())
            try:
                await asyncio.wait({worker, reader}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (worker, reader):
                    task.cancel()
                for ended in await asyncio.gather(worker, reader, return_exceptions=True):
                    if isinstance(ended, Exception) and not isinstance(ended, ConnectionError):
                        logger.error("a page of the console ended", exc_info=ended)
                await view.close()
                await self._socket.close()

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                return
            asked = _parsed(message.data)
            if asked is None:
                return
            verb, fields = asked
            if verb in self._view.newest_wins:
                self._newest[verb] = fields
            elif len(self._queue) < ACTIONS_MAX:
                self._queue.append((verb, fields))
            else:
                self._view.tell("Too much at once: the last click was not taken.", "bad")
            self._view.changed.set()

    async def _work(self) -> None:
        while not self._socket.closed and not self._is_over():
            self._view.changed.clear()
            newest, self._newest = self._newest, {}
            waiting, self._queue = self._queue, deque()
            for verb, fields in (*newest.items(), *waiting):
                await self._view.act(verb, fields)
            await self._view.refreshed()
            await self._send()
            await asyncio.sleep(FRAME_S)
            await self._view.changed.wait()

    async def _send(self) -> None:
        regions = rendered(self._view)
        news = {name: html for name, html in regions.items() if self._sent.get(name) != html}
        message: dict[str, Any] = {"regions": news} if news else {}
        if (address := self._view.address()) != self._address:
            message["address"] = self._address = address
        if message:
            self._sent = regions
            await self._socket.send_json(message)


def _parsed(data: str) -> tuple[str, Fields] | None:
    """A verb with its texts; None for what no page of ours sends."""
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict) or not isinstance(asked.get("do"), str):
        return None
    fields = {name: value for name, value in asked.items() if isinstance(value, str) and name != "do"}
    return asked["do"], fields
