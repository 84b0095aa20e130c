"""The accounting of messages: receipts, runs, and the balance that is asserted."""

import hashlib

import pytest

from stream.core.columns import (
    NO_CODE,
    Kind,
    RejectReason,
    Status,
    decode_receipts,
    decode_rows,
    encode_receipts,
    encode_rows,
)
from stream.core.otlp import Message
from stream.core.otlp.reference.batch import Batch, Refusal, Row
from stream.core.units import WEIGHT_ONE


def message(offset, source=0, value=b"x"):
    return Message(source=source, offset=offset, value=value)


def row(batch, message, count=1):
    service, version = batch.service("production", None, "checkout"), batch.version("")
    return Row(
        message.source,
        message.offset,
        service,
        version,
        Kind.SERVER,
        Status.UNSET,
        NO_CODE,
        0,
        1_000,
        10,
        count,
        count * WEIGHT_ONE,
        0,
    )


def accept(batch, message, rows=1, refusals=()):
    batch.accept(message, [row(batch, message) for _ in range(rows)], refusals)


def listed(receipts):
    reasons = [receipts.reasons[i] for i in receipts.reason]
    names = ("source", "first_offset", "last_offset", "items", "rejected")
    return list(zip(*(getattr(receipts, name).tolist() for name in names), reasons, strict=True))


def test_nothing_decodes_to_nothing():
    result = Batch().decoded()
    assert len(result.rows) == len(result.receipts) == 0
    assert result.rows.error_types == result.receipts.reasons == ("",)


def test_a_run_of_clean_one_item_messages_is_one_receipt():
    batch = Batch()
    for offset in range(5, 9):
        accept(batch, message(offset))
    assert listed(batch.decoded().receipts) == [(0, 5, 8, 4, 0, "")]


def test_a_run_ends_at_another_source_a_gap_or_a_message_that_is_not_one_clean_item():
    batch = Batch()
    for offset in (0, 1, 3, 4):  # 2 is missing, as in a compacted topic
        accept(batch, message(offset))
    accept(batch, message(5, source=1))
    accept(batch, message(6), rows=0)
    accept(batch, message(7), rows=2)
    accept(batch, message(8))
    batch.reject(message(9), RejectReason.MALFORMED, "broken")
    accept(batch, message(10))
    assert listed(batch.decoded().receipts) == [
        (0, 0, 1, 2, 0, ""),
        (0, 3, 4, 2, 0, ""),
        (1, 5, 5, 1, 0, ""),
        (0, 6, 6, 0, 0, ""),
        (0, 7, 7, 2, 0, ""),
        (0, 8, 8, 1, 0, ""),
        (0, 9, 9, 1, 1, "malformed"),
        (0, 10, 10, 1, 0, ""),
    ]


def test_one_event_that_stands_for_several_is_no_run():
    batch = Batch()
    for offset in (0, 1):
        batch.accept(message(offset), [row(batch, message(offset), count=3)])
    assert listed(batch.decoded().receipts) == [(0, 0, 0, 3, 0, ""), (0, 1, 1, 3, 0, "")]


def test_several_reasons_share_the_items_of_their_message():
    batch = Batch()
    refusals = [
        Refusal(reason=RejectReason.OUT_OF_RANGE, items=2, detail="two of them"),
        Refusal(reason=RejectReason.WRONG_TYPE, items=1, detail="one of them"),
    ]
    accept(batch, message(7, value=b"bytes"), rows=3, refusals=refusals)
    receipts = batch.decoded().receipts
    assert listed(receipts) == [(0, 7, 7, 6, 2, "out_of_range"), (0, 7, 7, 0, 1, "wrong_type")]
    assert receipts.digests == (hashlib.sha256(b"bytes").digest(),) * 2
    assert receipts.details == ("two of them", "one of them")


def test_a_clean_receipt_has_no_digest_and_no_detail():
    batch = Batch()
    accept(batch, message(0))
    receipts = batch.decoded().receipts
    assert receipts.digests == (None,)
    assert receipts.details == (None,)


def test_an_item_that_is_lost_on_the_way_is_a_bug_that_is_seen():
    batch = Batch()
    accept(batch, message(0))
    batch._rows.clear()
    with pytest.raises(AssertionError, match="every item"):
        batch.decoded()


def test_columns_have_the_contract_types():
    batch = Batch()
    accept(batch, message(2**40, source=3))
    rows = batch.decoded().rows
    for name, dtype in rows.DTYPES.items():
        assert getattr(rows, name).dtype == dtype, name
    assert rows.offset.tolist() == [2**40]
    assert rows.source.tolist() == [3]


def test_rows_and_receipts_survive_the_columnar_codec():
    batch = Batch()
    accept(batch, message(0), rows=2)
    batch.reject(message(1), RejectReason.TOO_LARGE, "too large")
    result = batch.decoded()
    rows, receipts = decode_rows(encode_rows(result.rows)), decode_receipts(encode_receipts(result.receipts))
    assert rows.offset.tolist() == result.rows.offset.tolist()
    assert rows.services == result.rows.services
    assert listed(receipts) == listed(result.receipts)
    assert (receipts.digests, receipts.details) == (result.receipts.digests, result.receipts.details)
