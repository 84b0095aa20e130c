"""How processes end. 2 is kept for "inconclusive"; the others above 63 are those of sysexits.h."""

FAIL = 1
INCONCLUSIVE = 2
USAGE = 64
"""The command line is wrong."""
UNAVAILABLE = 69
"""No broker answered: worth another try."""
CRASHED = 70
"""An error that nobody expected, or one after which only a fresh start is safe: the next one restores and goes on."""
CONFIG = 78
"""A file, a setting or the cluster has to be fixed first; another start would not help."""
INTERRUPTED = 130
READER_GONE = 141
"""Whoever read the output went away."""
