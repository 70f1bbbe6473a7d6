"""A run of `finetune` that writes no folder: what it has learned stays in memory."""

from __future__ import annotations

from collections.abc import Callable

from bertolt.base.console import info
from bertolt.base.format import plural
from bertolt.checkpoint.store import Store
from bertolt.commands.finetune.data import LoadedRows, SharedRows, split_again
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.parts import WHOLE, Part
from bertolt.commands.finetune.work import Finetuning
from bertolt.models.config import BertConfig
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.base import Answer, Example
from bertolt.tasks.evaluation import Scores
from bertolt.tokenization import BertTokenizer
from bertolt.train.arguments import TrainingArguments
from bertolt.train.job import Start, train_from
from bertolt.train.trainer import Trainer

Watch = Callable[[int, Answer, Example], None]
"""Takes the number of a row among those held out, the answer to it, and the row."""


class InMemory(Finetuning):
    """The work of such a run.

    Args:
        options: of the run.
        part: the rows of the run, where it is one of several.
        shared: what several runs have read.
        store: for checkpoints of a run that needs some; None: it writes none.
    """

    def __init__(
        self,
        options: FinetuneOptions,
        *,
        part: Part = WHOLE,
        shared: SharedRows | None = None,
        store: Store | None = None,
    ) -> None:
        super().__init__([], options, (), part=part, shared=shared)
        self._store = store

    def learn(self) -> Trainer:
        """Train to the end, and measure what was learned if rows are held out.

        Raises:
            TrainingError: the loss was not finite, or the answers are not.
            KeyboardInterrupt: by Ctrl-C.
        """
        start = Start(
            store=self._store, checkpoint=None, complete=None, settings={}, precision=None
        )
        trainer = self.set_up(start)
        train_from(trainer, None)
        if trainer.history.interrupted:
            raise KeyboardInterrupt
        self.final_scores = self._result()
        if trainer.history.failure is not None:
            raise trainer.history.failure
        return trainer

    def _guard(self, trainer: Trainer, model: PreTrainedModel) -> None:
        """Keep nothing: a run that diverges leaves no model."""


class FoldInMemory(InMemory):
    """The run of a fold, whose answers to the rows held out are taken as they come.

    Args:
        data: the rows of all folds.
        options: of the run.
        part: which fold is held out.
        shared: what `data` was read with.
        watch: takes the answers.
    """

    def __init__(
        self,
        data: LoadedRows,
        options: FinetuneOptions,
        *,
        part: Part,
        shared: SharedRows,
        watch: Watch,
    ) -> None:
        super().__init__(options, part=part, shared=shared)
        self._all, self._shared, self._take = data, shared, watch

    def read(self, tokenizer: BertTokenizer, config: BertConfig) -> LoadedRows:
        """The rows of the fold, and the others, which train."""
        data = split_again(self._all, self.options, tokenizer, self.source, self.part, self._shared)
        count = 0 if data.eval is None else len(data.eval)
        info(f"{plural(len(data.train), 'row')} train, {count:,} are answered")
        return data

    def training_arguments(self) -> TrainingArguments:
        """The settings, with one evaluation: after the last step."""
        arguments = super().training_arguments()
        arguments.eval_delay = arguments.num_train_epochs
        return arguments

    def _watch(self) -> Watch:
        return self._take

    def _tell_scores(self, scores: Scores) -> None:
        """Nothing: the line of the evaluation has told them."""
