"""XLM-RoBERTa: RoBERTa under names of its own, with a vocabulary of many languages.

Conneau et al., 2019, arXiv:1911.02116.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bertolt.models.config import SIZE
from bertolt.models.families import roberta
from bertolt.models.families.base import Family


@dataclass(kw_only=True)
class XLMRobertaConfig(roberta.RobertaConfig):
    """The shape of an XLM-RoBERTa encoder: the fields of `RobertaConfig`.

    Raises:
        CheckpointError: as `BertConfig`.
    """

    model_type: ClassVar[str] = "xlm-roberta"

    vocab_size: int = field(default=30522, metadata=SIZE)


class XLMRobertaModel(roberta.RobertaModel):
    """XLM-RoBERTa without a head."""

    config_class = XLMRobertaConfig


class XLMRobertaForMaskedLM(roberta.RobertaForMaskedLM):
    """Which word stood at a masked place."""

    config_class = XLMRobertaConfig


class XLMRobertaForCausalLM(roberta.RobertaForCausalLM):
    """Which word comes next."""

    config_class = XLMRobertaConfig


class XLMRobertaForSequenceClassification(roberta.RobertaForSequenceClassification):
    """One label (or several, or numbers) for each text, from its first token."""

    config_class = XLMRobertaConfig


class XLMRobertaForTokenClassification(roberta.RobertaForTokenClassification):
    """One label for each token."""

    config_class = XLMRobertaConfig


class XLMRobertaForQuestionAnswering(roberta.RobertaForQuestionAnswering):
    """Where in its sequence an answer begins and ends."""

    config_class = XLMRobertaConfig


class XLMRobertaForMultipleChoice(roberta.RobertaForMultipleChoice):
    """Which of several sequences is the right one."""

    config_class = XLMRobertaConfig


FAMILY = Family(
    config=XLMRobertaConfig,
    prefix="roberta",
    classes=(
        XLMRobertaModel,
        XLMRobertaForMaskedLM,
        XLMRobertaForCausalLM,
        XLMRobertaForSequenceClassification,
        XLMRobertaForTokenClassification,
        XLMRobertaForQuestionAnswering,
        XLMRobertaForMultipleChoice,
    ),
)
