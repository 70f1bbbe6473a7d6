"""Masking: its statistics, what is never touched, whole words, masks that stay, and the peer's."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from bertolt import BertTokenizer
from bertolt.base.errors import DataError, UsageError
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.data.masking import (
    DataCollatorForLanguageModeling,
    DataCollatorForWholeWordMask,
    fixed_draws,
    mask_tokens,
)

MASK = 4
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tiny_tokenizer: BertTokenizer) -> Rows:
    """60 rows of up to 40 random words, some of them of several pieces."""
    draw = np.random.default_rng(0)
    words = ["film", "story", "good", "xyz", "abcdefgh", "very", "qq", "."]
    texts = [" ".join(draw.choice(words, draw.integers(3, 40))) for _ in range(60)]
    return [dict(tiny_tokenizer(text)) for text in texts]


def flat(rows: Rows) -> torch.Tensor:
    return torch.tensor([token for row in rows for token in row["input_ids"]])


def packed(rows: Any, tokenizer: Any, **options: Any) -> PackedBatch:
    batch = DataCollatorForLanguageModeling(tokenizer, packed=True, **options)(rows)
    assert isinstance(batch, PackedBatch)
    return batch


def within(count: int, trials: int, share: float) -> bool:
    """Whether a binomial count is at most 5 standard deviations off: 1 run in 2 million is not."""
    return abs(count - trials * share) <= 5 * math.sqrt(trials * share * (1 - share))


# ---- the shares ----


@pytest.mark.parametrize("fixed", [False, True], ids=["drawn", "fixed"])
@pytest.mark.parametrize("shares", [(0.15, 0.8, 0.1), (0.4, 0.5, 0.5), (0.5, 0.0, 0.3)], ids=str)
def test_as_many_are_masked_replaced_and_kept_as_asked(
    shares: tuple[float, float, float], fixed: bool
) -> None:
    count, share, hide, swap = 400_000, *shares
    ids = torch.randint(10, 1000, (count,), generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    lengths = [100] * (count // 100)
    masked, labels = mask_tokens(
        ids,
        torch.zeros(count, dtype=torch.bool),
        mask_token_id=MASK,
        replacements=torch.arange(1000, 1100),
        probability=share,
        mask_replace_prob=hide,
        random_replace_prob=swap,
        draws=fixed_draws(ids, lengths, 3) if fixed else torch.rand(3, count, generator=generator),
    )
    chosen = labels != IGNORE_INDEX
    number = int(chosen.sum())
    assert within(number, count, share)
    assert within(int((masked == MASK).sum()), number, hide)
    random = masked.masked_select(masked >= 1000)
    assert within(len(random), number, swap)
    assert torch.equal(labels.masked_select(chosen), ids.masked_select(chosen))
    assert torch.equal(masked.masked_select(~chosen), ids.masked_select(~chosen))
    # What stays is as it was, and every replacement comes as often as the others.
    changed = masked != ids
    assert bool((changed <= chosen).all())
    assert within(int((chosen & ~changed).sum()), number, 1 - hide - swap)
    assert all(within(int(n), len(random), 0.01) for n in random.bincount(minlength=1100)[1000:])


def test_places_are_masked_alike_and_independently() -> None:
    """Of fixed draws: no place of a row is favoured, and neighbours do not go together."""
    ids = torch.randint(0, 30_000, (2000 * 50,), generator=torch.Generator().manual_seed(0))
    draws = fixed_draws(ids, [50] * 2000, 7)
    chosen = (draws[0] < 0.15).view(2000, 50)
    assert all(within(int(n), 2000, 0.15) for n in chosen.sum(0))
    both = (chosen[:, 1:] & chosen[:, :-1]).sum()
    assert within(int(both), 2000 * 49, 0.15**2)
    assert float(draws.min()) >= 0
    assert float(draws.max()) < 1
    correlation = torch.corrcoef(draws) - torch.eye(3)
    assert float(correlation.abs().max()) < 5 / math.sqrt(len(ids))


@given(data=st.data(), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_special_and_unknown_tokens_are_never_touched_and_all_ids_are_real(
    tiny_tokenizer: BertTokenizer, data: Any, share: float
) -> None:
    ids = st.lists(st.integers(0, len(tiny_tokenizer) - 1), min_size=1, max_size=20)
    made = data.draw(st.lists(ids, min_size=1, max_size=4))
    batch = packed(
        made, tiny_tokenizer, mlm_probability=share, mask_replace_prob=0.2, random_replace_prob=0.8
    )
    before, count = torch.tensor(list(itertools.chain(*made))), batch.num_tokens
    after, labels = batch.input_ids[:count], batch.labels[:count]
    special = torch.isin(before, torch.tensor(tiny_tokenizer.all_special_ids))
    assert torch.equal(after.masked_select(special), before.masked_select(special))
    assert (labels.masked_select(special) == IGNORE_INDEX).all()
    swapped = after.masked_select((after != before) & (after != MASK))
    assert not torch.isin(swapped, torch.tensor(tiny_tokenizer.all_special_ids)).any()
    assert set(swapped.tolist()) <= set(tiny_tokenizer.get_vocab().values())
    if share == 1.0:
        assert torch.equal(labels != IGNORE_INDEX, ~special)
    if share == 0.0:
        assert torch.equal(after, before)
        assert (batch.labels == IGNORE_INDEX).all()


def test_ids_that_the_vocabulary_skips_are_never_put_in() -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 10, "b": 20}
    tokenizer = BertTokenizer.from_vocab(vocabulary)
    batch = packed(
        [[10] * 500],
        tokenizer,
        mlm_probability=1.0,
        mask_replace_prob=0.0,
        random_replace_prob=1.0,
    )
    assert set(batch.input_ids[:500].tolist()) == {10, 20}


def test_a_special_tokens_mask_protects_further_tokens(
    tiny_tokenizer: BertTokenizer, rows: Rows
) -> None:
    spared = tiny_tokenizer.convert_tokens_to_ids("film")
    marked = [
        {**row, "special_tokens_mask": [int(i == spared) for i in row["input_ids"]]} for row in rows
    ]
    batch = packed(marked, tiny_tokenizer, mlm_probability=1.0)
    before = flat(rows)
    special = torch.isin(before, torch.tensor([*tiny_tokenizer.all_special_ids, spared]))
    assert torch.equal(batch.labels[: batch.num_tokens] != IGNORE_INDEX, ~special)


# ---- beside the peer ----


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "options",
    [
        {"mlm": False},
        {"mlm": False, "return_tensors": "np", "pad_to_multiple_of": 64},
        {"mlm_probability": 0.0},
        {"mlm_probability": 1.0, "mask_replace_prob": 1.0, "random_replace_prob": 0.0},
        {"mlm_probability": 1.0, "mask_replace_prob": 0.0, "random_replace_prob": 0.0},
        {"mlm_probability": 0.0, "pad_to_multiple_of": 8, "return_tensors": "np"},
    ],
    ids=str,
)
def test_the_batch_is_the_peers_where_nothing_is_left_to_chance(
    tiny_folder: Path, rows: Rows, side: str, options: dict[str, Any]
) -> None:
    ours = BertTokenizer.from_pretrained(tiny_folder, padding_side=side)
    peer = transformers.BertTokenizer.from_pretrained(tiny_folder)
    peer.padding_side = side
    theirs = transformers.DataCollatorForLanguageModeling(peer, **options)(copy.deepcopy(rows))
    batch = DataCollatorForLanguageModeling(ours, **options)(rows)
    assert set(batch) == set(theirs)
    for name, values in theirs.items():
        assert type(batch[name]) is type(values)
        assert batch[name].dtype == values.dtype
        np.testing.assert_array_equal(batch[name], values, err_msg=name)


def test_whole_words_are_the_peers_in_english(tiny_tokenizer: BertTokenizer) -> None:
    """The peer reads words off the offsets; on spaced words both must find the same ones."""
    peer = transformers.BertTokenizer.from_pretrained(tiny_tokenizer.name_or_path)
    text = "the abc film qxz is of very good story xy"
    row = peer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    one = np.array([row["offset_mapping"]]), np.array([row["special_tokens_mask"]])
    words, _ = transformers.DataCollatorForLanguageModeling._calc_word_ids_and_prob_mask(*one)
    found = chosen_together(tiny_tokenizer, {"input_ids": row["input_ids"]})
    assert found == [list(g) for g in by_word(words[0].tolist()) if words[0][g[0]] != -1]


# ---- whole words ----


def by_word(words: list[Any]) -> list[list[int]]:
    """Places of neighbours that have the same number."""
    places = itertools.groupby(range(len(words)), key=lambda place: words[place])
    return [list(group) for _, group in places]


def chosen_together(tokenizer: Any, row: dict[str, Any], runs: int = 200) -> list[list[int]]:
    """Places of one row that are always chosen together, found by masking it many times."""
    collate = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=0.5, whole_word_mask=True, packed=True
    )
    count = len(row["input_ids"])
    torch.manual_seed(0)
    chosen = [collate([row]).labels[:count] != IGNORE_INDEX for _ in range(runs)]
    histories = [tuple(column) for column in torch.stack(chosen).T.tolist()]
    return [group for group in by_word(histories) if any(histories[group[0]])]


@given(
    words=st.lists(st.text("abcxyz", min_size=1, max_size=6), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
def test_words_are_masked_whole_or_not_at_all(
    tiny_tokenizer: BertTokenizer, words: list[str], seed: int
) -> None:
    encoded = tiny_tokenizer([" ".join(words), " ".join(words[::-1])])
    made = [{"input_ids": ids} for ids in encoded["input_ids"]]
    batch = packed(made, tiny_tokenizer, whole_word_mask=True, mlm_probability=0.5, seed=seed)
    starts = batch.cu_seqlens.tolist()
    for row, (start, stop) in enumerate(itertools.pairwise(starts)):
        chosen = (batch.labels[start:stop] != IGNORE_INDEX).tolist()
        groups = by_word(encoded.word_ids(row))
        assert len(groups) == len(words) + 2
        assert all(len({chosen[place] for place in group}) == 1 for group in groups)
        assert not chosen[0]
        assert not chosen[-1]


@pytest.mark.parametrize("whole", [False, True])
def test_whole_words_keep_the_share(tiny_tokenizer: BertTokenizer, rows: Rows, whole: bool) -> None:
    """Words are chosen by the share, whatever their length: so the expected tokens are the same."""
    many = rows * 30
    torch.manual_seed(1)
    batch = packed(many, tiny_tokenizer, whole_word_mask=whole)
    tokens = int((~torch.isin(flat(many), torch.tensor([2, 3]))).sum())
    chosen = int((batch.labels != IGNORE_INDEX).sum())
    assert chosen / tokens == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("whole", [False, True])
def test_no_batch_is_left_with_nothing_to_learn(tiny_tokenizer: BertTokenizer, whole: bool) -> None:
    """The lowest draw may be that of a piece within a word, which a word does not go by."""
    row = tiny_tokenizer("abcxyz")["input_ids"]
    assert len(row) > 4
    torch.manual_seed(0)
    collate = DataCollatorForLanguageModeling(
        tiny_tokenizer, whole_word_mask=whole, packed=True, mlm_probability=1e-6
    )
    for _ in range(50):
        chosen = collate([row]).labels[: len(row)] != IGNORE_INDEX
        assert int(chosen.sum()) == (len(row) - 2 if whole else 1)


CHINESE = "商品和服务质量都不错"
SEGMENTED = ["商品", "和", "服务", "质量", "都", "不错"]


@pytest.fixture(scope="module")
def chinese() -> BertTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return BertTokenizer.from_vocab({t: i for i, t in enumerate([*special, *CHINESE])})


def test_chinese_words_come_from_a_segmenter(chinese: BertTokenizer) -> None:
    encoded = chinese(SEGMENTED, is_split_into_words=True)
    row = {**encoded, "word_ids": encoded.word_ids()}
    assert chosen_together(chinese, row) == [[1, 2], [3], [4, 5], [6, 7], [8], [9, 10]]
    # Without words every character is one.
    single = chosen_together(chinese, dict(chinese(CHINESE)))
    assert single == [[place] for place in range(1, 11)]


@pytest.mark.parametrize("nothing", [None, -1, math.nan])
def test_tokens_without_a_word_stand_alone(chinese: BertTokenizer, nothing: Any) -> None:
    row = {"input_ids": [2, 5, 6, 7, 8, 3], "word_ids": [nothing, nothing, nothing, 0, 0, nothing]}
    assert chosen_together(chinese, row) == [[1], [2], [3, 4]]


def test_a_word_ends_with_its_row_and_at_a_special_token(chinese: BertTokenizer) -> None:
    row = {"input_ids": [5, 6, 3, 7, 8], "word_ids": [0, 0, 0, 0, 0]}
    assert chosen_together(chinese, row) == [[0, 1], [3, 4]]
    torch.manual_seed(0)
    batch = packed(
        [{"input_ids": [5, 6], "word_ids": [0, 0]}] * 400,
        chinese,
        whole_word_mask=True,
        mlm_probability=0.5,
    )
    chosen = (batch.labels[:800] != IGNORE_INDEX).view(400, 2)
    assert torch.equal(chosen[:, 0], chosen[:, 1])
    assert within(int(chosen[:, 0].sum()), 400, 0.5)
    assert within(int((chosen[1:, 0] & chosen[:-1, 0]).sum()), 399, 0.25)


@pytest.mark.parametrize("mark", ["\u0120", "\u2581"])
def test_vocabularies_that_mark_beginnings_have_words_too(mark: str) -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", f"{mark}new", "er", f"{mark}is", "##"]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = BertTokenizer(Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")))
    assert chosen_together(tokenizer, {"input_ids": [2, 6, 5, 6, 8, 7, 3]}) == [[1], [2, 3, 4], [5]]


# ---- masks that stay ----


def masks_of(batch: PackedBatch) -> list[tuple[list[int], list[int]]]:
    places = itertools.pairwise(batch.cu_seqlens.tolist())
    return [(batch.input_ids[a:b].tolist(), batch.labels[a:b].tolist()) for a, b in places]


@given(order=st.permutations(range(60)), size=st.integers(1, 60))
def test_with_a_seed_a_row_has_one_mask_wherever_it_comes(
    tiny_tokenizer: BertTokenizer, rows: Rows, order: list[int], size: int
) -> None:
    wanted = masks_of(packed(rows, tiny_tokenizer, seed=5))
    collate = DataCollatorForLanguageModeling(tiny_tokenizer, seed=5, packed=True)
    for start in range(0, 60, size):
        part = order[start : start + size]
        found = masks_of(collate([rows[row] for row in part]))
        assert found == [wanted[row] for row in part]


def test_with_a_seed_both_doors_and_padded_rows_get_the_same_masks(
    tiny_tokenizer: BertTokenizer, rows: Rows
) -> None:
    wanted = masks_of(packed(rows, tiny_tokenizer, seed=0, whole_word_mask=True))
    wide = tiny_tokenizer.pad(rows, padding_side="left")
    wide_rows = [{name: values[i] for name, values in wide.items()} for i in range(len(rows))]
    assert masks_of(packed(wide_rows, tiny_tokenizer, seed=0, whole_word_mask=True)) == wanted
    padded = DataCollatorForLanguageModeling(tiny_tokenizer, seed=0, whole_word_mask=True)(rows)
    real = padded["attention_mask"].bool()
    for name, part in (("input_ids", 0), ("labels", 1)):
        values = [value for row in wanted for value in row[part]]
        assert padded[name].masked_select(real).tolist() == values
    assert (padded["labels"].masked_select(~real) == IGNORE_INDEX).all()
    assert (padded["input_ids"].masked_select(~real) == 0).all()


def test_seeds_and_rows_differ_from_each_other(tiny_tokenizer: BertTokenizer) -> None:
    ids = list(range(5, 85))
    made = [ids, [*ids, 85], ids[::-1], ids]
    found = [tuple(labels[:80]) for _, labels in masks_of(packed(made, tiny_tokenizer, seed=1))]
    chosen = [tuple(label != IGNORE_INDEX for label in labels) for labels in found]
    assert chosen[0] == chosen[3]
    assert len(set(chosen)) == 3
    assert masks_of(packed([ids], tiny_tokenizer, seed=2))[0][1] != list(found[0])


def test_with_a_seed_torchs_generator_is_left_alone(
    tiny_tokenizer: BertTokenizer, rows: Rows
) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    packed(rows, tiny_tokenizer, seed=1)
    assert torch.equal(torch.rand(1), wanted)


def test_without_a_seed_masks_change_and_torchs_generator_decides(
    tiny_tokenizer: BertTokenizer, rows: Rows
) -> None:
    collate = DataCollatorForLanguageModeling(tiny_tokenizer, packed=True)
    torch.manual_seed(3)
    first, second = masks_of(collate(rows)), masks_of(collate(rows))
    torch.manual_seed(3)
    assert masks_of(collate(rows)) == first
    assert first != second


def test_it_goes_to_worker_processes(tiny_tokenizer: BertTokenizer, rows: Rows) -> None:
    collate = DataCollatorForLanguageModeling(tiny_tokenizer, seed=4, packed=True)
    copied = pickle.loads(pickle.dumps(collate))  # noqa: S301
    assert masks_of(copied(rows)) == masks_of(collate(rows))


# ---- rows ----


@pytest.mark.parametrize("cast", [list, np.array, torch.tensor], ids=["list", "numpy", "torch"])
@pytest.mark.parametrize("bare", [True, False], ids=["ids alone", "rows"])
def test_rows_of_every_kind(
    tiny_tokenizer: BertTokenizer, rows: Rows, cast: Any, bare: bool
) -> None:
    wanted = masks_of(packed(rows, tiny_tokenizer, seed=4))
    made = [
        cast(row["input_ids"]) if bare else {name: cast(values) for name, values in row.items()}
        for row in rows
    ]
    assert masks_of(packed(made, tiny_tokenizer, seed=4)) == wanted


def test_both_labels_of_pretraining_and_nothing_else_go_along(
    tiny_tokenizer: BertTokenizer,
) -> None:
    pairs = tiny_tokenizer(["a film", "the end"], ["is good", "was dull"])
    made = [
        {
            **{name: values[i] for name, values in pairs.items()},
            "next_sentence_label": i,
            "label": 7,
        }
        for i in range(2)
    ]
    batch = packed(made, tiny_tokenizer, mlm_probability=1.0)
    assert batch.next_sentence_label.tolist() == [0, 1]
    assert batch.token_type_ids[:14].tolist() == [0, 0, 0, 0, 1, 1, 1] * 2
    padded = DataCollatorForLanguageModeling(tiny_tokenizer)(made)
    assert set(padded) == {*pairs, "labels", "next_sentence_label"}
    assert padded["next_sentence_label"].tolist() == [0, 1]
    assert padded["labels"].shape == (2, 7)


def test_causal_labels_are_the_ids(tiny_tokenizer: BertTokenizer, rows: Rows) -> None:
    batch = packed(rows, tiny_tokenizer, mlm=False)
    assert torch.equal(batch.labels[: batch.num_tokens], flat(rows))
    assert torch.equal(batch.input_ids[: batch.num_tokens], flat(rows))


# ---- refusals ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mlm_probability": 1.5}, "mlm_probability is 1.5"),
        ({"mlm_probability": None}, "mlm_probability is None"),
        ({"mask_replace_prob": -0.1}, "mask_replace_prob is -0.1"),
        ({"random_replace_prob": math.nan}, "random_replace_prob is nan"),
        ({"mask_replace_prob": 0.8, "random_replace_prob": 0.3}, "more than 1 together"),
        ({"mlm": False, "whole_word_mask": True}, "mlm=False masks nothing"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"pad_to_multiple_of": -8}, "pad_to_multiple_of is -8"),
        ({"return_tensors": "tf"}, "return_tensors='tf'"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(
    tiny_tokenizer: BertTokenizer, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        DataCollatorForLanguageModeling(tiny_tokenizer, **options)
    assert caught.value.fix


def test_a_tokenizer_without_a_mask_token_is_refused_for_masking(
    tiny_tokenizer: BertTokenizer, rows: Rows
) -> None:
    bare = copy.deepcopy(tiny_tokenizer)
    del bare.special_tokens_map["mask_token"]
    with pytest.raises(UsageError, match="no mask token") as caught:
        DataCollatorForLanguageModeling(bare)
    assert "mlm=False" in caught.value.fix
    batch = packed(rows, bare, mlm=False)
    assert int((batch.labels != IGNORE_INDEX).sum()) == len(flat(rows))


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([[5, 6], []], "row 1 of the batch has no token"),
        ([[5, 97]], "id 97 is not in the tokenizer's vocabulary of 97"),
        ([[5, -1]], "id -1 is not in the tokenizer's vocabulary"),
        ([{"text": "a film"}], "no input_ids; found: text"),
        (
            [{"input_ids": [5], "word_ids": [0]}, {"input_ids": [6]}],
            "row 1 of the batch has no word_ids",
        ),
        ([{"input_ids": [5, 6], "word_ids": [0]}], "2 input_ids and 1 values of word_ids"),
    ],
)
def test_rows_that_cannot_be_masked_are_named(
    tiny_tokenizer: BertTokenizer, bad: Any, words: str, is_packed: bool
) -> None:
    collate = DataCollatorForLanguageModeling(
        tiny_tokenizer, packed=is_packed, whole_word_mask=True, seed=0
    )
    with pytest.raises(DataError, match=words) as caught:
        collate(bad)
    assert caught.value.fix


def test_the_collator_of_whole_words_is_the_option(tiny_tokenizer: BertTokenizer) -> None:
    rows = [tiny_tokenizer(text) for text in ("a very good film", "unbelievable", "dull")]
    named = DataCollatorForWholeWordMask(tiny_tokenizer, mlm_probability=0.5, seed=3)(rows)
    option = DataCollatorForLanguageModeling(
        tiny_tokenizer, mlm_probability=0.5, seed=3, whole_word_mask=True
    )(rows)
    assert all(torch.equal(named[name], option[name]) for name in option)
    with pytest.raises(UsageError):
        DataCollatorForWholeWordMask(tiny_tokenizer, mlm_probability=2.0)


def test_a_subclass_decides_the_masks(tiny_tokenizer: BertTokenizer) -> None:
    """As in the notes: `torch_mask_tokens` of a subclass, padded or packed, like the peer's."""

    def every_other(self: Any, inputs: Any, special_tokens_mask: Any = None, **_: Any) -> Any:
        labels = inputs.clone()
        chosen = torch.zeros_like(inputs, dtype=torch.bool)
        chosen[:, ::2] = True
        chosen &= ~special_tokens_mask.bool()
        labels[~chosen] = IGNORE_INDEX
        return inputs.masked_fill(chosen, self.tokenizer.mask_token_id), labels

    ours = type("Own", (DataCollatorForLanguageModeling,), {"torch_mask_tokens": every_other})
    texts = ("a very good film", "dull")
    rows = [dict(tiny_tokenizer(text, return_special_tokens_mask=True)) for text in texts]
    found = ours(tiny_tokenizer)([dict(row) for row in rows])
    assert found["labels"].ne(IGNORE_INDEX).sum() == 2
    peer_tokenizer = transformers.BertTokenizer(vocab=tiny_tokenizer.get_vocab())
    theirs = type(
        "Own", (transformers.DataCollatorForLanguageModeling,), {"torch_mask_tokens": every_other}
    )
    wanted = theirs(peer_tokenizer)([dict(row) for row in rows])
    for name in ("input_ids", "labels"):
        assert torch.equal(found[name], wanted[name]), name
    packed = ours(tiny_tokenizer, packed=True)(rows)
    real = found["attention_mask"].bool()
    assert torch.equal(packed.input_ids[: packed.num_tokens], found["input_ids"][real])
    assert torch.equal(packed.labels[: packed.num_tokens], found["labels"][real])


