"""Addresses, and what is said of one that cannot be used: never the password."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.core.errors import ConfigError
from stream.notify.endpoint import endpoint, tls_context


@pytest.mark.parametrize(
    ("url", "posts_to"),
    [
        ("http://localhost:9093", "http://localhost:9093/api/v2/alerts"),
        ("http://localhost:9093/", "http://localhost:9093/api/v2/alerts"),
        ("https://am.example/prefix/", "https://am.example/prefix/api/v2/alerts"),
        ("https://u:p%40ss@am.example:444", "https://am.example:444/api/v2/alerts"),
        ("http://[::1]:9093", "http://[::1]:9093/api/v2/alerts"),
    ],
)
def test_alerts_are_posted_under_the_address(url: str, posts_to: str):
    assert str(endpoint(url).alerts_url) == posts_to


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:9093",
        "ftp://am",
        "http://",
        "http://am:x",
        "http://am:99999",
        "http://am/?a=1",
        "http://am/#a",
        "//am",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(url: str):
    with pytest.raises(ConfigError, match=r"is not an address; write for example http://localhost:9093"):
        endpoint(url)


def test_one_way_to_prove_who_sends_is_enough(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    for url, secrets, said in (
        ("http://u@am", {"bearer_token_file": secret}, "a bearer token and a password"),
        ("http://am", {"password_file": secret}, "needs a user without a password in the address 'http://am'"),
        ("http://u:s3cret@am", {"password_file": secret}, "needs a user without a password"),
    ):
        with pytest.raises(ConfigError, match=said) as refused:
            endpoint(url, **secrets)
        assert "s3cret" not in str(refused.value)


def test_a_file_that_is_not_there_is_named_at_the_start(tmp_path: Path):
    missing = tmp_path / "missing"
    for refused in (
        lambda: endpoint("http://am", bearer_token_file=missing),
        lambda: endpoint("http://u@am", password_file=missing),
        lambda: tls_context(missing),
    ):
        with pytest.raises(ConfigError, match=str(missing)):
            refused()


def test_a_wrong_address_is_shown_without_its_password():
    with pytest.raises(ConfigError) as refused:
        endpoint("https://user:s3cret@am:x")

    assert "s3cret" not in str(refused.value)
