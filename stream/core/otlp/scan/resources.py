"""What items take from their resource and their scope: how both are read, and how their rows are filled in."""

from __future__ import annotations

from typing import Any

from stream.core.otlp.scan import found, wire
from stream.core.otlp.scan.intern import FULL, interned
from stream.core.otlp.scan.jobs import (
    ATTRIBUTES_AT,
    FLAGS_AT,
    LISTED,
    PAIRS,
    RECENT,
    RECENT_PAIRS,
    RESOURCE_PICKS,
    RESOURCE_SLOTS,
    RESOURCE_TABLE,
    SCRATCH,
    SERVICE_AT,
    SERVICES,
    SETS,
    TABLE_FULL,
    VALUE_MAX,
    VERSION_AT,
    WORDS,
)
from stream.core.otlp.scan.memory import int64, load8, load32, load_word, spliced, store8, store32, store64

# Tags: field number << 3 | wire type. Source: opentelemetry-proto 1.11, resource.proto and common.proto.
_RESOURCE_ATTRIBUTES, _ENTITY_REFS = 1 << 3 | wire.LENGTH_DELIMITED, 3 << 3 | wire.LENGTH_DELIMITED
_SCOPE_ATTRIBUTES = 3 << 3 | wire.LENGTH_DELIMITED


@spliced
def resource(job: int, p: int, end: int, stamp: int) -> Any:
    """Returns (how many attributes a part of a resource has or a refusal, flags of its texts)."""
    table, slots, limit = load_word(job + RESOURCE_TABLE), load_word(job + RESOURCE_SLOTS), load_word(job + VALUE_MAX)
    attributes, flags = int64(0), int64(0)
    while p < end:
        p, more, noted = found.usual_attributes(p, end, _RESOURCE_ATTRIBUTES, table, slots, stamp, limit)
        attributes += more
        flags |= noted & ~found.NOTED
        if p == end:
            break
        tag, p = wire.tag(p, end)
        if p < 0:
            return p, flags
        if tag == _RESOURCE_ATTRIBUTES:
            length, p = wire.length(p, end)
            if p < 0:
                return p, flags
            slot, kind, a, b = wire.key_value(p, p + length, table)
            if slot >= 0:
                flags |= found.noted(slots, slot, stamp, kind, a, b, limit)
            elif slot != wire.UNWANTED:
                return slot, flags
            attributes += 1
            p += length
        elif tag == _ENTITY_REFS:
            length, p = wire.length(p, end)
            if p < 0:
                return p, flags
            p = wire.validated(p, p + length, wire.PLAIN)
        else:
            p = wire.skipped(p, end, tag)
        if p < 0:
            return p, flags
    return attributes, flags


@spliced
def scope(p: int, end: int) -> Any:
    """Returns how many attributes a scope has, or a refusal."""
    attributes = int64(0)
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return p
        if tag == _SCOPE_ATTRIBUTES:
            length, p = wire.length(p, end)
            if p < 0:
                return p
            p = wire.validated(p, p + length, wire.KEY_VALUE)
            attributes += 1
        else:
            p = wire.skipped(p, end, tag)
        if p < 0:
            return p
    return attributes


@spliced
def fill(job: int, first: int, row: int, stamp: int, flags: int) -> Any:
    """Writes what the rows take from their resource; returns 0 or `TABLE_FULL`."""
    slots, words = load_word(job + RESOURCE_SLOTS), load_word(job + WORDS)
    scratch = load_word(job + SCRATCH)
    service = found.service_of(slots, stamp, words, load_word(job + SERVICES), scratch)
    text, size = found.text_of(slots, found.VERSION_SLOT, stamp)
    version = interned(words, text, size) if size > 0 else int64(0)
    if service == FULL or version == FULL:
        return int64(TABLE_FULL)
    services, versions, all_flags = load_word(job + SERVICE_AT), load_word(job + VERSION_AT), load_word(job + FLAGS_AT)
    for i in range(first, row):
        store32(services + 4 * i, service)
        store32(versions + 4 * i, version)
    if flags:
        for i in range(first, row):
            store8(all_flags + i, int64(load8(all_flags + i)) | flags)
    listed = load_word(job + LISTED)
    if listed == 0:
        return int64(0)
    around = found.set_of(slots, stamp, load_word(job + RESOURCE_PICKS), listed, words, load_word(job + SETS), scratch)
    if around == FULL:
        return int64(TABLE_FULL)
    store64(scratch + 8, around)
    sets, pairs, recent = load_word(job + ATTRIBUTES_AT), load_word(job + PAIRS), load_word(job + RECENT_PAIRS)
    for i in range(first, row):
        own = int64(load32(sets + 4 * i))
        both, at = around << 32 | own, recent + 16 * (own & (RECENT - 1))
        if load_word(at) != both:
            store64(scratch, own)
            pair = interned(pairs, scratch, int64(16))
            if pair == FULL:
                return int64(TABLE_FULL)
            store64(at, both)
            store64(at + 8, pair)
        store32(sets + 4 * i, load_word(at + 8))
    return int64(0)
