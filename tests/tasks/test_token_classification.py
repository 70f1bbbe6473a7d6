"""Tags as spans of characters: words, units, windows, schemes, and scores as seqeval has them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from bertolt.base.errors import DataError
from bertolt.data.long import LongTexts
from bertolt.data.table_file import is_blank
from bertolt.models.config import BertConfig
from bertolt.tasks.base import Output, Reading
from bertolt.tasks.cautions import cautions_of
from bertolt.tasks.rows import Columns, encode_rows, read_for_task
from bertolt.tasks.spans import Mark, marks_of, unit_labels
from bertolt.tasks.token_classification import TokenClassification
from bertolt.tasks.windows import first_pieces, windows_of
from bertolt.tasks.words import join_words
from bertolt.tokenization.batch_encoding import EncodedWords

KINDS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def put(folder: Path, content: str, name: str = "a.conll") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def learned(path: Path, **columns: Any) -> TokenClassification:
    table, kind = read_for_task(path, Columns(**columns), task="token-classification")
    task = kind.infer(table, np.arange(len(table)), Reading())
    assert isinstance(task, TokenClassification)
    task.check(table)
    return task


@pytest.mark.parametrize(("tag", "near"), [("B-per", "'PER'"), ("B-PRE", "'PER'"), ("B-X", "")])
def test_a_kind_that_training_never_had_is_told_with_the_one_that_is_like_it(
    tmp_path: Path, tag: str, near: str
) -> None:
    task = learned(put(tmp_path, "Ann B-PER\nin O\nOslo B-LOC\n\nAnn B-PER\n"))
    held_out = put(tmp_path, f"Ann B-PER\n\nBob {tag}\n", "later.conll")
    table, _ = read_for_task(held_out, Columns(), task="token-classification")
    with pytest.raises(DataError, match=f"nothing of the kind '{tag[2:]}'") as refused:
        task.check(table)
    assert "later.conll" in refused.value.place
    meant = f"perhaps {near} is meant; " if near else ""
    assert refused.value.fix.startswith(f"{meant}mend the tags")


# ---- words and text ----


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=8))
def test_joined_words_stand_where_it_is_said(words: list[str]) -> None:
    text, places = join_words(words)
    assert [text[start:end] for start, end in places] == words


def test_chinese_words_are_joined_without_spaces() -> None:
    assert join_words(["江", "泽民", "WTO", "谈判", "。"])[0] == "江泽民 WTO 谈判。"


def test_a_mark_begins_at_the_first_unit_that_it_touches() -> None:
    units = [(0, 2), (2, 3), (4, 6), (7, 9)]
    marks = [Mark(1, 5, "A"), Mark(7, 8, "B")]
    assert unit_labels(units, marks, "BIO") == ["B-A", "I-A", "I-A", "B-B"]
    assert unit_labels(units, marks, "plain") == ["A", "A", "A", "B"]
    assert unit_labels([(5, 6)], [Mark(0, 5, "A"), Mark(6, 9, "A")], "BIO") == ["O"]


@given(st.integers(0, 200), st.integers(3, 40), st.lists(st.integers(1, 4), max_size=80))
def test_every_unit_is_answered_once_with_context(
    pieces: int, limit: int, sizes: list[int]
) -> None:
    words = [unit for unit, size in enumerate(sizes) for _ in range(size)][:pieces]
    offsets = [(place, place + 1) for place in range(len(words))]
    places = first_pieces(EncodedWords(list(range(10, 10 + len(words))), offsets, words))
    encoded = windows_of(list(range(10, 10 + len(words))), places, 1, 2, limit)
    assert encoded.length == len(words) + 2
    answered = []
    for window in encoded.windows:
        assert window.places is not None
        assert len(window.ids) == len(window.places) <= limit
        assert (window.ids[0], window.ids[-1]) == (1, 2)
        answered += [place for place in window.places if place[0] >= 0]
    firsts = [i for i, unit in enumerate(words) if i == 0 or unit != words[i - 1]]
    assert [start for start, _ in answered] == firsts
    assert [end for _, end in answered] == [*firsts[1:], len(words)][: len(firsts)]


def test_a_word_in_the_middle_of_a_long_text_sees_both_sides() -> None:
    places = [(i, i + 1) for i in range(100)]
    for window in windows_of(list(range(100)), places, 1, 2, 42).windows[1:-1]:
        assert window.places is not None
        own = [i for i, place in enumerate(window.places) if place[0] >= 0]
        assert own[0] - 1 >= 10
        assert len(window.places) - 2 - own[-1] >= 10


@pytest.mark.parametrize("stride", [0, 1, 4, 7, 30])
def test_windows_repeat_the_tokens_that_were_asked_for(stride: int) -> None:
    places = [(i, i + 1) for i in range(100)]
    long = LongTexts(how="window", stride=stride)
    windows = windows_of(list(range(100)), places, 1, 2, 42, long).windows
    pairs = list(itertools.pairwise(windows))
    assert pairs
    assert {len({*one.ids[1:-1]} & {*other.ids[1:-1]}) for one, other in pairs} == {stride}
    answered = [place for each in windows for place in each.places or () if place[0] >= 0]
    assert answered == places


# ---- schemes ----

SCHEMES = {
    "BIO": ["B-PER", "I-PER", "O", "B-LOC"],
    "IOB1": ["I-PER", "I-PER", "O", "I-LOC"],
    "BIOES": ["B-PER", "E-PER", "O", "S-LOC"],
}


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_every_scheme_gives_the_same_labels_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    lines = "".join(f"{word} {tag}\n" for word, tag in zip("abcd", SCHEMES[scheme], strict=True))
    task = learned(put(tmp_path, f"{lines}\n{lines}"))
    assert task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert f"Tags: {scheme}\n" in capsys.readouterr().err
    example = {"text": list("abcd"), "label": SCHEMES[scheme]}
    assert marks_of(example, task.scheme) == [Mark(0, 3, "PER"), Mark(6, 7, "LOC")]


def test_plain_tags_are_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoken = learned(put(tmp_path, "a NN\nb NN\nc VB\n"))
    assert (spoken.labels, spoken.scheme) == (("NN", "VB"), "words")
    assert "plain tags" in capsys.readouterr().err
    example = {"text": ["a", "b", "c"], "label": ["NN", "NN", "VB"]}
    assert [mark.kind for mark in marks_of(example, "words")] == ["NN", "NN", "VB"]
    named = learned(put(tmp_path, "a PER\nb PER\nc O\n"))
    assert (named.labels, named.scheme) == (("O", "PER"), "plain")
    example = {"text": ["a", "b", "c"], "label": ["PER", "PER", "O"]}
    assert marks_of(example, "plain") == [Mark(0, 3, "PER")]


def test_a_break_of_the_scheme_is_told_with_row_and_word(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    lines = "a B-X\nb I-X\nc O\n\n" * 3 + "d O\ne I-X\nf B-X\n"
    (caution,) = cautioned(put(tmp_path, lines), tiny_tokenizer)
    assert caution["claim"] == "a.conll: 1 tag breaks the scheme BIO"
    assert caution["detail"] == "Each begins a span: row 4 (line 13), word 2."


def test_tags_with_and_without_prefixes_are_refused_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        learned(put(tmp_path, "a B-X\nb PER\n"))
    assert "a.conll, column '2'" in refused.value.place
    assert refused.value.fix


def test_any_column_may_be_the_tag(tmp_path: Path) -> None:
    path = put(tmp_path, "a NN O\nb VB B-X\n")
    assert learned(path, label="2").labels == ("NN", "VB")
    assert learned(path).labels == ("O", "B-X", "I-X")


def test_a_text_file_is_read_where_the_task_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a B-X\nb O\n", "a.txt")
    assert learned(path).labels == ("O", "B-X", "I-X")
    with pytest.raises(DataError) as refused:
        read_for_task(path, Columns())
    assert refused.value.fix.startswith(
        "say that it is one: --task token-classification; else give a"
    )


@pytest.mark.parametrize(
    "labels",
    [("O", "B", "I"), ("B", "I", "O"), ("O", "I"), ("B", "M", "E", "S"), ("O", "B", "I", "E", "S")],
)
def test_prefixes_alone_are_one_kind_without_a_name(labels: tuple[str, ...]) -> None:
    task = TokenClassification.restore(BertConfig(id2label=dict(enumerate(labels))), {})
    assert task.scheme == "BIO"
    tags = [*labels, labels[0], labels[-1]]
    words = [f"w{number}" for number in range(len(tags))]
    spots = np.array(join_words(words)[1], dtype=np.int32)
    outputs = np.eye(len(labels))[[labels.index(tag) for tag in tags]]
    example = {"text": words, "label": tags}
    answer = task.decode(Output([outputs], [spots]), example)
    spans = [(span["start"], span["end"], span["label"]) for span in answer["spans"]]
    ends = [("_", *entity[1:]) for entity in get_entities(tags)]
    assert spans == [(spots[first][0], spots[last][1], kind) for kind, first, last in ends]
    scorer = task.scorer()
    assert scorer.add(answer, example) == 0.0
    assert list(task.tagged(answer, example)) == list(zip(words, tags, strict=True))


def test_a_word_that_the_tokenizer_drops_is_outside_whatever_the_order_of_the_labels() -> None:
    names = dict(enumerate(("B-X", "I-X", "O")))
    task = TokenClassification.restore(BertConfig(id2label=names), {})
    answer = {"spans": [], "words": [[0, 4, "B-X"]]}
    tagged = list(task.tagged(answer, {"text": ["good", "\u200d"]}))
    assert tagged == [("good", "B-X"), ("\u200d", "O")]


def test_where_each_word_has_a_tag_it_is_learned_from_the_unit_that_answers(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    """An inside of a name is learned, as a plain text asks for it; that of a part of speech not."""
    whole = {}
    for tags in (["NN", "VB"], ["B-X", "O"]):
        path = put(tmp_path, f"dull-film {tags[0]}\nwas {tags[1]}\n")
        table, _ = read_for_task(path, Columns(), task="token-classification")
        task, everything = learned(path), np.arange(1)
        rows = encode_rows(task, table, everything, tiny_tokenizer, 16)[0].encoded
        told = [None if code < 0 else task.labels[code] for code in rows.labels.tolist()]
        whole[tags[0]] = told[1:-1]

    assert whole["NN"] == ["NN", None, None, "VB"]
    assert whole["B-X"] == ["B-X", "I-X", "I-X", "O"]


def test_letters_among_other_tags_are_plain() -> None:
    task = TokenClassification.restore(BertConfig(id2label={0: "B", 1: "NN", 2: "O"}), {})
    assert (task.labels, task.scheme) == (("B", "NN", "O"), "plain")


# ---- spans that no answer has ----


def cautioned(path: Path, tokenizer: Any) -> list[dict[str, str]]:
    table, kind = read_for_task(path, Columns())
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    rows, _ = encode_rows(task, table, everything, tokenizer, 12)
    return cautions_of(task, {"Training": rows})


def marked(folder: Path, *rows: tuple[str, list[tuple[int, int]]]) -> Path:
    lines = [
        {"text": text, "spans": [{"start": a, "end": b, "label": "X"} for a, b in spans]}
        for text, spans in rows
    ]
    return put(folder, "".join(json.dumps(line) + "\n" for line in lines), "marked.jsonl")


def test_spans_whose_ends_lie_inside_a_unit_are_counted_and_named(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    path = marked(
        tmp_path,
        ("a good film, very good", [(2, 6), (7, 11)]),
        ("a good film", [(3, 6)]),
        ("the plot was not good" * 3, [(0, 3), (4, 7), (9, 14)]),
        ("bad film", [(0, 8)]),
        ("bad plot", [(0, 2), (4, 8)]),
    )
    (caution,) = cautioned(path, tiny_tokenizer)
    assert caution["claim"] == "Training: 4 spans cannot be answered exactly"
    assert "row 2, 'ood' from 3 to 6; row 3, 'plo' from 4 to 7" in caution["detail"]
    assert caution["detail"].count("row ") == 3


@given(st.data())
def test_what_no_caution_names_is_answered_exactly(
    tiny_tokenizer: Any, tmp_path_factory: Any, data: st.DataObject
) -> None:
    """Without a caution perfect outputs are perfect answers, and with one they are not."""
    text = data.draw(
        st.text("ab ,好\u200b", min_size=1, max_size=12).filter(lambda text: not is_blank(text))
    )
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    path = marked(tmp_path_factory.mktemp("law"), (text, [(start, end)]), ("good", [(0, 4)]))
    table, kind = read_for_task(path, Columns())
    task, everything = kind.infer(table, np.arange(2), Reading()), np.arange(2)
    rows, _ = encode_rows(task, table, everything, tiny_tokenizer, 160)
    labels = np.asarray(rows.encoded.labels)
    outputs = np.eye(3)[np.maximum(labels, 0)]
    first = slice(0, rows.encoded.offsets[1])
    example = rows.examples([0])[0]
    answer = task.decode(Output([outputs[first]], [rows.encoded.place_of(0)]), example)
    exact = [(s["start"], s["end"]) for s in answer["spans"]] == [(start, end)]
    assert exact == (not task.cautions(table, everything, rows.encoded))


def test_words_of_a_list_are_always_answered_exactly(tmp_path: Path, tiny_tokenizer: Any) -> None:
    rows = [{"tokens": ["can't", "江泽", "a-b"], "tags": ["B-X", "B-X", "I-X"]}]
    path = put(tmp_path, json.dumps(rows[0]) + "\n", "a.jsonl")
    assert cautioned(path, tiny_tokenizer) == []


# ---- rows that cannot be ----


def test_rows_whose_words_and_spans_do_not_fit_are_counted(tmp_path: Path) -> None:
    rows = [
        {"tokens": ["a", "b"], "tags": ["B-X", "O"]},
        {"tokens": ["a", "b"], "tags": ["B-X"]},
        {"tokens": [], "tags": []},
    ]
    path = put(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "a.jsonl")
    table, _ = read_for_task(path, Columns())
    assert table.dropped == {"words and tags of different number": [2], "empty text": [3]}
    spans = [
        [{"start": 0, "end": 1, "label": "X"}],
        [{"start": 0, "end": 9, "label": "X"}],
        [{"start": 0, "end": 2, "label": "X"}, {"start": 1, "end": 3, "label": "Y"}],
    ]
    lines = [json.dumps({"text": "abc", "spans": each}) + "\n" for each in spans]
    table, kind = read_for_task(put(tmp_path, "".join(lines), "b.jsonl"), Columns())
    assert kind is TokenClassification
    assert table.dropped == {"span outside of its text": [2], "overlapping spans": [3]}


# ---- scores ----


@given(
    st.lists(st.lists(st.sampled_from(KINDS), min_size=1, max_size=9), min_size=1, max_size=6),
    st.data(),
)
def test_scores_are_those_of_seqeval(sentences: list[list[str]], data: st.DataObject) -> None:
    """The model's tags, right or broken, and the true ones, right or broken."""
    said = [
        data.draw(st.lists(st.sampled_from(KINDS), min_size=len(s), max_size=len(s)))
        for s in sentences
    ]
    task = TokenClassification(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    scorer = task.scorer()
    for true, guessed in zip(sentences, said, strict=True):
        words = [f"w{number}" for number in range(len(true))]
        example = {"text": words, "label": true}
        spots = join_words(words)[1]
        outputs = np.eye(5)[[task.labels.index(tag) for tag in guessed]]
        answer = task.decode(Output([outputs], [np.array(spots, dtype=np.int32)]), example)
        scorer.add(answer, example)
    values = scorer.values()
    for name, peer in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = peer(sentences, said, zero_division=0)
        assert (values[name] or 0.0) == pytest.approx(expected), name


# ---- labels of words ----


def test_words_are_answered_with_labels_that_words_had_and_units_with_all(tmp_path: Path) -> None:
    task = learned(put(tmp_path, "Rome B-LOC\n. O\n\nAda B-PER\nKing I-PER\n. O\n\n"))
    assert task.word_labels == ("O", "B-LOC", "B-PER", "I-PER")
    config = BertConfig(**task.config_changes())
    assert TokenClassification.restore(config, task.settings()) == task
    shares = np.full((1, 5), 0.1)
    shares[0, [task.labels.index("I-LOC"), task.labels.index("B-LOC")]] = 0.5, 0.2
    output = Output([shares], [np.array([[0, 4]], dtype=np.int32)])
    assert task.decode(output, {"text": ["Rome"]})["words"] == [[0, 4, "B-LOC"]]
    assert task.decode(output, {"text": "Rome"})["words"] == [[0, 4, "I-LOC"]]


def test_where_words_had_all_labels_the_contract_keeps_no_labels_of_words(tmp_path: Path) -> None:
    task = learned(put(tmp_path, "Ada B-PER\nKing I-PER\n. O\n\n"))
    assert (task.word_labels, task.settings()) == ((), {})
    with pytest.raises(ValueError, match="word_labels are"):
        TokenClassification.restore(BertConfig(**task.config_changes()), {"word_labels": ["B-LOC"]})
