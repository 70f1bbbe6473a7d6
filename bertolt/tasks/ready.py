"""A model made ready to answer windows: what `Predictor` and the pipelines stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.data.batch import PackedBatch
from bertolt.data.collate import PackingCollator
from bertolt.models.bert import Backbone
from bertolt.models.frozen import FrozenModel, freeze
from bertolt.models.own_forward import has_own_forward
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.evaluation import of_labelled, token_budget
from bertolt.tokenization import BertTokenizer
from bertolt.train.loop import EvaluatedBatch, RowSource, predict_batches


class ReadyModel:
    """A trained model, its tokenizer and its number format; encoded windows in, outputs out.

    It answers with the weights that the model has when it is asked, until `refresh` makes copies of
    the layers that answer faster.

    Args:
        model: trained.
        tokenizer: that fits it.
        purpose: what is asked of it, for the error where its head was never trained.
        precision: the number format of its products.

    Raises:
        CheckpointError: weights that no training has touched, or a tokenizer of another model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: BertTokenizer,
        purpose: str,
        precision: PrecisionChoice,
    ) -> None:
        model.require_trained(purpose)
        tokenizer.check_fits(model.config.vocab_size)
        self.model = model
        self.tokenizer = tokenizer
        self.precision = precision
        # An `Engine`; what else it knows is for those who know which it is.
        self.engine: Any = FrozenModel(model, None, "it was not asked for", has_own_forward(model))

    def refresh(self) -> None:
        """Answer with copies of the layers as they are now, where such copies can be made.

        Raises:
            UsageError: the precision is "int8", and the model as it is now cannot answer in it.
        """
        self.engine = freeze(self.model, self.precision.name)

    def batches(
        self,
        rows: RowSource,
        lengths: NDArray[np.int64],
        collate: Callable[[list[Any]], PackedBatch],
        *,
        most: int | None = None,
    ) -> Iterator[EvaluatedBatch]:
        """What the model gives for windows, batched by length.

        Args:
            rows: the windows.
            lengths: (W,) tokens of each.
            collate: makes a batch of some.
            most: tokens of a batch; None: as many as keep the device busy.
        """
        budget = token_budget(self.engine.device)
        return predict_batches(
            self.model,
            rows,
            lengths,
            collate,
            token_budget=budget if most is None else min(budget, most),
            precision=self.precision,
            engine=self.engine,
        )

    def outputs(
        self, windows: Sequence[Mapping[str, Any]], *, at_once: int | None = None
    ) -> list[Tensor]:
        """The model's outputs for each window, as they are before a task makes answers of them.

        Args:
            windows: `input_ids` of each, and what goes with them.
            at_once: a batch has no more tokens than so many of the longest windows.

        Returns:
            float32 on the CPU: logits (C,); (L, C) of tokens, two of each where answers have ends;
            (M, V) of the labelled tokens of a language model; (L, H) states of an encoder alone.
        """
        lengths = np.array([len(window["input_ids"]) for window in windows], np.int64)
        most = None if at_once is None or not windows else at_once * int(lengths.max())
        collate = PackingCollator(
            pad_token_id=self.model.config.pad_token_id, token_labels=self.model.labels_per_token
        )
        outputs: dict[int, Tensor] = {}
        for batch in self.batches(windows, lengths, collate, most=most):
            outputs.update(zip(batch.rows.tolist(), self._by_window(batch), strict=True))
        return [outputs[number] for number in range(len(windows))]

    def _by_window(self, answered: EvaluatedBatch) -> Sequence[Tensor]:
        model, batch, values = self.model, answered.batch, answered.logits
        if model.labelled_only(batch):
            labelled, _, counts = of_labelled(values, batch)
            return torch.split(labelled, counts)
        states = isinstance(model, Backbone) and not self.engine.own_forward
        if states or model.logits_per_token:
            return torch.split(values, batch.lengths.tolist())
        return list(values)
