"""What every request to the console must pass: the right host, the right origin, a session; and the login itself.

The host is checked because a foreign page may point a name of its own at 127.0.0.1; the origin because browsers let
any page open a websocket anywhere. Reading changes nothing: all that writes comes by the websocket, or is a POST.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from aiohttp import web

from ops.console.access import Door, Session, is_loopback
from ops.console.render import Renderer
from ops.errors import OpsError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)
POLICY = "; ".join(
    [
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
        "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    ]
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
LOGIN, LOGOUT, STATIC = "/login", "/logout", "/static/"
OPEN_TO_ALL = (LOGIN, STATIC)


class Guard:
    """The middleware, and the pages of the login."""

    def __init__(self, door: Door, renderer: Renderer, host: str, *, tls: bool) -> None:
        self._door = door
        self._renderer = renderer
        self._local_only = is_loopback(host)
        self._tls = tls

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse, ask for a login, or let through; and the headers of every answer."""
        try:
            answer = await self._answer(request, handler)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._check_host(request)
        if request.method not in ("GET", "HEAD") or request.headers.get("Upgrade"):
            self._check_origin(request)
        session = self._door.session(request.cookies.get(self.cookie(request)))
        if session is not None:
            request[SESSION] = session
        elif not request.path.startswith(OPEN_TO_ALL):
            if request.headers.get("Upgrade"):
                raise web.HTTPUnauthorized(text="log in first")
            raise web.HTTPSeeOther(f"{LOGIN}?next={quote(request.path_qs)}")
        return await handler(request)

    def _check_host(self, request: web.Request) -> None:
        name = urlsplit(f"//{request.host}").hostname or ""
        if self._local_only and not is_loopback(name):
            raise web.HTTPMisdirectedRequest(text="This console answers to localhost only.")

    def _check_origin(self, request: web.Request) -> None:
        """A browser always names the origin of what is not a plain reading."""
        if urlsplit(request.headers.get("Origin", "")).netloc != request.host:
            raise web.HTTPForbidden(text="This request did not come from a page of this console.")

    @staticmethod
    def cookie(request: web.Request) -> str:
        """Cookies know no ports: two consoles of one machine must not log each other out."""
        return f"tagstream-console-{urlsplit(f'//{request.host}').port or 80}"

    def is_over(self, session: Session) -> bool:
        """Whether an open page's session has ended."""
        return self._door.is_over(session)

    async def login_page(self, request: web.Request) -> web.Response:
        """The form; who is in already goes on."""
        if SESSION in request:
            raise web.HTTPSeeOther(_within(request.query.get("next", "/")))
        return self._form(request, request.query.get("next", "/"), "")

    async def login(self, request: web.Request) -> web.Response:
        """Name and token against the environment's."""
        form = await request.post()
        following = _within(str(form.get("next", "/")))
        try:
            key = self._door.enter(str(form.get("name", "")), str(form.get("token", "")), request.remote or "?")
        except OpsError as error:
            return self._form(request, following, str(error), 429)
        if key is None:
            return self._form(request, following, "That name and token do not go together.", 401)
        answer = web.HTTPSeeOther(following)
        answer.set_cookie(self.cookie(request), key, httponly=True, samesite="Lax", secure=self._tls, path="/")
        raise answer

    async def logout(self, request: web.Request) -> web.Response:
        """End the session."""
        self._door.leave(request.cookies.get(self.cookie(request)))
        answer = web.HTTPSeeOther(LOGIN)
        answer.del_cookie(self.cookie(request), path="/")
        raise answer

    def _form(self, request: web.Request, following: str, error: str, status: int = 200) -> web.Response:
        return self._renderer.response("login.html", request, status, following=following, error=error)


def _within(path: str) -> str:
    """A place of this console, whatever a link asks for."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if safe else "/"
