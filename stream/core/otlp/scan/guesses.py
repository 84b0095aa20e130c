"""Guesses at keys: most messages have the keys of the one before, in its order, each with its colon right behind it.

The key that is found in a place of one message is compared with what is in that place of the next, with its last quote
and its colon, sixteen bytes at once: it need not be measured and looked up then.
"""

from __future__ import annotations

from typing import Any

from stream.core.otlp.scan.memory import inlined, int64, load8, load64, load_word, store64, uint64

_PLACES = 32
"""A power of two: further keys share them."""

_FIRST, _FIRST_MASK, _SECOND, _SECOND_MASK, _SIZE, _INDEX = range(0, 48, 8)
"""Byte offsets in a guess: eight bytes and which bits of them count, the next eight likewise, how many bytes these are,
the index of the key. One that was never made has size 0."""

_GUESS_BYTES, _TEXT_MAX = 48, 16

GUESS_WORDS = _PLACES * _GUESS_BYTES // 8
"""Words that the guesses need, 0 at first."""

_COLON = 58


@inlined
def guess_of(guesses: int, place: int) -> Any:
    """The address of the guess at the key in a place."""
    return guesses + (place & (_PLACES - 1)) * _GUESS_BYTES


@inlined
def guessed(guess: int, at: int) -> Any:
    """Whether the key at an address, behind its first quote, is the guessed one; reads 16 bytes."""
    first = (load64(at) ^ load64(guess + _FIRST)) & load64(guess + _FIRST_MASK)
    second = (load64(at + 8) ^ load64(guess + _SECOND)) & load64(guess + _SECOND_MASK)
    return (first | second) == uint64(0) and load_word(guess + _SIZE) != 0


@inlined
def guessed_size(guess: int) -> Any:
    """Bytes of the key, its last quote and its colon."""
    return load_word(guess + _SIZE)


@inlined
def guessed_index(guess: int) -> Any:
    """What `remember` was told of the key."""
    return load_word(guess + _INDEX)


@inlined
def remember(guess: int, at: int, size: int, index: int) -> None:
    """Makes a guess of a key, if it is short and its colon follows at once.

    Args:
        guess: Its address.
        at: Where the key begins, behind its first quote.
        size: Bytes of it with its last quote and the byte behind that.
        index: Of the key.
    """
    if size <= _TEXT_MAX and load8(at + size - 1) == uint64(_COLON):
        store64(guess + _FIRST, int64(load64(at)))
        store64(guess + _FIRST_MASK, int64(_low_bytes(size)))
        store64(guess + _SECOND, int64(load64(at + 8)))
        store64(guess + _SECOND_MASK, int64(_low_bytes(max(size - 8, 0))))
        store64(guess + _SIZE, size)
        store64(guess + _INDEX, index)


@inlined
def _low_bytes(count: int) -> Any:
    return ~uint64(0) if count >= 8 else (uint64(1) << uint64(8 * count)) - uint64(1)
