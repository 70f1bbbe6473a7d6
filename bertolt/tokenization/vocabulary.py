"""WordPiece vocabularies: reading `vocab.txt`, BERT's pipeline around one, and learning one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

from bertolt.base.errors import BertoltError, CheckpointError, DataError, KeywordError, UsageError

# Names and texts as published with BERT; a trained vocabulary has them first, in this order.
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

# The same with RoBERTa and its kin.
ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
}

# Repetitions of a word in one string when counted words are given to the trainer.
_REPEATS = 1000

# Words are counted in portions of so many characters, and so many different ones are kept: if there
# are more, the rarest are forgotten, which no vocabulary would hold.
_PORTION = 1 << 25
_DIFFERENT_WORDS = 1 << 22


def token_text(token: str | AddedToken) -> str:
    """The text of a token, with or without flags."""
    return token if isinstance(token, str) else token.content


def usual_tokens(backend: Tokenizer) -> Mapping[str, str]:
    """The special tokens of a backend by name, where no file names them: BERT's or RoBERTa's."""
    around = ("cls_token", "sep_token")
    for tokens in (SPECIAL_TOKENS, ROBERTA_TOKENS):
        if all(backend.token_to_id(tokens[name]) is not None for name in around):
            return tokens
    return SPECIAL_TOKENS


def with_prefix_space(backend: Tokenizer, wanted: bool) -> Tokenizer:
    """A byte-level backend that puts a space before each text or word, or puts none.

    Raises:
        UsageError: its words have no space before them at all.
    """
    name = "add_prefix_space"
    pipeline = json.loads(backend.to_str())
    steps: list[dict[str, Any]] = []
    for part in ("pre_tokenizer", "post_processor"):
        step = pipeline[part] or {}
        steps += [step, *step.get("pretokenizers", ()), *step.get("processors", ())]
    spaced = [step for step in steps if name in step]
    if not spaced:
        if not wanted:
            return backend
        raise UsageError(
            f"{name}=True, and the words of this vocabulary have no space before them",
            fix=f"leave {name} out",
        )
    for step in spaced:
        step[name] = wanted
    return Tokenizer.from_str(json.dumps(pipeline))


def several(tokens: str | AddedToken | Iterable[str | AddedToken]) -> list[str | AddedToken]:
    """Tokens as a list, where one alone may stand for a list of one.

    Raises:
        KeywordError: something among them is neither a text nor an `AddedToken`.
    """
    listed = tokens if isinstance(tokens, Iterable) and not isinstance(tokens, str) else [tokens]
    listed = list(listed)
    for token in listed:
        if not isinstance(token, str | AddedToken):
            raise KeywordError(
                f"{token!r} is no token", fix="give a text, an AddedToken, or a list of such"
            )
    return listed


def read_vocab(path: Path) -> dict[str, int]:
    r"""Token → line number of a `vocab.txt`; blank lines at its end are left out.

    A line ends with \n or \r\n; any other separator, \r alone too, belongs to its token.

    Raises:
        CheckpointError: the file is missing, empty or not UTF-8.
    """
    try:
        # Some editors put a byte order mark before the first token.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            tokens = [line.removesuffix("\n").removesuffix("\r") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"this vocabulary cannot be read ({error})",
            place=str(path),
            fix="give a UTF-8 file with one token a line",
        ) from error
    while tokens and not tokens[-1]:
        tokens.pop()
    if not tokens:
        raise CheckpointError(
            "this vocabulary is empty", place=str(path), fix="give a file with one token a line"
        )
    return {token: index for index, token in enumerate(tokens)}


def guess_lower_case(vocab: Iterable[str]) -> tuple[bool, str]:
    """Whether a vocabulary is of lower-cased text, and the reason in words.

    An ordinary token (one not in brackets) with a letter A-Z can only come from cased text.
    """
    cased = next((t for t in vocab if re.search("[A-Z]", t) and not _in_brackets(t)), None)
    if cased is None:
        return True, "guessed: no ordinary token has a letter A-Z, so text is lower-cased"
    return False, f"guessed: the token {cased!r} has a letter A-Z, so case is kept"


def _in_brackets(token: str) -> bool:
    return (token[:1], token[-1:]) in {("[", "]"), ("<", ">")}


def bert_normalizer(
    do_lower_case: bool, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
) -> BertNormalizer:
    """BERT's cleaning of text; accents go when lower-casing, unless `strip_accents` says."""
    return BertNormalizer(
        lowercase=do_lower_case,
        strip_accents=strip_accents,
        handle_chinese_chars=tokenize_chinese_chars,
    )


