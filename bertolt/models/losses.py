"""Losses from a declared problem type: nothing is guessed from the labels of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from bertolt.base.errors import DataError, OutOfRangeError
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.models.config import BertConfig, ProblemType
from bertolt.models.cross_entropy import summed_cross_entropy


def problem_type(config: BertConfig) -> ProblemType:
    """The declared type; undeclared, regression for a single output, else one label of many."""
    if config.problem_type is not None:
        return config.problem_type
    return "regression" if config.num_labels == 1 else "single_label_classification"


@dataclass(frozen=True)
class LossTerm:
    """One part of a loss: its sum over the labels that count, and how many these are.

    Sum and number are kept apart so that several batches can act as one: the mean over all their
    labels is not the mean of their means.
    """

    total: Tensor
    count: Tensor

    def scaled(self, share: float) -> LossTerm:
        """The same with another weight in the whole loss."""
        return LossTerm(self.total * share, self.count)


def mean_loss(terms: Mapping[str, LossTerm], counts: Mapping[str, int] | None) -> Tensor:
    """The sum of all terms, each divided by its labels; zero where a term has none.

    Args:
        terms: by the name of the target.
        counts: labels of several batches that act as one, by the same names; None: these alone.
    """
    parts = [
        term.total / (term.count.clamp(min=1) if counts is None else max(1, counts[name]))
        for name, term in terms.items()
    ]
    return torch.stack(parts).sum()


def count_labels(labels: Tensor) -> int:
    """Labels that take part in a loss."""
    return labels.shape[0] if labels.is_floating_point() else int((labels != IGNORE_INDEX).sum())


def sequence_loss(logits: Tensor, labels: Tensor, kind: ProblemType) -> LossTerm:
    """Loss of sequence classification, in fp32.

    Args:
        logits: (B, C).
        labels: (B,) class ids; (B,) or (B, C) floats for regression; (B, C) zeros and ones for
            several labels at once.
        kind: the declared problem type.

    Raises:
        DataError: the labels do not have the shape that the problem type needs, or one is not
            among the classes.
    """
    if kind == "single_label_classification":
        if labels.is_floating_point():
            raise DataError(
                "single_label_classification needs whole-number labels, and these are floats",
                fix='declare problem_type="regression" or "multi_label_classification"',
            )
        return token_loss(logits, labels.reshape(-1))
    labels = _a_value_each(logits, labels, kind)
    loss = F.mse_loss if kind == "regression" else F.binary_cross_entropy_with_logits
    total = loss(logits.float(), labels, reduction="sum") / logits.shape[1]
    return LossTerm(total, torch.full((), logits.shape[0], device=logits.device))


def _a_value_each(logits: Tensor, labels: Tensor, kind: ProblemType) -> Tensor:
    """Labels (B, C) in fp32 for logits (B, C); those of one output may be (B,).

    Raises:
        DataError: they have another shape.
    """
    labels = labels.view(-1, 1) if labels.dim() == 1 else labels
    if labels.shape != logits.shape:
        raise DataError(
            f"{kind} needs labels of shape {tuple(logits.shape)}, and these are "
            f"{tuple(labels.shape)}",
            fix="give each text as many values as the model has labels",
        )
    return labels.float()


def token_loss(logits: Tensor, labels: Tensor) -> LossTerm:
    """Cross-entropy over the labels that count, in fp32.

    Args:
        logits: (M, C).
        labels: (M,) or (M, 1) class ids; those equal to `IGNORE_INDEX` do not count.

    Raises:
        DataError: a label is not among the classes, or there are not as many as logits.
    """
    if labels.shape == (len(logits), 1):
        labels = labels.squeeze(1)
    if labels.shape != logits.shape[:1]:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} for logits of {tuple(logits.shape)}",
            fix="give each of them one label",
        )
    try:
        total = summed_cross_entropy(logits, labels.long(), IGNORE_INDEX)
    except IndexError as error:
        raise _no_such_class(logits, error) from error
    return LossTerm(total, (labels != IGNORE_INDEX).sum())


def _no_such_class(logits: Tensor, error: IndexError) -> OutOfRangeError:
    return OutOfRangeError(
        f"a label is not among the classes 0 to {logits.shape[-1] - 1} ({error})",
        fix=f"number the labels from 0; {IGNORE_INDEX} leaves one out",
    )


_LEAST_WRONG = 1e-30
"""Under which 1 - p counts as this: at 0 a power below 1 has no finite slope."""


@dataclass(frozen=True)
class Criterion:
    """Cross-entropy over classes in another form than the plain one, for a head's `criterion`.

    Attributes:
        weights: (C,) of each class, on the labels that are that class, with what is spread of
            them; None: all 1. By the weights of the classes that it is spread to, smoothing would
            teach a rare class for rows of a frequent one.
        focal: exponent g of (1 - p)^g, p being the probability of the true class, by which each
            term is multiplied; 0: none. Source: T.-Y. Lin et al., "Focal loss for dense object
            detection", ICCV 2017.
        smoothing: share of each label that is spread over all classes.
        ragged: whether classes with a logit of -inf are none of the example's own, so that nothing
            is spread over them; there are no weights then.
    """

    weights: Tensor | None = None
    focal: float = 0.0
    smoothing: float = 0.0
    ragged: bool = False

    def __call__(self, logits: Tensor, labels: Tensor) -> LossTerm:
        """The loss of logits (M, C) with labels (M,); its count is that of the labels.

        Raises:
            OutOfRangeError: a label is not among the classes.
        """
        logits, labels = logits.float(), labels.reshape(-1).long()
        try:
            terms = F.cross_entropy(
                logits,
                labels,
                ignore_index=IGNORE_INDEX,
                reduction="none",
                label_smoothing=0.0 if self.ragged else self.smoothing,
            )
        except IndexError as error:
            raise _no_such_class(logits, error) from error
        counted, known = labels != IGNORE_INDEX, labels.clamp(min=0)
        if self.ragged and self.smoothing:
            spread = _spread_over_own(logits).masked_fill(~counted, 0.0)
            terms = (1 - self.smoothing) * terms + self.smoothing * spread
        if self.weights is not None:
            terms = terms * self.weights.to(logits)[known]
        if self.focal:
            wrong = -logits.log_softmax(-1).gather(1, known[:, None])[:, 0].expm1()
            terms = terms * wrong.clamp(min=_LEAST_WRONG) ** self.focal
        return LossTerm(terms.sum(), counted.sum())


def _spread_over_own(logits: Tensor) -> Tensor:
    """(M,) mean cross-entropy of logits (M, C) over those of them that are not -inf."""
    there = ~logits.isneginf()
    logs = logits.log_softmax(-1).masked_fill(~there, 0.0)
    return -logs.sum(-1) / there.sum(-1)


@dataclass(frozen=True)
class BinaryCriterion:
    """Binary cross-entropy of any number of labels in another form than the plain one.

    Attributes:
        weights: (C,) of each label, on the examples that have it; None: all 1. Without smoothing
            that is `pos_weight` of PyTorch's `BCEWithLogitsLoss`, by which smoothing would teach a
            rare label for examples without it.
        focal: exponent g of (1 - p)^g, p being the probability of what is true of the label, there
            or not; 0: none. Source: as in `Criterion`.
        smoothing: share of each label that is spread over both answers: 1 is 1 - smoothing / 2,
            and 0 is smoothing / 2.
    """

    weights: Tensor | None = None
    focal: float = 0.0
    smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> LossTerm:
        """The mean over the labels of logits (B, C) with labels (B, C), for each example.

        Raises:
            DataError: the labels have another shape.
        """
        labels = _a_value_each(logits, labels, "multi_label_classification")
        logits = logits.float()
        soft = labels * (1 - self.smoothing) + self.smoothing / 2
        terms = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
        if self.weights is not None:
            terms = terms * (1 + (self.weights.to(logits) - 1) * labels)
        if self.focal:
            wrong = torch.lerp(logits.sigmoid(), (-logits).sigmoid(), labels)
            terms = terms * wrong.clamp(min=_LEAST_WRONG) ** self.focal
        total = terms.sum() / logits.shape[1]
        return LossTerm(total, torch.full((), logits.shape[0], device=logits.device))


@dataclass(frozen=True)
class CosineRegression:
    """Squared error of the cosine of two texts, for `SentenceEncoder.criterion`.

    Attributes:
        rows_compete: the loss of an example does not depend on the others of its batch.
    """

    rows_compete: ClassVar[bool] = False

    def __call__(self, vectors: Tensor, labels: Tensor) -> LossTerm:
        """Of vectors (2·E, H) of E examples, and the cosines (E,) that they should have.

        Raises:
            DataError: the vectors are not two an example.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            first, second = _by_example(vectors.float(), len(labels), 2).unbind(1)
            cosines = F.cosine_similarity(first, second)
            total = F.mse_loss(cosines, labels.float(), reduction="sum")
        return LossTerm(total, torch.full((), len(labels), device=vectors.device))


