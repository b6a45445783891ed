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

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError
from aiokafka.helpers import create_ssl_context

from streamer.adapters.kafka_words import KafkaRefuses, kafka_error
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

CONNECT_TIMEOUT_S = 8.0  # a person who mistyped an address should not wait longer than this
STOP_TIMEOUT_S = 8.0  # a client whose broker went away must not hang the command's end


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
            password="",  # an encrypted key is refused: without this OpenSSL would ask a terminal, and hang elsewhere
        )
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise TagstreamError(f"the certificates for Kafka cannot be used ({_files(settings)}): {error}.") from None


def _files(settings: Settings) -> str:
    named = {name: getattr(settings, f"kafka_ssl_{name}") for name in ("cafile", "certfile", "keyfile")}
    return ", ".join(f"TAGSTREAM_KAFKA_SSL_{name.upper()}={path}" for name, path in named.items() if path is not None)


@contextmanager
def telling_kafka_errors(settings: Settings, does: str = "") -> Iterator[None]:
    """Turn aiokafka's errors inside the block into one `TagstreamError`; others (a closed pipe, say) pass.

    `does` is Read or Write where the client only does that.
    """
    try:
        yield
    except KafkaError as error:
        raise kafka_error(settings, error, does) from error


class _Complaints(logging.Handler):
    """Keeps the exceptions that aiokafka logged: the causes that its own exception leaves out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.errors += [argument for argument in arguments if isinstance(argument, Exception)]

    def told(self, settings: Settings) -> TagstreamError | None:
        """What they amount to: of several brokers the one that says no, else the last."""
        told = [kafka_error(settings, error) for error in self.errors]
        refusals = [one for one in told if isinstance(one, KafkaRefuses)]
        return (refusals or told or [None])[-1]


@contextmanager
def _listening() -> Iterator[_Complaints]:
    listener = _Complaints()
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
        KafkaRefuses: a broker says no to who we are, or to what we want.
        TagstreamError: no broker answers within `timeout_s`.
    """
    with _listening() as complaints, telling_kafka_errors(settings, _does(client)):
        try:
            await _start(client, settings, complaints, timeout_s)
            yield client
        except NodeNotReadyError as error:  # the broker that was advertised; why is in the log
            raise complaints.told(settings) or error from error
        finally:
            await _stop(client)


def _does(client: _Client) -> str:
    if isinstance(client, AIOKafkaProducer):
        return "Write"
    return "Read" if isinstance(client, AIOKafkaConsumer) else ""


async def _start(client: _Client, settings: Settings, complaints: _Complaints, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await client.start()
    except (KafkaConnectionError, TimeoutError, OSError) as error:
        silence = KafkaConnectionError(f"no answer within {timeout_s:g} s")
        fallback = error if isinstance(error, KafkaConnectionError) else silence
        raise complaints.told(settings) or kafka_error(settings, fallback) from error


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
