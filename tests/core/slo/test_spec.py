"""The bundle: exact targets, one encoding, refusal of another format."""

from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.errors import IncompatibleError
from stream.core.slo.spec import Bundle, Objective, Settings, Source, decode_bundle
from tests.strategies import words

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
)
bundles = st.builds(
    Bundle,
    pipeline=words,
    generation=words,
    partitions=st.integers(1, 64),
    sources=st.lists(st.builds(Source, topic=words, encoding=words), max_size=2).map(tuple),
    objectives=st.lists(objectives, max_size=3).map(tuple),
    settings=st.builds(Settings, services_max=st.integers(1, 9), publish_sketches=st.booleans()),
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
    older = Objective(**{**{f: getattr(objective, f) for f in objective.__slots__}, "since": since})
    assert older.digest == objective.digest
    other = Objective(**{**{f: getattr(objective, f) for f in objective.__slots__}, "target": "0.5"})
    assert other.digest != objective.digest


def test_another_format_is_refused():
    bundle = Bundle(pipeline="p", generation="1", partitions=1, sources=(), objectives=())
    body = orjson.loads(bundle.encode()) | {"format": 2}
    with pytest.raises(IncompatibleError, match="run the version that wrote it"):
        decode_bundle(orjson.dumps(body))
