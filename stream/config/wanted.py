"""Texts, attributes and their values as files name them. They are compared with telemetry as text."""

from __future__ import annotations

from stream.config.problems import quoted
from stream.config.sections import NUMBER_CHARACTERS_MAX, Section
from stream.config.yaml_positions import List, Node, Scalar, ScalarKind
from stream.core.slo.selection import CHARACTERS_MAX, as_text, can_be_compared
from stream.core.slo.spec import ANY_VALUE, NO_VALUE, Wanted

_ANY_FIX = "write it alone, or the values alone"


def read_texts(section: Section, name: str, *, example: str, what: str) -> tuple[str, ...] | None:
    """Returns the texts in a list, sorted, or None after a report. Numbers are refused: `1.10` is not `1.1`.

    Args:
        section: The mapping that holds the field.
        name: The field.
        example: A list to show in a message.
        what: What each of them is.
    """
    before = len(section.problems)
    items = section.items(name, example=example)
    if items is None:
        return None
    if not items:
        section.refuse(name, f"is an empty list, so nothing would fit; write `{name}: {example}` or remove it")
    texts: set[str] = set()
    for i, item in enumerate(items):
        path = f"{section.path_of(name)}[{i}]"
        text = section.text_of(item, path)
        if text is not None and not can_be_compared(text):
            section.refuse_at(item.position, path, not_comparable(text, what))
        elif text in (ANY_VALUE, NO_VALUE):
            section.refuse_at(item.position, path, f"`{text}` stands for no {what[2:]}; remove it, or name one")
        elif text in texts:
            section.refuse_at(item.position, path, f"{quoted(str(text))} is given twice; remove one of the two")
        elif text is not None:
            texts.add(text)
    return None if len(section.problems) > before else tuple(sorted(texts))


def read_wanted(section: Section, name: str, *, example: str) -> Wanted | None:
    """Returns the attributes and values in a mapping `name: {key: value}` or `name: {key: [value, …]}`.

    Args:
        section: The mapping that holds the field.
        name: The field.
        example: A value to show in a message.

    Returns:
        Attributes and the texts of their values, sorted; None after a report.
    """
    before = len(section.problems)
    mapping = section.section(name, None, missing=f"write `{name}: {example}`")
    if mapping is None:
        return None
    if not mapping.entries:
        section.refuse(name, f"names no attribute; write `{name}: {example}`")
    wanted: dict[str, tuple[str, ...]] = {}
    for key, entry in mapping.entries.items():
        path = mapping.path_of(key)
        if not can_be_compared(key):
            section.refuse_at(entry.key_position, path, not_comparable(key, "the name of an attribute"))
        wanted[key] = _values(mapping, entry.value, path)
    return None if len(section.problems) > before else tuple(sorted(wanted.items()))


def _values(section: Section, node: Node, path: str) -> tuple[str, ...]:
    """Returns the values in a scalar or a list of scalars, sorted."""
    if not isinstance(node, List):
        text = _value(section, node, path)
        return () if text is None else (text,)
    if not node.items:
        section.refuse_at(node.position, path, "is an empty list, so nothing would fit; write one value at least")
    values: set[str] = set()
    for i, item in enumerate(node.items):
        at = f"{path}[{i}]"
        text = _value(section, item, at)
        if text in values:
            section.refuse_at(item.position, at, f"{quoted(text)} is given twice; remove one of the two")
        elif text is not None:
            values.add(text)
    if ANY_VALUE in values and len(values) > 1:
        section.refuse_at(node.position, path, f"has `{ANY_VALUE}`, which is any value, beside others; {_ANY_FIX}")
    return tuple(sorted(values))


def _value(section: Section, node: Node, path: str) -> str | None:
    """Returns a value as attributes are compared: `200` and `"200"` are the same."""
    if isinstance(node, Scalar) and node.kind is ScalarKind.BOOLEAN:
        return node.text.lower()
    if isinstance(node, Scalar) and node.kind is ScalarKind.NUMBER:
        number = _number_text(node.text)
        if number is None:
            fix = f"write at most {NUMBER_CHARACTERS_MAX} characters, or quotes around it"
            section.refuse_at(node.position, path, f"{quoted(node.text)} is too long or too large a number; {fix}")
        return number
    if not isinstance(node, Scalar):
        message = "must be a value or a list of values; write text, a number, true or false"
        section.refuse_at(node.position, path, message)
        return None
    text = section.text_of(node, path)
    if text is not None and not can_be_compared(text):
        section.refuse_at(node.position, path, not_comparable(text, "the value of an attribute"))
    return text


def _number_text(text: str) -> str | None:
    if len(text) > NUMBER_CHARACTERS_MAX:
        return None
    if text.lstrip("+-").isdecimal():
        return as_text(int(text))
    number = float(text)
    return None if number in (float("inf"), float("-inf")) else as_text(number)


def named(wanted: Wanted) -> dict[str, tuple[str, ...]]:
    """Returns the attributes that are asked for by values, with these."""
    return {key: values for key, values in wanted if values != (ANY_VALUE,)}


def covers(own: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Returns whether what has one of the values `others` has one of the values `own` in any case."""
    return set(others) <= set(own) or (ANY_VALUE in own and NO_VALUE not in others)


def not_comparable(text: str, what: str) -> str:
    """Returns what is wrong with a text that telemetry could never say."""
    fix = f"write 1 to {CHARACTERS_MAX} printable characters without blanks around them"
    return f"{quoted(text)} cannot be {what}; {fix}"
