"""Typed reading of YAML mappings: a wrong, missing or unknown field becomes a problem and reading goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream.config.problems import Position, Problem, either, nearest, quoted, shown
from stream.config.yaml_positions import Entry, List, Map, Node, Scalar, ScalarKind

UNKNOWN_FIELDS_SHOWN_MAX = 10
NUMBER_CHARACTERS_MAX = 64
EXPONENT_MAX = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A mapping of a file while it is being read.

    Every reading method returns the value, or None after it reported why there is none. A field that is
    optional and absent is None without a report. The argument `missing` makes a field required: it is the fix
    that is printed.

    Args:
        file: The file as the operator named it.
        path: Path of this mapping, empty for a document.
        position: Where to point when a field is missing: the key that opens this mapping.
        entries: The fields.
        misspelt: Fields that an unknown field was taken for; they are not reported as missing as well.
        problems: Where problems are collected.
    """

    file: str
    path: str
    position: Position
    entries: Mapping[str, Entry]
    misspelt: frozenset[str]
    problems: list[Problem]

    def refuse(self, name: str, message: str) -> None:
        """Reports a problem of the field `name`, or of this mapping when it does not hold the field."""
        self.refuse_at(self._position_of(name), self.path_of(name), message)

    def warn(self, name: str, message: str) -> None:
        """Warns of the field `name`, or of this mapping when it does not hold the field."""
        position, path = self._position_of(name), self.path_of(name)
        self.problems.append(Problem(file=self.file, position=position, path=path, message=message, is_warning=True))

    def refuse_at(self, position: Position, path: str, message: str) -> None:
        """Reports a problem at a place."""
        self.problems.append(Problem(file=self.file, position=position, path=path, message=message))

    def path_of(self, name: str) -> str:
        """Returns the path of the field `name`."""
        return f"{self.path}.{shown(name)}" if self.path else shown(name)

    def has(self, name: str) -> bool:
        """Returns whether the field is present with a value."""
        entry = self.entries.get(name)
        return entry is not None and not _is_null(entry.value)

    def text(self, name: str, *, missing: str | None = None) -> str | None:
        """Returns the text of a field, which is not empty."""
        node = self._value(name, missing)
        return None if node is None else self.text_of(node, self.path_of(name))

    def text_of(self, node: Node, path: str) -> str | None:
        """Returns the text of a node, which is not empty."""
        if not isinstance(node, Scalar):
            self.refuse_at(node.position, path, f"must be text, not {_described(node)}; write one value")
        elif node.kind in (ScalarKind.NUMBER, ScalarKind.BOOLEAN):
            message = f'must be text, but {quoted(node.text)} is {node.kind} in YAML; write "{node.text}"'
            self.refuse_at(node.position, path, message)
        elif node.kind is ScalarKind.NULL or (node.kind is ScalarKind.TEXT and not node.text.strip()):
            self.refuse_at(node.position, path, "is empty; give it a value or remove it")
        elif node.kind is ScalarKind.TEXT:
            return node.text
        return None

    def number(self, name: str, *, example: str, missing: str | None = None) -> str | None:
        """Returns a number as it is written, with at most 64 characters and an exponent of at most 99.

        Args:
            name: The field.
            example: A value to show in a message.
            missing: How to fix the absence of a required field.
        """
        node = self._value(name, missing)
        if node is None or _is_unreadable(node):
            return None
        if not isinstance(node, Scalar) or node.kind is not ScalarKind.NUMBER:
            self.refuse(name, f"must be a number, not {_described(node)}; {_number_fix(node, name, example)}")
            return None
        exponent = node.text.lower().partition("e")[2]
        digits = exponent.lstrip("+-").lstrip("0")
        if len(node.text) > NUMBER_CHARACTERS_MAX or len(digits) > len(str(EXPONENT_MAX)):
            fix = f"write fewer digits, for example `{name}: {example}`"
            self.refuse(name, f"{quoted(node.text)} is too long or too extreme a number; {fix}")
            return None
        return node.text

    def boolean(self, name: str, *, missing: str | None = None) -> bool | None:
        """Returns true or false."""
        node = self._value(name, missing)
        if node is None or _is_unreadable(node):
            return None
        if isinstance(node, Scalar) and node.kind is ScalarKind.BOOLEAN:
            return node.text.lower() == "true"
        self.refuse(name, f"must be true or false, not {_described(node)}; write `{name}: true` or `{name}: false`")
        return None

    def section(self, name: str, fields: Sequence[str] | None, *, missing: str | None = None) -> Section | None:
        """Returns the mapping of a field; `fields` are its known fields, None allows any."""
        node = self._value(name, missing)
        if node is None:
            return None
        return self.section_of(node, self.path_of(name), fields, self.entries[name].key_position)

    def section_of(self, node: Node, path: str, fields: Sequence[str] | None, position: Position) -> Section | None:
        """Returns the mapping in a node; `position` is where it is opened."""
        return open_section(node, self.file, path, fields, self.problems, position)

    def items(self, name: str, *, example: str, missing: str | None = None) -> tuple[Node, ...] | None:
        """Returns the items of a list."""
        node = self._value(name, missing)
        if node is None or _is_unreadable(node):
            return None
        if isinstance(node, List):
            return node.items
        self.refuse(name, f"must be a list, not {_described(node)}; write `{name}: {example}`")
        return None

    def _position_of(self, name: str) -> Position:
        entry = self.entries.get(name)
        return self.position if entry is None else _value_position(entry)

    def _value(self, name: str, missing: str | None) -> Node | None:
        entry = self.entries.get(name)
        if entry is None:
            if missing is not None and name not in self.misspelt:
                self.refuse(name, f"is missing; {missing}")
            return None
        if _is_null(entry.value):
            self.refuse(name, f"is empty; {missing or 'give it a value or remove it'}")
            return None
        return entry.value


