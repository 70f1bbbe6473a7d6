"""What a decoder writes when it is asked for more than a token at a time: the peer's ids."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import transformers

from bertolt import BertLMHeadModel, KeyValueCache, RobertaConfig, RobertaForCausalLM
from bertolt.base.errors import BertoltError, UsageError
from bertolt.models.logit_changes import Repeated, RepeatedRuns
from bertolt.models.writing import INSTEAD, Writing

LENGTHS = [5, 3, 6, 1]
ENDS = [7, 23, 41, 60]


@pytest.fixture(scope="module")
def models(tiny_config: Any, randomised: Any) -> tuple[Any, Any]:
    """Ours and the peer's, with the same weights."""
    config = tiny_config(is_decoder=True)
    ours = randomised(BertLMHeadModel(config), std=0.25)
    peer = transformers.BertLMHeadModel(transformers.BertConfig(**config.to_dict())).eval()
    peer.load_state_dict(ours.state_dict())
    return ours, peer


@pytest.fixture
def prompts(padded: Any) -> dict[str, torch.Tensor]:
    """Prompts of several lengths, padded on the left, as the peer needs them."""
    batch = padded(LENGTHS, side="left")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def both(models: Any, prompts: Any, **options: Any) -> tuple[Any, Any]:
    """What each writes; the peer has its positions from the mask here."""
    ours, peer = models
    options = {"max_new_tokens": 12, **options}
    found = ours.generate(**prompts, **options)
    return found, peer.generate(**prompts, **{"pad_token_id": 0, **options})


def without_fill(ids: torch.Tensor, prompt: int, ends: Any) -> list[list[int]]:
    """New tokens up to the first end: the peer's beams fill with the end where the padding is 0."""
    ends = ends if isinstance(ends, list) else [ends]
    rows = []
    for row in ids[:, prompt:].tolist():
        stop = next((n for n, token in enumerate(row, start=1) if token in ends), len(row))
        rows.append(row[:stop])
    return rows


GREEDY: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"bad_words_ids": [[5], [9, 11], [30]]},
    {"min_new_tokens": 6, "eos_token_id": ENDS},
    {"min_length": 13, "eos_token_id": ENDS},
    {"eos_token_id": ENDS},
    {"eos_token_id": ENDS, "pad_token_id": 3, "bad_words_ids": [[7], [60, 60]]},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "eos_token_id": 7},
    {"num_return_sequences": 3, "do_sample": True},
]


@pytest.mark.parametrize("options", GREEDY, ids=str)
def test_one_by_one_the_text_equals_the_peers(models: Any, prompts: Any, options: Any) -> None:
    torch.manual_seed(3)
    ours, peer = models
    options = {"max_new_tokens": 12, **options}
    found = ours.generate(**prompts, **options)
    torch.manual_seed(3)
    wanted = peer.generate(**prompts, **{"pad_token_id": 0, "do_sample": False, **options})
    assert found.tolist() == wanted.tolist()


BEAMS: list[dict[str, Any]] = [
    {},
    {"num_return_sequences": 2},
    {"length_penalty": 0.0},
    {"length_penalty": 2.5, "num_return_sequences": 2},
    {"length_penalty": -1.0},
    {"repetition_penalty": 1.6, "no_repeat_ngram_size": 2},
    {"bad_words_ids": [[7], [9, 11]]},
    {"min_new_tokens": 5},
]


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize("ends", [None, 7, ENDS], ids=["no end", "one end", "ends"])
@pytest.mark.parametrize("options", BEAMS, ids=str)
def test_beams_equal_the_peers(
    models: Any, prompts: Any, options: Any, ends: Any, early: Any
) -> None:
    for beams in (2, 5) if not options or "num_return_sequences" in options else (3,):
        if options.get("num_return_sequences", 1) > beams:
            continue
        asked = {**options, "num_beams": beams, "early_stopping": early, "eos_token_id": ends}
        found, wanted = both(models, prompts, **asked, pad_token_id=3)
        assert found.tolist() == wanted.tolist(), beams
        found, wanted = both(models, prompts, **asked)
        assert found.shape == wanted.shape
        prompt = prompts["input_ids"].shape[1]
        assert torch.equal(found[:, :prompt], wanted[:, :prompt])
        assert without_fill(found, prompt, ends) == without_fill(wanted, prompt, ends)


