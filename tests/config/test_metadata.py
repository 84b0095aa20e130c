"""Names are RFC 1123, and what is made of a display name is one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.metadata import FIELDS, Metadata, read_metadata, slug
from stream.config.problems import Position, Problem
from stream.config.sections import open_section
from stream.config.yaml_positions import read_documents


def read(text: str, kind: str = "SLO") -> tuple[Metadata, list[Problem]]:
    problems: list[Problem] = []
    (node,) = read_documents("f", text.encode()).nodes
    section = open_section(node, "f", "metadata", FIELDS, problems)
    assert section is not None
    return read_metadata(section, kind), problems


@pytest.mark.parametrize("name", ["a", "7up", "a-b", "a--b", "0", "x" * 63])
def test_names_that_are_accepted(name: str) -> None:
    metadata, problems = read(f"name: '{name}'\n")
    assert problems == []
    assert metadata == Metadata(name=name, name_position=Position(1, 7))


@pytest.mark.parametrize("name", ["A", "-a", "a-", "a_b", "a.b", "a/b", "é", "a b", "x" * 64, "a\n"])
def test_names_that_are_refused(name: str) -> None:
    (problem,) = read(f"name: {name!r}\n".replace("'", '"'))[1]
    assert problem.path == "metadata.name"


def test_annotations_of_other_tools_are_left_alone() -> None:
    metadata, problems = read("name: a\nannotations: {openslo.com/x: y, qma/sampling: none, QMA/other: z}\n")
    assert problems == []
    assert metadata.annotations.sampling_none


@pytest.mark.parametrize("value", ["true", "None", "NONE", "1", "''", "[none]"])
def test_the_sampling_declaration_is_one_word(value: str) -> None:
    metadata, problems = read(f"name: a\nannotations: {{qma/sampling: {value}}}\n")
    assert not metadata.annotations.sampling_none
    assert [problem.path for problem in problems] == ["metadata.annotations.qma/sampling"]


@given(text=st.text())
def test_a_slug_is_a_name_or_empty(text: str) -> None:
    assert re.fullmatch("([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?", slug(text))


def test_slug() -> None:
    assert slug("  At most 200 ms! ") == "at-most-200-ms"
