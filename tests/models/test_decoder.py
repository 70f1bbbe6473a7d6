"""The decoder: its cache, its cross-attention and what it writes, held equal to the peer's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from bertolt import AutoModelForCausalLM, BertLMHeadModel, BertModel, PackedBatch
from bertolt.base.errors import BertoltError, CheckpointError, DataError, UsageError
from bertolt.models.sampling import Sampling

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


def test_the_automatic_class_builds_the_class_of_the_family(tiny_config: Any) -> None:
    assert issubclass(BertLMHeadModel, AutoModelForCausalLM)
    assert type(AutoModelForCausalLM(tiny_config())) is BertLMHeadModel


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
    states, mask = encoder.values()
    empty = mask.clone()
    empty[1] = 0
    for words, given_states, given_mask in (
        (r"encoder_hidden_states have the shape \(3, 6, 16\)", states[..., :16], mask),
        (r"encoder_hidden_states have the shape \(3, 0, 32\)", states[:, :0], None),
        (r"encoder_attention_mask has the shape \(3, 5\)", states, mask[:, :5]),
        ("row 1 of encoder_attention_mask has no token", states, empty),
    ):
        with pytest.raises(DataError, match=words):
            ours(
                **padded(LENGTHS),
                encoder_hidden_states=given_states,
                encoder_attention_mask=given_mask,
            )
    with pytest.raises(UsageError, match="encoder_attention_mask was given without"):
        ours(**padded(LENGTHS), encoder_attention_mask=mask)


def test_arguments_that_it_does_not_know_are_refused(models: tuple[Any, Any], padded: Any) -> None:
    ours, _ = models
    batch = padded(LENGTHS)
    assert ours(**batch, next_sentence_label=None, end_positions=None).loss is None
    with pytest.raises(UsageError, match="no next_sentence_label to learn from"):
        ours(**batch, next_sentence_label=torch.tensor([0, 1, 0]))
    with pytest.raises(UsageError, match=r"takes no .logits_to_keep"):
        ours(**batch, logits_to_keep=1)


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


@pytest.mark.parametrize(
    ("mask", "start"),
    [
        ([1, 0, 1, 1, 1, 1], None),
        ([1, 1, 1, 0, 1, 1], None),
        ([1, 1, 1, 1, 0, 1], None),
        ([0, 0, 1, 1, 1, 1], None),
        ([1, 1, 1, 1, 1, 1], 3),
    ],
    ids=str,
)
def test_positions_go_on_from_the_last_one(
    models: tuple[Any, Any], padded: Any, mask: list[int], start: int | None
) -> None:
    """Neither padding among the tokens nor positions of one's own are forgotten."""
    ours, peer = models
    ids, whole = padded([6])["input_ids"], torch.tensor([mask])
    positions = torch.arange(6)[None] + (start or -mask.index(1))
    with torch.no_grad():
        wanted = peer(input_ids=ids, attention_mask=whole, position_ids=positions.clamp(min=0))
        own = {} if start is None else {"position_ids": positions[:, :4]}
        first = ours(ids[:, :4], attention_mask=whole[:, :4], use_cache=True, **own)
        found = ours(ids[:, 4:], attention_mask=whole, past_key_values=first.past_key_values)
        onward = peer(
            input_ids=torch.cat([ids, ids[:, :1]], 1),
            attention_mask=torch.cat([whole, whole[:, -1:]], 1),
            position_ids=torch.cat([positions, positions[:, -1:] + 1], 1).clamp(min=0),
        )
        last = ours(ids[:, :1], past_key_values=found.past_key_values)
    new = whole[0, 4:].bool()
    torch.testing.assert_close(
        found.logits[:, new], wanted.logits[:, 4:][:, new], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(last.logits, onward.logits[:, 6:], atol=1e-5, rtol=0)


def test_writing_goes_on_from_the_last_position(models: tuple[Any, Any], padded: Any) -> None:
    ours, peer = models
    ids, mask = padded([6])["input_ids"], torch.tensor([[1, 0, 1, 1, 1, 1]])
    positions = torch.arange(6)[None]
    wanted = _peer_greedy(peer, {"input_ids": ids, "attention_mask": mask}, positions, {}, 8)
    assert ours.generate(ids, mask, max_new_tokens=8)[:, 6:].tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(2, 30), "first 29 columns of attention_mask are not of the tokens"),
        (torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]), "first 3 columns"),
        (torch.ones(3, 4), "first 3 columns"),
        (torch.ones(4), r"attention_mask has the shape \(4,\)"),
        (torch.ones(2, 0), r"attention_mask has the shape \(2, 0\)"),
    ],
    ids=lambda value: str(tuple(value.shape)) if isinstance(value, torch.Tensor) else "",
)
def test_a_mask_that_contradicts_the_cache_is_refused(
    models: tuple[Any, Any], padded: Any, mask: torch.Tensor, words: str
) -> None:
    ours, _ = models
    cache = ours(padded([3, 3])["input_ids"], use_cache=True).past_key_values
    with pytest.raises(DataError, match=words):
        ours(torch.tensor([[7], [8]]), attention_mask=mask, past_key_values=cache)


