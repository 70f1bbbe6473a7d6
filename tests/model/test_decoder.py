"""The decoder: its cache, its cross-attention and what it writes, held equal to the peer's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from bertolt import AutoModelForCausalLM, BertLMHeadModel, PackedBatch
from bertolt.errors import CheckpointError, DataError, UsageError
from bertolt.model.sampling import Sampling

LENGTHS = [7, 2, 5]


@pytest.fixture(scope="module")
def models(tiny_config: Any, randomised: Any) -> tuple[Any, Any]:
    """Ours and the peer's, with the same weights and with cross-attention."""
    config = tiny_config(is_decoder=True, add_cross_attention=True)
    ours = randomised(BertLMHeadModel(config), std=0.3)
    theirs = transformers.BertConfig(**config.to_dict(), attn_implementation="eager")
    peer = transformers.BertLMHeadModel(theirs).eval()
    peer.load_state_dict(ours.state_dict())
    return ours, peer


@pytest.fixture
def encoder(tiny_config: Any) -> dict[str, torch.Tensor]:
    """States of three encoded texts of up to six tokens."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]])
    states = torch.randn(3, 6, tiny_config().hidden_size, generator=generator)
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def test_the_automatic_class_is_the_same_class() -> None:
    assert AutoModelForCausalLM is BertLMHeadModel


def test_a_config_that_is_no_decoders_is_made_one(tiny_config: Any) -> None:
    config = tiny_config()
    model = BertLMHeadModel(config)
    assert model.config.is_decoder
    assert model.bert.config.is_decoder
    assert not config.is_decoder


def test_cross_attention_is_for_decoders(tiny_config: Any) -> None:
    with pytest.raises(CheckpointError, match="no decoder"):
        tiny_config(add_cross_attention=True)


# ---- cross-attention ----


def test_cross_attention_equals_the_peers_in_every_gradient(
    models: tuple[Any, Any], encoder: Any, padded: Any, same_gradients: Any
) -> None:
    ours, peer = models
    batch = padded(LENGTHS)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for model in models:
        model.zero_grad()
    found, wanted = (model(**batch, **encoder, labels=labels) for model in models)
    torch.testing.assert_close(found.loss, wanted.loss, atol=1e-5, rtol=0)
    found.loss.backward()
    wanted.loss.backward()
    same_gradients(ours, peer)
    plain = ours(**batch, labels=labels)
    assert not torch.allclose(plain.loss, found.loss)


def test_maps_of_cross_attention_equal_the_peers(
    models: tuple[Any, Any], encoder: Any, padded: Any
) -> None:
    batch = padded(LENGTHS)
    with torch.no_grad():
        found, wanted = (model(**batch, **encoder, output_attentions=True) for model in models)
    real = batch["attention_mask"].bool()
    assert len(found.cross_attentions) == 2
    for have, want in zip(found.cross_attentions, wanted.cross_attentions, strict=True):
        assert have.shape == want.shape
        have, want = (maps.transpose(1, 2)[real] for maps in (have, want))
        torch.testing.assert_close(have, want, atol=1e-5, rtol=0)


def test_cross_attention_by_both_doors(models: tuple[Any, Any], encoder: Any, padded: Any) -> None:
    ours, _ = models
    packed, layout = PackedBatch.from_padded(**padded(LENGTHS))
    with torch.no_grad():
        found, wanted = ours(packed, **encoder), ours(**padded(LENGTHS), **encoder)
    torch.testing.assert_close(layout.unpack(found.logits), wanted.logits, atol=1e-6, rtol=0)


def test_encoder_states_that_do_not_fit_are_refused(
    models: tuple[Any, Any], encoder: Any, padded: Any, tiny_config: Any
) -> None:
    ours, _ = models
    with pytest.raises(DataError, match=r"\(2, S, 32\) is needed"):
        ours(**padded([3, 3]), **encoder)
    with pytest.raises(UsageError, match="no cross-attention"):
        BertLMHeadModel(tiny_config())(**padded(LENGTHS), **encoder)


# ---- the cache ----


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    cuts=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_reading_in_parts_gives_what_reading_at_once_gives(
    models: tuple[Any, Any], padded: Any, lengths: list[int], cuts: list[float]
) -> None:
    """Each sequence is cut somewhere of its own, and its second part read behind the cache."""
    ours, _ = models
    ids = [row[:length].tolist() for row, length in zip(padded(lengths)["input_ids"], lengths)]  # noqa: B905
    ids = [[*row, 5] for row in ids]
    places = [1 + int(cut * (len(row) - 2)) for cut, row in zip(cuts, ids)]  # noqa: B905
    with torch.no_grad():
        whole = ours(PackedBatch.from_sequences(ids)).logits
        heads = PackedBatch.from_sequences([row[:at] for row, at in zip(ids, places)])  # noqa: B905
        tails = PackedBatch.from_sequences([row[at:] for row, at in zip(ids, places)])  # noqa: B905
        first = ours(heads, use_cache=True)
        second = ours(tails, past_key_values=first.past_key_values)
    found = []
    for part_a, part_b in zip(
        first.logits.split(heads.lengths.tolist()),
        second.logits.split(tails.lengths.tolist()),
        strict=True,
    ):
        found += [part_a, part_b]
    torch.testing.assert_close(torch.cat(found), whole, atol=1e-5, rtol=0)
    assert second.past_key_values.get_seq_length() == max(map(len, ids))


def test_the_padded_door_with_a_cache_takes_the_whole_mask(
    models: tuple[Any, Any], padded: Any
) -> None:
    ours, peer = models
    batch = padded([6, 6, 6])
    mask = batch["attention_mask"]
    with torch.no_grad():
        first = ours(input_ids=batch["input_ids"][:, :4], use_cache=True)
        found = ours(
            input_ids=batch["input_ids"][:, 4:],
            attention_mask=mask,
            past_key_values=first.past_key_values,
        )
        wanted = peer(input_ids=batch["input_ids"], attention_mask=mask).logits[:, 4:]
    torch.testing.assert_close(found.logits, wanted, atol=1e-5, rtol=0)


def test_a_cache_of_other_sequences_is_refused(models: tuple[Any, Any], padded: Any) -> None:
    ours, _ = models
    cache = ours(**padded([3, 3]), use_cache=True).past_key_values
    with pytest.raises(UsageError, match="2 sequences, and the batch has 3"):
        ours(**padded(LENGTHS), past_key_values=cache)


# ---- what it writes ----


@pytest.mark.parametrize("side", ["left", "right"])
def test_greedy_writing_equals_the_peers(
    models: tuple[Any, Any], encoder: Any, padded: Any, side: str
) -> None:
    """The peer only writes on from prompts that are padded on the left."""
    ours, peer = models
    left = padded(LENGTHS, side="left")
    for row in left["token_type_ids"]:
        row.zero_()
    prompts = {key: left[key] for key in ("input_ids", "attention_mask")}
    positions = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
    wanted = _peer_greedy(peer, prompts, positions, encoder, 12)
    given = prompts
    if side == "right":
        given = {key: padded(LENGTHS)[key] for key in prompts}
    found = ours.generate(**given, **encoder, max_new_tokens=12)
    assert torch.equal(found[:, :7], given["input_ids"])
    assert found[:, 7:].tolist() == wanted.tolist()


def _peer_greedy(
    peer: Any, prompts: Any, positions: torch.Tensor, encoder: Any, count: int
) -> torch.Tensor:
    """The peer's forward pass and nothing else: no cache, the whole text read anew each time."""
    ids, mask, written = prompts["input_ids"], prompts["attention_mask"], []
    for _ in range(count):
        with torch.no_grad():
            out = peer(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                **encoder,
            )
        written.append(out.logits[:, -1].argmax(-1, keepdim=True))
        ids = torch.cat([ids, written[-1]], 1)
        mask = torch.cat([mask, torch.ones_like(written[-1])], 1)
        positions = torch.cat([positions, positions[:, -1:] + 1], 1)
    return torch.cat(written, 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "top_k": 0},
        {"do_sample": True, "top_k": 5},
        {"do_sample": True, "top_k": 0, "top_p": 0.7},
        {"do_sample": True, "top_k": 20, "top_p": 0.8, "temperature": 0.6},
        {"do_sample": True, "temperature": 1.7},
    ],
    ids=str,
)
def test_writing_with_the_same_random_state_equals_the_peers(
    models: tuple[Any, Any], padded: Any, options: dict[str, Any]
) -> None:
    ours, peer = models
    ids = padded([5, 5, 5, 5])["input_ids"]
    torch.manual_seed(4)
    found = ours.generate(ids, max_new_tokens=20, **options)
    torch.manual_seed(4)
    wanted = peer.generate(ids, max_new_tokens=20, pad_token_id=0, **options)
    assert found.tolist() == wanted.tolist()


