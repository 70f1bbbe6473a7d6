"""The pages show what happens: their commands and programs run here as they are written.

The files that a page names hold a slice of the dataset that it speaks of, and those that it makes
with `head` have fewer lines, so runs take seconds and scores differ. What a page prints is compared
with what is printed here, but for numbers, names of labels, and what `…` stands for.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
NOT_RUN = ("make ", "pip install ")  # they install; what they name is checked to be there
ROWS = 40  # in each file: 32 to train on, a step an epoch
TIMEOUT = 300  # seconds, for a machine that is very busy


class Page(NamedTuple):
    """What a page's `reviews.csv` and `later.csv` are made of."""

    dataset: str
    columns: dict[str, str]  # in the page's files, and in the dataset
    labels: dict[str, str]  # in the dataset, and in the page's files


PAGES = {
    "README.md": Page(
        "movie-sentences",
        {"no": "id", "opinion": "text", "verdict": "label"},
        {"positive": "positive", "negative": "negative"},
    ),
    "README.zh.md": Page(
        "zh-reviews",
        {"评论": "text", "类别": "label"},
        {"positive": "好评", "negative": "差评"},
    ),
}
each_page = pytest.mark.parametrize("name", PAGES)


@dataclass
class Command:
    """A command and the lines that the page prints under it."""

    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        return not self.text.startswith(NOT_RUN)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, *languages: str) -> Iterator[list[str]]:
    """The lines of a page's fenced blocks in these languages."""
    for language, body in re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", page(name)):
        if language in languages:
            yield body.splitlines()


def commands(name: str) -> list[Command]:
    found = [Command(line) for lines in blocks(name, "bash") for line in lines]
    for lines in blocks(name, "console"):
        for line in lines:
            if line.startswith("$ "):
                found.append(Command(line[2:]))
            else:
                found[-1].shown.append(line)
    return found


def pattern(line: str) -> str:
    """A line as a regular expression for others of its kind; `…` stands for anything."""
    return ".*".join(re.escape(part) for part in plain(line).split("…"))


def plain(line: str) -> str:
    """A line without what differs from run to run: numbers, labels, formats, widths of columns.

    A score with its interval counts as one number, and so do one that cannot be computed, and
    minutes with seconds; which labels or spans a model gives, however many, is left out.
    """
    line = re.sub(r'"(labels|spans)": \[.*?\]', r'"\1": []', line)
    labels = "|".join(name for entry in PAGES.values() for name in entry.labels.values())
    line = re.sub(rf"\b({labels}|first|second|[BI]-[A-Z]{{3}}|O|bf16|fp32)\b", "@", line)
    line = " ".join(re.sub(r"\d[\d,.]*(e-?\d+)?", "#", line).split())
    line = re.sub(r"# min # s\b", "# s", line)
    return re.sub(r"# \(#-#\)|\bn/a\b", "#", line)


def require_shown(shown: list[str], printed: str, what: str) -> None:
    lines = [plain(line) for line in printed.splitlines()]
    for line in shown:
        fits = any(re.fullmatch(pattern(line), other) for other in lines)
        assert fits, f"{what} does not print {line!r} but:\n{printed}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """Runs a command line of the shell, in this environment and without a hub."""
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "PYTHONUTF8": "1",
    }

    def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command] if isinstance(command, str) else command,
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=False,
        )

    return run


def write_slices(entry: Page, folder: Path) -> None:
    """`reviews.csv` and `later.csv` with a slice each, evenly from the whole of the dataset."""
    with fetched(entry.dataset).open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    rows = rows[:: len(rows) // (2 * ROWS)]
    for place, name in enumerate(("reviews.csv", "later.csv")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(entry.columns)
            for row in rows[place::2][:ROWS]:
                row["label"] = entry.labels[row["label"]]
                writer.writerow(row[column] for column in entry.columns.values())


def write_pairs(folder: Path) -> None:
    """`pairs.csv`: two tweets a row, and which of them people rated higher."""
    with fetched("rated-texts").open(encoding="utf-8") as source:
        tweets = [row for line in source if (row := json.loads(line))["source"] == "tweet"]
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text_a", "text_b", "higher"])
        for one, other in list(zip(tweets[::2], tweets[1::2], strict=True))[:ROWS]:
            higher = "first" if one["rating"] > other["rating"] else "second"
            writer.writerow([one["text"], other["text"], higher])


def shortened(command: str) -> str:
    """A command that makes smaller files than it does on the page."""
    return re.sub(r"\bhead -\d{4}\b", f"head -{ROWS}", command)


def fetched(dataset_name: str) -> Path:
    from bertolt.base.errors import DataError
    from bertolt.data import sample_data

    try:
        return sample_data.fetch(dataset_name)
    except DataError as error:
        pytest.skip(f"{dataset_name}: {error.problem}")


@pytest.fixture(scope="module")
def demo(run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with what `make demo` leaves behind, and what it prints, from a slice."""
    folder = tmp_path_factory.mktemp("demo")
    columns = {"text": "text", "label": "label"}
    write_slices(PAGES["README.md"]._replace(columns=columns), folder)
    done = run("bertolt finetune reviews.csv --lr 1e-4 --out demo-out", folder)
    assert done.returncode == 0, done.stderr
    return folder / "demo-out", done.stderr


