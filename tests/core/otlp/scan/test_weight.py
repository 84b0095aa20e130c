"""The weight kernel equals the plain functions in every bit."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.core.columns import RowFlag, fixed_weight
from stream.core.otlp.sampling import adjusted_count
from stream.core.otlp.scan.memory import PADDING, address_of, kernel
from stream.core.otlp.scan.weight import weight_of
from stream.core.units import WEIGHT_ONE

KEPT = b"\xff" * 16
"""A trace id whose randomness is the largest: every threshold keeps it."""


@kernel
def weight_kernel(p, size, trace_id, trace_id_size):
    return weight_of(p, size, trace_id, trace_id_size)


def compiled(tracestate, trace_id):
    data = tracestate + trace_id + bytes(PADDING)
    p = address_of(data)
    return weight_kernel(p, len(tracestate), p + len(tracestate), len(trace_id))


def plain(tracestate, trace_id):
    count = adjusted_count(tracestate.decode("utf-8", "replace"), trace_id)
    if count is None:
        return WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN
    weight, capped = fixed_weight(count)
    return weight, RowFlag.WEIGHT_CAPPED if capped else 0


@pytest.mark.parametrize(
    "tracestate",
    [
        *("ot=th:0", "ot=th:8", "ot=th:c", "ot=th:e666", "ot=th:fd70a", "ot=th:fd70a4", "ot=th:ffffffffffffff"),
        *("ot=th:ffff", "ot=th:ffff8", "ot=th:ffff80000000001", "ot=p:0", "ot=p:16", "ot=p:17", "ot=p:62", "ot=p:63"),
        *(
            "vendor=ot=th:8, ot=th:c\t,rojo=0",
            "ot",
            "ot=",
            ",,ot=th:8",
            " ot=th:8 ",
            "ot =th:8",
            "ot=th:8;",
            "ot=;th:8",
        ),
        *("ot=th:8;th:8", "ot=a:;a:;th:8", "ot=a:b:c;th:8", "ot=:;th:8", "ot=th:8;é:1", "ot=x:" + "y" * 250 + ";th:8"),
        *(
            "ot=th:8;rv:80000000000000",
            "ot=th:8;rv:7fffffffffffff",
            "ot=p:8;r:7",
            "ot=r:8;p:8",
            "ot=p:01",
            "ot=p:1;r:63",
        ),
    ],
)
@pytest.mark.parametrize("trace_id", [KEPT, bytes(16), b"\xff" * 8, b""])
def test_examples(tracestate, trace_id):
    assert compiled(tracestate.encode(), trace_id) == plain(tracestate.encode(), trace_id)


@given(st.integers(0, 2**56 - 1))
def test_every_threshold(threshold):
    tracestate = b"ot=th:%014x" % threshold
    assert compiled(tracestate, KEPT) == plain(tracestate, KEPT)


@given(st.integers(2**16, 2**20), st.integers(-2, 2))
@example(2**16, 0)
@settings(max_examples=500)
def test_thresholds_whose_weight_is_next_to_a_half(weight, off):
    threshold = min(max(2**56 - (2**73 // (2 * weight + 1) + off), 0), 2**56 - 1)
    tracestate = b"ot=th:%014x" % threshold
    assert compiled(tracestate, KEPT) == plain(tracestate, KEPT)


PIECES = st.lists(
    st.sampled_from(
        [*b"ot= ot th: rv: p: r: ; , 8 c 0 63 = : x 00000000000001 ffffffffffffff \xff \xc3\xa9".split(), b" ", b"\t"]
    ),
    max_size=8,
).map(b"".join)


@given(st.sampled_from([b"", b"ot=", b"ot=th:8;", b"v=1,ot=p:3;"]), PIECES, st.binary(max_size=16))
@settings(max_examples=500)
def test_every_text(start, rest, trace_id):
    assert compiled(start + rest, trace_id) == plain(start + rest, trace_id)