def test_the_cache_remembers_what_it_looks_at(
    models: tuple[Any, Any], encoder: Any, padded: Any
) -> None:
    ours, peer = models
    ids = padded([6, 6, 6])["input_ids"]
    states, mask = encoder.values()
    with torch.no_grad():
        wanted = peer(input_ids=ids, **encoder).logits[:, 4:]
        for again in ({}, encoder, {**encoder, "encoder_hidden_states": states.clone()}):
            cache = ours(ids[:, :4], **encoder, use_cache=True).past_key_values
            found = ours(ids[:, 4:], past_key_values=cache, **again)
            torch.testing.assert_close(found.logits, wanted, atol=1e-5, rtol=0)
        bare = ours(ids[:, :4], use_cache=True).past_key_values
    for kept, others in (
        (cache, {"encoder_hidden_states": states + 1, "encoder_attention_mask": mask}),
        (cache, {"encoder_hidden_states": states}),
        (cache, {"encoder_hidden_states": torch.cat([states, states], 1)}),
        (bare, encoder),
    ):
        with pytest.raises(UsageError, match="began with other encoder_hidden_states"):
            ours(ids[:, 4:], past_key_values=kept, **others)


@pytest.mark.parametrize(
    "changes",
    [{"num_attention_heads": 2}, {"num_hidden_layers": 4}, {"hidden_size": 16}],
    ids=str,
)
def test_a_cache_of_another_model_is_refused(
    models: tuple[Any, Any], padded: Any, tiny_config: Any, changes: dict[str, int]
) -> None:
    cache = models[0](**padded([3, 3]), use_cache=True).past_key_values
    with pytest.raises(UsageError, match=r"of another model: .* are \(2, 4, 8\)"):
        BertLMHeadModel(tiny_config(**changes))(**padded([3, 3]), past_key_values=cache)


@pytest.mark.parametrize("cache", [((1, 2),), transformers.DynamicCache()], ids=type)
def test_what_is_no_cache_of_ours_is_refused(
    models: tuple[Any, Any], padded: Any, cache: Any
) -> None:
    with pytest.raises(UsageError, match=f"are a {type(cache).__name__}, and no KeyValueCache"):
        models[0](**padded([3]), past_key_values=cache)


def test_a_cache_and_gradient_checkpointing_do_not_go_together(
    models: tuple[Any, Any], padded: Any, tiny_config: Any
) -> None:
    model = BertLMHeadModel(tiny_config()).train()
    model.gradient_checkpointing_enable()
    with pytest.raises(UsageError, match="leave use_cache and past_key_values out"):
        model(**padded([3]), use_cache=True)
    assert model.eval()(**padded([3]), use_cache=True).past_key_values.get_seq_length() == 3


def test_gradients_flow_through_the_cache(
    models: tuple[Any, Any], padded: Any, same_gradients: Any
) -> None:
    """Six tokens in four parts: some find room in the blocks that an earlier part made."""
    ours, peer = models
    ids = padded([6, 6])["input_ids"]
    for model in models:
        model.zero_grad()
    cache, logits = None, []
    for part in ids.split([3, 1, 1, 1], dim=1):
        out = ours(part, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits)
    torch.cat(logits, 1).square().mean().backward()
    peer(input_ids=ids).logits.square().mean().backward()
    same_gradients(ours, peer)


def test_maps_behind_a_cache_equal_the_peers(models: tuple[Any, Any], padded: Any) -> None:
    ours, peer = models
    ids = padded([6, 6])["input_ids"]
    with torch.no_grad():
        cache = ours(ids[:, :4], use_cache=True).past_key_values
        found = ours(ids[:, 4:], past_key_values=cache, output_attentions=True).attentions
        wanted = peer(input_ids=ids, output_attentions=True).attentions
    for have, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(have, want[:, :, 4:], atol=1e-6, rtol=0)


