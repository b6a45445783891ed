"""Structured logs: one JSON object a line, or plain text on a terminal. Values of secrets never get here."""

import json
import logging
import sys
from datetime import UTC, datetime

_QUIET = ("faust", "mode", "aiokafka", "kafka")  # their chatter at info level says nothing to an operator

ERASE_LINE = "\r\033[K"
REPEAT_INTERVAL_S = 10.0
MAX_REMEMBERED = 1000  # templates; a message without one must not grow this for ever


class JsonFormatter(logging.Formatter):
    """`{"at", "level", "logger", "message", "worker"}` and the traceback where there is one."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "worker": self._worker,
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _not_service_chatter(record: logging.LogRecord) -> bool:
    """Faust's services log under *our* module names; their `[^-App]: Stopping...` lines help nobody."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


class Seldom(logging.Filter):
    """The Kafka client repeats the same complaint sixty times a second while a broker is away: once in a while will do.

    What was held back is counted in the next one that is let through.
    """

    def __init__(self, interval_s: float = REPEAT_INTERVAL_S) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}  # (logger, template): when last told, held back since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _QUIET:
            return True
        key = (record.name, str(record.msg)[:200])
        told_at_s, held_back = self._seen.get(key, (-self._interval_s, 0))
        if record.created - told_at_s < self._interval_s:
            self._seen[key] = (told_at_s, held_back + 1)
            return False
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.clear()
        self._seen[key] = (record.created, 0)
        if held_back:
            record.msg, record.args = f"{record.getMessage()} (and {held_back} times more since)", ()
        return True


def configure_logging(worker: str, level: str, log_format: str) -> None:
    """Log to stderr; `auto` means text where stderr is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    erase = ERASE_LINE if sys.stderr.isatty() else ""  # the progress line, which is drawn anew each second
    if log_format == "text" or (log_format == "auto" and sys.stderr.isatty()):
        handler.setFormatter(logging.Formatter(f"{erase}%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter(worker))
    handler.addFilter(_not_service_chatter)
    handler.addFilter(Seldom())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    number = logging.getLevelNamesMapping()[{"warn": "WARNING"}.get(level, level.upper())]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
