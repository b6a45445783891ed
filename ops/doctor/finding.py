"""What a check found: one line for a person, with the remedy where something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How it stands."""

    OK = "ok"
    SKIP = "skip"  # could not be looked at, which need not be wrong
    WARN = "warn"  # works, but will hurt
    FAIL = "fail"  # a worker cannot work, or would do wrong


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` is empty only where nothing is to be done."""

    check: str
    state: State
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    return Finding(check, State.OK, what)


def skip(check: str, what: str, remedy: str = "") -> Finding:
    return Finding(check, State.SKIP, what, remedy)


def warn(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, State.WARN, what, remedy)


def fail(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, State.FAIL, what, remedy)


class Broken(Exception):
    """Ends the checks of one organ with a finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


@contextmanager
def failing(check: str, remedy: str, *kinds: type[Exception]) -> Iterator[None]:
    """The errors of these kinds inside the block as a finding."""
    try:
        yield
    except kinds as error:
        raise Broken(fail(check, str(error).rstrip("."), remedy)) from error
