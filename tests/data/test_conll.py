"""Files with one word a line: which columns there are, where sentences begin, what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertolt.base.errors import DataError
from bertolt.data.conll import open_conll
from bertolt.data.formats import open_source
from bertolt.data.table_file import BadRow

FOUR = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n"


def rows(path: Path, *names: str) -> list[tuple[int, object]]:
    return list(open_source(path).rows(names or ("1", "2")))


def put(folder: Path, content: str, name: str = "a.conll") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


def test_the_word_is_the_first_column_and_the_tag_the_last(tmp_path: Path) -> None:
    source = open_source(put(tmp_path, FOUR))
    assert source.columns == ["1", "2", "3", "4"]
    assert {role: column for role, (column, _) in source.usual.items()} == {
        "text": "1",
        "label": "4",
    }


def test_sentences_are_numbered_by_the_line_on_which_they_begin(tmp_path: Path) -> None:
    assert rows(put(tmp_path, FOUR), "1", "4") == [
        (3, (["EU", "rejects"], ["B-ORG", "O"])),
        (6, (["Peter"], ["B-PER"])),
    ]


@pytest.mark.parametrize("name", ["a.bio", "a.iob", "a.iob2", "a.conll.gz"])
@pytest.mark.parametrize("content", ["a O\r\n\r\nb O\r\n", "a\tO\n\nb\tO", "\n\na O\n \nb O\n\n\n"])
def test_line_ends_tabs_and_empty_lines(tmp_path: Path, name: str, content: str) -> None:
    found = [words for _, (words, _) in rows(put(tmp_path, content, name))]
    assert found == [["a"], ["b"]]


def test_a_word_may_have_spaces_where_tabs_part(tmp_path: Path) -> None:
    ((_, values),) = rows(put(tmp_path, "New York\tB-LOC\nis\tO\n"))
    assert values == (["New York", "is"], ["B-LOC", "O"])


def test_comments_of_conll_u_are_no_words(tmp_path: Path) -> None:
    ((row, values),) = rows(put(tmp_path, "# text = a b\na O\n# O\n"))
    assert (row, values) == (2, (["a", "#"], ["O", "O"]))


def test_a_sentence_with_a_line_of_other_width_is_bad_as_a_whole(tmp_path: Path) -> None:
    (first, second) = rows(put(tmp_path, "a O\nb\nc O\n\nd O\n"))
    assert first == (1, BadRow("ragged sentence", "line 2 has 1 columns, and the first line has 2"))
    assert second == (5, (["d"], ["O"]))


def test_words_without_tags_are_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a word and no tag"):
        open_source(put(tmp_path, "one\ntwo\n"))
    with pytest.raises(DataError, match="nothing in it"):
        open_source(put(tmp_path, "\n\n"))


def test_another_ending_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "a O\n", "a.txt")
    with pytest.raises(DataError, match=r"'\.txt' are not read"):
        open_source(path)
    assert open_source(path, kinds={".txt": open_conll}).columns == ["1", "2"]
