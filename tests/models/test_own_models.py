"""Classes of the user's own around an encoder, written for the peer: the same, with its import."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import bertolt
from bertolt import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    DataCollatorForTokenClassification,
    Predictor,
    Trainer,
    TrainingArguments,
    UsageError,
)
from bertolt.base.errors import CheckpointError, WeightsError

FAMILIES = ("Bert", "Roberta")


def classifier(library: ModuleType, family: str) -> Any:
    """A class in the manner of the tutorials: mean over tokens, dropout, a layer of its own."""
    base = getattr(library, f"{family}PreTrainedModel")
    attribute = family.lower()

    class Mean(base):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any, scale: float = 1.0) -> None:
            super().__init__(config)
            self.num_labels = config.num_labels
            self.scale = scale
            setattr(self, attribute, getattr(library, f"{family}Model")(config))
            self.dropout = nn.Dropout(config.hidden_dropout_prob)
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
            self.post_init()

        def forward(
            self,
            input_ids: Any = None,
            attention_mask: Any = None,
            labels: Any = None,
            return_dict: Any = None,
        ) -> Any:
            names = return_dict if return_dict is not None else self.config.use_return_dict
            outputs = getattr(self, attribute)(input_ids, attention_mask, return_dict=names)
            mask = attention_mask[..., None].to(self.dtype)
            pooled = (outputs[0] * mask).sum(1) / mask.sum(1)
            logits = self.classifier(self.dropout(pooled)) * self.scale
            loss = None
            if labels is not None:
                loss = nn.CrossEntropyLoss()(logits.view(-1, self.num_labels), labels.view(-1))
            return {"loss": loss, "logits": logits}

    return Mean


class Tagger(bertolt.BertPreTrainedModel):
    """Labels tokens, and says nothing about it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:  # type: ignore[override]
        logits = self.classifier(self.bert(input_ids, attention_mask).last_hidden_state)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss, "logits": logits}


def rows(per_token: bool = False) -> list[dict[str, Any]]:
    sizes = [(number, 2 + number % 3) for number in range(24)]
    return [
        {
            "input_ids": [2, 5 + number, 7, 8 + number % 3][:size],
            "labels": [0, 1, 2, 1][:size] if per_token else number % 3,
        }
        for number, size in sizes
    ]


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder / "run"),
        max_steps=6,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        warmup_steps=0,
        disable_tqdm=True,
        **more,
    )


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def config(family: str, tiny_config: Any) -> Any:
    return tiny_config(getattr(bertolt, f"{family}Config"), num_labels=3)


