"""The table of heads, and how one of them is asked: what the contract suite is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

import bertolt
from bertolt import BertConfig, PackedBatch
from bertolt.data.batch import IGNORE_INDEX, PaddedLayout

LENGTHS = [5, 1, 12, 12, 3]

Batch = dict[str, Tensor]
Targets = Callable[[torch.Generator, Batch, BertConfig], Batch]


# ---- what each head learns from, made for a padded batch ----


def class_ids(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    size = len(batch["input_ids"])
    return {"labels": torch.randint(config.num_labels, (size,), generator=generator)}


def several_classes(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    shape = (len(batch["input_ids"]), config.num_labels)
    return {"labels": torch.randint(2, shape, generator=generator).float()}


def numbers(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    shape = (len(batch["input_ids"]), config.num_labels)
    return {"labels": torch.randn(shape, generator=generator)}


def true_or_false(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    return {"labels": torch.randint(2, (len(batch["input_ids"]),), generator=generator)}


def right_choice(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    size = len(batch["input_ids"]) // CHOICES
    return {"labels": torch.randint(CHOICES, (size,), generator=generator)}


def token_classes(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    return {"labels": per_token(generator, batch, config.num_labels)}


def words(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    return {"labels": per_token(generator, batch, config.vocab_size)}


def words_and_order(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    order = true_or_false(generator, batch, config)["labels"]
    return {**words(generator, batch, config), "next_sentence_label": order}


def answers(generator: torch.Generator, batch: Batch, config: BertConfig) -> Batch:
    """Two places in each sequence, as columns; the padding may be on either side."""
    mask = batch["attention_mask"]
    shares = torch.rand(2, len(mask), generator=generator).sort(0).values
    start, end = (shares * mask.sum(1)).long() + mask.argmax(1)
    return {"start_positions": start, "end_positions": end}


def per_token(generator: torch.Generator, batch: Batch, classes: int) -> Tensor:
    """Labels for about half of the tokens, the same ones on whichever side the padding is."""
    mask = batch["attention_mask"].bool()
    found = torch.randint(classes, (int(mask.sum()),), generator=generator)
    found[torch.rand(len(found), generator=generator) < 0.5] = IGNORE_INDEX
    labels = torch.full(mask.shape, IGNORE_INDEX)
    labels[mask] = found
    return labels


CHOICES = 2


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head, and how to hold it to the contract.

    Attributes:
        ours: its public name; the peer has it under the same.
        family: what the names of its config and of its other classes begin with.
        targets: makes what it learns from, for a padded batch; None for a head without a loss.
        config: fields of the config that it needs.
        labelled_only: a packed call with labels gives the logits of the labelled tokens alone, as
            any call that asks for them; `shift` to the left.
        choices: sequences of one example.
        case: tells rows of the same class apart.
    """

    ours: str
    family: str = "Bert"
    targets: Targets | None = None
    config: dict[str, Any] = field(default_factory=dict)
    labelled_only: bool = False
    shift: int = 0
    choices: int = 1
    case: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.ours, self.case)))

    def build(self, config: BertConfig) -> Any:
        return getattr(bertolt, self.ours)(config)

    @property
    def config_class(self) -> type[BertConfig]:
        found: type[BertConfig] = getattr(bertolt, f"{self.family}Config")
        return found

    def build_peer(self, config: BertConfig) -> Any:
        kind = getattr(transformers, f"{self.family}Config")
        return getattr(transformers, self.ours)(
            kind(**config.to_dict(), attn_implementation="eager")
        )

    def join_biases(self, peer: Any) -> None:
        """Untied, the peer has a second bias that no logit depends on."""
        if self.case == "untied":
            head = peer.cls.predictions if self.family == "Bert" else peer.lm_head
            head.decoder.bias = head.bias

    def call(self, model: Any, batch: Batch, **options: Any) -> Any:
        """A model's answer to a padded batch of (B, L), laid out as its class takes it."""
        if self.choices > 1:
            batch = {
                name: value.unflatten(0, (-1, self.choices)) if value.dim() == 2 else value
                for name, value in batch.items()
            }
        return model(**batch, **options)

    def labelled(self, batch: Batch) -> Tensor | None:
        """(B, L) True where a token's logits are compared with a label."""
        if not self.labelled_only or "labels" not in batch:
            return None
        labels = batch["labels"].roll(-self.shift, 1)
        if self.shift:
            labels[:, -self.shift :] = IGNORE_INDEX
        return labels != IGNORE_INDEX

    def has_something_to_learn(self, batch: Batch) -> bool:
        """Whether there is a label at all (the peer's mean of none is not a number), and a choice.

        In sequences of one token, every answer is in the same place. Between two choices that are
        alike there is none.
        """
        if self.choices > 1:
            rows = torch.cat([batch["input_ids"], batch["token_type_ids"]], dim=1)
            first, second = rows.unflatten(0, (-1, self.choices)).unbind(1)
            return not torch.equal(first, second)
        if "start_positions" in batch:
            return bool((batch["attention_mask"].sum(1) > 1).any())
        labels = batch.get("labels")
        where = self.labelled(batch)
        if where is None and labels is not None:
            where = labels != IGNORE_INDEX
        return where is None or bool(where.any())

    def expected(self, out: Any, batch: Batch, *, labelled: bool = False) -> dict[str, Any]:
        """The peer's answer, brought to what is promised here.

        On request, of the labelled tokens alone. The loss of question answering compares a place
        with those of its sequence; the peer's also with the padding, which is hidden from it here.
        """
        found = dict(out.items())
        where = self.labelled(batch) if labelled else None
        for name in ("logits", "prediction_logits"):
            if where is not None and name in found:
                found[name] = found[name][where]
        if "start_positions" in batch:
            hidden = batch["attention_mask"] == 0
            found["loss"] = sum(
                F.cross_entropy(
                    out[f"{end}_logits"].masked_fill(hidden, -torch.inf), batch[f"{end}_positions"]
                )
                / 2
                for end in ("start", "end")
            )
        return found


