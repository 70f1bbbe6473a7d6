"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bertolt.base import files
from bertolt.base.errors import BertoltError, DiskFullError, UsageError
from bertolt.base.files import (
    disk_errors,
    held_folder,
    require_free,
    require_no_file,
    staged_folder,
    unfinished,
    write_atomically,
    write_text,
)
from bertolt.checkpoint.weights import read_tensors
from bertolt.corpus.shards import read_shard

OURS = frozenset({"model", "report"})


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its content."""
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- single files ----


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "file", "Grüße\n")
    assert tree(tmp_path) == {"a/b/file": "Grüße\n"}
    assert (tmp_path / "a" / "b" / "file").read_bytes() == "Grüße\n".encode()


def test_a_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        seen.append((temporary.parent, (tmp_path / "file").read_text()))

    write_atomically(tmp_path / "file", write)
    assert seen == [(tmp_path, "old")]
    assert tree(tmp_path) == {"file": "new"}


def test_a_temporary_file_is_known_by_its_name(tmp_path: Path) -> None:
    seen = []
    write_atomically(tmp_path / "a.json", lambda path: seen.append(path.name) or path.touch())
    assert unfinished(seen[0]) == "a.json"
    for name in ("a.json", ".a.json", ".a.json.part", "a.json.abcd1234.part", ".a.abcd123-.part"):
        assert unfinished(name) is None


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    for umask in (0o022, 0o077):
        previous = os.umask(umask)
        try:
            write_text(tmp_path / "file", "x")
            with staged_folder(tmp_path / "out", overwrite=True, ours=OURS):
                pass
        finally:
            os.umask(previous)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~umask


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
@pytest.mark.parametrize("told", [True, False], ids=["the system tells it", "it is set to read it"])
def test_threads_that_write_at_once_leave_the_umask(
    told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if told and not sys.platform.startswith("linux"):
        pytest.skip("it does not tell it")
    set_umask, changes = os.umask, []

    def slow(umask: int) -> int:
        changes.append(umask)
        before = set_umask(umask)
        time.sleep(0.01)
        return before

    previous = set_umask(0o022)
    try:
        monkeypatch.setattr(files.os, "umask", slow)
        if not told:
            monkeypatch.setattr(files, "_STATUS", tmp_path / "none")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: write_text(tmp_path / str(n), "x"), range(8)))
    finally:
        left = set_umask(previous)
    assert left == 0o022
    assert not (told and changes)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_old_content_survives_a_write_that_fails(tmp_path: Path, error: BaseException) -> None:
    write_text(tmp_path / "file", "old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(tmp_path / "file", write)
    assert tree(tmp_path) == {"file": "old"}


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, DiskFullError, "free some space"),
        (errno.EDQUOT, DiskFullError, "free some space"),
        (errno.EFBIG, BertoltError, "ulimit -f unlimited"),
        (errno.EACCES, BertoltError, "may write to"),
    ],
    ids=["full", "quota", "too large", "no permission"],
)
def test_what_the_disk_says_becomes_an_error_with_a_fix(
    tmp_path: Path, number: int, kind: type[BertoltError], words: str
) -> None:
    write_text(tmp_path / "file", "old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(BertoltError, match=os.strerror(number)) as caught:
        write_atomically(tmp_path / "file", write)
    assert type(caught.value) is kind
    assert caught.value.place == str(tmp_path / "file")
    assert words in caught.value.fix
    assert tree(tmp_path) == {"file": "old"}


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(BertoltError, match="cannot be written"):
        write_text(tmp_path / "file", "x")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(BertoltError, match="cannot be written"):
        write_text(tmp_path / "file" / "below", "x")
    assert tree(tmp_path) == {"file": "old"}


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), disk_errors("x"):
        1 / 0  # noqa: B018


# ---- folders ----


def fill(stage: Path) -> None:
    (stage / "model").write_text("new")
    (stage / "report").write_text("new")


def fill_and(act: Callable[[], object], out: Path) -> None:
    with staged_folder(out, overwrite=True, ours=OURS) as stage:
        fill(stage)
        act()


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with staged_folder(out, overwrite=False, ours=OURS) as stage:
        fill(stage)
        assert not out.exists()
        assert stage.parent == out.parent
    assert tree(tmp_path) == {"deep/out/model": "new", "deep/out/report": "new"}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_nothing_is_left_when_the_block_raises(
    tmp_path: Path, error: BaseException, there: bool
) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        fill_and(fail, out)
    with pytest.raises(type(error)):
        fill_and(fail, tmp_path / "deep" / "out")
    assert sorted(tmp_path.iterdir()) == ([out] if there else [])
    assert tree(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_a_killed_run_has_left_goes_with_the_next(tmp_path: Path) -> None:
    """And what a run is filling stays: the next one is refused, and leaves nothing."""
    out = tmp_path / "deep" / "out"
    if not (child := os.fork()):
        with staged_folder(out, overwrite=False, ours=OURS) as stage:
            fill(stage)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(out.parent.iterdir())) == 1
    other = out.parent / ".out.12345678.part"  # a file of this name is another's
    other.touch()
    with staged_folder(out, overwrite=False, ours=OURS) as stage:
        assert sorted(out.parent.iterdir()) == sorted([stage, other])
        with pytest.raises(UsageError, match="another run is writing to this folder"):
            fill_and(lambda: None, out)
        fill(stage)
    assert sorted(out.parent.iterdir()) == [other, out]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names cannot be exchanged")
def test_a_kill_at_any_rename_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    out, ends, left = tmp_path / "out", [], set()
    write_text(out / "model", "old")
    while not ends or ends[-1] == -signal.SIGKILL:
        if not (child := os.fork()):
            killed_at_rename(len(ends) + 1)
            fill_and(lambda: None, out)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert tree(out) in ({"model": "old"}, {"model": "new", "report": "new"})
        left |= {path.suffix for path in tmp_path.iterdir() if path != out}
    assert ends == [-signal.SIGKILL, 0]
    assert left == {".new"}
    assert list(tmp_path.iterdir()) == [out]


def killed_at_rename(number: int) -> None:
    """End this process by SIGKILL as it renames something for the so-manyth time."""
    left = iter(range(number - 1, -1, -1))

    def look(event: str, _: object) -> None:
        if event == "os.rename" and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged_folder(tmp_path / "out", overwrite=False, ours=OURS) as stage:
        fill(stage)
    assert tree(tmp_path) == {"out/model": "new", "out/report": "new"}


def earlier_run(out: Path) -> None:
    write_text(out / "model", "old")


def test_an_earlier_run_is_replaced_as_a_whole_where_that_is_allowed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    earlier_run(out)
    with staged_folder(out, overwrite=True, ours=OURS) as stage:
        (stage / "report").write_text("new")
        assert tree(out) == {"model": "old"}
    assert tree(tmp_path) == {"out/report": "new"}
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_file_manager_leaves_is_nobodys(tmp_path: Path) -> None:
    out = tmp_path / "out"
    earlier_run(out)
    (out / ".DS_Store").touch()
    with staged_folder(out, overwrite=True, ours=OURS) as stage:
        fill(stage)
    assert ".DS_Store" not in tree(out)


def test_an_earlier_run_survives_an_interrupt_between_the_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    earlier_run(out)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if Path(target) == out and self.name != "content":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with (
        pytest.raises(KeyboardInterrupt),
        staged_folder(out, overwrite=True, ours=OURS) as stage,
    ):
        fill(stage)
    assert tree(tmp_path) == {"out/model": "old"}


def test_an_earlier_run_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    earlier_run(out)
    with pytest.raises(ZeroDivisionError):
        fill_and(lambda: 1 / 0, out)
    assert tree(tmp_path) == {"out/model": "old"}


def test_an_earlier_run_survives_a_rename_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    earlier_run(out)
    rename = Path.rename

    def failing(source: Path, target: Path) -> Path:
        if source.suffix == ".part":
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with (
        pytest.raises(BertoltError, match="Input/output error"),
        staged_folder(out, overwrite=True, ours=OURS) as stage,
    ):
        fill(stage)
    assert tree(tmp_path) == {"out/model": "old"}
    assert list(tmp_path.iterdir()) == [out]


def test_an_earlier_run_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    earlier_run(tmp_path / "out")
    with (
        pytest.raises(UsageError, match="not empty") as caught,
        staged_folder(tmp_path / "out", overwrite=False, ours=OURS),
    ):
        pytest.fail("the block must not run")
    assert "--overwrite" in caught.value.fix
    assert tree(tmp_path) == {"out/model": "old"}


def test_what_no_run_has_written_is_never_replaced(tmp_path: Path) -> None:
    earlier_run(tmp_path / "out")
    write_text(tmp_path / "out" / "thesis.tex", "years of work")
    with (
        pytest.raises(UsageError, match=r"'thesis\.tex'"),
        staged_folder(tmp_path / "out", overwrite=True, ours=OURS),
    ):
        pytest.fail("the block must not run")
    assert tree(tmp_path / "out") == {"model": "old", "thesis.tex": "years of work"}


def test_what_came_while_the_block_ran_is_not_replaced_either(tmp_path: Path) -> None:
    late = tmp_path / "out" / "thesis.tex"
    with pytest.raises(UsageError, match=r"'thesis\.tex'"):
        fill_and(lambda: write_text(late, "years of work"), tmp_path / "out")
    assert tree(tmp_path) == {"out/thesis.tex": "years of work"}


def test_a_file_of_that_name_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "out", "a file")
    with pytest.raises(UsageError, match="a file of this name"):
        require_free(tmp_path / "out", overwrite=True, ours=OURS)


@pytest.mark.parametrize("name", [".", "..", "../here"])
def test_the_folder_one_is_in_is_refused_before_the_work_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match="you are in it") as caught:
        require_free(Path(name), overwrite=False, ours=OURS)
    assert str(Path(name) / "run") in caught.value.fix


def test_a_mount_point_is_refused_before_the_work_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(UsageError, match="mount point"):
        require_free(tmp_path, overwrite=False, ours=OURS)
    require_free(tmp_path / "run", overwrite=False, ours=OURS)


def test_a_relative_folder_and_a_link_lead_to_the_right_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with staged_folder(Path("out"), overwrite=False, ours=OURS) as stage:
        fill(stage)
    (tmp_path / "link").symlink_to("out")
    with staged_folder(Path("link"), overwrite=True, ours=OURS) as stage:
        (stage / "report").write_text("newer")
    assert tree(tmp_path / "out") == {"report": "newer"}
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_where_one_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with (
            pytest.raises(BertoltError, match="cannot be written"),
            staged_folder(tmp_path / "out", overwrite=False, ours=OURS),
        ):
            pytest.fail("the block must not run")
    finally:
        tmp_path.chmod(0o700)


# ---- folders that are held ----


def remake(folder: Path) -> None:
    folder.rmdir()
    folder.mkdir()


@pytest.mark.skipif(os.name == "nt", reason="locks")
def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for _ in range(2):
        with held_folder(folder, fix="wait") as locked:
            assert locked
            with (
                pytest.raises(UsageError, match="another run is writing to this") as refused,
                held_folder(folder, fix="wait", out=tmp_path / "out"),
            ):
                pytest.fail("the block must not run")
            assert folder.is_dir()
        assert (refused.value.place, refused.value.fix) == (str(tmp_path / "out"), "wait")
        assert not folder.exists(), "made for nothing"


@pytest.mark.skipif(os.name == "nt", reason="locks")
@pytest.mark.parametrize("act", [Path.rmdir, remake])
def test_a_folder_that_another_run_takes_away_as_it_ends_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None]
) -> None:
    """Also where a third run has made one of its name by then, and holds that."""
    import fcntl

    flock, folder = fcntl.flock, tmp_path / "run"
    folder.mkdir()

    def late(handle: int, how: int) -> None:
        act(folder)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with (
        pytest.raises(UsageError, match="another run is writing"),
        held_folder(folder, fix="wait"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.skipif(os.name == "nt", reason="locks")
def test_without_locks_a_folder_is_held_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with held_folder(tmp_path / "run", fix="wait") as locked:
        assert not locked


def test_a_file_that_others_make_and_remove_is_never_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a second look at it would find."""
    path, written = tmp_path / "file", list[Path]()
    looks = itertools.count()

    def look(self: Path, **given: bool) -> os.stat_result:
        if self == path and next(looks) % 2:
            raise FileNotFoundError(errno.ENOENT, "not there", str(self))
        return os.stat(tmp_path if self == path.parent else __file__)  # noqa: PTH116

    def write(target: Path) -> None:
        written.append(target)
        target.write_text("new", encoding="utf-8")

    for _ in range(2):
        with monkeypatch.context() as others:
            others.setattr(Path, "stat", look)
            write_atomically(path, write)
        assert path.read_text(encoding="utf-8") == "new"
    assert path not in written


