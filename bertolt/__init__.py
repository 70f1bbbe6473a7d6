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
    from bertolt.data.batch import DataCollatorWithPadding as DataCollatorWithPadding
    from bertolt.data.batch import PackedBatch as PackedBatch
    from bertolt.data.batch import PackingCollator as PackingCollator
    from bertolt.errors import BertoltError as BertoltError
    from bertolt.metrics import load_metric as load_metric
    from bertolt.model.bert import BertModel as BertModel
    from bertolt.model.heads import (
        AutoModelForSequenceClassification as AutoModelForSequenceClassification,
    )
    from bertolt.model.heads import BertForSequenceClassification as BertForSequenceClassification
    from bertolt.predict import Predictor as Predictor
    from bertolt.tokenization import AutoTokenizer as AutoTokenizer
    from bertolt.tokenization import BertTokenizer as BertTokenizer
    from bertolt.train.loop import train_step as train_step
    from bertolt.train.optim import AdamW as AdamW
    from bertolt.train.optim import get_scheduler as get_scheduler
    from bertolt.train.optim import parameter_groups as parameter_groups
    from bertolt.train.trainer import Trainer as Trainer

# Where each public name lives.
_HOME = {
    "AdamW": "bertolt.train.optim",
    "AutoModelForSequenceClassification": "bertolt.model.heads",
    "AutoTokenizer": "bertolt.tokenization",
    "BertConfig": "bertolt.config",
    "BertForSequenceClassification": "bertolt.model.heads",
    "BertModel": "bertolt.model.bert",
    "BertTokenizer": "bertolt.tokenization",
    "BertoltError": "bertolt.errors",
    "DataCollatorWithPadding": "bertolt.data.batch",
    "LoadReport": "bertolt.checkpoint.report",
    "PackedBatch": "bertolt.data.batch",
    "PackingCollator": "bertolt.data.batch",
    "Predictor": "bertolt.predict",
    "Trainer": "bertolt.train.trainer",
    "TrainingArguments": "bertolt.config",
    "get_scheduler": "bertolt.train.optim",
    "load_metric": "bertolt.metrics",
    "parameter_groups": "bertolt.train.optim",
    "train_step": "bertolt.train.loop",
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
