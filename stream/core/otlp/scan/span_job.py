"""The job of the kernel of traces: columns and verdicts beside those of `jobs`."""

from __future__ import annotations

from stream.core.otlp import Reading
from stream.core.otlp.scan import found
from stream.core.otlp.scan.jobs import OWN_AT, Job

KIND_AT, STATUS_AT, DURATION_NS_AT = range(OWN_AT, OWN_AT + 24, 8)

VERDICT_BYTES = 32
"""Of a message: a verdict, its rows, its spans with too many attributes, those with too long a text."""


def span_job(reading: Reading) -> Job:
    """Returns a new job for traces."""
    return Job(reading, keys=found.ITEM_KEYS, own=("kind", "status", "duration_ns"), verdict_bytes=VERDICT_BYTES)
