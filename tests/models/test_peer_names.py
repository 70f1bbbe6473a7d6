"""Every public name of the peer's models is here too, or says what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from bertolt import (
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertLMHeadModel,
    BertModel,
    UsageError,
)
from bertolt.base.errors import AbsentNameError, BertoltError
from bertolt.models.peer_names import REPLACED_ATTRIBUTES

PEER = transformers.BertForSequenceClassification
NAMES = sorted({name for name in dir(PEER) if not name.startswith("_")} - set(dir(nn.Module)))


@pytest.fixture(scope="module")
def model() -> Any:
    config = BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
    )
    return BertForSequenceClassification(config)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_peer_is_here_or_says_what_to_write(name: str, model: Any) -> None:
    if hasattr(model, name):
        return
    with pytest.raises(AbsentNameError) as told:
        getattr(model, name)
    assert isinstance(told.value, AttributeError)
    assert isinstance(told.value, BertoltError)
    assert told.value.fix


def test_no_name_is_replaced_that_is_here(model: Any) -> None:
    assert not [name for name in REPLACED_ATTRIBUTES if hasattr(model, name)]
    with pytest.raises(AttributeError, match="no attribute 'strange'"):
        _ = model.strange


def test_names_that_both_have_say_the_same(model: Any) -> None:
    peer = PEER(transformers.BertConfig(**model.config.to_dict()))
    assert model.device == peer.device
    for name in ("num_labels", "dtype", "base_model_prefix", "main_input_name", "name_or_path"):
        assert getattr(model, name) == getattr(peer, name), name
    for options in ({}, {"only_trainable": True}, {"exclude_embeddings": True}):
        assert model.num_parameters(**options) == peer.num_parameters(**options)
    footprint = model.get_memory_footprint(return_buffers=False)
    assert footprint == peer.get_memory_footprint(return_buffers=False)
    table = model.get_position_embeddings()
    assert table is model.bert.embeddings.position_embeddings
    assert BertLMHeadModel.can_generate()
    assert not model.can_generate()


def test_gradient_checkpointing_is_switched_as_the_peers(
    model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable({"use_reentrant": True})
    assert "use_reentrant=True changes nothing" in capsys.readouterr().err
    model.gradient_checkpointing_disable()


def test_arguments_of_the_peers_calls_are_left_out_or_refused(model: Any) -> None:
    ids = torch.tensor([[2, 5, 6]])
    plain = model.eval()(ids).logits
    same = model(ids, head_mask=None, use_cache=None, return_dict=None)
    assert torch.equal(same.logits, plain)
    for name in ("head_mask", "encoder_hidden_states", "num_items_in_batch"):
        with pytest.raises(BertoltError, match=name) as told:
            model(ids, **{name: torch.ones(1)})
        assert told.value.fix
    with pytest.raises(BertoltError, match="did you mean 'labels'"):
        model(ids, lables=None)
    for kind, match in ((BertModel, "no logits to choose"), (BertForMaskedLM, "logits is 'some'")):
        with pytest.raises(BertoltError, match=match):
            kind(model.config)(ids, logits="some")


def test_what_from_pretrained_takes_of_the_peers(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save_pretrained(tmp_path)
    kind = type(model)
    again = kind.from_pretrained(
        pretrained_model_name_or_path=tmp_path,
        from_tf=False,
        token=None,
        trust_remote_code=True,
        attn_implementation="eager",
        low_cpu_mem_usage=None,
        device_map="cpu",
        verbose=False,
    )
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    said = capsys.readouterr().err
    assert said.count("changes nothing here") == 2
    assert "attn_implementation changes nothing here: set_attention_backend" in said
    for read in (kind.from_pretrained, AutoConfig.from_pretrained, BertConfig.from_pretrained):
        with pytest.raises(UsageError, match="load_in_8bit, from_tf") as told:
            read(tmp_path, load_in_8bit=True, from_tf=True)
        assert "int8" in told.value.fix
        with pytest.raises(UsageError, match="'some', 'num_lables'") as told:
            read(tmp_path, some=1, num_lables=2)
        assert isinstance(told.value, TypeError)
        assert "num_lables: did you mean 'num_labels'?" in told.value.fix
        for names in ((), (tmp_path,)):
            with pytest.raises(UsageError, match="takes a folder or the id"):
                read(*names, pretrained_model_name_or_path=tmp_path if names else None)
    assert BertConfig.from_pretrained(tmp_path, finetuning_task="sst2").num_labels == 2
    with pytest.raises(UsageError, match="on one device"):
        kind.from_pretrained(tmp_path, device_map={"": 0}, verbose=False)
