"""Reading of fields: wrong types are named as the file shows them, one mistake is one line."""

from __future__ import annotations

import pytest

from stream.config.problems import Problem
from stream.config.sections import Section, open_section
from stream.config.yaml_positions import read_documents


def section_of(text: str, *fields: str) -> tuple[Section, list[Problem]]:
    problems: list[Problem] = []
    (node,) = read_documents("f", text.encode()).nodes
    section = open_section(node, "f", "", fields or None, problems)
    assert section is not None
    return section, problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x: [1]", "must be text, not a list; write one value"),
        ("x: {a: 1}", "must be text, not a mapping; write one value"),
        ("x: 1.50", 'must be text, but `1.50` is a number in YAML; write "1.50"'),
        ("x: true", 'must be text, but `true` is true or false in YAML; write "true"'),
        ("x:", "is empty; give it a value or remove it"),
        ("x: '  '", "is empty; give it a value or remove it"),
    ],
)
def test_what_is_not_text(text: str, expected: str) -> None:
    section, problems = section_of(text)
    assert section.text("x") is None
    assert [problem.message for problem in problems] == [expected]


def test_absent_fields_are_reported_only_when_they_are_required() -> None:
    section, problems = section_of("y: 1")
    assert section.text("x") is None
    assert problems == []
    assert section.text("x", missing="add `x: a`") is None
    assert [str(problem) for problem in problems] == ["f:1:1: x: is missing; add `x: a`"]


def test_a_misspelt_field_is_not_reported_as_missing_too() -> None:
    section, problems = section_of("servce: a", "service", "kinds")
    assert section.text("service", missing="add it") is None
    assert [problem.message for problem in problems] == ["is not a known field; did you mean `service`?"]


def test_an_unreadable_value_was_reported_by_the_reader_and_is_passed_over() -> None:
    section, problems = section_of("x: *a")
    assert section.text("x") is None
    assert section.number("x", example="1") is None
    assert section.boolean("x") is None
    assert section.items("x", example="[]") is None
    assert section.section("x", ("a",)) is None
    assert problems == []


def test_an_empty_value_is_reported_at_its_key() -> None:
    section, problems = section_of("a: 1\nx:\n\n\nb: 2")
    assert section.number("x", example="1", missing="write `x: 1`") is None
    assert [str(problem) for problem in problems] == ["f:2:1: x: is empty; write `x: 1`"]


def test_many_unknown_fields_do_not_drown_the_rest() -> None:
    _, problems = section_of("\n".join(f"k{i}: 1" for i in range(50)), "service")
    assert len(problems) == 11
    assert problems[-1].message == "has 40 further unknown fields; remove them"
