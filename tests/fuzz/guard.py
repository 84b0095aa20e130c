"""Makes the compiled decoders read messages from memory that ends, with its padding, where no page may be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stream.core.columns import Array
from stream.core.otlp.scan import flat, jobs, json, json_text, memory, metrics, strict_json
from tests.core.otlp.scan.guarded import GuardedMemory

ROOM_BYTES = 8 << 20
"""More than the messages of any batch."""

FILLS = (b"\x00", b"\xff", b"\x80", b"\x7f", b"0", b'"', b"}", b"\\", b" ", b"\n")
"""What the padding may hold: none may decide what becomes of the last message."""

_READERS: dict[Any, int] = {
    jobs: memory.PADDING,
    metrics: memory.PADDING,
    json: json_text.PADDING,
    flat: strict_json.PADDING,
}
"""The modules that hand the address of joined messages to a kernel, and the padding behind those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where messages lie.

    Args:
        at_the_end: Right before a page that nobody may read, else right behind one.
        fill: What is repeated in the padding.
    """

    at_the_end: bool = True
    fill: bytes = b"\x00"


class Guard:
    """Places joined messages between pages that nobody may read, in every compiled decoder, once it is installed."""

    def __init__(self) -> None:
        self.place = Place()
        """Where the messages of the next calls lie."""
        self._before = {module: module.address_of for module in _READERS}

    def __enter__(self) -> Guard:
        for module, padding in _READERS.items():
            module.address_of = _Placing(self, padding)
        return self

    def __exit__(self, *_: object) -> None:
        for module, address_of in self._before.items():
            module.address_of = address_of


class _Placing:
    """As `memory.address_of`, but bytes are copied to guarded memory first: they are always joined messages."""

    def __init__(self, guard: Guard, padding: int) -> None:
        self._guard, self._padding = guard, padding
        self._memory = GuardedMemory(ROOM_BYTES)

    def __call__(self, data: bytes | Array) -> int:
        if not isinstance(data, bytes):
            return memory.address_of(data)
        place = self._guard.place
        assert not any(data[-self._padding :]), "what is behind the messages is padding"
        put = self._memory.joined_at_the_end if place.at_the_end else self._memory.joined_at_the_begin
        placed, _ = put([data[: -memory.PADDING]])
        assert len(placed) == len(data)
        placed[-self._padding :] = place.fill[0]
        return memory.address_of(placed)
