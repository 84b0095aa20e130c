"""The part of PromQL that counts events: sums of rates of counters, and differences of two of them.

Source: Prometheus documentation, "Querying basics" (selectors, string literals) and "Operators".
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from stream.config.problems import quoted
from stream.core.errors import ConfigError

WINDOW = "{{.window}}"

_COUNTING = ("rate", "increase")
_ARITHMETIC = ("+", "*", "/", "%", "^", "atan2")
_SET_OPERATORS = ("or", "and", "unless")
_GROUPINGS = ("by", "without")
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=", "bool")
_MODIFIERS = ("offset", "@")
_NESTING_MAX = 32
_OTHER_TEMPLATE = r"\{\{(?!-?\s*\.\s*window\s*-?\}\})"
_UNKNOWN_ESCAPE = re.compile(r"\\[^abfnrtv\\'\"xuU0-7]")
_SHAPE = f'write `sum(rate(metric{{label="value"}}[{WINDOW}]))`'
_TOKEN = re.compile(
    r"""\s+|\#[^\n]*
    |(?P<window>\{\{-?\s*\.\s*window\s*-?\}\})
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<number>[0-9.][0-9a-zA-Z_.]*)
    |(?P<sign>=~|!~|!=|==|>=|<=|.)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """A condition on a label. `operator` is one of =, !=, =~ and !~; `is_quoted`: the label stood in quotes."""

    label: str
    operator: str
    value: str
    is_quoted: bool = False

    def __str__(self) -> str:
        return f'{self.label}{self.operator}"{self.value}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many events a counter saw in the window: `sum(rate(metric{…}[{{.window}}]))`, or with `increase`.

    The ratio of two counts is the same with either function as long as both have the same one.
    """

    metric: str
    matchers: tuple[Matcher, ...]
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two counts, one less the other."""

    whole: Count
    part: Count


def parse_query(text: str) -> Count | Difference:
    """Returns what a query counts.

    Raises:
        ConfigError: It counts in another way, or is no PromQL. The message says which part of it, and how to fix it.
    """
    parser = _Parser(text)
    found = parser.expression()
    parser.end()
    return found


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


_END = _Token("end", "")


