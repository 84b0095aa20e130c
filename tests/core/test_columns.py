"""Columns: what is encoded comes back; what is corrupt is refused with one kind of error."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.columns import (
    Receipts,
    Rows,
    concat_rows,
    decode_receipts,
    decode_rows,
    encode_receipts,
    encode_rows,
    encode_table,
    fixed_weight,
)
from stream.core.errors import DecodeError
from stream.core.units import WEIGHT_MAX, WEIGHT_ONE
from tests.strategies import receipt_batches, row_batches


def plain_rows(rows: Rows) -> list[tuple]:
    """Returns the rows with their words in place of indices."""
    columns = {name: getattr(rows, name).tolist() for name in Rows.DTYPES}
    for name, dictionary in Rows.DICTIONARIES.items():
        columns[name] = [getattr(rows, dictionary)[i] for i in columns[name]]
    return list(zip(*columns.values(), strict=True))


def plain_receipts(receipts: Receipts) -> list[tuple]:
    columns = {name: getattr(receipts, name).tolist() for name in Receipts.DTYPES}
    columns["reason"] = [receipts.reasons[i] for i in columns["reason"]]
    return list(zip(*columns.values(), receipts.digests, receipts.details, strict=True))


@given(row_batches())
def test_rows_come_back(rows):
    decoded = decode_rows(encode_rows(rows))
    assert plain_rows(decoded) == plain_rows(rows)
    assert {name: getattr(decoded, name).dtype.name for name in Rows.DTYPES} == dict(Rows.DTYPES)


@given(receipt_batches())
def test_receipts_come_back(receipts):
    assert plain_receipts(decode_receipts(encode_receipts(receipts))) == plain_receipts(receipts)


@given(st.lists(row_batches(), max_size=4))
def test_concatenated_rows_are_all_rows_in_order(parts):
    assert plain_rows(concat_rows(parts)) == [row for part in parts for row in plain_rows(part)]


@given(row_batches(min_size=1), st.data())
def test_taken_rows_are_those_rows(rows, data):
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5))
    assert plain_rows(rows.take(np.array(index, "int64"))) == [plain_rows(rows)[i] for i in index]


@given(row_batches(min_size=1), receipt_batches(min_size=1), st.data())
def test_corrupt_columns_are_refused_or_read_and_nothing_else(rows, receipts, data):
    for encoded, decode in ((encode_rows(rows), decode_rows), (encode_receipts(receipts), decode_receipts)):
        broken = bytearray(encoded)
        for _ in range(data.draw(st.integers(1, 4))):
            broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        cut = data.draw(st.integers(0, len(broken)))
        for candidate in (bytes(broken), encoded[:cut]):
            with suppress(DecodeError):
                decode(candidate)


def test_columns_of_another_kind_are_refused():
    with pytest.raises(DecodeError):
        decode_rows(encode_receipts(decode_receipts(encode_receipts(_no_receipts()))))
    with pytest.raises(DecodeError):
        decode_receipts(encode_rows(Rows.empty()))
    with pytest.raises(DecodeError):
        decode_rows(encode_table({}))


def _no_receipts() -> Receipts:
    arrays = {name: np.empty(0, dtype) for name, dtype in Receipts.DTYPES.items()}
    return Receipts(**arrays, reasons=("",), digests=(), details=())


@pytest.mark.parametrize(
    ("adjusted_count", "fixed", "capped"),
    [
        (1.0, WEIGHT_ONE, False),
        (100.00009536752259, 6_553_606, False),
        (65_536.0, WEIGHT_MAX, False),
        (65_536.1, WEIGHT_MAX, True),
        (2.0**56, WEIGHT_MAX, True),
    ],
)
def test_weights_in_fixed_point(adjusted_count, fixed, capped):
    assert fixed_weight(adjusted_count) == (fixed, capped)
