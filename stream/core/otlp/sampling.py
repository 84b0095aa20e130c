"""Sampling probability from the W3C tracestate: for how many events a sampled span stands.

Source: opentelemetry-specification, `trace/tracestate-probability-sampling.md` and `tracestate-handling.md`;
the older `p` and `r` values: OTEP 168.
"""

import re

_RANDOMNESS_BITS = 56
_RANDOMNESS_RANGE = 1 << _RANDOMNESS_BITS
_HEX_DIGITS = _RANDOMNESS_BITS // 4
_TRACE_ID_BYTES = 16
_ENTRY_MAX = 256
_P_ZERO = 63

_THRESHOLD = re.compile(r"[0-9a-f]{1,14}")
_RANDOMNESS = re.compile(r"[0-9a-f]{14}")
_P_VALUE = re.compile(r"[0-9]|[1-5][0-9]|6[0-3]")
_R_VALUE = re.compile(r"[0-9]|[1-5][0-9]|6[0-2]")


def adjusted_count(tracestate: str, trace_id: bytes) -> float | None:
    """Returns the adjusted count of a span, or None where its sampling probability is unknown.

    2^56 / (2^56 - T) for a threshold `ot=th:T`, correctly rounded; 2^p for the older `ot=p:p`, 0 for p = 63.
    Unknown is not 1: no threshold, a malformed entry, or one that contradicts the span's randomness (R < T:
    the sampler that wrote it would have dropped this span, so it was written by something else).

    Args:
        tracestate: The whole W3C header value; entries of other vendors are ignored.
        trace_id: 16 bytes; its low 56 bits are the randomness where the entry has no `rv`.
    """
    entry = _ot_entry(tracestate)
    if entry is None:
        return None
    if "th" in entry:
        return _from_threshold(entry["th"], entry.get("rv"), trace_id)
    if "p" in entry:
        return _from_p_value(entry["p"], entry.get("r"))
    return None


def _ot_entry(tracestate: str) -> dict[str, str] | None:
    """Returns the keys and values of the `ot` entry, None where it is absent or malformed."""
    for member in tracestate.split(","):
        key, _, value = member.strip(" \t").partition("=")
        if key == "ot":
            break
    else:
        return None
    if len(value) > _ENTRY_MAX or not value.isascii():
        return None
    fields: dict[str, str] = {}
    for field in value.split(";"):
        name, colon, text = field.partition(":")
        if not colon or name in fields:
            return None
        fields[name] = text
    return fields


def _from_threshold(th: str, rv: str | None, trace_id: bytes) -> float | None:
    if not _THRESHOLD.fullmatch(th):
        return None
    if rv is not None:
        if not _RANDOMNESS.fullmatch(rv):
            return None
        randomness = int(rv, 16)
    elif len(trace_id) == _TRACE_ID_BYTES:
        randomness = int.from_bytes(trace_id[-7:], "big")
    else:
        randomness = 0  # nothing to check against: believe only the threshold 0, which keeps everything
    threshold = int(th.ljust(_HEX_DIGITS, "0"), 16)
    if randomness < threshold:
        return None
    return _RANDOMNESS_RANGE / (_RANDOMNESS_RANGE - threshold)


def _from_p_value(p: str, r: str | None) -> float | None:
    if not _P_VALUE.fullmatch(p) or (r is not None and not _R_VALUE.fullmatch(r)):
        return None
    if int(p) == _P_ZERO:
        return 0.0
    if r is not None and int(r) < int(p):
        return None
    return float(1 << int(p))
