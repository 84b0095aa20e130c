"""Fixtures of the state worker's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.pipeline import Pipeline


@pytest.fixture
def pipeline(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    """A new pipeline of two partitions; its workers are gone at the end."""
    made = Pipeline(kafka.bootstrap, topic_prefix, tmp_path)
    yield made
    made.close()
