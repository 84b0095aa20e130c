"""Fixtures for every test: one real broker per session, names of their own per test."""

import functools
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from stream.config.kernel_cache import use_kernel_cache
from stream.core.otlp.decoders import DECODERS
from stream.ingest import priming
from stream.kafka.local import LocalKafka

use_kernel_cache()

# No deadline: other tests' brokers share the machine. Derandomised, so that a red run is the code's doing.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


class WholeFiles(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process files as a whole, and all those with tests of the broker to one: some of them end it."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "kafka" if needs_broker(self.config.rootpath / file) else file


@functools.cache
def needs_broker(file: Path) -> bool:
    """Returns whether a file has tests of the broker; the process that gives out the tests knows only their names."""
    return "pytest.mark.kafka" in file.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> WholeFiles:
    """Returns how `make test` divides the tests between its processes."""
    config.option.loadscopereorder = False  # the order is that of `pytest_collection_modifyitems`
    return WholeFiles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets one process begin with the broker and another with the kernels: each may take minutes."""
    items.sort(key=lambda item: (not needs_broker(item.path), "kernels" not in getattr(item, "fixturenames", ())))


@pytest.fixture(scope="session")
def kernels() -> None:
    """Compiled decoders. Of several processes one compiles them; one that is alone compiles what its tests need."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        priming.main(priming.names_of(DECODERS))


@pytest.fixture(scope="session")
def kafka() -> Iterator[LocalKafka]:
    """A running broker, the same for the whole session: a test that ends or freezes it restores it."""
    with LocalKafka() as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and transactional ids that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}."
