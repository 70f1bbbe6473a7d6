"""Damaged files by the thousand: each is refused in words or read, fast, and in little memory."""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from bertolt import BertTokenizer
from bertolt.base.errors import BertoltError
from tests.fuzz.doors import Door, copy_for, every_door
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.table_doors import table_doors
from tests.fuzz.text_doors import text_doors

SECONDS = 10
MEGABYTES = 2000
NAMES = (
    *("table", "model", "inspection", "facts", "result"),
    *("corpus", "sealed corpus", "checkpoint", "sealed checkpoint"),
    *("excel", "zip", "class folder", "several files", "encodings", "programs", "answers"),
)
MANY = {
    **{"table": 2000, "corpus": 1500, "sealed corpus": 1000, "facts": 30, "model": 250},
    **{"inspection": 300, "sealed checkpoint": 300, "excel": 300, "zip": 500, "class folder": 500},
    **{"answers": 1000, "programs": 1000, "encodings": 1000},
}
"""Inputs of the slow run: fewer where each takes long (a page is drawn); of other doors 700."""
USUAL = 700
FEW = {"facts": 3}


class TooLong(BaseException):
    """Longer than anyone should wait to be told that a file is damaged."""


@pytest.fixture(scope="module")
def doors(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, reviews_csv: Path
) -> dict[str, Door]:
    folder, tokenizer = tmp_path_factory.mktemp("doors"), BertTokenizer.from_pretrained(tiny_folder)
    doors = every_door(folder / "kept", tiny_folder, reviews_csv)
    return doors | table_doors(folder / "tables", tokenizer) | text_doors(folder / "texts")


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged(door: Door, folder: Path, seed: int) -> str:
    """Put a copy of the door's example, with one file damaged, into `folder`; says which."""
    choose = random.Random(seed)
    name = choose.choice(door.files)
    copy_for(door, name, folder)
    path = folder / name
    if door.damage is not None:
        door.damage(choose, path)
    else:
        structured = name.endswith(".json") and choose.random() < 0.7
        mutate = mutate_json if structured else mutate_bytes
        path.write_bytes(mutate(choose, path.read_bytes()))
    if door.mend is not None:
        with contextlib.suppress(ValueError):
            door.mend(folder)
    return name


def fault(door: Door, folder: Path, seed: int) -> str:
    """What is wrong with how one damaged input is met; empty if nothing is."""
    shutil.rmtree(folder, ignore_errors=True)
    name = damaged(door, folder, seed)
    start = time.monotonic()
    try:
        with limited(SECONDS), contextlib.redirect_stderr(io.StringIO()):
            door.read(folder)
    except BertoltError:
        return ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of a backend is no Exception
        where = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in where if "/bertolt/" in frame.filename]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return f"seed {seed}, {name}: {type(error).__name__} at {at}: {str(error)[:120]}"
    seconds = time.monotonic() - start
    return f"seed {seed}, {name}: took {seconds:.0f} s" if seconds > SECONDS else ""


def faults(door: Door, folder: Path, seeds: range) -> list[str]:
    return [each for seed in seeds if (each := fault(door, folder, seed))]


class Growth:
    """How far the memory of this process grows, whatever other tests had taken before."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        self._start = self._status("VmRSS")

    def megabytes(self) -> float:
        return (self._status("VmHWM") - self._start) / 1024

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1])


@pytest.mark.parametrize("name", NAMES)
def test_undamaged_it_is_read(doors: dict[str, Door], tmp_path: Path, name: str) -> None:
    """Or every refusal below would show nothing."""
    door = doors[name]
    for number, file in enumerate(door.files):
        folder = tmp_path / str(number)
        copy_for(door, file, folder)
        if door.mend is not None:
            door.mend(folder)
        door.read(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_damaged_files(doors: dict[str, Door], tmp_path: Path, name: str) -> None:
    assert faults(doors[name], tmp_path / "damaged", range(FEW.get(name, 40))) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_by_the_thousand(doors: dict[str, Door], tmp_path: Path, name: str) -> None:
    count, growth = MANY.get(name, USUAL), Growth()
    assert faults(doors[name], tmp_path / "damaged", range(1000, 1000 + count)) == []
    assert growth.megabytes() < MEGABYTES


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_growth_is_seen() -> None:
    growth = Growth()
    assert growth.megabytes() < 20
    with mmap.mmap(-1, 100 << 20) as block:  # of the system, and none that was freed before
        for place in range(0, len(block), mmap.PAGESIZE):
            block[place] = 1
        assert 90 < growth.megabytes() < 200


def test_the_slow_run_has_ten_thousand_inputs() -> None:
    assert sum(MANY.get(name, USUAL) for name in NAMES) >= 10_000


def test_the_fuzzer_finds_what_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "example"
    folder.mkdir()
    (folder / "a.json").write_text('{"a": 1}')
    bare = Door(folder, ("a.json",), lambda path: json.loads((path / "a.json").read_text())["a"])
    assert len(faults(bare, tmp_path / "damaged", range(30))) > 5
    endless = Door(folder, ("a.json",), lambda path: time.sleep(60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.fuzz.test_fuzz.SECONDS", 1)
        assert "TooLong" in fault(endless, tmp_path / "damaged", 0)
