"""Texts and pairs beyond the limit: windows, and what is left without a middle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt import BertTokenizer
from bertolt.data.long import HEAD, LongTexts, head_and_tail, most_stride, shared
from bertolt.data.parted import long_pairs, long_texts

CLS, SEP, LIMIT = 1, 2, 40


def row(first: int, count: int) -> list[int]:
    return [CLS, *range(first, first + count), SEP]


@given(count=st.integers(0, 300), limit=st.integers(8, 40), stride=st.integers(0, 25))
def test_windows_are_those_of_tokenizers(
    tiny_tokenizer: BertTokenizer, count: int, limit: int, stride: int
) -> None:
    stride = min(stride, most_stride(limit - 2))
    text = " ".join(["good", "bad", "film", "plot"][number % 4] for number in range(count))
    (ids,) = tiny_tokenizer.encode_ids([text])
    backend = tiny_tokenizer.backend_tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    backend.enable_truncation(limit, stride=stride)
    encoding = backend.encode(text)
    (ours,) = long_texts([ids], limit, LongTexts(how="window", stride=stride))
    windows = [list(window.ids) for window in ours.windows]
    assert windows == [each.ids for each in (encoding, *encoding.overflowing)]


def test_the_first_and_the_last_part_are_those_of_the_paper() -> None:
    kept = head_and_tail(range(2000), 510)
    assert kept == [*range(128), *range(2000 - 382, 2000)]
    (example,) = long_texts([row(10, 100)], LIMIT, LongTexts(how="head-tail"))
    first = round(38 * HEAD)
    ids = example.windows[0].ids
    assert ids == [CLS, *range(10, 10 + first), *range(110 - (38 - first), 110), SEP]
    assert (example.length, example.cut) == (102, (62,))


@pytest.mark.parametrize("turned", [False, True])
@given(short=st.integers(1, 30), long=st.integers(31, 200), stride=st.none() | st.integers(0, 30))
def test_each_window_of_a_pair_has_the_shorter_text(
    tiny_tokenizer: BertTokenizer, turned: bool, short: int, long: int, stride: int | None
) -> None:
    texts = [row(1000, short), row(2000, long)]
    first, second = texts[::-1] if turned else texts
    frame = tiny_tokenizer.pair_frame()
    how = LongTexts(how="window", stride=stride)
    (example,) = long_pairs([first], [second], frame, LIMIT, how)
    room = LIMIT - len(frame)
    lost = max(0, short - room // 2) if short + long > room else 0
    assert example.cut == ((0, lost) if turned else (lost, 0))
    assert example.length == len(frame) + short + long
    seen: list[int] = []
    for window in example.windows:
        assert len(window.ids) <= LIMIT
        assert window.segments is not None
        kept = [i for i in window.ids if 1000 <= i < 2000]
        assert kept == list(range(1000, 1000 + short - lost))
        assert {window.segments[window.ids.index(i)] for i in kept} == {int(turned)}
        part = [i for i in window.ids if i >= 2000]
        overlap = seen[-1] + 1 - part[0] if seen else 0
        assert 0 <= overlap <= (room // 4 if stride is None else stride)
        seen += part[overlap:]
    assert seen == list(range(2000, 2000 + long))


@pytest.mark.parametrize(
    ("other", "holds", "usual", "most"),
    [(0, 62, 7, 47), (10, 51, 6, 39), (40, 31, 3, 24)],
)
def test_windows_share_an_eighth_of_what_they_hold_of_the_text(
    tiny_tokenizer: BertTokenizer, other: int, holds: int, usual: int, most: int
) -> None:
    """In windows of 64 tokens, as the page has it; beside another text what that leaves."""

    def shared_by(stride: int | None) -> tuple[int, int]:
        how, text = LongTexts(how="window", stride=stride), row(2000, 300)
        if other:
            pair = [text], [row(1000, other)]
            (example,) = long_pairs(*pair, tiny_tokenizer.pair_frame(), 64, how)
        else:
            (example,) = long_texts([text], 64, how)
        first, second = ([i for i in w.ids if i >= 2000] for w in example.windows[:2])
        return len(first), first[-1] + 1 - second[0]

    assert shared_by(None) == (holds, usual)
    assert shared_by(62) == (holds, most)


def test_a_pair_without_its_middle_loses_as_much_as_one_that_is_cut(
    tiny_tokenizer: BertTokenizer,
) -> None:
    frame = tiny_tokenizer.pair_frame()
    pairs = [(row(1000, 60), row(2000, 10)), (row(1000, 60), row(2000, 70)), (row(1000, 3),) * 2]
    firsts, seconds = zip(*pairs, strict=True)
    examples = list(long_pairs(firsts, seconds, frame, LIMIT, LongTexts(how="head-tail")))
    assert [tuple(each.cut) for each in examples] == [(33, 0), (42, 51), (0, 0)]
    assert {1000, 1059, 2000, 2009} <= set(examples[0].windows[0].ids)


def test_every_window_brings_new_tokens() -> None:
    for room in range(1, 50):
        assert room - shared(room, 10**6, 0) >= max(1, room // 4)
