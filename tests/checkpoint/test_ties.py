"""One parameter under two names: loaded, saved, told of, and untied where the numbers say so."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bertolt import BertForMaskedLM, BertForPreTraining, BertLMHeadModel, BertModel

WEIGHTS = "model.safetensors"
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
BIAS, DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
TIED = {DECODER: EMBEDDINGS, DECODER_BIAS: BIAS}
NAMES = (EMBEDDINGS, DECODER, BIAS, DECODER_BIAS)


@pytest.fixture
def folder(tmp_path: Path, tiny_config: Any, randomised: Any) -> Path:
    """A tied masked-LM model with random weights."""
    randomised(BertForMaskedLM(tiny_config())).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def without(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda found: {name: value for name, value in found.items() if name not in names}


def load(folder: Path, **options: Any) -> Any:
    return BertForMaskedLM.from_pretrained(folder, verbose=False, **options)


def load_peer(folder: Path) -> Any:
    return transformers.BertForMaskedLM.from_pretrained(folder).eval()


def assert_tied(model: Any) -> None:
    """One memory, not only equal values."""
    for alias, source in model.tied_weights().items():
        assert model.get_parameter(alias) is model.get_parameter(source), alias


def assert_answers_as(peer: Any, ours: Any, batch: dict[str, Tensor]) -> None:
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        found, wanted = ours(**batch).logits[real], peer(**batch).logits[real]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


# ---- tied ----


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForPreTraining, BertLMHeadModel])
def test_ties_hold_from_the_start_and_through_files_copies_and_formats(
    kind: Any, tiny_config: Any, tmp_path: Path
) -> None:
    model = kind(tiny_config())
    model.save_pretrained(tmp_path)
    for each in (
        model,
        kind.from_pretrained(tmp_path, verbose=False, strict=True),
        copy.deepcopy(model),
        copy.deepcopy(model).bfloat16(),
    ):
        assert each.tied_weights() == TIED
        assert_tied(each)
        names = dict(each.named_parameters())
        assert sum(id(each.get_parameter(name)) == id(names[EMBEDDINGS]) for name in NAMES) == 2


def test_what_is_tied_is_written_once_and_told(folder: Path) -> None:
    assert load_file(folder / WEIGHTS).keys() & TIED.keys() == set()
    report = load(folder, strict=True).load_report
    assert report.tied == TIED
    assert f"tied: {DECODER}: to {EMBEDDINGS}" in str(report)
    assert ("tied", DECODER_BIAS, 1, f"to {BIAS}") in report.rows()


@pytest.mark.parametrize("kept", [(0,), (1,), (0, 1)], ids=["source", "alias", "both"])
@pytest.mark.parametrize(("source", "alias"), [(EMBEDDINGS, DECODER), (BIAS, DECODER_BIAS)])
def test_a_file_may_have_either_name_or_both(
    folder: Path, source: str, alias: str, kept: tuple[int, ...]
) -> None:
    value = load_file(folder / WEIGHTS)[source]
    names = [(source, alias)[index] for index in kept]
    rewrite(
        folder, lambda found: {**without(source)(found), **{name: value.clone() for name in names}}
    )
    model = load(folder, strict=True)
    assert_tied(model)
    assert torch.equal(model.get_parameter(source), value)
    assert {name: model.load_report.loaded[name] for name in names} == {n: n for n in names}
    assert not model.load_report.initialised
    assert not model.load_report.untied
    assert not model.load_report.conflicting


def test_neither_name_is_one_new_parameter_and_no_corruption(folder: Path) -> None:
    rewrite(folder, without(BIAS))
    model = load(folder)
    assert model.load_report.initialised == {BIAS: "zeros"}
    assert str(model.load_report).count("new, not from the file") == 1
    assert not model.cls.predictions.decoder.bias.any()
    assert_tied(model)
    rewrite(folder, without(EMBEDDINGS))
    again = load(folder)
    assert again.load_report.initialised == {EMBEDDINGS: "normal, std 0.02", BIAS: "zeros"}
    assert_tied(again)
    table = again.get_parameter(EMBEDDINGS).detach()
    assert not table[again.config.pad_token_id].any(), "the decoder's rule knows of no padding"
    assert abs(float(table.std()) - 0.02) < 0.002


def test_only_what_lacks_is_new_although_it_shares_a_module(folder: Path) -> None:
    """The rule for the decoder's bias runs on the decoder, whose weight is in the file."""
    table = load_file(folder / WEIGHTS)[EMBEDDINGS]
    rewrite(folder, without(BIAS))
    assert torch.equal(load(folder).cls.predictions.decoder.weight, table)


