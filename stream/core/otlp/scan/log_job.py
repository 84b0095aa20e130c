"""The job of the kernel of logs: columns, keys and verdicts beside those of `jobs`."""

from __future__ import annotations

from stream.core.otlp import Reading
from stream.core.otlp.reference import logs as reference
from stream.core.otlp.scan import found
from stream.core.otlp.scan.jobs import OWN_AT, Job

SEVERITY_AT, NAME_AT = range(OWN_AT, OWN_AT + 16, 8)

VERDICT_BYTES = 40
ROWS_OF, TOO_MANY_OF, TOO_LONG_OF, MISSING_OF = 8, 16, 24, 32
"""Of a message: a verdict, its rows, and its records that are refused, by reason."""

KEYS = (
    *found.ITEM_KEYS,
    reference.EXCEPTION_TYPE,
    reference.EVENT_NAME,
    reference.THRESHOLD,
    reference.RANDOMNESS,
)
"""Keys of the first slots of a record."""
EXCEPTION_TYPE_SLOT, EVENT_NAME_SLOT, THRESHOLD_SLOT, RANDOMNESS_SLOT = range(len(found.ITEM_KEYS), len(KEYS))


def log_job(reading: Reading) -> Job:
    """Returns a new job for logs."""
    return Job(reading, keys=KEYS, own=("severity", "name"), kept=0, verdict_bytes=VERDICT_BYTES)