ROBERTA_NAMES = {"BertLMHeadModel": "RobertaForCausalLM"}
HEADS = [
    Head(ours="BertModel"),
    Head(ours="BertModel", config={"is_decoder": True}, case="decoder"),
    Head(ours="BertForPreTraining", targets=words_and_order, labelled_only=True),
    Head(ours="BertForMaskedLM", targets=words, labelled_only=True),
    Head(
        ours="BertForMaskedLM",
        targets=words,
        labelled_only=True,
        config={"tie_word_embeddings": False},
        case="untied",
    ),
    Head(
        ours="BertLMHeadModel",
        targets=words,
        labelled_only=True,
        shift=1,
        config={"is_decoder": True},
    ),
    Head(ours="BertForNextSentencePrediction", targets=true_or_false),
    Head(
        ours="BertForSequenceClassification",
        targets=class_ids,
        config={"num_labels": 3, "problem_type": "single_label_classification"},
        case="one-label",
    ),
    Head(
        ours="BertForSequenceClassification",
        targets=several_classes,
        config={"num_labels": 4, "problem_type": "multi_label_classification"},
        case="several-labels",
    ),
    Head(
        ours="BertForSequenceClassification",
        targets=numbers,
        config={"num_labels": 2, "problem_type": "regression"},
        case="numbers",
    ),
    Head(ours="BertForTokenClassification", targets=token_classes, config={"num_labels": 5}),
    Head(ours="BertForQuestionAnswering", targets=answers),
    Head(ours="BertForMultipleChoice", targets=right_choice, choices=CHOICES),
]
ONLY_BERT = ("BertForPreTraining", "BertForNextSentencePrediction")
BERT_HEADS = list(HEADS)
# The same rows for a family whose other modules are its own: one row a head and family.
HEADS += [
    replace(head, family="Roberta", ours=ROBERTA_NAMES.get(head.ours, f"Roberta{head.ours[4:]}"))
    for head in BERT_HEADS
    if head.ours not in ONLY_BERT
]
every_head = pytest.mark.parametrize("head", HEADS, ids=str)
every_bert_head = pytest.mark.parametrize("head", BERT_HEADS, ids=str)