def open_section(
    node: Node,
    file: str,
    path: str,
    fields: Sequence[str] | None,
    problems: list[Problem],
    position: Position | None = None,
) -> Section | None:
    """Returns the mapping in `node` after reporting unknown fields, or None after reporting that it is none.

    Args:
        node: What was read.
        file: The file as the operator named it.
        path: Path of the node.
        fields: The known fields; None allows any.
        problems: Where problems are collected.
        position: Where the mapping is opened; None: where it starts.
    """
    if not isinstance(node, Map):
        if not _is_unreadable(node):
            fix = f"write `field: value` lines; fields: {', '.join(fields)}" if fields else "write `key: value`"
            message = f"must be a mapping, not {_described(node)}; {fix}"
            problems.append(Problem(file=file, position=node.position, path=path or "document", message=message))
        return None
    unknown = [] if fields is None else [name for name in node.entries if name not in fields]
    guesses = {name: nearest(name, fields or ()) for name in unknown[:UNKNOWN_FIELDS_SHOWN_MAX]}
    section = Section(
        file=file,
        path=path,
        position=position or node.position,
        entries=node.entries,
        misspelt=frozenset(guess for guess in guesses.values() if guess and guess not in node.entries),
        problems=problems,
    )
    for name, guess in guesses.items():
        known = ", ".join(fields or ())
        fix = f"did you mean `{guess}`?" if guess else f"remove it or correct its indentation; known here: {known}"
        section.refuse_at(node.entries[name].key_position, section.path_of(name), f"is not a known field; {fix}")
    rest = len(unknown) - len(guesses)
    if rest:
        at = node.entries[unknown[UNKNOWN_FIELDS_SHOWN_MAX]].key_position
        section.refuse_at(at, path or "document", f"has {rest} further unknown fields; remove them")
    return section


def not_among(text: str, known: Sequence[str]) -> str:
    """Returns the message for a word that is none of `known`."""
    guess = nearest(text, known)
    fix = f"did you mean `{guess}`?" if guess else f"write {either(known)}"
    return f"{quoted(text)} is not known; {fix}"


def _value_position(entry: Entry) -> Position:
    # An empty value has no place of its own (the parser points behind it, at the next line); its key has.
    return entry.key_position if _is_null(entry.value) else entry.value.position


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is ScalarKind.NULL


def _is_unreadable(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is ScalarKind.UNREADABLE


def _described(node: Node) -> str:
    match node:
        case List():
            return "a list"
        case Map():
            return "a mapping"
        case Scalar(text="", kind=ScalarKind.TEXT):
            return "empty text"
        case Scalar(text=text, kind=ScalarKind.TEXT):
            return f"the text {quoted(text)}"
        case Scalar(kind=ScalarKind.NULL):
            return "empty"
        case _:
            return quoted(node.text)


def _number_fix(node: Node, name: str, example: str) -> str:
    if isinstance(node, Scalar):
        if node.text.endswith("%") and name == "target":
            return f"write `targetPercent: {node.text[:-1].strip()}`"
        bare = node.text.rstrip("%").strip()
        if bare.replace(".", "", 1).isdecimal() and bare.isascii():
            return f"write `{name}: {bare}`, without quotes or a sign"
    return f"write for example `{name}: {example}`"
