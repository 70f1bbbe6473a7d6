"""The site builds without a warning, its links lead to pages and their parts, nothing is fetched.

It is built where mkdocs is installed, with the extra `docs`, which `make` and continuous
integration install.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS, ROOT

# Names of what is said of XML; browsers fetch nothing from them.
NAMESPACES = ("http://www.w3.org/", "https://www.w3.org/")
FETCHED = {("link", "href"), ("iframe", "src"), ("object", "data"), ("form", "action")}


class Page(HTMLParser):
    """What a page links to, what it fetches, and the names of its parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.parts: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.parts.add(value)
            if name in ("src", "srcset") or (tag, name) in FETCHED:
                self.fetched.append(value)
            if name == "style":
                self.fetched += re.findall(r"url\(['\"]?([^'\")]+)", value)
            if tag == "a" and name == "href":
                self.links.append(value)


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning of mkdocs ends it."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mkdocs = shutil.which("mkdocs", path=tools)
    if mkdocs is None:
        pytest.skip("mkdocs is not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> list[Path]:
    found = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    assert len(found) == len(list(DOCS.rglob("*.md")))
    return found


@pytest.mark.slow
def test_every_link_leads_to_a_page_and_a_part_of_it(site: Path, pages: list[Path]) -> None:
    broken = []
    for page in pages:
        for link in read(page).links:
            address = urlsplit(link)
            if address.scheme:
                continue
            path = (page.parent / unquote(address.path)).resolve() if address.path else page
            part = unquote(address.fragment)
            there = path.is_file() and path.is_relative_to(site)
            if not there or (part and path.suffix == ".html" and part not in read(path).parts):
                broken.append((page.name, link))
    assert broken == []


@pytest.mark.slow
def test_nothing_is_fetched_from_another_address(site: Path, pages: list[Path]) -> None:
    outside = [
        (page.name, address)
        for page in [*pages, site / "404.html"]
        for address in read(page).fetched
        if urlsplit(address).scheme not in ("", "data") or address.startswith("//")
    ]
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        for address in re.findall(r"url\(['\"]?([^'\")]+)|@import ['\"]([^'\"]+)", text):
            found = "".join(address)
            if found.startswith(("http", "//")) and not found.startswith(NAMESPACES):
                outside.append((sheet.name, found))
    assert outside == []


@pytest.mark.slow
def test_no_page_has_what_makes_the_theme_fetch_a_script(pages: list[Path]) -> None:
    """The theme's own script fetches one for diagrams, and one where pages are opened as files."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert 'class="mermaid"' not in text, page


@pytest.mark.slow
def test_no_drawing_and_no_block_was_left_as_text(pages: list[Path]) -> None:
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for left in ("```", "--8&lt;--", "--8<--", ":::"):
            assert left not in re.sub(r"<code.*?</code>", "", text, flags=re.S), (page, left)