def test_behind_the_end_of_a_beam_stands_the_padding(models: Any, prompts: Any) -> None:
    ours, _ = models
    found = ours.generate(**prompts, num_beams=3, eos_token_id=ENDS, max_new_tokens=12)
    for row in found[:, 6:].tolist():
        end = next((place for place, token in enumerate(row) if token in ENDS), len(row))
        assert set(row[end + 1 :]) <= {0}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 0, "top_p": 0.8},
        {"top_k": 5, "temperature": 0.7, "eos_token_id": ENDS},
        {"top_k": 1, "eos_token_id": 7, "num_return_sequences": 2},
    ],
    ids=str,
)
def test_drawn_beams_equal_the_peers(models: Any, prompts: Any, options: Any) -> None:
    asked = {"num_beams": 3, "do_sample": True, "pad_token_id": 3, **options}
    ours, peer = models
    torch.manual_seed(5)
    found = ours.generate(**prompts, max_new_tokens=9, **asked)
    torch.manual_seed(5)
    assert found.tolist() == peer.generate(**prompts, max_new_tokens=9, **asked).tolist()


def test_beams_of_a_decoder_with_an_offset_have_the_scores_of_their_texts(
    tiny_config: Any, randomised: Any
) -> None:
    """RoBERTa's positions begin behind the padding's; the peer's `generate` counts them from 0."""
    config = tiny_config(RobertaConfig, is_decoder=True, type_vocab_size=1)
    ours = randomised(RobertaForCausalLM(config), std=0.3)
    ids = torch.randint(5, 97, (3, 6), generator=torch.Generator().manual_seed(1))
    found = ours.generate(
        ids,
        num_beams=4,
        num_return_sequences=2,
        max_new_tokens=7,
        return_dict_in_generate=True,
        output_scores=True,
    )
    with torch.no_grad():
        shares = ours(found.sequences).logits[:, 5:-1].log_softmax(-1)
    sums = shares.gather(2, found.sequences[:, 6:, None]).sum((1, 2))
    torch.testing.assert_close(found.sequences_scores, sums / 7, atol=1e-5, rtol=0)
    greedy = ours.generate(ids, max_new_tokens=7)
    with torch.no_grad():
        assert torch.equal(ours(greedy).logits[:, 5:-1].argmax(-1), greedy[:, 6:])


def test_beams_look_at_their_own_encoder_states(tiny_config: Any, randomised: Any) -> None:
    config = tiny_config(is_decoder=True, add_cross_attention=True)
    ours = randomised(BertLMHeadModel(config), std=0.3)
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(2, 5, config.hidden_size, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    ids = torch.tensor([[2, 9, 11], [2, 30, 8]])
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 7}
    together = ours.generate(
        ids, encoder_hidden_states=states, encoder_attention_mask=mask, **options
    )
    for row in range(2):
        own = slice(row, row + 1)
        alone = ours.generate(
            ids[own],
            encoder_hidden_states=states[own],
            encoder_attention_mask=mask[own],
            **options,
        )
        assert together[3 * row : 3 * row + 3].tolist() == alone.tolist()
    one = ours.generate(ids, encoder_hidden_states=states, encoder_attention_mask=mask)
    assert one[:, 3:10].tolist() != together[::3, 3:].tolist()


