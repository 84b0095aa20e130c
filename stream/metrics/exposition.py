"""The bytes of a scrape. Small families are written anew by prometheus-client, large ones are joined from pieces.

A piece is text that was rendered before, and compressed at most once. A gauge reads the same in the Prometheus text
formats and in OpenMetrics, so one rendering serves every scraper.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_LEVEL = 1
"""Of deflate: lines differ little, so that the fastest one already leaves a twentieth."""

# Source: RFC 1952, section 2.3: no name, no time, unknown system. RFC 1951, section 3.2.6: an empty last block.
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST_BLOCK = b"\x03\0"

_ESCAPING = re.compile(r";\s*escaping=[^;,]*")


class Piece:
    """Lines of one family.

    Args:
        text: The lines in UTF-8, each with its end.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text

    @cached_property
    def deflated(self) -> bytes:
        """The lines as blocks of a deflate stream, none of them the last, that refer to nothing before them.

        Source: the zlib manual, Z_FULL_FLUSH: it ends at a byte, so that such pieces can follow one another.
        """
        stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        return stream.compress(self.text) + stream.flush(zlib.Z_FULL_FLUSH)


@dataclass(frozen=True, slots=True)
class Gauge:
    """Name and help of a family of gauges whose lines are rendered ahead.

    Args:
        name: Of the family.
        text: Help.
        named: Whether it is named where it has no line.
    """

    name: str
    text: str
    named: bool = True

    def head(self, labels: str) -> bytes:
        """Returns what `lines` puts before a number, given the labels as they are written between the braces."""
        return f"\n{self.name}{{{labels}}} ".encode()

    def render(self, samples: Iterable[tuple[str, float]]) -> Piece:
        """Returns the lines of (labels as they are written between the braces, finite value)."""
        listed = list(samples)
        heads = [self.head(labels) for labels, _ in listed]
        return lines(heads, numbers([value for _, value in listed], self.name) if listed else [])


def numbers(values: Sequence[float | None], name: str) -> list[bytes]:
    """Returns values as they are written, None as `NOTHING`.

    Args:
        values: At least one; finite.
        name: What they are, for the message.
    """
    # orjson writes the shortest digits that read back equal, as Python does, in a tenth of the time.
    written = orjson.dumps(values)[1:-1].split(b",")
    if NOTHING in written:
        assert written.count(NOTHING) == values.count(None), f"{name} has a value that is not finite"
    return written


NOTHING = b"null"
"""In place of a number: there is no line."""


def lines(heads: Sequence[bytes], written: Sequence[bytes]) -> Piece:
    """Returns a line of each head (`Gauge.head`) and its number: whatever can be known before a number is joined to it
    in one step."""
    if not heads:
        return Piece(b"")
    parts = [b"\n"] * (2 * len(heads) + 1)
    parts[:-1:2], parts[1::2] = heads, written
    parts[0] = parts[0][1:]
    return Piece(b"".join(parts))


@cache
def _header(gauge: Gauge) -> Piece:
    return Piece(f"# HELP {gauge.name} {escape(gauge.text)}\n# TYPE {gauge.name} gauge\n".encode())


class RenderedFamily(Metric):
    """A family whose lines are rendered already. Only `exposition` shows them: to others it has no samples."""

    def __init__(self, gauge: Gauge, pieces: Sequence[Piece]) -> None:
        super().__init__(gauge.name, gauge.text, "gauge")
        self.pieces = [_header(gauge), *pieces]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """What one scrape shows."""

    content_type: str
    pieces: Sequence[Piece]

    def plain(self) -> bytes:
        """Returns the text."""
        return b"".join([piece.text for piece in self.pieces])

    def gzipped(self) -> bytes:
        """Returns the text as one gzip member; what was compressed before is not compressed again."""
        crc = size = 0
        for piece in self.pieces:
            crc = zlib.crc32(piece.text, crc)
            size += len(piece.text)
        deflated = [piece.deflated for piece in self.pieces]
        return b"".join([_GZIP_HEADER, *deflated, _LAST_BLOCK, struct.pack("<II", crc, size & 0xFFFFFFFF)])


def exposition(registry: CollectorRegistry, accept: str) -> Exposition:
    """Returns what a registry shows at this moment, in the format that a scraper accepts.

    Every name here is plain, so nothing needs an escaping of names, and none is agreed on.

    Args:
        registry: Its large families are `RenderedFamily`.
        accept: The header of the request; '' for none.

    Source: Prometheus, exposition formats and content negotiation; OpenMetrics 1.0.0.
    """
    encode, content_type = choose_encoder(_ESCAPING.sub("", accept))
    pieces: list[Piece] = []
    small: list[Metric] = []
    for family in registry.collect():
        if isinstance(family, RenderedFamily):
            pieces += family.pieces
        else:
            small.append(family)
    return Exposition(content_type=content_type, pieces=[*pieces, Piece(encode(_Listed(small)))])


@dataclass(frozen=True, slots=True)
class _Listed(Collector):
    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def escape(text: str) -> str:
    """Returns the value of a label, or a help text, as it is written in an exposition."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
