"""`Predictor`: a saved model and its contract, answering texts in the order they come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from bertolt.base.errors import CheckpointError
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.contract import Contract, Golden
from bertolt.data.batch import PackedBatch
from bertolt.data.encode import EncodedTexts, encode_texts
from bertolt.data.prefetch import ahead_of
from bertolt.models.frozen import FrozenModel, freeze
from bertolt.models.heads import BertForSequenceClassification
from bertolt.models.losses import problem_type
from bertolt.models.precision import PrecisionChoice, choose_precision
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.evaluation import token_budget
from bertolt.tokenization import BertTokenizer
from bertolt.train.loop import predict_batches

WINDOW = 8192
"""Texts that are read and sorted by length at a time."""
GOLDEN_TOLERANCE = 1e-3
"""Difference of a probability from its golden value that another machine's rounding may make."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one text.

    Attributes:
        label: the most probable label.
        probability: its probability.
        probabilities: of every label, by name.
        tokens: of the text, special tokens included, before cutting.
        tokens_cut: beyond the limit, and so not seen by the model.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    tokens: int
    tokens_cut: int


class Predictor:
    """A classifier with the preprocessing it was trained with.

    It answers with the weights that the model has when it is built: call `refresh` after a change
    of `model`.

    Args:
        model: trained.
        tokenizer: that fits it.
        contract: how its texts were prepared; None: cut at the model's position table.
        precision: "auto", "fp32", "bf16" or, on a CPU, "int8".
        device: where to run; None: a GPU if there is one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: BertTokenizer,
        contract: Contract | None = None,
        *,
        precision: str = "auto",
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.require_trained("classification")
        tokenizer.check_fits(model.config.vocab_size)
        self.precision: PrecisionChoice = choose_precision(precision, self.device, answering=True)
        self.model = model
        self.frozen = self._freeze()
        self.tokenizer = tokenizer
        self.contract = contract
        limit = model.config.max_position_embeddings
        self.max_length = min(contract.max_length, limit) if contract else limit

    def refresh(self) -> None:
        """Answer with what `model` is now: call it after every change of its weights or modules.

        Until then the layers of the encoder answer as they were. They are copies, in `frozen`;
        where there can be none, `frozen.why_not` says why. Embeddings and the head are the model's
        own: what changes in those is seen at once, before the layers that belong to it.

        Raises:
            UsageError: the precision is "int8", and the model as it is now cannot answer in it.
        """
        self.frozen = self._freeze()

    def _freeze(self) -> FrozenModel:
        self.model.move(self.device, self.precision.dtype).eval()
        return freeze(self.model, self.precision.name)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        precision: str = "auto",
        device: torch.device | None = None,
    ) -> Predictor:
        """Load a fine-tuned model.

        Raises:
            CheckpointError: it cannot be loaded, has a head that was never trained, or its parts
                do not fit each other.
        """
        folder = huggingface.resolve(name_or_path)
        model = BertForSequenceClassification.from_pretrained(folder, verbose=False)
        tokenizer = BertTokenizer.from_pretrained(folder)
        contract = Contract.read(folder)
        _require_one_label(folder, model)
        _require_same_labels(folder, model, contract)
        return cls(model, tokenizer, contract, precision=precision, device=device)

    @property
    def labels(self) -> list[str]:
        """Label names, in the order of the model's outputs."""
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    def predict(self, texts: Iterable[str], *, window: int | None = None) -> Iterator[Prediction]:
        """Answer texts in their order.

        Args:
            texts: read in windows and sorted by length inside them, so that an endless stream
                needs no more memory than one window.
            window: texts to read before the first of them is answered; None: `WINDOW`, and on a
                GPU as many again, which are tokenised while it works on those before them.
        """
        source = iter(texts)
        parts = iter(lambda: list(islice(source, window or WINDOW)), [])
        ahead = window is None and self.device.type == "cuda"
        encoding = ahead_of(self._encode, parts) if ahead else nullcontext(map(self._encode, parts))
        with encoding as windows:
            for rows in windows:
                yield from self._answer(rows)

    def _encode(self, texts: list[str]) -> EncodedTexts:
        return encode_texts(self.tokenizer, texts, self.max_length)

    def _pack(self, rows: list[Any]) -> PackedBatch:
        ids = [row["input_ids"] for row in rows]
        return PackedBatch.from_sequences(ids, pad_token_id=self.model.config.pad_token_id)

    def _answer(self, rows: EncodedTexts) -> Sequence[Prediction]:
        answers: list[Prediction | None] = [None] * len(rows)
        names = self.labels
        for batch in predict_batches(
            self.model,
            rows,
            rows.lengths,
            self._pack,
            token_budget=token_budget(self.device),
            precision=self.precision,
            frozen=self.frozen,
        ):
            for row, shares in zip(batch.rows, batch.logits.softmax(-1).tolist(), strict=True):
                best = max(range(len(names)), key=shares.__getitem__)
                tokens = int(rows.full_lengths[row])
                answers[row] = Prediction(
                    label=names[best],
                    probability=shares[best],
                    probabilities=dict(zip(names, shares, strict=True)),
                    tokens=tokens,
                    tokens_cut=max(0, tokens - self.max_length),
                )
        return [answer for answer in answers if answer is not None]

    def make_golden(self, texts: Sequence[str]) -> list[Golden]:
        """Answers of this model to some texts, to be kept beside it. Meant for fp32."""
        return [
            Golden(text=text, label=answer.label, probabilities=answer.probabilities)
            for text, answer in zip(texts, self.predict(texts), strict=True)
        ]

    def selftest(self) -> list[str]:
        """Answer the contract's golden texts again; what differs, in words. Meant for fp32."""
        golden = self.contract.golden if self.contract else []
        again = self.predict([entry.text for entry in golden])
        faults = []
        for number, (entry, answer) in enumerate(zip(golden, again, strict=True), start=1):
            gap = max(
                abs(answer.probabilities.get(name, 0.0) - share)
                for name, share in entry.probabilities.items()
            )
            # The label itself may turn where two probabilities are all but equal.
            if not gap <= GOLDEN_TOLERANCE:
                faults.append(
                    f"golden text {number}: {answer.label!r} (it was {entry.label!r}), "
                    f"probabilities differ by up to {gap:.2g}"
                )
        return faults


def _require_one_label(folder: Path, model: PreTrainedModel) -> None:
    kind = problem_type(model.config)
    if kind != "single_label_classification":
        raise CheckpointError(
            f"the model was made for {kind.replace('_', ' ')}, which has no single label to give",
            place=str(folder),
            fix="use a model that gives each text one label of several",
        )


def _require_same_labels(folder: Path, model: PreTrainedModel, contract: Contract | None) -> None:
    ours = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if contract is not None and contract.labels != ours:
        raise CheckpointError(
            f"bertolt.json has the labels {contract.labels}, and config.json has {ours}",
            place=str(folder),
            fix="save the model again, so that both are written together",
        )
