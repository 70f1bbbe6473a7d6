"""The heads: what stands on the backbone for each task, as all families have it.

Each `run` takes a packed batch; `PreTrainedModel.forward` is the door before it. A head's loss is
there when the batch has what it compares with. A family gives each head its class, and its own
modules where its published weights have others: see `bertolt.models.families`.

Shapes: B sequences, T packed tokens, H hidden, V vocabulary, C classes, M labelled tokens.
"""

from __future__ import annotations

import abc
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bertolt.base.errors import DataError, OutOfRangeError, UsageError
from bertolt.base.format import plural
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.sentence_files import Pooling, SentenceFiles
from bertolt.data.batch import IGNORE_INDEX, PackedBatch, PaddedLayout
from bertolt.data.long import AVERAGED
from bertolt.models.config import BertConfig
from bertolt.models.documents import DocumentHead, mean_of_windows
from bertolt.models.doors import FIRST_INPUTS, INPUTS
from bertolt.models.dropout import Dropout
from bertolt.models.families.base import family_of
from bertolt.models.forward_pass import ForwardPass
from bertolt.models.losses import (
    BinaryCriterion,
    CosineRegression,
    Criterion,
    Distillation,
    InBatchNegatives,
    LossTerm,
    count_labels,
    inside,
    problem_type,
    sequence_loss,
    span_loss,
    token_loss,
)
from bertolt.models.outputs import QuestionAnsweringOutput, SequenceOutput, TokenOutput
from bertolt.models.pretrained import PreTrainedModel


def classifier_dropout(config: BertConfig) -> Dropout:
    """The dropout before a classifier: its own share, or else the share of hidden states."""
    share = config.classifier_dropout
    return Dropout(config.hidden_dropout_prob if share is None else share)


class Head(PreTrainedModel):
    """A model that stands on the backbone of its family."""

    def add_backbone(self, *, pooler: bool) -> None:
        """Build the backbone, in the attribute that the family's checkpoints name it by."""
        build: Any = family_of(self.config.model_type).backbone
        setattr(self, self.base_model_prefix, build(self.config, add_pooling_layer=pooler))


