"""YAML that we write: whatever a text says, our own reader reads it back as that text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.yaml_positions import List, Map, Node, Scalar, ScalarKind, read_documents
from stream.config.yaml_text import WIDTH, Written, yaml_document

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
WORDS = st.sampled_from(
    ("no", "NULL", "~", "1e3", "010", "1:30", "0x1F", "- a", "# a", "{a", "a: b", "a\nb", "true", ".5")
)


def plain(node: Node) -> Any:
    match node:
        case Map(entries=entries):
            return {key: plain(entry.value) for key, entry in entries.items()}
        case List(items=items):
            return [plain(item) for item in items]
        case Scalar(kind=ScalarKind.TEXT):
            return node.text
        case _:
            return (node.kind, node.text)


@given(
    st.dictionaries(TEXTS | WORDS, TEXTS | WORDS | st.lists(TEXTS | WORDS, min_size=1, max_size=3), min_size=1), TEXTS
)
def test_texts_come_back_as_texts(document: dict[str, Any], comment: str) -> None:
    text = yaml_document({**document, "line": (document,)}, [comment])
    documents = read_documents("a.yaml", text.encode())
    assert documents.problems == ()
    assert [plain(node) for node in documents.nodes] == [{**document, "line": [document]}]


@pytest.mark.parametrize("number", ["99.9", "0", "-1.50", "1e-3", "100"])
def test_a_number_is_written_as_it_is_given(number: str) -> None:
    documents = read_documents("a.yaml", yaml_document({"a": Written(number)}, []).encode())
    assert [plain(node) for node in documents.nodes] == [{"a": (ScalarKind.NUMBER, number)}]


def test_a_comment_cannot_end_and_go_on_as_yaml() -> None:
    text = yaml_document({"a": "b"}, ["x\ny: z\u2028w: v\x85u: t", "word " * 60])
    documents = read_documents("a.yaml", text.encode())
    assert [plain(node) for node in documents.nodes] == [{"a": "b"}]
    assert max(map(len, text.splitlines())) <= WIDTH
