"""A YAML reader for files that people write: nodes know their lines, nothing is guessed, nothing can explode.

It differs from `yaml.safe_load`, which stops code but not resources and surprises:

* a file has at most 256 KiB and 32 levels; anchors, aliases, tags and keys that are given twice are refused;
* plain scalars are those of YAML 1.2: `yes`, `no`, `off`, `1:30` are text, `010` is ten, `1e3` a number;
* a number keeps its text, so `0.999` is exactly that and never a float.

Source: YAML 1.2.2, section 10.3.2 (core schema), without octal, hexadecimal, infinity and not-a-number: these
are text here.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import yaml

from stream.config.problems import FILE_START, Position, Problem, quoted, shown
from stream.config.yaml_syntax import syntax_error

FILE_BYTES_MAX = 256 * 1024
DEPTH_MAX = 32

# The C parser is about 20 times faster and gives the same events; PyYAML may have been built without it.
PARSER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
# Source: YAML 1.2.2, section 5.1 (printable characters).
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ScalarKind(StrEnum):
    """What a scalar is. `UNREADABLE` was refused already (an alias): readers pass over it in silence."""

    TEXT = "text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    NULL = "empty"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as written. `text` is what stands in the file, without quotes."""

    position: Position
    text: str
    kind: ScalarKind


@dataclass(frozen=True, slots=True)
class List:
    """A sequence of nodes."""

    position: Position
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of a key, and where the key stands."""

    key_position: Position
    value: Node


@dataclass(frozen=True, slots=True)
class Map:
    """Keys in the order of the file. Keys are always text: `yes:` is the key `yes`."""

    position: Position
    entries: Mapping[str, Entry]


Node = Scalar | List | Map


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What a file holds.

    Args:
        nodes: The documents that could be read, without empty ones.
        problems: What is wrong with the file as YAML.
        complete: The file was read to its end. Otherwise what follows the last problem is unknown.
    """

    nodes: tuple[Node, ...]
    problems: tuple[Problem, ...]
    complete: bool


def read_documents(file: str, data: bytes) -> Documents:
    """Returns the YAML documents in `data` with the problems found on the way. Never raises on bad input.

    Args:
        file: Name of the file in messages.
        data: The content, UTF-8.
    """
    builder = _Builder(file)
    text = _text(builder, data)
    if text is None:
        return Documents(nodes=(), problems=tuple(builder.problems), complete=False)
    try:
        for event in yaml.parse(text, Loader=PARSER):
            if not builder.feed(event):
                return builder.result(complete=False)
    except yaml.MarkedYAMLError as error:
        position, message = syntax_error(error, text)
        builder.refuse(position, "YAML syntax", message)
        return builder.result(complete=False)
    return builder.result(complete=True)


def _text(builder: _Builder, data: bytes) -> str | None:
    if len(data) > FILE_BYTES_MAX:
        message = f"is larger than {FILE_BYTES_MAX // 1024} KiB; split it into several files"
        builder.refuse(FILE_START, "file", message)
        return None
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        builder.refuse(_position_after(before), "file", message)
        return None
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        message = f"holds the control character U+{ord(unprintable[0]):04X}; delete it"
        builder.refuse(_position_after(text[: unprintable.start()]), "file", message)
        return None
    return text


