"""Every public name of the peer's tokenizers, and the calls that older programs have."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

import bertolt
from bertolt import (
    AutoTokenizer,
    BatchEncoding,
    BertTokenizer,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaTokenizerFast,
)
from bertolt.base.errors import BertoltError, CheckpointError, DataError, UsageError
from bertolt.tokenization.older import ABSENT, CALL, LOADING, SAVING, UNUSED

TEXTS = ["A first text, and it isn't short.", "two", "The third one has unaffable words!"]
PAIRS = ["its second", "Another second text that is longer", "x"]

# Names that the peer had in its releases 2 to 4.
OLDER = (
    "encode_plus batch_encode_plus prepare_for_model truncate_sequences max_len "
    "additional_special_tokens additional_special_tokens_ids build_inputs_with_special_tokens "
    "create_token_type_ids_from_sequences special_tokens_map_extended all_special_tokens_extended "
    "sanitize_special_tokens as_target_tokenizer prepare_seq2seq_batch max_model_input_sizes "
    "pretrained_init_configuration ids_to_tokens basic_tokenizer wordpiece_tokenizer "
    "max_len_single_sentence max_len_sentences_pair added_tokens_encoder clean_up_tokenization"
)


@pytest.fixture(scope="module")
def ours(real_checkpoint: Path) -> BertTokenizer:
    return BertTokenizerFast.from_pretrained(real_checkpoint)


@pytest.fixture(scope="module")
def peer(real_checkpoint: Path) -> Any:
    return transformers.BertTokenizerFast.from_pretrained(real_checkpoint)


@pytest.fixture(scope="module")
def legacy(real_checkpoint: Path) -> Any:
    """The peer's tokenizer of older releases, which has `prepare_for_model`."""
    tokenizer = BertTokenizerLegacy(str(real_checkpoint / "vocab.txt"), model_max_length=512)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


# ---- every name is there, or says what to write instead ----


def test_every_name_of_the_peer_is_there_or_replaced(ours: Any, peer: Any) -> None:
    names = {name for name in dir(peer) if not name.startswith("_")} | set(OLDER.split())
    there = {name for name in names if hasattr(ours, name)}
    assert names - there <= ABSENT.keys()
    assert not there & ABSENT.keys()
    for name in sorted(names - there):
        with pytest.raises(AttributeError, match="fix:") as refused:
            getattr(ours, name)
        assert isinstance(refused.value, BertoltError)
        assert refused.value.fix == ABSENT[name]


def test_a_name_that_nobody_has_is_answered_with_the_nearest(ours: Any) -> None:
    with pytest.raises(AttributeError, match="fix: use batch_encode_plus"):
        ours.batch_encode_pluss  # noqa: B018
    with pytest.raises(AttributeError, match="dir"):
        ours.zzzzzz  # noqa: B018


def test_what_a_fix_names_is_there(ours: Any, peer: Any) -> None:
    """Words with an underscore in them are names: of ours, or of arguments."""
    known = set(dir(ours)) | set(bertolt.__all__) | set(CALL) | set(UNUSED)
    known |= {"model_max_length", "add_prefix_space", "post_processor", "folder_path", "token"}
    known |= {"upload_folder", "max_length", "name_or_path", "input_ids", "return_length"}
    known |= {"HTTPS_PROXY", "huggingface_hub"}
    for table in (ABSENT, CALL, LOADING, SAVING, UNUSED):
        for fix in table.values():
            words = fix.replace(".", " ").replace("(", " ").replace("=", " ").replace(",", " ")
            named = {word.strip(":;()…") for word in words.split() if "_" in word}
            assert named <= known, named - known


def test_names_and_ids_equal_the_peers(ours: Any, peer: Any) -> None:
    for name in (
        "added_tokens_encoder",
        "added_tokens_decoder",
        "max_len_single_sentence",
        "max_len_sentences_pair",
        "chat_template",
        "extra_special_tokens",
        "is_fast",
    ):
        assert getattr(ours, name) == getattr(peer, name), name
    assert list(ours.SPECIAL_TOKENS_ATTRIBUTES) == peer.SPECIAL_TOKENS_ATTRIBUTES
    assert ours.get_added_vocab() == peer.get_added_vocab()
    assert ours.clean_up_tokenization("a , b do n't") == peer.clean_up_tokenization("a , b do n't")
    assert ours.decoder.decode(["un", "##aff"]) == peer.decoder.decode(["un", "##aff"])
    assert ours.max_len == ours.model_max_length == 512
    assert ours.ids_to_tokens[102] == "[SEP]"


