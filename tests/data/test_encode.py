"""Texts to ids, and the account of what the limit cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt import BertTokenizer
from bertolt.base.errors import UsageError
from bertolt.data import encode
from bertolt.data.encode import (
    EncodedExample,
    EncodedTexts,
    TruncationCount,
    Window,
    encode_examples,
    encode_texts,
    gathered,
)

WORDS = ["good", "film", "zzz", "the", "Cat", ".", "…", "好", ""]
texts_of_words = st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=12)


def rows_of(encoded: EncodedTexts) -> list[list[int]]:
    return [row["input_ids"].tolist() for row in encoded]


@given(texts=texts_of_words, max_length=st.integers(3, 40))
def test_rows_and_account_equal_a_naive_count(
    tiny_tokenizer: BertTokenizer, texts: list[str], max_length: int
) -> None:
    whole = [tiny_tokenizer(text)["input_ids"] for text in texts]
    encoded = encode_texts(tiny_tokenizer, texts, max_length)
    kept = [
        ids if len(ids) <= max_length else [*ids[: max_length - 1], tiny_tokenizer.sep_token_id]
        for ids in whole
    ]
    assert rows_of(encoded) == kept
    assert encoded.lengths.tolist() == [len(ids) for ids in kept]
    assert encoded.full_lengths.tolist() == [len(ids) for ids in whole]
    account = encoded.account
    assert account.max_length == max_length
    assert account.texts == len(encoded) == len(texts)
    assert account.tokens == sum(map(len, whole))
    assert account.texts_cut == sum(ids != cut for ids, cut in zip(whole, kept, strict=True))
    assert account.tokens_cut == sum(map(len, whole)) - sum(map(len, kept))


@pytest.mark.filterwarnings("ignore:.*were longer than")
@given(texts=texts_of_words, max_length=st.integers(3, 20))
def test_cuts_as_a_call_of_the_tokenizer_cuts(
    tiny_tokenizer: BertTokenizer, texts: list[str], max_length: int
) -> None:
    encoded = encode_texts(tiny_tokenizer, texts, max_length)
    usual = [
        tiny_tokenizer(text, truncation=True, max_length=max_length)["input_ids"] for text in texts
    ]
    assert rows_of(encoded) == usual


def test_a_cut_text_keeps_its_two_ends(tiny_tokenizer: BertTokenizer) -> None:
    (ids,) = rows_of(encode_texts(tiny_tokenizer, ["the good film was very very good"], 4))
    assert tiny_tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "the", "good", "[SEP]"]


def test_the_account_in_words(tiny_tokenizer: BertTokenizer) -> None:
    texts = ["a film"] * 1500 + ["a very good film"] * 2
    assert str(encode_texts(tiny_tokenizer, texts, 6).account) == (
        "none of 1,502 texts is longer than 6 tokens"
    )
    assert str(encode_texts(tiny_tokenizer, texts, 5).account) == (
        "2 of 1,502 texts are longer than 5 tokens; 2 of 6,012 tokens are cut"
    )


def test_one_text_or_row_within_the_limit_is_told_in_the_singular() -> None:
    one = encode.TruncationCount(max_length=6, texts=1, tokens=4, texts_cut=0, tokens_cut=0)
    assert str(one) == "none of 1 text is longer than 6 tokens"
    several = replace(one, several_documents=True)
    assert str(several) == "none of the texts of 1 row is longer than 6 tokens"


def test_texts_are_read_once_in_chunks_and_progress_is_told(tiny_tokenizer: BertTokenizer) -> None:
    handed_out = 0
    seen: list[tuple[int, int]] = []

    def source() -> Iterator[str]:
        nonlocal handed_out
        for _ in range(5000):
            handed_out += 1
            yield "a film"

    encoded = encode_texts(
        tiny_tokenizer, source(), 9, progress=lambda done: seen.append((done, handed_out))
    )
    assert len(encoded) == handed_out == 5000
    assert len(seen) > 1
    assert seen[-1] == (5000, 5000)
    assert all(done == read for done, read in seen)


def test_no_texts_at_all(tiny_tokenizer: BertTokenizer) -> None:
    encoded = encode_texts(tiny_tokenizer, [], 9)
    assert len(encoded) == 0
    assert encoded.lengths.tolist() == []
    assert list(encoded) == []
    assert encoded.account.tokens == 0


def test_rows_carry_their_labels_and_count_from_both_ends(tiny_tokenizer: BertTokenizer) -> None:
    labels = np.array([2, 0, 1])
    encoded = encode_texts(tiny_tokenizer, ["a", "a film", "good"], 9, labels)
    assert [int(row["labels"]) for row in encoded] == [2, 0, 1]
    assert encoded[-1]["labels"] == 1
    assert encoded[-1]["input_ids"].tolist() == encoded[2]["input_ids"].tolist() != []
    for index in (3, -4):
        with pytest.raises(IndexError):
            encoded[index]
    assert "labels" not in encode_texts(tiny_tokenizer, ["a"], 9)[0]


def test_joint_windows_are_one_row() -> None:
    """The choices of an example stand in one row, with one label, and have one length."""

    def encode(examples: list[list[int]]) -> Iterator[EncodedExample]:
        for sizes in examples:
            windows = [Window(range(size), [size % 2] * size) for size in sizes]
            yield EncodedExample(windows, sum(sizes), (sum(sizes) > 9,))

    sizes = [[3, 5], [4], [3, 3, 6]]
    apart = encode_examples(encode, sizes, 9)
    labels = np.array([1, 0, 2])
    joint = replace(apart, joint=True, labels=labels)
    assert (len(apart), len(joint), joint.examples) == (6, 3, 3)
    assert apart.lengths.tolist() == [3, 5, 4, 3, 3, 6]
    assert joint.lengths.tolist() == [8, 4, 12]
    assert joint.firsts.tolist() == apart.firsts.tolist() == [0, 2, 3, 6]
    assert joint.windows.tolist() == [2, 1, 3]
    for index, row in enumerate(joint):
        assert [ids.tolist() for ids in row["input_ids"]] == [list(range(n)) for n in sizes[index]]
        assert [len(each) for each in row["token_type_ids"]] == sizes[index]
        assert row["labels"] == labels[index]
    assert joint[-1]["labels"] == 2
    with pytest.raises(IndexError):
        joint[3]
    assert joint.windows_of([2, 0]) == [3, 4, 5, 0, 1]
    assert apart.windows_of([2, 0]) == [2, 0]
    assert (joint.account.texts_parted, joint.account.texts_cut) == (0, 1)
    some = joint.at(np.array([2, 0]))
    assert [len(row["input_ids"]) for row in some] == [3, 2]
    assert [ids.tolist() for ids in some[0]["input_ids"]] == [[*range(n)] for n in sizes[2]]


def test_labels_must_be_as_many_as_the_texts(tiny_tokenizer: BertTokenizer) -> None:
    with pytest.raises(UsageError, match="2 texts and 3 labels"):
        encode_texts(tiny_tokenizer, ["a", "b"], 9, np.zeros(3))


@pytest.mark.parametrize("max_length", [-1, 0, 2])
def test_a_limit_without_room_for_a_token_is_refused(
    tiny_tokenizer: BertTokenizer, max_length: int
) -> None:
    with pytest.raises(UsageError, match=f"length of {max_length} leaves no room"):
        encode_texts(tiny_tokenizer, ["a"], max_length)


def test_long_texts_are_encoded_in_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the memory would grow with how long texts are."""
    monkeypatch.setattr(encode, "_CHARACTERS", 10)
    sizes = []

    def count(texts: list[str]) -> Iterator[EncodedExample]:
        sizes.append(len(texts))
        yield from (EncodedExample([Window([1, 2, 3])], 3) for _ in texts)

    rows = encode_examples(count, ["a" * 6, "a" * 6, "a" * 30, *"abc"], 3)
    assert sizes == [2, 1, 3]
    assert rows.examples == 6