class Bench:
    """A head's model with random weights, and batches for both of its doors."""

    def __init__(self, head: Head, config: BertConfig, randomised: Any, padded: Any) -> None:
        self.head, self.config, self.padded = head, config, padded
        self.model = randomised(head.build(config))

    def inputs(self, lengths: list[int] = LENGTHS, **options: Any) -> Batch:
        """A padded batch without targets; a sequence of one token fills up the last example."""
        whole = [*lengths, *[1] * (-len(lengths) % self.head.choices)]
        made = self.padded(
            whole,
            vocab_size=self.config.vocab_size,
            type_vocab_size=self.config.type_vocab_size,
            pad_token_id=self.config.pad_token_id,
            **options,
        )
        return dict(made)

    def batch(self, lengths: list[int] = LENGTHS, **options: Any) -> Batch:
        """A padded batch with targets."""
        made = self.inputs(lengths, **options)
        if self.head.targets is not None:
            generator = torch.Generator().manual_seed(7)
            made.update(self.head.targets(generator, made, self.config))
        return made

    def call(self, batch: Batch, **options: Any) -> Any:
        """The answer of the padded door."""
        return self.head.call(self.model, batch, **options)

    def pack(self, batch: Batch, **options: Any) -> tuple[PackedBatch, PaddedLayout]:
        return PackedBatch.from_padded(
            **batch,
            labels_per_token=self.model.labels_per_token,
            num_choices=self.head.choices,
            **options,
        )

    def packed(self, batch: Batch, **options: Any) -> dict[str, Any]:
        """The outputs of the packed door, laid out as the padded door lays them out."""
        logits = options.pop("logits", None)
        packed, layout = self.pack(batch, **options)
        out = self.model(packed) if logits is None else self.model(packed, logits=logits)
        labelled = logits != "all" and self.model.labelled_only(packed)
        laid_out = () if labelled else out.per_token
        return {
            name: layout.unpack(value) if name in laid_out else value for name, value in out.items()
        }

    def by_sequence(self, value: Tensor) -> Tensor:
        """An output with one entry a sequence, (B, …)."""
        return value.flatten(0, 1)[:, None] if self.head.choices > 1 else value

    def objective(self, out: Any, batch: Batch) -> Tensor:
        """The loss, or for a head without one, a fixed weighted sum over all that is real."""
        if "loss" in out:
            return out["loss"]
        total = torch.zeros(())
        for name in tensors(out):
            value = real(self, name, out[name], batch)
            weights = torch.cos(torch.arange(value.numel())).view(value.shape)
            total = total + (value * weights).sum()
        return total

    def gradients(self, run: Callable[[], Any], batch: Batch) -> Batch:
        self.model.zero_grad()
        self.objective(run(), batch).backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }


PER_TOKEN = {"last_hidden_state", "prediction_logits", "start_logits", "end_logits"}


def tensors(out: Any) -> list[str]:
    """Names of the outputs that are compared: not the loss, not what comes on request."""
    return [name for name in out.keys() if name != "loss" and isinstance(out[name], Tensor)]  # noqa: SIM118


def real(bench: Bench, name: str, value: Tensor, batch: Batch) -> Tensor:
    """An output without what stands at the padding."""
    per_token = name in PER_TOKEN or (name == "logits" and bench.model.labels_per_token)
    alone = bench.head.labelled(batch) is not None and value.dim() == 2
    if not per_token or alone:
        return value
    return value[batch["attention_mask"].bool()]


def assert_same(bench: Bench, found: Any, wanted: Any, batch: Batch, atol: float = 1e-5) -> None:
    compared = [*tensors(found), *(["loss"] if "loss" in found else [])]
    assert compared
    for name in compared:
        torch.testing.assert_close(
            real(bench, name, found[name], batch),
            real(bench, name, wanted[name], batch),
            atol=atol,
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def assert_same_gradients(found: Batch, wanted: Batch) -> None:
    assert found.keys() == wanted.keys()
    floor = 1e-6 * max(float(value.norm()) for value in wanted.values())
    for name, want in wanted.items():
        assert float((found[name] - want).norm()) <= max(1e-4 * float(want.norm()), floor), name
