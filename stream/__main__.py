"""Runs the command line as `python -m stream`."""

import sys

from stream.cli import main

if __name__ == "__main__":
    sys.exit(main())
