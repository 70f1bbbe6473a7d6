"""A line for each request, as JSON; never a text, a key or a header of a client."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Log = Callable[..., None]
"""Writes an event and its values."""

_lock = threading.Lock()
_lost = 0  # lines, since the last one that was written


def log_to_stderr(event: str, **values: Any) -> None:
    """Write one line to standard error. Where that is not possible, as on a full disk or into a
    pipe that nobody reads, answers go on, and the next line that is written has how many are lost.
    """
    global _lost
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with _lock:
        lost = {"lines_lost": _lost} if _lost else {}
        line = json.dumps({"time": now, "event": event, **values, **lost}, ensure_ascii=True)
        try:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # of a closed file it is a ValueError
            _lost += 1
        else:
            _lost = 0


def log_nothing(event: str, **values: Any) -> None:
    """Write nothing."""


def in_log(error: BaseException) -> dict[str, str]:
    """What a log has of an error: the type and the place of what caused it, without what it says,
    for that may have a text of a request in it."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return {"error": type(error).__name__, "where": where}
