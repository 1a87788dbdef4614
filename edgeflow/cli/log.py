"""Logging of the command line; nothing else in edgeflow configures a handler."""

from __future__ import annotations

import enum
import json
import logging
import sys
from typing import Final

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogLevel(enum.StrEnum):
    """Names of levels, as people write them."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the event's own keys."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **extras(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class TextFormatter(logging.Formatter):
    """One line for people: time, level, event, ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        keys = "".join(f" {key}={value}" for key, value in extras(record).items())
        line = (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7} {record.getMessage()}{keys}"
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def extras(record: logging.LogRecord) -> dict[str, object]:
    """Return what the caller passed as ``extra``."""
    return {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}


def configure_logging(level: LogLevel) -> None:
    """Send what edgeflow logs to stderr, from ``level`` on; other packages keep their own settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())
    logger = logging.getLogger("edgeflow")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
