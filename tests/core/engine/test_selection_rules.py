"""What objectives select, leave out and call good beyond failures and durations: of rows, and of metric points."""

from dataclasses import replace
from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.cells import Column
from stream.core.certificate.lifecycle import CertificateState, Reason
from stream.core.columns import Rows
from stream.core.engine.tally import Places, Predicate, RowTally
from stream.core.events import CertificateEvent, SliEvent
from stream.core.otlp.attributes import canonical
from stream.core.points import MetricType, PointFlag, Points
from stream.core.slo.selection import as_text
from stream.core.slo.sli import SLICE_ONE
from stream.core.slo.spec import Comparison, RawRatio, Slices, Threshold
from stream.core.units import MINUTE_NS, WEIGHT_ONE, minute_of
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run
from tests.core.engine.point_writer import METRIC, PointWriter, metric_objective, named
from tests.core.engine.test_chunks import fold
from tests.core.engine.test_points import cell
from tests.core.streams.rules import Sample, points

# Rows

values = st.sampled_from(("GET", "POST", "/healthz", "200", 200, 200.0, "0.7", 0.7, True, 2**53 + 1, "x7"))
texts: st.SearchStrategy[str] = values.map(lambda value: as_text(value))  # type: ignore[arg-type]
attribute_sets = st.lists(st.dictionaries(st.sampled_from("abc"), values, max_size=3), min_size=1, max_size=8)
wanted = st.dictionaries(
    st.sampled_from("abc"), st.lists(texts, min_size=1, max_size=2, unique=True).map(tuple), max_size=2
).map(lambda found: tuple(sorted(found.items())))
decimals = st.sampled_from(("0.7", "200", "9007199254740992", "9007199254740993", "-1", "199.5"))
thresholds = st.builds(Threshold, op=st.sampled_from(Comparison), value=decimals, attribute=st.sampled_from("abc"))


def counted(sets, **rest) -> tuple[int, int, int]:
    """Returns how many of rows with these attributes count, are bad, and are left out."""
    rows = Rows.of(
        len(sets),
        end_ns=np.full(len(sets), T0_NS, "int64"),
        kind=np.full(len(sets), 2, "int8"),
        count=np.ones(len(sets), "int64"),
        weight=np.full(len(sets), WEIGHT_ONE, "int64"),
        attributes=np.arange(len(sets), dtype="int32"),
        attribute_sets=tuple(canonical(one) for one in sets),
        services=(SERVICE,),
        versions=("v1",),
    )
    pair, minute = np.zeros(len(sets), np.int64), np.full(len(sets), minute_of(T0_NS))
    tally = RowTally(rows, Places.at(pair, minute))
    found = tally.of(Predicate.of(objective(**rest)), np.array([True])).excess.sum(axis=1)
    return int(found[Column.N]), int(found[Column.N_BAD]), int(found[Column.N_EXCLUDED])


def has(found, one) -> bool:
    key, texts = one
    return key in found and as_text(found[key]) in texts


@given(attribute_sets, wanted, wanted)
def test_what_is_left_out_is_counted_as_that_alone_and_bad_is_what_has_all_the_bad_values(sets, without, bad):
    left_out = [any(has(found, one) for one in without) for found in sets]
    is_bad = [bool(bad) and all(has(found, one) for one in bad) for found in sets]
    kept = [b for b, out in zip(is_bad, left_out, strict=True) if not out]
    assert counted(sets, without=without, bad_attributes=bad) == (len(kept), sum(kept), sum(left_out))


def is_good(value, threshold: Threshold) -> bool:
    """Compares exactly; a float with the float that the threshold becomes."""
    limit = Fraction(threshold.value)
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, float):
        number, limit = Fraction(value), Fraction(float(threshold.value))
    else:
        try:
            number = Fraction(value)
        except ValueError:
            return False
    return {
        Comparison.LTE: number <= limit,
        Comparison.LT: number < limit,
        Comparison.GTE: number >= limit,
        Comparison.GT: number > limit,
    }[threshold.op]


@given(attribute_sets, thresholds)
def test_a_threshold_on_an_attribute_is_exact_for_integers_and_texts(sets, threshold):
    bad = sum(not is_good(found.get(threshold.attribute), threshold) for found in sets)
    assert counted(sets, threshold=threshold) == (len(sets), bad, 0)


@pytest.mark.parametrize("value", ["nan", "inf", "1e3", " 1", "1_000", "0x10", "", "1,5", True, None])
def test_what_is_no_number_is_not_good(value):
    for op in Comparison:
        found = {} if value is None else {"a": value}
        assert counted([found], threshold=Threshold(op=op, value="10", attribute="a")) == (1, 1, 0)


