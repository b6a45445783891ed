"""ops/compose/secrets.sh as an operator runs it, and a real Redis with the users it makes."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from ops.console.access import users_of
from ops.console.feed import Feed
from ops.local.process import free_ports
from ops.local.redis import RedisServer
from streamer.settings import Settings, load_settings
from tests.fixtures_services import start_or_skip

pytestmark = pytest.mark.redis

ONCE = Retry(NoBackoff(), 0)
SCRIPT = Path(__file__).parents[2] / "ops" / "compose" / "secrets.sh"


class WithUsers(RedisServer):
    """As docker-compose.yml starts it."""

    def __init__(self, folder: Path, acl: Path) -> None:
        super().__init__(folder=folder, port=free_ports(1)[0], die_with_parent=True)
        self._acl = acl

    def command(self) -> list[str]:
        return [*super().command(), "--aclfile", str(self._acl)]

    def answers(self) -> bool:
        """As its health check asks."""
        try:
            with redis.Redis(port=self.port, username="health", password="none", protocol=2, retry=ONCE) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, folder], check=True, capture_output=True, text=True, timeout=20)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "secrets"
    make(folder)
    return folder


@pytest.fixture(scope="module")
def server(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithUsers]:
    found = WithUsers(tmp_path_factory.mktemp("redis"), secrets / "redis_acl")

    def start() -> None:
        found.start()
        found.wait_ready()

    start_or_skip(start)
    yield found
    found.kill()


def settings(secrets: Path, who: str, server: WithUsers) -> Settings:
    url = re.sub(r"@\w+:6379", f"@127.0.0.1:{server.port}", (secrets / f"redis_{who}_url").read_text().strip())
    return load_settings(redis_url=url, console_users_file=secrets / "console_users")


def test_only_its_owner_may_look_and_a_second_run_changes_nothing(secrets: Path):
    before = {file.name: file.read_bytes() for file in secrets.iterdir()}
    assert secrets.stat().st_mode & 0o077 == 0
    assert "has them already" in make(secrets).stderr
    assert {file.name: file.read_bytes() for file in secrets.iterdir()} == before
    assert len(set(before.values())) == 6 and not re.search(rb"@[A-Z]+@", before["redis_acl"])


def test_each_user_has_its_rights_and_nobody_comes_in_without_a_login(secrets: Path, server: WithUsers):
    with redis.Redis(port=server.port, protocol=2, retry=ONCE) as nobody:
        for words in (("PING",), ("GET", "tagstream:model"), ("AUTH", "worker", "guessed")):
            with pytest.raises(AuthenticationError):
                nobody.execute_command(*words)
    with redis.Redis(port=server.port, username="health", password="none", protocol=2, retry=ONCE) as health:
        assert health.ping()
        with pytest.raises(NoPermissionError):
            health.get("tagstream:model")
    for who, forbidden in (("worker", "scan"), ("ops", "del")):
        url = settings(secrets, who, server).redis_url.get_secret_value()
        with redis.Redis.from_url(url, protocol=2) as client:
            assert client.set("tagstream:model", "m") and client.get("tagstream:model") == b"m"
            for refused in ((forbidden, "tagstream:model"), ("get", "elsewhere"), ("config", "get", "*")):
                with pytest.raises(NoPermissionError):
                    client.execute_command(*refused)


def test_a_person_with_redis_cli_may_do_everything(secrets: Path, server: WithUsers):
    url = settings(secrets, "admin", server).redis_url.get_secret_value()
    with redis.Redis.from_url(url, protocol=2) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"} and client.info("server")


def test_the_console_has_its_user_and_bears_that_ops_may_not_ask_redis_about_itself(secrets: Path, server: WithUsers):
    mine = settings(secrets, "ops", server)
    (user,) = users_of(mine)
    assert user.name == "ops"
    state = Feed(mine)._look_at_redis()
    assert state.asked and not state.error and state.version == ""
