"""The reference has every public name, and the drawings are as their program draws them."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import bertolt
from tests.docs.pages import DOCS


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_drawings_are_as_their_program_draws_them() -> None:
    drawn = program("drawings").drawings()
    assert {path.name for path in (DOCS / "assets").glob("*.svg")} == set(drawn)
    for name, text in drawn.items():
        assert (DOCS / "assets" / name).read_text(encoding="utf-8") == text, name
        assert "\n\n" not in text, "an empty line would end it inside a page"


def test_every_public_name_is_explained_once() -> None:
    """A new one needs `python docs/reference.py`."""
    pages = program("reference").pages()
    for name, text in pages.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, name
    names = re.findall(r"^::: bertolt\.(\w+)$", "\n".join(pages.values()), re.M)
    assert sorted(names) == sorted(2 * list(set(bertolt.__all__) - {"__version__"}))
