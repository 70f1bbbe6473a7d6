"""Pages as programs: their fenced blocks, what these print, and whether the page shows that.

- `console`: commands, each behind `$ `, and under it lines that the command prints.
- `python`: code; the blocks of a page share their names. What it prints stands in the block below:
  `text`, or `numbers-differ`, or `not-checked` for what differs from machine to machine.
- any kind with a title, as `csv title="few.csv"`: a file of this name.

`…` stands for any part of a line. What runs is what the page shows, but for these, so that it takes
seconds:

- files that pages name and do not make hold a slice of the dataset that they speak of
  (`write_files`), and so does the one that `make demo` reads;
- commands that make smaller files, or take fewer steps, than on the page (`shortened`);
- commands that install (`NOT_RUN`); of `make demo` what it does then is run (`recipe`).

So lines of commands, and of `numbers-differ`, are compared without numbers, names of labels, and
widths of columns (`plain`). Nothing else is put into what is run or printed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bertolt.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROWS = 40  # in each file: 32 to train on, a step an epoch
TIMEOUT = 300  # seconds, for a machine that is very busy
NOT_RUN = ("make ", "pip install ")  # they install; what they name is checked to be there
SHELL = re.compile(r"[|$<>&*]")  # what needs one, and not the command line of this process

OWN_COLUMNS = {name: name for name in ("id", "text", "label")}  # of the movie sentences
# In the files that the pages name, and in the datasets.
COLUMNS = {"no": "id", "opinion": "text", "verdict": "label"}
CHINESE_COLUMNS = {"评论": "text", "类别": "label"}
LABELS = {"positive": "好评", "negative": "差评"}


@dataclass
class Block:
    """A fenced block: its first line, without the fence, its text, and where that starts."""

    kind: str
    text: str
    line: int


@dataclass
class Command:
    """A command and the lines that the page prints under it."""

    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code that the page shows: an error, differences, or neither."""
        if any(line.startswith("bertolt: error:") for line in self.shown):
            return 2
        found = any("worth a look" in line for line in self.shown)
        return int(self.text.startswith("bertolt migrate") or found)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in re.finditer(r"(?ms)^```([^\n]*)\n(.*?)^```$", text)
    ]


def commands(block: Block) -> list[Command]:
    """The commands of a `bash` or a `console` block."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if block.kind == "bash" or line.startswith("$ "):
            found.append(Command(line.removeprefix("$ ")))
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
    labels = "|".join([*LABELS, *LABELS.values(), "first", "second"])
    line = re.sub(rf"\b({labels}|[BI]-[A-Z]{{3}}|O|bf16|fp32)\b", "@", line)
    line = " ".join(re.sub(r"\d+([.,]\d+)*(e[-+]?\d+)?", "#", line).split())
    line = re.sub(r"# min # s\b", "# s", line)
    return re.sub(r"# \(#-#\)|\bn/a\b", "#", line)


def require_shown(shown: list[str], printed: str, what: str) -> None:
    lines = [plain(line) for line in printed.splitlines()]
    for line in shown:
        fits = any(re.fullmatch(pattern(line), other) for other in lines)
        assert fits, f"{what} does not print {line!r} but:\n{printed}"


def shortened(command: str) -> str:
    """A command that makes smaller files, and takes fewer steps, than it does on the page."""
    return re.sub(r"\bhead -\d{4}\b", f"head -{ROWS}", command).replace("--steps 200", "--steps 20")


def recipe(target: str) -> str:
    """The command line that `make` runs last for a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:.*\n((?:\t.+\n)+)", makefile, re.M)
    assert found is not None, target
    return found[1].splitlines()[-1].strip().removeprefix("$(BIN)/")


def run_command(command: str, folder: Path) -> tuple[int, str]:
    """The exit code of a command line and what it printed: without a shell if it needs none."""
    if command.startswith("bertolt ") and not SHELL.search(re.sub(r'"[^"$]*"', "", command)):
        printed = io.StringIO()
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            pytest.raises(SystemExit) as ended,
        ):
            main(shlex.split(command)[1:])
        return int(str(ended.value.code)), printed.getvalue()
    tools = Path(sys.executable).parent
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "HF_HOME": str(folder / "hf"), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def perform_commands(block: Block, folder: Path, where: str) -> None:
    for command in commands(block):
        if command.text.startswith(NOT_RUN):
            continue
        code, printed = run_command(shortened(command.text), folder)
        assert code == command.code, f"{where}: {command.text}:\n{printed}"
        require_shown(command.shown, printed, f"{where}: {command.text}")


def require_printed(printed: str, following: Block | None, where: str) -> None:
    """Compare what code printed with the block below it; without one it prints nothing."""
    kind = following.kind if following else ""
    shown = following.text.splitlines() if following else []
    if kind == "numbers-differ":
        require_shown(shown, printed, where)
    elif kind == "not-checked":
        assert len(printed.splitlines()) == len(shown), f"{where} prints:\n{printed}"
    elif kind == "text":
        expected = ".*".join(re.escape(part) for part in following.text.split("…"))
        assert re.fullmatch(expected, printed), f"{where} prints:\n{printed}"
    else:
        assert printed == "", f"{where} prints, and the page does not show it:\n{printed}"


def perform(page: Path, folder: Path) -> None:
    """Run a page from top to bottom in this folder, the current one, and compare what it shows."""
    names: dict[str, Any] = {"__name__": "page"}
    for block, following in itertools.pairwise([*blocks(page), None]):
        assert block is not None
        where = f"{page.name}, line {block.line}"
        if title := re.search(r' title="([^"]+)"', block.kind):
            (folder / title[1]).write_text(block.text, encoding="utf-8")
        elif block.kind == "console":
            perform_commands(block, folder, where)
        elif block.kind == "python":
            # Empty lines before it, so that a traceback names the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(code, names)
            require_printed(output.getvalue(), following, where)
        else:
            assert block.kind in ("bash", "text", "numbers-differ", "not-checked"), where


def fetched(dataset_name: str) -> Path:
    from bertolt.base.errors import DataError
    from bertolt.data import sample_data

    try:
        return sample_data.fetch(dataset_name)
    except DataError as error:
        pytest.skip(f"{dataset_name}: {error.problem}")


def write_slices(
    dataset: str, names: list[str], columns: dict[str, str], labels: dict[str, str], folder: Path
) -> None:
    """Files with a slice each of a dataset, evenly from the whole of it."""
    with fetched(dataset).open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    rows = rows[:: len(rows) // (len(names) * ROWS)]
    for place, name in enumerate(names):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in rows[place :: len(names)][:ROWS]:
                row["label"] = labels.get(row["label"], row["label"])
                writer.writerow(row[column] for column in columns.values())


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


def write_files(folder: Path) -> None:
    """Every file that the pages name and do not make themselves."""
    write_slices("movie-sentences", ["reviews.csv", "later.csv"], COLUMNS, {}, folder)
    write_slices(
        "zh-reviews", ["comments.csv", "comments-later.csv"], CHINESE_COLUMNS, LABELS, folder
    )
    write_pairs(folder)
    fetched("people-daily-names")


@contextlib.contextmanager
def nothing_changed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Blocks run in this folder; generators and caches are afterwards as before."""
    import datasets
    import torch

    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    with torch.random.fork_rng(devices=[]):
        yield