class SequenceHead(DocumentHead, Head):
    """Logits for each sequence, from its first token.

    Attributes:
        criterion: of training, in place of the plain loss; None: that.
        distillation: of training, where batches have a teacher's logits; None: they are left out.
    """

    targets = frozenset({"labels"})
    replayable = True
    graph_outputs = ("logits",)
    call_order = (*FIRST_INPUTS, "labels")
    criterion: Criterion | BinaryCriterion | None = None
    distillation: Distillation | None = None

    @abc.abstractmethod
    def classify(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The logits of a packed batch: (B, C)."""

    def loss_of(self, logits: Tensor, labels: Tensor) -> LossTerm:
        """What the logits are wrong by."""
        return (self.criterion or token_loss)(logits, labels)

    def documents_term(
        self, outputs: Tensor, labels: Tensor, counts: Sequence[int]
    ) -> LossTerm | None:
        """As `loss_of`: each example is a document."""
        return self.loss_of(outputs, labels)

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> SequenceOutput:
        """`logits` (B, C); labels (B,), or as the declared problem type needs them.

        Raises:
            DataError: labels that do not fit the logits.
        """
        return self.output_of({"logits": self.classify(batch, forward_pass)}, batch)

    def output_of(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> SequenceOutput:
        """As `run`, of logits (B, C) that are there."""
        logits, terms = fields["logits"].float(), {}
        if batch.labels is not None:
            term = self.loss_of(logits, batch.labels)
            if self.distillation is not None and batch.teacher_logits is not None:
                term = self.distillation(term, logits, batch.labels, batch.teacher_logits)
            terms["labels"] = term
        return SequenceOutput(loss_terms=terms, logits=logits)


class SequenceClassification(SequenceHead):
    """One label (or several, or numbers) for each text, from its pooled first token.

    Sequences that make one example are windows of a text, and have one answer together.
    """

    outputs_have_names = True
    reads_documents = True
    _output_layer = "classifier"

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.build_layers()
        self.init_weights()

    def build_layers(self) -> None:
        """Build the backbone and the classifier."""
        self.add_backbone(pooler=True)
        self.dropout = classifier_dropout(self.config)
        self.classifier: nn.Module = nn.Linear(self.config.hidden_size, self.config.num_labels)

    def classify(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The logits of each text: (E, C); of one in several windows, the mean of theirs."""
        pooled = self.base_model.pool_first(batch, forward_pass)
        return mean_of_windows(self.classifier(self.dropout(pooled)), batch)

    def loss_of(self, logits: Tensor, labels: Tensor) -> LossTerm:
        """By the declared problem type: labels (B,), or (B, C).

        Raises:
            DataError: labels that the declared problem type does not fit.
        """
        if self.criterion is not None:
            return self.criterion(logits, labels)
        return sequence_loss(logits, labels, problem_type(self.config))

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """Numbers all count; of classes, those that are not ignored."""
        if problem_type(self.config) == "single_label_classification" or batch.labels is None:
            return super().count_targets(batch)
        return {"labels": batch.num_examples}


class MultipleChoice(SequenceHead):
    """Which of several sequences is the right one; examples may have more of them and fewer.

    A choice in several windows has the mean of their logits.
    """

    logits_per_choice = True
    reads_documents = True
    _output_layer = "classifier"

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.add_backbone(pooler=True)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.init_weights()

    def enter(
        self,
        inputs: PackedBatch | dict[str, Any],
        *,
        num_choices: int = 1,
        group_starts: Tensor | None = None,
    ) -> tuple[PackedBatch, PaddedLayout | None]:
        """As every model, and a padded batch has one more dimension: (E, choices, L).

        Last choices without a token are those that an example does not have, and take no part.
        """
        if isinstance(inputs, PackedBatch):
            return super().enter(inputs)
        tensors = {name: inputs[name] for name in INPUTS if name in inputs}
        for name, value in tensors.items():
            dim = 4 if name == "inputs_embeds" else 3
            if not isinstance(value, Tensor) or value.dim() != dim:
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise DataError(
                    f"{name}: {found}, and a tensor of (E, choices, L) is needed",
                    fix="stack the choices of each example in the second dimension",
                )
        flat = {name: value.flatten(0, 1) for name, value in tensors.items()}
        words = inputs["inputs_embeds" if "inputs_embeds" in inputs else "input_ids"]
        there = _choices_there(flat.get("attention_mask"), words)
        if there is not None:
            flat = {name: value[there.flatten()] for name, value in flat.items()}
            group_starts = nn.functional.pad(there.sum(dim=1).cumsum(0), (1, 0))
        return super().enter(
            {**inputs, **flat}, num_choices=words.shape[1], group_starts=group_starts
        )

    def check_targets(self, batch: PackedBatch) -> None:
        """As every model; and on a CPU, that an example has such a choice, and two at least."""
        super().check_targets(batch)
        if batch.group_starts is None or batch.group_starts.device.type != "cpu":
            return  # on a GPU the loss of such a label is not finite
        counts = batch.group_starts.diff()
        if int(counts.min()) < 2:
            example = int(counts.argmin())
            raise DataError(
                f"example {example} of the batch has {plural(int(counts[example]), 'choice')}",
                fix="give every example two choices or more",
            )
        if batch.labels is None or batch.labels.is_floating_point():
            return
        beyond = batch.labels.flatten() >= counts
        if bool(beyond.any()):
            example = int(beyond.int().argmax())
            raise OutOfRangeError(
                f"a label is not among the classes 0 to {int(counts[example]) - 1}, the choices of "
                f"example {example} of the batch",
                fix=f"number the choices from 0; {IGNORE_INDEX} leaves one out",
            )

    def classify(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The logit of each choice: (E, num_choices), -inf where an example has no such choice; of
        windows that are apart, (B, 1).

        Raises:
            DataError: the sequences are not a whole number of examples.
        """
        if batch.windows_apart:
            return self._scores(batch, forward_pass)
        choices = batch.num_choices
        if choices < 2 or (batch.is_ragged and batch.group_starts is None):
            raise DataError(
                f"{batch.num_sequences} sequences are no examples of {choices} choices",
                fix="give every example two choices or more: rows of lists, or num_choices of the "
                "batch",
            )
        scores = batch.document_means(self._scores(batch, forward_pass))
        return self._laid_out(scores, batch)

    def _scores(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """The logit of each sequence: (B, 1)."""
        pooled = self.base_model.pool_first(batch, forward_pass)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits

    def graph_fields(
        self, batch: PackedBatch, forward_pass: ForwardPass, places: Tensor | None
    ) -> dict[str, Tensor]:
        """`logits` (B, 1): which sequences make an example, a graph is not told."""
        return {"logits": self._scores(batch, forward_pass)}

    def read_graph(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> SequenceOutput:
        """The logits of each example, (E, num_choices), or of windows that are apart, (B, 1)."""
        scores = fields["logits"]
        if not batch.windows_apart:
            scores = self._laid_out(batch.document_means(scores), batch)
        return self.output_of({"logits": scores}, batch)

    def documents_term(
        self, outputs: Tensor, labels: Tensor, counts: Sequence[int]
    ) -> LossTerm | None:
        """Of the choices (D, 1) of each example."""
        rows = torch.split(outputs.flatten(), list(counts))
        table = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=-math.inf)
        return self.loss_of(table, labels)

    @staticmethod
    def _laid_out(logits: Tensor, batch: PackedBatch) -> Tensor:
        """(D, 1) as (E, num_choices), -inf where an example has no such choice."""
        choices = batch.num_choices
        if not batch.is_ragged:
            return logits.view(-1, choices)
        table = logits.new_full((batch.num_examples * choices,), -math.inf)
        return table.index_put((batch.slots,), logits.squeeze(1)).view(-1, choices)


def _choices_there(mask: Tensor | None, words: Tensor) -> Tensor | None:
    """(E, choices) which choices have a token, where some of the last ones have none; else None.

    A mask of another shape is told where the batch is packed.

    Raises:
        DataError: a choice without a token stands before one that has some, or there is no other.
    """
    if mask is None or mask.shape != (words.shape[0] * words.shape[1], words.shape[2]):
        return None
    there = mask.bool().any(dim=1).view(words.shape[:2])
    if bool(there.all()):
        return None
    counts = there.sum(dim=1, keepdim=True)
    strange = ~there & (torch.arange(words.shape[1], device=words.device) < counts.clamp(min=1))
    if bool(strange.any()):
        example, choice = strange.nonzero()[0].tolist()
        raise DataError(
            f"choice {choice} of example {example} has no token in attention_mask",
            fix="put the choices that an example lacks behind those that it has",
        )
    return there


class TokenClassification(Head):
    """One label for each token.

    Attributes:
        criterion: of training, in place of plain cross-entropy; None: that.
        distillation: as in `SequenceHead`.
    """

    criterion: Criterion | None = None
    distillation: Distillation | None = None

    targets = frozenset({"labels"})
    replayable = True
    outputs_have_names = True
    labels_per_token = True
    _output_layer = "classifier"
    logits_per_token = True
    graph_outputs = ("logits",)
    call_order = (*FIRST_INPUTS, "labels")

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.add_backbone(pooler=False)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> TokenOutput:
        """`logits` (num_tokens, C); labels (T,)."""
        hidden = self.base_model.encode(batch, forward_pass)
        hidden = forward_pass.call(self.dropout, hidden)
        logits = forward_pass.call(self.classifier, hidden).float()
        terms = {}
        if batch.labels is not None:
            terms = self._terms_of(forward_pass.hand_out("logits", logits), batch.labels, batch)
        return TokenOutput(loss_terms=terms, logits=logits[: batch.num_tokens])

    def output_of(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> TokenOutput:
        """As `run`, of logits (num_tokens, C) that are there."""
        logits, labels = fields["logits"].float(), batch.labels
        terms = {} if labels is None else self._terms_of(logits, labels, batch)
        return TokenOutput(loss_terms=terms, logits=logits)

    def _terms_of(self, judged: Tensor, labels: Tensor, batch: PackedBatch) -> dict[str, LossTerm]:
        loss = token_loss if self.criterion is None else self.criterion
        labels = labels[: len(judged)]
        term = loss(judged, labels)
        if self.distillation is not None and batch.teacher_logits is not None:
            teacher = batch.teacher_logits[: len(judged)]
            term = self.distillation(term, judged, labels, teacher)
        return {"labels": term}


class QuestionAnswering(Head):
    """Where in its sequence an answer begins and ends.

    Attributes:
        criterion: of training, for each end in place of plain cross-entropy; None: that.
    """

    criterion: Criterion | None = None

    targets = frozenset({"start_positions", "end_positions"})
    logits_per_token = True
    answers_with_ends = True
    graph_outputs = ("start_logits", "end_logits")
    call_order = (*FIRST_INPUTS, "start_positions", "end_positions")

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.add_backbone(pooler=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.init_weights()

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> QuestionAnsweringOutput:
        """`start_logits` and `end_logits` (num_tokens,).

        The loss compares each end with the other tokens of its own sequence; padding never takes
        part in it.
        """
        hidden = self.base_model.encode(batch, forward_pass)
        ends = forward_pass.call(self.qa_outputs, hidden).float()[: batch.num_tokens]
        start, end = ends.unbind(-1)
        output = QuestionAnsweringOutput(start_logits=start, end_logits=end)
        if batch.start_positions is not None and batch.end_positions is not None:
            filler = output.at_padding(ends.dtype)
            start = forward_pass.hand_out("start_logits", start, filler=filler)
            end = forward_pass.hand_out("end_logits", end, filler=filler)
            output.loss_terms = self._terms_of(start, end, batch)
        return output

    def output_of(
        self, fields: Mapping[str, Tensor], batch: PackedBatch
    ) -> QuestionAnsweringOutput:
        """As `run`, of logits (num_tokens,) that are there."""
        start, end = fields["start_logits"], fields["end_logits"]
        asked = batch.start_positions is not None and batch.end_positions is not None
        terms = self._terms_of(start, end, batch) if asked else {}
        return QuestionAnsweringOutput(loss_terms=terms, start_logits=start, end_logits=end)

    def _terms_of(self, start: Tensor, end: Tensor, batch: PackedBatch) -> dict[str, LossTerm]:
        assert batch.start_positions is not None
        assert batch.end_positions is not None
        ends = {
            "start_positions": (start, batch.start_positions),
            "end_positions": (end, batch.end_positions),
        }
        return {
            name: span_loss(logits, places, batch, self.criterion).scaled(0.5)
            for name, (logits, places) in ends.items()
        }

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """Each end by itself."""
        ends = {"start_positions": batch.start_positions, "end_positions": batch.end_positions}
        return {
            name: count_labels(inside(places, batch))
            for name, places in ends.items()
            if places is not None
        }

    def check_targets(self, batch: PackedBatch) -> None:
        """As every model, and the two ends come together."""
        super().check_targets(batch)
        if (batch.start_positions is None) != (batch.end_positions is None):
            raise UsageError(
                "one end of the answers was given, and not the other",
                fix="give start_positions and end_positions, or neither",
            )

    def logits_of(self, output: Any) -> Tensor:
        """Both ends: (num_tokens, 2)."""
        return torch.stack([output.start_logits, output.end_logits], dim=-1)

    def labels_for(self, batch: PackedBatch) -> Tensor | None:
        """Both places: (B, 2)."""
        if batch.start_positions is None or batch.end_positions is None:
            return None
        return torch.stack([batch.start_positions, batch.end_positions], dim=-1)


class SentenceEncoder(DocumentHead, Head):
    """A vector for each text: the mean of its tokens' last hidden states, or the first of them.

    A text in several windows has the mean over the tokens of all of them, their special tokens and
    what they share counted in each; or the mean of their first tokens. Then it is normalized.

    There is nothing to train beside the encoder, and it is saved as a plain encoder, with the files
    of sentence-transformers beside it.

    Args:
        config: of the encoder.
        pooling: "mean" or "cls".
        normalized: whether vectors are brought to length 1.
        max_length: most tokens of a text, for the files beside; None: the position table.

    Attributes:
        criterion: the loss of training, of vectors and labels; None: there is no loss.
        micro_batch: examples that are encoded at a time where those of a batch compete; None: all.
    """

    targets = frozenset({"labels"})
    reads_documents = True
    windows_answer = AVERAGED
    graph_outputs = ("sentence_embedding",)
    call_order = (*FIRST_INPUTS, "labels")
    _keys_to_ignore_on_load_missing = (r"pooler\.",)
    criterion: CosineRegression | InBatchNegatives | None = None
    micro_batch: int | None = None

    def __init__(
        self,
        config: BertConfig,
        pooling: Pooling = "mean",
        normalized: bool = True,
        max_length: int | None = None,
    ) -> None:
        super().__init__(config)
        self.pooling, self.normalized, self.max_length = pooling, normalized, max_length
        self.add_backbone(pooler=True)
        # It is kept for those who open the encoder, and learns nothing here.
        self.base_model.pooler.requires_grad_(False)
        self.init_weights()

    @classmethod
    def from_pretrained(cls, *names: Any, **named: Any) -> Any:
        """As every model; how vectors are made follows the files of sentence-transformers there.

        Raises:
            CheckpointError: these files are broken, or ask for what is not made here.
        """
        place = names[0] if names else named.get("pretrained_model_name_or_path")
        place = named.get("name_or_path", place)
        files = SentenceFiles.read(huggingface.resolve(place)) if place is not None else None
        known = {} if files is None else vars(files)
        return super().from_pretrained(*names, **known | named)

    def run(self, batch: PackedBatch, forward_pass: ForwardPass) -> SequenceOutput:
        """`logits` (D, H), the vectors; the loss is there with labels and a criterion.

        Those of windows that are apart, (B, H), are not normalized.
        """
        vectors = self._means(batch, forward_pass)
        if not batch.windows_apart:
            vectors = self.finished(vectors)
        return self.output_of({"sentence_embedding": vectors}, batch)

    def _means(self, batch: PackedBatch, forward_pass: ForwardPass) -> Tensor:
        """(D, H) vectors before they are normalized."""
        if self.pooling == "cls":
            firsts = self.base_model.encode_first(batch, forward_pass).float()
            return batch.document_means(firsts)
        hidden = self.base_model.encode(batch, forward_pass)[: batch.num_tokens].float()
        return batch.token_means(hidden)

    def of_windows(
        self, windows: Sequence[NDArray[Any]], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The mean over all tokens of the windows, or of their first tokens."""
        if self.pooling == "cls":
            return super().of_windows(windows, tokens)
        mean: NDArray[np.float64] = np.average(np.stack(windows), axis=0, weights=tokens)
        return mean

    def finished(self, means: Tensor) -> Tensor:
        """Brought to length 1, where that is asked for."""
        return nn.functional.normalize(means, dim=-1) if self.normalized else means

    def documents_term(
        self, outputs: Tensor, labels: Tensor, counts: Sequence[int]
    ) -> LossTerm | None:
        """Of the texts of all examples."""
        return None if self.criterion is None else self.criterion(outputs, labels)

    def answering_outputs(self, *, windows: bool) -> tuple[str, ...]:
        """The vectors, and what those of windows were before they were normalized."""
        before = ("mean_embedding",) if windows and self.normalized else ()
        return (*self.graph_outputs, *before)

    def read_graph(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> SequenceOutput:
        """The vectors; those of windows that are apart as they were before they were normalized."""
        if batch.windows_apart and self.normalized:
            fields = {"sentence_embedding": fields["mean_embedding"]}
        return self.output_of(fields, batch)

    def graph_fields(
        self, batch: PackedBatch, forward_pass: ForwardPass, places: Tensor | None
    ) -> dict[str, Tensor]:
        """`sentence_embedding` (B, H), as other libraries call the vectors.

        Where those are normalized also `mean_embedding`, what they were before: windows of a text
        are put together by that.
        """
        means = self._means(batch, forward_pass)
        before = {"mean_embedding": means} if self.normalized else {}
        return {"sentence_embedding": self.finished(means), **before}

    def output_of(self, fields: Mapping[str, Tensor], batch: PackedBatch) -> SequenceOutput:
        """As `run`, of vectors (D, H) that are there."""
        vectors, terms = fields["sentence_embedding"], {}
        if batch.labels is not None and self.criterion is not None:
            terms = {"labels": self.criterion(vectors, batch.labels)}
        return SequenceOutput(loss_terms=terms, logits=vectors)

    def count_targets(self, batch: PackedBatch) -> dict[str, int]:
        """One for each example, however many texts it has."""
        return {} if batch.labels is None else {"labels": len(batch.labels)}

    def save_pretrained(self, directory: str | os.PathLike[str], **how: Any) -> None:
        """Write the encoder alone, and how vectors are made of it.

        Raises:
            BertoltError: the folder cannot be written.
        """
        self.base_model.save_pretrained(directory, **how)
        if how.get("is_main_process", True):
            files = SentenceFiles(
                pooling=self.pooling, normalized=self.normalized, max_length=self.max_length
            )
            files.write(Path(directory), self.config.hidden_size)


# Opened or built, each gives the class that the family of the folder or config has for the head.
AutoModelForSequenceClassification = SequenceClassification
AutoModelForTokenClassification = TokenClassification
AutoModelForQuestionAnswering = QuestionAnswering
AutoModelForMultipleChoice = MultipleChoice
