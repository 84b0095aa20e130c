"""Kernels that walk from a request to its points: resources, scopes and metrics, each looked at before its points are.

They take the address of the state, see `metric_state`. A negative result is a refusal of the message.
"""

from __future__ import annotations

from typing import Any

from numba import int64, njit, uint64

from stream.core.columns import Kind
from stream.core.otlp.identity import Place
from stream.core.otlp.scan import metric_state as st
from stream.core.otlp.scan.identity import RARE, attribute_hash, murmur, murmur_word, split, typed
from stream.core.otlp.scan.intern import is_invalid
from stream.core.otlp.scan.memory import inner, kernel, load64, load_word, stack_words, store64
from stream.core.otlp.scan.metric_points import SUMMARY, attribute, index_of, kept, opened, text_of
from stream.core.otlp.scan.metric_values import exponential_point, histogram_point, number_point, summary_point
from stream.core.otlp.scan.wire import KEY_VALUE, PLAIN, length, skipped, tag, validated, varint
from stream.core.points import MetricType

_RESOURCE, _SCOPE, _METRIC = int(Place.RESOURCE), int(Place.SCOPE), int(Place.METRIC)
_GAUGE, _SUM, _HISTOGRAM, _EXPONENTIAL = (int(kind) for kind in MetricType)
_SERVER, _CLIENT, _CONSUMER = int(Kind.SERVER), int(Kind.CLIENT), int(Kind.CONSUMER)

_FIRST, _SECOND, _THIRD = 1 << 3 | 2, 2 << 3 | 2, 3 << 3 | 2
_RESOURCE_METRICS, _RESOURCE_FIELD, _SCOPE_METRICS = _FIRST, _FIRST, _SECOND
_SCOPE_FIELD, _METRICS = _FIRST, _SECOND
_RESOURCE_ATTRIBUTE, _ENTITY = _FIRST, _THIRD
_SCOPE_NAME, _SCOPE_VERSION, _SCOPE_ATTRIBUTE = _FIRST, _SECOND, _THIRD
_METRIC_NAME, _METRIC_UNIT, _METADATA = _FIRST, _THIRD, 12 << 3 | 2
_GAUGE_FIELD, _SUM_FIELD, _HISTOGRAM_FIELD = 5 << 3 | 2, 7 << 3 | 2, 9 << 3 | 2
_EXPONENTIAL_FIELD, _SUMMARY_FIELD = 10 << 3 | 2, 11 << 3 | 2
_DATA_POINT, _TEMPORALITY, _MONOTONIC = _FIRST, 2 << 3, 3 << 3

once = njit(nogil=True, error_model="numpy", inline="always")
"""Compiles a function as a part of its only caller: by itself it would be compiled with all that it calls."""

_INT32_BITS = (1 << 32) - 1
_SERVER_WORD = int.from_bytes(b".server.", "little")
_CLIENT_WORD = int.from_bytes(b".client.", "little")
_PROCESS = b"messaging.process."
_PROCESS_SIZE = len(_PROCESS)
_PROCESS_WORDS = (
    int.from_bytes(_PROCESS[:8], "little"),
    int.from_bytes(_PROCESS[8:16], "little"),
    int.from_bytes(_PROCESS[-8:], "little"),
)


@inner
def _only(p: int, end: int, wanted: int) -> Any:
    """Returns (where the one field of this tag begins, its length) or (a refusal, 0); its absence is an empty field.

    All other fields are skipped, but must be readable.
    """
    begin, found_size, times = p, int64(0), 0
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p, int64(0)
        if t == wanted:
            size, p = length(p, end)
            if p < 0:
                return p, int64(0)
            begin, found_size = p, size
            times += 1
            p += size
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p, int64(0)
    if times > 1:
        return int64(RARE), int64(0)
    return begin, found_size


@once
def _resource(state: int, p: int, end: int) -> Any:
    """Reads a Resource: its service, version, allow-listed attributes and what it adds to identities."""
    opened(state)
    table, found = load_word(state + st.RESOURCE_KEYS), load_word(state + st.RESOURCE_FOUND)
    h1, h2, attributes = uint64(0), uint64(0), 0
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t == _RESOURCE_ATTRIBUTE or t == _ENTITY:
            size, p = length(p, end)
            if p < 0:
                return p
            if t == _RESOURCE_ATTRIBUTE:
                a1, a2, refusal = attribute(state, p, p + size, _RESOURCE, table, found)
                h1, h2, attributes = h1 + a1, h2 + a2, attributes + 1
            else:
                refusal = validated(p, p + size, PLAIN)
            if refusal < 0:
                return refusal
            p += size
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p
    faults = st.TOO_MANY if attributes > load_word(state + st.ATTRIBUTES_MAX) else 0
    if load_word(state + st.POINT_TOO_LONG) != 0:
        faults |= st.TOO_LONG
    store64(state + st.RESOURCE_HIGH, int64(h1))
    store64(state + st.RESOURCE_LOW, int64(h2))
    store64(state + st.RESOURCE_FAULTS, faults)
    store64(state + st.RESOURCE_INVALID, load_word(state + st.POINT_INVALID))
    return _service(state, found) if faults == 0 else int64(0)


