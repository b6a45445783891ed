"""One Kafka and one Redis that let nobody in without a login and nobody do what was not allowed, for the session."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from ops.cli import main as cli
from ops.local.jars import kafka_jars
from tests.fixtures_services import start_or_skip
from tests.secure_redis import SecureRedis
from tests.secure_services import Acls, Certificates, SecureBroker


@dataclass
class Secure:
    """The two, who made their certificates, and who gives rights."""

    certificates: Certificates
    broker: SecureBroker
    redis: SecureRedis
    acls: Acls

    def scram(self, principal: str) -> dict[str, object]:
        """Settings that log in to both: by password at Kafka."""
        return {**self.broker.scram(principal), **self.redis.settings(principal)}

    def mtls(self, principal: str) -> dict[str, object]:
        """Settings that log in to both: by certificate at Kafka."""
        return {**self.broker.mtls(principal), **self.redis.settings(principal)}


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """Started once; tests give and take rights of principals, never of `admin`."""
    folder = tmp_path_factory.mktemp("secure")
    certificates = Certificates(folder / "certificates")
    broker = SecureBroker(folder / "kafka", certificates)
    redis = SecureRedis(folder / "redis", certificates)

    def start() -> Secure:
        kafka_jars()
        for process in (redis, broker):
            process.start()
        for process in (redis, broker):
            process.wait_ready()
        return Secure(certificates, broker, redis, Acls(broker))

    try:
        yield start_or_skip(start)
    finally:
        redis.close()
        broker.kill()


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `tagstream WORDS` in this process under the given settings."""

    def call(settings: Mapping[str, object], *words: object) -> Ended:
        with monkeypatch.context() as patched:
            for name, value in settings.items():
                patched.setenv(f"TAGSTREAM_{name.upper()}", str(value))
            patched.setattr(sys, "argv", ["tagstream", *map(str, words)])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        shown = capsys.readouterr()
        return Ended(int(ended.value.code or 0), shown.out, shown.err)

    return call
