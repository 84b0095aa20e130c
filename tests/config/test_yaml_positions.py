"""The YAML reader: positions, the scalars of YAML 1.2, and the traps of YAML refused cheaply and in plain words."""

from __future__ import annotations

import tracemalloc

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.config import yaml_positions
from stream.config.problems import Position
from stream.config.yaml_positions import FILE_BYTES_MAX, List, Map, Node, Scalar, ScalarKind, read_documents

KINDS = {
    ScalarKind.TEXT: ["yes", "no", "on", "off", "Yes", "NO", "1:30", "12:30:45", "0o10", "0x1f", ".inf", ".nan",
                      "2026-01-01", "1_000", "1e", "e3", ".", "+", "1.2.3", "99.9%", "'1'", '"true"', "=", "<<",
                      "１２"],
    ScalarKind.NUMBER: ["010", "0", "-0", "+1", "1e3", "1E-3", ".5", "5.", "0.999", "1e+3", "0.30000000000000004"],
    ScalarKind.BOOLEAN: ["true", "True", "TRUE", "false", "False", "FALSE"],
    ScalarKind.NULL: ["", "~", "null", "Null", "NULL"],
}  # fmt: skip


@pytest.fixture(params=["c", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs every test with libyaml and with PyYAML's own parser: which one is there depends on the machine."""
    if request.param == "c":
        assert hasattr(yaml, "CBaseLoader"), "without libyaml these tests would test one parser twice"
    else:
        monkeypatch.setattr(yaml_positions, "PARSER", yaml.BaseLoader)


def one(text: str) -> Node:
    documents = read_documents("f", text.encode())
    assert documents.problems == ()
    assert documents.complete
    (node,) = documents.nodes
    return node


def refusals(data: str | bytes) -> list[str]:
    return [
        str(problem) for problem in read_documents("f", data if isinstance(data, bytes) else data.encode()).problems
    ]


def test_every_node_knows_its_line_and_column() -> None:
    root = one("# comment\nmetadata:\n  name: é\n  tags: [é, b]\n\nspec: {x: 1}\n")
    assert isinstance(root, Map)
    assert (root.position, list(root.entries)) == (Position(2, 1), ["metadata", "spec"])
    metadata = root.entries["metadata"]
    assert (metadata.key_position, metadata.value.position) == (Position(2, 1), Position(3, 3))
    assert isinstance(metadata.value, Map)
    tags = metadata.value.entries["tags"].value
    assert isinstance(tags, List)
    assert [item.position for item in tags.items] == [Position(4, 10), Position(4, 13)]
    spec = root.entries["spec"].value
    assert isinstance(spec, Map)
    assert spec.entries["x"].value == Scalar(Position(6, 11), "1", ScalarKind.NUMBER)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in KINDS.items() for text in texts])
def test_plain_scalars_are_those_of_yaml_1_2(kind: ScalarKind, text: str) -> None:
    root = one(f"x: {text}\n")
    assert isinstance(root, Map)
    value = root.entries["x"].value
    assert isinstance(value, Scalar)
    assert (value.kind, value.text) == (kind, text.strip("'\""))


def test_keys_are_text_whatever_they_look_like() -> None:
    root = one("yes: 1\n010: 2\nnull: 3\n1.0: 4\n")
    assert isinstance(root, Map)
    assert list(root.entries) == ["yes", "010", "null", "1.0"]


def test_several_documents_and_empty_ones() -> None:
    documents = read_documents("f", b"---\n---\na: 1\n---\n# only a comment\n---\nb: 2\n...\n")
    assert [node.position.line for node in documents.nodes] == [3, 7]
    assert documents.complete


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    root = one("\ufeffa: 1\r\nb: 2\r\n")
    assert isinstance(root, Map)
    assert root.entries["b"].key_position == Position(2, 1)


def test_an_alias_bomb_is_refused_without_being_followed() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    tracemalloc.start()
    found = refusals("\n".join(lines))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    fix = "write the value out at each place"
    assert found == [f"f:1:4: a: YAML anchors and aliases are refused: `&a` (and 88 more in this file); {fix}"]


def test_an_alias_does_not_hide_what_else_is_wrong() -> None:
    documents = read_documents("f", b"a: *x\nb: 1\nb: 2\n")
    assert [problem.path for problem in documents.problems] == ["b", "a"]
    assert documents.complete


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
@pytest.mark.parametrize("depth", [33, 900, 50_000])
def test_deep_nesting_is_refused_at_level_33(opening: str, depth: int) -> None:
    (found,) = refusals(opening * depth)
    assert "is nested deeper than 32 levels; flatten it" in found


def test_32_levels_are_fine() -> None:
    one("[" * 32 + "]" * 32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: a: is given twice, first on line 1; remove one of the two"),
        ("s:\n  - {k: 1, 'k': 2}\n", "f:2:12: s[0].k: is given twice, first on line 2; remove one of the two"),
        ("a: !!python/object:os.x {}\n", "f:1:4: a: YAML tags are refused: `!!python/object:os.x`; remove it"),
        ("a: !x 1\n", "f:1:4: a: YAML tags are refused: `!x`; remove it"),
        ("? [a]\n: b\n", "f:1:3: document: a list or mapping stands where a key must be; write `key: value`"),
        ("a: 1\x00\n", "f:1:5: file: holds the control character U+0000; delete it"),
        ("a: 1\nb: \x1b[31m\n", "f:2:4: file: holds the control character U+001B; delete it"),
        (b"a: 1\nb: caf\xe9\n", "f:2:7: file: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "f:1:1: file: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"x" * (FILE_BYTES_MAX + 1), "f:1:1: file: is larger than 256 KiB; split it into several files"),
    ],
)  # fmt: skip
def test_traps_are_refused_in_plain_words(text: str | bytes, expected: str) -> None:
    assert refusals(text) == [expected]


def test_a_key_cannot_break_a_message_into_lines() -> None:
    (found,) = refusals('"a\\nb": {k: 1, k: 2}\n')
    assert found == "f:1:16: a\\nb.k: is given twice, first on line 1; remove one of the two"


def test_the_largest_file_is_read() -> None:
    line = "- 0123456789abc\n"
    node = one(line * (FILE_BYTES_MAX // len(line)))
    assert isinstance(node, List)
    assert len(node.items) == 16384


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300) | st.text("ab:-[]{}#&*!|>'\"%@`, \n\t?~01", max_size=80).map(str.encode))
def test_no_bytes_whatever_raise(data: bytes) -> None:
    documents = read_documents("f", data)
    assert documents.complete or documents.problems
