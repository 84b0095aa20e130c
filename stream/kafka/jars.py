"""The jars of Apache Kafka: downloaded once into the user's cache, checked against committed hashes at every use."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from stream.core.errors import UnavailableError

KAFKA_VERSION = "4.3.0"
# Resolved one by one: together, the second one's managed versions would replace some of Kafka's own.
ENDPOINTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka logs through SLF4J 1.7 and names no backend; without one it dies without a word.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)
HASHES = Path(__file__).with_name("jars.sha256")


def default_cache_dir() -> Path:
    """Returns the directory that holds the jars of this Kafka version: under XDG_CACHE_HOME, else ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "qma-stream" / f"kafka-{KAFKA_VERSION}"


def expected_hashes() -> dict[str, str]:
    """Returns the SHA-256 of every jar by file name, as committed (the format of `sha256sum -c`)."""
    lines = HASHES.read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def kafka_jars(cache_dir: Path | None = None) -> list[Path]:
    """Returns the jars of a Kafka broker, each equal to its committed hash.

    Args:
        cache_dir: Where the jars are kept; `default_cache_dir()` when not given. Downloaded into when absent.

    Raises:
        UnavailableError: The jars cannot be downloaded, or one of them is not the file that was committed to.
    """
    directory = default_cache_dir() if cache_dir is None else cache_dir
    if not directory.exists():
        _download(directory)
    return _checked(directory)


def _checked(directory: Path) -> list[Path]:
    jars = []
    for name, digest in expected_hashes().items():
        jar = directory / name
        if not jar.is_file():
            raise UnavailableError(f"{jar} is missing. Delete {directory} and run the command again.")
        with jar.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise UnavailableError(
                f"{jar} is not the file that was expected, so it is not run: its SHA-256 is {found}, "
                f"expected {digest}. Delete {directory} and run the command again; if it happens again, what the "
                f"jars are downloaded from (or its copy in ~/.m2/repository) has been changed."
            )
        jars.append(jar)
    return jars


def _download(directory: Path) -> None:
    """Resolves the jars with jgo into a staging directory and moves them into place when all are right."""
    try:
        import jgo  # an extra: only those who start a broker have it
    except ImportError as error:
        raise UnavailableError(
            f"Apache Kafka {KAFKA_VERSION} is not in {directory}, and jgo, which downloads it, is not installed. "
            "Install it: pip install 'qma-stream[local]'. Or use a broker of your own: --broker HOST:PORT."
        ) from error
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix="download-") as staging:
            resolved, complete = Path(staging) / "resolved", Path(staging) / "complete"
            for endpoint in ENDPOINTS:
                jgo.build(endpoint, cache_dir=resolved)
            complete.mkdir()
            for jar in resolved.glob("envs/**/*.jar"):
                if jar.name in expected_hashes():
                    shutil.copyfile(jar, complete / jar.name)
            _checked(complete)
            _move(complete, directory)
    except UnavailableError:
        raise
    # jgo and what it stands on raise errors of many kinds for an unreachable or broken repository.
    except (Exception, SystemExit) as error:
        raise UnavailableError(
            f"Apache Kafka {KAFKA_VERSION} could not be downloaded from Maven Central into {directory}: "
            f"{type(error).__name__}: {error}. Check the network (HTTPS_PROXY is honoured) and try again, or use "
            "a broker of your own: --broker HOST:PORT."
        ) from error


def _move(complete: Path, directory: Path) -> None:
    """Renames a finished download into place; another process that was faster wins."""
    try:
        complete.rename(directory)
    except OSError:
        if not directory.exists():
            raise