@once
def _service(state: int, found: int) -> Any:
    """Stores the indices of the resource's service and version, and the values of the allow-list."""
    parts = stack_words(5)  # three indices, and room for a load that goes beyond them
    text, size = text_of(state, found, st.ENVIRONMENT_SLOTS[0])
    if size == 0:
        text, size = text_of(state, found, st.ENVIRONMENT_SLOTS[1])
    environment = index_of(state, st.TEXTS, text, size) if size > 0 else int64(0)
    text, size = text_of(state, found, st.NAMESPACE_SLOT)
    namespace = index_of(state, st.TEXTS, text, size) if size > 0 else int64(0)
    text, size = text_of(state, found, st.NAME_SLOT)
    name = index_of(state, st.TEXTS, text, size) if size > 0 else int64(0)
    text, size = text_of(state, found, st.VERSION_SLOT)
    version = index_of(state, st.VERSIONS, text, size) if size > 0 else int64(0)
    if min(environment, namespace, name, version) < 0:
        return int64(st.OUT_OF_ROOM)
    store64(parts, environment)
    store64(parts + 8, namespace)
    store64(parts + 16, name)
    service = index_of(state, st.SERVICES, parts, int64(24))
    if service < 0:
        return service
    store64(state + st.SERVICE, service)
    store64(state + st.VERSION, version)
    target = load_word(state + st.RESOURCE_SET)
    for k in range(load_word(state + st.LISTED_KEYS)):
        slots, into = load_word(state + st.LISTED) + st.LISTED_BYTES * k, target + st.KEPT_BYTES * k
        done = kept(state, found, load_word(slots + 16), load_word(slots + 24), into)
        if done < 0:
            return done
        if done == 0:
            store64(into, 0)
            store64(into + 8, 0)
    return int64(0)


@once
def _scope(state: int, p: int, end: int) -> Any:
    """Reads an InstrumentationScope: name, version and what its attributes add to identities."""
    h1, h2, attributes = uint64(0), uint64(0), 0
    name, name_size, version, version_size = p, int64(0), p, int64(0)
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t == _SCOPE_NAME or t == _SCOPE_VERSION or t == _SCOPE_ATTRIBUTE:
            size, p = length(p, end)
            if p < 0:
                return p
            if t == _SCOPE_NAME:
                name, name_size = p, size
            elif t == _SCOPE_VERSION:
                version, version_size = p, size
            else:
                key, key_size, value, value_size = split(p, p + size)
                if key < 0:
                    return key
                kind, a, b = typed(value, value + value_size)
                if kind < 0:
                    return kind
                a1, a2, refusal = attribute_hash(_SCOPE, key, key_size, kind, a, b)
                if refusal < 0:
                    return refusal
                h1, h2, attributes = h1 + a1, h2 + a2, attributes + 1
            p += size
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p
    store64(state + st.SCOPE_NAME, name)
    store64(state + st.SCOPE_NAME_SIZE, name_size)
    store64(state + st.SCOPE_VERSION, version)
    store64(state + st.SCOPE_VERSION_SIZE, version_size)
    store64(state + st.SCOPE_HIGH, int64(h1))
    store64(state + st.SCOPE_LOW, int64(h2))
    store64(state + st.SCOPE_FAULTS, st.TOO_MANY if attributes > load_word(state + st.ATTRIBUTES_MAX) else 0)
    return int64(0)


@inner
def _kind_of_metric(p: int, size: int) -> Any:
    """Returns what `reference.points.kind_of_metric` says of a name."""
    kind = int64(0)
    for i in range(size - 7):
        word = load64(p + i)
        if word == uint64(_SERVER_WORD):
            return int64(_SERVER)
        if word == uint64(_CLIENT_WORD):
            kind = int64(_CLIENT)
    if kind == 0 and size >= _PROCESS_SIZE:
        first, second, third = load64(p), load64(p + 8), load64(p + _PROCESS_SIZE - 8)
        if (
            first == uint64(_PROCESS_WORDS[0])
            and second == uint64(_PROCESS_WORDS[1])
            and third == uint64(_PROCESS_WORDS[2])
        ):
            kind = int64(_CONSUMER)
    return kind


