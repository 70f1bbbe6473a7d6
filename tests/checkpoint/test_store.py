"""Checkpoint folders: whole or not there, damage found by checksum, the newest kept."""

from __future__ import annotations

import errno
import json
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import BertoltError, CheckpointError, DiskFullError, UsageError
from bertolt.checkpoint import sharded
from bertolt.checkpoint.store import MANIFEST, Store, require_whole, step_of


def fill(folder: Path) -> None:
    (folder / "weights").write_bytes(bytes(range(256)))
    (folder / "deep").mkdir()
    (folder / "deep" / "more").write_text("more")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With the checkpoints of the steps 5, 10 and 15."""
    store = Store(tmp_path / "run")
    for step in (5, 10, 15):
        store.write(step, fill)
    return store


def test_a_checkpoint_is_there_with_all_its_files(store: Store) -> None:
    path = store.write(120, fill)
    assert path == store.folder / "checkpoint-120"
    assert names(path) == {"weights", "deep", MANIFEST}
    require_whole(path)
    assert path.stat().st_mode & 0o777 == store.folder.stat().st_mode & 0o777
    assert store.steps() == [5, 10, 15, 120], "by number, not by name"
    assert store.last() == path
    assert step_of(path) == 120


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert store.steps() == []
    assert store.last() is None
    store.clear()
    store.require_none()
    with pytest.raises(UsageError, match="no whole checkpoint"):
        store.require_last()


def test_what_fails_while_it_is_written_leaves_nothing(store: Store) -> None:
    def broken(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(20, broken)
    assert names(store.folder) == {"checkpoint-5", "checkpoint-10", "checkpoint-15"}


def raised(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("where", ["fill", "swap_folder", "sync", "json.dumps"])
def test_a_full_disk_names_the_checkpoint_to_go_on_from(
    store: Store, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    full = raised(OSError(errno.ENOSPC, "No space left on device"))
    if where != "fill":
        monkeypatch.setattr(f"bertolt.checkpoint.store.{where}", full)
    with pytest.raises(BertoltError, match="No space left on device") as caught:
        store.write(20, full if where == "fill" else fill)
    assert caught.value.exit_code == 2
    assert caught.value.place == str(store.folder / "checkpoint-20")
    assert caught.value.fix == "free some space; checkpoint-15 is there to resume from"
    assert names(store.folder) == {"checkpoint-5", "checkpoint-10", "checkpoint-15"}
    assert store.last() == store.path(15)


def test_an_error_inside_names_the_folder_that_was_to_be(store: Store) -> None:
    def broken(folder: Path) -> None:
        fix = "choose a name without a space"
        raise BertoltError("cannot be written", place=str(folder / "weights"), fix=fix)

    with pytest.raises(BertoltError) as caught:
        store.write(20, broken)
    assert caught.value.place == str(store.folder / "checkpoint-20" / "weights")
    whole = "choose a name without a space; checkpoint-15 is there to resume from"
    assert caught.value.fix == whole


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm", "words"),
    [
        ("weights", cut, "weights has 255 of 256 bytes"),
        ("weights", flip, "the content of weights is not what was written"),
        ("weights", Path.unlink, "weights: No such file or directory"),
        ("deep/more", cut, "deep/more has 3 of 4 bytes"),
        (MANIFEST, cut, ""),
        (MANIFEST, Path.unlink, "manifest.json: No such file or directory"),
        (MANIFEST, lambda path: path.write_text("[]"), "manifest.json cannot be read"),
        (MANIFEST, lambda path: path.write_bytes(b"\xff"), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_one_is_skipped_with_its_name(
    store: Store,
    capsys: pytest.CaptureFixture[str],
    file: str,
    harm: Callable[[Path], Any],
    words: str,
) -> None:
    newest = store.path(15)
    harm(newest / file)
    if file == MANIFEST and harm is cut:  # its last byte is only the end of the line
        require_whole(newest)
        return
    with pytest.raises(CheckpointError, match="the checkpoint is damaged") as caught:
        require_whole(newest)
    assert words in str(caught.value)
    assert store.last() == store.path(10)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"Skipped {newest}: the checkpoint is damaged: ")
    assert store.steps() == [5, 10, 15], "it is left for whoever wants to look at it"


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), in_manifest=st.booleans())
def test_no_flipped_bit_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, in_manifest: bool
) -> None:
    path = Store(tmp_path_factory.mktemp("flipped")).write(1, fill)
    victim = path / (MANIFEST if in_manifest else "weights")
    content = bytearray(victim.read_bytes())
    place %= len(content)
    content[place] ^= 1 << bit
    victim.write_bytes(content)
    try:
        require_whole(path)
    except CheckpointError:
        return
    # White space of the manifest may change, and nothing else.
    assert in_manifest
    assert chr(content[place]).isspace()


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "deep/0.distcp"])
def test_a_file_that_the_manifest_leaves_out_is_damage(store: Store, name: str) -> None:
    """Other weights behind such a manifest would be gone on from without a word."""
    (store.path(15) / name).write_bytes(b"other")
    with pytest.raises(CheckpointError, match=f"{name} is there, and {MANIFEST} does not name it"):
        require_whole(store.path(15))
    assert store.last() == store.path(10)


@pytest.mark.parametrize("name", ["../../outside", "/dev/zero", "deep/../../x", ""])
def test_a_manifest_that_names_files_elsewhere_is_damaged(store: Store, name: str) -> None:
    """Nothing there is opened: what a device gives has no end."""
    path = store.path(15) / MANIFEST
    content = json.loads(path.read_text())
    content["files"][name] = {"bytes": 0, "sha256": ""}
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="is not a file of this folder"):
        require_whole(store.path(15))


def test_a_note_of_the_users_is_no_damage(store: Store) -> None:
    (store.path(15) / "notes.txt").write_text("mine")
    assert store.last() == store.path(15)


def test_all_damaged(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for step in store.steps():
        cut(store.path(step) / "weights")
    assert store.last() is None
    assert capsys.readouterr().err.count("Skipped") == 3


@pytest.mark.parametrize(
    ("keep", "spare", "left"),
    [
        (None, (), [5, 10, 15, 20]),
        (1, (), [20]),
        (2, (), [15, 20]),
        (2, (5,), [5, 15, 20]),
        (1, (20,), [20]),
        (9, (), [5, 10, 15, 20]),
    ],
)
def test_only_the_newest_stay(
    store: Store, keep: int | None, spare: tuple[int, ...], left: list[int]
) -> None:
    kept = Store(store.folder, keep)
    kept.write(20, fill, spare=spare)
    assert kept.steps() == left
    assert names(kept.folder) == {f"checkpoint-{step}" for step in left}


def test_damaged_ones_from_further_on_push_none_out(store: Store) -> None:
    """Resumed at 5, since 10 and 15 were damaged: they are no copies of what comes before them."""
    kept = Store(store.folder, 2)
    kept.write(7, fill)
    assert kept.steps() == [5, 7, 10, 15]
    cut(kept.path(10) / "weights")
    kept.write(10, fill)
    require_whole(kept.path(10))
    assert kept.steps() == [7, 10, 15]


def test_what_a_killed_run_left_goes_with_the_next_write(store: Store) -> None:
    for name in (".checkpoint-20.abcd1234.part", ".checkpoint-5.abcd1234.old", ".checkpoint-x"):
        (store.folder / name).mkdir()
    (store.folder / "notes.txt").write_text("mine")
    assert store.steps() == [5, 10, 15]
    store.write(20, fill)
    assert {name for name in names(store.folder) if not name.startswith("checkpoint-")} == {
        ".checkpoint-x",
        "notes.txt",
    }


def test_clearing_takes_what_is_ours(store: Store) -> None:
    (store.folder / "notes.txt").write_text("mine")
    store.clear()
    assert names(store.folder) == {"notes.txt"}
    (store.folder / "notes.txt").unlink()
    store.clear()
    assert not store.folder.exists()


def test_checkpoints_in_the_way_of_a_new_run(store: Store) -> None:
    with pytest.raises(UsageError, match="checkpoints of an earlier run"):
        store.require_none()
    shutil.rmtree(store.folder)
    store.require_none()


def test_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("checkpoint-", "checkpoint-1x", "xcheckpoint-1"):
        with pytest.raises(CheckpointError, match="not the name of a checkpoint"):
            step_of(tmp_path / name)
        (tmp_path / name).mkdir()
    assert Store(tmp_path).steps() == []


def test_a_disk_that_is_full_for_the_part_of_another_process(tmp_path: Path) -> None:
    """torch raises what is no `Exception`; the first failure behind it is told, with the place."""
    from torch.distributed.checkpoint import CheckpointException

    class Second:
        first = False

        def broadcast_text(self, text: str) -> str:
            return str(tmp_path)

    def fill(folder: Path) -> None:
        with sharded._plainly():
            failure = OSError(errno.ENOSPC, "No space left on device")
            raise CheckpointException("save", {1: (failure, traceback.extract_stack())})

    with pytest.raises(DiskFullError, match="checkpoint-3: cannot be written"):
        Store(tmp_path).write(3, fill, world=Second())  # type: ignore[arg-type]
