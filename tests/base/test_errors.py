"""The exceptions: what an `except` of another library's programs catches, and their text."""

from __future__ import annotations

import pytest

from bertolt import BertoltError, CheckpointError, DataError, UsageError
from bertolt.base.errors import (
    ConfigError,
    DiskFullError,
    KeywordError,
    NoMetricError,
    NotIdsError,
    OutOfRangeError,
)


@pytest.mark.parametrize(
    ("kind", "usual"),
    [
        (UsageError, ValueError),
        (DataError, ValueError),
        (CheckpointError, OSError),
        (DiskFullError, OSError),
        (KeywordError, TypeError),
        (KeywordError, ValueError),
        (NoMetricError, KeyError),
        (OutOfRangeError, IndexError),
        (NotIdsError, TypeError),
        (ConfigError, ValueError),
        (ConfigError, OSError),
    ],
)
def test_errors_are_of_the_usual_kinds_too_and_keep_their_text(
    kind: type[BertoltError], usual: type[Exception]
) -> None:
    error = kind("it is odd", place="here", fix="even it out")
    assert isinstance(error, BertoltError)
    assert isinstance(error, usual)
    assert str(error) == "here: it is odd\n  fix: even it out"
