"""The job of the kernel of traces: columns and verdicts beside those of `jobs`."""

from __future__ import annotations

from stream.core.otlp import Reading
from stream.core.otlp.scan import found
from stream.core.otlp.scan.jobs import OWN_AT, Job

KIND_AT, STATUS_AT, DURATION_NS_AT = range(OWN_AT, OWN_AT + 24, 8)

STATE, STATE_SIZE, STATE_TEXT_FLAGS, STATE_WEIGHT, STATE_FLAGS, STATE_THRESHOLD = range(OWN_AT + 24, OWN_AT + 72, 8)
"""The last tracestate that was read: where it is, its size, what is wrong with the text, what `weight.said_by` says."""

VERDICT_BYTES = 32
"""Of a message: a verdict, its rows, its spans with too many attributes, those with too long a text."""


def span_job(reading: Reading) -> Job:
    """Returns a new job for traces."""
    own = "kind", "status", "duration_ns"
    return Job(reading, keys=found.ITEM_KEYS, own=own, kept=6, verdict_bytes=VERDICT_BYTES)
