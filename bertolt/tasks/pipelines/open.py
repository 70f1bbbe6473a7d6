"""`pipeline`: opens the model and the tokenizer of a task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from bertolt.base.arguments import tell_unused
from bertolt.base.errors import UsageError, nearest
from bertolt.models.bert import AutoModel
from bertolt.models.config import BertConfig
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.pipelines.base import Pipeline
from bertolt.tasks.pipelines.feature_extraction import FeatureExtractionPipeline
from bertolt.tasks.pipelines.fill_mask import FillMaskPipeline
from bertolt.tasks.pipelines.question_answering import QuestionAnsweringPipeline
from bertolt.tasks.pipelines.text_classification import TextClassificationPipeline
from bertolt.tasks.pipelines.token_classification import TokenClassificationPipeline
from bertolt.tokenization import BertTokenizer
from bertolt.tokenization.older import UNUSED

_KINDS: tuple[type[Pipeline], ...] = (
    TextClassificationPipeline,
    TokenClassificationPipeline,
    QuestionAnsweringPipeline,
    FillMaskPipeline,
    FeatureExtractionPipeline,
)
PIPELINES: dict[str, type[Pipeline]] = {kind.task: kind for kind in _KINDS}
"""The pipelines by the name of their task."""
ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}
"""Names that tasks have too."""

# Arguments for models of another kind.
_FOREIGN = ("feature_extractor", "image_processor", "video_processor", "processor")


def pipeline(
    task: str | None = None,
    model: PreTrainedModel | str | os.PathLike[str] | None = None,
    config: BertConfig | str | os.PathLike[str] | None = None,
    tokenizer: BertTokenizer | str | os.PathLike[str] | None = None,
    *,
    device: int | str | torch.device | None = None,
    device_map: str | None = None,
    dtype: str | torch.dtype | None = None,
    torch_dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    pipeline_class: type[Pipeline] | None = None,
    **settings: Any,
) -> Pipeline:
    """A pipeline for a task: call it with a text, a list of texts or a stream of them.

    Args:
        task: "text-classification" or "sentiment-analysis", "token-classification" or "ner",
            "question-answering", "fill-mask", "feature-extraction"; None: as the model's head.
        model: a model, or the folder or hub id of one.
        config: to open the folder by, in place of its own.
        tokenizer: one, or its folder; None: as the model's folder has it.
        device: "cuda:1", a number of a GPU, or "cpu" or -1; None: where a given model is, and a GPU
            if there is one for a folder.
        device_map: "auto" or "cpu", as `device`.
        dtype, torch_dtype: of the weights of a folder, as "bfloat16"; "auto": as the config says;
            None: float32.
        revision: a branch, tag or commit on the hub.
        model_kwargs: more arguments of the model's `from_pretrained`.
        pipeline_class: a subclass of `Pipeline`, in place of the task's own.
        settings: of the task, for all calls, as `top_k=None`; and `batch_size`.

    Raises:
        UsageError: no such task, no model, a head of another task, or a setting that there is not.
        CheckpointError: a folder that cannot be opened, or a head that was never trained.
    """
    _refuse_foreign(settings)
    tell_unused(settings, UNUSED)
    if model is None:
        raise UsageError(
            "pipeline got no model, and no task has one that it takes by itself",
            fix="name one: pipeline(task, model=FOLDER)",
        )
    kind = pipeline_class or _kind_of(task, model)
    options = {"revision": revision, **_token(settings)}
    if tokenizer is None:
        if isinstance(model, PreTrainedModel):
            raise UsageError(
                "a model was given without its tokenizer",
                fix="give both: pipeline(task, model=model, tokenizer=tokenizer)",
            )
        tokenizer = model
    if not isinstance(tokenizer, BertTokenizer):
        tokenizer = BertTokenizer.from_pretrained(tokenizer, **options)
    where = _device(device if device_map is None else device_map)
    if isinstance(model, PreTrainedModel):
        return kind(model, tokenizer, device=where, **settings)
    head: Any = AutoModel if kind.head is PreTrainedModel else kind.head
    weights = {"config": config, "dtype": torch_dtype if dtype is None else dtype}
    loaded = head.from_pretrained(
        model, verbose=False, revision=revision, **weights, **(model_kwargs or {})
    )
    where = where or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    opened = kind(loaded, tokenizer, device=where, **settings)
    opened.freeze()
    return opened


def _refuse_foreign(settings: dict[str, Any]) -> None:
    for name in _FOREIGN:
        if settings.pop(name, None) is not None:
            raise UsageError(f"pipeline takes no {name}", fix="leave it out: models here read text")


def _token(settings: dict[str, Any]) -> dict[str, Any]:
    """The token of the hub, under either name."""
    older = settings.pop("use_auth_token", None)
    token = settings.pop("token", None)
    return {"token": older if token is None else token}


def _kind_of(task: str | None, model: Any) -> type[Pipeline]:
    """The pipeline of a task, or of a model's head."""
    if task is None:
        for kind in _KINDS:
            if kind.head is not PreTrainedModel and isinstance(model, kind.head):
                return kind
        raise UsageError(
            "pipeline got no task", fix=f"name it first: one of {', '.join(PIPELINES)}"
        )
    name = ALIASES.get(task, task)
    if name not in PIPELINES:
        near = nearest(name, [*PIPELINES, *ALIASES])
        meant = f"did you mean {near!r}? " if near else ""
        raise UsageError(
            f"there is no pipeline for {task!r}", fix=f"{meant}There are {', '.join(PIPELINES)}"
        )
    return PIPELINES[name]


def _device(device: int | str | torch.device | None) -> torch.device | None:
    if device is None or device == "auto":
        return None
    if isinstance(device, int) and not isinstance(device, bool):
        return torch.device("cpu") if device < 0 else torch.device("cuda", device)
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"device is {device!r}", fix='give "cpu", "cuda", "cuda:1", a number, or -1 for the CPU'
        ) from error