def test_the_host_is_asked_once_a_pass(
    models: tuple[Any, Any], padded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a token without an end: how wide the keys are, and whether its logits are finite."""
    ours, _ = models
    asked = 0

    def counted(way: str) -> Any:
        plain = getattr(torch.Tensor, way)

        def ask(self: torch.Tensor) -> Any:
            nonlocal asked
            asked += 1
            return plain(self)

        return ask

    for way in ("__int__", "__bool__", "item", "tolist", "nonzero"):
        monkeypatch.setattr(torch.Tensor, way, counted(way))
    counts = []
    for new in (5, 15):
        asked = 0
        ours.generate(padded([5, 3])["input_ids"], max_new_tokens=new)
        counts.append(asked)
    assert counts[1] - counts[0] == 10 * 2


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
        {"do_sample": True, "top_k": None, "top_p": None},
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
    ends = [end, int(free[1, 9])]
    found = ours.generate(ids, max_new_tokens=15, eos_token_id=ends)
    wanted = peer.generate(
        ids, max_new_tokens=15, eos_token_id=ends, pad_token_id=0, do_sample=False
    )
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (torch.tensor([5, 6]), r"the shape \(2,\), and a tensor of \(B, L\)"),
        (torch.zeros(0, 3).long(), r"the shape \(0, 3\)"),
        ([[5, 6]], "are a list"),
        (PackedBatch.from_sequences([[5, 6]]), "are a PackedBatch"),
    ],
    ids=["flat", "none", "list", "packed"],
)
def test_prompts_that_are_no_padded_batch_are_refused(
    models: tuple[Any, Any], prompts: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        models[0].generate(prompts)


def test_it_writes_in_evaluation_mode_and_restores_the_mode(
    models: tuple[Any, Any], padded: Any
) -> None:
    ours, _ = models
    ids = padded([5, 5])["input_ids"]
    wanted = ours.generate(ids)
    ours.train()
    ours.bert.embeddings.eval()
    modes = [module.training for module in ours.modules()]
    try:
        assert torch.equal(ours.generate(ids), wanted)
        assert [module.training for module in ours.modules()] == modes
    finally:
        ours.eval()


@pytest.mark.parametrize("do_sample", [False, True])
def test_logits_that_are_not_finite_are_an_error(
    tiny_config: Any, padded: Any, do_sample: bool
) -> None:
    model = BertLMHeadModel(tiny_config()).eval()
    with torch.no_grad():
        model.cls.predictions.bias[3] = float("nan")
    with pytest.raises(BertoltError, match="logits of sequence 0 are not finite"):
        model.generate(padded([5])["input_ids"], do_sample=do_sample)


def test_a_head_that_no_training_touched_writes_nothing(
    tiny_config: Any, padded: Any, tmp_path: Any
) -> None:
    BertModel(tiny_config()).save_pretrained(tmp_path)
    model = BertLMHeadModel.from_pretrained(tmp_path, verbose=False)
    batch = padded([5])
    with pytest.raises(CheckpointError, match="writing text"):
        model.generate(batch["input_ids"])
    model.train()(**batch, labels=batch["input_ids"])
    assert model.generate(batch["input_ids"], max_new_tokens=2).shape == (1, 7)


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
        ({"max_new_tokens": 157}, "161 positions are more than the position table of 160"),
        ({"do_sample": True, "temperature": 0.0}, "temperature is 0.0"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is 1.5"),
        ({"do_sample": True, "top_k": -1}, "top_k is -1"),
        ({"do_sample": True, "top_k": 5.0}, r"top_k is 5\.0"),
        ({"do_sample": True, "top_p": "1"}, "top_p is '1'"),
        ({"do_sample": True, "temperature": "1"}, "temperature is '1'"),
        ({"do_sample": True, "temperature": 1e-45}, "temperature is 1e-45"),
        ({"do_sample": True, "seed": 1.5}, r"seed is 1\.5"),
        ({"max_new_tokens": 2.5}, r"max_new_tokens is 2\.5"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"max_length": "9"}, "max_length is '9'"),
        ({"pad_token_id": -1}, "pad_token_id is -1"),
        ({"pad_token_id": 97}, "pad_token_id is 97"),
        ({"eos_token_id": [5, 97]}, "eos_token_id is 97"),
        ({"eos_token_id": "5"}, "eos_token_id is '5'"),
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
