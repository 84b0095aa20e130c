"""Compiled decoder of OTLP traces in protobuf: equal to `reference.traces`, whose rules it keeps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError as ProtobufDecodeError

from stream.core.columns import Array, RejectReason, Rows, Signal
from stream.core.otlp import ONLY_FIELDS, Decoded, Messages, Reading
from stream.core.otlp.reference import schema
from stream.core.otlp.reference import traces as reference
from stream.core.otlp.reference.reading import too_large
from stream.core.otlp.scan import spans
from stream.core.otlp.scan.accounts import Refused, make_receipts
from stream.core.otlp.scan.jobs import READ, TOO_LARGE, TOO_MANY_ITEMS, UNREADABLE, Job
from stream.core.otlp.scan.span_job import span_job
from stream.core.otlp.scan.words import Tables, dictionary
from stream.core.points import NO_POINTS


@lru_cache(maxsize=16)
def _idle(reading: Reading) -> list[Job]:
    """Returns the jobs for this reading that nobody uses."""
    return []


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP protobuf trace messages; never raises on what a producer sent.

    A tombstone and an empty request (zero bytes) are received and hold no items.
    """
    idle = _idle(reading)
    try:
        job = idle.pop()  # one step: another thread gets another one
    except IndexError:
        job = span_job(reading)
    verdicts, columns = job.read(messages, spans.scan)
    counts, items = verdicts[:, 1], verdicts[:, 1] + verdicts[:, 2] + verdicts[:, 3]
    refused, dropped = _refused(messages, reading, verdicts)
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


def _refused(messages: Messages, reading: Reading, verdicts: Array) -> tuple[list[Refused], list[int]]:
    """Returns what is refused, in message order, and which messages are refused as a whole."""
    refused: list[Refused] = []
    dropped: list[int] = []
    odd = (verdicts[:, 0] | verdicts[:, 2] | verdicts[:, 3]).nonzero()[0]
    for i in odd.tolist():
        verdict, rows, too_many, too_long = verdicts[i].tolist()
        value = messages.values[i] or b""
        whole = _why_refused(value, verdict, rows + too_many + too_long, reading)
        if whole is not None:
            dropped.append(i)
            refused.append(Refused(message=i, reason=whole[0], items=1, detail=whole[1]))
            continue
        refused += [
            Refused(message=i, reason=part.reason, items=part.items, detail=part.detail)
            for part in reference.refusals(too_many, too_long, reading.limits)
        ]
    return refused, dropped


def _why_refused(value: bytes, verdict: int, items: int, reading: Reading) -> tuple[RejectReason, str] | None:
    """Returns why a message is refused as a whole, or None. Once per message that is odd, with the official parser."""
    if verdict == READ:
        return None
    if verdict == TOO_LARGE:
        return too_large(value, reading.limits)
    if verdict == TOO_MANY_ITEMS:
        return reference.too_many_items(items, reading.limits)
    try:
        request = schema.TRACES.FromString(value)
    except ProtobufDecodeError as error:
        if verdict == UNREADABLE:
            return schema.unreadable(value, Signal.SPAN, error)
        return reference.too_many_items(items, reading.limits)  # too deep for the parser only
    if verdict == UNREADABLE:
        return RejectReason.MALFORMED, f"these {len(value)} bytes are no OTLP traces request"
    if detail := schema.foreign(value, Signal.SPAN, request):
        return RejectReason.WRONG_TYPE, detail
    return reference.too_many_items(items, reading.limits)


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
    if tables.listed:
        made["attributes"], made["attribute_sets"] = dictionary(columns["attributes"], tables.attribute_sets, "")
    return Rows.of(
        size,
        source=np.repeat(messages.source, counts).astype("int16", copy=False),
        offset=np.repeat(messages.offset, counts),
        count=np.ones(size, "int64"),
        **made,
    )
