"""Each family through files, in both directions, and what is refused between families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import bertolt
from bertolt.base.errors import CheckpointError
from bertolt.models.families.base import FAMILIES, family_of, read_config, saved_class

CLASSES = [each for name in FAMILIES for each in family_of(name).classes]
every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
PAD, FIRST = 1, 2


def build_peer(kind: Any, randomised: Any, **fields: Any) -> Any:
    """A tiny peer of the same name with random weights."""
    name = kind.__name__
    config = getattr(transformers, kind.config_class.__name__)(
        **{"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": PAD},
        **{"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 30},
        **{"type_vocab_size": 1, "num_labels": 2, "attn_implementation": "eager"},
        **{"is_decoder": "CausalLM" in name or "LMHead" in name, **fields},
    )
    peer = randomised(getattr(transformers, name)(config))
    # The two names of the decoder's bias have one value.
    for key, value in peer.named_parameters():
        if key.endswith("decoder.bias"):
            value.data.copy_(peer.get_parameter(key.replace("decoder.bias", "bias")))
    return peer


def padded_ids(kind: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(FIRST, 60, (4, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 5:] = mask[2, 1:] = 0
    ids = ids.masked_fill(mask == 0, PAD)
    shape = (2, 2, 9) if "MultipleChoice" in kind.__name__ else ids.shape
    return {"input_ids": ids.view(shape), "attention_mask": mask.view(shape)}


def assert_same_answers(ours: Any, peer: Any) -> None:
    batch = padded_ids(type(ours))
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        have, want = ours.eval()(**batch), peer.eval()(**batch)
    assert len(have)
    for name, value in have.items():
        per_token = value.shape[:2] == real.shape and name != "pooler_output"
        pair = (each[real] if per_token else each for each in (value, want[name]))
        torch.testing.assert_close(*pair, atol=1e-5, rtol=0)


@every_class
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_folders_in_both_directions(kind: Any, tied: bool, randomised: Any, tmp_path: Path) -> None:
    peer = build_peer(kind, randomised, tie_word_embeddings=tied)
    peer.save_pretrained(tmp_path)
    ours = kind.from_pretrained(tmp_path, strict=True, verbose=False)
    assert ours.state_dict().keys() == peer.state_dict().keys()
    assert_same_answers(ours, peer)
    ours.save_pretrained(tmp_path / "again")
    again, told = getattr(transformers, kind.__name__).from_pretrained(
        tmp_path / "again", output_loading_info=True
    )
    assert not any(told.values()), told
    assert again.config.model_type == peer.config.model_type
    assert_same_answers(ours, again)


@every_class
def test_a_legacy_file_with_and_without_the_prefix(
    kind: Any, randomised: Any, tmp_path: Path
) -> None:
    peer = build_peer(kind, randomised)
    prefix = family_of(peer.config.model_type).prefix
    for with_prefix in (True, False):
        folder = tmp_path / str(with_prefix)
        peer.config.save_pretrained(folder)
        bare = {key.removeprefix(f"{prefix}."): v for key, v in peer.state_dict().items()}
        encoder = ("embeddings.", "encoder.", "pooler.")
        state = {
            f"{prefix}.{key}" if with_prefix and key.startswith(encoder) else key: value
            for key, value in bare.items()
        }
        torch.save(state, folder / "pytorch_model.bin")
        ours = kind.from_pretrained(folder, strict=True, verbose=False)
        assert_same_answers(ours, peer)


@every_class
def test_the_automatic_classes_open_the_class_that_was_saved(
    kind: Any, randomised: Any, tmp_path: Path
) -> None:
    build_peer(kind, randomised).save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert type(config) is kind.config_class
    assert saved_class(config) is kind
    automatic = [
        getattr(bertolt, name)
        for name in bertolt.__all__
        if name.startswith("AutoModel") and issubclass(kind, getattr(bertolt, name))
    ]
    assert len(automatic) == 1
    assert type(automatic[0].from_pretrained(tmp_path, verbose=False)) is kind
    assert type(automatic[0](config)) is kind


@pytest.mark.parametrize(
    ("asked", "saved", "fitting"),
    [
        ("BertForSequenceClassification", "RobertaForMaskedLM", "RobertaForSequenceClassification"),
        ("BertModel", "RobertaModel", "RobertaModel"),
        ("BertForMaskedLM", "XLMRobertaModel", "XLMRobertaForMaskedLM"),
        ("XLMRobertaForCausalLM", "BertModel", "BertLMHeadModel"),
        ("RobertaForTokenClassification", "XLMRobertaModel", "XLMRobertaForTokenClassification"),
        ("BertForNextSentencePrediction", "RobertaModel", "a checkpoint of type 'bert'"),
        ("BertForPreTraining", "RobertaModel", "a checkpoint of type 'bert'"),
    ],
)
def test_a_class_of_another_family_is_refused_with_the_one_that_fits(
    asked: str, saved: str, fitting: str, randomised: Any, tmp_path: Path
) -> None:
    build_peer(getattr(bertolt, saved), randomised).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"and {asked} is for") as told:
        getattr(bertolt, asked).from_pretrained(tmp_path, verbose=False)
    assert told.value.fix.endswith(fitting)
    assert told.value.place == str(tmp_path)
    with pytest.raises(CheckpointError, match=f"and {asked} is for"):
        getattr(bertolt, asked)(read_config(tmp_path))
    assert not fitting.isidentifier() or hasattr(bertolt, fitting)


def test_a_config_of_another_family_is_refused(randomised: Any, tmp_path: Path) -> None:
    build_peer(bertolt.RobertaModel, randomised).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="'roberta', and a 'bert' model is needed"):
        bertolt.BertConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ['"gpt2"', "null", "3", '["roberta"]', "{}"])
def test_a_family_that_nobody_knows_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": {name}}}')
    with pytest.raises(CheckpointError, match="builds 'bert', 'roberta' or 'xlm-roberta' models"):
        read_config(tmp_path)


def test_a_class_of_ones_own_is_of_its_base_class_family(randomised: Any, tmp_path: Path) -> None:
    class Mine(bertolt.RobertaForTokenClassification):
        """With a name of its own."""

    build_peer(bertolt.RobertaModel, randomised).save_pretrained(tmp_path)
    assert type(Mine.from_pretrained(tmp_path, verbose=False)) is Mine
    with pytest.raises(CheckpointError, match="Mine is for 'roberta' models") as told:
        Mine(bertolt.BertConfig())
    assert told.value.fix == "use BertForTokenClassification"


def test_a_position_table_without_a_row_for_texts_is_refused() -> None:
    with pytest.raises(CheckpointError, match="the first 2 rows are not for texts"):
        bertolt.RobertaConfig(max_position_embeddings=2)