def test_an_ended_sequence_is_filled_and_all_ended_stops(
    models: tuple[Any, Any], padded: Any
) -> None:
    ours, peer = models
    ids = padded([5, 5, 5])["input_ids"]
    free = ours.generate(ids, max_new_tokens=15)
    end = int(free[0, 7])
    found = ours.generate(ids, max_new_tokens=15, eos_token_id=end)
    wanted = peer.generate(
        ids, max_new_tokens=15, eos_token_id=end, pad_token_id=0, do_sample=False
    )
    assert found.tolist() == wanted.tolist()
    assert end in found[0, 5:8].tolist()
    one = ours.generate(ids[:1], max_new_tokens=15, eos_token_id=end, pad_token_id=9)
    assert one.shape[1] <= 8


def test_a_seed_of_its_own_leaves_the_random_state_alone(
    models: tuple[Any, Any], padded: Any
) -> None:
    ours, _ = models
    ids = padded([5, 5])["input_ids"]
    state = torch.get_rng_state()
    first, again, other = (
        ours.generate(ids, do_sample=True, seed=seed, max_length=25) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (2, 25)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_length": 5}, "max_length 5 leaves no room"),
        ({"max_length": 9, "max_new_tokens": 3}, "both given"),
        ({"max_new_tokens": 157}, "161 tokens in all are more than the position table of 160"),
        ({"do_sample": True, "temperature": 0.0}, "temperature is 0.0"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is 1.5"),
        ({"do_sample": True, "top_k": -1}, "top_k is -1"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(
    models: tuple[Any, Any], padded: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        models[0].generate(padded([5])["input_ids"], **options)


def test_the_position_table_can_be_filled_to_its_last_row(
    models: tuple[Any, Any], padded: Any
) -> None:
    ids = padded([5])["input_ids"]
    assert models[0].generate(ids, max_new_tokens=156).shape == (1, 161)


@given(
    logits=st.lists(st.floats(-5, 5), min_size=2, max_size=12),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.01, 1),
)
def test_shortening_keeps_the_fewest_and_most_probable(
    logits: list[float], top_k: int, top_p: float
) -> None:
    given_logits = torch.tensor([logits])
    cpu = torch.device("cpu")
    kept = Sampling(True, 1.0, top_k, top_p, None, cpu).shortened(given_logits)[0].isfinite()
    assert bool(kept[given_logits[0].argmax()])
    if bool((~kept).any()):
        assert float(given_logits[0][kept].min()) >= float(given_logits[0][~kept].max())
    if top_k == 0 and top_p < 1:
        shares = given_logits[0].softmax(0)
        least = float(shares[kept].min())
        assert float(shares[kept].sum()) >= top_p - 1e-5
        assert float(shares[kept].sum()) - least < top_p + 1e-5
