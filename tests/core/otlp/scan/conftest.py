"""The compiled decoders are compiled before their first test."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _compiled(kernels: None) -> None:
    pass
