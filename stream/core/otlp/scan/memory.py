"""Memory by address: loads, stores and the arithmetic that numba does not offer. Little-endian machines only.

A signed 64-bit integer stands for an address or any word; `load8`, `load32` and `load64` give unsigned ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from stream.core.columns import Array

assert np.little_endian, "the compiled decoders read little-endian words as they lie in memory"

PADDING = 16
"""Zero bytes behind the joined messages: an eight-byte load that starts within them stays inside the buffer."""

# What numba says of its types does not hold inside a kernel.
njit: Any = numba.njit
intrinsic: Any = extending.intrinsic
int64: Any = numba.int64
uint64: Any = numba.uint64
float64: Any = numba.float64

kernel: Any = njit(cache=True, nogil=True, error_model="numpy")
"""Compiles a function that Python calls."""

inner: Any = njit(cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Compiles a function that only kernels call."""

inlined: Any = njit(
    cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True
)
"""Compiles a small function into each kernel that calls it."""

spliced: Any = njit(cache=True, nogil=True, error_model="numpy", inline="always")
"""Makes a function a part of the one function that calls it: it is not compiled, and optimized, twice."""

_WORD = ir.IntType(64)
_alloca: Any = cgutils.alloca_once


def _load(bits: int) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()))
        value.align = 1
        return value if bits == 64 else builder.zext(value, _WORD)

    return emit


def _store(bits: int) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[1] if bits == 64 else builder.trunc(arguments[1], ir.IntType(bits))
        store = builder.store(value, builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return emit


@intrinsic
def load8(typing_context: Any, address: Any) -> Any:
    """The byte at an address as uint64."""
    return types.uint64(types.int64), _load(8)


@intrinsic
def load32(typing_context: Any, address: Any) -> Any:
    """The four bytes at any address as uint64."""
    return types.uint64(types.int64), _load(32)


@intrinsic
def load64(typing_context: Any, address: Any) -> Any:
    """The eight bytes at any address as uint64."""
    return types.uint64(types.int64), _load(64)


@intrinsic
def load_word(typing_context: Any, address: Any) -> Any:
    """The eight bytes at any address as int64."""
    return types.int64(types.int64), _load(64)


@intrinsic
def store8(typing_context: Any, address: Any, value: Any) -> Any:
    """Stores the low byte of a word."""
    return types.void(types.int64, types.int64), _store(8)


@intrinsic
def store16(typing_context: Any, address: Any, value: Any) -> Any:
    """Stores the low two bytes of a word."""
    return types.void(types.int64, types.int64), _store(16)


@intrinsic
def store32(typing_context: Any, address: Any, value: Any) -> Any:
    """Stores the low four bytes of a word."""
    return types.void(types.int64, types.int64), _store(32)


@intrinsic
def store64(typing_context: Any, address: Any, value: Any) -> Any:
    """Stores a word."""
    return types.void(types.int64, types.int64), _store(64)


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """How many low bits of a uint64 are zero; 64 for 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), emit


@intrinsic
def byte_swapped(typing_context: Any, value: Any) -> Any:
    """A word with its bytes in reverse order: what big-endian bytes mean."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0])

    return types.int64(types.int64), emit


@intrinsic
def folded_product(typing_context: Any, left: Any, right: Any) -> Any:
    """The high half of a 128-bit product XOR the low half: mixes two uint64 into one."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), _WORD)
        return builder.xor(high, builder.trunc(product, _WORD))

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def float_of_bits(typing_context: Any, value: Any) -> Any:
    """The double whose bits a word holds."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), emit


@intrinsic
def bits_of_float(typing_context: Any, value: Any) -> Any:
    """The bits of a double as a word."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _WORD)

    return types.int64(types.float64), emit


@intrinsic
def stack_words(typing_context: Any, count: Any) -> Any:
    """The address of `count` words on the stack, for use inside the calling kernel; `count` is a literal."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    words = count.literal_value

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(_alloca(builder, _WORD, size=words), _WORD)

    return types.int64(count), emit


@inlined
def load_short(address: int, length: int) -> Any:
    """The first `length` bytes (0 to 8) at an address as uint64, the others zero.

    Loads eight bytes: those behind the length must be readable, but do not matter.
    """
    if length >= 8:
        return load64(address)
    return load64(address) & ((uint64(1) << (uint64(length) << uint64(3))) - uint64(1))


@inner
def copy(target: int, source: int, length: int) -> None:
    """Copies bytes; reads and writes only these."""
    done = int64(0)
    while done + 8 <= length:
        store64(target + done, load_word(source + done))
        done += 8
    while done < length:
        store8(target + done, int64(load8(source + done)))
        done += 1


@inner
def equal(left: int, right: int, length: int) -> Any:
    """Whether two byte strings of one length are equal; reads only these."""
    done = int64(0)
    if length >= 8:
        # The last eight bytes may be compared twice; a branch for each byte of the rest costs more.
        while done + 8 < length:
            if load64(left + done) != load64(right + done):
                return False
            done += 8
        return load64(left + length - 8) == load64(right + length - 8)
    if length >= 4:
        return load32(left) == load32(right) and load32(left + length - 4) == load32(right + length - 4)
    while done < length:
        if load8(left + done) != load8(right + done):
            return False
        done += 1
    return True


def joined(values: Sequence[bytes | None]) -> tuple[bytes, Array]:
    """Returns the messages one after the other with padding behind them, and where each begins.

    Shapes: the offsets are int64[n + 1]; a tombstone is as long as an empty message.
    """
    ends = np.zeros(len(values) + 1, "int64")
    np.cumsum(np.fromiter((len(value or b"") for value in values), "int64", len(values)), out=ends[1:])
    return b"".join([*(value or b"" for value in values), bytes(PADDING)]), ends


def address_of(data: bytes | Array) -> int:
    """Returns the address of the first byte; the caller keeps the object alive while a kernel uses it."""
    array = np.frombuffer(data, "uint8") if isinstance(data, bytes) else data
    address: int = array.ctypes.data
    return address
