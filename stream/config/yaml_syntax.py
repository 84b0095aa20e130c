"""Says in plain words where YAML syntax breaks. The parser's own words are about tokens, not about files."""

from __future__ import annotations

import yaml

from stream.config.problems import FILE_START, Position, quoted

_COLON = "a `:` that does not belong here"
_NO_COLON = "this line has no `key: value`; add a colon and a space after the key"
_UNALIGNED = "this line does not fit the ones above; align it with its neighbours"
_LIST_ENDS = "a list ends here without reason; start each item with `- ` in the same column"

# Words of libyaml or of PyYAML's own parser, and ours. The first that occurs counts.
_MESSAGES = (
    ("did not find expected key", _UNALIGNED),
    ("but found '<block mapping start>'", _UNALIGNED),
    ("'-' indicator", _LIST_ENDS),
    ("but found '?'", _LIST_ENDS),
    ("<document start>", _UNALIGNED),
    ("unexpected ':'", f"{_COLON}; put quotes around the value"),
    ("alphabetic or numeric", "a value cannot start with `&` or `*`; put quotes around it"),
    ("comment or line break", "text after `|` or `>` starts on the next line; move it there, indented"),
    ("node content", "a value is missing here; complete what is open above, a bracket or a comma"),
    ("entries are not allowed", "a `- ` that does not belong here; start the list on a line of its own"),
    ("unknown escape", "an unknown `\\` escape; double the backslash or use single quotes"),
    ("incompatible YAML", "a `%YAML` line of another version; remove it"),
)


def syntax_error(error: yaml.MarkedYAMLError, text: str) -> tuple[Position, str]:
    """Returns where the syntax of `text` breaks and a message that says how to go on."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return FILE_START, f"{error.problem}; correct the YAML"
    problem, context = error.problem or "", error.context or ""
    here = Position(mark.line + 1, mark.column + 1)
    lines = text.splitlines() or [""]
    at = lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""
    if at == "\t" or "tab" in problem:
        return here, "a tab is used for indentation, which YAML refuses; replace it by spaces"
    if "cannot start any token" in problem:
        return here, f"a value cannot start with {quoted(at)}; put quotes around it"
    if "mapping values are not allowed" in problem:
        return _stray_colon(lines, here)
    opened = error.context_mark
    if opened is not None:
        start = Position(opened.line + 1, opened.column + 1)
        if "quoted scalar" in context and ("end of stream" in problem or "unexpected document" in problem):
            return start, "the quote that opens here is never closed; close it"
        if "flow" in context and "node" not in context:
            closing = "]" if "sequence" in context else "}"
            return start, f"the bracket that opens here breaks off at line {here.line}; add `{closing}` or `,`"
        if "could not find expected ':'" in problem:
            return start, _NO_COLON
    for words, message in _MESSAGES:
        if words in problem:
            return here, message
    return here, f"{problem}; correct the YAML here or just above"


def _stray_colon(lines: list[str], here: Position) -> tuple[Position, str]:
    """Returns what is behind a colon that ends no key: a second one in the line, or the line above."""
    line = lines[here.line - 1]
    if ": " in line[: here.column - 1]:
        return here, f"{_COLON}, the value starts earlier in this line; put quotes around the value"
    above = [(number, text) for number, text in enumerate(lines[: here.line - 1], 1) if text.strip()]
    if above and ":" not in above[-1][1]:
        number, text = above[-1]
        return Position(number, len(text) - len(text.lstrip()) + 1), _NO_COLON
    return here, f"{_COLON}; align this line with the ones above"
