"""Adjusted counts against the specification's examples and its rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.otlp.sampling import adjusted_count

KEPT = bytes(9) + b"\xff" * 7
"""A trace id whose randomness is the largest: every threshold keeps it."""


@pytest.mark.parametrize(
    ("th", "count"),
    [
        ("0", 1.0),
        ("8", 2.0),
        ("c", 4.0),
        ("e666", 9.99938968568813),
        ("fd70a", 99.99771123402633),
        ("fd70a4", 100.00009536752259),
    ],
)
def test_examples_of_the_specification(th, count):
    assert adjusted_count(f"ot=th:{th}", KEPT) == count


def test_the_largest_threshold_keeps_one_in_2_to_56():
    assert adjusted_count("ot=th:ffffffffffffff", KEPT) == float(2**56)


@pytest.mark.parametrize(
    "tracestate",
    [
        "ot=th:c",
        "ot=th:c,vendor=x",
        "vendor=a:b;c,ot=th:c",
        "vendor=ot=th:8, ot=th:c\t,rojo=00f067aa0ba902b7",
        "ot=rv:ffffffffffffff;th:c",
        "ot=th:c;rv:c0000000000000",
        "ot=x:1;th:c;other:value",
        "ot=p:1;th:c",
        "ot=th:c,ot=th:8",
        "ot=th:c0000000000000",
    ],
)
def test_the_entry_is_found_among_others(tracestate):
    assert adjusted_count(tracestate, KEPT) == 4.0


@pytest.mark.parametrize(
    "tracestate",
    [
        "",
        "vendor=th:8",
        "OT=th:8",
        "ot",
        "ot=",
        "ot=rv:ffffffffffffff",
        "ot=th:",
        "ot=th:8;",
        "ot=th:8;th:c",
        "ot=th8",
        "ot=th:E666",
        "ot=th:0x8",
        "ot=th:8_0",
        "ot=th:+8",
        "ot=th: 8",
        "ot=th:zz",
        "ot=th:٣",
        "ot=th:000000000000000",
        "ot=th:8;rv:fffffffffffff",
        "ot=th:8;rv:FFFFFFFFFFFFFF",
        "ot=th:8;rv:fffffffffffffff",
        "ot=th:8;x:" + "y" * 250,
        "ot=p:64",
        "ot=p:-1",
        "ot=p:01",
        "ot=p:1;r:63",
    ],
)
def test_absent_or_malformed_is_unknown_and_never_one(tracestate):
    assert adjusted_count(tracestate, KEPT) is None


def test_a_threshold_that_contradicts_the_randomness_is_unknown():
    below, at = bytes(9) + bytes.fromhex("7fffffffffffff"), bytes(9) + bytes.fromhex("80000000000000")
    assert adjusted_count("ot=th:8", below) is None
    assert adjusted_count("ot=th:8", at) == 2.0
    # An explicit value stands for the trace id.
    assert adjusted_count("ot=th:8;rv:80000000000000", below) == 2.0
    assert adjusted_count("ot=th:8;rv:7fffffffffffff", at) is None


@pytest.mark.parametrize("trace_id", [b"", b"\xff" * 8])
def test_without_randomness_only_the_zero_threshold_is_believed(trace_id):
    assert adjusted_count("ot=th:0", trace_id) == 1.0
    assert adjusted_count("ot=th:8", trace_id) is None


@pytest.mark.parametrize(
    ("tracestate", "count"),
    [
        ("ot=p:0", 1.0),
        ("ot=p:8", 256.0),
        ("ot=p:8;r:62", 256.0),
        ("ot=r:8;p:8", 256.0),
        ("ot=p:8;r:7", None),
        ("ot=p:62", float(2**62)),
        ("ot=p:63", 0.0),
        ("ot=p:63;r:5", 0.0),
    ],
)
def test_the_older_p_value(tracestate, count):
    assert adjusted_count(tracestate, b"") == count


@given(st.text(), st.binary(max_size=20))
def test_no_text_raises(text, trace_id):
    for tracestate in (text, f"ot={text}", f"ot=th:{text}", f"ot=th:8;rv:{text}", f"ot=p:{text}"):
        count = adjusted_count(tracestate, trace_id)
        assert count is None or count == 0.0 or count >= 1.0