def bert_backend(
    vocab: Mapping[str, int],
    *,
    do_lower_case: bool,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    special_tokens: Mapping[str, str | AddedToken] = SPECIAL_TOKENS,
    added_tokens: Sequence[AddedToken] = (),
    place: str = "",
) -> Tokenizer:
    """BERT's pipeline as published: clean, split into words, WordPiece, `[CLS] a [SEP] b [SEP]`.

    Args:
        vocab: token → id.
        do_lower_case: lower-case the text.
        strip_accents: None strips them when lower-casing.
        tokenize_chinese_chars: make every Chinese character a word.
        special_tokens: the special tokens by name; those that `vocab` lacks go to its end.
        added_tokens: tokens that come after the vocabulary, in the order of their ids.
        place: where the vocabulary is from, for messages.

    Raises:
        CheckpointError: the vocabulary lacks the token for what it does not know.
    """
    special = {**SPECIAL_TOKENS, **special_tokens}
    names = ("unk_token", "cls_token", "sep_token")
    unknown, start, end = (token_text(special[name]) for name in names)
    if unknown not in vocab:
        raise CheckpointError(
            f"the vocabulary has no {unknown}, the token for what it does not know",
            place=place,
            fix="add it as a line, or name the one that it has: unk_token in tokenizer_config.json",
        )
    backend = Tokenizer(WordPiece(dict(vocab), unk_token=unknown))
    backend.normalizer = bert_normalizer(do_lower_case, strip_accents, tokenize_chinese_chars)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = WordPieceDecoder(prefix="##")
    backend.add_tokens(list(added_tokens))
    backend.add_special_tokens(list(special.values()))
    backend.post_processor = TemplateProcessing(
        single=[start, "$A:0", f"{end}:0"],
        pair=[start, "$A:0", f"{end}:0", "$B:1", f"{end}:1"],
        special_tokens=[(token, backend.token_to_id(token)) for token in (start, end)],
    )
    return backend


def learn_vocab(
    texts: Iterable[str] | Iterable[Sequence[str]],
    vocab_size: int,
    *,
    special_tokens: Sequence[str],
    min_frequency: int,
    limit_alphabet: int | None,
    normalizer: BertNormalizer,
) -> dict[str, int]:
    """Learn a WordPiece vocabulary, token → id; the same texts give the same ids.

    The library's own trainer numbers the `##x` pieces in the order of a hash table, which differs
    from run to run, and ties between merges follow those numbers. So the words are counted first,
    and the characters are given to the trainer in a fixed order, ahead of the merges.

    Raises:
        UsageError: `vocab_size` cannot hold the characters of the text.
        DataError: something among the texts is not text.
    """
    words = _count_words(texts, normalizer)
    letters = Counter[str]()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    alphabet = sorted(letters, key=lambda letter: (-letters[letter], letter))[:limit_alphabet]
    inside = {letter for word in words for letter in word[1:]}.intersection(alphabet)
    fixed = [*special_tokens, *sorted(alphabet), *(f"##{letter}" for letter in sorted(inside))]
    if len(fixed) > vocab_size:
        raise UsageError(
            f"vocab_size={vocab_size} cannot hold the special tokens and the {len(alphabet)}"
            " characters of the text, at the start of a word and inside",
            fix=f"raise vocab_size above {len(fixed)}, or pass limit_alphabet",
        )
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=fixed,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend = Tokenizer(WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.train_from_iterator(_repeat(words), trainer)
    return backend.get_vocab()


def _count_words(
    texts: Iterable[str] | Iterable[Sequence[str]], normalizer: BertNormalizer
) -> dict[str, int]:
    """How often each word is in the texts, in memory that does not grow with them.

    The counts are exact unless there are more than `_DIFFERENT_WORDS` words.
    """
    if isinstance(texts, str):
        raise UsageError(
            "the texts to learn from are one string", fix="pass a list of texts, or an iterator"
        )
    words: dict[str, int] = {}
    for portion in _portions(iter(texts)):
        for word, count in _counted(portion, normalizer).items():
            words[word] = words.get(word, 0) + count
        rare = 0
        while len(words) > _DIFFERENT_WORDS:
            rare += 1
            words = {word: count for word, count in words.items() if count > rare}
    return dict(sorted(words.items()))


def _portions(
    texts: Iterator[str] | Iterator[Sequence[str]],
) -> Iterator[Iterator[str | Sequence[str]]]:
    """The texts in runs of about `_PORTION` characters, each to be read to its end."""
    more = True

    def portion() -> Iterator[str | Sequence[str]]:
        nonlocal more
        size = 0
        for text in texts:
            yield text
            size += len(text) if isinstance(text, str) else sum(map(len, text))
            if size >= _PORTION:
                return
        more = False

    while more:
        yield portion()


def _counted(texts: Iterator[str | Sequence[str]], normalizer: BertNormalizer) -> dict[str, int]:
    """How often each word is in the texts, counted by the trainer, which is fast and streams."""
    counter = WordPieceTrainer(vocab_size=0, show_progress=False)
    backend = Tokenizer(WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    backend.normalizer = normalizer
    backend.pre_tokenizer = BertPreTokenizer()
    try:
        backend.train_from_iterator(texts, counter)
    except BertoltError:  # of whoever reads the texts
        raise
    except (TypeError, ValueError) as error:
        raise DataError(
            f"something to learn from is not text ({error})",
            fix="pass texts, or batches of texts, without None and without lone surrogates",
        ) from error
    # The state is JSON; it is read because no other call tells the counts.
    state = json.loads(counter.__getstate__())
    words: dict[str, int] = state["WordPieceTrainer"]["bpe_trainer"]["words"]
    return words


def _repeat(words: Mapping[str, int]) -> Iterator[str]:
    """Text in which each word is as often as it was counted."""
    for word, count in words.items():
        for start in range(0, count, _REPEATS):
            yield " ".join([word] * min(_REPEATS, count - start))
