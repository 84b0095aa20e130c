"""Where compiled kernels are kept when the usual place cannot be used, and by whom they are written."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numba
import pytest

from stream.config.kernel_cache import compiling_alone, use_kernel_cache
from stream.core.errors import ConfigError


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache that cannot be written, and an empty directory for temporary files."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def test_without_a_cache_they_are_kept_where_nobody_else_can_write(places):
    directory = use_kernel_cache()
    assert directory.parent.parent == places / "tmp"
    assert directory.parent.stat().st_mode & 0o777 == 0o700
    assert use_kernel_cache() == directory


def test_a_user_without_a_home_keeps_them_too(places, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert use_kernel_cache().parent.parent == places / "tmp"


@pytest.mark.parametrize("made", ["open to all", "of another user", "a link"])
def test_code_is_never_taken_from_where_others_can_put_it(places, monkeypatch, made):
    mine = places / "tmp" / f"qma-stream-kernels-{os.getuid()}"
    if made == "a link":
        (places / "elsewhere").mkdir()
        mine.symlink_to(places / "elsewhere")
    else:
        mine.mkdir()
        mine.chmod(0o777 if made == "open to all" else 0o700)
    if made == "of another user":
        if os.getuid() != 0:
            pytest.skip("only root can give a directory away")
        os.chown(mine, 12345, -1)
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        use_kernel_cache()


def test_one_process_compiles_at_a_time(tmp_path):
    code = (
        "import sys; from pathlib import Path; from stream.config.kernel_cache import compiling_alone\n"
        "with compiling_alone(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdin is not None
    assert first.stdout is not None
    assert first.stdout.readline() == b"in\n"
    entered = threading.Event()

    def enter() -> None:
        with compiling_alone(tmp_path):
            entered.set()

    second = threading.Thread(target=enter)
    second.start()
    assert not entered.wait(0.2)
    first.kill()
    assert entered.wait(30)
    second.join()
    first.wait()