# ---- two values for one parameter ----


@pytest.fixture
def differing(folder: Path) -> Path:
    """Its config ties, and the file has other numbers for the decoder."""
    rewrite(folder, lambda found: {**found, DECODER: found[EMBEDDINGS] * 0.5})
    return folder


def test_another_decoder_in_the_file_unties_as_the_peer_does_and_says_so(
    differing: Path, padded: Any, tmp_path: Path
) -> None:
    tensors = load_file(differing / WEIGHTS)
    ours = load(differing)
    assert torch.equal(ours.cls.predictions.decoder.weight, tensors[DECODER])
    assert torch.equal(ours.bert.embeddings.word_embeddings.weight, tensors[EMBEDDINGS])
    assert ours.load_report.untied == {DECODER: EMBEDDINGS}
    assert ours.load_report.tied == {DECODER_BIAS: BIAS}
    assert "has its own memory, though the config ties it: " + DECODER in str(ours.load_report)
    assert_answers_as(load_peer(differing), ours, padded([5, 8]))
    ours.save_pretrained(tmp_path / "again")
    assert (
        json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"] is False
    )
    assert_answers_as(load_peer(tmp_path / "again"), ours, padded([5, 8]))
    assert not load(tmp_path / "again", strict=True).load_report.untied


def test_a_decoder_of_another_shape_is_a_mismatch_of_its_own(folder: Path) -> None:
    rewrite(folder, lambda found: {**found, DECODER: torch.ones(98, 32)})
    model = load(folder, ignore_mismatched_sizes=True)
    assert [each.key for each in model.load_report.mismatched] == [DECODER]
    assert model.load_report.initialised == {DECODER: "normal, std 0.02"}
    assert model.load_report.untied == {DECODER: EMBEDDINGS}


@pytest.mark.parametrize("tied", [True, False])
def test_of_two_biases_the_decoders_counts_and_that_is_said(
    folder: Path, padded: Any, tmp_path: Path, tied: bool
) -> None:
    """The peer computes with the decoder's; `cls.predictions.bias` is then without use."""
    peer = load_peer(folder)
    if not tied:
        peer.config.tie_word_embeddings = False
        peer.cls.predictions.decoder.weight = nn.Parameter(peer.get_parameter(EMBEDDINGS) * 0.5)
    peer.cls.predictions.decoder.bias = nn.Parameter(torch.linspace(-1, 1, 97))
    peer.config.save_pretrained(tmp_path / "two")
    torch.save(peer.state_dict(), tmp_path / "two" / "pytorch_model.bin")
    ours = load(tmp_path / "two")
    assert_answers_as(peer, ours, padded([5, 8]))
    assert_answers_as(load_peer(tmp_path / "two"), ours, padded([5, 8]))
    report = ours.load_report
    assert report.conflicting == {BIAS: DECODER_BIAS}
    assert report.loaded[DECODER_BIAS] == DECODER_BIAS
    assert BIAS not in report.loaded
    assert not report.untied
    assert f"excused: {BIAS}: {DECODER_BIAS} has other values, which were taken" in str(report)
    assert_tied(ours)
    ours.save_pretrained(tmp_path / "again")
    assert_answers_as(load_peer(tmp_path / "again"), ours, padded([5, 8]))


