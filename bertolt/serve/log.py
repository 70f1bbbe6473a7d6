"""A line for each request, as JSON; never a text, a key or a header of a client."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Log = Callable[..., None]
"""Writes an event and its values."""

_lock = threading.Lock()


def log_to_stderr(event: str, **values: Any) -> None:
    """Write one line to standard error."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, **values}, ensure_ascii=True)
    with _lock:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def log_nothing(event: str, **values: Any) -> None:
    """Write nothing."""
