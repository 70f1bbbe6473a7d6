"""Files with one word a line: which columns there are, where sentences begin, what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertolt.base.errors import DataError
from bertolt.data.cells import Cell, tags_cell, words_cell
from bertolt.data.conll import open_conll
from bertolt.data.describe import describe_table
from bertolt.data.formats import open_source
from bertolt.data.load import Sample, read_table
from bertolt.data.table_file import BadRow
from bertolt.tasks.rows import Columns, read_for_task

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
    detail = "line 2 has 1 column, and the first line has 2, parted by white space"
    assert first == (1, BadRow("ragged sentence", detail))
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


# ---- CoNLL-U and other files that number their words


def lines_of(*rows: str) -> str:
    return "".join(row.replace(" ", "\t") + "\n" for row in rows)


REST = "_ _ _ _ _ _"
TREE = (
    "# newdoc id = d1\n# newpar\n# text = Vamos al mar\n"
    + lines_of(f"1 Vamos ir VERB {REST}", f"2-3 al _ _ {REST}", f"2 a a ADP {REST}")
    + lines_of(f"3 el el DET {REST}", f"3.1 gran gran ADJ {REST}", f"4 mar mar NOUN {REST}")
    + "\n# newpar\n"
    + lines_of(f"1 Si si INTJ {REST}")
    + "\n"
)


@pytest.mark.parametrize("name", ["a.conllu", "a.conll", "a.bio"])
def test_conll_u_has_words_in_its_second_column_and_tags_in_its_fourth(
    tmp_path: Path, name: str
) -> None:
    table = read_table(put(tmp_path, TREE, name), cells=words_and_tags)
    assert table.texts == [["Vamos", "a", "el", "mar"], ["Si"]]
    assert table.labels == [["VERB", "ADP", "DET", "NOUN"], ["INTJ"]]
    assert table.roles == {"text": ["2"], "label": ["4"]}
    assert table.found["text"] == "the first column numbers the words"
    assert table.found["label"] == "the parts of speech of CoNLL-U"
    assert table.data["row"].to_pylist() == [1, 2]
    assert list(table.lines) == [4, 12]


def test_other_columns_of_conll_u_are_there_by_their_numbers(tmp_path: Path) -> None:
    (first, _) = rows(put(tmp_path, TREE), "1", "3")
    assert first == (4, (["1", "2", "3", "4"], ["ir", "a", "el", "mar"]))


def test_numbers_before_words_are_no_words(tmp_path: Path) -> None:
    source = open_source(put(tmp_path, "1 EU B-ORG\n2 rejects O\n\n1 Peter B-PER\n"))
    assert {role: column for role, (column, _) in source.usual.items()} == {
        "text": "2",
        "label": "3",
    }


@pytest.mark.parametrize(
    "content", ["1 O\n2 O\n\n", "1 CD O\n\n", "1 CD O\n3 CD O\n\n", "2 CD O\n"]
)
def test_words_that_are_numbers_are_words(tmp_path: Path, content: str) -> None:
    assert open_source(put(tmp_path, content)).usual["text"][0] == "1"


@pytest.mark.parametrize("first", ["# newpar", "# sent 5 of 9", "# 12"])
def test_comments_before_a_sentence_part_nothing_and_are_no_words(
    tmp_path: Path, first: str
) -> None:
    content = f"{first}\na\tB-X\tO\n#\tO\tO\n\n{first}\nb\tO\tO\n\n"
    found = rows(put(tmp_path, content), "1")
    assert found == [(2, (["a", "#"],)), (6, (["b"],))]


def test_a_comment_inside_a_sentence_is_a_broken_line(tmp_path: Path) -> None:
    ((_, bad),) = rows(put(tmp_path, "a\tO\n# b\nc\tO\n\n"))
    assert isinstance(bad, BadRow)
    assert bad.detail == "line 2 has 1 column, and the first line has 2, parted by tabs"


# ---- sentences without an end


def words_and_tags(sample: Sample) -> dict[str, Cell]:
    return {"text": words_cell(sample.columns["text"]), "label": tags_cell(sample.columns["label"])}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a O\n" * 30, "all 30 words are one"),
        ("a O\n" * 1001, "the first has more than 1,000 words"),
        ("a O\n" * 1001 + "\nb O\n", "the first has more than 1,000 words"),
        ("-DOCSTART- -X- O O\n\n" + "a O\n" * 1001, "the first has more than 1,000 words"),
    ],
)
def test_a_file_without_ends_of_sentences_is_told(
    tmp_path: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_table(put(tmp_path, content), cells=words_and_tags)
    describe_table(table)
    assert f"sentences: {words}" in capsys.readouterr().err
    assert "empty line" in table.found["sentences"]


@pytest.mark.parametrize("content", ["a O\n\n", "a O\n" * 1000 + "\n", "\n\na O\n\nb O"])
def test_where_sentences_end_there_is_nothing_to_tell(tmp_path: Path, content: str) -> None:
    assert "sentences" not in open_source(put(tmp_path, content)).found


# ---- which task a file of tagged words is for


@pytest.mark.parametrize("name", ["a.conll", "a.conllu", "a.bio"])
def test_a_ragged_file_is_still_one_of_tagged_words(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path, "a O\nb\n\nc O X\n", name)
    with pytest.raises(DataError, match="2 ragged sentence") as refused:
        read_for_task(path, Columns())
    assert "row 1: line 2 has 1 column, and the first line has 2" in refused.value.problem
    assert "Task: token-classification (a file of words and their tags" in capsys.readouterr().err


def test_a_file_that_is_ragged_for_long_is_read_on(tmp_path: Path) -> None:
    path = put(tmp_path, "a O\nb\n\n" * 1001 + "c O\n\n")
    table, task = read_for_task(path, Columns())
    assert (table.texts, task.name) == ([["c"]], "token-classification")
