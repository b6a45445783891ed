"""What is said when Kafka refuses or does not answer: one sentence that names the cause and the setting to look at.

Two kinds: `KafkaRefuses` is wrong and stays wrong (a password, a certificate, a right), any other `TagstreamError`
may pass (a broker that is away). aiokafka and OpenSSL say the cause somewhere down the chain of an exception; here
it is found. Knows no client.
"""

import re
import ssl
from collections.abc import Iterable

from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from streamer.adapters.tls_words import causes, certificate_fault
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

DOCS = "docs/security.md"
REFUSED_RIGHT = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)

_REFUSED_LOGIN = (AuthenticationFailedError, SaslAuthenticationFailed)
_UNREACHABLE = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, OSError, TimeoutError)
# TLS alerts by which a broker says what it thinks of the client's certificate.
_WANTS_CERTIFICATE = re.compile("CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE")
_REFUSES_CERTIFICATE = re.compile("ALERT_(BAD_CERT|UNKNOWN_CA|CERTIFICATE_|UNSUPPORTED_CERT|ACCESS_DENIED|DECRYPT_ERR)")
_NO_TLS = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNKNOWN_PROTOCOL|HTTP_REQUEST")


class KafkaRefuses(TagstreamError):
    """Kafka answers, and says no: waiting does not help."""


def principal(settings: Settings) -> str:
    """How a person finds this client in Kafka's ACLs."""
    if settings.kafka_security_protocol.startswith("SASL"):
        return f"User:{settings.kafka_sasl_username}"
    if settings.kafka_security_protocol == "SSL" and settings.kafka_ssl_certfile is not None:
        return f"the certificate {settings.kafka_ssl_certfile.name}"
    return "User:ANONYMOUS"


def right_refused(settings: Settings, right: str, rights: Iterable[str]) -> KafkaRefuses:
    """`right`: what is missing in words (`read tracks.tags`), `rights`: what to give (`Read on topic tracks.tags`)."""
    given = ", ".join(rights)
    return KafkaRefuses(f"Kafka does not allow {principal(settings)} to {right}: give it {given} ({DOCS}).")


def kafka_error(settings: Settings, error: BaseException, does: str = "") -> TagstreamError:
    """The sentence for an error of aiokafka; `does` is Read or Write where the client only does that."""
    for cause in causes(error):
        told = _refusal(settings, cause, does)
        if told is not None:
            return told
    return TagstreamError(_unreachable(settings, error))


def _refusal(settings: Settings, cause: BaseException, does: str) -> TagstreamError | None:
    where = settings.kafka_bootstrap
    if isinstance(cause, _REFUSED_LOGIN):
        return KafkaRefuses(
            f"Kafka at {where} refuses the login of {settings.kafka_sasl_username!r} "
            f"(TAGSTREAM_KAFKA_SASL_USERNAME, TAGSTREAM_KAFKA_SASL_PASSWORD): {_text(cause)}."
        )
    if isinstance(cause, UnsupportedSaslMechanismError | IllegalSaslStateError):
        mechanism = settings.kafka_sasl_mechanism
        return KafkaRefuses(
            f"Kafka at {where} takes no login by {mechanism} at this port (TAGSTREAM_KAFKA_SASL_MECHANISM)."
        )
    if isinstance(cause, REFUSED_RIGHT):
        return _right_of(settings, cause, does)
    if isinstance(cause, ssl.SSLError):
        return _tls(settings, cause)
    if isinstance(cause, KafkaError) and not isinstance(cause, _UNREACHABLE):
        return TagstreamError(f"Kafka at {where} refused: {_text(cause)}.")
    return None


def _right_of(settings: Settings, cause: BaseException, does: str) -> KafkaRefuses:
    if isinstance(cause, GroupAuthorizationFailedError):
        group = _text(cause).rpartition(" ")[2] if cause.args else settings.group  # "Unable to ... for GROUP", or GROUP
        return right_refused(settings, f"be in the group {group}", [f"Read on group {group}"])
    if isinstance(cause, ClusterAuthorizationFailedError):
        return KafkaRefuses(f"Kafka does not allow {principal(settings)} this on the cluster: {DOCS} lists the rights.")
    named = cause.args[0] if cause.args else ""
    topics = sorted(str(name) for name in (named if isinstance(named, set | frozenset | list | tuple) else [named]))
    rights = [f"{does or 'the rights it needs'} on topic {topic}" for topic in topics]
    return right_refused(settings, f"{(does or 'use').lower()} {', '.join(topics)}", rights)


def _tls(settings: Settings, cause: ssl.SSLError) -> TagstreamError | None:
    where, text = settings.kafka_bootstrap, str(cause).upper()
    if isinstance(cause, ssl.SSLCertVerificationError):
        fault = certificate_fault(cause)
        return KafkaRefuses(f"Kafka at {where} is not trusted: {fault} (TAGSTREAM_KAFKA_SSL_CAFILE).")
    own = settings.kafka_ssl_certfile
    if _REFUSES_CERTIFICATE.search(text) and own is not None:
        reason = cause.reason or text
        return KafkaRefuses(f"Kafka at {where} refuses the certificate TAGSTREAM_KAFKA_SSL_CERTFILE={own} ({reason}).")
    if _WANTS_CERTIFICATE.search(text) or _REFUSES_CERTIFICATE.search(text):
        return KafkaRefuses(
            f"Kafka at {where} wants a client certificate: set TAGSTREAM_KAFKA_SSL_CERTFILE and "
            "TAGSTREAM_KAFKA_SSL_KEYFILE, or go to a port that takes a login."
        )
    if _NO_TLS.search(text):
        return KafkaRefuses(f"what answers at {where} speaks no TLS (TAGSTREAM_KAFKA_SECURITY_PROTOCOL).")
    return None


def _unreachable(settings: Settings, error: BaseException) -> str:
    said = f"no Kafka broker answers at {settings.kafka_bootstrap}"
    reason = _text(error)
    hung_up = any(isinstance(one, ConnectionResetError | EOFError | ssl.SSLEOFError) for one in causes(error))
    if hung_up or reason.endswith("closed"):
        protocol = settings.kafka_security_protocol
        return f"{said}: what is there hangs up; is that port for {protocol} (TAGSTREAM_KAFKA_SECURITY_PROTOCOL)?"
    return f"{said}: {reason} (TAGSTREAM_KAFKA_BOOTSTRAP)."


def _text(error: BaseException) -> str:
    """The message without aiokafka's `[Error 7]` and `KafkaError:` around it."""
    told = error.args[0] if isinstance(error, KafkaError) and error.args else str(error)
    return (str(told) or type(error).__name__).rstrip(".")
