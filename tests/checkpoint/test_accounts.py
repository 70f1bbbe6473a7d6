"""Whatever a file lacks, adds or misspells: each tensor and each parameter is accounted for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertolt import BertForPreTraining, BertForSequenceClassification, BertModel
from bertolt.base.errors import CheckpointError, UsageError

EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
BIAS, DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
SMALL = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 11,
    "max_position_embeddings": 7,
}
OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: Any, tiny_config: Any, randomised: Any) -> dict[str, Tensor]:
    """A pretraining model with random weights, under all names."""
    model = randomised(BertForPreTraining(tiny_config(**SMALL)))
    return {key: value.clone() for key, value in model.state_dict().items()}


def spelt(name: str, old: bool, bare: bool) -> str:
    for new, before in OLD.items():
        name = name.replace(new, before) if old else name
    return name.removeprefix("bert.") if bare else name


@given(data=st.data(), old=st.booleans(), bare=st.booleans(), tied=st.booleans())
def test_every_parameter_and_every_tensor_of_the_file_has_one_fate(
    tensors: dict[str, Tensor],
    tiny_config: Any,
    data: st.DataObject,
    old: bool,
    bare: bool,
    tied: bool,
) -> None:
    some = st.sets(st.sampled_from(sorted(tensors)), max_size=8)
    gone, reshaped, other = data.draw(some), data.draw(some), data.draw(some)
    extra = data.draw(st.sets(st.sampled_from(["a", "bert.b", "cls.c", "embeddings.position_ids"])))
    file = {
        key: torch.zeros(3, 3, 3) if key in reshaped else value + (key in other)
        for key, value in tensors.items()
        if key not in gone
    }
    named = {spelt(key, old, bare): value for key, value in file.items()}
    named.update({name: torch.zeros(2) for name in extra})
    with tempfile.TemporaryDirectory() as folder:
        tiny_config(**SMALL, tie_word_embeddings=tied).save_pretrained(folder)
        save_file(named, Path(folder) / "model.safetensors")
        model = BertForPreTraining.from_pretrained(
            folder, verbose=False, ignore_mismatched_sizes=True, seed=5
        )
    report = model.load_report

    # Every tensor of the file once.
    unfit = {spelt(each.key, old, bare) for each in report.mismatched}
    fates = [
        *report.loaded.values(),
        *report.unexpected,
        *report.ignored,
        *report.conflicting,
        *unfit,
    ]
    assert sorted(fates) == sorted(named)
    # Every parameter once: from the file, under one of its names or both, or new.
    loaded = {report.tied.get(key, key) for key in report.loaded}
    assert loaded.isdisjoint(report.initialised)
    assert loaded | report.initialised.keys() == dict(model.named_parameters()).keys()
    # What is said to be loaded is what the file has, to the bit.
    for key, name in report.loaded.items():
        assert torch.equal(model.get_parameter(key), named[name]), key
    for key, rule in report.initialised.items():
        assert_follows(rule, model.get_parameter(key))
    # Ties: one memory, or told that there are two.
    for alias, source in report.tied.items():
        assert model.get_parameter(alias) is model.get_parameter(source)
    apart = {DECODER, EMBEDDINGS} <= file.keys() and not torch.equal(
        file[DECODER], file[EMBEDDINGS]
    )
    assert report.untied == ({DECODER: EMBEDDINGS} if tied and apart else {})
    assert (DECODER in report.tied) == (tied and not apart)
    assert report.missing == [key for key in report.initialised if key not in report.ignored]
    apart_from = (report.initialised, report.unexpected, report.mismatched)
    assert report.exact == (not any((*apart_from, report.conflicting, report.untied)))
    assert set(extra) <= {*report.unexpected, *report.ignored}


# ---- patterns: on the class and in the call ----


def assert_follows(rule: str, value: Tensor) -> None:
    if rule in ("ones", "zeros"):
        assert bool((value == float(rule == "ones")).all())
    else:
        assert rule == "normal, std 0.02"
        assert 0 < float(value.detach().std()) < 0.1


@pytest.fixture
def encoder(tmp_path: Path, tiny_config: Any) -> Path:
    """An encoder without a pooler, and with what was left of another model."""
    model = BertModel(tiny_config(**SMALL), add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    save_file({**found, "mlm.bias": torch.ones(1)}, tmp_path / "model.safetensors")
    return tmp_path


class Excusing(BertForSequenceClassification):
    _keys_to_ignore_on_load_missing = (r"classifier\.",)
    _keys_to_ignore_on_load_unexpected = r"^mlm\."


def test_patterns_of_the_call_stand_beside_those_of_the_class(encoder: Path) -> None:
    model, report = Excusing.from_pretrained(
        encoder,
        output_loading_info=True,
        verbose=False,
        strict=True,
        keys_to_ignore_on_load_missing=[r"pooler\.dense"],
    )
    assert report is model.load_report
    assert report.ignored == {
        "bert.pooler.dense.weight": r"pooler\.dense",
        "bert.pooler.dense.bias": r"pooler\.dense",
        "classifier.weight": r"classifier\.",
        "classifier.bias": r"classifier\.",
        "mlm.bias": r"^mlm\.",
    }
    assert report["missing_keys"] == report["unexpected_keys"] == []
    told = str(report)
    for name, pattern in report.ignored.items():
        assert f"excused: {name}: by the pattern {pattern}" in told
    assert "new, not from the file: bert.pooler.dense.weight: normal" in told


def test_patterns_of_the_call_alone(encoder: Path) -> None:
    options: dict[str, Any] = {"verbose": False, "strict": True}
    with pytest.raises(CheckpointError, match=r"(?s)strict=True.*mlm\.bias"):
        BertModel.from_pretrained(encoder, **options)
    options["keys_to_ignore_on_load_unexpected"] = ["bias$"]
    with pytest.raises(CheckpointError, match=r"(?s)strict=True.*pooler"):
        BertModel.from_pretrained(encoder, **options)
    options["keys_to_ignore_on_load_missing"] = ["^pooler"]
    report = BertModel.from_pretrained(encoder, **options).load_report
    assert report.ignored["mlm.bias"] == "bias$"
    # A pattern for what is unexpected excuses nothing that is missing, nor the other way round.
    assert report.ignored["pooler.dense.bias"] == "^pooler"


def test_one_pattern_may_be_given_as_it_is(encoder: Path) -> None:
    """Taken for a list of letters, it would excuse nearly everything."""
    report = BertModel.from_pretrained(
        encoder, verbose=False, keys_to_ignore_on_load_missing="pooler.dense.b"
    ).load_report
    assert report.ignored == {"pooler.dense.bias": "pooler.dense.b"}
    assert report.missing == ["pooler.dense.weight"]


def test_a_pattern_that_is_none(encoder: Path) -> None:
    with pytest.raises(UsageError, match=r"'\*bias' is no regular expression") as caught:
        BertModel.from_pretrained(encoder, verbose=False, keys_to_ignore_on_load_missing=["*bias"])
    assert r".*" in caught.value.fix


def test_a_pattern_excuses_no_shape_that_does_not_fit(encoder: Path) -> None:
    options: dict[str, Any] = {"vocab_size": 12, "keys_to_ignore_on_load_missing": ["."]}
    with pytest.raises(CheckpointError, match=r"has shape \[11, 8\] in the file"):
        BertModel.from_pretrained(encoder, verbose=False, **options)
    report = BertModel.from_pretrained(
        encoder, verbose=False, ignore_mismatched_sizes=True, **options
    ).load_report
    assert report.missing == ["embeddings.word_embeddings.weight"]
    assert report.ignored.keys() == {"pooler.dense.weight", "pooler.dense.bias"}


def test_excused_is_not_trained(encoder: Path) -> None:
    """A pattern says that a difference is no surprise, and not that random weights can answer."""
    report = Excusing.from_pretrained(
        encoder, verbose=False, strict=True, keys_to_ignore_on_load_missing=["pooler"]
    ).load_report
    with pytest.raises(CheckpointError, match=r"classifier\.weight.*never been trained"):
        report.require_trained("classification")


# ---- files that are not this model's at all ----


def test_a_file_of_something_else_is_refused(encoder: Path) -> None:
    """Everything would be new, and the name of the folder would say otherwise."""
    save_file({"conv.weight": torch.zeros(2)}, encoder / "model.safetensors")
    with pytest.raises(CheckpointError, match="none of its 1 tensors has a place in BertModel"):
        BertModel.from_pretrained(encoder, verbose=False)


def test_several_tensors_that_do_not_fit_are_counted(encoder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"and \d+ more that do not fit"):
        BertModel.from_pretrained(encoder, verbose=False, hidden_size=16)
