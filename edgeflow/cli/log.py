"""Logging of the command line, the only part of edgeflow that configures a handler."""

from __future__ import annotations

import enum
import json
import logging
import sys
from typing import Final

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogLevel(enum.StrEnum):
    """Names of levels on the command line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event, and the event's own keys."""

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
    """One readable line: time, level, event, ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        keys = "".join(f" {key}={value}" for key, value in extras(record).items())
        line = (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7} {record.getMessage()}{keys}"
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def extras(record: logging.LogRecord) -> dict[str, object]:
    """Return the keys that the caller passed as ``extra``."""
    return {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}


def configure_logging(level: LogLevel) -> None:
    """Log edgeflow's events of at least ``level`` to stderr; other packages keep their own settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())
    logger = logging.getLogger("edgeflow")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
