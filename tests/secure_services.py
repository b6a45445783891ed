"""Kafka with TLS, logins and ACLs, as a deployment would have it, for tests.

Certificates of an authority of a moment; a broker that has no port without TLS, its controller and its own traffic
included; rights given and taken by a super user `admin`. Redis is `secure_redis.py`.
"""

import asyncio
import contextlib
import datetime
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trustme
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest
from cryptography.hazmat.primitives import serialization

from ops.local.kafka import KafkaBroker, Node, new_cluster_id
from ops.local.process import free_ports
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_rights import Right, require
from streamer.adapters.kafka_words import KafkaRefuses
from streamer.core.errors import TagstreamError
from streamer.settings import load_settings
from tests.harness import eventually

HOST = "127.0.0.1"
PRINCIPALS = ("admin", "worker", "producer", "trainer", "ops", "nobody")
LITERAL, ALLOW, ANY_HOST = 3, 3, "*"
RESOURCES = {"topic": 2, "group": 3}
ACL_SETTLES_S = 10.0


def password(principal: str) -> str:
    """Each principal's, for Kafka and for Redis."""
    return f"{principal}-secret"


class Certificates:
    """An authority of a moment, a foreign one, and PEM files of key and chain (PKCS 8, as Kafka wants the key)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority, self._foreign = trustme.CA(), trustme.CA()
        self.ca, self.foreign_ca = folder / "ca.pem", folder / "foreign-ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self._foreign.cert_pem.write_to_path(self.foreign_ca)
        self.server = self._issue("server", HOST, "localhost")
        self.other_host = self._issue("other-host", "kafka.example")
        self.expired = self._issue("expired", HOST, not_after=_yesterday())
        self.foreign_client = self._issue("foreign-client", "nobody.example", authority=self._foreign)
        self.expired_client = self._issue("expired-client", "worker.example", not_after=_yesterday())

    def client(self, principal: str) -> Path:
        """The certificate by which a principal logs in."""
        path = self._folder / f"{principal}.pem"
        return path if path.exists() else self._issue(principal, f"{principal}.example")

    def _issue(self, name: str, *hosts: str, authority: trustme.CA | None = None, **more: Any) -> Path:
        made = (authority or self._authority).issue_cert(*hosts, common_name=name, **more)
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._folder / f"{name}.pem"
        path.write_bytes(key + b"".join(pem.bytes() for pem in made.cert_chain_pems))
        return path


def _yesterday() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


class SecureBroker(KafkaBroker):
    """One broker: a port for logins (SCRAM over TLS) and one for client certificates; the last is its own way too."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        port, controller_port, self.mtls_port = free_ports(3)
        node = Node(1, port, controller_port)
        self._certificates = certificates
        store = certificates.server
        overrides = {
            "listeners": f"SCRAM://{HOST}:{port},MTLS://{HOST}:{self.mtls_port},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"SCRAM://{HOST}:{port},MTLS://{HOST}:{self.mtls_port}",
            "listener.security.protocol.map": "SCRAM:SASL_SSL,MTLS:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "MTLS",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.scram.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": store,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": certificates.ca,
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": r"RULE:^.*CN=([^,]+).*$/$1/",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:admin;User:server",
        }
        logins = [f"SCRAM-SHA-512=[name={one},password={password(one)}]" for one in PRINCIPALS]
        super().__init__(
            folder=folder, node=node, nodes=[node], cluster_id=new_cluster_id(), die_with_parent=True,
            overrides=overrides, format_arguments=[word for one in logins for word in ("--add-scram", one)],
        )  # fmt: skip

    def answers(self) -> bool:
        """Whether it lets the admin in; asked only when the port is open."""
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, self.port), timeout=1).close()
            return bool(asyncio.run(self._alive()))
        return False

    async def _alive(self) -> bool:
        settings = load_settings(**self.scram("admin"))
        with contextlib.suppress(TagstreamError):
            async with running(Admin(**client_options(settings)), settings) as admin:
                return bool((await admin.describe_cluster())["brokers"])
        return False

    def scram(self, principal: str) -> dict[str, object]:
        """Settings that log in with a password."""
        return {
            "kafka_bootstrap": self.bootstrap, "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_username": principal, "kafka_sasl_password": password(principal),
            "kafka_ssl_cafile": self._certificates.ca,
        }  # fmt: skip

    def mtls(self, principal: str) -> dict[str, object]:
        """Settings that log in with a certificate."""
        return {
            "kafka_bootstrap": f"{HOST}:{self.mtls_port}", "kafka_security_protocol": "SSL",
            "kafka_ssl_cafile": self._certificates.ca, "kafka_ssl_certfile": self._certificates.client(principal),
        }  # fmt: skip


class Acls:
    """Gives and takes rights on Kafka, as its super user."""

    def __init__(self, broker: SecureBroker) -> None:
        self._settings = load_settings(**broker.mtls("admin"))
        self._broker = broker

    def give(self, principal: str, *rights: Right) -> None:
        """Returns when the broker obeys it."""
        asyncio.run(self._send(CreateAclsRequest, principal, rights))
        eventually(lambda: asyncio.run(self._has(principal, rights)), ACL_SETTLES_S, f"{principal} has {rights}")

    def take(self, principal: str, right: Right) -> None:
        """Returns when the broker obeys it."""
        asyncio.run(self._send(DeleteAclsRequest, principal, [right]))
        eventually(lambda: not asyncio.run(self._has(principal, [right])), ACL_SETTLES_S, f"{principal}: no {right}")

    async def _send(self, request: Any, principal: str, rights: Sequence[Right]) -> None:
        async with running(Admin(**client_options(self._settings)), self._settings) as admin:
            for right in rights:
                entry = RESOURCES[right.resource], right.name, LITERAL, f"User:{principal}", ANY_HOST
                await admin._send_request(request(*entry, int(right.operation), ALLOW))

    async def _has(self, principal: str, rights: Sequence[Right]) -> bool:
        settings = load_settings(**self._broker.mtls(principal))
        async with running(Admin(**client_options(settings)), settings) as admin:
            with contextlib.suppress(KafkaRefuses):
                await require(admin, settings, rights)
                return True
        return False
