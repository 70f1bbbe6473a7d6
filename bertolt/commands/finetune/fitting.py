"""A run of `finetune` over rows in memory, and its messages in the words of Python."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from bertolt.base.console import reworded
from bertolt.base.errors import BertoltError
from bertolt.checkpoint.store import Store
from bertolt.commands.finetune.data import LoadedRows, rows_of
from bertolt.commands.finetune.in_memory import InMemory
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.data.load import Table
from bertolt.models.config import BertConfig
from bertolt.tasks.base import Task
from bertolt.tasks.predictor import Predictor
from bertolt.tokenization import BertTokenizer

WEIGHTS = "class_weights"
"""The argument, and the file that it becomes."""
FILES = (
    *("config.json", "model.safetensors", "bertolt.json", "tokenizer.json", "vocab.txt"),
    *("tokenizer_config.json", "special_tokens_map.json", "merges.txt", "vocab.json"),
)
"""What `write_model` may write."""
_OPTION = re.compile(r"--([a-z][a-z-]*)")
# Options that have another name here, and phrases that say nothing here.
_HERE = {"text": "X", "text_pair": "X", "label": "y", "seed": "random_state"}
_PHRASES = {
    " with --on-bad-row drop": "",
    "--eval, or": "--test-size above 0, or",
    "add --keep best, or --patience 3": "give patience=3",
    "choose another column with --text, or ": "",
    "the only training row has": "n_samples = 1, and the row has",
    "there is only one label": "there is only one class",
    "name the label column with --label": "give labels that differ",
}


class Fitting(InMemory):
    """A run of `finetune` over rows in memory.

    Args:
        table: the rows.
        kind: the task that they are for.
        options: of the run; what it writes for itself goes to `out`.
    """

    def __init__(self, table: Table, kind: type[Task], options: FinetuneOptions) -> None:
        super().__init__(options, store=Store(options.out, 1))
        self._table, self._kind = table, kind

    def read(self, tokenizer: BertTokenizer, config: BertConfig) -> LoadedRows:
        """The rows, encoded."""
        return rows_of(self._table, self._kind, self.options, tokenizer, config, self.source)

    def predictor(self) -> Predictor:
        """What answers with the weights that were learned.

        Raises:
            BertoltError: training did not come to its end.
            KeyboardInterrupt: by Ctrl-C.
        """
        trainer = self.learn()
        return Predictor(
            trainer.model,
            trainer.processing_class,
            self.contract(),
            task=self.task,
            precision=self.options.precision,
            device=trainer.device,
        )


@contextlib.contextmanager
def in_python(folder: Path | None = None) -> Iterator[None]:
    """Let errors, and what is told, name arguments in place of options.

    Args:
        folder: in which arguments lie as files, which are called by their names.

    Raises:
        BertoltError: the error of the block, in the words of Python.
    """
    try:
        with reworded(_renamed):
            yield
    except BertoltError as error:
        place = WEIGHTS if folder and error.place == str(folder / WEIGHTS) else error.place
        problem, place, fix = map(_renamed, (error.problem, place, error.fix))
        raise type(error)(problem, place=place, fix=fix) from error


def _renamed(words: str) -> str:
    for phrase, here in _PHRASES.items():
        words = words.replace(phrase, here)

    def named(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return _HERE.get(name, name)

    return _OPTION.sub(named, words)


def write_model(predictor: Predictor, folder: Path) -> None:
    """The model, its tokenizer and its contract."""
    predictor.model.save_pretrained(folder)
    predictor.tokenizer.save_pretrained(folder)
    if predictor.contract is not None:
        predictor.contract.write(folder)
