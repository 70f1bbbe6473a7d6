"""Sentences: where they end, where they do not, and that no character is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.corpus.sentences import split_sentences

# "|" is where a sentence ends and another begins.
CASES = [
    # Chinese
    "今天天气很好。|我们去公园吧！|好不好？|好。",
    "他说：“你好。”|然后走了。",
    "（他笑了。）|她也笑了。",
    "「行吗？」|「行！」",
    "真的吗？！|太好了！！！|走吧",
    "我……|不知道",
    "价格是3.14元。|便宜",
    "版本2.0发布了。|请看example.com的说明。",
    # English
    "It rains. |We stay. |Why not? |Because!",
    'He said "Stop." |Then he left.',
    "(He laughed.) |She did too.",
    '"Why?" |"So."',
    "Mr. Smith met Dr. Jones at No. 5 on Jan. 3. |They talked.",
    "J. R. Smith wrote it. |It is long.",
    "It costs 3.14 or 1.000.000 dollars. |See example.com or v2.0.1 for more.",
    "Some fruit, e.g. Apples, i.e. Food. |Yes.",
    "Well... he went on. |Really... |Yes.",
    "The U.S.A is large. |Is it?",
    "What?! |No.",
    "He lives on plan 9. |Then he moved.",
    "It was I. |She knew.",
    # both, and lines
    "我们用 BERT. |它很好。|It works.",
    "first line\n|second line\n|\n第三行",
    "one end\r\n|another",
]


def expected(case: str) -> list[str]:
    return [part.strip() for part in case.split("|") if part.strip()]


@pytest.mark.parametrize("case", CASES)
def test_sentences_end_where_they_should(case: str) -> None:
    assert split_sentences(case.replace("|", "")) == expected(case)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("他来了.我走了", ["他来了.", "我走了"]),
        ("真好!我喜欢", ["真好!", "我喜欢"]),
        ("我…不知道", ["我…不知道"]),
        ("no capital follows. so nothing ends", ["no capital follows. so nothing ends"]),
        ("", []),
        (" \n\t\n", []),
        ("。", ["。"]),
        ("...", ["..."]),
        ("a" * 100_000, ["a" * 100_000]),
        ("one\rtwo\r\nthree\nfour", ["one", "two", "three", "four"]),
    ],
)
def test_single_cases(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("separator", "\v\f\x1c\x1d\x1e\x85\u2028\u2029")
def test_separators_that_end_no_line_end_no_sentence(separator: str) -> None:
    text = f"it goes{separator}on. and on{separator}"
    assert split_sentences(text) == [text.strip()]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="ab AB1。！？.!?…”’\"'()「」“\n\r 中文,，Mr", max_size=40))
def test_no_character_is_lost_and_none_is_doubled(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() and sentence for sentence in sentences)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["今天好。", "It is. ", "真的吗？", "Mr. X came! "]), max_size=8))
def test_a_sentence_that_is_split_off_stays_whole(parts: list[str]) -> None:
    once = split_sentences("".join(parts))
    assert [again for sentence in once for again in split_sentences(sentence)] == once
