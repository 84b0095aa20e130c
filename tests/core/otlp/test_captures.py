"""The protobuf decoder against records of a real Collector and totals that another program counted."""

import hashlib
import json
from collections import Counter
from typing import Any

import pytest

from stream.core.columns import Kind, RowFlag, Rows, Status
from stream.core.otlp import Limits, Messages, Reading
from stream.core.otlp.reference import traces
from stream.core.service_key import split_service_key
from stream.core.units import WEIGHT_ONE
from tests.core.otlp import captures

EVERYTHING = Reading(limits=Limits(attributes=1000))
"""One span of the captures has more attributes than are read by default."""


def decoded(name):
    messages = Messages.of(captures.values(name))
    return list(messages), traces.decode(messages, EVERYTHING)


def expected_totals(truth):
    """The truth by (service, version) as we name them: what is no text, or empty, counts as absent."""
    totals: dict[tuple[str, str], Any] = {}
    for key, counted in truth["by_service"].items():
        service, version = json.loads(key)
        # The truth writes an array-valued attribute as text in angle brackets.
        if not isinstance(service, str) or service in ("", "<array_value>"):
            service = "unknown_service"
        version = version if isinstance(version, str) else ""
        total = totals.setdefault((service, version), Counter())
        for name, words in (("kind", Kind), ("status", Status)):
            for word, count in counted[name].items():
                total[name, word if word in words.__members__ else words(0).name] += count
        for name in ("spans", "duration_ns_sum", "over_100ms", "negative_duration"):
            total[name] += counted[name]
        total["adjusted_count"] += counted["adjusted_count_th"]
        total["sampling_known"] += counted["valid_th"]
    return totals


def decoded_totals(rows: Rows):
    totals: dict[tuple[str, str], Any] = {}
    for i in range(len(rows)):
        service = split_service_key(rows.services[rows.service[i]])[2]
        total = totals.setdefault((service, rows.versions[rows.version[i]]), Counter())
        total["spans"] += int(rows.count[i])
        total["kind", Kind(rows.kind[i]).name] += 1
        total["status", Status(rows.status[i]).name] += 1
        total["duration_ns_sum"] += int(rows.duration_ns[i])
        total["over_100ms"] += int(rows.duration_ns[i] > 100_000_000)
        total["negative_duration"] += int(rows.flags[i] & RowFlag.NEGATIVE_DURATION != 0)
        total["adjusted_count"] += int(rows.weight[i]) / WEIGHT_ONE
        total["sampling_known"] += int(rows.flags[i] & RowFlag.SAMPLING_UNKNOWN == 0)
    return totals


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_totals_equal_the_truth(name):
    expected, (_, result) = expected_totals(captures.truth(name)), decoded(name)
    actual = decoded_totals(result.rows)
    assert actual.keys() == expected.keys()
    for key, total in expected.items():
        # A weight is rounded to 2^-16.
        assert actual[key].pop("adjusted_count") == pytest.approx(total.pop("adjusted_count"), abs=1e-4)
        assert +actual[key] == +total, key


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_receipts_name_the_spans_and_the_undecodable_records(name):
    truth, (messages, result) = captures.truth(name), decoded(name)
    refused = truth["undecodable_by_official_python_protobuf"]
    receipts = result.receipts
    assert int(receipts.items.sum()) == truth["spans"] + len(refused)
    assert int(receipts.rejected.sum()) == len(refused)
    assert receipts.first_offset.tolist() == [message.offset for message in messages]
    for i in receipts.rejected.nonzero()[0]:
        assert receipts.reasons[receipts.reason[i]] == "too_deep"
        value = messages[receipts.first_offset[i]].value
        assert value is not None
        assert receipts.digests[i] == hashlib.sha256(value).digest()
        assert "100 levels" in (receipts.details[i] or "")


def test_the_edge_capture_has_a_record_that_is_refused_and_its_neighbours_count():
    _, result = decoded("edge")
    assert int(result.receipts.rejected.sum()) == 1
    assert len(result.rows) == 258


@pytest.mark.parametrize("name", ["codec", "edge"])
def test_a_span_with_hundreds_of_attributes_is_refused_by_default(name):
    values = captures.values(name)
    receipts = traces.decode(Messages.of(values)).receipts
    refused = [receipts.reasons[i] for i in receipts.reason[receipts.rejected > 0]]
    assert refused.count("too_many_attributes") == 1
    assert int(receipts.items.sum()) == int(traces.decode(Messages.of(values), EVERYTHING).receipts.items.sum())


def test_http_and_grpc_codes_of_the_captures():
    truth, (_, result) = captures.truth("app_default"), decoded("app_default")
    expected: Counter[int] = Counter()
    for counted in truth["by_service"].values():
        for attribute, count in counted["http_status"].items():
            expected[int(attribute.partition("=")[2])] += count
    codes = Counter(result.rows.code.tolist())
    del codes[-1]
    assert codes == expected


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_a_message_cut_off_anywhere_is_accounted_for_and_its_neighbour_counts(name):
    value = max(captures.values(name), key=len)
    neighbour = captures.values("edge")[1]
    spans = len(traces.decode(Messages.of([neighbour])).rows)
    assert spans == 6
    for cut in range(1, len(value), len(value) // 200):
        result = traces.decode(Messages.of([value[:cut], neighbour]))
        receipts = result.receipts
        assert int(receipts.items.sum() - receipts.rejected.sum()) == int(result.rows.count.sum())
        assert int(receipts.items[0]) >= 1
        assert int((result.rows.offset == 1).sum()) == spans