def test_what_another_process_wrote_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "answers"

    def write(target: Path) -> None:
        target.write_text("ours", encoding="utf-8")
        path.write_text("theirs", encoding="utf-8")

    with pytest.raises(UsageError, match="came to be while this one was written"):
        write_atomically(path, write, replace=False)
    assert path.read_text(encoding="utf-8") == "theirs"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, write)
    assert path.read_text(encoding="utf-8") == "ours"
    write_text(tmp_path / "new", "a", replace=False)


@pytest.mark.parametrize("name", ["x" * 255, "中" * 85, "a" * 199 + "中" * 18])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "a")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).unlink()
    for _ in range(2):
        with staged_folder(tmp_path / name, overwrite=True, ours=frozenset({"a"})) as stage:
            (stage / "a").write_text("a", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    """What tells of them is written; a folder of weights is refused, for no weights are read there.

    In JSON the escape is half a pair of surrogates, and so the name again.
    """
    path = tmp_path / "\udcff"
    write_text(path, json.dumps(str(path), ensure_ascii=False))
    assert json.loads(path.read_text(encoding="utf-8")) == str(path)
    for call in (require_no_file, read_tensors, read_shard):
        with pytest.raises(BertoltError, match="the path is not in UTF-8"):
            call(tmp_path / "\udcff2" / "a")