def test_prompts_padded_on_the_right_are_gone_on_with_alike(
    models: Any, prompts: Any, padded: Any
) -> None:
    ours, _ = models
    right = {name: value for name, value in padded(LENGTHS).items() if name in prompts}
    for options in (
        {"num_beams": 3, "num_return_sequences": 2, "no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.5},
        {"bad_words_ids": [[row[0], 9] for row in right["input_ids"].tolist()]},
    ):
        left = ours.generate(**prompts, **options)
        found = ours.generate(**right, **options)
        assert found[:, 6:].tolist() == left[:, 6:].tolist()
        each = options.get("num_return_sequences", 1)
        assert torch.equal(found[::each, :6], right["input_ids"])


# ---- functions of one's own ----


def test_processors_of_ones_own(models: Any, prompts: Any) -> None:
    seen = []

    def only_even(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(ids.shape)
        odd = torch.arange(scores.shape[-1]) % 2 == 1
        return scores.masked_fill(odd, float("-inf"))

    for beams in (1, 3):
        seen.clear()
        options = {"num_beams": beams, "logits_processor": [only_even], "do_sample": False}
        found, wanted = both(models, prompts, **options)
        assert found.tolist() == wanted.tolist()
        assert not (found[:, 6:] % 2).any()
        assert seen[0] == (4 * beams, 6)
    listed = transformers.LogitsProcessorList([transformers.MinLengthLogitsProcessor(15, 7)])
    found, wanted = both(models, prompts, logits_processor=listed, eos_token_id=7)
    assert found.tolist() == wanted.tolist()
    single = models[0].generate(**prompts, logits_processor=only_even, max_new_tokens=12)
    assert not (single[:, 6:] % 2).any()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("ends", [None, 7])
def test_criteria_of_ones_own(models: Any, prompts: Any, beams: int, ends: int | None) -> None:
    def after_an_odd_one(ids: torch.Tensor, scores: Any, **others: Any) -> torch.Tensor:
        return ids[:, -1] % 2 == 1

    def at_ten(ids: torch.Tensor, scores: Any, **others: Any) -> torch.Tensor:
        return torch.full((len(ids),), ids.shape[1] >= 10)

    for criteria in ([after_an_odd_one], [at_ten], [at_ten, after_an_odd_one]):
        found, wanted = both(
            models,
            prompts,
            num_beams=beams,
            eos_token_id=ends,
            pad_token_id=3,
            stopping_criteria=transformers.StoppingCriteriaList(criteria),
        )
        # The peer's beams fill with -1, which is no token, where no token ends a text.
        assert found.tolist() == wanted.where(wanted >= 0, 3).tolist()
    stopped = models[0].generate(**prompts, stopping_criteria=lambda ids, scores: True)
    assert stopped.shape[1] == 7


# ---- more than ids ----


def test_scores_and_logits_on_request(models: Any, prompts: Any) -> None:
    options = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    for more in (
        {"repetition_penalty": 1.4},
        {"num_beams": 3, "num_return_sequences": 2, "eos_token_id": 7, "pad_token_id": 3},
        {"do_sample": True, "top_k": 7, "temperature": 0.5},
    ):
        torch.manual_seed(1)
        found = models[0].generate(**prompts, max_new_tokens=6, **options, **more)
        torch.manual_seed(1)
        wanted = models[1].generate(
            **prompts, max_new_tokens=6, **{"pad_token_id": 0, **options, **more}
        )
        assert found.sequences.tolist() == wanted.sequences.tolist()
        for name in ("scores", "logits"):
            assert len(found[name]) == len(wanted[name])
            for have, want in zip(found[name], wanted[name], strict=True):
                torch.testing.assert_close(have, want, atol=2e-5, rtol=0)
        if "num_beams" in more:
            torch.testing.assert_close(
                found.sequences_scores, wanted.sequences_scores, atol=1e-5, rtol=0
            )
            assert found.beam_indices.tolist() == wanted.beam_indices.tolist()
    plain = models[0].generate(**prompts, max_new_tokens=2, return_dict_in_generate=True)
    assert list(plain.keys()) == ["sequences"]


def test_a_seed_draws_the_same_texts(models: Any, prompts: Any) -> None:
    ours, _ = models
    options = {"do_sample": True, "num_return_sequences": 4, "max_new_tokens": 5}
    first, again = (ours.generate(**prompts, seed=4, **options) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (16, 11)
    assert len({tuple(row) for row in first[:4].tolist()}) > 1
    beams = [ours.generate(**prompts, seed=4, do_sample=True, num_beams=2) for _ in range(2)]
    assert torch.equal(*beams)


# ---- what is refused ----


def test_unknown_arguments_are_refused_all_at_once(models: Any, prompts: Any) -> None:
    with pytest.raises(UsageError, match="no arguments 'max_new_token', 'min_p'") as error:
        models[0].generate(**prompts, max_new_token=3, min_p=0.1)
    assert error.value.fix == f"max_new_token: use max_new_tokens; min_p: {INSTEAD['min_p']}"
    for name in INSTEAD:
        with pytest.raises(UsageError) as error:
            models[0].generate(**prompts, **{name: 1})
        assert error.value.fix == INSTEAD[name]


def test_every_argument_of_the_peer_is_known(models: Any) -> None:
    """Its settings, but for those that no program gives to a call."""
    settings = set(transformers.GenerationConfig().to_dict())
    inner = ("assistant", "is_", "_", "num_assistant", "prefill", "max_matching", "target_look")
    others = {
        *("transformers_version", "compile_config", "continuous_batching_config", "token_healing"),
        *("cache_config", "max_cache_len", "use_mtp", "speculation_type"),
        "decoder_start_token_id",
    }
    known = {*Writing.__dataclass_fields__, *INSTEAD}
    known |= {"use_cache", "cache_implementation", "low_memory", "bos_token_id", "disable_compile"}
    missing = {name for name in settings if not name.startswith(inner)} - known - others
    assert missing == set()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_beams": 2.0}, r"num_beams is 2\.0"),
        ({"num_return_sequences": 2}, "there are 1 beams"),
        ({"num_return_sequences": 4, "num_beams": 3}, "there are 3 beams"),
        ({"num_return_sequences": 4, "num_beams": 3, "do_sample": True}, "there are 3 beams"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"repetition_penalty": "2"}, "repetition_penalty is '2'"),
        ({"length_penalty": None}, "length_penalty is None"),
        ({"early_stopping": "soon"}, "early_stopping is 'soon'"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1"),
        ({"min_new_tokens": 30}, "30 new tokens are to be written at least, and 20 at most"),
        ({"min_length": 9, "max_length": 8}, "3 new tokens are to be written at least"),
        ({"bad_words_ids": [5]}, r"bad_words_ids is \[5\]"),
        ({"bad_words_ids": [[]]}, r"bad_words_ids is \[\[\]\]"),
        ({"bad_words_ids": [[97]]}, "bad_words_ids is 97"),
        ({"logits_processor": [3]}, "logits_processor has a int"),
        ({"logits_processor": [lambda ids, scores: None]}, "logits processor gave NoneType"),
        ({"logits_processor": [lambda ids, scores: scores[:1]]}, r"gave \(1, 97\)"),
        ({"stopping_criteria": [lambda ids, scores: 3]}, r"gave torch\.int64 \(\)"),
        ({"output_scores": True}, "have no place in ids alone"),
        ({"bad_words_ids": [[token] for token in range(97)]}, "are not finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_asked_for(models: Any, prompts: Any, options: Any, words: str) -> None:
    with pytest.raises(BertoltError, match=words):
        models[0].generate(**prompts, **options)


def test_arguments_that_change_nothing_are_said(
    models: Any, prompts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = models[0].generate(**prompts)
    assert capsys.readouterr().err == ""
    found = models[0].generate(
        inputs=prompts["input_ids"], use_cache=True, **{"attention_mask": prompts["attention_mask"]}
    )
    assert capsys.readouterr().err == ""
    assert torch.equal(found, wanted)
    assert torch.equal(models[0].generate(**prompts, use_cache=False), wanted)
    assert "use_cache=False changes nothing here" in capsys.readouterr().err


# ---- parts ----


def test_runs_and_repetition_of_any_ids() -> None:
    """Against the peer's own functions, on ids without padding."""
    generator = torch.Generator().manual_seed(0)
    none = torch.zeros(6, 3, dtype=torch.bool)
    for length, size in itertools.product((3, 4, 9), (1, 2, 3, 4)):
        ids = torch.randint(0, 4, (6, length), generator=generator)
        scores = torch.randn(6, 5, generator=generator)
        peer = transformers.NoRepeatNGramLogitsProcessor(size)
        assert torch.equal(RepeatedRuns(size, none)(ids, scores), peer(ids, scores))
        peer = transformers.RepetitionPenaltyLogitsProcessor(1.0 + size / 2)
        assert torch.equal(Repeated(1.0 + size / 2, none)(ids, scores), peer(ids, scores))


def test_a_cache_changes_the_places_of_its_sequences(models: Any, padded: Any) -> None:
    ours, _ = models
    ids = padded([4, 4, 4])["input_ids"]
    order = torch.tensor([2, 0, 0])
    with torch.no_grad():
        cache = ours(ids, use_cache=True).past_key_values
        assert isinstance(cache, KeyValueCache)
        cache.reorder(order)
        new = torch.tensor([[9], [8], [7]])
        found = ours(new, past_key_values=cache).logits
        wanted = ours(torch.cat([ids[order], new], 1)).logits[:, -1:]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