@dataclass(frozen=True)
class InBatchNegatives:
    """Cross-entropy of each example's second text among those of all examples of the batch.

    Third texts of examples are further candidates. A candidate that is known to belong to the
    first text, by the ids of the texts, is no negative and takes no part. Source: M. Henderson et
    al., "Efficient natural language response suggestion for smart reply", 2017, arXiv:1705.00652;
    the scale is that of sentence-transformers.

    Attributes:
        scale: that cosines are multiplied by.
        rows_compete: the loss of an example depends on the others of its batch.
    """

    scale: float = 20.0
    rows_compete: ClassVar[bool] = True

    def __call__(self, vectors: Tensor, labels: Tensor) -> LossTerm:
        """Of vectors (K·E, H) of E examples of K texts, and the ids (E, K) of these texts.

        Raises:
            DataError: the vectors are not K an example.
        """
        examples, texts = labels.shape
        with torch.autocast(vectors.device.type, enabled=False):
            units = F.normalize(_by_example(vectors.float(), examples, texts), dim=-1)
            candidates = units[:, 1:].transpose(0, 1).flatten(0, 1)
            scores = units[:, 0] @ candidates.T * self.scale
            scores = scores.masked_fill(_known_matches(labels), -math.inf)
            own = torch.arange(examples, device=vectors.device)
            total = F.cross_entropy(scores, own, reduction="sum")
        return LossTerm(total, torch.full((), examples, device=vectors.device))


