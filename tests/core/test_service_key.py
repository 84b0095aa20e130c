"""Service keys: one way to split them, and Kafka's partition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.service_key import murmur2, partition_of, service_key, split_service_key

parts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("/%2F5"), min_size=1)


@given(parts, parts, parts)
def test_keys_split_into_what_they_were_made_of(environment, namespace, name):
    key = service_key(environment, namespace, name)
    assert key.count("/") == 2
    assert split_service_key(key) == (environment, namespace, name)


def test_absent_parts_have_names():
    assert service_key(None, None, None) == "unknown/-/unknown_service"
    assert service_key("", "", "") == "unknown/-/unknown_service"


def test_slashes_and_percent_signs_are_escaped():
    assert service_key("prod", "a/b", "50%2F") == "prod/a%2Fb/50%252F"


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_equals_that_of_kafkas_java_client(text, signed):
    """Source: Apache Kafka, UtilsTest.testMurmur2; toPositive clears the sign bit."""
    assert murmur2(text.encode()) == signed & 0x7FFFFFFF


@given(parts, st.integers(1, 1000))
def test_a_partition_is_one_of_those_there_are(key, partitions):
    assert 0 <= partition_of(key, partitions) < partitions
