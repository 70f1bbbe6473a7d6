"""What models return."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from bertolt.models.outputs import BackboneOutput, SequenceOutput

LOSS, LOGITS = torch.tensor(1.0), torch.zeros(2, 3)


def test_fields_are_read_by_name_key_place_and_slice() -> None:
    out = SequenceOutput(loss=LOSS, logits=LOGITS)
    assert out.logits is out["logits"] is out[1]
    assert out[0] is LOSS
    assert out[:2] == (LOSS, LOGITS)
    loss, logits = out.to_tuple()
    assert (loss, logits) == (LOSS, LOGITS)
    assert list(out) == ["loss", "logits"]
    assert dict(**{key: out[key] for key in out}).keys() == {"loss", "logits"}


def test_what_is_none_is_left_out() -> None:
    out = SequenceOutput(logits=LOGITS)
    assert out.loss is None
    assert out[0] is LOGITS
    assert out.keys() == ["logits"]
    assert out.items() == [("logits", LOGITS)]
    assert len(out) == 1
    assert "loss" not in out
    with pytest.raises(KeyError):
        out["loss"]
    with pytest.raises(IndexError):
        out[1]


def test_it_is_a_mapping() -> None:
    out = SequenceOutput(logits=LOGITS)
    assert isinstance(out, Mapping)
    assert dict(out) == {**out} == {"logits": LOGITS}
    assert out.get("logits") is LOGITS
    assert out.get("loss") is None
    assert out.get("nonsense", 3) == 3


def test_a_name_that_is_no_field_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="hidden"):
        BackboneOutput(last_hidden_state=LOGITS)["hidden"]
