"""Templates, and how figures are written in them: units beside numbers, times relative with the exact one on hover.

Everything that is put into a template is escaped, by Jinja; control characters become visible before that.
"""

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ops.kafka_view import printable

THEME_COOKIE = "tagstream-theme"
THEMES = ("light", "dark")
NOTHING = "–"
FILES = {"live.js": "text/javascript", "console.css": "text/css", "icon.svg": "image/svg+xml"}


class Renderer:
    """The package's templates and files."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("ops.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_finalize,
        )
        self.files = {name: resources.files("ops.console").joinpath("static", name).read_bytes() for name in FILES}
        self._environment.filters.update(
            ago=ago,
            count=count,
            share=share,
            ms=ms,
            score=score,
            per_s=per_s,
            size=size,
            signed=signed,
            points=points,
            threshold=threshold,
            short=short,
        )
        self._environment.globals.update(file=self._address, infinity=math.inf)

    def _address(self, name: str) -> str:
        """With the content's digest, so that a browser may keep it for good."""
        return f"/static/{hashlib.sha256(self.files[name]).hexdigest()[:12]}/{name}"

    def text(self, template: str, context: Mapping[str, Any]) -> str:
        """A template as HTML."""
        return self._environment.get_template(template).render(context)

    def response(self, template: str, request: web.Request, status: int = 200, **context: Any) -> web.Response:
        """A whole page, in the theme that the browser asks for."""
        theme = request.cookies.get(THEME_COOKIE, "")
        html = self.text(template, {"theme": theme if theme in THEMES else "", **context})
        return web.Response(text=html, content_type="text/html", status=status, headers={"Cache-Control": "no-store"})


def _finalize(value: Any) -> Any:
    return printable(value) if type(value) is str else value


def ago(ms: float | str | None) -> Markup | str:
    """A time, as the browser then writes it: relative, the exact one on hover."""
    if not ms:
        return NOTHING
    at = datetime.fromtimestamp(float(ms) / 1000, UTC)
    exact = at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03d} UTC"
    return Markup('<time datetime="{}" title="{}" data-ago>{}</time>').format(
        at.isoformat(timespec="milliseconds"), exact, at.strftime("%H:%M:%S")
    )


def count(number: float | None) -> str:
    """A whole number with separators."""
    return NOTHING if number is None else f"{number:,.0f}"


def per_s(number: float | None) -> str:
    """A rate: decimals only where they say something."""
    if number is None:
        return NOTHING
    return f"{number:,.0f}" if number >= 10 or number == 0 else f"{number:.1f}"


def share(number: float | None) -> str:
    """A share in per cent."""
    if number is None:
        return NOTHING
    percent = 100 * number
    return f"{percent:.1f} %" if percent >= 1 or percent == 0 else f"{percent:.2f} %"


def points(number: float | None) -> str:
    """A difference of shares, in percentage points."""
    return NOTHING if number is None else f"{100 * number:+.2f} pp"


def signed(number: float | None) -> str:
    """A difference of counts."""
    if number is None:
        return NOTHING
    return f"{number:+,.0f}" if number else "±0"


def ms(number: float | str | None) -> str:
    """Milliseconds, as seconds where they are many."""
    if number in (None, ""):
        return NOTHING
    value = float(number)
    if value >= 10_000:
        return f"{value / 1000:,.0f} s"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def score(number: float | None) -> str:
    """A score or a probability."""
    return NOTHING if number is None else f"{number:.3f}"


def size(n_bytes: float | None) -> str:
    """Bytes, in the unit that fits."""
    if n_bytes is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            return f"{n_bytes:,.0f} {unit}" if unit == "B" else f"{n_bytes:,.1f} {unit}"
        n_bytes /= 1024
    return NOTHING


def threshold(text: str) -> str:
    """A threshold without the zeros at its end; three decimals at least."""
    if "." not in text:
        return text
    whole, decimals = text.split(".")
    return f"{whole}.{decimals[:3]}{decimals[3:].rstrip('0')}"


def short(text: str) -> str:
    """A threshold to three decimals, where its exact value stands on hover."""
    return text if "." not in text else f"{float(text):.3f}"
