"""Faust's form of the connection settings: TLS beside a login must travel inside the credentials, or it is dropped."""

import ssl

import pytest
import trustme
from faust.types.auth import AuthProtocol

from streamer.agents import _credentials
from streamer.core.errors import TagstreamError
from streamer.settings import load_settings

LOGIN = {"kafka_sasl_username": "worker", "kafka_sasl_password": "secret"}


@pytest.fixture
def ca(tmp_path):
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def test_a_login_over_tls_carries_its_context(ca):
    credentials = _credentials(load_settings(kafka_security_protocol="SASL_SSL", kafka_ssl_cafile=ca, **LOGIN))
    assert credentials.protocol is AuthProtocol.SASL_SSL
    assert (credentials.username, credentials.password) == ("worker", "secret")
    context = credentials.ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


def test_tls_without_a_login(ca):
    credentials = _credentials(load_settings(kafka_security_protocol="SSL", kafka_ssl_cafile=ca))
    assert credentials.protocol is AuthProtocol.SSL and credentials.context.verify_mode is ssl.CERT_REQUIRED


def test_plaintext_has_none():
    assert _credentials(load_settings()) is None


def test_an_encrypted_key_is_refused_and_asks_no_terminal(tmp_path, ca):
    from cryptography.hazmat.primitives import serialization

    made = trustme.CA().issue_cert("worker.example")
    key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    path = tmp_path / "worker.pem"
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    path.write_bytes(encrypted + made.cert_chain_pems[0].bytes())
    settings = load_settings(kafka_security_protocol="SSL", kafka_ssl_cafile=ca, kafka_ssl_certfile=path)
    with pytest.raises(TagstreamError, match=r"TAGSTREAM_KAFKA_SSL_CERTFILE=.*worker\.pem"):
        _credentials(settings)