def test_a_subclass_may_call_the_masks_of_its_base(tiny_tokenizer: BertTokenizer) -> None:
    class Twice(DataCollatorForLanguageModeling):
        calls = 0

        def torch_mask_tokens(self, inputs: Any, *given: Any, **named: Any) -> Any:
            Twice.calls += 1
            return super().torch_mask_tokens(inputs, *given, **named)

    rows = [tiny_tokenizer(text) for text in ("a very good film", "unbelievable", "dull")]
    for whole in (False, True):
        batch = Twice(tiny_tokenizer, mlm_probability=0.9, whole_word_mask=whole)(rows)
        learned = batch["labels"] != IGNORE_INDEX
        assert learned.any()
        assert not learned[batch["attention_mask"] == 0].any()
    assert Twice.calls == 2
    fixed = [Twice(tiny_tokenizer, seed=3)(rows)["labels"] for _ in range(2)]
    assert torch.equal(*fixed)


@pytest.mark.parametrize("result", [(1, 2), (torch.zeros(1), torch.zeros(1))], ids=str)
def test_masks_of_another_shape_are_refused(tiny_tokenizer: BertTokenizer, result: Any) -> None:
    own = {"torch_mask_tokens": lambda self, inputs, **named: result}
    collate = type("Own", (DataCollatorForLanguageModeling,), own)(tiny_tokenizer)
    with pytest.raises(DataError, match="Own: torch_mask_tokens gave no ids of the shape"):
        collate([tiny_tokenizer("dull")])
