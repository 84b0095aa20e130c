"""The bundle: exact targets, one encoding, refusal of another format."""

from dataclasses import replace
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.errors import IncompatibleError
from stream.core.otlp import Limits
from stream.core.slo.spec import Bundle, Objective, Settings, SliSignal, Source, decode_bundle
from tests.strategies import words

wanted = st.dictionaries(words, st.lists(words, min_size=1, max_size=2).map(tuple), max_size=2).map(
    lambda found: tuple(sorted(found.items()))
)
objectives = st.builds(
    Objective,
    service=words,
    name=words,
    target=st.sampled_from(("0.9", "0.999", "0.99999")),
    window_minutes=st.integers(60, 90 * 1440),
    kinds=st.lists(st.integers(0, 5), max_size=3).map(tuple),
    duration_lte_ns=st.none() | st.integers(1, 10**12),
    sampling_none=st.booleans(),
    since=st.none() | st.integers(0, 1000),
    signal=st.sampled_from(SliSignal),
    metric=st.none() | words,
    event=st.none() | words,
    attributes=wanted,
    good_attributes=wanted,
    severity_lt=st.none() | st.integers(1, 24),
)
bundles = st.builds(
    Bundle,
    pipeline=words,
    generation=words,
    partitions=st.integers(1, 64),
    sources=st.lists(st.builds(Source, topic=words, encoding=words, signal=st.just("") | words), max_size=2).map(tuple),
    objectives=st.lists(objectives, max_size=3).map(tuple),
    settings=st.builds(
        Settings,
        services_max=st.integers(1, 9),
        publish_sketches=st.booleans(),
        limits=st.builds(Limits, items=st.integers(1, 9)),
    ),
)


@given(bundles)
def test_bundles_come_back_and_have_one_encoding(bundle):
    assert decode_bundle(bundle.encode()) == bundle
    assert decode_bundle(bundle.encode()).encode() == bundle.encode()


def test_targets_are_exact():
    objective = Objective(service="a/b/c", name="x", target="0.999", window_minutes=60)
    assert objective.bad_ratio_max == Fraction(1, 1000)
    assert float(objective.bad_ratio_max) == 0.001 != 1 - 0.999


@given(objectives, st.integers(0, 1000))
def test_the_digest_names_the_definition_not_its_age(objective, since):
    assert replace(objective, since=since).digest == objective.digest
    assert replace(objective, target="0.5").digest != objective.digest


def test_another_format_is_refused():
    bundle = Bundle(pipeline="p", generation="1", partitions=1, sources=(), objectives=())
    body = orjson.loads(bundle.encode()) | {"format": 3}
    with pytest.raises(IncompatibleError, match="run the version that wrote it"):
        decode_bundle(orjson.dumps(body))


AVAILABILITY = Objective(
    service="production/shop/checkout", name="checkout-availability", target="0.999", window_minutes=43_200
)
EVENTS = Objective(
    service="a/b/c",
    name="fast/x",
    target="0.95",
    window_minutes=40_320,
    kinds=(5,),
    duration_lte_ns=1_500_000_000,
    sampling_none=True,
    since=7,
)


@pytest.mark.parametrize(
    ("objective", "digest"),
    [
        (AVAILABILITY, "0258efd3b1ba2429d1fe8685ee33cb98ca6b0da7f205cebc0c13e2d477b7e52b"),
        (EVENTS, "a2f00cca4ea8c6e6a28cac321813b557968db35515cc01eadf2f00cb7468912f"),
    ],
)
def test_an_objective_of_the_first_release_keeps_its_digest_and_so_its_history(objective, digest):
    assert objective.digest == digest


@pytest.mark.parametrize(
    "change",
    [
        {"signal": SliSignal.LOGS},
        {"metric": "m"},
        {"event": "e"},
        {"attributes": (("k", ("v",)),)},
        {"good_attributes": (("k", ("v",)),)},
        {"severity_lt": 17},
    ],
)
def test_every_field_is_part_of_the_digest(change):
    assert replace(AVAILABILITY, **change).digest != AVAILABILITY.digest


FIRST_FORMAT = (
    b'{"format":1,"generation":"1","objectives":[{"service":"a/b/c","name":"fast/x","target":"0.95",'
    b'"window_minutes":40320,"kinds":[5],"duration_lte_ns":1500000000,"sampling_none":true,"since":7}],"partitions":2,'
    b'"pipeline":"p","settings":{"allowed_lateness_ns":60000000000,"catching_up_after_ns":120000000000,'
    b'"services_max":300,"versions_max":100,"certificate_lifetime_minutes":10080,"publish_sketches":true},'
    b'"sources":[{"topic":"otlp_spans","encoding":"otlp_proto"},{"topic":"e","encoding":"flat"}]}'
)


def test_a_configuration_of_the_first_release_is_read_with_what_it_meant():
    bundle = decode_bundle(FIRST_FORMAT)
    assert bundle == Bundle(
        pipeline="p",
        generation="1",
        partitions=2,
        sources=(
            Source(topic="otlp_spans", encoding="otlp_proto", signal="traces"),
            Source(topic="e", encoding="flat", signal="events"),
        ),
        objectives=(EVENTS,),
        settings=Settings(publish_sketches=True),
    )
    assert decode_bundle(bundle.encode()) == bundle


def test_the_allow_list_is_every_attribute_that_an_objective_names():
    bundle = Bundle(
        pipeline="p",
        generation="1",
        partitions=1,
        sources=(),
        objectives=(
            replace(AVAILABILITY, attributes=(("b", ("1",)), ("c", ("2",)))),
            replace(AVAILABILITY, good_attributes=(("a", ("1",)), ("b", ("2",)))),
            EVENTS,
        ),
    )
    assert bundle.attributes == ("a", "b", "c")
    assert replace(bundle, objectives=(EVENTS,)).attributes == ()
