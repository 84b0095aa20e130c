"""Types of command line arguments; argparse shows their messages."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Returns a whole number, 1 or more."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """Returns a whole number, 0 or more."""
    return _whole(text, 0)


def seconds(text: str) -> float:
    """Returns a finite number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; write for example 10")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return value
