"""How every Redis client of the product connects, asyncio or not, and what is said when it cannot.

`RedisRefuses` is wrong and stays wrong (a password, a certificate, a right), any other `TagstreamError` may pass.
The password stands in the URL, so no sentence holds the URL.
"""

import re
import ssl
from typing import Any

from redis.connection import parse_url
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from streamer.adapters.tls_words import causes, certificate_fault
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

DOCS = "docs/security.md"
INVALIDATIONS = "__redis__:invalidate"  # the channel of Redis's own pushes
NO_MULTI = "EXEC without MULTI"  # what remains of a MULTI that was refused
_COMMAND = re.compile(r"'([a-z|]+)' command")


class RedisRefuses(TagstreamError):
    """Redis answers, and says no: waiting does not help."""


def connection_options(settings: Settings, timeout_s: float) -> dict[str, Any]:
    """Keyword arguments for any `from_url`: text, bounded waits (seconds), and TLS where the URL is rediss://."""
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }
    if settings.redis_ssl_cafile is not None:
        options["ssl_ca_certs"] = str(settings.redis_ssl_cafile)
    if settings.redis_ssl_certfile is not None:
        options["ssl_certfile"] = str(settings.redis_ssl_certfile)
        options["ssl_keyfile"] = str(settings.redis_ssl_keyfile or settings.redis_ssl_certfile)
        options["ssl_password"] = ""  # an encrypted key is refused: else OpenSSL asks a terminal, and hangs elsewhere
    return options


def redis_error(settings: Settings, error: BaseException) -> TagstreamError:
    """The sentence for an error of redis-py, or of the sockets below it."""
    where, user = _address(settings)
    for cause in causes(error):
        if is_no_right(cause):
            return right_refused(settings, [missing_right(settings, cause)])
        if isinstance(cause, AuthenticationError):
            reason = str(cause).split(",")[0].rstrip(".")
            return RedisRefuses(f"Redis at {where} refuses the login of {user!r} (TAGSTREAM_REDIS_URL): {reason[:80]}.")
        if isinstance(cause, ssl.SSLCertVerificationError):
            fault = certificate_fault(cause)
            return RedisRefuses(f"Redis at {where} is not trusted: {fault} (TAGSTREAM_REDIS_SSL_CAFILE).")
        if isinstance(cause, ssl.SSLError) and "ALERT" in str(cause).upper():
            return RedisRefuses(
                f"Redis at {where} wants another client certificate (TAGSTREAM_REDIS_SSL_CERTFILE): {cause.reason}."
            )
    return TagstreamError(f"Redis at {where} {_silence(settings, error)} (TAGSTREAM_REDIS_URL).")


def right_refused(settings: Settings, rights: list[str]) -> RedisRefuses:
    """`rights` as Redis's ACL writes them: +hset, ~tagstream:*."""
    _, user = _address(settings)
    return RedisRefuses(f"Redis does not allow {user!r} all that it needs: give it {' '.join(rights)} ({DOCS}).")


def is_no_right(answer: object) -> bool:
    """Whether Redis refuses for want of a right; the end of a transaction says so in its own way."""
    if isinstance(answer, NoPermissionError):
        return True
    return isinstance(answer, ResponseError) and any(words in str(answer) for words in ("no permissions", NO_MULTI))


def missing_right(settings: Settings, error: BaseException, tried: str = "") -> str:
    """What to give the user, from Redis's own words; `tried` is the command (6.2 leaves its second word out)."""
    text = f" {error} "
    if " keys " in text:
        return f"~{settings.redis_prefix}*"
    if " channels " in text:
        return f"&{INVALIDATIONS}"
    if NO_MULTI in text:
        return "+multi"
    command = _COMMAND.search(text)
    return f"+{tried or (command[1] if command else 'the command that it lacks')}"


def _address(settings: Settings) -> tuple[str, str]:
    """Where Redis is, without what is secret; and the user."""
    url: dict[str, Any] = dict(parse_url(settings.redis_url.get_secret_value()))
    where = url.get("path") or f"{url.get('host', 'localhost')}:{url.get('port', 6379)}"
    return where, url.get("username") or "default"


def _silence(settings: Settings, error: BaseException) -> str:
    secure = settings.redis_url.get_secret_value().startswith("rediss://")
    found = list(causes(error))
    if any(isinstance(one, ConnectionResetError | EOFError) for one in found) or "closed by server" in str(error):
        return "hangs up: does it want TLS, rediss://?" if not secure else "hangs up in the middle of TLS"
    timed_out = any(isinstance(one, TimeoutError) for one in found) or "imeout" in str(error)
    if secure and timed_out:
        return "does not answer in TLS in time: does it speak TLS at that port?"
    return f"does not answer ({type(error).__name__}: {str(error).rstrip('.')})"


REDIS_FAILURES = (RedisError, OSError, TimeoutError)  # all that a client may raise
