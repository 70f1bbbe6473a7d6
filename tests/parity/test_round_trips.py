"""Every class through files, in both directions and in every form that files have come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import bertolt
from bertolt import BertTokenizer

FIELDS = {
    "BertModel": {},
    "BertForPreTraining": {},
    "BertForMaskedLM": {},
    "BertLMHeadModel": {"is_decoder": True},
    "BertForNextSentencePrediction": {},
    "BertForSequenceClassification": {"num_labels": 3},
    "BertForTokenClassification": {"num_labels": 5},
    "BertForQuestionAnswering": {},
    "BertForMultipleChoice": {},
}
WITH_DECODER = ("BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel")
every_class = pytest.mark.parametrize("name", FIELDS)
every_decoder = pytest.mark.parametrize("name", WITH_DECODER)

State = dict[str, Tensor]


def answers(model: Any, batch: State) -> State:
    """What a model says of two sequences, at the real tokens."""
    if "MultipleChoice" in type(model).__name__:
        batch = {key: value[None] for key, value in batch.items()}
    model.eval()
    with torch.no_grad():
        out = model(**batch)
    real = batch["attention_mask"].bool()
    return {
        key: value[real] if value.shape[: real.dim()] == real.shape else value
        for key, value in out.items()
        if isinstance(value, Tensor)
    }


def assert_same(ours: Any, peer: Any, batch: State) -> None:
    """The same parameters to the bit, and the same answers."""
    state, wanted = ours.state_dict(), peer.state_dict()
    assert state.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(state[key], value.to(state[key].dtype)), key
    found = answers(ours, batch)
    assert found
    for key, value in answers(peer, batch).items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=0, msg=lambda m, k=key: k + m)


def opened(name: str, folder: Path, **options: Any) -> Any:
    return getattr(bertolt, name).from_pretrained(folder, verbose=False, **options)


def opened_by_peer(name: str, folder: Path, **options: Any) -> Any:
    """The peer's model; nothing may be missing, left over or of another shape."""
    model, told = getattr(transformers, name).from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert not any(told.values()), told
    return model


@pytest.fixture
def build_peer(tiny_config: Any, randomised: Any) -> Callable[..., Any]:
    """A tiny peer with random weights; the two names of the decoder's bias have one value."""

    def build(name: str, **fields: Any) -> Any:
        config = tiny_config(**FIELDS[name], **fields).to_dict()
        peer = randomised(getattr(transformers, name)(transformers.BertConfig(**config)))
        if name in WITH_DECODER:
            head = peer.cls.predictions
            head.decoder.bias.data.copy_(head.bias)
        return peer

    return build


# ---- the forms of files ----


def whole(peer: Any, folder: Path) -> None:
    peer.save_pretrained(folder)


def sharded(peer: Any, folder: Path) -> None:
    peer.save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def in_half_precision(peer: Any, folder: Path) -> None:
    peer.half().save_pretrained(folder)
    peer.float()


def in_bfloat16(peer: Any, folder: Path) -> None:
    peer.bfloat16().save_pretrained(folder)
    peer.float()


def legacy(peer: Any, folder: Path, change: Callable[[str], str] = str, **options: Any) -> None:
    """A pickle of all names, those of one parameter as one tensor, and of the position ids."""
    peer.config.save_pretrained(folder)
    state = {change(key): value for key, value in peer.state_dict().items()}
    state[change("bert.embeddings.position_ids")] = torch.arange(160)[None]
    torch.save(state, folder / "pytorch_model.bin", **options)


def legacy_before_zip(peer: Any, folder: Path) -> None:
    legacy(peer, folder, _use_new_zipfile_serialization=False)


def first_of_all(peer: Any, folder: Path) -> None:
    """Gamma and beta, no bias in the decoder itself, the archive of its time."""
    spelt = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def change(key: str) -> str:
        for new, old in spelt.items():
            key = key.replace(new, old)
        return key

    legacy(peer, folder, change, _use_new_zipfile_serialization=False)
    state = torch.load(folder / "pytorch_model.bin")
    state.pop("cls.predictions.decoder.bias", None)
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def without_prefix(peer: Any, folder: Path) -> None:
    legacy(peer, folder, lambda key: key.removeprefix("bert."))


def with_prefix(peer: Any, folder: Path) -> None:
    top = ("bert.", "cls.", "classifier.", "qa_outputs.")
    legacy(peer, folder, lambda key: key if key.startswith(top) else f"bert.{key}")


FORMS = (
    whole,
    sharded,
    in_half_precision,
    in_bfloat16,
    legacy,
    legacy_before_zip,
    first_of_all,
    without_prefix,
    with_prefix,
)


