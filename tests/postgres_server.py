"""A real PostgreSQL for one test: Debian's server on loopback, as a user that is not root, with data of its own."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from ops.errors import OpsError
from ops.local.process import LocalProcess, free_ports

DEBIAN = Path("/usr/lib/postgresql")
INITDB_TIMEOUT_S = 60
UNPRIVILEGED = ("nobody", "postgres")  # who runs it where the tests run as root, which PostgreSQL refuses


def find_binaries() -> Path:
    """The folder of initdb and postgres: Debian's newest, else that of PATH."""
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda found: int(found.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if not found:
        raise OpsError("no PostgreSQL server: install it (on Debian `apt-get install postgresql`).")
    return Path(found).parent


class PostgresServer(LocalProcess):
    """PostgreSQL that does not wait for the disk; its folder is gone when it is closed."""

    title, name = "PostgreSQL", "postgres"

    def __init__(self) -> None:
        # Not below pytest's folders, which another user may not enter.
        super().__init__(folder=Path(tempfile.mkdtemp(prefix="tagstream-postgres-")), die_with_parent=True)
        self.port = free_ports(1)[0]
        self.dsn = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        self._binaries = find_binaries()
        self._data = self.folder / "data"
        self._user = None if os.geteuid() else next(user for user in pwd.getpwall() if user.pw_name in UNPRIVILEGED)

    def prepare(self) -> None:
        if self._data.exists():
            return
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        wanted = ["initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        made = subprocess.run(
            self._unprivileged(wanted),
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_S,
        )
        if made.returncode:
            raise OpsError(f"initdb failed: {made.stderr.strip()[-300:]}")

    def command(self) -> list[str]:
        settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", "fsync=off")
        options = [part for setting in settings for part in ("-c", setting)]
        return self._unprivileged(["postgres", "-D", str(self._data), "-p", str(self.port), *options])

    def _unprivileged(self, command: list[str]) -> list[str]:
        command = [str(self._binaries / command[0]), *command[1:]]
        if self._user is None:
            return command
        user = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        return ["setpriv", *user, *command]

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            return subprocess.run(ready, check=False, timeout=5).returncode == 0
        return False

    def close(self) -> None:
        """End it, and leave nothing behind."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