def test_only_the_versions_that_were_named_count():
    slos = objective("both"), objective("first", versions=("v1",)), objective("late", versions=("v2", "v3"))
    writer = LogWriter(bundle(*slos))
    events = [Event(T0_NS + i, version=f"v{i % 4}", trace_id=i + 1) for i in range(40)]
    minute_by_minute(writer, [events, [], []])
    engine, outputs = run(writer.log)
    first = {o.objective.name: o for o in outputs if isinstance(o, SliEvent) and o.minute == minute_of(T0_NS)}
    assert {name: event.minute_sli.n for name, event in first.items()} == {"both": 40, "first": 10, "late": 20}
    exemplars = {name: event.exemplars.newest.trace_id for name, event in first.items() if event.exemplars}
    assert exemplars == {"both": f"{40:032x}", "first": f"{38:032x}", "late": f"{40:032x}"}
    assert engine.services[SERVICE].versions == {"v0", "v1", "v2", "v3"}


# Metric points whose value says what is good


def gauges(numbers, **columns) -> Points:
    """Returns gauge points a second apart, of as many streams; integers are integers."""
    integer = [isinstance(number, int) for number in numbers]
    samples = [
        Sample(
            stream=i + 1,
            type=MetricType.GAUGE,
            time=T0_NS + i * 1_000_000_000,
            flags=PointFlag.INTEGER if whole else 0,
            service=SERVICE,
        )
        for i, (number, whole) in enumerate(zip(numbers, integer, strict=True))
    ]
    batch = named(points(samples, 0))
    exact = np.array([number if whole else 0 for number, whole in zip(numbers, integer, strict=True)], "int64")
    return replace(batch, **{"value": np.array(numbers, "float64"), "value_int": exact, **columns})


def of_values(numbers, slo, **columns) -> dict[str, int]:
    """Returns what points with these values add to an objective."""
    writer = PointWriter(bundle(slo))
    writer.record(gauges(numbers, **columns), until_ns=T0_NS)
    return cell(fold(writer.log)[2], slo.name)


numbers = st.lists(
    st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from((2**53, 2**53 + 1, 2**53 - 1, 200, -1))
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from((0.7, 199.5)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40)
@given(numbers, st.builds(Threshold, op=st.sampled_from(Comparison), value=decimals))
def test_a_threshold_on_a_metrics_value_is_exact_for_integers(found, threshold):
    bad = sum(not is_good(number, threshold) for number in found)
    counters = of_values(found, metric_objective(threshold=threshold))
    assert (counters["N"], counters.get("N_BAD", 0)) == (len(found), bad)


@pytest.mark.parametrize("op", list(Comparison))
def test_infinities_are_never_good_and_not_a_number_says_nothing(op):
    counters = of_values([inf, -inf, nan], metric_objective(threshold=Threshold(op=op, value="5")))
    assert (counters["N"], counters["N_BAD"], counters["N_EXCLUDED"]) == (2, 2, 1)


def test_a_point_without_a_value_is_no_point():
    flags = np.array([PointFlag.NO_RECORDED_VALUE, 0], "uint8")
    slo = metric_objective(threshold=Threshold(op=Comparison.LTE, value="5"))
    assert of_values([1.0, 1.0], slo, flags=flags)["N"] == 1
    assert of_values([1.0, 1.0], metric_objective(raw=RawRatio.SUCCESS), flags=flags)["N"] == 1


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1) | st.sampled_from((1e-20, 1 - 2**-53, 0.1)), min_size=1, max_size=5))
@pytest.mark.parametrize("raw", list(RawRatio))
def test_a_ratio_counts_as_far_as_it_is_bad_rounded_against_the_service(raw, found):
    bad = [Fraction(ratio) if raw is RawRatio.FAILURE else 1 - Fraction(ratio) for ratio in found]
    counters = of_values(found, metric_objective(raw=raw))
    assert (counters["N"], counters["WEIGHT"]) == (len(found), len(found) * SLICE_ONE)
    assert counters.get("N_BAD", 0) == sum(share > 0 for share in bad)
    exact = sum(bad) * SLICE_ONE
    assert exact <= counters.get("WEIGHT_BAD", 0) <= exact + len(found) * Fraction(1001, 1000)


