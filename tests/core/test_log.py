"""Log records: round trips, and errors that say what to do."""

import contextlib
import random
import struct
from dataclasses import replace

import orjson
import pytest
from hypothesis import given

from stream.core.errors import DecodeError, IncompatibleError
from stream.core.log import LogRecord, decode_record, encode_record
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, objective
from tests.core.test_columns import plain_receipts, plain_rows
from tests.strategies import log_records

SCALARS = ("generation", "partitions", "incarnation", "sequence", "config_version", "sources", "config", "progress")


def plain(record: LogRecord) -> tuple:
    scalars = tuple(getattr(record, name) for name in SCALARS)
    rows = None if record.rows is None else plain_rows(record.rows)
    return (*scalars, rows, None if record.receipts is None else plain_receipts(record.receipts))


@given(log_records)
def test_records_come_back(record):
    assert plain(decode_record(encode_record(record))) == plain(record)


def sample() -> bytes:
    writer = LogWriter(bundle(objective()))
    return writer.record([Event(T0_NS + i, version=f"v{i % 3}", bad=i % 2 == 0) for i in range(20)], until_ns=T0_NS)


@pytest.mark.parametrize("length", range(8))
def test_columns_are_aligned_whatever_the_length_of_what_stands_before_them(length):
    record = replace(decode_record(sample()), incarnation="i" * length)
    rows = decode_record(encode_record(record)).rows
    assert rows is not None
    assert all(getattr(rows, name).flags.aligned for name in rows.DTYPES)


def refused_or_read(data: bytes) -> None:
    with contextlib.suppress(DecodeError, IncompatibleError):
        decode_record(data)


def test_a_cut_record_is_refused():
    data = sample()
    for end in range(len(data)):
        with pytest.raises((DecodeError, IncompatibleError)):
            decode_record(data[:end])


def test_flipped_bits_are_refused_or_read_and_nothing_else():
    data, draw = sample(), random.Random(7)
    for _ in range(3000):
        broken = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 5))):
            broken[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        refused_or_read(bytes(broken))


def with_header(**changes: object) -> bytes:
    data = sample()
    _, _, length = struct.unpack_from("<4sHI", data)
    header = orjson.loads(data[10 : 10 + length])
    body = orjson.dumps({name: value for name, value in (header | changes).items() if value is not None})
    return struct.pack("<4sHI", b"QMAL", 1, len(body)) + body + data[10 + length :]


@pytest.mark.parametrize("name", ["generation", "partitions", "incarnation", "sequence", "config_version", "sources"])
def test_a_header_without_a_field_is_refused(name):
    with pytest.raises(DecodeError):
        decode_record(with_header(**{name: None}))


@pytest.mark.parametrize("sources", [[["events"]], ["x"], 7, [[1, 2, 3, 4, 5, 6, 7]]])
def test_a_header_with_a_broken_source_table_is_refused(sources):
    with pytest.raises(DecodeError):
        decode_record(with_header(sources=sources))


@pytest.mark.parametrize("sections", [{"rows": -1}, {"rows": 10**9}, {"rows": "1"}, {"rows": 1.5}, []])
def test_impossible_section_lengths_are_refused(sections):
    with pytest.raises(DecodeError):
        decode_record(with_header(sections=sections))


def test_an_unknown_section_asks_for_an_upgrade():
    with pytest.raises(IncompatibleError, match=r"section 'signals'.*upgrade"):
        decode_record(with_header(sections={"signals": 3}))


def test_another_format_asks_for_the_version_that_wrote_it():
    data = sample()
    with pytest.raises(IncompatibleError, match=r"format 3.*reads 1 and 2"):
        decode_record(data[:4] + struct.pack("<H", 3) + data[6:])


@pytest.mark.parametrize("data", [b"", b"QMAL", b"PAR1" + bytes(20)])
def test_other_bytes_are_no_record(data):
    with pytest.raises(DecodeError):
        decode_record(data)