def _by_example(vectors: Tensor, examples: int, texts: int) -> Tensor:
    """(E, K, H) of vectors (K·E, H)."""
    if len(vectors) != examples * texts:
        raise DataError(
            f"there are {len(vectors)} vectors for {examples} examples of {texts} texts",
            fix=f"give each example {texts} texts",
        )
    return vectors.view(examples, texts, -1)


def _known_matches(labels: Tensor) -> Tensor:
    """(E, (K-1)·E) candidates that are no negatives of an example, and not its own second text.

    They are the example's first text itself, or a text that stands beside it in some example.
    """
    candidates = labels[:, 1:].T.reshape(1, -1)
    first, second = labels[:, :1], labels[:, 1:2]
    beside = (first == labels[:, 0]).float() @ (second == candidates).float() > 0
    known = beside | (candidates == first)
    return known & ~torch.eye(*known.shape, dtype=torch.bool, device=labels.device)


@dataclass(frozen=True)
class Distillation:
    """The answers of a teacher as a part of the loss, beside what the labels give.

    Source: G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", 2015,
    arXiv:1503.02531: both logits are divided by the temperature, and the divergence is multiplied
    by its square, so that its gradients stay as large as those of the labels.

    Attributes:
        kind: of the labels.
        temperature: by which logits are divided; of no use to numbers.
        weight: share of the teacher in the loss.
    """

    kind: ProblemType
    temperature: float = 2.0
    weight: float = 0.5

    def __call__(self, hard: LossTerm, logits: Tensor, labels: Tensor, teacher: Tensor) -> LossTerm:
        """Both parts as one term, whose count is that of the labels.

        Args:
            hard: the loss of the labels.
            logits: (M, C) of the student.
            labels: (M,) classes, of which `IGNORE_INDEX` does not count; or (M, …) values, which
                all do.
            teacher: (M, C) logits of the teacher.

        The divergence of several labels at once and the squared error of numbers are means over
        the C outputs, as their losses are.
        """
        logits, teacher = logits.float(), teacher.float()
        if self.kind == "regression":
            terms = (logits - teacher).square().mean(-1)
        else:
            terms = self._divergence(logits / self.temperature, teacher / self.temperature)
            terms = terms * self.temperature**2
        if self.kind == "single_label_classification":
            terms = terms * (labels.reshape(-1) != IGNORE_INDEX)
        soft = LossTerm(terms.sum(), hard.count)
        return LossTerm(
            hard.scaled(1 - self.weight).total + soft.scaled(self.weight).total, hard.count
        )

    def _divergence(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """(M,) of the student's probabilities from the teacher's."""
        if self.kind == "single_label_classification":
            ours, theirs = logits.log_softmax(-1), teacher.log_softmax(-1)
            return (theirs.exp() * (theirs - ours)).sum(-1)
        yes = F.logsigmoid(teacher) - F.logsigmoid(logits)
        no = F.logsigmoid(-teacher) - F.logsigmoid(-logits)
        share = teacher.sigmoid()
        return (share * yes + (1 - share) * no).mean(-1)


def span_loss(
    logits: Tensor, positions: Tensor, batch: PackedBatch, criterion: Criterion | None = None
) -> LossTerm:
    """Cross-entropy of one end of an answer, over the tokens of its own sequence.

    Args:
        logits: (num_tokens,) packed.
        positions: (B,) places within each sequence; one that is outside of it does not count.
        batch: whose tokens these are.
        criterion: `ragged`, in place of plain cross-entropy; None: that.
    """
    table = logits.new_full((batch.num_sequences, batch.max_seqlen), -math.inf, dtype=torch.float32)
    table = table.index_put((batch.sequence, batch.column), logits.float())
    return (criterion or token_loss)(table, inside(positions, batch))


def inside(positions: Tensor, batch: PackedBatch) -> Tensor:
    """Places (B,) within each sequence, `IGNORE_INDEX` for those that are outside of it."""
    outside = (positions < 0) | (positions >= batch.lengths)
    return positions.masked_fill(outside, IGNORE_INDEX)


def next_token_labels(labels: Tensor, batch: PackedBatch) -> Tensor:
    """For each packed row (T,), the label of the token behind it in the same sequence."""
    following = torch.full_like(labels, IGNORE_INDEX)
    following[:-1] = labels[1:]
    following[batch.cu_seqlens[1:].long() - 1] = IGNORE_INDEX
    return following
