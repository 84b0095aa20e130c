"""Metric points as columns: what is encoded comes back; what is corrupt is refused with one kind of error."""

import itertools
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.columns import Rows, encode_rows, encode_table
from stream.core.errors import DecodeError
from stream.core.points import Points, concat_points, decode_points, encode_points
from tests.strategies import dictionary

WORDS = {**Points.DICTIONARIES, "bounds": "bounds_sets"}
BOUNDS = st.lists(st.floats(allow_nan=False), max_size=3).map(tuple)


@st.composite
def point_batches(draw: st.DrawFn, min_size: int = 0, max_size: int = 6) -> Points:
    """Points of any values that the types allow."""
    n = draw(st.integers(min_size, max_size))
    columns: dict[str, Any] = {name: draw(dictionary()) for name in Points.DICTIONARIES.values()}
    columns["bounds_sets"] = tuple(draw(st.lists(BOUNDS, min_size=1, max_size=3, unique=True)))
    for name, dtype in Points.DTYPES.items():
        if name in WORDS:
            values: st.SearchStrategy[Any] = st.integers(0, len(columns[WORDS[name]]) - 1)
        elif dtype == "float64":
            values = st.floats()
        else:
            values = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        columns[name] = np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype)
    lengths = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    columns["bucket_first"] = np.concatenate([[0], np.cumsum(lengths)]).astype("int64")
    columns["buckets"] = np.arange(sum(lengths), dtype="int64") * 7 - 3
    return Points(**columns)


def listed(points: Points) -> list[tuple[Any, ...]]:
    """Returns the points with their words in place of indices, doubles as their bits, and their own buckets."""
    columns = {}
    for name, dtype in Points.DTYPES.items():
        values = getattr(points, name)
        assert values.dtype == dtype, name
        columns[name] = values.view("int64").tolist() if dtype == "float64" else values.tolist()
        if name in WORDS:
            columns[name] = [getattr(points, WORDS[name])[i] for i in columns[name]]
    first = points.bucket_first.tolist()
    assert first[0] == 0
    assert first[-1] == len(points.buckets)
    buckets = [tuple(points.buckets[a:b].tolist()) for a, b in itertools.pairwise(first)]
    return list(zip(*columns.values(), buckets, strict=True))


@given(point_batches())
def test_points_come_back(points):
    decoded = decode_points(encode_points(points))
    assert listed(decoded) == listed(points)
    assert decoded.buckets.dtype == decoded.bucket_first.dtype == "int64"


@given(st.lists(point_batches(), max_size=4))
def test_concatenated_points_are_all_points_in_order(parts):
    assert listed(concat_points(parts)) == [point for part in parts for point in listed(part)]


@given(point_batches(min_size=1), st.data())
def test_taken_points_are_those_points(points, data):
    index = data.draw(st.lists(st.integers(0, len(points) - 1), max_size=5))
    assert listed(points.take(np.array(index, "int64"))) == [listed(points)[i] for i in index]
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(points), max_size=len(points))))
    assert listed(points.take(wanted)) == [point for point, want in zip(listed(points), wanted, strict=True) if want]


@given(point_batches(min_size=2))
def test_what_was_taken_can_be_encoded_and_concatenated(points):
    last = points.take(np.arange(1, len(points)))
    assert listed(decode_points(encode_points(last))) == listed(points)[1:]
    assert listed(concat_points([last, points])) == listed(points)[1:] + listed(points)


def test_what_is_not_given_is_nothing():
    points = Points.of(2, services=("a",), versions=("",), value=np.array([1.5, 2.5]))
    assert points.code.tolist() == [-1, -1]
    assert points.value.tolist() == [1.5, 2.5]
    assert points.bucket_first.tolist() == [0, 0, 0]
    assert (points.names, points.bounds_sets) == (("",), ((),))
    assert listed(decode_points(encode_points(points))) == listed(points)
    assert len(Points.empty()) == len(decode_points(encode_points(Points.empty()))) == 0


@given(point_batches(min_size=1), st.data())
def test_corrupt_columns_are_refused_or_read_and_nothing_else(points, data):
    encoded = encode_points(points)
    broken = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(broken)))
    for candidate in (bytes(broken), encoded[:cut]):
        with suppress(DecodeError):
            listed(decode_points(candidate))


def arrays(size=2, **changes):
    """Returns the columns of some points as Arrow arrays, some of them changed."""
    points = Points.of(size, services=("a",), versions=("",))
    with pa.ipc.open_stream(encode_points(points)) as reader:
        batch = reader.read_next_batch()
    return {**dict(zip(batch.schema.names, batch.columns, strict=True)), **changes}


def bounds_of(*sets, index=(0, 0)):
    return pa.DictionaryArray.from_arrays(pa.array(index, "int32"), pa.array(sets, pa.list_(pa.float64())))


def counts_of(*lists):
    return pa.array(lists, pa.list_(pa.int64()))


def test_the_columns_as_they_are_can_be_read():
    made = encode_table(arrays(bounds=bounds_of([1.0, 2.0]), buckets=counts_of([1], [2, 3])))
    assert decode_points(made).buckets.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {"buckets": counts_of([1], None)},
        {"buckets": counts_of([1, None], [2])},
        {"bounds": bounds_of(None)},
        {"bounds": bounds_of([1.0, None])},
        {"bounds": bounds_of([1.0], index=(0, None))},
        {"value": pa.array([1.0, None])},
        {"name": pa.DictionaryArray.from_arrays(pa.array([0, 0], "int32"), pa.array([None], pa.string()))},
        {"value": pa.array([1, 2])},
        {"buckets": pa.array([[1.0], [2.0]], pa.list_(pa.float64()))},
    ],
)
def test_nulls_and_other_types_are_refused(changes):
    with pytest.raises(DecodeError):
        decode_points(encode_table(arrays(**changes)))


@pytest.mark.parametrize("offsets", [(0, 2000, 1000), (0, 1000, 2001), (0, 1000, 2**31 - 1), (-1, 1000, 2000)])
def test_wrong_offsets_are_refused(offsets):
    encoded = encode_table(arrays(buckets=counts_of([7] * 1000, [8] * 1000)))
    sound = struct.pack("<3i", 0, 1000, 2000)
    assert encoded.count(sound) == 1
    decode_points(encoded)
    with pytest.raises(DecodeError):
        decode_points(encoded.replace(sound, struct.pack("<3i", *offsets)))


def test_missing_columns_and_other_tables_are_refused():
    made = arrays()
    del made["value"]
    for data in (encode_table(made), encode_rows(Rows.empty()), b""):
        with pytest.raises(DecodeError):
            decode_points(data)
