"""The command line: `qma COMMAND`. Each command is a module; this one parses and turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from stream import __version__
from stream.cli import (
    apply,
    backfill,
    decode,
    demo,
    doctor,
    explain,
    ledger,
    notify,
    plan,
    replay,
    send,
    slo,
    status,
    tail,
    topics,
    validate,
    worker,
)
from stream.config import exit_codes
from stream.core.errors import ConfigError, IncompatibleError, StreamError, UnavailableError
from stream.kafka.clients import KafkaError

_COMMANDS = (
    demo,
    plan,
    validate,
    slo,
    topics,
    apply,
    worker,
    send,
    status,
    tail,
    ledger,
    backfill,
    explain,
    replay,
    notify,
    decode,
    doctor,
)

_EPILOG = """\
without a Kafka:
  qma demo
  qma decode --signal traces FILE...   see what is in your own messages
  qma plan --target 99.9 --events-per-hour 36000   see what an objective means before you promise it
  qma validate FILE...                 see what your SLO files say, and what is wrong with them
  qma slo import sloth FILE            make OpenSLO of what Sloth reads

on your Kafka (or with QMA_BROKER=local on one that qma starts and keeps):
  export QMA_BROKER=HOST:PORT
  qma doctor                see what arrives on it, and what to change
  qma topics apply          create the pipeline's topics
  qma apply FILE...         say what good service means, in OpenSLO
  qma worker                run until Ctrl-C; telemetry goes to otlp_spans or telemetry.events
  qma status                see where every objective stands
  qma tail certificate      see what it decides
  qma explain ID            see where a published number comes from; --recount counts again
  qma ledger --wait 10      see that every item is accounted for
  qma notify --alertmanager URL   hand alerts to Alertmanager
  qma backfill              count what the topics still hold from before an objective was known
  qma replay                fold the log again and compare with everything that was published

exit codes:
  0 pass, 1 fail, 2 not known yet, 64 wrong usage, 69 no broker answers, 70 internal error,
  78 something to fix in a file, a setting or the cluster; the message says what
"""


class _Parser(argparse.ArgumentParser):
    """2 means inconclusive here, so a wrong command line exits 64 (EX_USAGE)."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(exit_codes.USAGE, f"{self.prog}: {message}; `{self.prog} --help` explains\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0 pass, 1 fail, 2 inconclusive; 64 wrong usage, 69 no broker, 70 internal error, 78 something to fix in a file, a
    setting or the cluster.
    """
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # `qma tail sli | head`: nobody reads on. Without this, Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.READER_GONE
    except StreamError as error:
        print(f"qma: {error}", file=sys.stderr)
        return _exit_code(error)
    except KafkaError as error:
        print(f"qma: Kafka refused or did not answer: {error!r}; look at the brokers, then try again", file=sys.stderr)
        return exit_codes.UNAVAILABLE
    except Exception:
        traceback.print_exc()
        print("qma: an error nobody expected, please report it with the lines above", file=sys.stderr)
        return exit_codes.CRASHED


def _parser() -> _Parser:
    parser = _Parser(
        prog="qma",
        description="Reads OpenTelemetry from Kafka; says which version of which service keeps its objectives.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qma {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _exit_code(error: StreamError) -> int:
    if isinstance(error, ConfigError | IncompatibleError):
        return exit_codes.CONFIG
    if isinstance(error, UnavailableError):
        return exit_codes.UNAVAILABLE
    return exit_codes.FAIL
