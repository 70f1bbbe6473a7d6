"""The cache of tokens: the same rows hit or miss, and nothing that a disk does is an error."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertolt import BertTokenizer
from bertolt.base.errors import DataError, UsageError
from bertolt.data import tokens
from bertolt.data.encode import EncodedTexts, encode_texts
from bertolt.data.tokens import encode_once

TEXTS = ["a very good film", "bad", "Ein ganz anderer Text, 好", "the " * 30]
WORDS = st.sampled_from(["good", "film", "Cat", "…", "好", "a b", ""])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the entries, which is not there yet."""
    monkeypatch.setenv("BERTOLT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BERTOLT_CACHE_TOKENS", "1GB")
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def once(tiny_tokenizer: BertTokenizer) -> Callable[..., tuple[EncodedTexts, str]]:
    """`encode_once` with the tiny tokenizer."""

    def encode(texts: Any = TEXTS, max_length: int = 12, **more: Any) -> tuple[EncodedTexts, str]:
        return encode_once(tiny_tokenizer, texts, max_length, **more)

    return encode


def require_same(found: EncodedTexts, wanted: EncodedTexts) -> None:
    for name in ("ids", "offsets", "full_lengths"):
        have, want = getattr(found, name), getattr(wanted, name)
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)
    assert found.account == wanted.account
    assert [row["input_ids"].tolist() for row in found] == [
        row["input_ids"].tolist() for row in wanted
    ]


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


# ---- hit or miss ----


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(WORDS, max_size=9).map(" ".join), max_size=9))
def test_rows_are_those_of_encode_texts_hit_or_miss(
    tiny_tokenizer: BertTokenizer, texts: list[str]
) -> None:
    wanted = encode_texts(tiny_tokenizer, texts, 9)
    for _ in range(2):
        found, words = encode_once(tiny_tokenizer, texts, 9)
        require_same(found, wanted)
    assert words.startswith("from the cache, ")


def test_a_miss_and_a_hit_say_so_and_where(once: Any, cache: Path) -> None:
    made, words = once()
    (entry,) = entries(cache)
    assert words == f"made, kept in {entry}"
    found, words = once()
    assert words == f"from the cache, {entry}"
    require_same(found, made)
    assert entries(cache) == [entry]


def test_a_hit_tokenises_nothing_and_maps_the_file(
    once: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    once()
    monkeypatch.setattr(tokens, "encode_texts", None)
    found, _ = once()
    assert not any(a.flags.writeable or a.flags.owndata for a in (found.ids, found.offsets))


def test_labels_are_those_of_the_call(once: Any) -> None:
    first, second = np.array([0, 1, 0, 1]), np.array([3, 2, 1, 0])
    assert once(labels=first)[0].labels is first
    found, words = once(labels=second)
    assert words.startswith("from the cache")
    assert found.labels is second
    for _ in range(2):
        with pytest.raises(UsageError, match="4 texts and 3 labels"):
            once(labels=np.zeros(3))


def test_progress_counts_the_texts_that_are_tokenised(once: Any) -> None:
    seen: list[int] = []
    once(TEXTS * 1000, progress=seen.append)
    assert seen == [2048, 4000]
    once(TEXTS * 1000, progress=seen.append)
    assert len(seen) == 2


def test_a_column_of_a_table_is_read_as_a_list_is(once: Any) -> None:
    import datasets

    order = np.array([2, 0, 3, 1])
    column = datasets.Dataset.from_dict({"text": TEXTS}).select(order)["text"]
    once([TEXTS[i] for i in order])
    assert once(column)[1].startswith("from the cache")


def test_what_the_tokenizer_refuses_is_refused(once: Any, cache: Path) -> None:
    for _ in range(2):
        with pytest.raises(DataError, match="U\\+D800"):
            once(["good", "half \ud800"])
    with pytest.raises(UsageError, match="leaves no room"):
        once(max_length=2)
    assert not cache.exists()


# ---- what the name of an entry is made of ----


@pytest.mark.parametrize(
    "texts",
    [[*TEXTS, ""], TEXTS[:-1], TEXTS[::-1], ["a very good filmbad", "", *TEXTS[2:]], ["x"]],
)
def test_other_texts_are_another_entry(once: Any, cache: Path, texts: list[str]) -> None:
    once()
    assert once(texts)[1].startswith("made, kept")
    assert len(entries(cache)) == 2


def test_another_limit_or_format_is_another_entry(
    once: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    once()
    assert once(max_length=13)[1].startswith("made, kept")
    monkeypatch.setattr(tokens, "FORMAT", tokens.FORMAT + 1)
    assert once()[1].startswith("made, kept")


def test_another_tokenizer_is_another_entry(tmp_path: Path) -> None:
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "the"]

    def load(words: list[str] = vocab, **changes: Any) -> BertTokenizer:
        return BertTokenizer.from_vocab({word: i for i, word in enumerate(words)}, **changes)

    added, letters, closed = load(), load(), load()
    added.add_tokens(["very"])
    letters.split_special_tokens = True
    closed.add_special_tokens({"sep_token": "[MASK]"})
    turned = load([*vocab[:5], *vocab[:4:-1]])
    for tokenizer in (load(), added, letters, closed, turned, load(do_lower_case=False)):
        assert encode_once(tokenizer, TEXTS, 12)[1].startswith("made, kept")
    load().save_pretrained(tmp_path / "copy")
    copy = BertTokenizer.from_pretrained(tmp_path / "copy")
    assert encode_once(copy, TEXTS, 12)[1].startswith("from the cache"), "the same, elsewhere"


def test_another_process_finds_the_entry(tiny_folder: Path, cache: Path) -> None:
    program = (
        "import sys; from bertolt import BertTokenizer;"
        "from bertolt.data.tokens import encode_once;"
        "print(encode_once(BertTokenizer.from_pretrained(sys.argv[1]), sys.argv[2:], 12)[1])"
    )
    encode_once(BertTokenizer.from_pretrained(tiny_folder), TEXTS, 12)
    command = [sys.executable, "-c", program, str(tiny_folder), *TEXTS]
    seed = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONUTF8": "1"}
    said = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=seed)
    assert said.stdout == f"from the cache, {entries(cache)[0]}\n"


