"""Real Kafka and Redis for tests: one pair for the whole session, and own ones for tests that break them.

Where they cannot be had (no network for the jars, no Java) the tests that need them are skipped and say why;
with TAGSTREAM_REQUIRE_REAL=1, as in CI, they fail instead, so that a green run always means a real run.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from ops.errors import OpsError
from ops.local.services import Services, services_from_environment_or_start, start_services

REQUIRE_REAL_VARIABLE = "TAGSTREAM_REQUIRE_REAL"

StartedT = TypeVar("StartedT")


class OwnServices(Protocol):
    """Starts services that belong to one test alone."""

    def __call__(self, *, brokers: int = 1, kafka: bool = True, redis: bool = True) -> Services: ...


def start_or_skip(start: Callable[[], StartedT]) -> StartedT:
    """What `start` starts; where it cannot, the test is skipped, or fails where everything must be real."""
    try:
        return start()
    except OpsError as error:
        if os.environ.get(REQUIRE_REAL_VARIABLE) == "1":
            pytest.fail(f"{REQUIRE_REAL_VARIABLE}=1: nothing is skipped: {error}", pytrace=False)
        pytest.skip(f"not to be had here: {error}")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """One broker and one Redis for the whole session, or those that the environment names."""
    folder = tmp_path_factory.mktemp("services")
    started = start_or_skip(lambda: services_from_environment_or_start(data_dir=folder, die_with_parent=True))
    with started:
        yield started


@pytest.fixture(scope="session")
def kafka_bootstrap(services: Services) -> str:
    """The session's Kafka."""
    return services.kafka_bootstrap


@pytest.fixture(scope="session")
def redis_url(services: Services) -> str:
    """The session's Redis."""
    return services.redis_url


@pytest.fixture
def own_services(tmp_path: Path) -> Iterator[OwnServices]:
    """A factory of services that this test may kill, stop, empty and restart; never the environment's."""
    started: list[Services] = []

    def start(*, brokers: int = 1, kafka: bool = True, redis: bool = True) -> Services:
        folder = tmp_path / f"services-{len(started)}"
        services = start_or_skip(
            lambda: start_services(data_dir=folder, die_with_parent=True, brokers=brokers, kafka=kafka, redis=redis)
        )
        started.append(services)
        return services

    yield start
    for services in started:
        services.stop()
