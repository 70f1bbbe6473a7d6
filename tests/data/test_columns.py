"""Which columns are found by themselves, and when it asks instead."""

from pathlib import Path

import pytest

from bertolt.base.errors import DataError, UsageError
from bertolt.data.load import read_table


def put(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "a.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("id,text,label", "text", "label"),
        ("id,Review,SENTIMENT", "Review", "SENTIMENT"),
        ("id, sentence , class ", "sentence", "class"),
        ("id,title,text,rating,label", "text", "label"),
        ("编号,评论,标签", "评论", "标签"),
    ],
)
def test_columns_are_found_by_their_names(
    tmp_path: Path, header: str, text: str, label: str
) -> None:
    row = ",".join(name.strip() + "!" for name in header.split(","))
    table = read_table(put(tmp_path, header, row))
    assert (table.text_column, table.label_column) == (text, label)
    assert (table.texts, table.labels) == ([text + "!"], [label + "!"])
    assert set(table.found) == {"text", "label"}
    assert all("by its name" in reason for reason in table.found.values())


def test_a_plain_name_that_wins_says_over_which(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, "text,rating,label", "fine,3,pos"))
    assert table.found["label"] == "by its name, before 'rating'"


def test_named_columns_are_not_found_but_taken(tmp_path: Path) -> None:
    path = put(tmp_path, "text,label,words,mark", "a,b,c,d")
    table = read_table(path, text="words", label="mark")
    assert (table.texts, table.labels, table.found) == (["c"], ["d"], {})


@pytest.mark.parametrize(
    ("header", "flag", "names"),
    [
        ("review,comment,label", "--text", "'review', 'comment'"),
        ("text,Text,label", "--text", "'text', 'Text'"),
        ("text,stars,sentiment", "--label", "'stars', 'sentiment'"),
    ],
)
def test_several_that_could_be_meant(tmp_path: Path, header: str, flag: str, names: str) -> None:
    path = put(tmp_path, header, "a,b,c")
    with pytest.raises(DataError, match="several columns could be") as caught:
        read_table(path)
    assert names in caught.value.problem
    assert flag in caught.value.fix


def test_none_that_could_be_meant_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="surely the text") as caught:
        read_table(put(tmp_path, "id,words,mark", "a,b,c"))
    assert "'id', 'words', 'mark'" in caught.value.problem
    assert "--text" in caught.value.fix
    with pytest.raises(DataError, match="surely the label"):
        read_table(put(tmp_path, "id,text,mark", "a,b,c"))


def test_a_file_without_a_header_shows_its_first_row_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_table(put(tmp_path, f"{'a long sentence ' * 20},1", "another,0"))
    assert len(caught.value.problem) < 120
    assert "line of column names" in caught.value.fix


@pytest.mark.parametrize("flag", ["text", "label"])
def test_a_named_column_that_is_not_there(tmp_path: Path, flag: str) -> None:
    path = put(tmp_path, "words,mark", "a,b")
    with pytest.raises(DataError, match="no column 'wrods'; there are 'words', 'mark'") as caught:
        read_table(path, **{flag: "wrods"})
    assert caught.value.fix == f"--{flag} 'words', perhaps"
    assert caught.value.place == str(path)


def test_one_column_cannot_be_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both the text and the label"):
        read_table(put(tmp_path, "text,label", "a,b"), text="text", label="text")


ROWS = [f"the words of row {number},{'ab'[number % 2]}" for number in range(20)]


def test_the_other_of_two_columns_is_taken_if_it_fits(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, "text,mark", *ROWS))
    assert table.label_column == "mark"
    assert table.found["label"] == "the other of two columns, 2 different values in 20 rows"
    table = read_table(put(tmp_path, "utterances,label", *ROWS))
    assert table.text_column == "utterances"
    assert "20 different values" in table.found["text"]
    assert read_table(put(tmp_path, "words,mark", *ROWS), text="words").label_column == "mark"


def test_the_other_of_two_columns_is_not_taken_if_it_does_not_fit(tmp_path: Path) -> None:
    keys = [f"some words,{number}" for number in range(20)]
    with pytest.raises(DataError, match="surely the label"):
        read_table(put(tmp_path, "text,key", *keys))
    with pytest.raises(DataError, match="surely the text"):
        read_table(put(tmp_path, "key,label", *[f"{number},pos" for number in range(20)]))
    with pytest.raises(DataError, match="surely the text"):
        read_table(put(tmp_path, "words,mark", *ROWS))


def test_without_need_of_labels_none_are_read(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, "text,label", "fine,pos", "poor,"), need_label=False)
    assert (table.texts, table.labels, table.label_column) == (["fine", "poor"], [], None)
    assert table.data.column_names == ["row", "text"]
    assert "label" not in table.found


def test_without_need_of_labels_a_named_one_is_read(tmp_path: Path) -> None:
    path = put(tmp_path, "text,label", "fine,pos", "poor,")
    table = read_table(path, need_label=False, label="label")
    assert (table.labels, table.dropped) == (["pos"], {"empty label": [2]})


def test_an_only_column_is_the_text(tmp_path: Path) -> None:
    path = put(tmp_path, "anything", "fine", "poor")
    table = read_table(path, need_label=False)
    assert (table.texts, table.found) == (["fine", "poor"], {"text": "the only column"})
    with pytest.raises(DataError, match="surely the label"):
        read_table(path)


# Pairs, and labels in several columns


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("Premise", "hypothesis"),
        ("question", "sentence"),
        ("text", "text_pair"),
    ],
)
def test_pairs_are_found_by_their_usual_names(tmp_path: Path, first: str, second: str) -> None:
    table = read_table(put(tmp_path, f"id,{first},{second},label", "1,a b,c d,x"))
    assert table.roles == {"text": [first], "text_pair": [second], "label": ["label"]}
    assert list(table.examples()) == [{"row": 1, "text": "a b", "text_pair": "c d", "label": "x"}]
    assert table.found["text_pair"] == "by their names, a pair"


def test_one_of_a_pair_that_is_named_is_a_text_alone(tmp_path: Path) -> None:
    path = put(tmp_path, "premise,hypothesis,label", "a b,c d,x")
    assert "text_pair" not in read_table(path, text="premise").roles
    both = read_table(path, text="hypothesis", text_pair="premise")
    assert (both.text_column, both.roles["text_pair"]) == ("hypothesis", ["premise"])


def test_a_row_without_its_second_text_is_left_out(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, "text_a,text_b,label", "a,b,x", "a,,x"))
    assert table.dropped == {"empty second text": [2]}


def test_no_column_plays_two_roles(tmp_path: Path) -> None:
    path = put(tmp_path, "text,label", "a,b")
    with pytest.raises(UsageError, match="both the text and the second text"):
        read_table(path, text="text", text_pair="text")


def test_a_column_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, 'text,"a,b"', "x,1"), label="a,b")
    assert (table.roles["label"], table.labels) == (["a,b"], ["1"])


def test_own_columns_are_kept_beside(tmp_path: Path) -> None:
    path = put(tmp_path, "id,text,when", "A-7,fine,2026", ",poor,")
    kept = [row["kept"] for row in read_table(path, need_label=False, keep=["id"]).examples()]
    assert kept == ['{"id": "A-7"}', '{"id": ""}']
    everything = next(read_table(path, need_label=False, keep=["all"]).examples())
    assert everything["kept"] == '{"id": "A-7", "when": "2026"}'
    with pytest.raises(DataError, match="no column 'day' to keep"):
        read_table(path, need_label=False, keep=["day"])
