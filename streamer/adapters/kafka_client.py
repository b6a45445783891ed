"""How every Kafka client of the product connects, and what is said when it cannot.

aiokafka tells *why* a bootstrap failed only to its log and raises "unable to bootstrap"; a person needs the
cause in one sentence. So the log is listened to while a client starts, and every way of failing becomes one
`TagstreamError`.
Knows nothing of topics or records.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.helpers import create_ssl_context

from streamer.core.errors import TagstreamError
from streamer.settings import Settings

CONNECT_TIMEOUT_S = 8.0  # a person who mistyped an address should not wait longer than this
STOP_TIMEOUT_S = 8.0  # a client whose broker went away must not hang the command's end

_REFUSED_LOGIN = (AuthenticationFailedError, SaslAuthenticationFailed, UnsupportedSaslMechanismError)
_REFUSED_RIGHT = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
)
_UNREACHABLE = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError)


class _Client(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


ClientT = TypeVar("ClientT", bound=_Client)


def client_options(settings: Settings) -> dict[str, Any]:
    """The connection part of any aiokafka client's keyword arguments.

    Raises:
        TagstreamError: when no broker is named, or a certificate file cannot be used.
    """
    servers = [server.strip() for server in settings.kafka_bootstrap.split(",") if server.strip()]
    if not servers:
        raise TagstreamError("TAGSTREAM_KAFKA_BOOTSTRAP names no broker: it wants host:port, separated by commas.")
    options: dict[str, Any] = {
        "bootstrap_servers": servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        return create_ssl_context(
            cafile=settings.kafka_ssl_cafile,
            certfile=settings.kafka_ssl_certfile,
            keyfile=settings.kafka_ssl_keyfile,
        )
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise TagstreamError(f"the certificates for Kafka (TAGSTREAM_KAFKA_SSL_*) cannot be used: {error}.") from None


@contextmanager
def telling_kafka_errors(settings: Settings) -> Iterator[None]:
    """Turn aiokafka's errors inside the block into one `TagstreamError`; others (a closed pipe, say) pass."""
    try:
        yield
    except KafkaError as error:
        raise TagstreamError(_sentence(settings, error)) from error


def _sentence(settings: Settings, error: BaseException) -> str:
    where = settings.kafka_bootstrap
    if isinstance(error, _REFUSED_LOGIN):
        return f"Kafka at {where} refuses the login (TAGSTREAM_KAFKA_SASL_*): {error}."
    if isinstance(error, _REFUSED_RIGHT):
        return f"Kafka at {where} does not allow this: {error}."
    if isinstance(error, _UNREACHABLE):
        reason = error.args[0] if error.args else type(error).__name__
        return f"no Kafka broker answers at {where}: {reason} (TAGSTREAM_KAFKA_BOOTSTRAP)."
    return f"Kafka at {where} refused: {error}."


class _LastComplaint(logging.Handler):
    """Keeps the last exception that aiokafka logged: the cause that its own exception leaves out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.error = next((arg for arg in reversed(arguments) if isinstance(arg, Exception)), self.error)


@contextmanager
def _listening() -> Iterator[_LastComplaint]:
    listener = _LastComplaint()
    logger = logging.getLogger("aiokafka")
    logger.addHandler(listener)
    try:
        yield listener
    finally:
        logger.removeHandler(listener)


@asynccontextmanager
async def running(client: ClientT, settings: Settings, timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncIterator[ClientT]:
    """Start `client` (a consumer, a producer or `Admin`), yield it, and stop it whatever happens.

    Errors inside the block are told in one sentence too.

    Raises:
        TagstreamError: when no broker answers within `timeout_s`, or one refuses.
    """
    with telling_kafka_errors(settings):
        try:
            await _start(client, timeout_s)
            yield client
        finally:
            await _stop(client)


async def _start(client: _Client, timeout_s: float) -> None:
    with _listening() as complaints:
        try:
            async with asyncio.timeout(timeout_s):
                await client.start()
        except (KafkaConnectionError, TimeoutError, OSError) as error:
            cause = complaints.error or error
            if isinstance(cause, KafkaError) and not isinstance(cause, KafkaConnectionError):
                raise cause from None
            reason = cause.args[0] if isinstance(cause, KafkaError) and cause.args else str(cause)
            raise KafkaConnectionError(reason or f"no answer within {timeout_s:g} s") from None


async def _stop(client: _Client) -> None:
    """A stop that cannot finish (its broker is gone) is given up: the command's own outcome counts."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await client.stop()
    except (KafkaError, TimeoutError, OSError) as error:
        logging.getLogger(__name__).debug("a Kafka client did not stop cleanly: %r", error)


class Admin(AIOKafkaAdminClient):
    """aiokafka's admin client with the `stop` that its consumer and producer have."""

    async def stop(self) -> None:
        await self.close()


def quiet_client_logs() -> None:
    """Keep aiokafka's log off a command's stderr: what matters of it reaches the person as one sentence."""
    logger = logging.getLogger("aiokafka")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
