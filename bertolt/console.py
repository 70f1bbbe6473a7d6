"""Messages for people. They go to standard error, so that standard output holds results alone."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Write one message and a line end."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
