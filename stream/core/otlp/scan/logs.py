"""Compiled decoder of OTLP logs in protobuf: equal to `reference.logs`, whose rules it keeps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from stream.core.columns import Array, RejectReason, Rows, Signal, Status
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Messages, Reading
from stream.core.otlp.reference import logs as reference
from stream.core.otlp.reference.batch import Refusal
from stream.core.otlp.scan import log_records
from stream.core.otlp.scan.accounts import Refused, make_receipts
from stream.core.otlp.scan.jobs import READ, TOO_MANY_ITEMS, UNREADABLE, Job
from stream.core.otlp.scan.log_job import MISSING_OF, ROWS_OF, TOO_LONG_OF, TOO_MANY_OF, log_job
from stream.core.otlp.scan.words import Tables, dictionary
from stream.core.points import NO_POINTS

_ROWS, _VERDICT = ROWS_OF // 8, 0
_REASONS = {
    MISSING_OF // 8: RejectReason.MISSING_FIELD,
    TOO_MANY_OF // 8: RejectReason.TOO_MANY_ATTRIBUTES,
    TOO_LONG_OF // 8: RejectReason.VALUE_TOO_LONG,
}
"""Columns of the verdicts, in the order in which the refusals of a message are listed."""


@lru_cache(maxsize=16)
def _idle(reading: Reading) -> list[Job]:
    """Returns the jobs for this reading that nobody uses."""
    return []


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP protobuf log messages; never raises on what a producer sent.

    A tombstone and an empty request (zero bytes) are received and hold no items.
    """
    idle = _idle(reading)
    try:
        job = idle.pop()  # one step: another thread gets another one
    except IndexError:
        job = log_job(reading)
    verdicts, columns = job.read(messages, log_records.scan)
    counts, items = verdicts[:, _ROWS], verdicts[:, _ROWS:].sum(axis=1)
    refused, dropped = _refused(messages, verdicts, reading.limits)
    if dropped:
        kept = np.ones(len(messages), bool)
        kept[dropped] = False
        kept_rows = np.repeat(kept, counts)
        columns = {name: column[kept_rows] for name, column in columns.items()}
        counts = np.where(kept, counts, 0)
        items[dropped] = 1
    rows = _rows(messages, counts, columns, job.tables)
    if job.is_small():
        idle.append(job)
    return Decoded(rows=rows, points=NO_POINTS, receipts=make_receipts(messages, items, refused))


def _refused(messages: Messages, verdicts: Array, limits: Limits) -> tuple[list[Refused], list[int]]:
    """Returns what is refused, in message order, and which messages are refused as a whole."""
    refused: list[Refused] = []
    dropped: list[int] = []
    odd = verdicts[:, _VERDICT] != READ
    for place in _REASONS:
        odd |= verdicts[:, place] != 0
    for i in odd.nonzero()[0].tolist():
        whole = _whole(messages.values[i] or b"", int(verdicts[i, _VERDICT]), limits)
        if whole is not None:
            dropped.append(i)
            refused.append(Refused(message=i, reason=whole.reason, items=1, detail=whole.detail))
            continue
        for place, reason in _REASONS.items():
            if items := int(verdicts[i, place]):
                refused.append(
                    Refused(message=i, reason=reason, items=items, detail=reference.detail_of(reason, limits))
                )
    return refused, dropped


def _whole(value: bytes, verdict: int, limits: Limits) -> Refusal | None:
    """Returns why a message is refused as a whole, or None. Once per message that is odd, with the official parser."""
    if verdict == READ:
        return None
    parsed = reference.parsed(value, limits)
    if isinstance(parsed, Refusal) and (verdict == UNREADABLE or parsed.reason != RejectReason.TOO_DEEP):
        return parsed
    assert verdict != UNREADABLE, "the kernel refuses what the parser refuses"
    # Too deep for the parser only, or of no other signal.
    return reference.too_many_items(limits) if verdict == TOO_MANY_ITEMS else None


def _rows(messages: Messages, counts: Array, columns: dict[str, Array], tables: Tables) -> Rows:
    """Returns the rows, with the dictionaries of what they use.

    Args:
        messages: What was decoded.
        counts: Rows of each message.
        columns: What the kernel wrote.
        tables: Where it interned.
    """
    size = len(columns["end_ns"])
    made: dict[str, Any] = {name: columns[name].copy() for name in columns if name not in Rows.DICTIONARIES}
    made["service"], made["services"] = dictionary(columns["service"], tables.services)
    made["version"], made["versions"] = dictionary(columns["version"], tables.texts)
    made["error_type"], made["error_types"] = dictionary(columns["error_type"], tables.texts, "")
    made["name"], made["names"] = dictionary(columns["name"], tables.texts, "")
    if tables.listed:
        made["attributes"], made["attribute_sets"] = dictionary(columns["attributes"], tables.attribute_sets, "")
    is_error = columns["severity"] >= reference.SEVERITY_ERROR
    return Rows.of(
        size,
        source=np.repeat(messages.source, counts).astype("int16", copy=False),
        offset=np.repeat(messages.offset, counts),
        status=np.where(is_error, np.int8(Status.ERROR), np.int8(Status.UNSET)),
        count=np.ones(size, "int64"),
        signal=np.full(size, Signal.LOG, "int8"),
        **made,
    )