def test_what_is_no_ratio_counts_as_left_out():
    counters = of_values([0.5, -0.1, 1.5, nan, inf, 2], metric_objective(raw=RawRatio.SUCCESS))
    assert (counters["N"], counters["N_EXCLUDED"]) == (1, 5)


def test_ratios_are_watched_and_never_certified():
    slo = metric_objective(target="0.5", raw=RawRatio.SUCCESS)
    writer = PointWriter(bundle(slo))
    for minute in range(4):
        sample = Sample(type=MetricType.GAUGE, time=T0_NS + minute * MINUTE_NS, value=1.0, flags=0, service=SERVICE)
        writer.record([sample], until_ns=T0_NS + minute * MINUTE_NS)
    events = [o for o in run(writer.log)[1] if isinstance(o, CertificateEvent)]
    assert {e.state for e in events} == {CertificateState.PENDING}
    assert Reason.NOT_CERTIFIABLE in events[-1].reasons


# Two metrics, one of them a part of the other

GOOD, TOTAL = "requests.good", "requests"


def pairs_of_counters(steps, slo) -> list[SliEvent]:
    """Returns the indicators of minutes in each of which (part, total) was added."""
    writer = PointWriter(bundle(slo))
    part_sum, total_sum = 0, 0
    for minute, (part, total) in enumerate([(0, 0), *steps, (0, 0), (0, 0)]):
        part_sum, total_sum = part_sum + part, total_sum + total
        time_ns = T0_NS + minute * MINUTE_NS + 1_000_000_000
        samples = [
            Sample(stream=i, start=T0_NS + 1, time=time_ns, value=float(value), service=SERVICE)
            for i, value in ((1, part_sum), (2, total_sum))
        ]
        batch = replace(points(samples, writer.next_offset), names=(GOOD, TOTAL), versions=("v1",))
        batch = replace(batch, name=np.array([0, 1], "int32"))
        writer.record(batch, until_ns=T0_NS + (minute + 1) * MINUTE_NS)
    return [o for o in run(writer.log)[1] if isinstance(o, SliEvent)][1 : len(steps) + 1]


steps = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=6)


@settings(max_examples=15)
@given(steps)
@pytest.mark.parametrize("part", ["good_metric", "bad_metric"])
def test_counters_that_are_not_read_at_the_same_instant_make_no_ratio_beyond_0_and_1(part, steps):
    """Each minute and the window by themselves: what is too much in one minute is missing in another."""
    slo = metric_objective(metric=TOTAL, **{part: GOOD})
    for at, event in enumerate(pairs_of_counters(steps, slo), 1):
        for found, added in ((event.minute_sli, [steps[at - 1]]), (event.window_sli, steps[:at])):
            total = sum(t for _, t in added)
            parts = min(sum(p for p, _ in added), total)
            good = parts if part == "good_metric" else total - parts
            assert (found.total, found.good) == (total, good if total else 0)
            assert found.ratio == (good / total if total else None)


def test_slices_of_two_counters_are_no_better_than_good_and_no_worse_than_bad():
    """Ten minutes, in some of them more good than there were, in others nothing good of many."""
    steps = [(30, 10), (0, 20)] * 5
    slo = metric_objective(metric=TOTAL, good_metric=GOOD, slices=Slices(minutes=1), window_minutes=60)
    window = pairs_of_counters(steps, slo)[-1].window_sli
    assert (window.n, window.good) == (10, 5)


def test_the_difference_of_two_metrics_is_watched_and_never_certified():
    assert not metric_objective(metric=TOTAL, good_metric=GOOD).is_certifiable
    assert metric_objective(metric=METRIC).is_certifiable


# Certificates claim what is certified


def test_a_certificate_does_not_claim_what_is_left_out_of_it():
    slos = objective("claimed", target="0.5"), objective("watched", target="0.5", certified=False, duration_lte_ns=1)
    writer = LogWriter(bundle(*slos))
    minute_by_minute(writer, [[Event(T0_NS + m * MINUTE_NS + i) for i in range(9)] for m in range(4)])
    issued = [o for o in run(writer.log)[1] if isinstance(o, CertificateEvent) and o.state is CertificateState.ISSUED]
    assert [[a.objective.name for a in event.assessments] for event in issued] == [["claimed"]]


def test_a_service_of_which_nothing_is_certified_has_no_certificate():
    writer = LogWriter(bundle(objective(target="0.5", certified=False)))
    minute_by_minute(writer, [[Event(T0_NS + m * MINUTE_NS + i) for i in range(9)] for m in range(4)])
    assert not [o for o in run(writer.log)[1] if isinstance(o, CertificateEvent)]
