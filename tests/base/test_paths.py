"""What there is at a path, and what is made of links, pipes and devices."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from bertolt.base.errors import BertoltError, CheckpointError, UsageError
from bertolt.base.files import held_folder, staged_folder, write_atomically, write_text
from bertolt.base.paths import has_file, is_circle, kind_of, leads_nowhere

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")

KINDS = {
    "file": "a file",
    "folder": "a folder",
    "pipe": "a pipe",
    "device": "a device",
    "nothing": "",
    "dangling": "a link to nothing",
    "circle": "a link that leads back to itself",
    "file/below": "",
}


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A folder with one of each."""
    (tmp_path / "file").write_text("old", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "dangling").symlink_to("target")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
def test_what_there_is(around: Path, name: str) -> None:
    path, kind = around / name, KINDS[name]
    assert kind_of(path) == kind
    assert leads_nowhere(path) == (name in ("dangling", "circle"))
    assert is_circle(path) == (name == "circle")
    if name in ("file", "nothing", "file/below"):
        assert has_file(path) == (name == "file")
    else:
        with pytest.raises(CheckpointError, match=f"{name}: it is {kind}, and a file is needed"):
            has_file(path)


def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # its name has to be short
    with socket.socket(socket.AF_UNIX) as here:
        here.bind("here")
        assert kind_of(tmp_path / "here") == "a socket"
        with pytest.raises(BertoltError, match="it is a socket"):
            write_text(tmp_path / "here", "new")


def test_a_file_is_made_behind_a_link_to_nothing(around: Path) -> None:
    write_text(around / "dangling", "new")
    assert (around / "target").read_text(encoding="utf-8") == "new"
    assert (around / "dangling").is_symlink()


def test_a_link_in_a_circle_stays(around: Path) -> None:
    with pytest.raises(BertoltError, match="it is a link that leads back to itself"):
        write_text(around / "circle", "new")
    assert is_circle(around / "circle")


def test_a_pipe_that_nobody_reads_is_refused_and_not_waited_for(around: Path) -> None:
    with pytest.raises(BertoltError, match="it is a pipe, and nobody reads it"):
        write_text(around / "pipe", "new")


def test_a_pipe_is_written_to_its_end(around: Path) -> None:
    read: list[str] = []
    reader = threading.Thread(
        target=lambda: read.append((around / "pipe").read_text(encoding="utf-8"))
    )
    reader.start()
    while True:  # until the reader has opened it
        try:
            write_text(around / "pipe", "all of it")
            break
        except BertoltError:
            continue
    reader.join()
    assert read == ["all of it"]


def test_a_pipe_without_a_name_in_any_folder_is_written_to() -> None:
    """As a shell gives one: `--out >(gzip > FILE)`."""
    end, start = os.pipe()
    write_text(Path(f"/dev/fd/{start}"), "all of it")
    os.close(start)
    with os.fdopen(end, encoding="utf-8") as read:
        assert read.read() == "all of it"


def test_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertolt.base.files.kind_of", lambda path: "a disk")
    with pytest.raises(BertoltError, match="it is a disk"):
        write_atomically(tmp_path / "sda", lambda path: pytest.fail("it was written to"))


@pytest.mark.parametrize("way", ["held", "staged"])
def test_a_folder_is_made_behind_a_link_to_nothing(around: Path, way: str) -> None:
    if way == "held":
        with held_folder(around / "dangling", fix=""):
            write_text(around / "dangling" / "file", "new")
    else:
        with staged_folder(around / "dangling", overwrite=False, ours=frozenset()) as stage:
            write_text(stage / "file", "new")
    assert (around / "target" / "file").read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("name", ["file", "pipe", "device", "circle"])
def test_what_cannot_become_a_folder(around: Path, name: str) -> None:
    with (
        pytest.raises(UsageError, match=f"there is {KINDS[name]} of this name"),
        staged_folder(around / name, overwrite=True, ours=frozenset()),
    ):
        pytest.fail("it began")