def test_it_computes_what_it_computes_with_the_peer(family: str, config: Any) -> None:
    ours = classifier(bertolt, family)(config).eval()
    kind = getattr(transformers, f"{family}Config")
    peer = classifier(transformers, family)(kind(**config.to_dict())).eval()
    peer.load_state_dict(ours.state_dict())
    ids = torch.randint(5, 90, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    ids[mask == 0] = config.pad_token_id
    answers = [model(ids, mask, labels=torch.tensor([0, 2, 1])) for model in (ours, peer)]
    for name, value in answers[0].items():
        torch.testing.assert_close(value, answers[1][name], atol=1e-6, rtol=1e-5)
    for answer in answers:
        answer["loss"].backward()
    gradients = [model.classifier.weight.grad for model in (ours, peer)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)
    for model in (ours, peer):
        assert model.num_labels == 3
        assert model.base_model is getattr(model, family.lower())
        assert (model.base_model_prefix, model.dtype) == (family.lower(), torch.float32)
        assert model.get_input_embeddings().num_embeddings == config.vocab_size


def test_it_trains_saves_and_is_opened_again(family: str, config: Any, tmp_path: Path) -> None:
    kind = classifier(bertolt, family)
    model = kind(config)
    assert model.targets == {"labels"}
    trainer = Trainer(
        model=model, args=arguments(tmp_path), train_dataset=rows(), eval_dataset=rows()
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    model.eval().save_pretrained(tmp_path / "model")
    again = kind.from_pretrained(tmp_path / "model", verbose=False)
    assert again.load_report.exact
    assert again.name_or_path == str(tmp_path / "model")
    ids = torch.tensor([[2, 5, 6]])
    answers = [each(ids, torch.ones_like(ids))["logits"] for each in (model, again)]
    assert torch.equal(*answers)
    for larger in (
        kind.from_pretrained(tmp_path / "model", scale=2.0, verbose=False),
        kind.from_pretrained(tmp_path / "model", 2.0, verbose=False),
    ):
        torch.testing.assert_close(larger(ids, torch.ones_like(ids))["logits"], 2 * answers[0])
    getattr(model, family.lower()).save_pretrained(tmp_path / "encoder")
    fresh = kind.from_pretrained(tmp_path / "encoder", num_labels=5, verbose=False)
    assert fresh.classifier.out_features == fresh.num_labels == 5
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(fresh.base_model.get_parameter(word), model.base_model.get_parameter(word))
    trainer = Trainer(model=fresh, args=arguments(tmp_path), train_dataset=rows())
    with pytest.raises(CheckpointError, match="never been trained"):
        trainer.predict(rows())
    trainer.train()
    assert trainer.predict(rows()).predictions.shape == (24, 5)


def test_labels_of_tokens_are_known_by_the_collator(tiny_config: Any, tmp_path: Path) -> None:
    tokenizer = BertTokenizer.train(["some words to learn from"], vocab_size=50)
    trainer = Trainer(
        model=Tagger(tiny_config(num_labels=3)),
        args=arguments(tmp_path),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=rows(per_token=True),
        eval_dataset=rows(per_token=True),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    assert trainer.predict(rows(per_token=True)).predictions.shape == (24, 4, 3)


def test_another_rule_of_initialisation_is_heard(tiny_config: Any, tmp_path: Path) -> None:
    class Ones(Tagger):
        def _init_weights(self, module: nn.Module) -> None:
            super()._init_weights(module)
            if module is self.classifier:
                nn.init.ones_(module.weight)

    assert (Ones(tiny_config()).classifier.weight == 1).all()
    BertModel(tiny_config()).save_pretrained(tmp_path)
    assert (Ones.from_pretrained(tmp_path, verbose=False).classifier.weight == 1).all()


def test_an_encoder_is_opened_without_its_pooler(tiny_config: Any, tmp_path: Path) -> None:
    BertModel(tiny_config()).save_pretrained(tmp_path)
    assert (
        BertModel.from_pretrained(tmp_path, add_pooling_layer=False, verbose=False).pooler is None
    )
    with pytest.raises(UsageError, match="add_poling_layer"):
        BertModel.from_pretrained(tmp_path, add_poling_layer=False, verbose=False)


# ---- inner models, wrappers, weights by name ----


@pytest.mark.parametrize("rows", [97, 120])
@pytest.mark.parametrize("by", ["method", "attribute"])
def test_a_table_replaced_inside_the_encoder_is_followed_by_the_head(
    rows: int, by: str, tiny_config: Any, tmp_path: Path
) -> None:
    model = BertForMaskedLM(tiny_config())
    table = nn.Embedding(rows, 32, padding_idx=0)
    if by == "method":
        model.bert.set_input_embeddings(table)
    else:
        model.bert.embeddings.word_embeddings = table
    logits = model(torch.tensor([[2, 5]])).logits
    assert logits.shape[-1] == model.config.vocab_size == rows
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(model.get_output_embeddings().weight, table.weight)
    model.save_pretrained(tmp_path)
    assert BertForMaskedLM.from_pretrained(tmp_path, verbose=False).load_report.exact


def test_a_copy_follows_a_table_of_its_own(tiny_config: Any) -> None:
    model = BertForMaskedLM(tiny_config())
    twin = copy.deepcopy(model)
    twin.bert.set_input_embeddings(nn.Embedding(97, 32))
    for each in (twin, model):
        each(torch.tensor([[2, 5]]))
        assert each.get_output_embeddings().weight is each.get_input_embeddings().weight
    assert twin.get_input_embeddings().weight is not model.get_input_embeddings().weight


def test_a_model_that_its_config_does_not_describe_is_told_when_it_is_saved(
    tiny_config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = BertForSequenceClassification(tiny_config())
    model.save_pretrained(tmp_path)
    assert capsys.readouterr().err == ""
    model.classifier = nn.Linear(32, 7)
    model.save_pretrained(tmp_path)
    assert "classifier.weight has the shape (7, 32), and by its config (2, 32)" in (
        capsys.readouterr().err
    )
    model.config.num_labels = 7
    model.save_pretrained(tmp_path)
    assert capsys.readouterr().err == ""
    again = BertForSequenceClassification.from_pretrained(tmp_path, verbose=False)
    assert again.load_report.exact


def test_a_decoder_of_ones_own_is_left_alone(tiny_config: Any) -> None:
    model = BertForMaskedLM(tiny_config())
    own = nn.Linear(32, 97)
    model.cls.predictions.decoder = own
    model(torch.tensor([[2, 5]]))
    assert model.get_output_embeddings().weight is own.weight
    with pytest.raises(UsageError, match="is needed"):
        model.set_output_embeddings(nn.Linear(32, 5))
    model.set_output_embeddings(nn.Linear(32, 97))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with pytest.raises(UsageError, match="no layer to the vocabulary"):
        BertModel(tiny_config()).set_output_embeddings(own)
    with pytest.raises(UsageError, match="Embedding of 32 columns"):
        model.set_input_embeddings(nn.Embedding(97, 5))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("strict", [True, False])
def test_names_of_a_wrapper_are_refused_with_the_line_that_shortens_them(
    prefix: str, strict: bool, tiny_config: Any
) -> None:
    model = BertForSequenceClassification(tiny_config())
    weights = {prefix + name: value for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=f"begin with '{prefix}'") as told:
        model.load_state_dict(weights, strict=strict)
    assert isinstance(told.value, RuntimeError)
    line = told.value.fix
    assert eval(f"model.{line}", {"model": model, "weights": weights}).missing_keys == []  # noqa: S307
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({"other": torch.zeros(1)})


def test_a_wrapped_model_is_saved_by_its_weights(tiny_config: Any, tmp_path: Path) -> None:
    model = BertForSequenceClassification(tiny_config())
    kind = type(model)
    for number, wrapped in enumerate(
        (nn.DataParallel(model), torch.compile(model, backend="eager"))
    ):
        folder = tmp_path / str(number)
        model.save_pretrained(folder, state_dict=wrapped.state_dict())
        assert kind.from_pretrained(folder, verbose=False).load_report.exact
    model.bert = torch.compile(model.bert, backend="eager")  # type: ignore[assignment]
    model.save_pretrained(tmp_path / "part")
    assert kind.from_pretrained(tmp_path / "part", verbose=False).load_report.exact


def test_what_save_pretrained_takes(
    tiny_config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = BertForSequenceClassification(tiny_config())
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()
    other = {name: value + 1 for name, value in model.state_dict().items()}
    model.save_pretrained(
        tmp_path / "some",
        is_main_process=True,
        state_dict=other,
        save_function=torch.save,
        safe_serialization=True,
        max_shard_size="1GB",
        push_to_hub=False,
        variant=None,
    )
    said = capsys.readouterr().err
    assert "max_shard_size changes nothing" in said
    assert "save_function changes nothing" in said
    again = type(model).from_pretrained(tmp_path / "some", verbose=False)
    assert torch.equal(again.classifier.weight, model.classifier.weight + 1)
    for refused in (
        {"safe_serialization": False},
        {"push_to_hub": True},
        {"variant": "fp16"},
        {"strange": 1},
        {"state_dict": {"classifier.weight": torch.zeros(2, 2)}},
    ):
        with pytest.raises(UsageError) as told:
            model.save_pretrained(tmp_path / "none", **refused)
        assert told.value.fix
    assert not (tmp_path / "none").exists()


# ---- configs ----


def test_fields_are_held_to_their_ranges_when_they_are_set(tiny_config: Any) -> None:
    config = tiny_config()
    for name, value in (
        ("hidden_dropout_prob", 5),
        ("vocab_size", -1),
        ("hidden_act", "swish!"),
        ("num_hidden_layers", 2.5),
        ("pad_token_id", None),
        ("problem_type", "guess"),
    ):
        before = getattr(config, name)
        with pytest.raises(CheckpointError, match=name):
            setattr(config, name, value)
        assert getattr(config, name) == before
    with pytest.raises(CheckpointError, match="hidden_dropout_prob"):
        config.update({"hidden_dropout_prob": 2.0})
    config.hidden_size = 36
    assert BertModel(config).config.head_size == 9
    config.hidden_size = 35
    for use in (lambda: BertModel(config), lambda: config.save_pretrained("unwritten")):
        with pytest.raises(CheckpointError, match="not a multiple"):
            use()


def test_auto_config_and_models_built_by_it(family: str, config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    opened = bertolt.AutoConfig.from_pretrained(tmp_path, num_labels=4)
    assert type(opened) is type(config)
    assert opened.num_labels == 4
    assert bertolt.AutoConfig.for_model(config.model_type, hidden_size=24).hidden_size == 24
    model = bertolt.AutoModelForTokenClassification.from_config(opened, dtype="bfloat16")
    assert type(model).__name__ == f"{family}ForTokenClassification"
    assert model.dtype == torch.bfloat16
    assert type(bertolt.AutoModel.from_config(opened)).__name__ == f"{family}Model"
    with pytest.raises(CheckpointError, match="model_type is 'gpt'"):
        bertolt.AutoConfig.for_model("gpt")
    with pytest.raises(UsageError, match="num_lables"):
        bertolt.AutoConfig.from_pretrained(tmp_path, num_lables=4)


def test_a_model_that_a_predictor_gets_has_no_wrapper(tiny_config: Any) -> None:
    tokenizer = BertTokenizer.train(["some words"], vocab_size=50)
    wrapped = nn.DataParallel(BertForSequenceClassification(tiny_config()))
    with pytest.raises(UsageError, match=r"model\.module"):
        Predictor(wrapped, tokenizer)  # type: ignore[arg-type]
