"""The held-out loss: fixed batches with fixed masks, so that one number compares with the next.

The same tokens are hidden in every run over a corpus, whatever its batches, passes and seed. Only
the objective, `--max-length`, `--mask` and `--whole-words` matter, which make it another task, and
`--eval-tokens`, which measures more or less of the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.distributed import ALONE, World
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.models.evaluating import evaluating
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.pretrain.batches import Batches

HELD_OUT_SEED = 0
"""Of pairs and masks of the held-out text: the same in every run, whatever its own seed."""
HELD_OUT_ROWS = 4096
"""Of its batches, for order and masks follow from their numbers; more for the longest sequences."""


class HeldOut:
    """The held-out text as batches that are made once.

    Args:
        batches: of the held-out text.
        share: of its tokens that are masked.
        most_tokens: stop after so many.

    Attributes:
        tokens: that are measured, special ones counted.
        pairs_baseline: share of the more frequent answer among the pairs; None without pairs.
    """

    def __init__(self, batches: Batches, share: float, most_tokens: int) -> None:
        count = min(batches.per_epoch, max(1, math.ceil(most_tokens / batches.tokens)))
        self._batches = [batches.batch(number, share) for number in range(count)]
        self.tokens = sum(batch.num_tokens for batch in self._batches)
        labels = [batch.next_sentence_label for batch in self._batches]
        known = [each[each != IGNORE_INDEX] for each in labels if each is not None]
        away = float(torch.cat(known).double().mean()) if known else math.nan
        self.pairs_baseline = None if math.isnan(away) else max(away, 1 - away)

    def measure(
        self, model: PreTrainedModel, precision: PrecisionChoice, world: World = ALONE
    ) -> dict[str, float]:
        """Losses and accuracies of the model, which keeps its training mode.

        Of several processes each measures its share of the batches, and all get the whole.

        Returns:
            `eval_loss` and `eval_masked_accuracy`; of a model that learns from pairs also
            `eval_masked_loss`, `eval_next_sentence_loss` and `eval_next_sentence_accuracy`.

        Raises:
            Stopped: by SIGTERM, while training.
        """
        sums = torch.zeros(6, dtype=torch.float64)
        with evaluating(model):
            for batch, own in world.deal_out(self._batches, may_stop=True):
                sums += own * _sums(model, batch, precision)
        return _metrics(*world.sum(sums.tolist()))


def _sums(model: PreTrainedModel, batch: PackedBatch, precision: PrecisionChoice) -> Tensor:
    """(6,) float64, on the CPU: loss, right answers and count of masked tokens, then of pairs."""
    batch = batch.to(model.device, non_blocking=True)
    with torch.inference_mode(), precision.autocast(model.device):
        output: Any = model(batch)
    assert batch.labels is not None
    tokens = batch.labels[batch.labels != IGNORE_INDEX]
    answers = [("labels", model.logits_of(output), tokens)]
    if batch.next_sentence_label is not None:
        pairs = batch.next_sentence_label
        answers.append(("next_sentence_label", output.seq_relationship_logits, pairs))
    sums = torch.zeros(6, dtype=torch.float64)
    for number, (name, logits, labels) in enumerate(answers):
        term, right = output.loss_terms[name], (logits.argmax(-1) == labels).sum()
        row = torch.stack([value.detach().double() for value in (term.total, right, term.count)])
        sums[3 * number : 3 * number + 3] = row
    return sums


def _metrics(
    loss: float, right: float, masked: float, pair_loss: float, pair_right: float, pairs: float
) -> dict[str, float]:
    loss, accuracy = loss / max(1.0, masked), right / max(1.0, masked)
    if not pairs:
        return {"eval_loss": loss, "eval_masked_accuracy": accuracy}
    return {
        "eval_loss": loss + pair_loss / pairs,
        "eval_masked_loss": loss,
        "eval_masked_accuracy": accuracy,
        "eval_next_sentence_loss": pair_loss / pairs,
        "eval_next_sentence_accuracy": pair_right / pairs,
    }


def masked_loss(metrics: dict[str, float]) -> float:
    """The part of an evaluation's loss that is of masked tokens."""
    return metrics.get("eval_masked_loss", metrics["eval_loss"])


def token_entropy(counts: NDArray[np.int64], maskable: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Entropy of single tokens, in nats: the loss of knowing how frequent they are.

    Args:
        counts: (V,) how often each token stands in the text.
        maskable: (V,) whether a token can be masked; others are never guessed.
    """
    counted = counts[np.asarray(maskable, dtype=bool)[: len(counts)]].astype(np.float64)
    shares = counted[counted > 0] / max(1.0, counted.sum())
    return float(-(shares * np.log(shares)).sum())