def test_a_tie_that_somebody_has_undone_by_hand_is_saved_as_two(
    folder: Path, padded: Any, tmp_path: Path
) -> None:
    model = load(folder)
    model.cls.predictions.decoder.weight = nn.Parameter(model.get_parameter(EMBEDDINGS) * 2)
    model.save_pretrained(tmp_path / "again")
    assert_answers_as(model, load(tmp_path / "again"), padded([5, 8]))
    assert_answers_as(load_peer(tmp_path / "again"), model, padded([5, 8]))


# ---- untied ----


def test_untying_leaves_models_of_the_same_config_alone(tiny_config: Any) -> None:
    config = tiny_config()
    one, other = BertForMaskedLM(config), BertForMaskedLM(config)
    one.untie_weights()
    assert one.config.tie_word_embeddings is one.bert.config.tie_word_embeddings is False
    assert config.tie_word_embeddings is other.config.tie_word_embeddings is True
    assert one.tied_weights() == {DECODER_BIAS: BIAS}
    assert_tied(one)
    assert_tied(other)
    decoder = one.cls.predictions.decoder.weight
    assert decoder is not one.get_parameter(EMBEDDINGS)
    assert torch.equal(decoder, one.get_parameter(EMBEDDINGS))


def test_a_tied_file_into_an_untied_model_has_a_new_decoder_as_with_the_peer(folder: Path) -> None:
    model = load(folder, tie_word_embeddings=False, seed=4)
    assert model.load_report.initialised == {DECODER: "normal, std 0.02"}
    _, told = transformers.BertForMaskedLM.from_pretrained(
        folder, tie_word_embeddings=False, output_loading_info=True
    )
    # The peer also gives the decoder a bias of its own, of zeros, and lets go of the file's.
    assert told["missing_keys"] == {DECODER, DECODER_BIAS}
    assert torch.equal(model.cls.predictions.decoder.bias, load_file(folder / WEIGHTS)[BIAS])
    assert torch.equal(
        load(folder, tie_word_embeddings=False, seed=4).cls.predictions.decoder.weight,
        model.cls.predictions.decoder.weight,
    )


# ---- the rule, with ties ----


class Ones(BertForMaskedLM):
    """A rule of its own for embeddings."""

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Embedding):
            nn.init.ones_(module.weight)


class Twice(BertForMaskedLM):
    """As a subclass that adds a layer and initialises again."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.extra = nn.Linear(config.hidden_size, 3)
        self.init_weights()


def test_the_rule_of_the_embeddings_holds_for_what_they_share(
    tiny_config: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    BertModel(tiny_config()).save_pretrained(tmp_path)
    rewrite(tmp_path, without("embeddings.word_embeddings.weight"))
    for model in (Ones(tiny_config()), Ones.from_pretrained(tmp_path, verbose=False)):
        assert torch.equal(model.cls.predictions.decoder.weight, torch.ones(97, 32))
        assert_tied(model)
    model = Twice(tiny_config(initializer_range=0.3))
    assert not model.get_parameter(EMBEDDINGS)[0].any()
    assert abs(float(model.get_parameter(EMBEDDINGS)[1:].detach().std()) - 0.3) < 0.03
    assert abs(float(model.cls.predictions.transform.dense.weight.detach().std()) - 0.3) < 0.03
    assert not model.cls.predictions.bias.any()
    assert bool((model.cls.predictions.transform.LayerNorm.weight == 1).all())


def test_what_lacks_follows_the_seed(tiny_config: Any, tmp_path: Path) -> None:
    BertModel(tiny_config(), add_pooling_layer=False).save_pretrained(tmp_path)
    one, again, other = (
        BertForPreTraining.from_pretrained(tmp_path, verbose=False, seed=seed).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    changed = {key for key, value in one.items() if not torch.equal(value, other[key])}
    assert changed == {
        "bert.pooler.dense.weight",
        "cls.predictions.transform.dense.weight",
        "cls.seq_relationship.weight",
    }
