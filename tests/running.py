"""The command line, run in this process."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from bertolt.cli import main


class Said(NamedTuple):
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    def answers(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def run_command(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """Run `bertolt` with these words; whatever goes wrong, nothing may be told by a traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return Said(int(str(ended.value.code)), out, err)
