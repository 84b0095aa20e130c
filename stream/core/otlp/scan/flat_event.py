"""One flat event, read by address into a record of words: its fields, whatever their order.

What the reference decoder would refuse, or where this one is not sure to agree with it, is `UNSURE`.

Source: `schemas/telemetry-event.v1.schema.json`, `reference/flat.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int64, uint64

from stream.core.columns import NO_CODE, Kind, Status
from stream.core.otlp import semconv
from stream.core.otlp.reference.flat import COUNT_MAX, DURATION_MS_MAX, TEXT_MAX, TIME_NS_MIN
from stream.core.otlp.scan.guesses import (
    GUESS_WORDS,
    guess_of,
    guessed,
    guessed_index,
    guessed_size,
    remember,
)
from stream.core.otlp.scan.intern import interned
from stream.core.otlp.scan.memory import (
    byte_swapped,
    inlined,
    inner,
    load32,
    load64,
    load_short,
    load_word,
    stack_words,
    store64,
)
from stream.core.otlp.scan.strict_json import (
    EXACT,
    FEW_DIGITS,
    INTEGER,
    NEGATIVE,
    after_space,
    after_text,
    after_value,
    byte,
    few_digits,
    is_digit,
    is_null,
    number,
    text_end,
    value_behind_quote,
)
from stream.core.otlp.scan.wire import lookup
from stream.core.units import SECOND_NS, TIME_NS_MAX

UNSURE = -1
"""Negative like an address that there is not: the reference decoder has to look at this event."""

FULL = -2
"""A table has no room: the event has to be read again once it has."""

(
    WORDS,
    SERVICES,
    SETS,
    FIELD_KEYS,
    ATTRIBUTE_KEYS,
    MESSAGE_BYTES,
    ATTRIBUTES_LIMIT,
    VALUE_BYTES,
    LAST_ENVIRONMENT,
    LAST_NAMESPACE,
    GUESSES,
) = range(11)
"""Words of a plan: tables of texts, of services, of chains of attributes; `KeyTable`s of `FIELDS` and of the wanted
attributes; limits; what `interned_again` and `guesses` keep."""

PLAN_WORDS = GUESSES + GUESS_WORDS

FIELDS = (
    "service",
    "environment",
    "namespace",
    "version",
    "error_type",
    "id",
    "time",
    "duration_ms",
    "status",
    "code",
    "kind",
    "count",
    "trace_id",
    "attributes",
)
"""Texts first: text i is the words 2i (its address) and 2i + 1 (its length) of the record."""

SERVICE, ENVIRONMENT, NAMESPACE, VERSION, ERROR_TYPE, ID = range(0, 12, 2)
TIME, DURATION, STATUS, CODE, KIND, COUNT, TRACE_HI, TRACE_LO, ATTRIBUTES = range(12, 21)
"""Words of the record. An absent text has length 0, an absent time is 0, no attributes are 0."""

RECORD_WORDS = 21

_TEXTS = 6
_F_TIME, _F_DURATION, _F_STATUS, _F_CODE, _F_KIND, _F_COUNT, _F_TRACE_ID, _F_ATTRIBUTES = range(_TEXTS, len(FIELDS))

_QUOTE, _COMMA, _OPEN_OBJECT, _CLOSE_OBJECT = 34, 44, 123, 125
_NO_CODE, _SERVER = int(NO_CODE), int(Kind.SERVER)


def _word(text: str) -> Any:
    return np.uint64(int.from_bytes(text.encode().ljust(8, b"\0"), "little"))


_W_OK, _W_ERROR = _word("ok"), _word("error")
_OK, _ERROR = int(Status.OK), int(Status.ERROR)
_KIND_WORDS = np.array([_word(kind.name.lower()) if kind else _word("?") for kind in Kind])
"""Name by number; each fits into eight bytes."""

assert [kind.value for kind in Kind] == list(range(len(_KIND_WORDS))), "a kind's number is its place"
assert all(len(kind.name) <= 8 for kind in Kind if kind), "a kind's name is one word"

_WORD_MAX = 8
_HTTP_MIN, _HTTP_MAX, _GRPC_MAX = semconv.HTTP_MIN, semconv.HTTP_MAX, semconv.GRPC_MAX


@inner
def read_event(at: int, end: int, record: int, plan: int) -> Any:
    """Returns 0 where the record holds the event of the message at `at`, else `UNSURE` or `FULL`.

    Args:
        at: Where the message begins.
        end: Where it ends.
        record: Address of `RECORD_WORDS` words.
        plan: Address of `PLAN_WORDS` words.
    """
    if end - at > load_word(plan + 8 * MESSAGE_BYTES):
        return int64(UNSURE)
    fields = load_word(plan + 8 * FIELD_KEYS)
    _blank(record, at)
    at = after_space(at, end)
    if at >= end or byte(at) != _OPEN_OBJECT:
        return int64(UNSURE)
    at = after_space(at + 1, end)
    seen, place = int64(0), int64(0)
    while at < end and byte(at) == _QUOTE:
        guess = guess_of(plan + 8 * GUESSES, place)
        place += 1
        if guessed(guess, at + 1):
            field = guessed_index(guess)
            at = after_space(at + 1 + guessed_size(guess), end)
        else:
            quote, escaped = text_end(at + 1, end)
            if quote < 0 or escaped:
                return int64(UNSURE)
            field = lookup(fields, at + 1, quote - at - 1)
            remember(guess, at + 1, quote - at + 1, field)
            at = value_behind_quote(quote, end)
            if at < 0:
                return int64(UNSURE)
        if field < 0:
            at = after_text(at, end) if byte(at) == _QUOTE else after_value(at, end)
        elif seen >> field & 1:
            return int64(UNSURE)  # a duplicate: the last counts, also in what it refuses
        else:
            seen |= int64(1) << field
            at = _read_field(field, at, end, record, plan)
        if at < 0:
            return at
        if byte(at) == _COMMA and byte(at + 1) == _QUOTE:
            at += 1
            continue
        at = after_space(at, end)
        if byte(at) != _COMMA:
            break
        at = after_space(at + 1, end)
        if byte(at) != _QUOTE:
            return int64(UNSURE)
    if at >= end or byte(at) != _CLOSE_OBJECT or after_space(at + 1, end) != end:
        return int64(UNSURE)
    if load_word(record + 8 * (SERVICE + 1)) == 0 or load_word(record + 8 * TIME) == 0:
        return int64(UNSURE)
    return int64(0)


@inlined
def _blank(record: int, at: int) -> None:
    for i in range(RECORD_WORDS):
        store64(record + 8 * i, 0)
    for i in range(_TEXTS):
        store64(record + 16 * i, at)  # also an empty text lies where one may look
    store64(record + 8 * CODE, _NO_CODE)
    store64(record + 8 * KIND, _SERVER)
    store64(record + 8 * COUNT, 1)


@inlined
def _read_field(field: int, at: int, end: int, record: int, plan: int) -> Any:
    """Returns the address behind the value of a field, else `UNSURE` or `FULL`."""
    if byte(at) != _QUOTE:
        return _read_value(field, at, end, record, plan)
    quote, escaped = text_end(at + 1, end)
    size = quote - at - 1
    # A text of so many bytes has no more characters. Longer ones may be short enough, in characters.
    if escaped or uint64(size) > uint64(TEXT_MAX):
        return int64(UNSURE)
    if field < _TEXTS:
        store64(record + 16 * field, at + 1)
        store64(record + 16 * field + 8, size)
    elif not _read_special_text(field, at + 1, size, record):
        return int64(UNSURE)
    return quote + 1


@inner
def _read_value(field: int, at: int, end: int, record: int, plan: int) -> Any:
    """Returns the address behind the value of a field, which is no text, else `UNSURE` or `FULL`."""
    if is_null(at):
        return at + 4
    if field == _F_DURATION:
        return _read_duration(at, end, record)
    if field == _F_TIME or field == _F_CODE or field == _F_COUNT:
        return _read_integer(field, at, end, record)
    if field == _F_ATTRIBUTES and byte(at) == _OPEN_OBJECT:
        return _read_attributes(at, end, record, plan)
    return int64(UNSURE)


@inner
def _read_special_text(field: int, at: int, size: int, record: int) -> Any:
    if field == _F_TIME:
        time_ns = _time_ns(at, size)
        store64(record + 8 * TIME, time_ns)
        return time_ns >= 0
    if field == _F_TRACE_ID:
        return size == 0 or (size == 32 and _read_trace_id(at, record))
    if size > _WORD_MAX:
        return False
    if field == _F_STATUS:
        status = _status(load_short(at, size))
        store64(record + 8 * STATUS, status)
        return status >= 0
    if field == _F_KIND:
        kind = _kind(load_short(at, size))
        store64(record + 8 * KIND, kind)
        return kind >= 0
    return False


@inlined
def _status(word: Any) -> Any:
    if word == _W_OK:
        return int64(_OK)
    return int64(_ERROR) if word == _W_ERROR else int64(UNSURE)


@inner
def _kind(word: Any) -> Any:
    for i in range(1, len(_KIND_WORDS)):
        if word == _KIND_WORDS[i]:
            return int64(i)
    return int64(UNSURE)


@inner
def _read_integer(field: int, at: int, end: int, record: int) -> Any:
    behind, flags, value, real = number(at, end)
    if behind < 0 or flags & EXACT == 0:
        return int64(UNSURE)
    if flags & INTEGER == 0:
        if field == _F_TIME or real > COUNT_MAX or real != np.floor(real):
            return int64(UNSURE)
        value = int64(real)
    if flags & NEGATIVE and value != 0:
        return int64(UNSURE)
    if field == _F_TIME:
        if not TIME_NS_MIN <= value <= TIME_NS_MAX:
            return int64(UNSURE)
        store64(record + 8 * TIME, value)
    elif field == _F_CODE:
        if not (_HTTP_MIN <= value <= _HTTP_MAX or value <= _GRPC_MAX):
            return int64(UNSURE)
        store64(record + 8 * CODE, value)
    else:
        if not 1 <= value <= COUNT_MAX:
            return int64(UNSURE)
        store64(record + 8 * COUNT, value)
    return behind


@inlined
def _read_duration(at: int, end: int, record: int) -> Any:
    behind, flags, value, real = number(at, end)
    if behind < 0 or flags & EXACT == 0 or real > DURATION_MS_MAX or (flags & NEGATIVE and real != 0.0):
        return int64(UNSURE)
    if flags & INTEGER:
        store64(record + 8 * DURATION, value * 1_000_000)
    else:
        store64(record + 8 * DURATION, _rounded(real * 1e6))
    return behind


@inlined
def _rounded(value: Any) -> Any:
    """The integer nearest to a double from 0 to 2^63, of two equally near ones the even one."""
    whole = int64(value)
    rest = value - float64(whole)
    return whole + int64(rest > 0.5 or (rest == 0.5 and whole & 1 == 1))


# Eight characters at once: XOR with the pattern leaves 0-9 in the places of digits and 0 in those of signs. Adding what
# is missing to 128 then sets the top bit of every other byte.
_HIGH = np.uint64(0x8080_8080_8080_8080)
_DATE, _DATE_REST = _word("0000-00-"), np.uint64(0x7F76_767F_7676_7676)
_HOUR, _HOUR_REST = _word("00\x0000:00"), np.uint64(0x7676_7F76_7600_7676)
_SECOND, _SECOND_REST = _word(":00"), np.uint64(0x0000_0000_0076_767F)
_OFFSET, _OFFSET_REST = _word("00:00"), np.uint64(0x0000_0076_767F_7676)
_T_MASK = np.uint64(0xFF << 16)

_YEAR_MIN, _YEAR_MAX = 1973, 2262
_LAST_SECOND = TIME_NS_MAX // SECOND_NS
_FRACTION_UNITS = np.array([10 ** (9 - digits) for digits in range(10)])
_DAYS_BEFORE_MONTH = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
_DAYS_BEFORE_1970 = 719_528
"""Days from the first of year 0 to the first of 1970."""


@inlined
def _two(word: Any, place: int) -> Any:
    """The number of two digits, the first of them at a byte of the word."""
    return int64(word >> uint64(8 * place) & uint64(15)) * 10 + int64(word >> uint64(8 * place + 8) & uint64(15))


@inner
def _time_ns(at: int, size: int) -> Any:
    """The nanoseconds since 1970 of an RFC 3339 time, or `UNSURE`."""
    if size < 20:
        return int64(UNSURE)
    date, second = load64(at) ^ _DATE, load32(at + 16) & uint64(0xFFFFFF) ^ _SECOND
    hour = load64(at + 8)
    t = int64(hour >> uint64(16) & uint64(0xFF))
    hour = (hour & ~_T_MASK) ^ _HOUR
    wrong = (date + _DATE_REST) | date | (hour + _HOUR_REST) | hour | (second + _SECOND_REST) | second
    if wrong & _HIGH != uint64(0) or not (t == 84 or t == 116 or t == 32):
        return int64(UNSURE)
    hours, minutes, seconds = _two(hour, 3), _two(hour, 6), _two(second, 1)
    days = _days(_two(date, 0) * 100 + _two(date, 2), _two(date, 5), _two(hour, 0))
    if days < 0 or hours > 23 or minutes > 59 or seconds > 60:
        return int64(UNSURE)
    behind, last = at + 19, at + size
    nanoseconds = int64(0)
    if byte(behind) == 46:
        behind += 1
        nanoseconds, digits = few_digits(behind)
        if digits == FEW_DIGITS and is_digit(behind + digits):
            nanoseconds = nanoseconds * 10 + (byte(behind + digits) - 48)
            digits += 1
        if digits == 0:
            return int64(UNSURE)
        nanoseconds *= _FRACTION_UNITS[digits]
        behind += digits
    offset_s, exists = _offset_s(behind, last)
    time_s = days * 86_400 + hours * 3_600 + minutes * 60 + seconds - offset_s
    if not exists or time_s < TIME_NS_MIN // SECOND_NS or time_s >= _LAST_SECOND:
        return int64(UNSURE)
    return time_s * SECOND_NS + nanoseconds


@inlined
def _days(year: int, month: int, day: int) -> Any:
    """Days since 1970 of a date that exists, -1 for any other and those far off."""
    if not (_YEAR_MIN <= year <= _YEAR_MAX and 1 <= month <= 12 and day >= 1):
        return int64(-1)
    leap = int64(year & 3 == 0 and (year % 100 != 0 or year % 400 == 0))
    length = 28 + leap if month == 2 else 30 + ((month + (month >> 3)) & 1)
    if day > length:
        return int64(-1)
    before = year - 1
    leap_days = (before >> 2) - before // 100 + before // 400 + 1
    passed = _DAYS_BEFORE_MONTH[month] + (leap if month > 2 else 0) + day - 1
    return year * 365 + leap_days + passed - _DAYS_BEFORE_1970


@inlined
def _offset_s(at: int, last: int) -> Any:
    """Seconds of the offset that ends a time at `last`, and whether there is one."""
    sign = byte(at)
    if last - at == 1:
        return int64(0), sign | 32 == 122  # Z
    if last - at != 6 or not (sign == 43 or sign == 45):
        return int64(0), False
    digits = load_short(at + 1, 5) ^ _OFFSET
    hours, minutes = _two(digits, 0), _two(digits, 3)
    exists = ((digits + _OFFSET_REST) | digits) & _HIGH == uint64(0) and hours <= 23 and minutes <= 59
    offset_s = hours * 3_600 + minutes * 60
    return -offset_s if sign == 45 else offset_s, exists


_ONES = 0x0101_0101_0101_0101
_FROM_0, _FROM_COLON = np.uint64(0x30 * _ONES), np.uint64(0x3A * _ONES)
_FROM_A, _FROM_G = np.uint64(0x61 * _ONES), np.uint64(0x67 * _ONES)
_LOWER, _LETTER, _NIBBLE = np.uint64(0x20 * _ONES), np.uint64(0x40 * _ONES), np.uint64(0x0F * _ONES)


@inlined
def _eight_digits(word: Any) -> Any:
    """The four bytes that eight hexadecimal digits stand for, the first of them lowest; and whether all are digits."""
    lower = word | _LOWER
    digit = ((word | _HIGH) - _FROM_0) & ~((word | _HIGH) - _FROM_COLON)
    letter = ((lower | _HIGH) - _FROM_A) & ~((lower | _HIGH) - _FROM_G)
    are_digits = (digit | letter) & ~word & _HIGH == _HIGH
    nibbles = (word & _NIBBLE) + ((word & _LETTER) >> uint64(6)) * uint64(9)
    pairs = (nibbles << uint64(4) | nibbles >> uint64(8)) & uint64(0x00FF_00FF_00FF_00FF)
    pairs = (pairs | pairs >> uint64(8)) & uint64(0x0000_FFFF_0000_FFFF)
    return (pairs | pairs >> uint64(16)) & uint64(0xFFFF_FFFF), are_digits


@inner
def _read_trace_id(at: int, record: int) -> Any:
    """Stores the two halves of a trace id; returns whether its 32 characters are digits."""
    exists = True
    for half in range(2):
        low, low_exists = _eight_digits(load64(at + 16 * half))
        high, high_exists = _eight_digits(load64(at + 16 * half + 8))
        exists = exists and low_exists and high_exists
        store64(record + 8 * (TRACE_HI + half), byte_swapped(int64(low | high << uint64(32))))
    return exists


KEY_BITS = 16
"""A link holds the index of its value above that of its key."""


@inner
def _read_attributes(at: int, end: int, record: int, plan: int) -> Any:
    """Returns the address behind the attributes, else `UNSURE` or `FULL`; stores their set's index + 1.

    A set is a chain: each link is the pair of the set before it (0 for none) and a value with its key. It has what was
    sent, in that order, as it was spelt: which of it counts is seen once per distinct set.
    """
    keys, limit = load_word(plan + 8 * ATTRIBUTE_KEYS), load_word(plan + 8 * ATTRIBUTES_LIMIT)
    link = stack_words(2)
    chain, count = int64(0), int64(0)
    at = after_space(at + 1, end)
    while at < end and byte(at) == _QUOTE:
        quote, escaped = text_end(at + 1, end)
        if quote < 0 or escaped or count == limit:
            return int64(UNSURE)
        count += 1
        key = lookup(keys, at + 1, quote - at - 1)
        value = value_behind_quote(quote, end)
        if value < 0:
            return value
        at = after_value(value, end)
        if at < 0:
            return at
        if key >= 0:
            if at - value - 2 > load_word(plan + 8 * VALUE_BYTES):
                return int64(UNSURE)
            index = interned(load_word(plan + 8 * WORDS), value, at - value)
            if index < 0:
                return int64(FULL)
            store64(link, chain)
            store64(link + 8, index << KEY_BITS | key)
            chain = interned(load_word(plan + 8 * SETS), link, 16) + 1
            if chain == 0:
                return int64(FULL)
        at = after_space(at, end)
        if byte(at) != _COMMA:
            break
        at = after_space(at + 1, end)
        if byte(at) != _QUOTE:
            return int64(UNSURE)
    if at >= end or byte(at) != _CLOSE_OBJECT:
        return int64(UNSURE)
    store64(record + 8 * ATTRIBUTES, chain)
    return at + 1
