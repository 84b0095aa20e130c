"""The compiled decoder of metrics equals the plain one: on captures, on odd and on damaged messages."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from stream.core.otlp import Limits, Messages, Reading
from stream.core.otlp.reference import metrics as plain
from stream.core.otlp.scan import metrics
from tests.core.otlp.captures import CAPTURES
from tests.core.otlp.metric_messages import assert_equal, captured, generated, one, request
from tests.core.otlp.scan.equality import without_too_deep
from tests.core.otlp.scan.wire_messages import Writer, damaged, delimited, varint
from tests.core.otlp.spans import T0, attributes

LISTED = Reading(attributes=("cohort", "error.type", "host.name", "http.request.method", "http.route", "service.name"))
TIGHT = Limits(message_bytes=60_000, items=5, attributes=3, value_bytes=100, explicit_buckets=3, exponential_buckets=3)
READINGS = (Reading(), LISTED, replace(LISTED, limits=TIGHT))


def assert_same(values, readings=READINGS):
    values = without_too_deep(values, plain.decode)
    for reading in readings:
        messages = Messages.of(values, source=3, first_offset=7)
        assert_equal(metrics.decode(messages, reading), plain.decode(messages, reading))


def raw(*metric_fields):
    """Returns the bytes of a request with one metric of these fields."""
    return delimited(1, delimited(2, delimited(2, b"".join(metric_fields))))


TIME = varint(3 << 3 | 1) + T0.to_bytes(8, "little")


@pytest.mark.parametrize("name", CAPTURES)
def test_captures(name):
    assert_same(captured(name))


def test_no_messages_tombstones_and_empty_messages():
    assert_same([])
    assert_same([None, b"", one(as_int=1).SerializeToString(), None])


def test_single_points_at_consecutive_offsets_share_a_receipt():
    assert_same([one(as_int=i).SerializeToString() for i in range(5)])


def test_generated_requests():
    assert_same([generated(seed).SerializeToString() for seed in range(300)])


@given(st.integers(0, 2**32))
def test_any_generated_request(seed):
    assert_same([generated(seed).SerializeToString()])


@pytest.mark.parametrize("begin", range(0, 1200, 600))
def test_messages_written_in_every_odd_way(begin):
    descriptor = ExportMetricsServiceRequest.DESCRIPTOR
    assert_same([Writer(random.Random(seed)).message(descriptor) for seed in range(begin, begin + 600)])


@given(st.randoms(use_true_random=False))
def test_any_message_of_the_wire_format(chance):
    assert_same([Writer(chance).message(ExportMetricsServiceRequest.DESCRIPTOR)])


@pytest.mark.parametrize("begin", range(0, 1200, 600))
def test_damaged_messages(begin):
    values = []
    for seed in range(begin, begin + 600):
        chance = random.Random(seed)
        values.append(damaged(chance, generated(seed).SerializeToString(), generated(seed + 1).SerializeToString()))
    assert_same(values)


def test_a_capture_cut_off_anywhere_and_its_neighbours():
    value, neighbour = captured("tgen")[0], captured("app_default")[0]
    values = [part for cut in range(1, len(value), 61) for part in (value[:cut], neighbour)]
    assert_same(values, READINGS[:1])


def test_a_message_sent_in_parts_is_put_together():
    point = delimited(1, TIME + varint(6 << 3 | 1) + (5).to_bytes(8, "little"))
    whole = one(as_int=5, name="").SerializeToString()
    in_parts = raw(delimited(7, point), delimited(7, point), delimited(7, varint(2 << 3) + b"\x02"))
    replaced = raw(delimited(7, point + point), delimited(5, point))
    list_in_parts = delimited(1, b"k") + delimited(2, delimited(5, b"")) + delimited(2, delimited(5, delimited(1, b"")))
    values = [
        whole,
        in_parts,
        replaced,
        whole,
        raw(delimited(7, delimited(1, delimited(7, list_in_parts) + TIME))),
        whole,
    ]
    decoded = metrics.decode(Messages.of(values))
    assert decoded.receipts.items.sum() == len(decoded.points) + 1  # one has no value
    assert decoded.points.offset.tolist() == [0, 1, 1, 2, 3, 5]
    assert_same(values)


def test_bounds_and_counts_in_several_runs():
    def packed(number, *numbers):
        return delimited(number, b"".join(numbers))

    def single(number, value):
        return varint(number << 3 | 1) + value

    import struct

    bounds = [struct.pack("<d", value) for value in (0.1, 0.5, 1.0)]
    counts = [struct.pack("<Q", value) for value in (1, 2, 3, 4)]
    count = single(4, struct.pack("<Q", 10))
    in_runs = (
        TIME + count + packed(7, *bounds[:1]) + packed(6, *counts[:3]) + single(7, bounds[1]) + packed(7, bounds[2])
    )
    in_runs += single(6, counts[3]) + packed(6)
    at_once = TIME + count + packed(7, *bounds) + packed(6, *counts)
    values = [raw(delimited(9, delimited(1, point))) for point in (in_runs, at_once, in_runs + single(7, bounds[2]))]
    decoded = metrics.decode(Messages.of(values))
    assert decoded.points.buckets.tolist() == [1, 2, 3, 4, 1, 2, 3, 4]
    assert [decoded.points.bounds_sets[i] for i in decoded.points.bounds] == [(0.1, 0.5, 1.0)] * 2
    assert_same(values)


def test_lists_and_maps_nested_around_the_deepest_level_that_counts():
    values = []
    for depth in (1, 30, 31, 32, 33, 40):
        for leaf in ("a", "b"):
            made = one(as_int=1)
            value = (
                made.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].attributes.add(key="k").value
            )
            for level in range(depth):
                if level % 2:
                    value.kvlist_value.values.add(key="first").value.int_value = level
                    value = value.kvlist_value.values.add(key="x").value
                else:
                    value.array_value.values.add().bool_value = True
                    value = value.array_value.values.add()
            value.string_value = leaf
            values.append(made.SerializeToString())
    assert_same(values, READINGS[:1])


def test_attributes_nested_deeper_than_a_parser_goes_are_accepted():
    value = b""
    for _ in range(3000):
        value = delimited(5, delimited(1, value))
    point = TIME + varint(6 << 3 | 1) + bytes(8) + delimited(7, delimited(1, b"k") + delimited(2, value))
    decoded = metrics.decode(Messages.of([raw(delimited(7, delimited(1, point)))]))
    assert len(decoded.points) == 1


def test_more_words_points_and_buckets_than_there_is_room_for_at_first():
    made, listed = request()
    for i in range(3000):
        metric = listed.add(name=f"metric.{i}", unit=f"unit {i}")
        point = metric.histogram.data_points.add(
            time_unix_nano=T0 + i, explicit_bounds=[float(i)], bucket_counts=[1, 2]
        )
        point.count = 3
        point.attributes.extend(attributes(("error.type", f"error {i}"), ("cohort", f"{i}" * 20)))
    made.resource_metrics.add().resource.attributes.extend(attributes(("service.name", "x" * 4096)))
    assert_same([made.SerializeToString()] * 2, (Reading(), LISTED))
    small = [
        b"".join(one("gauge", as_int=1).SerializeToString() for _ in range(40)),
        b"".join(raw(delimited(9, delimited(1, b"\x19\x01" + bytes(7)))) for _ in range(3000)),
    ]
    assert_same(small, READINGS[:2])


def test_what_lies_behind_a_message_never_decides():
    value = one(as_int=1, pairs=[("http.route", "/a")]).SerializeToString()
    cut = [value[:-i] for i in range(1, 12)]
    alone = [metrics.decode(Messages.of([part])) for part in cut]
    together = metrics.decode(Messages.of([part for part in cut for part in (part, value)]))
    rejected = [int(one.receipts.rejected.sum()) for one in alone]
    assert int(together.receipts.rejected.sum()) == sum(rejected)
    assert len(together.points) == sum(len(one.points) for one in alone) + len(cut)
