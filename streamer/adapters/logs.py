"""Structured logs: one JSON object a line, or plain text on a terminal. Values of secrets never get here."""

import json
import logging
import sys
from datetime import UTC, datetime

_QUIET = ("faust", "mode", "aiokafka", "kafka")  # their chatter at info level says nothing to an operator


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


def configure_logging(worker: str, level: str, log_format: str) -> None:
    """Log to stderr; `auto` means text where stderr is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "text" or (log_format == "auto" and sys.stderr.isatty()):
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter(worker))
    handler.addFilter(_not_service_chatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    number = logging.getLevelNamesMapping()[{"warn": "WARNING"}.get(level, level.upper())]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
