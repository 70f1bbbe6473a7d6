"""The reference has every public name, once; the drawings are those that their program draws."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

import bertolt
from tests.docs.pages import DOCS


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_public_name_is_explained_once(language: str) -> None:
    pages = (DOCS / language / "api").glob("*.md")
    names = [
        name
        for page in pages
        for name in re.findall(r"^::: bertolt\.(\w+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    assert sorted(names) == sorted(set(bertolt.__all__) - {"__version__"})


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
