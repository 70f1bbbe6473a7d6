"""The tokenizer on its own: files, casing, training, cuts and their account, copies, errors."""

import copy
import json
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import BPE

from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.tokenization import (
    AutoTokenizer,
    BatchEncoding,
    BertTokenizer,
    EncodedPair,
    EncodedWords,
    Truncated,
    vocabulary,
)
from bertolt.tokenization.folder import UNLIMITED
from bertolt.tokenization.vocabulary import read_vocab

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "##s", "un", "##aff", "##able", ".", ",", "今", "天"]


def vocab_file(folder: Path, *more: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS, *more]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def tokenizer() -> BertTokenizer:
    vocab = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    return BertTokenizer.from_vocab(vocab, model_max_length=16)


# ---- files ----


def test_vocab_alone_is_taken_for_uncased_without_capital_letters(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(vocab_file(tmp_path))
    assert tokenizer.do_lower_case
    assert "guessed" in tokenizer.casing
    assert tokenizer.tokenize("The CATS, unaffable.") == [
        "the", "cat", "##s", ",", "un", "##aff", "##able", ".",
    ]  # fmt: skip


def test_vocab_alone_is_taken_for_cased_with_a_capital_letter(tmp_path: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(vocab_file(tmp_path, "The") / "vocab.txt")
    assert not tokenizer.do_lower_case
    assert "'The'" in tokenizer.casing
    assert tokenizer.tokenize("The the THE") == ["The", "the", "[UNK]"]


def test_settings_come_from_the_files_and_give_way_to_arguments(tmp_path: Path) -> None:
    folder = vocab_file(tmp_path, "The")
    (folder / "config.json").write_text('{"max_position_embeddings": 40}')
    assert BertTokenizer.from_pretrained(folder).model_max_length == 40
    (folder / "tokenizer_config.json").write_text(
        '{"do_lower_case": true, "model_max_length": 20, "padding_side": "left"}'
    )
    told = BertTokenizer.from_pretrained(folder)
    assert (told.do_lower_case, told.model_max_length, told.padding_side) == (True, 20, "left")
    assert told.casing == "tokenizer_config.json: do_lower_case=True"
    given = BertTokenizer.from_pretrained(folder, do_lower_case=False, model_max_length=9)
    assert (given.do_lower_case, given.model_max_length) == (False, 9)
    assert given.casing == "given: do_lower_case=False"


def test_an_unset_limit_is_the_models_not_the_placeholder(tmp_path: Path) -> None:
    folder = vocab_file(tmp_path)
    (folder / "config.json").write_text('{"max_position_embeddings": 64}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": int(1e30)}))
    assert BertTokenizer.from_pretrained(folder).model_max_length == 64


def test_blank_last_lines_shift_and_add_nothing(tmp_path: Path) -> None:
    folder = vocab_file(tmp_path, "", "")
    assert len(BertTokenizer.from_pretrained(folder)) == len(SPECIAL) + len(WORDS)


def test_save_and_open_again(tokenizer: BertTokenizer, tmp_path: Path) -> None:
    tokenizer.add_tokens(["newword"])
    tokenizer.add_special_tokens({"extra_special_tokens": ["[E1]"]})
    tokenizer.padding_side = "left"
    names = [Path(path).name for path in tokenizer.save_pretrained(tmp_path / "deep" / "er")]
    assert names == ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert sorted(path.name for path in (tmp_path / "deep/er").iterdir()) == sorted(names)
    again = BertTokenizer.from_pretrained(tmp_path / "deep" / "er")
    text = "the newword [E1] cats [MASK]"
    assert again(text) == tokenizer(text)
    assert again.extra_special_tokens == ["[E1]"]
    assert again.padding_side == "left"
    assert again.model_max_length == 16
    assert again.get_vocab() == tokenizer.get_vocab()


def test_the_files_own_truncation_and_padding_are_dropped(tmp_path: Path) -> None:
    backend = BertTokenizer.from_pretrained(vocab_file(tmp_path)).backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer("the")["input_ids"]) == 3
    assert len(tokenizer("the cat sat on the mat")["input_ids"]) == 8


def test_tokenizers_that_are_not_wordpiece(tmp_path: Path) -> None:
    """A tokenizer.json of any kind is taken as it is, and saved so that it is read as it is."""
    vocab = {"<unk>": 0, "<pad>": 1, "a": 2, "b": 3, "ab": 4}
    Tokenizer(BPE(vocab, [("a", "b")], unk_token="<unk>")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"unk_token": "<unk>", "pad_token": "<pad>"}')
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("abb") == ["ab", "b"]
    assert len(tokenizer.save_pretrained(tmp_path / "saved")) == 2
    config = json.loads((tmp_path / "saved/tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    with pytest.raises(UsageError, match="do_lower_case cannot be changed"):
        BertTokenizer.from_pretrained(tmp_path, do_lower_case=True)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "neither tokenizer.json nor vocab.txt"),
        ({"tokenizer.json": "{"}, "cannot be read"),
        ({"tokenizer.json": '{"version": "1.0"}'}, "cannot be read"),
        ({"vocab.txt": ""}, "empty"),
        ({"vocab.txt": "a\nb\n"}, r"no \[UNK\]"),
        ({"vocab.txt": "[UNK]\na\n", "tokenizer_config.json": "[1]"}, "not an object"),
        ({"vocab.txt": "[UNK]\na\n", "tokenizer_config.json": "{"}, "cannot be read"),
        ({"vocab.txt": "[UNK]\na\n", "added_tokens.json": '{"x": 9}'}, "do not follow"),
        (
            {
                "vocab.txt": "[UNK]\na\n",
                "tokenizer_config.json": '{"tokenizer_class": "BertJapaneseTokenizer"}',
            },
            "BertJapaneseTokenizer",
        ),
    ],
)
def test_bad_folders(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=problem) as caught:
        BertTokenizer.from_pretrained(tmp_path)
    assert caught.value.fix


CONFIG = "tokenizer_config.json"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (CONFIG, "model_max_length", "512"),
        (CONFIG, "model_max_length", [512]),
        (CONFIG, "model_max_length", 12.5),
        (CONFIG, "model_max_length", -1),
        (CONFIG, "model_max_length", True),
        (CONFIG, "max_len", {"tokens": 512}),
        ("config.json", "max_position_embeddings", "512"),
        (CONFIG, "do_lower_case", "true"),
        (CONFIG, "strip_accents", 1),
        (CONFIG, "tokenize_chinese_chars", "yes"),
        (CONFIG, "clean_up_tokenization_spaces", "no"),
        (CONFIG, "split_special_tokens", 0),
        (CONFIG, "padding_side", "up"),
        (CONFIG, "truncation_side", ["left"]),
        (CONFIG, "model_input_names", "input_ids"),
        (CONFIG, "model_input_names", [1]),
        (CONFIG, "cls_token", 5),
        (CONFIG, "cls_token", {"lstrip": False}),
        (CONFIG, "cls_token", {"content": "[CLS]", "lstrip": "no"}),
        ("special_tokens_map.json", "mask_token", ["[MASK]"]),
        (CONFIG, "extra_special_tokens", 5),
        (CONFIG, "extra_special_tokens", [5]),
        ("special_tokens_map.json", "additional_special_tokens", {"a": 1}),
        (CONFIG, "added_tokens_decoder", ["[E1]"]),
        (CONFIG, "added_tokens_decoder", {"one": {"content": "[E1]"}}),
        (CONFIG, "added_tokens_decoder", {"80": "[E1]"}),
        (CONFIG, "tokenizer_class", 5),
        ("added_tokens.json", "[E1]", "80"),
    ],
    ids=str,
)
@pytest.mark.parametrize("whole", [False, True], ids=["vocab.txt", "tokenizer.json"])
def test_a_value_of_the_wrong_type_is_named(
    tmp_path: Path, name: str, key: str, value: Any, whole: bool
) -> None:
    folder = vocab_file(tmp_path)
    if whole and name == "added_tokens.json":
        pytest.skip("tokenizer.json has its own added tokens")
    if whole:
        BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / name).write_text(json.dumps({key: value}), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        BertTokenizer.from_pretrained(folder)
    assert caught.value.problem == f"{key} is {value!r}"
    assert caught.value.place == str(folder / name)
    assert caught.value.fix.startswith("give ")


def test_null_says_nothing_and_no_limit_has_many_spellings(tmp_path: Path) -> None:
    folder = vocab_file(tmp_path)
    keys = ("model_max_length", "do_lower_case", "strip_accents", "tokenize_chinese_chars")
    keys += ("padding_side", "cls_token", "extra_special_tokens", "added_tokens_decoder")
    (folder / CONFIG).write_text(json.dumps(dict.fromkeys(keys)), encoding="utf-8")
    wanted = BertTokenizer.from_pretrained(vocab_file(tmp_path / "plain"))
    found = BertTokenizer.from_pretrained(folder)
    assert (found.do_lower_case, found.padding_side) == (wanted.do_lower_case, "right")
    assert found("The cat")["input_ids"] == wanted("The cat")["input_ids"]
    found.save_pretrained(folder)
    for limit in ("1e30", "Infinity", str(UNLIMITED), "0"):
        (folder / CONFIG).write_text(f'{{"model_max_length": {limit}, "do_lower_case": null}}')
        assert BertTokenizer.from_pretrained(folder).model_max_length == UNLIMITED


@pytest.mark.parametrize(
    "value",
    ["[E1]", ["[E1]"], {"first": "[E1]"}, {"content": "[E1]"}, [{"content": "[E1]"}]],
    ids=str,
)
@pytest.mark.parametrize("key", ["extra_special_tokens", "additional_special_tokens"])
def test_one_extra_token_is_not_split_into_letters(tmp_path: Path, key: str, value: Any) -> None:
    folder = vocab_file(tmp_path)
    (folder / CONFIG).write_text(json.dumps({key: value}), encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(folder)
    assert tokenizer.extra_special_tokens == ["[E1]"]
    assert tokenizer.tokenize("the [E1] cat")[1] == "[E1]"


def test_one_extra_token_may_be_given_as_it_is(tokenizer: BertTokenizer) -> None:
    length = len(tokenizer)
    assert tokenizer.add_special_tokens({"extra_special_tokens": "[E1]"}) == 1
    assert (tokenizer.extra_special_tokens, len(tokenizer)) == (["[E1]"], length + 1)
    trained = BertTokenizer.train(iter(CORPUS), 200, extra_special_tokens="[E1]")
    assert trained.all_special_tokens[5:] == ["[E1]"]
    built = BertTokenizer(trained.backend_tokenizer, extra_special_tokens="[E2]")
    assert built.extra_special_tokens == ["[E2]"]


def test_only_a_line_feed_ends_a_token_of_a_vocabulary(tmp_path: Path) -> None:
    tokens = ["[UNK]", "a\rb", "c\u2028d", "e\x85", "last"]
    for end in ("\n", "\r\n"):
        text = "".join(token + end for token in [*tokens, ""])
        (tmp_path / "vocab.txt").write_bytes(text.encode())
        assert read_vocab(tmp_path / "vocab.txt") == dict(zip(tokens, range(5), strict=True))


@pytest.mark.parametrize("token", ["a\n", "a\r", "\na", "a\rb", "\n"])
def test_no_vocab_txt_is_written_that_a_token_would_shift(tmp_path: Path, token: str) -> None:
    vocab = {text: number for number, text in enumerate([*SPECIAL, token, "last"])}
    tokenizer = BertTokenizer.from_vocab(vocab)
    names = [Path(path).name for path in tokenizer.save_pretrained(tmp_path)]
    assert "vocab.txt" not in names
    assert BertTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_separators_that_end_no_line_are_written_and_read(tmp_path: Path) -> None:
    vocab = {text: n for n, text in enumerate([*SPECIAL, "a\u2028b", "c\x85", "\x0c", "last"])}
    BertTokenizer.from_vocab(vocab).save_pretrained(tmp_path)
    assert read_vocab(tmp_path / "vocab.txt") == vocab


def test_a_vocabulary_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n\xff\xfe\n")
    with pytest.raises(CheckpointError, match="cannot be read"):
        BertTokenizer.from_pretrained(tmp_path)


def test_a_hub_id_is_read_from_the_cache(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "models--someone--a-model"
    vocab_file(cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    tokenizer = BertTokenizer.from_pretrained(
        "someone/a-model", cache_dir=tmp_path, local_files_only=True
    )
    assert tokenizer.tokenize("cats") == ["cat", "##s"]
    with pytest.raises(CheckpointError, match="neither a folder here nor") as caught:
        BertTokenizer.from_pretrained("someone/other", cache_dir=tmp_path, local_files_only=True)
    assert caught.value.place == "someone/other"
    with pytest.raises(CheckpointError, match="no such folder"):
        BertTokenizer.from_pretrained("./no/such/folder", local_files_only=True)


# ---- training ----

CORPUS = ["low lower lowest", "new newer newest", "今天天气好，今天晴。", "wide wider naïve"] * 20

_TRAIN = """
import json, sys
from bertolt.tokenization import BertTokenizer
vocab = BertTokenizer.train(json.loads(sys.argv[1]), 90, limit_alphabet=25).get_vocab()
print(json.dumps(sorted(vocab, key=vocab.get)), sorted(vocab.values()) == list(range(len(vocab))))
"""


def test_training_is_the_same_in_every_process() -> None:
    runs = {
        subprocess.run(
            [sys.executable, "-c", _TRAIN, json.dumps(CORPUS)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(4)
    }
    assert len(runs) == 1
    tokens, _, whole = runs.pop().strip().rpartition(" ")
    assert whole == "True"
    assert json.loads(tokens)[:5] == SPECIAL
    assert "newest" in json.loads(tokens)


def test_a_trained_vocabulary_covers_its_text() -> None:
    tokenizer = BertTokenizer.train(iter(CORPUS), 200, extra_special_tokens=["[E1]"])
    assert tokenizer.convert_tokens_to_ids([*SPECIAL, "[E1]"]) == [0, 1, 2, 3, 4, 5]
    assert tokenizer.all_special_tokens[-1] == "[E1]"
    assert tokenizer.tokenize("Newest NAÏVE [E1] 今天") == ["newest", "naive", "[E1]", "今", "天"]
    assert not any("今天" in token for token in tokenizer.get_vocab())
    assert tokenizer.unk_token_id not in tokenizer(CORPUS[2])["input_ids"]
    assert len(tokenizer) <= 200


def test_training_keeps_case_and_batches_are_texts_too() -> None:
    cased = BertTokenizer.train([["Low Low"], ["LOW low"]], 60, lowercase=False, min_frequency=1)
    assert not cased.do_lower_case
    assert cased.tokenize("Low LOW") == ["Low", "LOW"]
    again = cased.train_new_from_iterator([*CORPUS, "Once"], 400)
    assert not again.do_lower_case
    assert again.tokenize("Once") == ["Once"]
    assert again.model_max_length == cased.model_max_length


def test_min_frequency_and_the_alphabet_are_kept_to() -> None:
    rare = BertTokenizer.train(["ab ab ab cd"], 60, min_frequency=2)
    assert rare.tokenize("ab cd") == ["ab", "c", "##d"]
    few = BertTokenizer.train(["aaa aab abz"], 60, limit_alphabet=2)
    assert few.tokenize("z") == ["[UNK]"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_portions_of_the_text_make_no_difference(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    whole = BertTokenizer.train(CORPUS, 200).get_vocab()
    monkeypatch.setattr(vocabulary, "_PORTION", size)
    assert BertTokenizer.train(iter(CORPUS), 200).get_vocab() == whole
    assert BertTokenizer.train(iter([CORPUS]), 200).get_vocab() == whole


def test_of_too_many_words_the_rarest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_PORTION", 1)
    monkeypatch.setattr(vocabulary, "_DIFFERENT_WORDS", 3)
    texts = ["often often", "often seldom", "seldom", "once", "twice twice", "often"]
    words = vocabulary._count_words(texts, vocabulary.bert_normalizer(True))
    assert words == {"often": 4, "seldom": 2, "twice": 2}


def test_training_refusals() -> None:
    with pytest.raises(UsageError, match="vocab_size=8"):
        BertTokenizer.train(CORPUS, 8)
    with pytest.raises(UsageError, match="one string"):
        BertTokenizer.train("a text", 100)
    with pytest.raises(DataError, match="not text"):
        BertTokenizer.train(["a", None], 100)


# ---- encoding and its account ----


def test_what_is_cut_is_counted_and_told_once(tokenizer: BertTokenizer) -> None:
    texts = ["the cat", "the cat sat on the mat", "the cat sat on the mat on the mat"]
    with pytest.warns(UserWarning, match="2 of 3 texts were longer than 6 tokens and lost 7"):
        batch = tokenizer(texts, truncation=True, max_length=6)
    assert batch.truncated == Truncated(texts=2, tokens=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = tokenizer(["the cat sat"], ["on the mat"], truncation="only_second", max_length=7)
        whole = tokenizer(texts, truncation=True, max_length=6, return_overflowing_tokens=True)
        assert not tokenizer(texts, truncation=True, max_length=11).truncated
    assert pair.truncated == Truncated(1, 2)
    assert whole.truncated == Truncated(0, 0)
    assert tokenizer.truncated == Truncated(3, 9)


def test_a_text_beyond_the_models_limit_is_told(tokenizer: BertTokenizer) -> None:
    with pytest.warns(UserWarning, match="17 tokens, and the model takes 16"):
        assert len(tokenizer("the " * 15)["input_ids"]) == 17
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer("the " * 15)


def test_no_limit_known(tokenizer: BertTokenizer) -> None:
    endless = BertTokenizer.from_vocab(tokenizer.get_vocab())
    with pytest.raises(UsageError, match="no file says the model's limit"):
        endless("the", padding="max_length")
    with pytest.warns(UserWarning, match="cuts nothing"):
        assert len(endless("the " * 99, truncation=True)["input_ids"]) == 101


def test_shapes_of_results(tokenizer: BertTokenizer) -> None:
    assert tokenizer("the cat")["input_ids"] == [2, 5, 6, 3]
    assert tokenizer("the", "cat")["token_type_ids"] == [0, 0, 0, 1, 1]
    assert tokenizer([("the", "cat"), ("on", "the mat")])["token_type_ids"][1] == [0, 0, 0, 1, 1, 1]
    assert tokenizer("the", return_tensors="pt").input_ids.shape == (1, 3)
    assert tokenizer(np.array(["the", "the cat"]), padding=True)["attention_mask"] == [
        [1, 1, 1, 0],
        [1, 1, 1, 1],
    ]
    assert tokenizer([]) == {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    assert tokenizer([], padding=True, return_tensors="pt").input_ids.dtype == torch.int64
    short = BertTokenizer(tokenizer.backend_tokenizer, model_input_names=["input_ids"])
    assert list(short("the")) == ["input_ids"]


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["the", "\ud83d"], r"text 1: character 0 is the lone surrogate U\+D83D"),
        (["the", None], "text 1: it is of type NoneType"),
        (["the", float("nan")], "text 1: it is of type float"),
        ([["the", "cat", "sat"]], "text 0: it is of type list"),
        ([("the", "ab\udc00")], "text 0: character 2 is the lone"),
        (None, "of type NoneType"),
        (7, "of type int"),
        (b"the", "of type bytes"),
        ({"the": 1}, "of type dict"),
    ],
)
@pytest.mark.parametrize("truncation", [False, True])
def test_what_is_not_text(tokenizer, texts, problem, truncation) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        tokenizer(texts, truncation=truncation)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("arguments", "options", "problem"),
    [
        ((["a", "b"], ["c"]), {}, "2 texts and 1 pairs"),
        ((["a", "b"], "c"), {}, "of type str"),
        (("a", ["c"]), {}, "batch of pairs"),
        (("a b",), {"is_split_into_words": True}, "one string"),
        (("a",), {"truncation": "longest"}, "truncation='longest'"),
        (("a",), {"padding": "longest_first"}, "padding='longest_first'"),
        (("a",), {"padding": True, "padding_side": "top"}, "padding_side='top'"),
        (("a",), {"return_tensors": "tf"}, "return_tensors='tf'"),
        (("a",), {"truncation": True, "max_length": 1}, "2 special tokens"),
        (
            ("a",),
            {"truncation": True, "padding": True, "max_length": 10, "pad_to_multiple_of": 8},
            "no multiple",
        ),
        (("a b c",), {"truncation": "only_second", "max_length": 4}, "no pair"),
        (("a b c", "d e f"), {"truncation": "only_first", "max_length": 5}, "nothing would stay"),
        (
            ("a b c d e",),
            {"max_length": 5, "stride": 3, "return_overflowing_tokens": True},
            "stride=3",
        ),
        ((["a", "b c"],), {"return_tensors": "pt"}, "input_ids cannot become one tensor"),
        ((["a", "b c"],), {"return_tensors": "np"}, "input_ids cannot become one tensor"),
    ],
)
def test_arguments_that_do_not_go(tokenizer, arguments, options, problem) -> None:
    with pytest.raises((UsageError, DataError), match=problem) as caught:
        tokenizer(*arguments, **options)
    assert caught.value.fix


def test_long_pairs_are_cut_without_a_piece_for_each_piece(tokenizer: BertTokenizer) -> None:
    """Two texts of 6,000 tokens cut to 16: joining all their pieces would make a million rows."""
    with pytest.warns(UserWarning, match="lost 11987"):
        batch = tokenizer("the " * 6000, "cat " * 6000, truncation=True)
    assert len(batch["input_ids"]) == 16
    assert batch.truncated == Truncated(1, 12_000 - 13)
    assert len(batch.encodings[0].overflowing) <= 3


def test_encode_ids_is_whole_and_names_what_it_refuses(tokenizer: BertTokenizer) -> None:
    texts = ["the cat", "", "the " * 50]
    tokenizer.model_max_length = 100
    assert tokenizer.encode_ids(texts) == [tokenizer(text)["input_ids"] for text in texts]
    assert tokenizer.encode_ids([]) == []
    with pytest.raises(DataError, match="text 5000: character 1"):
        tokenizer.encode_ids(["the"] * 5000 + ["a\udfff"])


def test_encode_pairs_cuts_counts_and_names_what_it_refuses(tokenizer: BertTokenizer) -> None:
    texts, pairs = ["the cat", "the cat sat on the mat"], ["on the mat", ""]
    assert tokenizer.encode_pairs(texts, None, 6) == [
        EncodedPair([2, 5, 6, 3], None, 0, 0),
        EncodedPair([2, 5, 6, 7, 8, 3], None, 2, 0),
    ]
    assert tokenizer.encode_pairs(texts, pairs, 7) == [
        EncodedPair([2, 5, 6, 3, 8, 5, 3], [0, 0, 0, 0, 1, 1, 1], 0, 1),
        EncodedPair([2, 5, 6, 7, 8, 3, 3], [0, 0, 0, 0, 0, 0, 1], 2, 0),
    ]
    assert not tokenizer.truncated, "the caller counts, and tells"
    assert tokenizer.encode_pairs([], [], 8) == tokenizer.encode_pairs([], None, 8) == []
    with pytest.raises(DataError, match="2 texts and 1 pairs"):
        tokenizer.encode_pairs(texts, ["the"], 8)
    with pytest.raises(DataError, match="text 5000: character 1"):
        tokenizer.encode_pairs(["the"] * 5001, ["the"] * 5000 + ["a\udfff"], 8)
    with pytest.raises(DataError, match="text 1: it is of type NoneType"):
        tokenizer.encode_pairs(texts, ["the", None], 8)
    with pytest.raises(UsageError, match="max_length=2 cannot hold the 3 special tokens"):
        tokenizer.encode_pairs(texts, pairs, 2)


def test_encode_pairs_sees_added_tokens_and_settings(tokenizer: BertTokenizer) -> None:
    assert tokenizer.encode_pairs(["newword"], None, 8)[0].ids == [2, 1, 3]
    tokenizer.add_tokens(["newword"])
    assert tokenizer.encode_pairs(["newword"], None, 8)[0].ids == [2, len(tokenizer) - 1, 3]
    tokenizer.truncation_side = "left"
    assert tokenizer.encode_pairs(["the cat sat"], None, 4)[0].ids == [2, 6, 7, 3]


def test_encode_words_is_whole_and_knows_places(tokenizer: BertTokenizer) -> None:
    texts = ["The CA\u0301TS\u0301, 今天[MASK]", "", "the " * 50]
    encoded = tokenizer.encode_words(texts)
    assert encoded[0] == EncodedWords(
        ids=[5, 6, 10, 15, 16, 17, 4],
        offsets=[(0, 3), (4, 8), (8, 10), (10, 11), (12, 13), (13, 14), (14, 20)],
        words=[0, 1, 1, 2, 3, 4, 5],
    )
    assert encoded[1] == EncodedWords([], [], [])
    assert len(encoded[2].ids) == 50
    assert tokenizer.encode_words([]) == []
    with pytest.raises(DataError, match="text 5000: it is of type int"):
        tokenizer.encode_words(["the"] * 5000 + [5])


# ---- what comes out ----


def test_batch_encoding_is_a_dict_with_attributes(tokenizer: BertTokenizer) -> None:
    batch = tokenizer(["the cats", "on"], ["mat", ""], padding=True, return_tensors="pt")
    assert dict(**batch).keys() == {"input_ids", "token_type_ids", "attention_mask"}
    assert batch.input_ids is batch["input_ids"]
    assert batch.n_sequences == 2
    assert batch.tokens() == ["[CLS]", "the", "cat", "##s", "[SEP]", "mat", "[SEP]"]
    assert batch.token_to_chars(0, 3).end == 8
    assert batch.token_to_word(-4) == 1
    assert batch[1].tokens[1] == "on"
    assert len(batch[0:2]) == 2
    assert batch.to("cpu") is batch
    with pytest.raises(AttributeError, match="no field 'labels'"):
        _ = batch.labels
    again = pickle.loads(pickle.dumps(batch))  # noqa: S301
    assert torch.equal(again.input_ids, batch.input_ids)
    assert again.tokens(1) == batch.tokens(1)
    assert again.truncated == batch.truncated


def test_batch_encoding_by_hand() -> None:
    batch = BatchEncoding({"input_ids": [[1, 2], [3, 4]], "score": [0.5, 1.5]})
    assert batch[0:1] == {"input_ids": [[1, 2]], "score": [0.5]}
    assert batch.n_sequences is None
    with pytest.raises(UsageError, match="tokenizer call"):
        batch.tokens()
    with pytest.raises(KeyError):
        batch[0]
    assert batch.convert_to_tensors("pt").score.dtype == torch.float32


def test_pad_keeps_the_kind_and_other_fields(tokenizer: BertTokenizer) -> None:
    rows = [
        {"input_ids": torch.tensor([2, 5, 3]), "label": torch.tensor(1)},
        {"input_ids": torch.tensor([2, 3]), "label": torch.tensor(0)},
    ]
    batch = tokenizer.pad(rows)
    assert batch.input_ids.tolist() == [[2, 5, 3], [2, 3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.label.tolist() == [1, 0]
    arrays = tokenizer.pad({"input_ids": [np.array([2, 3]), np.array([2])]}, padding_side="left")
    assert isinstance(arrays.input_ids, np.ndarray)
    assert arrays.input_ids.tolist() == [[2, 3], [0, 2]]
    assert rows[0].keys() == {"input_ids", "label"}, "what came in is not changed"
    plain = tokenizer.pad([{"input_ids": [2]}], padding="max_length", pad_to_multiple_of=32)
    assert len(plain["input_ids"][0]) == 32


def test_pad_refusals(tokenizer: BertTokenizer) -> None:
    with pytest.raises(DataError, match="row 1 of the batch: there is no 'label'"):
        tokenizer.pad([{"input_ids": [1], "label": 0}, {"input_ids": [1]}])
    with pytest.raises(DataError, match="no input_ids; found: text"):
        tokenizer.pad([{"text": "the"}])
    with pytest.raises(DataError, match="text cannot become one tensor"):
        tokenizer.pad({"input_ids": [[1]], "text": ["the"]}, return_tensors="pt")
    with pytest.raises(DataError, match="text cannot become one tensor"):
        tokenizer.pad({"input_ids": [[1]], "text": ["the"]}, return_tensors="np")


def test_decode(tokenizer: BertTokenizer) -> None:
    ids = tokenizer("Unaffable cats, on")["input_ids"]
    assert tokenizer.decode(ids) == "[CLS] unaffable cats, on [SEP]"
    assert tokenizer.decode(torch.tensor([ids]), skip_special_tokens=True) == ["unaffable cats, on"]
    assert tokenizer.batch_decode([ids, [5]]) == ["[CLS] unaffable cats, on [SEP]", "the"]
    assert tokenizer.decode(5) == "the"
    assert tokenizer.convert_tokens_to_string(["un", "##aff", "##able"]) == "unaffable"
    with pytest.raises(DataError, match="not a row of ids") as caught:
        tokenizer.decode([5, -100])
    assert "-100" in caught.value.fix


def test_special_tokens_around_ids(tokenizer: BertTokenizer) -> None:
    assert tokenizer.build_inputs_with_special_tokens([5], [6, 7]) == [2, 5, 3, 6, 7, 3]
    assert tokenizer.create_token_type_ids_from_sequences([5], [6, 7]) == [0, 0, 0, 1, 1, 1]
    assert tokenizer.build_inputs_with_special_tokens([5]) == tokenizer("the")["input_ids"]
    assert tokenizer.get_special_tokens_mask([5, 6]) == [1, 0, 0, 1]


# ---- vocabulary ----


def test_adding_tokens(tokenizer: BertTokenizer) -> None:
    size = len(tokenizer)
    assert tokenizer.add_tokens(["newword", "cat"]) >= 1
    assert tokenizer.convert_tokens_to_ids("newword") == size
    assert tokenizer.tokenize("the newword") == ["the", "newword"]
    tokenizer("the newword", truncation=True)  # the part that cuts sees it too
    tokenizer.mask_token = "[BLANK]"
    assert tokenizer.mask_token_id == size + 1
    assert tokenizer("the [BLANK] newword", truncation=True)["input_ids"][2:4] == [size + 1, size]
    assert tokenizer.vocab_size == size
    assert len(tokenizer) == size + 2
    tokenizer.add_special_tokens({"additional_special_tokens": ["[A]"]})
    tokenizer.add_special_tokens({"extra_special_tokens": ["[B]"]}, False)
    assert tokenizer.extra_special_tokens == ["[A]", "[B]"]
    with pytest.raises(UsageError, match="'masked_token'"):
        tokenizer.add_special_tokens({"masked_token": "[M]"})


def test_check_fits(tokenizer: BertTokenizer) -> None:
    size = len(tokenizer)
    tokenizer.check_fits(size)
    with pytest.raises(CheckpointError, match=f"up to {size - 1}.*has {size - 1} rows") as caught:
        tokenizer.check_fits(size - 1)
    assert f"resize_token_embeddings({size})" in caught.value.fix


def test_unknown_tokens_and_ids(tokenizer: BertTokenizer) -> None:
    assert tokenizer.convert_tokens_to_ids(["cat", "dog"]) == [6, tokenizer.unk_token_id]
    assert tokenizer.convert_ids_to_tokens([6, 10_000]) == ["cat", None]
    assert tokenizer.bos_token is None
    assert tokenizer.bos_token_id is None
    assert "vocab_size=18" in repr(tokenizer)


# ---- copies and threads ----


def test_copies_are_equal_and_the_fingerprint_is_stable(tokenizer: BertTokenizer) -> None:
    tokenizer.add_special_tokens({"extra_special_tokens": ["[E1]"]})
    before = pickle.dumps(tokenizer)
    with pytest.warns(UserWarning, match="lost"):
        tokenizer("the " * 40, truncation=True, padding="max_length")
    assert pickle.dumps(tokenizer) == before
    unpickled = pickle.loads(before)  # noqa: S301
    for other in (unpickled, copy.deepcopy(tokenizer)):
        text = "the [E1] cats"
        assert other(text) == tokenizer(text)
        assert other.all_special_tokens == tokenizer.all_special_tokens
        assert not other.truncated
        other.add_tokens(["more"])
        assert len(other) == len(tokenizer) + 1


def test_special_tokens_in_text_can_be_read_as_letters(tokenizer: BertTokenizer) -> None:
    assert tokenizer.tokenize("[MASK]") == ["[MASK]"]
    letters = BertTokenizer(copy.deepcopy(tokenizer).backend_tokenizer, split_special_tokens=True)
    assert "[MASK]" not in letters.tokenize("[MASK]")
    assert letters("[SEP]", truncation=True, max_length=9)["input_ids"].count(3) == 1
    again = pickle.loads(pickle.dumps(letters))  # noqa: S301
    assert again.tokenize("[MASK]") == letters.tokenize("[MASK]")


def test_threads_do_not_trip_over_each_other(tokenizer: BertTokenizer) -> None:
    """Calls with different lengths, at once, on one object: each gets its own."""
    wrong: list[str] = []

    def work(length: int) -> None:
        for _ in range(60):
            batch = tokenizer(
                ["the cat sat on the mat"] * 4,
                truncation=True,
                padding="max_length",
                max_length=length,
            )
            if any(len(row) != length for row in batch["input_ids"]):
                wrong.append(f"{length}: {batch['input_ids']}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=work, args=(length,)) for length in (3, 5, 7, 12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert tokenizer.truncated == Truncated(3 * 60 * 4, 60 * 4 * (5 + 3 + 1))


def test_import_brings_no_torch() -> None:
    code = (
        "import sys, bertolt.tokenization as t;"
        "t.BertTokenizer.from_vocab({'[UNK]': 0})('a', padding=True);"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("lacks", ["tokenizer.json", "vocab.txt"])
def test_added_tokens_keep_their_ids_for_every_reader(tmp_path: Path, lacks: str) -> None:
    """Whoever reads `vocab.txt` learns the ids behind its lines from `tokenizer_config.json`."""
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "end")
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["brandneu", "<X>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E]"]})
    text = "good brandneu film <X> [E] end"
    ids = tokenizer(text)["input_ids"]
    assert ids == [2, 5, 8, 6, 9, 10, 7, 3]
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / lacks).unlink()
    assert transformers.BertTokenizer.from_pretrained(tmp_path / "saved")(text)["input_ids"] == ids
    again = BertTokenizer.from_pretrained(tmp_path / "saved")
    assert again(text)["input_ids"] == ids
    assert again.all_special_tokens == tokenizer.all_special_tokens
