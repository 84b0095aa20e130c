"""Fixtures for every test: one real broker per session, names of their own per test."""

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from stream.config.kernel_cache import use_kernel_cache
from stream.kafka.local import LocalKafka

use_kernel_cache()

# No deadline: other tests' brokers share the machine. Derandomised, so that a red run is the code's doing.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def kafka() -> Iterator[LocalKafka]:
    """A running broker, the same for the whole session: a test that ends or freezes it restores it."""
    with LocalKafka() as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and transactional ids that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}."
