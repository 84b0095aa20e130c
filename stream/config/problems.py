"""What is wrong in a file, where, and how to fix it. Problems are collected, so one run shows all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream.core.errors import ConfigError

SHOWN_MAX = 200
"""Lines shown at once. Nobody reads more, and a hostile file must not make a message of megabytes."""

QUOTED_CHARACTERS_MAX = 60
SUGGESTED_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file. Lines and columns count from 1, as editors do; columns count characters."""

    line: int
    column: int


FILE_START = Position(1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file.

    Args:
        file: The file as the operator named it.
        position: Where in the file.
        path: The field, for example `spec.objectives[0].target`, or what could not be read.
        message: What is wrong, a semicolon, and how to fix it. One line.
        is_warning: The file can be used as it is, but probably does not do what its author wants.
    """

    file: str
    position: Position
    path: str
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.position.line}:{self.position.column}"
        return f"{place}: {'warning: ' * self.is_warning}{self.path}: {self.message}"


def in_order(problems: Sequence[Problem], files: Iterable[str] = ()) -> list[Problem]:
    """Returns each problem once, in the order of the files and of the lines in them.

    Args:
        problems: Found problems.
        files: Names of the files in their order; others follow in the order of their first problem.
    """
    order = {file: i for i, file in enumerate(dict.fromkeys((*files, *(problem.file for problem in problems))))}
    return sorted(dict.fromkeys(problems), key=lambda problem: (order[problem.file], problem.position))


def refuse_if_any(problems: Sequence[Problem]) -> None:
    """Raises one error with a line per problem, in order. Warnings are none.

    Args:
        problems: Found problems; those of the file that was read first come first.

    Raises:
        ConfigError: When there is a problem.
    """
    lines = shown_lines([problem for problem in in_order(problems) if not problem.is_warning])
    if lines:
        raise ConfigError("\n".join(lines))


def shown_lines(problems: Sequence[Problem]) -> list[str]:
    """Returns a line per problem, as many as anybody reads."""
    lines = list(map(str, problems[:SHOWN_MAX]))
    rest = len(problems) - len(lines)
    return [*lines, f"and {rest} further problems; fix these first"] if rest else lines


def quoted(text: str) -> str:
    """Returns `text` in backquotes as `shown` shows it."""
    return f"`{shown(text)}`"


def shown(text: str) -> str:
    """Returns `text` on one line: control characters escaped, cut after 60 characters."""
    cut = text[:QUOTED_CHARACTERS_MAX]
    return f"{printable(cut)}…" if len(text) > len(cut) else printable(cut)


def printable(text: str) -> str:
    """Returns a line without what a terminal would act on: names come from whoever sends telemetry."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Iterable[str], *, ratio_min: float = 0.6) -> str | None:
    """Returns the entry of `known` that `word` is most likely a misspelling of, or None.

    Args:
        word: What was written.
        known: What could have been meant.
        ratio_min: Least similarity, from 0 to 1.
    """
    if len(word) > SUGGESTED_CHARACTERS_MAX:
        return None
    lowered = {entry.lower(): entry for entry in known}
    match = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=ratio_min)
    return lowered[match[0]] if match else None


def either(words: Iterable[str]) -> str:
    """Returns `a`, `b` or `c`."""
    listed = [f"`{word}`" for word in words]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