@pytest.fixture
def workplace(name: str, demo: tuple[Path, str], tmp_path: Path) -> Path:
    """A folder with the files that a page names."""
    write_slices(PAGES[name], tmp_path)
    write_pairs(tmp_path)
    fetched("people-daily-names")
    (tmp_path / "demo-out").symlink_to(demo[0])
    return tmp_path


@pytest.mark.slow
@each_page
def test_commands_do_what_the_page_shows(name: str, workplace: Path, run) -> None:
    for command in filter(lambda command: command.runs, commands(name)):
        done = run(shortened(command.text), workplace)
        fails = any(line.startswith("bertolt: error:") for line in command.shown)
        printed = done.stdout + done.stderr
        assert done.returncode == (2 if fails else 0), f"{command.text}:\n{printed}"
        require_shown(command.shown, printed, command.text)
    listed = set(re.findall(r"`([\w.]+\.(?:json|safetensors|txt|html))`", page(name)))
    left = {path.name for path in (workplace / "my-model").iterdir()}
    assert left == listed - {"constraints.txt"}


@pytest.mark.slow
@each_page
def test_programs_run_from_top_to_bottom(name: str, workplace: Path, run) -> None:
    program = workplace / "program.py"
    program.write_text("\n".join(chain(*blocks(name, "python"))), encoding="utf-8")
    done = run([sys.executable, program.name], workplace)
    assert done.returncode == 0, done.stderr
    shown = list(chain(*blocks(name, "text")))
    assert shown
    require_shown(shown, done.stdout, "the program")


@pytest.mark.slow
@each_page
def test_the_demo_prints_what_the_page_shows(name: str, demo: tuple[Path, str]) -> None:
    (command,) = (c for c in commands(name) if c.text == "make demo" and c.shown)
    require_shown(command.shown, demo[1], "the demo")


@each_page
def test_what_installs_is_there(name: str) -> None:
    found = {command.text for command in commands(name) if not command.runs}
    assert found == {"make demo", "make test", "pip install -e '.[demo]'"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for target in ("demo", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "demo" in project["optional-dependencies"]
    assert (ROOT / "constraints.txt").is_file()
    oldest, beyond = re.findall(r"3\.(\d+)", project["requires-python"])
    assert re.search(rf"Python 3\.{oldest} (to|到) 3\.{int(beyond) - 1}", page(name))


@pytest.fixture(scope="module")
def help_texts(run, tmp_path_factory: pytest.TempPathFactory) -> str:
    names = (
        "finetune",
        "evaluate",
        "predict",
        "inspect",
        "demo",
        "tokenizer",
        "prepare",
        "pretrain",
        "plan",
        "migrate",
    )
    command = " && ".join([*(f"bertolt {name} --help" for name in names), "torchrun --help"])
    return run(command, tmp_path_factory.mktemp("help")).stdout


@each_page
def test_options_and_links_exist(name: str, help_texts: str) -> None:
    options = set(re.findall(r"(?<=[` ])--[a-z][a-z-]+", page(name))) - {"--help"}
    assert len(options) >= 8
    assert [option for option in options if not re.search(rf"{option}\b", help_texts)] == []
    links = re.findall(r"\]\(([^)]+)\)", page(name))
    assert "LICENSE" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_both_pages_have_the_same_parts() -> None:
    counts = [
        [page(name).count(mark) for mark in ("\n## ", "\n- ", "\n| ", "<!-- measured -->")]
        for name in PAGES
    ]
    english, chinese = counts
    assert chinese == [english[0] + 1, *english[1:]]  # one more: about the Chinese dataset
