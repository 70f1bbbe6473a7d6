"""What every run tells its report: the machine, the model, and the curves of its steps."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence

import torch

from bertolt.base import machine
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.report import CurvePoint, LoadRow, Machine, ModelSummary
from bertolt.train.step import StepLog


def machine_of(model: PreTrainedModel, precision: PrecisionChoice) -> Machine:
    """Where a model is, and how it computes there."""
    on_gpu = model.device.type == "cuda"
    choice = model.attention_backend
    return Machine(
        cpu=machine.cpu_name(),
        cores=machine.cores(),
        memory_bytes=machine.memory_bytes(),
        torch_threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        precision=precision.name,
        precision_reason=precision.reason,
        attention=choice.name,
        attention_reason=choice.reason,
        os=platform.platform(),
        python=platform.python_version(),
        versions=machine.versions(),
    )


def model_of(model: PreTrainedModel, source: str) -> ModelSummary:
    """Its shape, where it came from, and how its weights were loaded."""
    report = model.load_report
    return ModelSummary(
        source=source,
        architecture=type(model).__name__,
        layers=model.config.num_hidden_layers,
        hidden_size=model.config.hidden_size,
        heads=model.config.num_attention_heads,
        vocabulary_size=model.config.vocab_size,
        parameters=model.num_parameters(),
        load_report=[LoadRow(status=s, name=n, count=c, note=w) for s, n, c, w in report.rows()]
        if report
        else [],
    )


def curve_of(
    steps: Sequence[StepLog], peak_share: Callable[[StepLog], float] | None = None
) -> list[CurvePoint]:
    """A point for each step; `peak_share` says how much of the machine a step reached."""
    return [
        CurvePoint(
            step=log.step,
            loss=log.loss,
            learning_rate=log.learning_rate,
            grad_norm=log.grad_norm,
            samples_per_second=log.sequences / log.seconds,
            tokens_per_second=log.tokens / log.seconds,
            peak_share=None if peak_share is None else peak_share(log),
        )
        for log in steps
    ]
