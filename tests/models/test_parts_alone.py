"""Parts of a model that are called by themselves, on padded tensors: the numbers are the peer's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import bertolt
from bertolt import BertConfig, DataError, RobertaConfig, UsageError

FAMILIES = {"Bert": BertConfig, "Roberta": RobertaConfig}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def build(family: str, tiny_config: Any, randomised: Any) -> Any:
    """Makes the same model twice, of our class and of the peer's."""

    def pair(head: str, **fields: Any) -> tuple[Any, Any]:
        config = tiny_config(FAMILIES[family], **fields)
        ours = randomised(getattr(bertolt, family + head)(config))
        theirs = getattr(transformers, f"{family}Config")(
            **config.to_dict(), attn_implementation="eager"
        )
        peer = getattr(transformers, family + head)(theirs).eval()
        peer.load_state_dict(ours.state_dict())
        return ours, peer

    return pair


@pytest.fixture
def batch(padded: Any, family: str) -> dict[str, Tensor]:
    return dict(padded([7, 4, 9], pad_token_id=1 if family == "Roberta" else 0))


def same(have: Any, want: Any) -> None:
    torch.testing.assert_close(have, want, atol=1e-5, rtol=1e-5)


def test_embeddings(build: Any, batch: Any) -> None:
    ours, peer = (model.embeddings for model in build("Model"))
    ids, types = batch["input_ids"], batch["token_type_ids"]
    same(ours(ids), peer(ids))
    same(ours(ids, types), peer(ids, types))
    same(ours(input_ids=ids, token_type_ids=types), peer(input_ids=ids, token_type_ids=types))
    places = torch.arange(9).flip(0)[None] + 2
    same(ours(ids, position_ids=places), peer(ids, position_ids=places))
    words = ours.word_embeddings(ids)
    same(ours(inputs_embeds=words), peer(inputs_embeds=words))
    with pytest.raises(UsageError, match="input_ids or inputs_embeds"):
        ours()
    with pytest.raises(DataError, match="input_ids go from"):
        ours(ids + 1000)


def masks(mask: Tensor) -> list[tuple[Tensor | None, Tensor | None]]:
    """What ours is given, and what the peer is, for the same."""
    added = (1.0 - mask.float())[:, None, None, :] * torch.finfo(torch.float32).min
    square = added + torch.randn(len(mask), 1, mask.shape[1], mask.shape[1])
    return [
        (None, None),
        (mask, added),
        (mask.bool()[:, None, None, :], added),
        (added, added),
        (square, square),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_layer_its_attention_and_the_encoder(build: Any, batch: Any, number: int) -> None:
    ours, peer = (model.encoder for model in build("Model"))
    own, theirs = masks(batch["attention_mask"])[number]
    hidden = torch.randn(3, 9, 32)
    layer, other = ours.layer[0], peer.layer[0]
    same(layer(hidden, own), other(hidden, theirs))
    same(
        layer(hidden_states=hidden, attention_mask=own),
        other(hidden_states=hidden, attention_mask=theirs),
    )
    same(layer.attention(hidden, own), other.attention(hidden, theirs))
    same(layer.attention.self(hidden, own), other.attention.self(hidden, theirs))
    same(layer.attention.output(hidden, hidden * 2), other.attention.output(hidden, hidden * 2))
    wide = layer.intermediate(hidden)
    same(wide, other.intermediate(hidden))
    same(layer.output(wide, hidden), other.output(wide, hidden))
    found, wanted = ours(hidden, own), peer(hidden, theirs)
    same(found.last_hidden_state, wanted.last_hidden_state)
    same(found[0], wanted[0])


def test_a_layer_of_a_decoder_sees_no_later_token(build: Any, batch: Any) -> None:
    ours, _ = build("Model", is_decoder=True)
    mask, hidden = batch["attention_mask"], torch.randn(3, 9, 32)
    layer = ours.encoder.layer[0]
    for given in (None, mask):
        before = layer(hidden, given)
        changed = hidden.clone()
        changed[:, 5] += 1.0
        after = layer(changed, given)
        same(after[:, :5], before[:, :5])
        assert not torch.allclose(after[:, 5:], before[:, 5:])


def test_a_mask_of_another_shape_is_refused(build: Any) -> None:
    layer = build("Model")[0].encoder.layer[0]
    with pytest.raises(DataError, match=r"mask has the shape \(3, 8\), and \(3, 9\)"):
        layer(torch.randn(3, 9, 32), torch.ones(3, 8))
    for part in (layer, layer.attention, layer.attention.self):
        with pytest.raises(UsageError, match=r"takes hidden states \(B, L, H\)"):
            part(torch.randn(9, 32))


def test_layers_one_after_the_other_are_the_whole(build: Any, batch: Any) -> None:
    """The loop that programs write to stop at a layer, or to change one."""
    ours, _ = build("Model")
    hidden = ours.embeddings(batch["input_ids"], batch["token_type_ids"])
    for layer in ours.encoder.layer:
        hidden = layer(hidden, batch["attention_mask"])
    real = batch["attention_mask"].bool()
    out = ours(**batch)
    same(hidden[real], out.last_hidden_state[real])
    same(ours.pooler(hidden), out.pooler_output)


def test_poolers_and_heads(build: Any, family: str) -> None:
    hidden, first = torch.randn(3, 9, 32), torch.randn(3, 32)
    name = "cls" if family == "Bert" else "lm_head"
    for head, part, inputs in (
        ("Model", "pooler", [hidden]),
        ("ForMaskedLM", name, [hidden]),
        ("ForTokenClassification", "classifier", [hidden]),
        ("ForQuestionAnswering", "qa_outputs", [hidden]),
        ("ForSequenceClassification", "classifier", [first if family == "Bert" else hidden]),
        ("ForMultipleChoice", "classifier", [first]),
    ):
        ours, peer = (model.get_submodule(part) for model in build(head))
        same(ours(*inputs), peer(*inputs))
    if family == "Bert":
        ours, peer = (model.cls for model in build("ForPreTraining"))
        same(ours(hidden, first), peer(hidden, first))
        ours, peer = (model.cls for model in build("ForNextSentencePrediction"))
        same(ours(first), peer(first))
