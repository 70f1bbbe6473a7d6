"""Bertolt: padding-free BERT encoders, from a CSV to a measured model.

Public names are imported when they are first used, so `import bertolt` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bertolt.base.version import __version__

if TYPE_CHECKING:
    from bertolt.base.errors import BertoltError as BertoltError
    from bertolt.base.errors import CheckpointError as CheckpointError
    from bertolt.base.errors import DataError as DataError
    from bertolt.base.errors import TrainingError as TrainingError
    from bertolt.base.errors import UsageError as UsageError
    from bertolt.base.randomness import set_seed as set_seed
    from bertolt.checkpoint.report import LoadReport as LoadReport
    from bertolt.commands.finetune.estimators import BertClassifier as BertClassifier
    from bertolt.commands.finetune.estimators import BertRegressor as BertRegressor
    from bertolt.commands.finetune.estimators import BertTagger as BertTagger
    from bertolt.corpus.shards import Corpus as Corpus
    from bertolt.data.batch import PackedBatch as PackedBatch
    from bertolt.data.collate import (
        DataCollatorForMultipleChoice as DataCollatorForMultipleChoice,
    )
    from bertolt.data.collate import (
        DataCollatorForTokenClassification as DataCollatorForTokenClassification,
    )
    from bertolt.data.collate import DataCollatorWithPadding as DataCollatorWithPadding
    from bertolt.data.collate import PackingCollator as PackingCollator
    from bertolt.data.collate import default_data_collator as default_data_collator
    from bertolt.data.masking import (
        DataCollatorForLanguageModeling as DataCollatorForLanguageModeling,
    )
    from bertolt.data.masking import (
        DataCollatorForWholeWordMask as DataCollatorForWholeWordMask,
    )
    from bertolt.metrics import load_metric as load_metric
    from bertolt.models.bert import AutoModel as AutoModel
    from bertolt.models.config import BertConfig as BertConfig
    from bertolt.models.decoder import AutoModelForCausalLM as AutoModelForCausalLM
    from bertolt.models.decoder import KeyValueCache as KeyValueCache
    from bertolt.models.families.base import AutoConfig as AutoConfig
    from bertolt.models.families.bert import (
        AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction,
    )
    from bertolt.models.families.bert import AutoModelForPreTraining as AutoModelForPreTraining
    from bertolt.models.families.bert import BertForMaskedLM as BertForMaskedLM
    from bertolt.models.families.bert import BertForMultipleChoice as BertForMultipleChoice
    from bertolt.models.families.bert import (
        BertForNextSentencePrediction as BertForNextSentencePrediction,
    )
    from bertolt.models.families.bert import BertForPreTraining as BertForPreTraining
    from bertolt.models.families.bert import BertForQuestionAnswering as BertForQuestionAnswering
    from bertolt.models.families.bert import (
        BertForSequenceClassification as BertForSequenceClassification,
    )
    from bertolt.models.families.bert import (
        BertForTokenClassification as BertForTokenClassification,
    )
    from bertolt.models.families.bert import BertLMHeadModel as BertLMHeadModel
    from bertolt.models.families.bert import BertModel as BertModel
    from bertolt.models.families.bert import BertPreTrainedModel as BertPreTrainedModel
    from bertolt.models.families.roberta import RobertaConfig as RobertaConfig
    from bertolt.models.families.roberta import RobertaForCausalLM as RobertaForCausalLM
    from bertolt.models.families.roberta import RobertaForMaskedLM as RobertaForMaskedLM
    from bertolt.models.families.roberta import RobertaForMultipleChoice as RobertaForMultipleChoice
    from bertolt.models.families.roberta import (
        RobertaForQuestionAnswering as RobertaForQuestionAnswering,
    )
    from bertolt.models.families.roberta import (
        RobertaForSequenceClassification as RobertaForSequenceClassification,
    )
    from bertolt.models.families.roberta import (
        RobertaForTokenClassification as RobertaForTokenClassification,
    )
    from bertolt.models.families.roberta import RobertaModel as RobertaModel
    from bertolt.models.families.roberta import RobertaPreTrainedModel as RobertaPreTrainedModel
    from bertolt.models.families.xlm_roberta import XLMRobertaConfig as XLMRobertaConfig
    from bertolt.models.families.xlm_roberta import XLMRobertaForCausalLM as XLMRobertaForCausalLM
    from bertolt.models.families.xlm_roberta import XLMRobertaForMaskedLM as XLMRobertaForMaskedLM
    from bertolt.models.families.xlm_roberta import (
        XLMRobertaForMultipleChoice as XLMRobertaForMultipleChoice,
    )
    from bertolt.models.families.xlm_roberta import (
        XLMRobertaForQuestionAnswering as XLMRobertaForQuestionAnswering,
    )
    from bertolt.models.families.xlm_roberta import (
        XLMRobertaForSequenceClassification as XLMRobertaForSequenceClassification,
    )
    from bertolt.models.families.xlm_roberta import (
        XLMRobertaForTokenClassification as XLMRobertaForTokenClassification,
    )
    from bertolt.models.families.xlm_roberta import XLMRobertaModel as XLMRobertaModel
    from bertolt.models.heads import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from bertolt.models.heads import AutoModelForQuestionAnswering as AutoModelForQuestionAnswering
    from bertolt.models.heads import (
        AutoModelForSequenceClassification as AutoModelForSequenceClassification,
    )
    from bertolt.models.heads import (
        AutoModelForTokenClassification as AutoModelForTokenClassification,
    )
    from bertolt.models.heads import SentenceEncoder as SentenceEncoder
    from bertolt.models.losses import CosineRegression as CosineRegression
    from bertolt.models.losses import InBatchNegatives as InBatchNegatives
    from bertolt.models.pretrained import PreTrainedModel as PreTrainedModel
    from bertolt.models.word_heads import AutoModelForMaskedLM as AutoModelForMaskedLM
    from bertolt.tasks.pipelines import FeatureExtractionPipeline as FeatureExtractionPipeline
    from bertolt.tasks.pipelines import FillMaskPipeline as FillMaskPipeline
    from bertolt.tasks.pipelines import Pipeline as Pipeline
    from bertolt.tasks.pipelines import QuestionAnsweringPipeline as QuestionAnsweringPipeline
    from bertolt.tasks.pipelines import TextClassificationPipeline as TextClassificationPipeline
    from bertolt.tasks.pipelines import TokenClassificationPipeline as TokenClassificationPipeline
    from bertolt.tasks.pipelines import pipeline as pipeline
    from bertolt.tasks.predictor import Predictor as Predictor
    from bertolt.tokenization import AutoTokenizer as AutoTokenizer
    from bertolt.tokenization import BatchEncoding as BatchEncoding
    from bertolt.tokenization import BertTokenizer as BertTokenizer
    from bertolt.tokenization import BertTokenizerFast as BertTokenizerFast
    from bertolt.tokenization import PreTrainedTokenizerBase as PreTrainedTokenizerBase
    from bertolt.tokenization import PreTrainedTokenizerFast as PreTrainedTokenizerFast
    from bertolt.tokenization import RobertaTokenizer as RobertaTokenizer
    from bertolt.tokenization import RobertaTokenizerFast as RobertaTokenizerFast
    from bertolt.tokenization import XLMRobertaTokenizer as XLMRobertaTokenizer
    from bertolt.tokenization import XLMRobertaTokenizerFast as XLMRobertaTokenizerFast
    from bertolt.train.arguments import TrainingArguments as TrainingArguments
    from bertolt.train.events import EarlyStoppingCallback as EarlyStoppingCallback
    from bertolt.train.events import TrainerCallback as TrainerCallback
    from bertolt.train.events import TrainerControl as TrainerControl
    from bertolt.train.events import TrainerState as TrainerState
    from bertolt.train.optim import AdamW as AdamW
    from bertolt.train.optim import parameter_groups as parameter_groups
    from bertolt.train.results import EvalPrediction as EvalPrediction
    from bertolt.train.schedules import get_constant_schedule as get_constant_schedule
    from bertolt.train.schedules import (
        get_constant_schedule_with_warmup as get_constant_schedule_with_warmup,
    )
    from bertolt.train.schedules import (
        get_cosine_schedule_with_warmup as get_cosine_schedule_with_warmup,
    )
    from bertolt.train.schedules import (
        get_cosine_with_hard_restarts_schedule_with_warmup as get_cosine_with_hard_restarts_schedule_with_warmup,  # noqa: E501
    )
    from bertolt.train.schedules import (
        get_cosine_with_min_lr_schedule_with_warmup as get_cosine_with_min_lr_schedule_with_warmup,
    )
    from bertolt.train.schedules import (
        get_cosine_with_min_lr_schedule_with_warmup_lr_rate as get_cosine_with_min_lr_schedule_with_warmup_lr_rate,  # noqa: E501
    )
    from bertolt.train.schedules import get_greedy_schedule as get_greedy_schedule
    from bertolt.train.schedules import get_inverse_sqrt_schedule as get_inverse_sqrt_schedule
    from bertolt.train.schedules import (
        get_linear_schedule_with_warmup as get_linear_schedule_with_warmup,
    )
    from bertolt.train.schedules import (
        get_polynomial_decay_schedule_with_warmup as get_polynomial_decay_schedule_with_warmup,
    )
    from bertolt.train.schedules import (
        get_reduce_on_plateau_schedule as get_reduce_on_plateau_schedule,
    )
    from bertolt.train.schedules import get_scheduler as get_scheduler
    from bertolt.train.schedules import get_wsd_schedule as get_wsd_schedule
    from bertolt.train.step import train_step as train_step
    from bertolt.train.trainer import Trainer as Trainer

# Where each public name lives.
_HOME = {
    "AdamW": "bertolt.train.optim",
    "AutoConfig": "bertolt.models.families.base",
    "AutoModel": "bertolt.models.bert",
    "AutoModelForCausalLM": "bertolt.models.decoder",
    "AutoModelForMaskedLM": "bertolt.models.word_heads",
    "AutoModelForMultipleChoice": "bertolt.models.heads",
    "AutoModelForNextSentencePrediction": "bertolt.models.families.bert",
    "AutoModelForPreTraining": "bertolt.models.families.bert",
    "AutoModelForQuestionAnswering": "bertolt.models.heads",
    "AutoModelForSequenceClassification": "bertolt.models.heads",
    "AutoModelForTokenClassification": "bertolt.models.heads",
    "AutoTokenizer": "bertolt.tokenization",
    "BatchEncoding": "bertolt.tokenization",
    "BertClassifier": "bertolt.commands.finetune.estimators",
    "BertConfig": "bertolt.models.config",
    "BertForMaskedLM": "bertolt.models.families.bert",
    "BertForMultipleChoice": "bertolt.models.families.bert",
    "BertForNextSentencePrediction": "bertolt.models.families.bert",
    "BertForPreTraining": "bertolt.models.families.bert",
    "BertForQuestionAnswering": "bertolt.models.families.bert",
    "BertForSequenceClassification": "bertolt.models.families.bert",
    "BertForTokenClassification": "bertolt.models.families.bert",
    "BertLMHeadModel": "bertolt.models.families.bert",
    "BertModel": "bertolt.models.families.bert",
    "BertPreTrainedModel": "bertolt.models.families.bert",
    "BertRegressor": "bertolt.commands.finetune.estimators",
    "BertTagger": "bertolt.commands.finetune.estimators",
    "BertTokenizer": "bertolt.tokenization",
    "BertTokenizerFast": "bertolt.tokenization",
    "BertoltError": "bertolt.base.errors",
    "CheckpointError": "bertolt.base.errors",
    "Corpus": "bertolt.corpus.shards",
    "CosineRegression": "bertolt.models.losses",
    "DataCollatorForLanguageModeling": "bertolt.data.masking",
    "DataCollatorForMultipleChoice": "bertolt.data.collate",
    "DataCollatorForTokenClassification": "bertolt.data.collate",
    "DataCollatorForWholeWordMask": "bertolt.data.masking",
    "DataCollatorWithPadding": "bertolt.data.collate",
    "DataError": "bertolt.base.errors",
    "EarlyStoppingCallback": "bertolt.train.events",
    "EvalPrediction": "bertolt.train.results",
    "FeatureExtractionPipeline": "bertolt.tasks.pipelines",
    "FillMaskPipeline": "bertolt.tasks.pipelines",
    "InBatchNegatives": "bertolt.models.losses",
    "KeyValueCache": "bertolt.models.decoder",
    "LoadReport": "bertolt.checkpoint.report",
    "PackedBatch": "bertolt.data.batch",
    "PackingCollator": "bertolt.data.collate",
    "Pipeline": "bertolt.tasks.pipelines",
    "PreTrainedModel": "bertolt.models.pretrained",
    "PreTrainedTokenizerBase": "bertolt.tokenization",
    "PreTrainedTokenizerFast": "bertolt.tokenization",
    "Predictor": "bertolt.tasks.predictor",
    "QuestionAnsweringPipeline": "bertolt.tasks.pipelines",
    "RobertaConfig": "bertolt.models.families.roberta",
    "RobertaForCausalLM": "bertolt.models.families.roberta",
    "RobertaForMaskedLM": "bertolt.models.families.roberta",
    "RobertaForMultipleChoice": "bertolt.models.families.roberta",
    "RobertaForQuestionAnswering": "bertolt.models.families.roberta",
    "RobertaForSequenceClassification": "bertolt.models.families.roberta",
    "RobertaForTokenClassification": "bertolt.models.families.roberta",
    "RobertaModel": "bertolt.models.families.roberta",
    "RobertaPreTrainedModel": "bertolt.models.families.roberta",
    "RobertaTokenizer": "bertolt.tokenization",
    "RobertaTokenizerFast": "bertolt.tokenization",
    "SentenceEncoder": "bertolt.models.heads",
    "TextClassificationPipeline": "bertolt.tasks.pipelines",
    "TokenClassificationPipeline": "bertolt.tasks.pipelines",
    "Trainer": "bertolt.train.trainer",
    "TrainerCallback": "bertolt.train.events",
    "TrainerControl": "bertolt.train.events",
    "TrainerState": "bertolt.train.events",
    "TrainingArguments": "bertolt.train.arguments",
    "TrainingError": "bertolt.base.errors",
    "UsageError": "bertolt.base.errors",
    "XLMRobertaConfig": "bertolt.models.families.xlm_roberta",
    "XLMRobertaForCausalLM": "bertolt.models.families.xlm_roberta",
    "XLMRobertaForMaskedLM": "bertolt.models.families.xlm_roberta",
    "XLMRobertaForMultipleChoice": "bertolt.models.families.xlm_roberta",
    "XLMRobertaForQuestionAnswering": "bertolt.models.families.xlm_roberta",
    "XLMRobertaForSequenceClassification": "bertolt.models.families.xlm_roberta",
    "XLMRobertaForTokenClassification": "bertolt.models.families.xlm_roberta",
    "XLMRobertaModel": "bertolt.models.families.xlm_roberta",
    "XLMRobertaTokenizer": "bertolt.tokenization",
    "XLMRobertaTokenizerFast": "bertolt.tokenization",
    "default_data_collator": "bertolt.data.collate",
    "get_constant_schedule": "bertolt.train.schedules",
    "get_constant_schedule_with_warmup": "bertolt.train.schedules",
    "get_cosine_schedule_with_warmup": "bertolt.train.schedules",
    "get_cosine_with_hard_restarts_schedule_with_warmup": "bertolt.train.schedules",
    "get_inverse_sqrt_schedule": "bertolt.train.schedules",
    "get_cosine_with_min_lr_schedule_with_warmup": "bertolt.train.schedules",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": "bertolt.train.schedules",
    "get_greedy_schedule": "bertolt.train.schedules",
    "get_reduce_on_plateau_schedule": "bertolt.train.schedules",
    "get_wsd_schedule": "bertolt.train.schedules",
    "get_linear_schedule_with_warmup": "bertolt.train.schedules",
    "get_polynomial_decay_schedule_with_warmup": "bertolt.train.schedules",
    "get_scheduler": "bertolt.train.schedules",
    "load_metric": "bertolt.metrics",
    "parameter_groups": "bertolt.train.optim",
    "pipeline": "bertolt.tasks.pipelines",
    "set_seed": "bertolt.base.randomness",
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
