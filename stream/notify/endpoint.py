"""Where an Alertmanager is and how a request proves who sends it. Secrets come from files and stay out of messages."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from stream.core.errors import ConfigError

_USER_INFO = re.compile(r"//[^/]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An Alertmanager.

    Args:
        url: Its address, with the prefix that it serves under and without a user.
        user: Of basic authentication; None without.
        password: Its password, where the address holds it.
        password_file: The file that holds it. Files are read at every request: a new secret needs no restart.
        bearer_token_file: The file that holds a bearer token.
    """

    url: URL
    user: str | None = None
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    bearer_token_file: Path | None = None

    @property
    def name(self) -> str:
        """The address as it is shown."""
        return str(self.url)

    @property
    def alerts_url(self) -> URL:
        """Where alerts are posted to."""
        return self.url.joinpath("api", "v2", "alerts")

    async def authorization(self) -> dict[str, str]:
        """Returns the headers that prove who sends.

        Raises:
            OSError: When a file cannot be read.
        """
        if self.bearer_token_file is not None:
            return {"Authorization": f"Bearer {await _secret(self.bearer_token_file)}"}
        if self.user is None:
            return {}
        password = self.password if self.password_file is None else await _secret(self.password_file)
        both = base64.b64encode(f"{self.user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {both}"}


async def _secret(path: Path) -> str:
    return (await asyncio.to_thread(path.read_text)).strip()


def endpoint(text: str, *, password_file: Path | None = None, bearer_token_file: Path | None = None) -> Endpoint:
    """Returns the Alertmanager at an address such as `https://user@host:9093/prefix`.

    Raises:
        ConfigError: When the address or the way to prove who sends is not one.
    """
    shown = _USER_INFO.sub("//…@", text)
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        url, port = URL(), None
    if url.scheme not in ("http", "https") or not url.host or port is None or url.query_string or url.fragment:
        raise ConfigError(
            f"the Alertmanager {shown!r} is not an address; write for example http://localhost:9093 (--alertmanager)"
        )
    for path in (password_file, bearer_token_file):
        _expect_readable(path)
    if bearer_token_file is not None and (url.user is not None or password_file is not None):
        raise ConfigError(
            f"the Alertmanager {shown!r} would be given a bearer token and a password; take --bearer-token-file away, "
            "or --password-file and the user in the address"
        )
    if password_file is not None and (url.user is None or url.password is not None):
        raise ConfigError(
            f"--password-file needs a user without a password in the address {shown!r}; write https://USER@HOST:PORT"
        )
    return Endpoint(
        url=url.with_user(None),
        user=url.user,
        password=url.password or "",
        password_file=password_file,
        bearer_token_file=bearer_token_file,
    )


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Returns what server certificates are checked against: those in `ca_file`, or the system's.

    Raises:
        ConfigError: When the file holds no certificates.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"{ca_file}: no certificates to read ({error}); name a PEM file (--ca-file)") from error


def _expect_readable(path: Path | None) -> None:
    try:
        if path is not None:
            path.read_text()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); name a text file that this process may read") from error
