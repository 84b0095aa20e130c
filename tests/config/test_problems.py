"""Problems: their order, their shape, and words that are quoted or suggested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.problems import (
    Position,
    Problem,
    either,
    in_order,
    nearest,
    quoted,
    refuse_if_any,
    shown_lines,
)
from stream.core.errors import ConfigError


def problem(file: str, line: int, column: int = 1) -> Problem:
    return Problem(file=file, position=Position(line, column), path="spec", message="is wrong; fix it")


def test_no_problem_is_no_error() -> None:
    refuse_if_any([])


def test_problems_are_sorted_by_file_as_given_then_by_line_and_column() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_if_any([problem("z", 10), problem("a", 1), problem("z", 9, 5), problem("z", 9, 4), problem("z", 9, 4)])
    assert str(caught.value).split("\n") == [
        "z:9:4: spec: is wrong; fix it",
        "z:9:5: spec: is wrong; fix it",
        "z:10:1: spec: is wrong; fix it",
        "a:1:1: spec: is wrong; fix it",
    ]


def test_a_warning_says_that_it_is_one_and_refuses_nothing() -> None:
    warning = Problem(file="f", position=Position(3, 4), path="spec.x", message="is odd; fix it", is_warning=True)
    refuse_if_any([warning])
    assert shown_lines(in_order([warning, problem("f", 2), warning])) == [
        "f:2:1: spec: is wrong; fix it",
        "f:3:4: warning: spec.x: is odd; fix it",
    ]


def test_more_problems_than_anybody_reads_are_counted() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_if_any([problem("f", line) for line in range(1, 1001)])
    lines = str(caught.value).split("\n")
    assert len(lines) == 201
    assert lines[-1] == "and 800 further problems; fix these first"


@given(text=st.text())
def test_quoted_text_is_one_short_line(text: str) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 60 * len("\\U0010ffff") + 3


@pytest.mark.parametrize(
    ("word", "expected"),
    [("budgetMethod", "budgetingMethod"), ("TARGET", "target"), ("xyz", None), ("t" * 65, None)],
)
def test_nearest_word(word: str, expected: str | None) -> None:
    assert nearest(word, ["target", "budgetingMethod"]) == expected


def test_either() -> None:
    assert (either(["a"]), either(["a", "b"]), either(["a", "b", "c"])) == ("`a`", "`a` or `b`", "`a`, `b` or `c`")
