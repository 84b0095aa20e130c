"""OTLP/JSON spelled in protobuf by compiled code: what is read of each message is written as the decoder of its signal
reads it, everything else is only checked to be JSON.

One loop with a stack of its own goes through all objects and lists. What is open is described by a frame:

* `closer`: the bracket that closes it.
* `table`: of a message its table, of a list its field, 0 where nothing in it is read (see `json_tables`).
* `body`: where the message that is written begins, behind `reserve` bytes for its length.
* `wanted`: of an attribute whether its key is read, else `_NOT_AN_ATTRIBUTE`.
* `elements` and `skipped`: how many attributes there were, and how many of them are not written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64, uint64

from stream.core.otlp.json_fields import Kind
from stream.core.otlp.scan.json_tables import (
    ATTRIBUTES,
    ATTRIBUTES_OF_ITEM,
    FIELD_KIND,
    FIELD_MESSAGE,
    FIELD_RESERVE,
    FIELD_SHAPE,
    FIELD_TAG,
    FIELD_WORDS,
    PACKED,
    SINGLE,
)
from stream.core.otlp.scan.json_text import QUOTE, copy_blocks, text_end, unescape
from stream.core.otlp.scan.json_values import (
    blank,
    integer,
    is_null,
    length_at,
    literal_end,
    store_length,
    store_list,
    store_value,
    store_varint,
)
from stream.core.otlp.scan.memory import inlined, inner, load8, load64, load_word, spliced, store8, store16, store64
from stream.core.otlp.scan.wire import lookup

OK, MALFORMED, TOO_DEEP, NO_ROOM, WRONG_TYPE, TOO_LARGE = range(6)
"""What became of a message. `NO_ROOM`: the buffer is full, nothing is wrong."""

FRAME_WORDS = 8
"""Words of the stack for each open bracket."""

_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_LIST, _CLOSE_LIST = 0x7B, 0x7D, 0x5B, 0x5D
_COMMA, _COLON = 0x2C, 0x3A

_NOT_AN_ATTRIBUTE = -1
_KEY_TAG, _VALUE_TAG, _STRING_TAG, _INT_TAG = 0x0A, 0x12, 0x0A, 0x18
_MESSAGE, _INT64 = int(Kind.MESSAGE), int(Kind.INT64)


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text, "little"))


# An attribute as nearly every producer writes it, eight bytes at a time.
_ATTRIBUTE = _word(b'{"key":"')
_THEN_VALUE = _word(b'","value')
_STRING_1, _STRING_2, _STRING_3 = _word(b'":{"stri'), _word(b'ngValue"'), _word(b':"')
_INT_1, _INT_2 = _word(b'":{"intV'), _word(b'alue":')
_TWO_BYTES, _SIX_BYTES = np.uint64(0xFFFF), np.uint64(0xFFFF_FFFF_FFFF)
_STRING_AT, _INT_AT = 26, 22
_CLOSED = _word(b"}}")


@inlined
def _store_key(out: int, p: int, q: int) -> Any:
    store8(out, _KEY_TAG)
    out = store_varint(out + 1, q - p)
    copy_blocks(out, p, q - p)
    return out + (q - p)


@spliced
def _usual_attribute(p: int, end: int, tag: int, keys: int, out: int, room: int) -> Any:
    """Reads an attribute of a text or an integer that is written as nearly every producer does.

    Args:
        p: At its bracket.
        end: Of the message.
        tag: Of the list of attributes.
        keys: Those that are read, a `KeyTable`, or 0 for all.
        out: Where it is written.
        room: Where the buffer ends.

    Returns:
        Where it ends, or -1 for any other attribute; where what is written ends: `out` if it is not read.
    """
    if load64(p) != _ATTRIBUTE:
        return int64(-1), out
    key = p + 8
    key_end, escaped = text_end(key, end)
    if key_end < 0 or escaped or load64(key_end) != _THEN_VALUE:
        return int64(-1), out
    word = load64(key_end + 8)
    is_text = word == _STRING_1
    if is_text:
        if load64(key_end + 16) != _STRING_2 or load64(key_end + 24) & _TWO_BYTES != _STRING_3:
            return int64(-1), out
        value = key_end + _STRING_AT
        value_end, escaped = text_end(value, end)
        after = value_end + 1
        number = int64(0)
        if value_end < 0 or escaped:
            return int64(-1), out
    else:
        if word != _INT_1 or load64(key_end + 16) & _SIX_BYTES != _INT_2:
            return int64(-1), out
        value = key_end + _INT_AT
        quoted = load8(value) == uint64(QUOTE)
        number, value_end = integer(value + quoted, end, _INT64)
        after = value_end + quoted
        if value_end < 0 or (quoted and (value_end >= end or load8(value_end) != uint64(QUOTE))):
            return int64(-1), out
    if end - after < 2 or load64(after) & _TWO_BYTES != _CLOSED:
        return int64(-1), out
    after += 2
    if keys != 0 and lookup(keys, key, key_end - key) < 0:
        return after, out
    if after - p > room - out:
        return int64(-1), out
    store8(out, tag)
    # One byte for the length of either message: the value is short, or it is moved.
    body = out + 2
    out = _store_key(body, key, key_end)
    store8(out, _VALUE_TAG)
    inner_body = out + 2
    if is_text:
        store8(inner_body, _STRING_TAG)
        out = store_varint(inner_body + 1, value_end - value)
        copy_blocks(out, value, value_end - value)
        out += value_end - value
    else:
        store8(inner_body, _INT_TAG)
        out = store_varint(inner_body + 1, number)
    out = store_length(inner_body, int64(1), out)
    return after, store_length(body, int64(1), out)


@inner
def _usual_attributes(p: int, end: int, tag: int, keys: int, out: int, room: int) -> Any:
    """Reads attributes of a list, one after the other, as long as `_usual_attribute` does.

    Returns:
        Where the last one ends, or `p` if there is none; where what is written ends; how many were read, and how many
        of them are not written.
    """
    begin, read, skipped = p, int64(0), int64(0)
    while True:
        after, written = _usual_attribute(begin, end, tag, keys, out, room)
        if after < 0:
            return p, out, read, skipped
        p = after
        read += 1
        skipped += int64(written == out)
        out = written
        if load8(p) != uint64(_COMMA):
            return p, out, read, skipped
        begin = p + 1


@inner
def _usual_members(p: int, end: int, table: int, powers: int, out: int, room: int) -> Any:
    """Reads members of an object, one after the other, as long as they are written without white space and hold a text
    that nobody reads or a single value: names and values that need more care are left to the caller.

    Args:
        p: At the quote of a name.
        end: Of the message.
        table: Of the object.
        powers: The table of `json_numbers`.
        out: Where to write.
        room: Where the buffer ends.

    Returns:
        Where the value of the last one ends, or `p` if there is none; where what is written ends; where the name
        begins that it stopped at.
    """
    begin = p
    while out <= room:
        quote, escaped = text_end(begin + 1, end)
        value = quote + 2
        if quote < 0 or escaped or load8(quote + 1) != uint64(_COLON) or value >= end:
            break
        field = _field_of(begin + 1, quote, False, table, out)
        if field == 0:
            if load8(value) != uint64(QUOTE):
                break
            after, _ = text_end(value + 1, end)
            if after < 0:
                break
            p = after + 1
        else:
            if load_word(field + FIELD_SHAPE) != SINGLE or load_word(field + FIELD_KIND) == _MESSAGE:
                break
            # Null is no value of any kind: it is left to the caller with all that is wrong.
            store8(out, load_word(field + FIELD_TAG))
            after, written = store_value(value, end, field, powers, out + 1, room)
            if after < 0 or written < 0:
                break
            p, out = after, written
        begin = p + 1
        if load8(p) != uint64(_COMMA) or load8(begin) != uint64(QUOTE):
            break
    return p, out, begin


@inlined
def _field_of(p: int, q: int, escaped: bool, table: int, scratch: int) -> Any:
    """Returns the field of a message that the name [p, q) is, or 0."""
    if escaped:
        p, q = scratch, unescape(scratch, p, q)
    index = lookup(load_word(table), p, q - p)
    return load_word(table + 8) + 8 * FIELD_WORDS * index if index >= 0 else int64(0)


@inner
def _store_empty_ones(out: int, tag: int, count: int) -> Any:
    """Writes messages without content; returns where they end."""
    for _ in range(count):
        store16(out, tag)
        out += 2
    return out


@inner
def spelled(p: int, end: int, request: int, keys: int, most: int, brackets: int, powers: int, stack: int,
            out: int, room: int) -> Any:  # fmt: skip
    """Writes what is read of a message as protobuf.

    Args:
        p: Where the message begins.
        end: Where it ends.
        request: The table of its request.
        keys: Attributes that are read, a `KeyTable`; 0 for all.
        most: Attributes that an item may have.
        brackets: How many may be open.
        powers: The table of `json_numbers`.
        stack: `FRAME_WORDS` words for each bracket.
        out: Where to write.
        room: Where the buffer ends, but for `ROOM_BEHIND` bytes behind it.

    Returns:
        What became of it (`OK`, ...), and where what is written ends, or else where the message is at fault.
    """
    closer, table, body, reserve, wanted = int64(_CLOSE_OBJECT), request, out, int64(0), int64(_NOT_AN_ATTRIBUTE)
    elements, skipped = int64(0), int64(0)
    item_tag, unusual = int64(0), int64(0)
    depth = int64(1)
    any_member, any_own_member = False, False
    p = blank(p, end)
    if p >= end or load8(p) != uint64(_OPEN_OBJECT):
        return int64(MALFORMED), p
    if depth > brackets:
        return int64(TOO_DEEP), p
    p += 1
    first = True
    while True:
        p = blank(p, end)
        if p >= end:
            return int64(MALFORMED), p
        if out > room:
            return int64(NO_ROOM), p
        byte = int64(load8(p))
        closed = byte == closer
        if not first and not closed:
            if byte != _COMMA:
                return int64(MALFORMED), p
            p = blank(p + 1, end)
            if p >= end:
                return int64(MALFORMED), p
            byte = int64(load8(p))
        first = False
        if closed:
            p += 1
            depth -= 1
            if depth == 0:
                break
            frame = stack + 8 * FRAME_WORDS * depth
            was_attribute, was_wanted = wanted != _NOT_AN_ATTRIBUTE, wanted
            was_elements, was_skipped = elements, skipped
            if table != 0 and closer == _CLOSE_OBJECT:
                if elements > most and skipped > 0:
                    if skipped * 2 > room - out:
                        return int64(NO_ROOM), p
                    out = _store_empty_ones(out, item_tag, skipped)
                if was_wanted == 0:
                    out = body - reserve - 1
                else:
                    out = store_length(body, reserve, out)
            was_list = table if closer == _CLOSE_LIST else int64(0)
            closer, table, body = load_word(frame), load_word(frame + 8), load_word(frame + 16)
            reserve, wanted = load_word(frame + 24), load_word(frame + 32)
            elements, skipped = load_word(frame + 40), load_word(frame + 48)
            if was_attribute and was_wanted == 0:
                skipped += 1
            elif was_list != 0:
                shape = load_word(was_list + FIELD_SHAPE)
                if shape == ATTRIBUTES_OF_ITEM:
                    elements += was_elements
                    skipped += was_skipped
                    item_tag = load_word(was_list + FIELD_TAG)
                elif shape == ATTRIBUTES:
                    if was_skipped * 2 > room - out:
                        return int64(NO_ROOM), p
                    out = _store_empty_ones(out, load_word(was_list + FIELD_TAG), was_skipped)
            continue
        # What is it a value of?
        field = int64(0)
        if closer == _CLOSE_OBJECT:
            if byte != QUOTE:
                return int64(MALFORMED), p
            if table != 0 and depth > 1 and wanted == _NOT_AN_ATTRIBUTE and p != unusual:
                q, out, unusual = _usual_members(p, end, table, powers, out, room)
                if q > p:
                    p = q
                    continue
            q, escaped = text_end(p + 1, end)
            if q < 0:
                return int64(MALFORMED), p
            if table != 0:
                if escaped and q - p > room - out:
                    return int64(NO_ROOM), p
                field = _field_of(p + 1, q, escaped, table, out)
                if depth == 1:
                    any_member = True
                    any_own_member = any_own_member or field != 0
            p = blank(q + 1, end)
            if p >= end or load8(p) != uint64(_COLON):
                return int64(MALFORMED), p
            p = blank(p + 1, end)
            if p >= end:
                return int64(MALFORMED), p
            byte = int64(load8(p))
            if field != 0 and is_null(p, end):
                p += 4
                continue
        elif table != 0:
            field = table
            shape = load_word(field + FIELD_SHAPE)
            if shape >= ATTRIBUTES and depth + 2 <= brackets:
                p, out, read, left_out = _usual_attributes(p, end, load_word(field + FIELD_TAG), keys, out, room)
                if read > 0:
                    elements += read
                    skipped += left_out
                    continue
            elements += 1
            if is_null(p, end):
                out = _store_empty_ones(out, load_word(field + FIELD_TAG), 1)
                p += 4
                continue
        # The value.
        opened = int64(0)
        opened_wanted = int64(_NOT_AN_ATTRIBUTE)
        opened_table, opened_reserve = int64(0), int64(0)
        if field == 0:
            if byte == _OPEN_OBJECT:
                opened = int64(_CLOSE_OBJECT)
            elif byte == _OPEN_LIST:
                opened = int64(_CLOSE_LIST)
            elif byte == QUOTE:
                p, escaped = text_end(p + 1, end)
                if p < 0:
                    return int64(MALFORMED), end
                p += 1
                continue
            else:
                q = literal_end(p, end)
                if q < 0:
                    return int64(MALFORMED), p
                p = q
                continue
        else:
            shape = load_word(field + FIELD_SHAPE)
            is_element = closer == _CLOSE_LIST
            if shape != SINGLE and not is_element:
                if byte != _OPEN_LIST:
                    return int64(MALFORMED), p
                if shape == PACKED:
                    if depth + 1 > brackets:
                        return int64(TOO_DEEP), p
                    q, out = store_list(p + 1, end, field, powers, out, room)
                    if q < 0:
                        return int64(MALFORMED), p
                    if out < 0:
                        return int64(NO_ROOM), p
                    p = q
                    continue
                opened, opened_table = int64(_CLOSE_LIST), field
            elif load_word(field + FIELD_KIND) == _MESSAGE:
                if byte != _OPEN_OBJECT:
                    return int64(MALFORMED), p
                opened, opened_table = int64(_CLOSE_OBJECT), load_word(field + FIELD_MESSAGE)
                opened_reserve = load_word(field + FIELD_RESERVE)
                if shape >= ATTRIBUTES:
                    opened_wanted = int64(keys == 0)
            else:
                tag = load_word(field + FIELD_TAG)
                store8(out, tag)
                start = out + 1
                q, out = store_value(p, end, field, powers, start, room)
                if q < 0:
                    return int64(MALFORMED), p
                if out < 0:
                    return int64(NO_ROOM), p
                p = q
                if wanted != _NOT_AN_ATTRIBUTE and tag == _KEY_TAG and keys != 0:
                    length = length_at(start)
                    wanted = int64(lookup(keys, out - length, length) >= 0)
                continue
        # A bracket opens.
        if depth + 1 > brackets:
            return int64(TOO_DEEP), p
        frame = stack + 8 * FRAME_WORDS * depth
        store64(frame, closer)
        store64(frame + 8, table)
        store64(frame + 16, body)
        store64(frame + 24, reserve)
        store64(frame + 32, wanted)
        store64(frame + 40, elements)
        store64(frame + 48, skipped)
        depth += 1
        p += 1
        closer, table, reserve, wanted = opened, opened_table, opened_reserve, opened_wanted
        elements, skipped = int64(0), int64(0)
        if table != 0 and closer == _CLOSE_OBJECT:
            store8(out, load_word(field + FIELD_TAG))
            out += 1 + reserve
        body = out
        first = True
    p = blank(p, end)
    if p < end:
        return int64(MALFORMED), p
    if any_member and not any_own_member:
        return int64(WRONG_TYPE), p
    return int64(OK), out
