"""What is handed to models, loaders and tokenizers in another form than they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bertolt import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertTokenizer,
    Predictor,
    Trainer,
    TrainingArguments,
    UsageError,
)
from bertolt.base.errors import DataError

CONFIG = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
)
TOKENIZER = BertTokenizer.train(["some words to learn from"], vocab_size=50)


def test_ends_of_spans_may_come_flat_or_as_a_column() -> None:
    model = BertForQuestionAnswering(CONFIG).eval()
    ids, starts, ends = torch.randint(5, 50, (2, 6)), torch.tensor([1, 2]), torch.tensor([3, 9])
    flat = model(ids, start_positions=starts, end_positions=ends).loss
    column = model(ids, start_positions=starts[:, None], end_positions=ends[:, None]).loss
    assert torch.equal(flat, column)


@pytest.mark.parametrize("half", [False, True])
def test_a_padded_place_is_never_the_best_end_of_a_span(half: bool) -> None:
    model = BertForQuestionAnswering(CONFIG).eval()
    with torch.no_grad():
        model.qa_outputs.bias.fill_(-1e3)
    output = (model.bfloat16() if half else model)(
        input_ids=torch.tensor([[2, 5, 3, 0], [2, 5, 6, 3]]),
        attention_mask=torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
        start_positions=torch.tensor([1, 1]),
        end_positions=torch.tensor([1, 2]),
    )
    for logits in (output.start_logits, output.end_logits):
        assert logits[0].argmax() < 3
        assert logits[0, 3] == torch.finfo(logits.dtype).min
        assert torch.isfinite(nn.functional.cross_entropy(logits, torch.tensor([1, 1])))
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_names_that_a_wrapper_has_lengthened_are_read_and_said(prefix: str, tmp_path: Path) -> None:
    model = BertForSequenceClassification(CONFIG)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({prefix + name: value for name, value in load_file(file).items()}, file)
    again = BertForSequenceClassification.from_pretrained(tmp_path, verbose=False)
    assert again.load_report.exact
    assert f"begin with {prefix!r}" in str(again.load_report)
    assert torch.equal(again.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("wrapper", [nn.DataParallel, torch.compile])
def test_a_wrapped_model_is_named_with_the_way_inside(wrapper: Any, tmp_path: Path) -> None:
    wrapped = wrapper(BertForSequenceClassification(CONFIG))
    inside = "model.module" if wrapper is nn.DataParallel else "model._orig_mod"
    arguments = TrainingArguments(output_dir=str(tmp_path))
    for take in (
        lambda: Trainer(model=wrapped, args=arguments, train_dataset=[]),
        lambda: Predictor(wrapped, TOKENIZER),
    ):
        with pytest.raises(UsageError, match=f"give the model inside: {inside}"):
            take()


def test_ids_that_are_out_of_range_are_told_by_both_ends() -> None:
    with pytest.raises(DataError, match="go from -5 to 3"):
        BertForSequenceClassification(CONFIG)(input_ids=torch.tensor([[1, -5, 3]]))


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_weights_are_loaded_in_the_format_that_is_asked_for(dtype: Any, tmp_path: Path) -> None:
    BertForSequenceClassification(CONFIG).save_pretrained(tmp_path)
    load = BertForSequenceClassification.from_pretrained
    for name in ("dtype", "torch_dtype"):
        model = load(tmp_path, config=CONFIG, verbose=False, **{name: dtype})
        assert model.classifier.weight.dtype == torch.bfloat16
    with pytest.raises(UsageError, match="dtype is 'int9'"):
        load(tmp_path, dtype="int9", verbose=False)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: BertTokenizer("vocab.txt"), "from_vocab"),  # type: ignore[arg-type]
        (lambda: TOKENIZER("words", max_length="8", truncation=True), "max_length is '8'"),
        (lambda: TOKENIZER("words", max_length=4, truncation=True, stride=-1), "stride is -1"),
        (lambda: TOKENIZER(["words"], padding=True, pad_to_multiple_of="8"), "is '8'"),
        (lambda: TOKENIZER.encode_ids("words"), r"give \[text\]"),
        (lambda: TOKENIZER.encode_words("words"), r"give \[text\]"),
        (lambda: TOKENIZER.encode_pairs("words", "words", 8), "give lists"),
    ],
)
def test_arguments_that_a_tokenizer_cannot_take_are_named(call: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()


def test_a_special_token_can_be_taken_away() -> None:
    tokenizer = BertTokenizer.train(["some words"], vocab_size=50)
    tokenizer.pad_token = None
    assert tokenizer.pad_token is None
    assert tokenizer.pad_token_id is None
