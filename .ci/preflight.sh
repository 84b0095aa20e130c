#!/bin/sh
# Finds what `make` needs and is not there before anything is downloaded, and prints the command that installs it.
# Usage: preflight.sh PYTHON
python=$1
missing=0

complain() { # what is missing; then the packages' names for apt-get, dnf and brew
    missing=1
    echo "missing: $1" >&2
    if command -v apt-get >/dev/null 2>&1; then
        echo "  install it with: sudo apt-get install -y $2" >&2
    elif command -v dnf >/dev/null 2>&1; then
        echo "  install it with: sudo dnf install -y $3" >&2
    elif command -v brew >/dev/null 2>&1 || [ "$(uname)" = Darwin ]; then
        echo "  install it with: $4" >&2
    else
        echo "  install one of: apt-get install $2 | dnf install $3 | $4" >&2
    fi
}

if ! command -v "$python" >/dev/null 2>&1; then
    complain "Python 3.11 or newer ('$python' is not on the PATH)" python3 python3 "brew install python"
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    complain "Python 3.11 or newer ('$python' is $("$python" -V 2>&1))" python3.11 python3.11 "brew install python"
    echo "  if you have one under another name: make PYTHON=python3.11" >&2
    exit 1
fi

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    complain "Python's venv module" "python$version-venv" "python$version" "brew install python@$version"
fi
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
if [ ! -f "$include/Python.h" ]; then
    complain "Python's headers ($include/Python.h)" "python$version-dev" "python$version-devel" "brew install python@$version"
fi
# Ask Python itself which compiler it calls: the first word of CC, unless the environment names another.
compiler=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}
compiler=${compiler%% *}
if ! command -v "$compiler" >/dev/null 2>&1; then
    complain "a C compiler ('$compiler')" build-essential gcc "xcode-select --install"
fi
exit $missing
