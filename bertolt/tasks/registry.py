"""The tasks that ship, and which of them a file, a name or a model is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertolt.base.errors import BertoltError, CheckpointError, UsageError, nearest
from bertolt.checkpoint.contract import Contract
from bertolt.checkpoint.sentence_files import SentenceFiles
from bertolt.data.load import Sample
from bertolt.models.config import BertConfig
from bertolt.models.families.base import saved_class
from bertolt.models.heads import Head
from bertolt.models.pretrained import PreTrainedModel
from bertolt.models.word_heads import LanguageModel
from bertolt.tasks.base import TASKS, Reading, Task
from bertolt.tasks.fill_mask import FillMask
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.next_sentence import NextSentencePrediction
from bertolt.tasks.question_answering import QuestionAnswering
from bertolt.tasks.regression import Regression
from bertolt.tasks.sentence_similarity import SentenceSimilarity
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.token_classification import TokenClassification

SHIPPED = (
    MultipleChoice,
    NextSentencePrediction,
    SentenceSimilarity,
    QuestionAnswering,
    TokenClassification,
    MultiLabelClassification,
    Regression,
    TextClassification,
    FillMask,
)
"""In the order in which they are asked whether a file is theirs."""
USUAL = TextClassification
"""The task of a file that is surely no other's, and of a model without a head."""
# Names that contracts had before.
_OLD_NAMES = {"sequence-classification": TextClassification.name}


def find_task(name: str) -> type[Task]:
    """The task of a name.

    Raises:
        UsageError: there is no such task.
    """
    name = _OLD_NAMES.get(name, name)
    if name in TASKS:
        return TASKS[name]
    near = nearest(name, list(TASKS))
    taught = sorted(each for each, task in TASKS.items() if not task.taught_by)
    raise UsageError(
        f"there is no task {name!r}",
        place="--task",
        fix=f"{near!r}, perhaps" if near else f"use {', '.join(taught)}",
    )


def recognise(sample: Sample, reading: Reading) -> tuple[type[Task], str]:
    """The task that the columns of a file are for, and why."""
    shipped: tuple[type[Task], ...] = SHIPPED
    others = [task for task in TASKS.values() if task not in shipped]
    for task in [*others, *shipped]:
        if reason := task.recognise(sample, reading):
            return task, reason
    return USUAL, "one text and one label a row"


def task_of(config: BertConfig, contract: Contract | None, place: str) -> Task:
    """The task of a saved model: as its contract says, or else as its head.

    Raises:
        CheckpointError: no task is known for it, or the contract does not fit the model.
    """
    if contract is not None:
        kind, settings = _named(contract.task, place), contract.settings
    else:
        kind, settings = _by_head(config, place), {}
    try:
        task = kind.restore(config, settings)
        declared = {config.problem_type, task.config_changes().get("problem_type")} - {None}
        if contract is not None and len(declared) > 1:
            raise ValueError(f"config.json says that it is for {config.problem_type}")
        return task
    except BertoltError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"its settings for {kind.name} cannot be used ({error})",
            place=place,
            fix="save the model again, so that bertolt.json and config.json fit",
        ) from error


def contract_in(folder: Path, config: BertConfig) -> Contract | None:
    """How texts are prepared for a model: `bertolt.json`, or the files of sentence-transformers.

    None where neither is there.

    Raises:
        CheckpointError: a file is broken, or asks for what is not made here.
    """
    contract = Contract.read(folder)
    if contract is not None or not is_encoder(config):
        return contract
    files = SentenceFiles.read(folder)
    if files is None:
        return None
    task = SentenceSimilarity(pooling=files.pooling, normalized=files.normalized)
    limit = config.max_tokens
    return Contract(
        task=task.name,
        columns={},
        settings=task.settings(),
        max_length=min(limit, files.max_length or limit),
        library_version="",
    )


def task_named(name: str, config: BertConfig, contract: Contract | None, place: str) -> Task:
    """The task that the user names, of a saved model; see `task_of`.

    Raises:
        UsageError: there is no such task, or the model was trained for another.
        CheckpointError: the contract does not fit the model.
    """
    kind = find_task(name)
    if contract is None:
        return kind.restore(config, {})
    if contract.task != kind.name:
        raise UsageError(
            f"the model was trained for {contract.task}, and --task says {kind.name}",
            place=place,
            fix="leave --task out",
        )
    return task_of(config, contract, place)


def _named(name: str, place: str) -> type[Task]:
    try:
        return find_task(name)
    except UsageError as error:
        raise CheckpointError(
            f"it was made for {name!r}, and no such task is known here",
            place=place,
            fix=f"known are {', '.join(sorted(TASKS))}; a task of one's own is to be registered",
        ) from error


def _by_head(config: BertConfig, place: str) -> type[Task]:
    """The task of a head without a contract, which `architectures` alone can name."""
    if not config.architectures:
        raise CheckpointError(
            "config.json names no architectures, so nobody knows what its head was trained for",
            place=place,
            fix='add them, as in "architectures": ["BertForTokenClassification"], or fine-tune it: '
            "bertolt finetune FILE --model FOLDER",
        )
    for task in TASKS.values():
        if has_head(config, task.head) and task.serves(config):
            return task
    if is_encoder(config):
        return USUAL  # that its head was never trained is told once it is loaded
    raise CheckpointError(
        f"it is a {config.architectures[0]}, which is for none of {', '.join(sorted(TASKS))}",
        place=place,
        fix="fine-tune it for one of them: bertolt finetune FILE --model FOLDER",
    )


def has_head(config: BertConfig, head: type[PreTrainedModel]) -> bool:
    """Whether a config says that its model has such a head."""
    kind: Any = saved_class(config)
    heads = (kind, *getattr(kind, "heads", ()))
    return head.__name__ in config.architectures or any(issubclass(each, head) for each in heads)


def is_encoder(config: BertConfig) -> bool:
    """Whether a config says that its model is an encoder, alone or as it was pretrained."""
    kind = saved_class(config)
    named = kind.__name__ in config.architectures
    return named and (not issubclass(kind, Head) or issubclass(kind, LanguageModel))