def test_copies_and_pickles_still_work(ours: Any) -> None:
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):  # noqa: S301
        assert again(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]


def test_ids_of_special_tokens_can_be_assigned(real_checkpoint: Path) -> None:
    pair = [k.from_pretrained(real_checkpoint) for k in (AutoTokenizer, transformers.AutoTokenizer)]
    for tokenizer in pair:
        tokenizer.pad_token_id = 102
        tokenizer.additional_special_tokens = ["[E1]"]
    assert pair[0].pad_token == pair[1].pad_token == "[SEP]"
    assert pair[0].additional_special_tokens == ["[E1]"]
    assert pair[0].additional_special_tokens_ids == [30522]
    with pytest.raises(UsageError, match="no token has the id 99999"):
        pair[0].pad_token_id = 99999


# ---- calls of older programs ----


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({}, {}),
        ({"max_length": 6}, {"max_length": 6, "truncation": True}),
        (
            {"max_length": 6, "pad_to_max_length": True},
            {"max_length": 6, "padding": "max_length", "truncation": True},
        ),
        (
            {"max_length": 6, "pad_to_max_length": True, "truncation": False},
            {"max_length": 6, "padding": "max_length", "truncation": False},
        ),
        ({"pad_to_max_length": True}, {"padding": True}),
        ({"pad_to_max_length": False}, {}),
        ({"padding": True, "pad_to_max_length": True, "max_length": 9}, {"padding": True}),
        (
            {"truncation_strategy": "only_first", "max_length": 12},
            {"truncation": "only_first", "max_length": 12},
        ),
        (
            {"truncation_strategy": "only_first", "max_length": 12, "pad_to_max_length": True},
            {"truncation": "only_first", "max_length": 12, "padding": "max_length"},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_older_arguments_are_the_newer_ones(ours: Any, peer: Any, older: Any, newer: Any) -> None:
    for options in ({}, {"return_offsets_mapping": True, "return_special_tokens_mask": True}):
        pair = PAIRS[1]
        wanted = peer(TEXTS[0], pair, **newer, **options)
        assert {**ours(TEXTS[0], pair, **older, **options)} == {**wanted}
        assert {**ours.encode_plus(TEXTS[0], pair, **older, **options)} == {**wanted}
        if older.get("truncation") is not False:
            wanted = peer(TEXTS, **newer, **options)
            assert {**ours.batch_encode_plus(TEXTS, **older, **options)} == {**wanted}
            wanted = peer(list(zip(TEXTS, PAIRS, strict=True)), **newer, **options)
            pairs = list(zip(TEXTS, PAIRS, strict=True))
            assert {**ours.batch_encode_plus(pairs, **older, **options)} == {**wanted}


@pytest.mark.filterwarnings("ignore:.*were longer than")
def test_the_encoding_of_the_tutorials(ours: Any, peer: Any) -> None:
    """As programs of 2019 have it; what comes out knows words and tensors."""
    encoded = ours.encode_plus(
        TEXTS[0],
        None,
        add_special_tokens=True,
        max_length=8,
        pad_to_max_length=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    wanted = peer(
        TEXTS[0], max_length=8, padding="max_length", truncation=True, return_tensors="pt"
    )
    for name in wanted:
        assert torch.equal(encoded[name], wanted[name])
    assert encoded.word_ids() == wanted.word_ids()
    assert encoded.is_fast
    assert encoded.data["input_ids"] is encoded["input_ids"]
    words = ["Some", "unaffable", "words"]
    found = ours.encode_plus(words, is_pretokenized=True)
    assert found["input_ids"] == peer(words, is_split_into_words=True)["input_ids"]


def test_calls_that_are_no_calls(ours: Any) -> None:
    with pytest.raises(DataError, match="takes one text"):
        ours.encode_plus([["a"], ["b"]])
    with pytest.raises(UsageError, match="takes several texts"):
        ours.batch_encode_plus("one text")


ARGUMENTS = [
    (None, {}),
    (PAIRS[1], {}),
    (None, {"max_length": 6, "truncation": True}),
    (PAIRS[1], {"max_length": 9, "truncation": True}),
    (PAIRS[1], {"max_length": 10, "truncation": "longest_first"}),
    (PAIRS[1], {"max_length": 12, "truncation": "only_first", "padding": "max_length"}),
    (PAIRS[1], {"max_length": 16, "truncation": "only_second", "stride": 2}),
    (None, {"max_length": 16, "padding": "max_length", "return_tensors": "pt"}),
    (None, {"add_special_tokens": False}),
    (None, {"return_length": True, "return_attention_mask": False}),
    (None, {"max_length": 6, "truncation": True, "stride": 2, "return_overflowing_tokens": True}),
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("pair", "options"), ARGUMENTS)
@pytest.mark.filterwarnings("ignore:.*were longer than")
def test_rows_from_ids_equal_the_peers(
    ours: Any, legacy: Any, pair: str | None, options: Any, side: str
) -> None:
    ours.truncation_side = legacy.truncation_side = side
    try:
        ids = legacy.encode(TEXTS[0], add_special_tokens=False)
        second = None if pair is None else legacy.encode(pair, add_special_tokens=False)
        both = [
            tokenizer.prepare_for_model(ids, second, return_special_tokens_mask=True, **options)
            for tokenizer in (ours, legacy)
        ]
        tokens = ours.encode_plus(
            ours.tokenize(TEXTS[0]), pair, return_special_tokens_mask=True, **options
        )
    finally:
        ours.truncation_side = legacy.truncation_side = "right"
    plain = [{n: torch.as_tensor(v).tolist() for n, v in found.items()} for found in both]
    assert plain[0] == plain[1]
    assert {n: torch.as_tensor(v).tolist() for n, v in tokens.items()} == plain[0]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("sizes", [(7, 3), (3, 7), (4, 4), (5, None)])
def test_ids_are_cut_as_by_the_peer(
    ours: Any, legacy: Any, sizes: tuple[int, int | None], strategy: str, side: str
) -> None:
    first = list(range(sizes[0]))
    second = None if sizes[1] is None else list(range(10, 10 + sizes[1]))
    ours.truncation_side = legacy.truncation_side = side
    for surplus in range(4):
        if strategy == "only_second" and second is None and surplus:
            with pytest.raises(DataError, match="no pair"):
                ours.truncate_sequences(first, second, surplus, strategy)
            continue
        arguments = first, second, surplus, strategy, 1
        assert ours.truncate_sequences(*arguments) == legacy.truncate_sequences(*arguments)
    ours.truncation_side = legacy.truncation_side = "right"
    with pytest.raises(DataError, match="are to be cut from a text of"):
        ours.truncate_sequences([1, 2], None, 3)


def test_what_ids_lose_is_counted(real_checkpoint: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(real_checkpoint)
    with pytest.warns(UserWarning, match="1 of 1 texts were longer than 5"):
        tokenizer.prepare_for_model([5] * 9, max_length=5)
    assert (tokenizer.truncated.texts, tokenizer.truncated.tokens) == (1, 6)


# ---- arguments ----


def test_all_unknown_arguments_are_refused_in_one_error(ours: Any) -> None:
    with pytest.raises(UsageError, match="takes no arguments 'max_lenght', 'text_target'") as error:
        ours("a", max_lenght=5, text_target="b")
    assert error.value.fix == f"max_lenght: use max_length; text_target: {CALL['text_target']}"
    with pytest.raises(UsageError, match="takes no argument 'colour'"):
        BertTokenizer.from_pretrained(ours.name_or_path, colour="red")
    with pytest.raises(UsageError, match="HTTPS_PROXY"):
        BertTokenizer.from_pretrained(ours.name_or_path, proxies={"https": "x"})
    with pytest.raises(UsageError, match="upload_folder"):
        ours.save_pretrained("somewhere", push_to_hub=True)
    assert not Path("somewhere").exists()


def test_arguments_that_change_nothing_are_said(
    real_checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(
        real_checkpoint, use_fast=True, trust_remote_code=False, do_basic_tokenize=True
    )
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0] == f"use_fast=True changes nothing here: {UNUSED['use_fast']}"
    with pytest.warns(UserWarning, match="verbose=False changes nothing here"):
        found = tokenizer("a text", verbose=False)
    assert found == tokenizer("a text", verbose=False)
    tokenizer.save_pretrained(tmp_path, legacy_format=False, push_to_hub=False)
    assert "legacy_format=False changes nothing here" in capsys.readouterr().err
    with pytest.raises(UsageError, match="would split words in another way"):
        AutoTokenizer.from_pretrained(real_checkpoint, do_basic_tokenize=False)
    with pytest.raises(UsageError, match="would split words in another way"):
        AutoTokenizer.from_pretrained(real_checkpoint, never_split=["a-b"])


def test_special_tokens_are_given_to_the_loading(real_checkpoint: Path) -> None:
    options: dict[str, Any] = {
        "additional_special_tokens": ["[E1]", AddedToken("[E2]", lstrip=True)],
        "mask_token": "[NEW]",
        "clean_up_tokenization_spaces": True,
        "model_max_length": 99,
    }
    ours = AutoTokenizer.from_pretrained(real_checkpoint, **options)
    peer = transformers.AutoTokenizer.from_pretrained(real_checkpoint, **options)
    text = "One [E1] two  [E2]three [NEW] do n't ."
    assert ours(text)["input_ids"] == peer(text)["input_ids"]
    assert ours.mask_token == peer.mask_token == "[NEW]"
    assert ours.model_max_length == peer.model_max_length
    ids = ours("do n't [NEW] .")["input_ids"]  # the peer writes extra tokens in small letters
    assert ours.decode(ids) == peer.decode(ids) == "[CLS] don't [NEW]. [SEP]"
    assert AutoTokenizer.from_pretrained(real_checkpoint, max_len=77).model_max_length == 77
    named = AutoTokenizer.from_pretrained(pretrained_model_name_or_path=real_checkpoint)
    assert named.vocab_size == ours.vocab_size
    with pytest.raises(UsageError, match="got no folder"):
        AutoTokenizer.from_pretrained()
    with pytest.raises(CheckpointError, match="mask_token is 5"):
        AutoTokenizer.from_pretrained(real_checkpoint, mask_token=5)


def test_a_space_before_each_word(roberta_folder: Path) -> None:
    ours, peer = (
        RobertaTokenizerFast.from_pretrained(roberta_folder, add_prefix_space=True),
        Tokenizer.from_file(str(roberta_folder / "tokenizer.json")),
    )
    peer.pre_tokenizer.add_prefix_space = True
    words = ["good", "film", "of"]
    found = ours(words, is_split_into_words=True)["input_ids"]
    assert found == peer.encode(words, is_pretokenized=True).ids
    plain = RobertaTokenizerFast.from_pretrained(roberta_folder)
    assert found != plain(words, is_split_into_words=True)["input_ids"]
    assert pickle.loads(pickle.dumps(ours))("good") == ours("good")  # noqa: S301


def test_a_space_before_words_that_have_none(real_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="have no space before them"):
        AutoTokenizer.from_pretrained(real_checkpoint, add_prefix_space=True)
    assert AutoTokenizer.from_pretrained(real_checkpoint, add_prefix_space=False)("a")


# ---- built by its class ----


@pytest.mark.filterwarnings("ignore:a text has 13 tokens")
def test_a_tokenizer_from_a_file_or_a_backend(real_checkpoint: Path, peer: Any) -> None:
    wanted = peer(TEXTS)["input_ids"]
    vocab, file = real_checkpoint / "vocab.txt", real_checkpoint / "tokenizer.json"
    backend = Tokenizer.from_file(str(file))
    for tokenizer in (
        BertTokenizer(vocab_file=str(vocab), do_lower_case=True),
        BertTokenizerFast(tokenizer_file=str(file), unk_token="[UNK]"),
        PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]"),
        BertTokenizer(backend, model_max_length=9),
    ):
        assert tokenizer(TEXTS)["input_ids"] == wanted
        assert tokenizer.mask_token_id == 103
    for wrong in ({}, {"vocab_file": vocab, "tokenizer_file": file}):
        with pytest.raises(UsageError, match="is built from one backend"):
            BertTokenizer(**wrong)
    assert isinstance(tokenizer, bertolt.PreTrainedTokenizerBase)
    assert isinstance(tokenizer(TEXTS), BatchEncoding)


def test_the_vocabulary_is_saved_alone(ours: Any, tmp_path: Path, roberta_folder: Path) -> None:
    (path,) = ours.save_vocabulary(tmp_path / "new")
    assert Path(path) == tmp_path / "new" / "vocab.txt"
    assert BertTokenizer.from_vocab(path).get_vocab() == ours.get_vocab()
    (path,) = ours.save_vocabulary(str(tmp_path), filename_prefix="mine")
    assert Path(path).name == "mine-vocab.txt"
    with pytest.raises(UsageError, match="could not tell this vocabulary"):
        AutoTokenizer.from_pretrained(roberta_folder).save_vocabulary(tmp_path)


def test_extra_tokens_replace_or_lengthen(real_checkpoint: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(real_checkpoint)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]"]})
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["[E2]"]}, replace_additional_special_tokens=False
    )
    assert tokenizer.additional_special_tokens == ["[E1]", "[E2]"]


def test_new_special_tokens_of_a_new_vocabulary(ours: Any) -> None:
    new = ours.train_new_from_iterator([TEXTS * 3], 80, length=9, new_special_tokens=["[E1]"])
    assert new.extra_special_tokens == ["[E1]"]
    assert new.tokenize("a [E1]")[-1] == "[E1]"
