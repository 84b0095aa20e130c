"""Bounded decompression: every codec as producers write it, hostile bytes, and bombs in little memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cramjam
import pytest
from aiokafka import codec as unbounded
from aiokafka.record._crecords import default_records as compiled
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from stream.core.errors import IncompatibleError
from stream.kafka import clients, decompression
from stream.kafka.decompression import (
    BatchTooLarge,
    MalformedBatch,
    gzip_decode,
    limited_to,
    lz4_decode,
    snappy_decode,
    zstd_decode,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "kafka"
BATCHES = json.loads((GOLDEN / "batches.json").read_text())
XERIAL_HEADER = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)

Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def xerial(data: bytes, block: int = 32 << 10) -> bytes:
    """Frames snappy blocks as Java's library does."""
    blocks = [bytes(cramjam.snappy.compress_raw(data[at : at + block])) for at in range(0, len(data), block)]
    return XERIAL_HEADER + b"".join(struct.pack(">i", len(block)) + block for block in blocks)


CODECS: dict[str, Codec] = {
    "gzip": (gzip.compress, gzip_decode),
    "snappy_raw": (lambda data: bytes(cramjam.snappy.compress_raw(data)), snappy_decode),
    "snappy_xerial": (xerial, snappy_decode),
    "lz4": (unbounded.lz4_encode, lz4_decode),
    "zstd": (unbounded.zstd_encode, zstd_decode),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


@every_codec
@given(data=st.binary(max_size=300), repeated=st.integers(1, 400))
def test_what_was_compressed_comes_back(codec: Codec, data: bytes, repeated: int) -> None:
    encode, decode = codec
    assert decode(encode(data * repeated)) == data * repeated


@every_codec
def test_the_limit_is_what_still_fits(codec: Codec) -> None:
    encode, decode = codec
    data = bytes(range(256)) * 400
    with limited_to(len(data)):
        assert decode(encode(data)) == data
    with limited_to(len(data) - 1), pytest.raises(BatchTooLarge, match="102399"):
        decode(encode(data))
    assert decode(encode(data)) == data, "the limit ends with the block"


@every_codec
def test_nothing_decompresses_to_nothing(codec: Codec) -> None:
    assert codec[1](b"") == b""


@every_codec
def test_cut_off_anywhere_it_is_malformed(codec: Codec) -> None:
    encode, decode = codec
    data = hashlib.sha256(b"seed").digest() * 40
    whole = encode(data)
    for length in range(1, len(whole)):
        if whole[:length] == XERIAL_HEADER:
            assert decode(whole[:length]) == b"", "framing without a block is whole"
            continue
        with pytest.raises(MalformedBatch):
            decode(whole[:length])


@every_codec
@given(junk=st.binary(min_size=1, max_size=200))
def test_junk_never_raises_anything_else(codec: Codec, junk: bytes) -> None:
    encode, decode = codec
    whole = encode(b"a span of a trace" * 50)
    middle = len(whole) // 2
    for hostile in (junk, whole[:middle] + junk + whole[middle:], whole[:middle] + junk):
        try:
            decode(hostile)
        except (MalformedBatch, BatchTooLarge):
            continue


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd", "snappy_xerial"])
def test_concatenated_frames_count_together(name: str) -> None:
    encode, decode = CODECS[name]
    first, second = b"first" * 1000, b"second" * 1000
    both = encode(first) + encode(second)
    assert decode(both) == first + second
    with limited_to(len(first) + len(second) - 1), pytest.raises(BatchTooLarge):
        decode(both)


@every_codec
def test_trailing_garbage_is_malformed(codec: Codec) -> None:
    encode, decode = codec
    with pytest.raises(MalformedBatch):
        decode(encode(b"good" * 100) + b"garbage")


def test_gzip_may_be_padded_with_zeros() -> None:
    assert gzip_decode(gzip.compress(b"good") + bytes(8)) == b"good"


def test_a_snappy_block_that_claims_four_gigabytes_is_refused_unread() -> None:
    claim = b"\xff\xff\xff\xff\x0f"
    with pytest.raises(BatchTooLarge):
        snappy_decode(claim + b"\x00a")
    with pytest.raises(BatchTooLarge):
        snappy_decode(XERIAL_HEADER + struct.pack(">i", 7) + claim + b"\x00a")


@pytest.mark.parametrize("size", [-1, 0x7FFFFFFF, 100])
def test_a_xerial_block_longer_than_what_is_there_is_malformed(size: int) -> None:
    with pytest.raises(MalformedBatch):
        snappy_decode(XERIAL_HEADER + struct.pack(">i", size) + b"abc")


def test_a_newer_xerial_framing_is_malformed() -> None:
    with pytest.raises(MalformedBatch, match="framing 9 is unknown"):
        snappy_decode(b"\x82SNAPPY\x00" + struct.pack(">ii", 9, 9) + b"abcd")


def test_zstd_says_how_large_it_is_and_lies() -> None:
    frame = bytearray(cramjam.zstd.compress(b"x" * 100))
    assert frame[4] == 0x20, "a single segment whose size takes one byte"
    for said in (0, 99, 101, 255):
        frame[5] = said
        with pytest.raises(MalformedBatch):
            zstd_decode(bytes(frame))


@pytest.mark.parametrize("name", BATCHES)
def test_batches_of_a_real_collector(name: str) -> None:
    records = MemoryRecords((GOLDEN / name).read_bytes())
    batch = records.next_batch()
    assert batch is not None
    assert batch.validate_crc()
    values = [record.value for record in batch]
    assert [(len(value), hashlib.sha256(value).hexdigest()) for value in values if value is not None] == [
        (BATCHES[name]["bytes"], BATCHES[name]["sha256"])
    ]


def test_aiokafka_decompresses_with_these_decoders_wherever_clients_are_made() -> None:
    assert callable(clients.assigned_reader)  # importing it applies them
    for decoder in ("gzip_decode", "snappy_decode", "lz4_decode", "zstd_decode"):
        assert getattr(compiled, decoder) is getattr(decompression, decoder)


def test_another_aiokafka_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(compiled, "zstd_decode")
    with pytest.raises(IncompatibleError, match=r"no aiokafka\.record\._crecords\.default_records\.zstd_decode"):
        decompression.apply()
    assert compiled.gzip_decode is gzip_decode


BOMB = """
import resource, sys
import cramjam, gzip, struct
from stream.kafka import decompression

MIB = 1 << 20
codec = sys.argv[1]
piece = bytes(MIB)
if codec == "gzip":
    compressor, decode = cramjam.gzip.Compressor(9), decompression.gzip_decode
elif codec == "lz4":
    compressor, decode = cramjam.lz4.Compressor(level=9), decompression.lz4_decode
elif codec == "zstd":
    compressor, decode = cramjam.zstd.Compressor(3), decompression.zstd_decode
else:
    compressor, decode = None, decompression.snappy_decode
if compressor is not None:
    bomb = b""
    for _ in range(512):
        compressor.compress(piece)
        bomb += bytes(compressor.flush())
    bomb += bytes(compressor.finish())
else:
    block = bytes(cramjam.snappy.compress_raw(piece))
    bomb = b"\\x82SNAPPY\\0" + struct.pack(">ii", 1, 1) + 512 * (struct.pack(">i", len(block)) + block)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for _ in range(3):
    try:
        decode(bomb)
    except decompression.BatchTooLarge:
        refused += 1
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(refused, (after - before) // 1024)
"""


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd", "snappy"])
def test_a_bomb_of_512_mib_takes_little_more_memory_than_the_limit(name: str) -> None:
    """In a process of its own, by its peak of resident memory: what the codecs allocate Python does not see."""
    done = subprocess.run([sys.executable, "-c", BOMB, name], capture_output=True, text=True, check=True, timeout=120)
    refused, mib = map(int, done.stdout.split())
    assert refused == 3
    assert mib < 48, f"{mib} MiB for a limit of 16 MiB"
