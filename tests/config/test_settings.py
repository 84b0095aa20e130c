"""The environment of a process: defaults, precedence, and errors that name the variable."""

from __future__ import annotations

import re

import pytest

from stream.config.settings import Deployment, read_deployment
from stream.core.errors import ConfigError


def test_defaults_listen_on_loopback_only() -> None:
    assert read_deployment({"QMA_BROKER": "kafka:9092"}) == Deployment(
        broker="kafka:9092", prefix="qma.", listen="127.0.0.1:9464"
    )


def test_every_variable_is_read() -> None:
    environ = {"QMA_BROKER": "a:1,b:2", "QMA_PREFIX": "eu.qma.", "QMA_LISTEN": "[::1]:8080", "HOME": "/root"}
    assert read_deployment({**environ, "QMA_METRICS_SLOTH": "1"}) == Deployment(
        broker="a:1,b:2", prefix="eu.qma.", listen="[::1]:8080", metrics_sloth=True
    )


def test_the_command_line_wins_over_the_environment() -> None:
    assert read_deployment({"QMA_BROKER": "kafka:9092"}, broker="local").broker == "local"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QMA_BROKER", "kafka:9092")
    monkeypatch.setenv("QMA_PREFIX", "")
    assert read_deployment().prefix == "qma."


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "no broker is named; pass --broker HOST:PORT (or --broker local), or set QMA_BROKER"),
        ({"QMA_BROKER": ""}, "no broker is named"),
        ({"QMA_BROKER": "kafka"}, "the broker `kafka` is not an address"),
        ({"QMA_BROKER": "kafka:9092,"}, "QMA_BROKER"),
        ({"QMA_BROKER": "kafka:0"}, "QMA_BROKER"),
        ({"QMA_BROKER": "kafka:65536"}, "QMA_BROKER"),
        ({"QMA_BROKER": "kafka:9092\n"}, "`kafka:9092\\n`"),
        ({"QMA_BROKER": "local", "QMA_PREFIX": "qma/"}, "QMA_PREFIX"),
        ({"QMA_BROKER": "local", "QMA_PREFIX": "q" * 201}, "QMA_PREFIX"),
        ({"QMA_BROKER": "local", "QMA_LISTEN": "9464"}, "QMA_LISTEN"),
        ({"QMA_BROKER": "local", "QMA_METRICS_SLOTH": "yes"}, "QMA_METRICS_SLOTH is `yes`; write 1"),
        ({"QMA_BROKERS": "kafka:9092"}, "QMA_BROKERS is not known; did you mean QMA_BROKER?"),
        ({"QMA_BROKER": "local", "QMA_LISTEN_ON": "x"}, "did you mean QMA_LISTEN?"),
    ],
)
def test_errors_name_the_variable_and_the_fix(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_deployment(environ)


def test_other_programs_variables_are_left_alone() -> None:
    read_deployment({"QMA_BROKER": "local", "QMA_UNRELATED": "x", "MY_QMA_BROKERS": "y"})
