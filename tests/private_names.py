"""PyTorch without one of the names that it does not promise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from bertolt.base.torch_private import SHORTCUTS

NAMES = sorted({name for each in SHORTCUTS for name in each.names})


@contextlib.contextmanager
def without(name: str) -> Iterator[str]:
    """Inside, PyTorch does not have this name; gives what the user is told of that."""

    def missing() -> None:
        raise AttributeError(f"no {name}")

    def forget() -> None:
        for shortcut in SHORTCUTS:
            for answer in ("on", "why_not"):
                vars(shortcut).pop(answer, None)

    with pytest.MonkeyPatch.context() as patch:
        for shortcut in SHORTCUTS:
            if name in shortcut.names:
                patch.setitem(shortcut.names, name, missing)  # type: ignore[arg-type]
        forget()
        yield f"(no {name})"
    forget()
