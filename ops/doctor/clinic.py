"""All checks in order, each finding as it comes."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from ops.doctor.finding import Finding, State, fail
from ops.doctor.kafka import check_kafka
from ops.doctor.machine import check_disks, check_environment, check_packages, check_python, check_torch
from ops.doctor.models import check_models
from ops.doctor.redis import check_redis
from streamer.settings import Settings


def check_machine(settings: Settings) -> Iterator[Finding]:
    yield check_python()
    yield from check_packages()
    yield from check_environment()
    yield from check_torch(settings.device)
    yield from check_disks(settings)


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Machine, Kafka, Redis, models."""
    for finding in _guarded("machine", lambda: check_machine(settings)):
        yield finding
    for check in (check_kafka, check_redis):
        async for finding in check(settings):
            yield finding
    for finding in _guarded("models", lambda: check_models(settings)):
        yield finding


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """A fault that no check foresaw (a file system that breaks) is a finding too, not the end of the others."""
    try:
        yield from check()
    except OSError as error:
        yield fail(name, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), "see the system's log")


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed; warnings are for a working day."""
    return all(finding.state is not State.FAIL for finding in findings)
