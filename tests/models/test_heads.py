"""What is particular to single heads and to building models; what all share is in `contract`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bertolt import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    PackedBatch,
)
from bertolt.base.errors import DataError
from bertolt.data.batch import padded_rows
from bertolt.models.forward_pass import ForwardPass


def test_the_automatic_class_builds_and_opens_the_class_of_the_family(
    tiny_config: Any, tiny_folder: Any
) -> None:
    assert issubclass(BertForSequenceClassification, AutoModelForSequenceClassification)
    for model in (
        AutoModelForSequenceClassification(tiny_config()),
        AutoModelForSequenceClassification.from_pretrained(tiny_folder, verbose=False),
    ):
        assert type(model) is BertForSequenceClassification
    assert type(AutoModel.from_pretrained(tiny_folder, verbose=False)) is BertModel


def test_the_head_has_a_dropout_of_its_own(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config(classifier_dropout=0.0))
    assert model.dropout.p == 0.0
    assert BertForSequenceClassification(tiny_config()).dropout.p == 0.1


def test_logits_are_fp32_whatever_the_products_are(tiny_config: Any, padded: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(**padded([3, 5])).logits.dtype == torch.float32


def test_the_encoder_may_have_no_pooler(tiny_config: Any, padded: Any) -> None:
    model = BertModel(tiny_config(), add_pooling_layer=False)
    out = model(**padded([3, 5]))
    assert out.pooler_output is None
    assert out.keys() == ["last_hidden_state"]
    assert not any("pooler" in name for name in model.state_dict())


@pytest.mark.parametrize("backend", ["grouped", "reference"])
@pytest.mark.parametrize("lengths", [[1], [9, 9], [5, 1, 30, 12, 2], [64, 64]], ids=str)
def test_pooling_the_first_tokens_alone_gives_what_the_whole_gives(
    tiny_config: Any,
    randomised: Any,
    padded: Any,
    same_gradients: Any,
    lengths: list[int],
    backend: str,
) -> None:
    whole, less = (randomised(BertModel(tiny_config())) for _ in range(2))
    batch = PackedBatch.from_padded(**padded(lengths))[0]
    for model in (whole, less):
        model.set_attention_backend(backend)
    wanted = whole(batch).pooler_output
    found = less.pool_first(batch, ForwardPass())
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    for pooled in (wanted, found):
        (pooled * torch.cos(torch.arange(pooled.numel())).view(pooled.shape)).sum().backward()
    same_gradients(less, whole)


def test_new_weights_follow_the_published_rule(tiny_config: Any) -> None:
    torch.manual_seed(0)
    model = BertModel(tiny_config(hidden_size=64, intermediate_size=512, initializer_range=0.05))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            weight = module.weight.detach()
            weight = weight[1:] if name.endswith("word_embeddings") else weight
            # Five standard errors of what is estimated from so many values.
            assert abs(float(weight.std()) - 0.05) < 5 * 0.05 / (2 * weight.numel()) ** 0.5, name
            assert abs(float(weight.mean())) < 5 * 0.05 / weight.numel() ** 0.5, name
        if isinstance(module, nn.LayerNorm):
            assert bool((module.weight == 1).all())
        if isinstance(module, nn.Linear | nn.LayerNorm):
            assert not module.bias.any(), name
    assert not model.embeddings.word_embeddings.weight[0].any()


def test_a_subclass_sets_its_own_rule(tiny_config: Any) -> None:
    class Mine(BertForSequenceClassification):
        def _init_weights(self, module: nn.Module) -> None:
            super()._init_weights(module)
            if module is getattr(self, "classifier", None):
                nn.init.constant_(module.bias, 0.5)

    model = Mine(tiny_config())
    assert bool((model.classifier.bias == 0.5).all())
    assert not model.bert.pooler.dense.bias.any()


def test_building_follows_the_seed(tiny_config: Any) -> None:
    def build(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return BertForSequenceClassification(tiny_config()).state_dict()

    first, again, other = build(0), build(0), build(1)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_parameters_are_counted(tiny_config: Any) -> None:
    config = tiny_config(num_labels=3)
    h, wide = config.hidden_size, config.intermediate_size
    embeddings = (97 + 160 + 2) * h + 2 * h
    layer = 4 * (h * h + h) + 2 * h * wide + wide + h + 4 * h
    expected = embeddings + 2 * layer + h * h + h + 3 * h + 3
    assert BertForSequenceClassification(config).num_parameters() == expected


def test_labels_of_another_type_are_refused(tiny_config: Any) -> None:
    """Floats where classes are declared: the message says which type to declare."""
    model = BertForSequenceClassification(tiny_config(problem_type="single_label_classification"))
    batch = PackedBatch.from_sequences([[2, 3]], labels=torch.tensor([0.5]))
    with pytest.raises(DataError, match="whole-number labels") as caught:
        model(batch)
    assert "problem_type" in caught.value.fix


def test_choosing_a_backend_reaches_the_encoder_inside(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config())
    model.set_attention_backend("reference")
    assert model.attention_backend.name == model.bert.attention_backend.name == "reference"
    assert model.set_attention_backend("auto").name != "reference"


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForPreTraining])
def test_the_last_layer_computes_what_the_head_reads_and_no_more(
    kind: Any, tiny_config: Any
) -> None:
    """Asking for hidden states computes all rows: loss and gradients are the same."""
    model = kind(tiny_config(initializer_range=0.2)).eval()
    ids = torch.randint(5, model.config.vocab_size, (3, 11))
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[2, 10], labels[2, 0] = 8, 9, 10
    batch = PackedBatch.from_padded(ids, labels=labels, labels_per_token=True)[0]
    seen: list[int] = []
    last = model.bert.encoder.layer[-1]
    last.register_forward_hook(lambda _, __, out: seen.append(out.shape[0]))
    gradients = []
    for watched in (False, True):
        model.zero_grad()
        output = model(batch, output_hidden_states=watched)
        output.loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert seen == [padded_rows(3 if kind is BertForMaskedLM else 3 + 3), padded_rows(33)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_second_objective_weighs_less_while_training_if_asked(tiny_config: Any) -> None:
    model = BertForPreTraining(
        tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    ids = torch.randint(5, model.config.vocab_size, (4, 9))
    targets = {"labels": ids, "next_sentence_label": torch.tensor([0, 1, 1, 0])}
    both = float(model.train()(input_ids=ids, **targets).loss.detach())
    words = float(model(input_ids=ids, labels=ids).loss.detach())
    model.next_sentence_weight = 0.25
    weighed = float(model(input_ids=ids, **targets).loss.detach())
    assert weighed == pytest.approx(words + 0.25 * (both - words), rel=1e-5)
    assert float(model.eval()(input_ids=ids, **targets).loss.detach()) == pytest.approx(
        both, rel=1e-5
    )
