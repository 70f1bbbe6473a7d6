"""README and docs/ show what happens: their commands and programs run here as they are written.

The pages of both languages have the same blocks, so the English ones run, and the Chinese ones are
compared with them. The notes run in `test_notes.py`.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertolt.checkpoint.demo import SENTENCES
from bertolt.data import sample_data
from tests.docs.pages import (
    DOCS,
    OWN_COLUMNS,
    ROOT,
    blocks,
    commands,
    nothing_changed,
    perform,
    recipe,
    require_shown,
    run_command,
    write_files,
    write_slices,
)

ENGLISH = sorted((DOCS / "en").rglob("*.md"))
README = ROOT / "README.md"
PAGES = [README, *(page for page in ENGLISH if page.parent.name != "notes")]
READMES = (README, ROOT / "README.zh.md")
MISTYPED = {"--fromat", "--learning-rate"}  # options that a page says are none
OTHERS = {"--data-binary"}  # options of other programs
EVERY = [*READMES, *sorted(DOCS.rglob("*.md"))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def in_chinese(page: Path) -> Path:
    return READMES[1] if page == README else DOCS / "zh" / page.relative_to(DOCS / "en")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name."""
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def demo(files: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `make demo` prints; its model lies beside the files."""
    slice_of_it = tmp_path_factory.mktemp("sample") / f"{SENTENCES}.csv"
    write_slices(SENTENCES, [slice_of_it.name], OWN_COLUMNS, {}, slice_of_it.parent)
    with pytest.MonkeyPatch.context() as patch, nothing_changed(patch, files):
        patch.setattr(sample_data, "fetch", lambda name, progress: slice_of_it)
        code, printed = run_command(recipe("demo"), files)
    assert code == 0, printed
    return printed


@pytest.fixture(scope="module")
def models(files: Path, demo: str) -> Path:
    """A folder with the models that pages speak of and other pages train, from slices."""
    with pytest.MonkeyPatch.context() as patch, nothing_changed(patch, files):
        command = "bertolt finetune reviews.csv --text opinion --label verdict --out my-model"
        code, printed = run_command(command, files)
    assert code == 0, printed
    return files


@pytest.fixture
def workplace(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which a page runs, with what it names and does not make itself."""
    for path in models.glob("*"):
        (tmp_path / path.name).symlink_to(path)
    with nothing_changed(monkeypatch, tmp_path):
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.kind in ("console", "python") for b in blocks(page))],
    ids=name,
)
def test_a_page_does_what_it_shows(page: Path, workplace: Path) -> None:
    for block in blocks(page):
        for command in commands(block) if block.kind == "console" else ():
            out = re.search(r" --out ([\w.-]+)", command.text)
            if out and command.code == 0:
                (workplace / out[1]).unlink(missing_ok=True)
    perform(page, workplace)


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, DOCS / "en/start.md"], ids=name)
def test_the_demo_prints_what_the_page_shows(page: Path, demo: str) -> None:
    said = [
        command.shown
        for block in blocks(page)
        if block.kind == "console"
        for command in commands(block)
        if command.text == "make demo"
    ]
    assert len(said) == 1
    require_shown(said[0], demo, "the demo")


@pytest.mark.slow
def test_the_files_that_a_page_lists_are_those_of_a_model(models: Path) -> None:
    text = (DOCS / "en/report.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    listed = set(re.findall(r"`([\w.]+\.(?:json|parquet|safetensors|txt|html|yaml))`", rows))
    assert {path.name for path in (models / "my-model").iterdir()} == listed


@pytest.mark.parametrize("page", [README, *ENGLISH], ids=name)
def test_both_languages_have_the_same_blocks(page: Path) -> None:
    def parts(page: Path) -> list[tuple[str, str]]:
        return [
            (block.kind, ast.dump(ast.parse(block.text)) if block.kind == "python" else block.text)
            for block in blocks(page)
        ]

    assert parts(in_chinese(page)) == parts(page)


def test_every_page_is_in_both_languages() -> None:
    chinese = sorted((DOCS / "zh").rglob("*.md"))
    assert chinese == [in_chinese(page) for page in ENGLISH]


def with_other_files(text: str) -> str:
    """A page with the files of the repository that it shows whole."""

    def content(shown: re.Match[str]) -> str:
        there = [root / shown[1] for root in (DOCS, DOCS.parent)]  # as `mkdocs.yml` has them
        return next(path for path in there if path.is_file()).read_text(encoding="utf-8")

    return re.sub(r'^--8<-- "(.+)"$', content, text, flags=re.M)


@pytest.mark.parametrize("page", [README, *ENGLISH], ids=name)
def test_both_languages_have_the_same_parts(page: Path) -> None:
    def counts(page: Path) -> list[int]:
        text = with_other_files(page.read_text(encoding="utf-8"))
        return [len(re.findall(mark, text, re.M)) for mark in (r"^## ", r"^- ", r"^\| ", r"^::: ")]

    assert counts(in_chinese(page)) == counts(page)


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith("https://")]
    assert [link for link in inside if not (page.parent / link).exists()] == []


@pytest.fixture(scope="module")
def help_texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    names = [
        "finetune",
        "evaluate",
        "check",
        "predict",
        "inspect",
        "bench",
        "export",
        "demo",
        "tokenizer",
        "prepare",
        "pretrain",
        "plan",
        "migrate",
        "search",
        "serve",
    ]
    folder = tmp_path_factory.mktemp("help")
    said = [run_command(f"bertolt {command} --help", folder) for command in names]
    assert not any(code for code, _ in said)
    return "\n".join(text for _, text in [*said, run_command("torchrun --help", folder)])


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_options_exist(page: Path, help_texts: str) -> None:
    text = page.read_text(encoding="utf-8")
    options = set(re.findall(r"(?<=[` ])--[a-z][a-z0-9-]+", text)) - {"--help"} - MISTYPED - OTHERS
    assert [option for option in options if not re.search(rf"{option}\b", help_texts)] == []


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_what_installs_is_there(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for block in blocks(page):
        for command in commands(block) if block.kind in ("bash", "console") else ():
            if command.text.startswith("make "):
                assert re.search(rf"^{command.text.split()[1]}:", makefile, re.M), command.text
            if command.text.startswith("pip install "):
                extra = re.search(r"\[(\w+)\]", command.text)
                assert extra is not None, command.text
                assert extra[1] in project["optional-dependencies"], command.text


def test_the_pages_name_the_versions_of_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest, beyond = re.findall(r"3\.(\d+)", project["requires-python"])
    for page in (*READMES, DOCS / "en/start.md", DOCS / "zh/start.md"):
        text = page.read_text(encoding="utf-8")
        assert re.search(rf"Python 3\.{oldest} (to|到) 3\.{int(beyond) - 1}", text), page
