"""A vocabulary that grows and shrinks: what stays, what is new, and the tokenizer beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bertolt
from bertolt import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
)
from bertolt.base.errors import CheckpointError, UsageError

CLASSES = {
    "BertModel": {},
    "BertForPreTraining": {},
    "BertForMaskedLM": {},
    "BertLMHeadModel": {"is_decoder": True},
    "BertForNextSentencePrediction": {},
    "BertForSequenceClassification": {},
    "BertForTokenClassification": {},
    "BertForQuestionAnswering": {},
    "BertForMultipleChoice": {},
}
every_class = pytest.mark.parametrize("name", CLASSES)
either_tie = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
VOCABULARY = {"decoder.weight", "decoder.bias", "predictions.bias", "word_embeddings.weight"}


def of_the_vocabulary(key: str) -> bool:
    return any(key.endswith(end) for end in VOCABULARY)


def answers(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if "MultipleChoice" in type(model).__name__:
        batch = {key: value[None] for key, value in batch.items()}
    with torch.no_grad():
        out = model(**batch)
    return {key: value for key, value in out.items() if isinstance(value, torch.Tensor)}


@every_class
@either_tie
@pytest.mark.parametrize("rows", [130, 50])
def test_rows_stay_sizes_are_the_peers_and_both_open_it(
    name: str,
    tied: bool,
    rows: int,
    tiny_config: Any,
    randomised: Any,
    padded: Any,
    tmp_path: Path,
) -> None:
    config = tiny_config(**CLASSES[name], tie_word_embeddings=tied)
    ours = randomised(getattr(bertolt, name)(config))
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    peer = getattr(transformers, name)(transformers.BertConfig(**config.to_dict()))

    table = ours.resize_token_embeddings(rows)
    peer.resize_token_embeddings(rows, mean_resizing=False)

    assert table is ours.get_input_embeddings()
    assert (table.num_embeddings, table.padding_idx) == (rows, 0)
    assert config.vocab_size == 97, "another model may have been built from it"
    for module in ours.modules():
        if isinstance(module, bertolt.models.pretrained.PreTrainedModel):
            assert module.config.vocab_size == rows
    after = ours.state_dict()
    # The peer leaves `cls.predictions.bias` behind where nothing is tied; here it is the decoder's.
    wanted = {key: tuple(value.shape) for key, value in peer.state_dict().items()}
    if "cls.predictions.bias" in wanted:
        wanted["cls.predictions.bias"] = (rows,)
    assert {key: tuple(value.shape) for key, value in after.items()} == wanted
    for key, value in before.items():
        kept = min(rows, 97) if of_the_vocabulary(key) else len(value)
        assert torch.equal(after[key][:kept], value[:kept]), key
        if key.endswith("bias"):
            assert not after[key][kept:].any(), key
    for alias, source in ours.tied_weights().items():
        assert ours.get_parameter(alias) is ours.get_parameter(source)

    batch = padded([6, 9], vocab_size=rows)
    found = answers(ours, batch)
    ours.save_pretrained(tmp_path)
    theirs, told = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told.values())
    again = type(ours).from_pretrained(tmp_path, verbose=False, strict=True)
    real = batch["attention_mask"].bool()
    for model in (theirs.eval(), again):
        for key, value in answers(model, batch).items():
            have = found[key]
            if have.shape[:2] == real.shape:
                have, value = have[real], value[real]
            torch.testing.assert_close(have, value, atol=1e-5, rtol=0, msg=f"{key}")


@given(
    old=st.integers(5, 40),
    wanted=st.none() | st.integers(1, 60),
    multiple=st.none() | st.integers(1, 16),
)
def test_sizes_are_those_of_the_peer(
    old: int, wanted: int | None, multiple: int | None, tiny_config: Any
) -> None:
    config = tiny_config(vocab_size=old)
    ours = BertForMaskedLM(config)
    peer = transformers.BertForMaskedLM(transformers.BertConfig(**config.to_dict()))
    for model in (ours, peer):
        model.resize_token_embeddings(wanted, pad_to_multiple_of=multiple)
    rows = peer.get_input_embeddings().num_embeddings
    assert ours.get_input_embeddings().num_embeddings == rows
    assert ours.get_output_embeddings().out_features == rows
    assert ours.config.vocab_size == peer.config.vocab_size == rows


@either_tie
def test_new_rows_follow_the_rule_and_the_seed(tiny_config: Any, tied: bool) -> None:
    config = tiny_config(initializer_range=0.3, tie_word_embeddings=tied)

    def grown(**options: Any) -> Any:
        torch.manual_seed(0)
        model = BertForMaskedLM(config)
        state = torch.get_rng_state()
        model.resize_token_embeddings(400, **options)
        assert torch.equal(torch.get_rng_state(), state)
        return model

    one, again, other = grown(seed=1), grown(seed=1), grown(seed=2)
    for layer in ("get_input_embeddings", "get_output_embeddings"):
        new = getattr(one, layer)().weight[97:].detach()
        assert abs(float(new.std()) - 0.3) < 0.02
        assert abs(float(new.mean())) < 0.02
        assert torch.equal(new, getattr(again, layer)().weight[97:])
        assert not torch.equal(new, getattr(other, layer)().weight[97:])
    assert not one.cls.predictions.bias[97:].any()
    same = torch.equal(one.get_input_embeddings().weight, one.get_output_embeddings().weight)
    assert same == tied


def test_a_rule_of_ones_own_makes_the_new_rows(tiny_config: Any) -> None:
    class Sevens(BertForMaskedLM):
        def _init_weights(self, module: nn.Module) -> None:
            super()._init_weights(module)
            if module is self.bert.embeddings.word_embeddings:
                nn.init.constant_(module.weight, 7.0)

    model = Sevens(tiny_config())
    model.resize_token_embeddings(99)
    assert bool((model.get_output_embeddings().weight[97:] == 7).all())


def test_the_row_of_the_padding_stays_where_it_is(tiny_config: Any) -> None:
    model = BertModel(tiny_config(pad_token_id=20))
    model.resize_token_embeddings(120)
    table = model.get_input_embeddings()
    assert table.padding_idx == 20
    assert not table.weight[20].any()
    model(input_ids=torch.tensor([[3, 20, 119]])).last_hidden_state[..., 0].sum().backward()
    assert table.weight.grad is not None
    assert not table.weight.grad[20].any()
    assert table.weight.grad[119].any()
    model.resize_token_embeddings(21)
    with pytest.raises(UsageError, match="20 rows leave none for the padding token") as caught:
        model.resize_token_embeddings(20)
    assert "21 or more" in caught.value.fix
    assert table.num_embeddings == 21


@pytest.mark.parametrize("rows", [0, -3])
def test_no_rows_at_all(tiny_config: Any, rows: int) -> None:
    with pytest.raises(UsageError, match="rows leave none"):
        BertModel(tiny_config()).resize_token_embeddings(rows)


@pytest.mark.parametrize("multiple", [0, -8, 2.5])
def test_a_multiple_of_nothing(tiny_config: Any, multiple: Any) -> None:
    with pytest.raises(UsageError, match=f"pad_to_multiple_of is {multiple}"):
        BertModel(tiny_config()).resize_token_embeddings(97, pad_to_multiple_of=multiple)


def test_a_part_of_a_row(tiny_config: Any) -> None:
    with pytest.raises(UsageError, match=r"new_num_tokens is 10\.5"):
        BertModel(tiny_config()).resize_token_embeddings(10.5)


def test_the_same_size_changes_nothing(tiny_config: Any) -> None:
    model = BertForMaskedLM(tiny_config())
    before = dict(model.named_parameters(remove_duplicate=False))
    table = model.resize_token_embeddings()
    assert model.resize_token_embeddings(97) is table
    after = dict(model.named_parameters(remove_duplicate=False))
    assert all(after[name] is value for name, value in before.items())


def test_number_format_and_freezing_stay(tiny_config: Any) -> None:
    model = BertForMaskedLM(tiny_config()).bfloat16()
    model.get_input_embeddings().weight.requires_grad_(False)
    model.resize_token_embeddings(110)
    for parameter in (model.get_input_embeddings().weight, model.cls.predictions.bias):
        assert parameter.dtype == torch.bfloat16
    assert not model.get_output_embeddings().weight.requires_grad
    assert model.cls.predictions.bias.requires_grad


def test_a_tie_made_by_hand_stays_too(tiny_config: Any) -> None:
    model = BertModel(tiny_config())
    model.mirror = nn.Linear(32, 97, bias=False)
    model.mirror.weight = model.get_input_embeddings().weight
    model.resize_token_embeddings(100)
    assert model.mirror.weight is model.get_input_embeddings().weight


def test_what_was_resized_trains(tiny_config: Any, padded: Any) -> None:
    model = BertForMaskedLM(tiny_config()).train()
    model.resize_token_embeddings(120)
    batch = padded([6, 9], vocab_size=120)
    batch["input_ids"][0, 0] = 119
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = model.get_input_embeddings().weight[119].detach().clone()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    optimizer.step()
    assert not torch.equal(model.get_output_embeddings().weight[119], before)
    assert model.cls.predictions.decoder.bias[119] != 0


# ---- with the tokenizer ----

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "film", "good", "##s"]
NEW, NAMED = ["serotonin", "好"], "[WHO]"
TEXT = "good serotonin [WHO] films 好 a"


@pytest.fixture
def folder(tmp_path: Path, tiny_config: Any, randomised: Any) -> Path:
    """A classifier and its tokenizer, whose vocabulary has no line twice."""
    path = tmp_path / "model"
    randomised(BertForSequenceClassification(tiny_config(vocab_size=len(WORDS)))).save_pretrained(
        path
    )
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    BertTokenizer.from_pretrained(tmp_path / "vocab.txt").save_pretrained(path)
    return path


def test_tokens_are_added_to_tokenizer_and_model_together(folder: Path, tmp_path: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder, verbose=False)
    rows = model.config.vocab_size
    assert tokenizer.unk_token_id in tokenizer(TEXT)["input_ids"]

    assert tokenizer.add_tokens(NEW) == 2
    assert tokenizer.add_special_tokens({"extra_special_tokens": [NAMED]}) == 1
    with pytest.raises(CheckpointError, match="resize_token_embeddings") as caught:
        tokenizer.check_fits(rows)
    assert f"resize_token_embeddings({rows + 3})" in str(caught.value)
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.check_fits(model.config.vocab_size)
    assert tokenizer.convert_tokens_to_ids([*NEW, NAMED]) == [rows, rows + 1, rows + 2]

    saved = tmp_path / "saved"
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    again = BertTokenizer.from_pretrained(saved)
    theirs = transformers.AutoTokenizer.from_pretrained(saved)
    reloaded = BertForSequenceClassification.from_pretrained(saved, verbose=False, strict=True)
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(saved).eval()
    batch = tokenizer(TEXT, return_tensors="pt")
    assert tokenizer.unk_token_id not in batch["input_ids"]
    for other in (again, theirs):
        assert len(other) == len(tokenizer) == peer.config.vocab_size
        assert torch.equal(other(TEXT, return_tensors="pt")["input_ids"], batch["input_ids"])
        assert other.decode(batch["input_ids"][0], skip_special_tokens=True) == (
            tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True)
        )
    with torch.no_grad():
        found = model.eval()(**batch).logits
        assert torch.equal(reloaded(**batch).logits, found)
        torch.testing.assert_close(peer(**batch).logits, found, atol=1e-5, rtol=0)


def test_what_the_peer_added_and_resized_opens_here(folder: Path, tmp_path: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    theirs.add_tokens(NEW)
    theirs.add_special_tokens({"mask_token": NAMED})
    peer.resize_token_embeddings(len(theirs), pad_to_multiple_of=8)
    saved = tmp_path / "saved"
    peer.save_pretrained(saved)
    theirs.save_pretrained(saved)
    tokenizer = BertTokenizer.from_pretrained(saved)
    model = BertForSequenceClassification.from_pretrained(saved, verbose=False, strict=True)
    assert len(tokenizer) == len(theirs)
    assert model.config.vocab_size == 24 >= len(tokenizer)
    assert tokenizer.mask_token == NAMED
    batch = tokenizer(TEXT, return_tensors="pt")
    assert batch["input_ids"].tolist() == [theirs(TEXT)["input_ids"]]
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, peer(**batch).logits, atol=1e-5, rtol=0)


def test_a_new_token_never_takes_the_id_of_another(tmp_path: Path) -> None:
    """With a line twice, there are fewer tokens than ids: the next id would be the last one's."""
    lines = [*WORDS[:-1], "a", WORDS[-1]]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    before = tokenizer.get_vocab()
    tokenizer.add_tokens(["film", "a"])
    with pytest.raises(
        CheckpointError, match="'serotonin' would get an id that is taken"
    ) as caught:
        tokenizer.add_tokens(["film", *NEW])
    assert "line twice" in caught.value.fix
    assert tokenizer.get_vocab() == before


def test_a_head_follows_the_encoder_inside_it(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16,
    )  # fmt: skip
    for change in ("resized", "replaced"):
        model = BertForMaskedLM(config)
        bias = model.get_output_embeddings().bias.detach().clone()
        if change == "resized":
            model.bert.resize_token_embeddings(60)
        else:
            model.bert.embeddings.word_embeddings = torch.nn.Embedding(60, 16)
        model.save_pretrained(tmp_path)
        again, report = BertForMaskedLM.from_pretrained(
            tmp_path, output_loading_info=True, verbose=False
        )
        assert report.exact
        assert model.config.vocab_size == model.bert.config.vocab_size == 60
        decoder = again.get_output_embeddings()
        assert decoder.weight is again.get_input_embeddings().weight
        assert torch.equal(decoder.bias[:50], bias)
        assert decoder.bias.shape == (60,)
        model = BertForMaskedLM(config)
        model.bert.resize_token_embeddings(60)
        assert model(input_ids=torch.tensor([[1, 55]])).logits.shape == (1, 2, 60)
