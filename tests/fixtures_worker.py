"""Streams for tests: on the session's Kafka and Redis, one per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.services import Services
from tests.harness import Artefacts, Stream


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    """Three small models with fixed weights."""
    return Artefacts.make(tmp_path_factory.mktemp("artefacts"))


@pytest.fixture
def stream(services: Services, artefacts: Artefacts, tmp_path: Path) -> Iterator[Stream]:
    """A stream with topics and a champion; no worker runs yet."""
    made = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts)
    yield made
    made.close()
