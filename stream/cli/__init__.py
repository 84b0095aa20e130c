"""The command line: `qma COMMAND`. Each command is a module; this one parses and turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

from stream import __version__
from stream.config import exit_codes
from stream.core.errors import ConfigError, IncompatibleError, StreamError, UnavailableError

_COMMANDS: Mapping[str, str] = {
    "demo": (
        "six services, a certificate earned, a rollout that goes wrong, a ledger that balances: in about a minute"
    ),
    "plan": (
        "say what an objective means before it is deployed: its error budget, when its alerts fire and stop, how "
        "long until a version is certified, and how fine an objective this traffic can show"
    ),
    "validate": (
        "say everything that is wrong or doubtful in OpenSLO files, and what was understood; no broker is needed"
    ),
    "slo": "turn SLOs of other tools into OpenSLO",
    "topics": "create and check the pipeline's topics",
    "apply": (
        "validate OpenSLO files and publish their objectives as the new configuration; objectives of earlier ones"
        " that are not in these files end"
    ),
    "worker": "run the pipeline until Ctrl-C or SIGTERM: ingest and state processes, supervised",
    "send": ("write each line of standard input to a topic as one message, for example a flat JSON event a line"),
    "status": (
        "show where every objective stands, the worst first: exit 0 when no page fires, 1 when one does, 2 when "
        "there is no status or nothing newer than five minutes; a pipeline that is catching up says so"
    ),
    "tail": "follow an output topic until Ctrl-C, one line an event; only what is committed is shown",
    "ledger": (
        "account for every item of every source, from the checkpoints: exit 0 when all that was sent is accounted"
        " for, 1 when the ledger does not balance, 2 when that is not known yet"
    ),
    "backfill": (
        "count what the source topics still hold from before an objective was new or edited, and book it into its"
        " windows and its budget, marked as backfilled; the tests of certificates never see it, and what was "
        "published stays. Repeated, it changes nothing. Exit 0 when it is booked, 1 when there is nothing to "
        "count, 2 when no worker has booked it yet"
    ),
    "explain": (
        "say what an event is about, which windows, log records, source offsets and configuration stand behind "
        "it, and by which rule it was decided; with --recount fold and count again what is in the log: exit 0 "
        "when the event is equal to what comes out, 1 when it differs, 2 when that cannot be told, or no such "
        "event is found"
    ),
    "replay": (
        "fold the log again from its first record and compare what comes out with every event on the output "
        "topics, byte for byte: exit 0 when they are equal, 1 when they differ, 2 when not all of it can be "
        "compared (it says which part, and why); nothing is written"
    ),
    "notify": (
        "keep an Alertmanager told of the alerts that fire, until Ctrl-C or SIGTERM; several may run at once, "
        "Alertmanager takes what they send for one"
    ),
    "decode": (
        "show what the pipeline sees in messages, one JSON object a row or a refusal; nothing is selected or stored"
    ),
    "doctor": (
        "look at the newest messages of the source topics and say what arrives, what counts as a request, what is"
        " wrong and which line changes it; nothing is written. Exit 0: nothing needs a change, 1: something does"
    ),
}
"""The modules beside this one, and what each is for. Only the one that is called is imported."""

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
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words[:1]).parse_args(words)
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
    except Exception as error:
        from stream.kafka.clients import KafkaError  # it takes longer than a command that needs no Kafka

        if isinstance(error, KafkaError):
            print(
                f"qma: Kafka refused or did not answer: {error!r}; look at the brokers, then try again", file=sys.stderr
            )
            return exit_codes.UNAVAILABLE
        traceback.print_exc()
        print("qma: an error nobody expected, please report it with the lines above", file=sys.stderr)
        return exit_codes.CRASHED


def _parser(called: Sequence[str]) -> _Parser:
    """Returns the parser of every command, with the arguments of those that are called."""
    parser = _Parser(
        prog="qma",
        description="Reads OpenTelemetry from Kafka; says which version of which service keeps its objectives.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qma {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in called:
            import_module(f"stream.cli.{name}").configure(command)
    return parser


def _exit_code(error: StreamError) -> int:
    if isinstance(error, ConfigError | IncompatibleError):
        return exit_codes.CONFIG
    if isinstance(error, UnavailableError):
        return exit_codes.UNAVAILABLE
    return exit_codes.FAIL
