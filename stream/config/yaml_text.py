"""Plain values as YAML that people go on editing, and that our own reader reads back as the same values."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

WIDTH = 110

# Numbers in YAML 1.2 that PyYAML, which follows 1.1, would leave without quotes.
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)


class Written(str):
    """A number as it is to be written, digit by digit."""


def yaml_document(document: Mapping[str, Any], comments: Iterable[str]) -> str:
    """Returns a document with comments above it: mappings and lists in block style, tuples on one line.

    Args:
        document: Mappings, lists, tuples, texts, integers, booleans and `Written`.
        comments: A paragraph each.
    """
    lines = [line for comment in comments for line in _wrapped(comment)]
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)
    return "".join(f"{line}\n" for line in ("---", *lines)) + body


def _wrapped(comment: str) -> list[str]:
    """Returns the lines of a comment; what would end one in between becomes a blank."""
    text = "".join(c if c.isprintable() else " " for c in comment)
    return textwrap.wrap(
        text, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False
    )


class _Dumper(yaml.SafeDumper):
    """Indents lists under their key and never writes an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _NUMBER.fullmatch(text) or not text.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _line(dumper: yaml.SafeDumper, items: tuple[Any, ...]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _written(dumper: yaml.SafeDumper, text: Written) -> yaml.ScalarNode:
    tag: str = dumper.resolve(yaml.ScalarNode, str(text), (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, str(text))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(tuple, _line)
_Dumper.add_representer(Written, _written)
