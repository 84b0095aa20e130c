"""Broken YAML: where it breaks and what to do, the same words whichever parser is installed."""

from __future__ import annotations

import pytest
import yaml

from stream.config import yaml_positions
from stream.config.yaml_positions import read_documents

CASES = [
    ("a:\n\tb: 1\n", "2:1", "a tab is used for indentation, which YAML refuses; replace it by spaces"),
    ("a: @x\n", "1:4", "a value cannot start with `@`; put quotes around it"),
    ("a: `x`\n", "1:4", "a value cannot start with ```; put quotes around it"),
    ("a: 'x\nb: 2\n", "1:4", "the quote that opens here is never closed; close it"),
    ('a: "x\n', "1:4", "the quote that opens here is never closed; close it"),
    ("a: {b: 1\nc: 2\n", "1:4", "the bracket that opens here breaks off at line 2; add `}` or `,`"),
    ("a: [1\n", "1:4", "the bracket that opens here breaks off at line 2; add `]` or `,`"),
    ("a: [1,\n", "2:1", "a value is missing here; complete what is open above, a bracket or a comma"),
    ("a: - b\n", "1:4", "a `- ` that does not belong here; start the list on a line of its own"),
    ("a: b: c\n", "1:5", "a `:` that does not belong here, the value starts earlier in this line; "
     "put quotes around the value"),
    ("a: 1\n  b: 2\n", "2:4", "a `:` that does not belong here; align this line with the ones above"),
    ("a: 1\nservice x\n  b: 2\n", "2:1", "this line has no `key: value`; add a colon and a space after the key"),
    ("a: 1\ny\nz: 2\n", "2:1", "this line has no `key: value`; add a colon and a space after the key"),
    ("a:\n  - b\n c: d\n", "3:2", "this line does not fit the ones above; align it with its neighbours"),
    ("- a\nb: c\n", "2:1", "a list ends here without reason; start each item with `- ` in the same column"),
    (" a: 1\nb: 2\n", "2:1", "this line does not fit the ones above; align it with its neighbours"),
    ("a: 'x\n---\nb: 1\n", "1:4", "the quote that opens here is never closed; close it"),
    ("%YAML 3.0\n---\na: 1\n", "1:1", "a `%YAML` line of another version; remove it"),
]  # fmt: skip


@pytest.mark.parametrize("loader", ["CBaseLoader", "BaseLoader"])
@pytest.mark.parametrize(("text", "position", "message"), CASES)
def test_broken_syntax(text: str, position: str, message: str, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_positions, "PARSER", getattr(yaml, loader))
    documents = read_documents("f", text.encode())
    assert [str(problem) for problem in documents.problems] == [f"f:{position}: YAML syntax: {message}"]
    assert not documents.complete


def test_an_unknown_escape_is_named_with_its_line() -> None:
    (problem,) = read_documents("f", b'a: 1\nb: "\\q"\n').problems
    assert problem.position.line == 2
    assert problem.message == "an unknown `\\` escape; double the backslash or use single quotes"


def test_documents_before_the_break_are_still_read() -> None:
    documents = read_documents("f", b"a: 1\n---\nb: [\n")
    assert len(documents.nodes) == 1
    assert not documents.complete
