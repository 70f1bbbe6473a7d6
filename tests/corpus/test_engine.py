"""The engines: the same results in the same order, few parts on their way, and how they end."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from bertolt.base.errors import BertoltError, UsageError
from bertolt.corpus import engine
from bertolt.corpus.options import PrepareOptions
from bertolt.corpus.parts import Setup, ShardJob
from bertolt.corpus.prepare import tokenize_corpus
from bertolt.tokenization import BertTokenizer
from tests.corpus.texts import bytes_below, text_of
from tests.overlapping import overlapping

HAS_RAY = importlib.util.find_spec("ray") is not None
posix = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


@pytest.fixture
def setup(tokenizer_folder: Path) -> Setup:
    content = (tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8")
    return Setup(content, 111, 1, 64, 0.1)


def parts(count: int, setup: Setup, taken: list[int], repeat: int = 1) -> Iterator[ShardJob]:
    for number in range(count):
        taken.append(number)
        texts = text_of(3, seed=number).split("\n\n") * repeat
        yield ShardJob.of(number, texts, [0] * len(texts), setup.key(), number)


def results(run: engine.Engine, count: int, setup: Setup, workers: int) -> list[tuple[int, bytes]]:
    found = []
    taken: list[int] = []
    for result in run(parts(count, setup, taken), setup, workers):
        found.append((result.number, result.data))
        assert len(taken) - len(found) <= workers + 1
    return found


def test_processes_give_the_same_in_the_same_order(setup: Setup) -> None:
    here = results(engine.here, 12, setup, 1)
    assert [number for number, _ in here] == list(range(12))
    assert results(engine.in_processes, 12, setup, 2) == here


@pytest.mark.parametrize("before", [None, "true"])
def test_threads_that_tokenize_at_once_leave_the_variable(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(engine._THREADS, before or "")
    if before is None:
        monkeypatch.delenv(engine._THREADS)
    seen: list[str | None] = []
    with overlapping(engine._one_thread, engine._one_thread) as inside_second:
        inside_second(lambda: seen.append(os.environ.get(engine._THREADS)))
    assert seen == ["false"]
    assert os.environ.get(engine._THREADS) == before


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
def test_ray_gives_the_same_in_the_same_order(setup: Setup) -> None:
    here = results(engine.here, 12, setup, 1)
    assert results(engine.on_ray, 12, setup, 2) == here


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
def test_ray_writes_the_same_bytes(
    corpus: Path, options: Callable[..., PrepareOptions], tmp_path: Path
) -> None:
    for name in ("process", "ray"):
        tokenize_corpus([corpus], options(out=tmp_path / name, engine=name, workers=2))
    assert bytes_below(tmp_path / "ray") == bytes_below(tmp_path / "process")


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_it_says_what_to_install(
    corpus: Path, options: Callable[..., PrepareOptions], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"Ray is not installed.*\n.*pip install 'bertolt\[ray\]'"):
        tokenize_corpus([corpus], options(engine="ray"))
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def children() -> set[int]:
    """The processes that this one has started and that are there still."""
    return {process.pid or 0 for process in multiprocessing.active_children()}


def test_the_workers_end_when_nobody_wants_more(setup: Setup) -> None:
    before = children()
    run = engine.in_processes(parts(50, setup, []), setup, 2)
    next(run)
    assert len(children() - before) == 2
    start = time.monotonic()
    run.close()
    assert children() == before
    assert time.monotonic() - start < 10


@posix
@pytest.mark.parametrize("repeat", [1, 5000])  # the large ones are more than a pipe holds
def test_a_worker_that_is_killed_is_told(setup: Setup, repeat: int) -> None:
    before = children()
    run = engine.in_processes(parts(500, setup, [], repeat=repeat), setup, 2)
    next(run)
    os.kill(min(children() - before), signal.SIGKILL)
    with pytest.raises(BertoltError, match="a worker process was killed") as told:
        list(run)
    assert "what is done is kept" in told.value.fix
    assert children() == before


def test_what_goes_wrong_with_a_part_is_told_with_where(setup: Setup) -> None:
    before = children()
    wrong = ShardJob(0, b"\xff", np.zeros(1, np.int32), "", 0)
    with pytest.raises(UnicodeDecodeError) as told:
        list(engine.in_processes(iter([wrong]), setup, 2))
    assert "in tokenize_part" in told.value.__notes__[0]
    assert children() == before


@posix
def test_a_result_that_breaks_off_is_a_worker_that_was_killed(setup: Setup) -> None:
    link, end = multiprocessing.Pipe()

    def work() -> None:
        end.recv()
        os.write(end.fileno(), struct.pack("!i", 1000) + b"the beginning")
        end.close()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    idle: SimpleQueue[engine._Worker] = SimpleQueue()
    idle.put(engine._Worker(multiprocessing.Process(), link))
    (part,) = parts(1, setup, [])
    with pytest.raises(engine._LostError):
        engine._ask(idle, part, setup)
    assert idle.qsize() == 1
    worker.join()


UNGUARDED = """
from pathlib import Path
from bertolt.corpus.options import PrepareOptions
from bertolt.corpus.prepare import tokenize_corpus

