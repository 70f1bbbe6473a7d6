"""`--encoding auto`: what is taken for what, and what is refused rather than guessed."""

from __future__ import annotations

import codecs
import gzip
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import UsageError
from bertolt.corpus.options import TextOptions
from bertolt.corpus.read import Reader, find_sources
from bertolt.data.encodings import detect
from bertolt.data.lines import EncodingError, text_lines
from bertolt.data.load import read_table
from tests.running import Said

SIMPLIFIED = "房间很干净，服务也很好，下次还会再来。早餐一般，但是位置非常方便。\n"
TRADITIONAL = "房間很乾淨，服務也很好，下次還會再來。早餐一般，但是位置非常方便。\n"
FRENCH = "Le café était bon, mais « déçu » par l’hôtel : 25 € la nuit… où ça ?\n"
GERMAN = "Das Frühstück war großartig – „gerne wieder“. Ärgerlich: 30 °C im Zimmer.\n"
RUSSIAN = "Отель очень хороший, номера чистые, завтраки вкусные.\n"
JAPANESE = "部屋はとても清潔で、サービスも良かったです。\n"
KOREAN = "방이 매우 깨끗하고 서비스도 좋았습니다.\n"
POLISH = "Pokój był czysty, śniadanie przepyszne, obsługa miła. Żałuję.\n"

TOLD = [
    ("plain ASCII\n", "utf-8", "utf-8"),
    (SIMPLIFIED + FRENCH + RUSSIAN, "utf-8", "utf-8"),
    (SIMPLIFIED, "utf-8-sig", "utf-8"),
    (SIMPLIFIED, "utf-16", "utf-16"),
    (SIMPLIFIED, "utf-16-le", "utf-16-le"),
    (GERMAN, "utf-16-be", "utf-16-be"),
    (RUSSIAN, "utf-32", "utf-32"),
    (SIMPLIFIED, "gb18030", "gb18030"),
    ("text,label\n很好,正面\n不好,负面\n", "gb18030", "gb18030"),
    (SIMPLIFIED, "gbk", "gb18030"),
    (TRADITIONAL, "big5", "big5"),
    (FRENCH, "cp1252", "cp1252"),
    (GERMAN, "cp1252", "cp1252"),
    ("It’s “great” – we’ll be back.\n", "cp1252", "cp1252"),
    ("¿Qué tal? ¡Mañana será mejor!\n", "latin-1", "cp1252"),
]
REFUSED = [
    (RUSSIAN, "cp1251"),
    (RUSSIAN, "koi8-r"),
    (JAPANESE, "shift-jis"),
    (JAPANESE, "euc-jp"),
    (KOREAN, "euc-kr"),
    (POLISH, "cp1250"),
]


def one(content: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: [content]


@pytest.mark.parametrize(("text", "written", "name"), TOLD)
@pytest.mark.parametrize("times", [1, 500])
def test_what_can_be_told(text: str, written: str, name: str, times: int) -> None:
    content = (text * times).encode(written)
    assert detect(one(content)) == name
    decoded = content.decode(name).lstrip("\ufeff")
    assert decoded == text * times


@pytest.mark.parametrize(("text", "written"), REFUSED)
@pytest.mark.parametrize("times", [1, 500])
def test_what_is_refused(text: str, written: str, times: int) -> None:
    assert detect(one((text * times).encode(written))) is None


@pytest.mark.parametrize("text", [SIMPLIFIED * 9, FRENCH * 9, RUSSIAN * 9])
def test_one_bad_byte_makes_no_other_encoding_of_utf8(text: str) -> None:
    assert detect(one(text.encode() + b"\xff\n" + text.encode())) is None


def test_damage_behind_the_sample_counts() -> None:
    good = SIMPLIFIED.encode("gb18030") * 20_000
    assert len(good) > 1 << 20
    assert detect(lambda: [good, b"\xff\xff"]) is None


def test_characters_may_lie_across_pieces() -> None:
    content = SIMPLIFIED.encode("gb18030")
    assert detect(lambda: [bytes([each]) for each in content]) == "gb18030"


@given(st.binary(max_size=200))
def test_what_is_told_is_valid(content: bytes) -> None:
    if (name := detect(one(content))) is not None:
        codecs.decode(content, name)


# ---- in files ----


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(f"评论,类别\n{SIMPLIFIED.strip()},好\n".encode("gb18030")))
    table = read_table(path, text="评论", label="类别", encoding="auto")
    assert table.texts == [SIMPLIFIED.strip()]
    assert table.found["encoding"] == "gb18030, by its bytes"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbftext,label\ngood,a\n"))
    os.utime(path, ns=(1, 1))
    assert read_table(path, encoding="auto").found["encoding"] == "utf-8, by its bytes"


def test_a_corpus_of_several_encodings(tmp_path: Path) -> None:
    texts = {"gb18030": SIMPLIFIED, "big5": TRADITIONAL, "utf-16": RUSSIAN, "cp1252": FRENCH}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_bytes(text.encode(name))
    reader = Reader(find_sources([tmp_path]).sources, TextOptions(encoding="auto"))
    assert {document.text for document in reader} == {text.strip() for text in texts.values()}
    assert reader.summary.columns == {
        str(tmp_path / f"{name}.txt"): f"encoding {name}, by its bytes" for name in texts
    }


def test_files_that_cannot_be_told_are_named_at_once(tmp_path: Path) -> None:
    for number, text in enumerate((SIMPLIFIED, RUSSIAN, GERMAN, RUSSIAN)):
        (tmp_path / f"{number}.txt").write_bytes(
            text.encode("cp1251" if text == RUSSIAN else "gb18030" if number == 0 else "cp1252")
        )
    with pytest.raises(EncodingError) as caught:
        list(Reader(find_sources([tmp_path]).sources, TextOptions(encoding="auto")))
    assert "2 of 4 files are not of an encoding that can be told" in str(caught.value)
    for number in (1, 3):
        assert f"{tmp_path / f'{number}.txt'}, line 1, byte offset 0" in str(caught.value)
    assert "iconv -f ENCODING -t utf-8" in caught.value.fix


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")
def test_a_pipe_cannot_be_looked_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a pipe is read once"):
        next(text_lines(tmp_path / "pipe", "auto"))


def test_nor_can_standard_input(bertolt: Callable[..., Said], tuned: Path) -> None:
    said = bertolt("predict", tuned, "--encoding", "auto", stdin=b"good\n")
    assert (said.code, said.out) == (2, "")
    assert "--encoding auto: standard input is read once" in said.err


def test_the_command_says_what_it_took(
    bertolt: Callable[..., Said], tuned: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("review,label\ngood café,pos\nbad,neg\n".encode("cp1252"))
    for words in (("predict", tuned, path), ("evaluate", tuned, path)):
        said = bertolt(*words, "--encoding", "auto")
        assert said.code == 0
        assert "  encoding: cp1252, by its bytes" in said.err
