"""Receipts of batches refused as a whole: each message counts as rejected once, however the batch is read."""

from __future__ import annotations

import pytest

from stream.core.engine import Engine, balance
from stream.core.events import DeadLetter
from stream.core.log import LogRecord, SourceRange, encode_record
from tests.core.engine.log_writer import T0_NS, bundle, receipts_of

BUNDLE = bundle()


def reading(incarnation: str, *batches: tuple[int, int, int]) -> bytes:
    """Returns the record of a session that read refused batches: first and last offset, messages in it."""
    first, last = batches[0][0], batches[-1][1]
    source = SourceRange(
        topic="events", topic_id="x", partition=0, session=incarnation, first_offset=first, next_offset=last + 1
    )
    return encode_record(
        LogRecord(
            generation=BUNDLE.generation,
            partitions=1,
            incarnation=incarnation,
            sequence=0,
            config_version=0,
            sources=(source,),
            config=BUNDLE.encode(),
            receipts=receipts_of([(0, first, last, count, count) for first, last, count in batches]),
        )
    )


@pytest.mark.parametrize(
    ("readings", "rejected", "letters"),
    [
        ([[(0, 9, 10)], [(0, 9, 10)]], 10, [(0, 10)]),
        ([[(0, 9, 10), (10, 14, 5)], [(10, 14, 5), (15, 15, 1)]], 16, [(0, 10), (10, 5), (15, 1)]),
        ([[(0, 5, 6)], [(0, 9, 10)]], 10, [(0, 6), (6, 4)]),
        ([[(0, 9, 10)], [(6, 9, 4)]], 10, [(0, 10)]),
        ([[(0, 8, 9)], [(0, 9, 4)]], 9, [(0, 9)]),
    ],
    ids=["read twice", "partly read twice", "read further", "read from the middle", "compacted"],
)
def test_a_refused_batch_is_accounted_once(
    readings: list[list[tuple[int, int, int]]], rejected: int, letters: list[tuple[int, int]]
) -> None:
    engine = Engine(0)
    outputs = [
        output
        for at, batches in enumerate(readings)
        for output in engine.apply(at, T0_NS, reading(f"ingest-{at}", *batches))
    ]
    (account,) = balance([engine.ledger])
    assert account.is_equal
    assert (account.received, account.rejected) == (rejected, {"malformed": rejected})
    assert [(o.offset, o.items) for o in outputs if isinstance(o, DeadLetter)] == letters