def test_examples_that_are_encoded_are_gathered_as_they_would_be_encoded() -> None:
    examples = [
        EncodedExample([Window([2, 7, 3], [0, 1, 1]), Window([2, 3], [0, 0])], 9, (4,)),
        EncodedExample([Window([2, 8, 9, 3], [0, 0, 0, 0])], 4, (0,)),
    ]
    one, other = gathered(examples, 8), encode_examples(iter, examples, 8)
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(one).items():
        assert np.array_equal(value, vars(other)[name]), name
    assert gathered([], 8).examples == 0


def test_examples_of_one_window_are_not_parted_and_nothing_is_looked_up_for_that() -> None:
    rows = gathered([EncodedExample([Window([1, 2])], 2, (0,))] * 3, 2)
    assert rows.parted.tolist() == [False] * 3
    assert not {"firsts", "document_firsts", "first_documents"} & vars(rows).keys()


def test_an_example_without_documents_is_one_beside_others() -> None:
    """Or each window behind it would be of another example's document."""
    window = Window([1, 2])
    plain = EncodedExample([window], 2, (0,))
    parted = EncodedExample([window] * 3, 6, (0,), documents=(2, 1))
    rows = gathered([plain, parted, plain], 2)
    assert rows.document is not None
    assert rows.document.tolist() == [0, 0, 0, 1, 0]


def test_what_is_read_in_windows_is_counted_with_what_each_of_them_lost() -> None:
    """Rows whose repeated part was cut are among those in windows, and no other longer ones."""
    counts = {"texts": 40, "tokens": 900, "texts_cut": 26, "tokens_cut": 90, "texts_parted": 35}
    rows = TruncationCount(
        **counts, max_length=32, windows=572, several_documents=True, parts_cut=26
    )
    assert str(rows) == (
        "35 of 40 rows have texts that are longer than 32 tokens and read in several windows, "
        "572 in all; of 26 rows a part that every window repeats is cut; 90 of 900 tokens are cut"
    )
    assert "parts_cut" not in rows.to_dict()
    assert rows.to_dict()["texts_parted"] == 35
    ids = np.zeros(6, np.int32)
    pairs = EncodedTexts(
        ids=ids,
        offsets=np.arange(0, 7, 2),
        full_lengths=np.array([9, 2]),
        max_length=2,
        example=np.array([0, 0, 1]),
        cut=np.array([[1, 0], [0, 0]]),
    )
    assert (pairs.account.parts_cut, pairs.account.texts_parted) == (1, 1)
    assert str(pairs.account).startswith("1 of 2 texts is longer than 2 tokens and read in several")