@every_class
@pytest.mark.parametrize("write", FORMS, ids=lambda form: form.__name__)
def test_opens_what_the_peer_wrote_in_every_form(
    name: str, write: Callable[[Any, Path], None], build_peer: Any, padded: Any, tmp_path: Path
) -> None:
    peer = build_peer(name)
    write(peer, tmp_path)
    ours = opened(name, tmp_path, strict=True)
    assert_same(ours, peer, padded([6, 9]))
    assert not ours.load_report.initialised
    ours.save_pretrained(tmp_path / "again")
    assert_same(ours, opened_by_peer(name, tmp_path / "again"), padded([6, 9]))


@every_decoder
@pytest.mark.parametrize("write", [whole, sharded, in_half_precision, legacy])
def test_untied_decoders_in_both_directions(
    name: str, write: Callable[[Any, Path], None], build_peer: Any, padded: Any, tmp_path: Path
) -> None:
    peer = build_peer(name, tie_word_embeddings=False)
    write(peer, tmp_path)
    ours = opened(name, tmp_path, strict=True)
    weight = ours.cls.predictions.decoder.weight
    assert not torch.equal(weight, ours.bert.embeddings.word_embeddings.weight)
    assert ours.load_report.tied == {"cls.predictions.decoder.bias": "cls.predictions.bias"}
    assert_same(ours, peer, padded([6, 9]))
    ours.save_pretrained(tmp_path / "again")
    again = opened_by_peer(name, tmp_path / "again")
    assert again.config.tie_word_embeddings is False
    assert_same(ours, again, padded([6, 9]))


@every_decoder
def test_untied_here_and_trained_apart_opens_there(
    name: str, tiny_config: Any, randomised: Any, padded: Any, tmp_path: Path
) -> None:
    ours = randomised(getattr(bertolt, name)(tiny_config(**FIELDS[name])))
    ours.untie_weights()
    with torch.no_grad():
        ours.cls.predictions.decoder.weight.mul_(0.5)
        ours.cls.predictions.bias.add_(0.25)
    ours.save_pretrained(tmp_path)
    assert_same(ours, opened_by_peer(name, tmp_path), padded([6, 9]))
    assert_same(opened(name, tmp_path, strict=True), ours, padded([6, 9]))


# ---- a file of one class into a model of another ----


@every_class
@pytest.mark.parametrize("written_by", ["BertModel", "BertForPreTraining", "BertForMultipleChoice"])
def test_another_class_lacks_and_leaves_what_it_does_with_the_peer(
    name: str, written_by: str, build_peer: Any, padded: Any, tmp_path: Path
) -> None:
    build_peer(written_by, **FIELDS[name]).save_pretrained(tmp_path)
    options = {**FIELDS[name], "ignore_mismatched_sizes": True, "output_loading_info": True}
    ours, told = opened(name, tmp_path, **options)
    peer, wanted = getattr(transformers, name).from_pretrained(tmp_path, **options)
    # The peer counts the decoder's bias under both of its names, and calls the file corrupted.
    wanted["missing_keys"].discard("cls.predictions.decoder.bias")
    assert dict(told).keys() == wanted.keys()
    for part in ("missing_keys", "unexpected_keys"):
        bare = [sorted(key.removeprefix("bert.") for key in info[part]) for info in (told, wanted)]
        assert bare[0] == bare[1], part
    assert set(told["mismatched_keys"]) == set(wanted["mismatched_keys"])
    # With the same values for what is new, the same answers.
    peer.load_state_dict(ours.state_dict())
    assert_same(ours, peer, padded([6, 9]))


# ---- the real checkpoint ----

TEXTS = ["A warm, funny and quietly moving film.", "Dull; it is neither clever nor silly."]


@every_class
def test_the_real_checkpoint_is_the_body_of_each_class_in_both_directions(
    name: str, real_checkpoint: Path, tmp_path: Path
) -> None:
    batch = dict(
        BertTokenizer.from_pretrained(real_checkpoint)(TEXTS, padding=True, return_tensors="pt")
    )
    fields = FIELDS[name]
    ours = opened(name, real_checkpoint, seed=3, **fields)
    assert len(ours.load_report.loaded) in (101, 103), "all of the encoder, perhaps no pooler"
    ours.save_pretrained(tmp_path / "ours")
    peer = opened_by_peer(name, tmp_path / "ours")
    assert_same(ours, peer, batch)
    peer.save_pretrained(tmp_path / "theirs")
    assert_same(opened(name, tmp_path / "theirs", strict=True), peer, batch)
    if name in WITH_DECODER:
        ours.untie_weights()
        with torch.no_grad():
            ours.cls.predictions.decoder.weight.mul_(0.5)
        ours.save_pretrained(tmp_path / "untied")
        untied = opened_by_peer(name, tmp_path / "untied")
        assert_same(ours, untied, batch)
        untied.save_pretrained(tmp_path / "untied back")
        assert_same(opened(name, tmp_path / "untied back", strict=True), untied, batch)