tokenize_corpus({corpus!r}, PrepareOptions(tokenizer={tokenizer!r}, out=Path({out!r}), workers=2))
"""


def test_a_script_that_starts_again_in_its_workers_ends(large: Path, tmp_path: Path) -> None:
    # They die before they have read a word, and what they are sent is more than a pipe holds.
    words = " ".join(f"{n * 7919 % 100_000:05}" for n in range(5000))
    tokenizer = BertTokenizer.train([text_of(200), words, words], 8000)
    assert len(tokenizer) > 5000
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    script = tmp_path / "script.py"
    names = {"corpus": [str(large)], "tokenizer": str(tmp_path / "tokenizer")}
    script.write_text(UNGUARDED.format(out=str(tmp_path / "shards"), **names), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 1
    assert "worker process was killed" in run.stderr
    assert "__main__" in run.stderr


# ---- the command, stopped from outside ----


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that takes some seconds in small parts."""
    path = tmp_path_factory.mktemp("large") / "large.txt"
    path.write_text(text_of(3000), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(
    large: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a run in this process that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    usual = {"tokenizer": str(tokenizer_folder), "shard_size": 2000, "workers": 1}
    tokenize_corpus([large], PrepareOptions(out=out, **usual))  # type: ignore[arg-type]
    return bytes_below(out)


def begin(corpus: Path, tokenizer: Path, out: Path) -> subprocess.Popen[str]:
    words = ["prepare", corpus, "--tokenizer", tokenizer, "--out", out, "--shard-size", "2000"]
    return subprocess.Popen(
        [sys.executable, "-m", "bertolt", *map(str, words), "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_parts(out: Path, count: int) -> Path:
    folder = out.parent / f".{out.name}.preparing"
    end = time.monotonic() + 120
    while sum(1 for _ in (folder / "parts").glob("*.json")) < count:
        assert time.monotonic() < end
        time.sleep(0.01)
    return folder


def gone(group: int) -> bool:
    """Whether no process of a group is left, after some time if need be."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_command_goes_on_after_it_was_stopped(
    large: Path,
    undisturbed: dict[str, bytes],
    tokenizer_folder: Path,
    tmp_path: Path,
    how: signal.Signals,
) -> None:
    out = tmp_path / "out"
    process = begin(large, tokenizer_folder, out)
    folder = wait_for_parts(out, 7)
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to the workers too
    else:
        process.send_signal(how)
    said = process.communicate(timeout=60)[1]
    assert process.returncode in ([130] if how is signal.SIGINT else [-how, 128 + how])
    assert gone(process.pid)  # the workers too
    assert "Traceback" not in said
    assert not out.exists()
    if how is signal.SIGINT:
        assert f"kept in {folder}; the same command goes on from there" in said
        assert said.endswith("bertolt: interrupted\n")
    again = begin(large, tokenizer_folder, out)
    said = again.communicate(timeout=120)[1]
    assert again.returncode == 0, said
    assert "parts had been done by an earlier run, and were kept" in said
    assert bytes_below(out) == undisturbed
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
