"""Durations of the selector are exact, or refused with the reason."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.goodness import exact_duration_ns, read_duration_ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("200ms", 200_000_000),
        ("1.5s", 1_500_000_000),
        ("2m", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("1ns", 1),
        ("0.001us", 1),
        ("1.000000001s", 1_000_000_001),
        ("0.1s", 100_000_000),
        ("168h", 604_800_000_000_000),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert read_duration_ns(text) == ns


NO_DURATIONS = ["", "200", "ms", "200 ms", "-1s", "1e3s", "1d", "200MS", ".5s", "1.s", "１s", "1s\n", "9" * 19 + "ns"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0s", "is not longer than 0"),
        ("0.1ns", "is finer than a nanosecond"),
        ("169h", "is longer than 7 days"),
        *((text, "is not a duration") for text in NO_DURATIONS),
    ],
)
def test_durations_that_are_refused(text: str, reason: str) -> None:
    message = read_duration_ns(text)
    assert isinstance(message, str)
    assert reason in message


@given(ns=st.integers(1, 7 * 86_400 * 10**9))
def test_a_duration_in_any_unit_comes_back_exactly(ns: int) -> None:
    assert read_duration_ns(f"{ns}ns") == ns
    assert read_duration_ns(f"{ns // 10**6}.{ns % 10**6:06d}ms") == ns
    assert exact_duration_ns(Fraction(ns), "") == ns
