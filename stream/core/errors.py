"""Errors, one class per different handling.

Data that is merely refused is not an error: a refusal is a `RejectReason` in a receipt. Programmer errors are
assertions; they are never caught, so the worker crashes and replays.
"""


class StreamError(Exception):
    """Base of every error that QMA Stream raises on purpose."""


class ConfigError(StreamError):
    """The operator fixes a file, a setting or the cluster. The command exits 78."""


class DecodeError(StreamError):
    """A producer sent bytes that cannot be read. Dead-lettered and counted, never retried.

    Args:
        reason: The label under which the refusal is counted.
        detail: What was wrong and where, in plain words.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class IncompatibleError(StreamError):
    """Versions or parameters differ (record format, generation, partition count). The worker stops."""


class UnavailableError(StreamError):
    """A broker or a signer cannot be reached. Retried with backoff in the shell, or reported by a command."""
