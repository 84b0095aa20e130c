"""Where the machine code of the decoders is kept between starts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba

from stream.core.errors import ConfigError
from stream.core.otlp import scan

_LOCK = "lock"


def use_kernel_cache() -> Path:
    """Makes numba keep compiled kernels in the user's cache directory, and returns where.

    One directory per state of `kernel_sources`. Call it before a compiled decoder is imported.

    Raises:
        ConfigError: There is no directory that this user can write and nobody else can.
    """
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in kernel_sources())).hexdigest()
    directory = _in_cache(digest[:16]) or _in_temporary(digest[:16])
    numba.config.CACHE_DIR = str(directory)
    return directory


def kernel_sources() -> list[Path]:
    """Returns the files of the kernels and of everything whose constants may be compiled into them.

    numba looks at the file of a kernel alone, and would take machine code from before a change in another of these.
    """
    decoders = Path(scan.__file__).parent.parent
    return sorted([*decoders.rglob("*.py"), *decoders.parent.glob("*.py")])


@contextlib.contextmanager
def compiling_alone(directory: Path) -> Iterator[None]:
    """Waits while another process compiles into this directory; where there are no locks, nobody waits.

    Two processes that store different variants of a kernel at once could store one under the name of the other.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            lock = held.enter_context(open(directory / _LOCK, "ab"))
            fcntl.flock(lock, fcntl.LOCK_EX)  # its end or that of the process releases it
        yield


def forget_kernels(directory: Path) -> None:
    """Deletes the compiled kernels in this directory."""
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)


def _in_cache(name: str) -> Path | None:
    """Returns a directory in the user's cache, or None where there is none that can be written."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = cache / "qma-stream" / "kernels" / name
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    return directory


def _in_temporary(name: str) -> Path:
    """Returns a directory that lasts until the next boot; never one that somebody else could put code into."""
    mine = Path(tempfile.gettempdir()) / f"qma-stream-kernels-{os.getuid()}"
    try:
        mine.mkdir(mode=0o700, exist_ok=True)
        found = mine.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            directory = mine / name
            directory.mkdir(exist_ok=True)
            return directory
    except OSError:
        pass
    raise ConfigError(
        f"compiled decoders cannot be kept: the user's cache cannot be written, and {mine} is not this user's alone; "
        "set XDG_CACHE_HOME to a directory that can be written"
    )