class _Parser:
    """Reads from left to right; every method takes what it returns."""

    def __init__(self, text: str) -> None:
        self._tokens = [_Token(m.lastgroup, m[0]) for m in _TOKEN.finditer(text) if m.lastgroup is not None]
        self._at = 0
        self._nesting = 0
        if re.search(_OTHER_TEMPLATE, text):
            raise ConfigError(f"a template other than `{WINDOW}` cannot be filled in; write what it stands for")

    def expression(self) -> Count | Difference:
        found = self._operand()
        while True:
            word = self._next.text.lower()
            if word == "-":
                self._at += 1
                found = _difference(found, self._operand())
            elif word == "or" and self._zero():
                if self._next.text == "-":
                    raise ConfigError("`vector(0)` is subtracted from; put brackets around what stands before `or`")
            else:
                self._refuse_operator(word)
                return found

    def end(self) -> None:
        if self._next is not _END:
            raise ConfigError(f"{quoted(self._next.text)} does not belong where it stands; {_SHAPE}")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _take(self, text: str) -> bool:
        taken = self._next.kind == "sign" and self._next.text == text
        self._at += taken
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            found = quoted(self._next.text) if self._next is not _END else "the end of the query"
            raise ConfigError(f"{found} stands where `{text}` must be; {_SHAPE}")

    def _refuse_operator(self, word: str) -> None:
        if word in _ARITHMETIC:
            fix = "write one counter with the labels of what is counted, in a regular expression for several values"
            raise ConfigError(f"the arithmetic `{word}` cannot be expressed; {fix}")
        if word in _SET_OPERATORS:
            raise ConfigError(f"the operator `{word}` cannot be expressed, other than `or vector(0)`; {_SHAPE}")
        if word in _COMPARISONS:
            raise ConfigError(f"the comparison `{word}` looks at values and not at events; {_SHAPE}")

    def _zero(self) -> bool:
        """Returns whether `or vector(0)` or `or on() vector(0)` was taken: counting knows a zero without it."""
        words = [token.text.lower() for token in self._tokens[self._at : self._at + 8]]
        for zero in (["or", "vector", "(", "0", ")"], ["or", "on", "(", ")", "vector", "(", "0", ")"]):
            if words[: len(zero)] == zero:
                self._at += len(zero)
                return True
        return False

    def _operand(self) -> Count | Difference:
        if self._take("("):
            self._nesting += 1
            if self._nesting > _NESTING_MAX:
                raise ConfigError(f"brackets are nested deeper than {_NESTING_MAX} levels; remove some")
            found = self.expression()
            self._expect(")")
            self._nesting -= 1
            return found
        token = self._next
        self._at += 1
        if token.kind == "name" and token.text == "sum":
            return self._sum()
        if token.kind == "name" and self._next.text in ("(", *_GROUPINGS):
            raise ConfigError(f"the function `{token.text}` cannot be expressed{_function_fix(token.text)}; {_SHAPE}")
        if token.kind == "name" and ":" in token.text:
            raise ConfigError(_recorded(token.text))
        if token is _END:
            raise ConfigError(f"the query breaks off; {_SHAPE}")
        if token.kind == "number":
            raise ConfigError(f"the number {quoted(token.text)} counts no events; {_SHAPE}")
        raise ConfigError(f"{quoted(token.text)} is not summed up; {_SHAPE}")

    def _sum(self) -> Count:
        self._refuse_grouping()
        self._expect("(")
        brackets = 0
        while self._take("("):
            brackets += 1
        function = self._next.text
        if ":" in function:
            raise ConfigError(_recorded(function))
        if self._next.kind != "name" or function not in _COUNTING:
            what = quoted(function) if function else "the end of the query"
            raise ConfigError(f"{what} stands in `sum` where a rate or an increase must be; {_SHAPE}")
        self._at += 1
        self._expect("(")
        count = self._range(function)
        for _ in range(brackets + 2):
            self._refuse_operator(self._next.text.lower())
            self._expect(")")
        self._refuse_grouping()
        return count

    def _refuse_grouping(self) -> None:
        if self._next.text.lower() in _GROUPINGS:
            fix = "sum over all labels, and write an SLO for each group that needs its own"
            raise ConfigError(f"`sum {self._next.text.lower()}` has a result for each group; {fix}")

    def _range(self, function: str) -> Count:
        metric, matchers = self._selector()
        self._expect("[")
        if self._next.kind != "window":
            raise ConfigError(f"counts over {quoted(self._next.text)} whatever the window is; write `[{WINDOW}]`")
        self._at += 1
        if self._take(":"):
            raise ConfigError(f"a subquery cannot be expressed; {_SHAPE}")
        self._expect("]")
        if self._next.text.lower() in _MODIFIERS:
            raise ConfigError(f"the modifier `{self._next.text}` shifts time, which cannot be expressed; remove it")
        return Count(metric=metric, matchers=tuple(matchers), function=function)

    def _selector(self) -> tuple[str, list[Matcher]]:
        metric, matchers = "", []
        if self._next.kind == "name":
            metric = self._next.text
            self._at += 1
        if self._take("{"):
            while not self._take("}"):
                label = self._label()
                if self._next.text in ("=", "!=", "=~", "!~"):
                    matchers.append(self._matcher(label))
                elif label.kind == "string" and not metric:
                    metric = _unquoted(label.text)
                else:
                    self._expect("=")
                if not self._take(","):
                    self._expect("}")
                    break
        if not metric:
            raise ConfigError(f"no metric is named; {_SHAPE}")
        if ":" in metric:
            raise ConfigError(_recorded(metric))
        return metric, matchers

    def _label(self) -> _Token:
        token = self._next
        if token.kind not in ("name", "string"):
            raise ConfigError(f"{quoted(token.text)} stands where a label must be; {_SHAPE}")
        self._at += 1
        return token

    def _matcher(self, label: _Token) -> Matcher:
        operator, value = self._tokens[self._at].text, self._tokens[self._at + 1 : self._at + 2]
        if not value or value[0].kind != "string":
            raise ConfigError(f"`{label.text}{operator}` has no value in quotes; {_SHAPE}")
        self._at += 2
        is_quoted = label.kind == "string"
        name = _unquoted(label.text) if is_quoted else label.text
        if name == "__name__":
            raise ConfigError("`__name__` as a label cannot be expressed; write the metric in front of the braces")
        return Matcher(label=name, operator=operator, value=_unquoted(value[0].text), is_quoted=is_quoted)


def _difference(whole: Count | Difference, part: Count | Difference) -> Difference:
    if isinstance(whole, Difference) or isinstance(part, Difference):
        raise ConfigError("more than one subtraction cannot be expressed; write all events less the good ones")
    return Difference(whole=whole, part=part)


def _recorded(name: str) -> str:
    return f"{quoted(name)} is a recording rule; write the query that it records"


def _function_fix(name: str) -> str:
    match name:
        case "histogram_quantile":
            return ": a quantile counts no events (subtract the bucket of the threshold from the count instead)"
        case "rate" | "increase":
            return " outside of `sum`: it has a result for each series"
        case _:
            return ""


def _unquoted(text: str) -> str:
    """Returns what a string literal says. Source: "String literals": backslash escapes as in Go, none in backticks."""
    if text[0] == "`":
        return text[1:-1]
    # Python's own escapes are the same but for unknown ones, which it keeps and PromQL refuses.
    if not _UNKNOWN_ESCAPE.search(text.replace("\\\\", "")):
        try:
            return str(ast.literal_eval(text))
        except (SyntaxError, ValueError):
            pass
    raise ConfigError(f"the escapes of {quoted(text)} cannot be read; double each backslash")