def test_ids_that_change_need_another_format(tiny_tokenizer: BertTokenizer) -> None:
    """If this fails with reason, raise `FORMAT`: entries of before hold other ids."""
    rows = encode_texts(tiny_tokenizer, ["the good film", "film " * 9], 8)
    assert rows.ids.tolist() == [2, 25, 5, 27, 3, 2, *[27] * 6, 3]
    assert (rows.offsets.tolist(), rows.full_lengths.tolist()) == ([0, 5, 13], [5, 11])


# ---- damage ----


def test_a_damaged_entry_is_made_again_and_said_so(once: Any, cache: Path) -> None:
    made, _ = once()
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    for damage in (b"", b"nothing of ours", whole[: len(whole) // 2], whole[:-9]):
        entry.write_bytes(damage)
        again, words = once()
        assert words.startswith("made again, for the entry in the cache could not be read (")
        assert words.endswith(f"), kept in {entry}")
        assert "\n" not in words
        require_same(again, made)
        assert once()[1].startswith("from the cache")


def test_no_flipped_bit_of_an_entry_changes_a_row(once: Any, cache: Path, tmp_path: Path) -> None:
    made, _ = once()
    whole = entries(cache)[0].read_bytes()
    other = tmp_path / "other.arrow"
    outcomes = {True: 0, False: 0}
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        other.write_bytes(flipped)
        found, words = tokens._find(other, 12)
        outcomes[found is not None] += 1
        if found is not None:
            require_same(found, made)
        else:
            assert words.startswith("made again")
    assert min(outcomes.values()) > 50, "padding can be flipped, rows and their description not"


def test_an_entry_of_other_columns(once: Any, cache: Path) -> None:
    import pyarrow as pa

    once()
    (entry,) = entries(cache)
    table = pa.table({"ids": [[1, 2]], "full_length": [2]})
    with pa.ipc.new_file(str(entry), table.schema) as file:
        file.write_table(table)
    assert "its columns are others" in once()[1]


# ---- the size ----


def aged(cache: Path, names: dict[str, float]) -> None:
    for name, seconds in names.items():
        (cache / name).write_bytes(b"x" * 1000)
        os.utime(cache / name, (time.time() - seconds,) * 2)


def test_the_least_recently_used_entries_make_room(
    once: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(["good"])  # makes the folder
    (used,) = entries(cache)
    os.utime(used, (0, 0))
    assert once(["good"])[1].startswith("from the cache"), "which makes it the newest"
    aged(cache, {"old.arrow": 300, "older.arrow": 400, "new.arrow": 200, "notes.txt": 900})
    monkeypatch.setenv("BERTOLT_CACHE_TOKENS", f"{(used.stat().st_size + 1300) / 1000}KB")
    words = once()[1]
    assert words.endswith("; 2 older entries removed")
    left = {path.name for path in entries(cache)}
    assert {"new.arrow", "notes.txt", used.name} < left
    assert not {"old.arrow", "older.arrow"} & left


def test_rows_beyond_the_size_are_not_kept(
    once: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(["good"])
    monkeypatch.setenv("BERTOLT_CACHE_TOKENS", "0.2KB")
    words = once()[1]
    assert words == "made, not kept: they take 236 bytes, and BERTOLT_CACHE_TOKENS is 200"
    assert len(entries(cache)) == 1, "and nothing was removed for them"


def test_switched_off_it_neither_reads_nor_writes(
    once: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTOLT_CACHE_TOKENS", "0")
    assert once()[1] == "made, not kept: BERTOLT_CACHE_TOKENS is 0"
    assert not cache.exists()


@pytest.mark.parametrize(
    ("given", "size"),
    [("", 2 * 10**9), ("0", 0), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8), (" 7KB ", 7000)],
)
def test_sizes(given: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTOLT_CACHE_TOKENS", given)
    assert tokens.cache_size() == size


@pytest.mark.parametrize("given", ["1", "on", "-1GB", "2TB", "2G"])
def test_what_is_no_size_is_refused(once: Any, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTOLT_CACHE_TOKENS", given)
    with pytest.raises(UsageError, match="is no size") as refused:
        once()
    assert (refused.value.place, "2GB" in refused.value.fix) == ("BERTOLT_CACHE_TOKENS", True)


# ---- disks ----


def test_texts_can_be_read_by_their_owner_alone(once: Any, cache: Path) -> None:
    once()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_drafts_of_killed_runs_are_cleared_away(once: Any, cache: Path) -> None:
    once()
    aged(cache, {".a.arrow.1.part": 90_000, ".b.arrow.2.part": 60})
    once(["other"])
    assert [path.name for path in entries(cache) if path.suffix == ".part"] == [".b.arrow.2.part"]


def test_a_place_that_cannot_be_written_is_said_and_no_error(
    once: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BERTOLT_CACHE", str(tmp_path / "file"))
    rows, words = once()
    assert len(rows) == len(TEXTS)
    assert "made again" in words
    assert words.endswith(
        f"not kept: {tmp_path / 'file/tokens'} cannot be written (Not a directory)"
    )


def test_without_a_home_nothing_is_kept(once: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(tokens, "cache_dir", homeless)
    assert once()[1] == "made, not kept: Could not determine home directory."


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_cache_that_may_only_be_read_is_read(
    once: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As root, who may run the tests, may write anywhere, the system's answer is put on."""
    once()

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr("bertolt.base.files.tempfile.mkstemp", refuse)
    assert once()[1].startswith("from the cache")
    words = once(["other"])[1]
    assert words.startswith("made, not kept: ")
    assert words.endswith(f"cannot be written ({os.strerror(code)})")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process grows beyond 1,500 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_write_that_stops_half_way_leaves_nothing(
    once: Any, cache: Path, small_files: None
) -> None:
    rows, words = once(TEXTS * 100)
    assert len(rows) == 400
    assert words.endswith("cannot be written (File too large)")
    assert entries(cache) == []


def test_ctrl_c_while_it_writes_leaves_nothing(
    once: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", press)
    with pytest.raises(KeyboardInterrupt):
        once()
    assert entries(cache) == []


def test_runs_at_the_same_time_do_not_disturb_each_other(
    tiny_tokenizer: BertTokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads over four sets of texts, in a cache that holds two of them."""
    sets = [[f"film {number}", "good " * number] for number in range(4)]
    wanted = [encode_texts(tiny_tokenizer, texts, 12) for texts in sets]
    encode_once(tiny_tokenizer, sets[0], 12)
    size = entries(cache)[0].stat().st_size
    monkeypatch.setenv("BERTOLT_CACHE_TOKENS", f"{2.5 * size / 1000}KB")

    def work(number: int) -> str:
        rows, words = encode_once(tiny_tokenizer, sets[number % 4], 12)
        require_same(rows, wanted[number % 4])
        return words.split(",")[0]

    with ThreadPoolExecutor(8) as pool:
        said = set(pool.map(work, range(200)))
    assert said <= {"made", "from the cache"}, "no entry was ever half an entry"
    assert all(path.suffix == ".arrow" for path in entries(cache))
