"""What a consumer returned of one source, as parts: messages, and batches that were stepped over, in their order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from stream.ingest.cycle import Fetched
from stream.kafka.batches import RefusedBatch, refused
from stream.kafka.clients import ConsumerRecord

LOG = logging.getLogger(__name__)


def parts_of(source: int, records: Sequence[ConsumerRecord], *, next_offset: int, position: int) -> list[Fetched]:
    """Returns the records of one source as parts that follow each other.

    Args:
        source: Index of the source among the sessions of the process.
        records: What was read from `next_offset` on.
        next_offset: Where the session of the source stands.
        position: Where reading goes on.
    """
    values = [record.value for record in records]
    if RefusedBatch not in map(type, values):
        return [_messages(source, records, position)]
    parts: list[Fetched] = []
    begun = 0
    for at, record in enumerate(records):
        batch = refused(record)
        if batch is None:
            continue
        if begun < at:
            parts.append(_messages(source, records[begun:at], records[at - 1].offset + 1))
            next_offset = parts[-1].next_offset
        parts.append(_stepped_over(source, batch, next_offset))
        LOG.error("%s/%d: rejected as %s: %s", record.topic, record.partition, batch.reason.value, batch.detail)
        begun, next_offset = at + 1, parts[-1].next_offset
    if begun < len(records):
        return [*parts, _messages(source, records[begun:], position)]
    return [*parts[:-1], replace(parts[-1], next_offset=position)]


def _messages(source: int, records: Sequence[ConsumerRecord], next_offset: int) -> Fetched:
    return Fetched(
        source=source,
        offsets=[record.offset for record in records],
        times_ns=[max(record.timestamp, 0) * 1_000_000 for record in records],
        values=[record.value for record in records],
        next_offset=next_offset,
    )


def _stepped_over(source: int, batch: RefusedBatch, next_offset: int) -> Fetched:
    """Returns the part of a batch that lies from `next_offset` on: what was read of it before counts no second time."""
    first_offset = max(batch.first_offset, next_offset)
    left = batch.last_offset - first_offset + 1
    batch = replace(batch, first_offset=first_offset, records=min(batch.records, left))
    return Fetched(source=source, offsets=(), times_ns=(), values=(), next_offset=batch.last_offset + 1, refused=batch)
