"""Bertolt: padding-free BERT encoders, from a CSV to a measured model.

Public names are imported when they are first used, so `import bertolt` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bertolt.version import __version__

if TYPE_CHECKING:
    from bertolt.checkpoint.report import LoadReport as LoadReport
    from bertolt.config import BertConfig as BertConfig
    from bertolt.config import TrainingArguments as TrainingArguments
    from bertolt.corpus.shards import Corpus as Corpus
    from bertolt.data.batch import PackedBatch as PackedBatch
    from bertolt.data.collate import (
        DataCollatorForTokenClassification as DataCollatorForTokenClassification,
    )
    from bertolt.data.collate import DataCollatorWithPadding as DataCollatorWithPadding
    from bertolt.data.collate import PackingCollator as PackingCollator
    from bertolt.data.collate import default_data_collator as default_data_collator
    from bertolt.data.masking import (
        DataCollatorForLanguageModeling as DataCollatorForLanguageModeling,
    )
    from bertolt.errors import BertoltError as BertoltError
    from bertolt.errors import CheckpointError as CheckpointError
    from bertolt.errors import DataError as DataError
    from bertolt.errors import TrainingError as TrainingError
    from bertolt.errors import UsageError as UsageError
    from bertolt.metrics import load_metric as load_metric
    from bertolt.model.attend import KeyValueCache as KeyValueCache
    from bertolt.model.bert import AutoModel as AutoModel
    from bertolt.model.bert import BertModel as BertModel
    from bertolt.model.decoder import AutoModelForCausalLM as AutoModelForCausalLM
    from bertolt.model.decoder import BertLMHeadModel as BertLMHeadModel
    from bertolt.model.heads import AutoModelForMaskedLM as AutoModelForMaskedLM
    from bertolt.model.heads import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from bertolt.model.heads import (
        AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction,
    )
    from bertolt.model.heads import AutoModelForPreTraining as AutoModelForPreTraining
    from bertolt.model.heads import AutoModelForQuestionAnswering as AutoModelForQuestionAnswering
    from bertolt.model.heads import (
        AutoModelForSequenceClassification as AutoModelForSequenceClassification,
    )
    from bertolt.model.heads import (
        AutoModelForTokenClassification as AutoModelForTokenClassification,
    )
    from bertolt.model.heads import BertForMaskedLM as BertForMaskedLM
    from bertolt.model.heads import BertForMultipleChoice as BertForMultipleChoice
    from bertolt.model.heads import BertForNextSentencePrediction as BertForNextSentencePrediction
    from bertolt.model.heads import BertForPreTraining as BertForPreTraining
    from bertolt.model.heads import BertForQuestionAnswering as BertForQuestionAnswering
    from bertolt.model.heads import BertForSequenceClassification as BertForSequenceClassification
    from bertolt.model.heads import BertForTokenClassification as BertForTokenClassification
    from bertolt.model.pretrained import PreTrainedModel as PreTrainedModel
    from bertolt.predict import Predictor as Predictor
    from bertolt.tokenization import AutoTokenizer as AutoTokenizer
    from bertolt.tokenization import BertTokenizer as BertTokenizer
    from bertolt.train.optim import AdamW as AdamW
    from bertolt.train.optim import parameter_groups as parameter_groups
    from bertolt.train.schedules import get_scheduler as get_scheduler
    from bertolt.train.step import train_step as train_step
    from bertolt.train.trainer import EvalPrediction as EvalPrediction
    from bertolt.train.trainer import Trainer as Trainer

# Where each public name lives.
_HOME = {
    "AdamW": "bertolt.train.optim",
    "AutoModel": "bertolt.model.bert",
    "AutoModelForCausalLM": "bertolt.model.decoder",
    "AutoModelForMaskedLM": "bertolt.model.heads",
    "AutoModelForMultipleChoice": "bertolt.model.heads",
    "AutoModelForNextSentencePrediction": "bertolt.model.heads",
    "AutoModelForPreTraining": "bertolt.model.heads",
    "AutoModelForQuestionAnswering": "bertolt.model.heads",
    "AutoModelForSequenceClassification": "bertolt.model.heads",
    "AutoModelForTokenClassification": "bertolt.model.heads",
    "AutoTokenizer": "bertolt.tokenization",
    "BertConfig": "bertolt.config",
    "BertForMaskedLM": "bertolt.model.heads",
    "BertForMultipleChoice": "bertolt.model.heads",
    "BertForNextSentencePrediction": "bertolt.model.heads",
    "BertForPreTraining": "bertolt.model.heads",
    "BertForQuestionAnswering": "bertolt.model.heads",
    "BertForSequenceClassification": "bertolt.model.heads",
    "BertForTokenClassification": "bertolt.model.heads",
    "BertLMHeadModel": "bertolt.model.decoder",
    "BertModel": "bertolt.model.bert",
    "BertTokenizer": "bertolt.tokenization",
    "BertoltError": "bertolt.errors",
    "CheckpointError": "bertolt.errors",
    "Corpus": "bertolt.corpus.shards",
    "DataCollatorForLanguageModeling": "bertolt.data.masking",
    "DataCollatorForTokenClassification": "bertolt.data.collate",
    "DataCollatorWithPadding": "bertolt.data.collate",
    "DataError": "bertolt.errors",
    "EvalPrediction": "bertolt.train.trainer",
    "KeyValueCache": "bertolt.model.attend",
    "LoadReport": "bertolt.checkpoint.report",
    "PackedBatch": "bertolt.data.batch",
    "PackingCollator": "bertolt.data.collate",
    "PreTrainedModel": "bertolt.model.pretrained",
    "Predictor": "bertolt.predict",
    "Trainer": "bertolt.train.trainer",
    "TrainingArguments": "bertolt.config",
    "TrainingError": "bertolt.errors",
    "UsageError": "bertolt.errors",
    "default_data_collator": "bertolt.data.collate",
    "get_scheduler": "bertolt.train.schedules",
    "load_metric": "bertolt.metrics",
    "parameter_groups": "bertolt.train.optim",
    "train_step": "bertolt.train.step",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bertolt' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
