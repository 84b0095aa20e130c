"""Text as bytes: whether it is UTF-8."""

from __future__ import annotations

from typing import Any

from stream.core.otlp.scan.memory import (
    inlined,
    inner,
    int64,
    load8,
    load64,
    load_short,
    uint64,
)

_HIGH_BITS = 0x8080808080808080


@inlined
def _is_ascii(p: int, size: int) -> Any:
    """Whether all bytes are below 128; reads up to seven bytes past the end."""
    if size < 8:
        return load_short(p, size) & uint64(_HIGH_BITS) == uint64(0)
    done, seen = int64(0), load64(p + size - 8)
    while done + 8 < size:
        seen |= load64(p + done)
        done += 8
    return seen & uint64(_HIGH_BITS) == uint64(0)


@inlined
def is_utf8(p: int, size: int) -> Any:
    """Whether the bytes are UTF-8, as Python's strict decoder sees it; reads up to seven bytes past the end.

    Source: RFC 3629, section 4: no overlong form, no surrogate, nothing above U+10FFFF.
    """
    return _is_ascii(p, size) or _is_any_utf8(p, size)


@inner
def _is_any_utf8(p: int, size: int) -> Any:
    end = p + size
    while p < end:
        lead = load8(p)
        p += 1
        if lead < uint64(0x80):
            continue
        low, high = uint64(0x80), uint64(0xBF)  # of the first byte that follows
        if uint64(0xC2) <= lead <= uint64(0xDF):
            follow = 1
        elif uint64(0xE0) <= lead <= uint64(0xEF):
            follow = 2
            if lead == uint64(0xE0):
                low = uint64(0xA0)
            elif lead == uint64(0xED):
                high = uint64(0x9F)
        elif uint64(0xF0) <= lead <= uint64(0xF4):
            follow = 3
            if lead == uint64(0xF0):
                low = uint64(0x90)
            elif lead == uint64(0xF4):
                high = uint64(0x8F)
        else:
            return False
        if end - p < follow or not low <= load8(p) <= high:
            return False
        for i in range(1, follow):
            if not uint64(0x80) <= load8(p + i) <= uint64(0xBF):
                return False
        p += follow
    return True