@once
def _named(state: int, name: int, name_size: int, unit: int, unit_size: int) -> Any:
    """Stores what a metric says of all its points, its name and unit given; what its data says is in the state."""
    h1, h2 = murmur(name, name_size, uint64(_METRIC), uint64(0))
    h1, h2 = murmur(unit, unit_size, h1, h2)
    h1, h2 = murmur(load_word(state + st.SCOPE_NAME), load_word(state + st.SCOPE_NAME_SIZE), h1, h2)
    h1, h2 = murmur(load_word(state + st.SCOPE_VERSION), load_word(state + st.SCOPE_VERSION_SIZE), h1, h2)
    temporality, monotonic = load_word(state + st.TEMPORALITY), load_word(state + st.MONOTONIC)
    h1, h2 = murmur_word(uint64(load_word(state + st.TYPE) | temporality << 8 | monotonic << 16), 3, h1, h2)
    high = h1 + load64(state + st.RESOURCE_HIGH) + load64(state + st.SCOPE_HIGH)
    low = h2 + load64(state + st.RESOURCE_LOW) + load64(state + st.SCOPE_LOW)
    store64(state + st.AROUND_HIGH, int64(high))
    store64(state + st.AROUND_LOW, int64(low))
    store64(state + st.KIND, _kind_of_metric(name, name_size))
    faults = load_word(state + st.RESOURCE_FAULTS) | load_word(state + st.SCOPE_FAULTS)
    if max(name_size, unit_size) > load_word(state + st.VALUE_BYTES_MAX):
        store64(state + st.AROUND_FAULTS, faults | st.TOO_LONG)
        return int64(0)
    store64(state + st.AROUND_FAULTS, faults)
    name_index = index_of(state, st.NAMES, name, name_size)
    unit_index = index_of(state, st.UNITS, unit, unit_size)
    if min(name_index, unit_index) < 0:
        return int64(st.OUT_OF_ROOM)
    invalid = load_word(state + st.RESOURCE_INVALID) | is_invalid(load_word(state + st.NAMES), name_index)
    store64(state + st.AROUND_INVALID, invalid | is_invalid(load_word(state + st.UNITS), unit_index))
    store64(state + st.NAME, name_index)
    store64(state + st.UNIT, unit_index)
    return int64(0)


@once
def _data(state: int, p: int, end: int, field: int) -> Any:
    """Returns how many points a metric's data has, or a refusal; stores what it says of them."""
    points, temporality, monotonic = int64(0), int64(0), int64(0)
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t == _DATA_POINT:
            size, p = length(p, end)
            if p < 0:
                return p
            points += 1
            p += size
        elif t == _TEMPORALITY and field != _GAUGE_FIELD and field != _SUMMARY_FIELD:
            value, p = varint(p, end)
            if p < 0:
                return p
            value &= _INT32_BITS  # an enum is an int32
            temporality = value if value <= 2 else int64(0)
        elif t == _MONOTONIC and field == _SUM_FIELD:
            value, p = varint(p, end)
            if p < 0:
                return p
            monotonic = int64(value != 0)
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p
    if field == _GAUGE_FIELD:
        metric_type = int64(_GAUGE)
    elif field == _SUM_FIELD:
        metric_type = int64(_SUM)
    elif field == _HISTOGRAM_FIELD:
        metric_type = int64(_HISTOGRAM)
    else:
        metric_type = int64(_EXPONENTIAL if field == _EXPONENTIAL_FIELD else SUMMARY)
    store64(state + st.TYPE, metric_type)
    store64(state + st.TEMPORALITY, temporality)
    store64(state + st.MONOTONIC, monotonic)
    return points


@once
def _points(state: int, p: int, end: int) -> Any:
    """Reads the points of a metric's data, which was walked through before."""
    metric_type = load_word(state + st.TYPE)
    while p < end:
        t, p = tag(p, end)
        if t != _DATA_POINT:
            p = skipped(p, end, t)
            continue
        size, p = length(p, end)
        if metric_type <= _SUM:
            refusal = number_point(state, p, p + size)
        elif metric_type == _HISTOGRAM:
            refusal = histogram_point(state, p, p + size)
        elif metric_type == _EXPONENTIAL:
            refusal = exponential_point(state, p, p + size)
        else:
            refusal = summary_point(state, p, p + size)
        if refusal < 0:
            return refusal
        p += size
    return int64(0)


