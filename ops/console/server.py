"""The console's one composition root: pages, guard, feed and the server that carries them."""

import asyncio
import signal
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from aiohttp import WSCloseCode, web

from model.registry import Registry
from ops.console import access
from ops.console.deadletters import DeadLettersView
from ops.console.desk import Desk
from ops.console.feed import Feed
from ops.console.guard import LOGIN, LOGOUT, SESSION, Guard
from ops.console.models import ModelsView
from ops.console.overview import OverviewView
from ops.console.render import FILES, Renderer
from ops.console.retained import Retained
from ops.console.thresholds import ThresholdsView
from ops.console.tracks import TracksView
from ops.console.view import MESSAGE_BYTES_MAX, Connection, View, first_paint
from ops.errors import OpsError
from streamer.adapters.kafka_client import quiet_client_logs
from streamer.settings import Settings

PAGES: tuple[type[View], ...] = (OverviewView, ThresholdsView, TracksView, DeadLettersView, ModelsView)
SHUTDOWN_S = 2.0
PING_S = 20.0
CONNECTIONS_MAX = 200

Listening = Callable[[str], None]


class Server:
    """The web application over one desk."""

    def __init__(self, settings: Settings, *, read_only: bool = False) -> None:
        users = access.users_of(settings)
        access.refuse_an_open_door(settings.console_host, users)
        self._settings = settings
        self._renderer = Renderer()
        self._feed = Feed(settings)
        registry = Registry(settings.models_dir)
        self._retained = Retained(settings, registry)
        self._desk = Desk(settings, self._feed, self._renderer, registry, self._retained)
        self._tls = _tls(settings)
        self._guard = Guard(
            access.Door(users, read_only=read_only), self._renderer, settings.console_host, tls=self._tls is not None
        )
        self._sockets: set[web.WebSocketResponse] = set()

    def application(self) -> web.Application:
        """Routes: a page and its websocket each, the login, the files."""
        app = web.Application(middlewares=[self._guard.middleware], client_max_size=MESSAGE_BYTES_MAX)
        app.router.add_get("/", self._home)
        for page in PAGES:
            app.router.add_get(f"/{page.name}", partial(self._page, page))
            app.router.add_get(f"/live/{page.name}", partial(self._live, page))
        app.router.add_get(LOGIN, self._guard.login_page)
        app.router.add_post(LOGIN, self._guard.login)
        app.router.add_post(LOGOUT, self._guard.logout)
        app.router.add_get("/static/{digest}/{name}", self._file)
        app.on_startup.append(self._start)
        app.on_cleanup.append(self._stop)
        app.on_shutdown.append(self._hang_up)
        return app

    async def _start(self, _: web.Application) -> None:
        await self._feed.start()

    async def _stop(self, _: web.Application) -> None:
        await self._retained.stop()
        await self._feed.stop()

    async def _hang_up(self, _: web.Application) -> None:
        for socket in tuple(self._sockets):
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(socket.close(code=WSCloseCode.GOING_AWAY), 0.5)

    async def _home(self, _: web.Request) -> web.Response:
        raise web.HTTPSeeOther(f"/{PAGES[0].name}")

    async def _page(self, page: type[View], request: web.Request) -> web.Response:
        view = page(self._desk, request[SESSION], request.query)
        try:
            regions = await first_paint(view)
        finally:
            await view.close()
        return self._renderer.response(f"{page.name}.html", request, pages=PAGES, regions=regions, **view.everything())

    async def _live(self, page: type[View], request: web.Request) -> web.StreamResponse:
        if len(self._sockets) >= CONNECTIONS_MAX:
            raise web.HTTPServiceUnavailable(text="too many pages are open")
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MESSAGE_BYTES_MAX)
        await socket.prepare(request)
        self._sockets.add(socket)
        session = request[SESSION]
        try:
            view = page(self._desk, session, request.query)
            await Connection(socket, view, partial(self._guard.is_over, session)).run()
        finally:
            self._sockets.discard(socket)
        return socket

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in FILES:
            raise web.HTTPNotFound
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return web.Response(body=self._renderer.files[name], content_type=FILES[name], headers=headers)

    async def serve(self, listening: Listening) -> None:
        """Until SIGINT or SIGTERM; `listening` is told the address once it answers.

        Raises:
            OpsError: the address cannot be listened on.
        """
        quiet_client_logs()
        host, port = self._settings.console_host, self._settings.console_port
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port, ssl_context=self._tls).start()
            except OSError as error:
                raise OpsError(
                    f"the console cannot listen on {host}:{port}: {error.strerror or error} (TAGSTREAM_CONSOLE_PORT)."
                ) from None
            scheme, shown = ("https" if self._tls else "http"), (f"[{host}]" if ":" in host else host)
            listening(f"{scheme}://{shown}:{runner.addresses[0][1]}")
            await _told_to_end()
        finally:
            await runner.cleanup()


async def _told_to_end() -> None:
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await told.wait()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    certificate = settings.console_ssl_certfile
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, settings.console_ssl_keyfile, password="")
    except (OSError, ValueError) as error:
        raise OpsError(f"the console's certificate cannot be used (TAGSTREAM_CONSOLE_SSL_CERTFILE): {error}.") from None
    return context
