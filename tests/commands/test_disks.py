"""Commands on disks that are full, or may only be read: told at once, nothing half written."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.disks import file_system, make_read_only
from tests.running import Said

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
Bertolt = Callable[..., Said]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One of 700 KB, with an old file of answers and a page."""
    with file_system(tmp_path / "disk", kilobytes=700) as folder:
        (folder / "old.jsonl").write_text("old", encoding="utf-8")
        yield folder


@pytest.fixture
def text(tmp_path: Path, reviews: list[tuple[str, str]]) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(text for text, _ in reviews) * 50, encoding="utf-8")
    return path


def fill(disk: Path, room: int = 0) -> Path:
    """Somebody else's file takes what is free, but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        file.write(bytes(shutil.disk_usage(disk).free - room))
    return ballast


COMMANDS = {
    "predict": ["predict", "{tuned}", "{rows}", "--out", "{disk}/old.jsonl", "--overwrite"],
    "predict Excel": ["predict", "{tuned}", "{rows}", "--out", "{disk}/new.xlsx"],
    "predict Parquet": ["predict", "{tuned}", "{rows}", "--out", "{disk}/new.parquet"],
    "inspect": ["inspect", "{tuned}", "--text", "good", "--html", "{disk}/page.html"],
    "tokenizer": ["tokenizer", "{text}", "--vocab-size", "200", "--out", "{disk}/new"],
    "prepare": ["prepare", "{text}", "--tokenizer", "{tuned}", "--out", "{disk}/new"],
    "report": ["report", "{disk}/run"],
    "finetune": ["finetune", "{rows}", "--model", "{tuned}", "--out", "{disk}/empty"],
}


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "finetune"])
@pytest.mark.parametrize("room", [0, 8192])
def test_a_disk_that_is_full(
    bertolt: Bertolt, disk: Path, tuned: Path, reviews_csv: Path, text: Path,
    command: str, room: int,
) -> None:  # fmt: skip
    """With room again the same command does its work."""
    (disk / "run").mkdir()
    shutil.copy(tuned / "run.json", disk / "run")
    ballast = fill(disk, room)
    before = contents(disk)
    places = {"tuned": tuned, "rows": reviews_csv, "text": text, "disk": disk}
    words = [word.format(**places) for word in COMMANDS[command]]
    said = bertolt(*words)
    assert said.code == 2
    assert "No space left on device" in said.err
    assert "fix: free some space" in said.err
    assert contents(disk) == before
    gc.collect()  # a package that is left open would be closed in vain, and complain
    ballast.unlink()
    assert bertolt(*words).code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_may_only_be_read(
    bertolt: Bertolt, disk: Path, tuned: Path, reviews_csv: Path, text: Path, command: str
) -> None:
    """It is told before there is anything to lose."""
    for name in ("run", "empty"):
        (disk / name).mkdir()
    shutil.copy(tuned / "run.json", disk / "run")
    make_read_only(disk)
    places = {"tuned": tuned, "rows": reviews_csv, "text": text, "disk": disk}
    said = bertolt(*[word.format(**places) for word in COMMANDS[command]])
    assert said.code == 2
    assert "Read-only file system" in said.err
    assert "step 1/" not in said.err


def contents(disk: Path) -> dict[str, int]:
    """The files below a folder, with their sizes."""
    return {
        str(path.relative_to(disk)): path.stat().st_size
        for path in disk.rglob("*")
        if path.is_file()
    }
