"""The command line: `qma COMMAND`. Each command is a module; this one parses and turns errors into exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from stream import __version__
from stream.cli import apply, demo, ledger, send, tail, topics, worker
from stream.core.errors import ConfigError, IncompatibleError, StreamError, UnavailableError

EXIT_OK = 0
EXIT_FAIL = 1
EXIT_INCONCLUSIVE = 2
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_INTERNAL = 70
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130

_COMMANDS = (demo, topics, apply, worker, send, tail, ledger)


class _Parser(argparse.ArgumentParser):
    """2 means inconclusive here, so a wrong command line exits 64 (EX_USAGE)."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0 pass, 1 fail, 2 inconclusive; 64 wrong usage, 69 no broker, 70 internal error, 78 something to fix in a file, a
    setting or the cluster.
    """
    parser = _Parser(prog="qma", description="The certificate authority for service reliability, on Kafka.")
    parser.add_argument("--version", action="version", version=f"qma {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in _COMMANDS:
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except StreamError as error:
        print(f"qma: {error}", file=sys.stderr)
        return _exit_code(error)


def _exit_code(error: StreamError) -> int:
    if isinstance(error, ConfigError | IncompatibleError):
        return EXIT_CONFIG
    if isinstance(error, UnavailableError):
        return EXIT_UNAVAILABLE
    return EXIT_FAIL