@once
def _metric(state: int, p: int, end: int) -> Any:
    name, name_size, unit, unit_size = p, 0, p, 0
    data, data_size, field, fields = p, 0, 0, 0
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t & 7 != 2:
            p = skipped(p, end, t)
            if p < 0:
                return p
            continue
        size, p = length(p, end)
        if p < 0:
            return p
        if t == _METRIC_NAME:
            name, name_size = p, size
        elif t == _METRIC_UNIT:
            unit, unit_size = p, size
        elif t == _METADATA:
            refusal = validated(p, p + size, KEY_VALUE)
            if refusal < 0:
                return refusal
        elif (
            t == _GAUGE_FIELD
            or t == _SUM_FIELD
            or t == _HISTOGRAM_FIELD
            or t == _EXPONENTIAL_FIELD
            or t == _SUMMARY_FIELD
        ):
            data, data_size, field = p, size, t
            fields += 1
        p += size
    if fields > 1:
        return int64(RARE)
    if fields == 0:
        return int64(0)
    points = _data(state, data, data + data_size, field)
    if points <= 0:
        return points
    refusal = _named(state, name, name_size, unit, unit_size)
    return _points(state, data, data + data_size) if refusal == 0 else refusal


@once
def _scope_metrics(state: int, p: int, end: int) -> Any:
    scope, size = _only(p, end, _SCOPE_FIELD)
    if scope < 0:
        return scope
    refusal = _scope(state, scope, scope + size)
    while refusal == 0 and p < end:
        t, p = tag(p, end)
        if t == _METRICS:
            size, p = length(p, end)
            refusal = _metric(state, p, p + size)
            p += size
        else:
            p = skipped(p, end, t)
    return refusal


@once
def _resource_metrics(state: int, p: int, end: int) -> Any:
    resource, size = _only(p, end, _RESOURCE_FIELD)
    if resource < 0:
        return resource
    refusal = _resource(state, resource, resource + size)
    while refusal == 0 and p < end:
        t, p = tag(p, end)
        if t == _SCOPE_METRICS:
            size, p = length(p, end)
            refusal = _scope_metrics(state, p, p + size)
            p += size
        else:
            p = skipped(p, end, t)
    return refusal


@once
def _request(state: int, p: int, end: int) -> Any:
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t == _RESOURCE_METRICS:
            size, p = length(p, end)
            if p < 0:
                return p
            refusal = _resource_metrics(state, p, p + size)
            if refusal < 0:
                return refusal
            p += size
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p
    return int64(0)


@once
def _outcome(state: int, begin: int, end: int) -> Any:
    """Reads one message; returns what became of it, or `OUT_OF_ROOM`."""
    store64(state + st.TIMED, 0)
    if begin == end:
        return int64(st.READ)
    if end - begin > load_word(state + st.MESSAGE_BYTES_MAX):
        return int64(st.TOO_LARGE)
    refusal = _request(state, begin, end)
    if refusal == st.OUT_OF_ROOM:
        return refusal
    if refusal < 0:
        return int64(st.LEFT_TO_PLAIN)
    if load_word(load_word(state + st.TALLY)) > load_word(state + st.ITEMS_MAX):
        return int64(st.TOO_MANY_ITEMS)
    return int64(st.READ if load_word(state + st.TIMED) != 0 else st.LEFT_TO_PLAIN)


@kernel
def scan(state: int, first: int, last: int) -> Any:
    """Reads the messages [first, last); returns the index of the first that is not read for want of room, or `last`."""
    store64(state + st.LAST_BOUNDS_SIZE, -1)
    for message in range(first, last):
        records, buckets = load_word(state + st.RECORDS_USED), load_word(state + st.BUCKETS_USED)
        offsets, data = load_word(state + st.OFFSETS) + 8 * message, load_word(state + st.DATA)
        tally = load_word(state + st.TALLIES) + 8 * st.TALLY_WORDS * message
        for i in range(st.TALLY_WORDS):
            store64(tally + 8 * i, 0)
        store64(state + st.TALLY, tally)
        store64(state + st.MESSAGE, message)
        outcome = _outcome(state, data + load_word(offsets), data + load_word(offsets + 8))
        if outcome != st.READ:
            store64(state + st.RECORDS_USED, records)
            store64(state + st.BUCKETS_USED, buckets)
        if outcome == st.OUT_OF_ROOM:
            return message
        store64(tally + 8 * st.OUTCOME, outcome)
    return last