def _position_after(before: str) -> Position:
    return Position(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


@dataclass(slots=True)
class _OpenList:
    """A sequence whose end has not been read yet."""

    position: Position
    items: list[Node] = field(default_factory=list)

    def path_step(self) -> str:
        return f"[{len(self.items)}]"

    def close(self) -> Node:
        return List(self.position, tuple(self.items))


@dataclass(slots=True)
class _OpenMap:
    """A mapping whose end has not been read yet; `key` waits for its value."""

    position: Position
    entries: dict[str, Entry] = field(default_factory=dict)
    key: Scalar | None = None

    def path_step(self) -> str:
        return f".{shown(self.key.text)}" if self.key else ""

    def close(self) -> Node:
        return Map(self.position, self.entries)


class _Builder:
    """Builds nodes from parser events with a stack of its own: no recursion, and no alias is followed."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._nodes: list[Node] = []
        self._open: list[_OpenList | _OpenMap] = []
        self._references: list[tuple[Position, str, str]] = []

    def refuse(self, position: Position, path: str, message: str) -> None:
        self.problems.append(Problem(file=self.file, position=position, path=path, message=message))

    def result(self, *, complete: bool) -> Documents:
        if self._references:
            position, path, written = self._references[0]
            rest = len(self._references) - 1
            also = f" (and {rest} more in this file)" if rest else ""
            fix = "write the value out at each place"
            self.refuse(position, path, f"YAML anchors and aliases are refused: {written}{also}; {fix}")
            self._references.clear()
        return Documents(nodes=tuple(self._nodes), problems=tuple(self.problems), complete=complete)

    def feed(self, event: yaml.Event) -> bool:
        """Takes the next event. Returns False when reading must stop here."""
        assert event.start_mark is not None, "both parsers mark every event"
        position = Position(event.start_mark.line + 1, event.start_mark.column + 1)
        match event:
            case yaml.AliasEvent():
                self._references.append((position, self._path(), quoted(f"*{event.anchor}")))
                self._add(Scalar(position, "", ScalarKind.UNREADABLE))
            case yaml.ScalarEvent():
                self._refuse_properties(event, position)
                self._add(_scalar(event, position))
            case yaml.CollectionStartEvent():
                self._refuse_properties(event, position)
                if len(self._open) == DEPTH_MAX:
                    message = f"is nested deeper than {DEPTH_MAX} levels; flatten it"
                    self.refuse(position, self._path(), message)
                    return False
                is_list = isinstance(event, yaml.SequenceStartEvent)
                self._open.append(_OpenList(position) if is_list else _OpenMap(position))
            case yaml.CollectionEndEvent():
                self._add(self._open.pop().close())
        return True

    def _refuse_properties(self, event: yaml.NodeEvent, position: Position) -> None:
        tag = getattr(event, "tag", None)
        if event.anchor is not None:
            self._references.append((position, self._path(), quoted(f"&{event.anchor}")))
        if tag is not None:
            written = quoted(tag.replace("tag:yaml.org,2002:", "!!"))
            self.refuse(position, self._path(), f"YAML tags are refused: {written}; remove it")

    def _add(self, node: Node) -> None:
        if not self._open:
            if not (isinstance(node, Scalar) and node.kind is ScalarKind.NULL):
                self._nodes.append(node)
            return
        parent = self._open[-1]
        if isinstance(parent, _OpenList):
            parent.items.append(node)
        elif parent.key is None:
            parent.key = self._key(node)
        else:
            self._add_entry(parent, parent.key, node)
            parent.key = None

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        message = "a list or mapping stands where a key must be; write `key: value`"
        self.refuse(node.position, self._path(), message)
        return Scalar(node.position, "", ScalarKind.UNREADABLE)

    def _add_entry(self, parent: _OpenMap, key: Scalar, value: Node) -> None:
        if key.kind is ScalarKind.UNREADABLE:
            return
        first = parent.entries.get(key.text)
        if first is None:
            parent.entries[key.text] = Entry(key.position, value)
            return
        message = f"is given twice, first on line {first.key_position.line}; remove one of the two"
        self.refuse(key.position, self._path(), message)

    def _path(self) -> str:
        return "".join(step.path_step() for step in self._open).removeprefix(".") or "document"


def _scalar(event: yaml.ScalarEvent, position: Position) -> Scalar:
    text = event.value
    # `implicit[0]`: plain and without a tag. Quoted and block scalars are always text.
    if not event.implicit[0]:
        kind = ScalarKind.TEXT
    elif text in _NULLS:
        kind = ScalarKind.NULL
    elif text in _BOOLEANS:
        kind = ScalarKind.BOOLEAN
    elif _NUMBER.fullmatch(text):
        kind = ScalarKind.NUMBER
    else:
        kind = ScalarKind.TEXT
    return Scalar(position, text, kind)
