"""Logging of a role's process: plain lines on stderr, and Kafka's client library not more often than it helps."""

from __future__ import annotations

import logging
import sys

_REPEAT_S = 10.0
_MESSAGES_MAX = 1000


def log_to_stderr() -> None:
    """Sends our messages from INFO and everybody else's from WARNING to stderr."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    for handler in logging.root.handlers:
        handler.addFilter(_NotTooOften())
    logging.getLogger("stream").setLevel(logging.INFO)


class _NotTooOften(logging.Filter):
    """Lets the same message of a library pass once in ten seconds: without a broker they come many times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._passed_at_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("stream."):
            return True
        if len(self._passed_at_s) > _MESSAGES_MAX:
            self._passed_at_s.clear()
        key = (record.name, str(record.msg))
        if record.created - self._passed_at_s.get(key, 0.0) < _REPEAT_S:
            return False
        self._passed_at_s[key] = record.created
        return True
