"""Logs: one JSON object a line for machines, plain lines for people."""

import io
import json
import logging
from types import SimpleNamespace

import pytest

from streamer.adapters.logs import JsonFormatter, Seldom, configure_logging


@pytest.fixture
def stderr(monkeypatch):
    """What is logged to stderr; logging is put back as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("faust", "mode", "aiokafka", "kafka")}
    monkeypatch.setattr(logging.getLogger("aiokafka"), "propagate", True)  # a command may have silenced it
    stream = io.StringIO()
    monkeypatch.setattr("streamer.adapters.logs.sys", SimpleNamespace(stderr=stream))
    yield stream
    root.handlers[:], root.level = before
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)


def test_one_json_object_a_line(stderr):
    configure_logging("w-1", "info", "auto")
    logging.getLogger("streamer.test").warning("two\nlines of %s and a %r", "élan", "\ud800")
    (line,) = stderr.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("at").endswith("+00:00")
    assert entry == {
        "level": "warning", "logger": "streamer.test", "message": "two\nlines of élan and a '\\ud800'", "worker": "w-1",
    }  # fmt: skip


def test_a_traceback_stays_on_its_line(stderr):
    configure_logging("w-1", "info", "json")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("streamer.test").exception("it broke")
    (line,) = stderr.getvalue().splitlines()
    assert "ValueError: why" in json.loads(line)["traceback"]


def test_text_for_people(stderr):
    configure_logging("w-1", "warn", "text")
    log = logging.getLogger("streamer.test")
    log.info("not this")
    log.warning("but this")
    assert stderr.getvalue().rstrip().endswith("WARNING but this") and "not this" not in stderr.getvalue()


def test_auto_is_text_on_a_terminal(stderr, monkeypatch):
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    configure_logging("w-1", "info", "auto")
    assert not isinstance(logging.getLogger().handlers[0].formatter, JsonFormatter)


def test_the_runtimes_chatter_is_left_out(stderr):
    configure_logging("w-1", "debug", "json")
    logging.getLogger("faust").info("chatter")
    logging.getLogger("aiokafka.consumer").info("chatter")
    logging.getLogger("streamer.agents").info("[^-App]: Stopping...")
    assert stderr.getvalue() == ""
    logging.getLogger("aiokafka").warning("a broker is away")
    logging.getLogger("streamer.agents").error("[^-App]: crashed")
    assert [json.loads(line)["level"] for line in stderr.getvalue().splitlines()] == ["warning", "error"]


def test_a_client_that_repeats_itself_is_told_once_in_a_while():
    seldom = Seldom(interval_s=10.0)

    def said(at_s: float, name: str = "aiokafka.consumer.fetcher") -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "no broker at %s", ("b:1",), None)
        record.created = at_s
        return record.getMessage() if seldom.filter(record) else None

    assert said(0.0) == "no broker at b:1"
    assert [said(0.1 * n) for n in range(1, 61)] == [None] * 60
    assert said(10.0) == "no broker at b:1 (and 60 times more since)"
    assert said(20.5) == "no broker at b:1"
    assert [said(20.6, "streamer.pipeline") for _ in range(3)] == ["no broker at b:1"] * 3  # our own lines all count
