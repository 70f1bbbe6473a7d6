"""What every run tells its report: the machine, the model, and the curves of its steps."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import torch

from bertolt.base import machine
from bertolt.base.version import __version__
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.report import FORMAT
from bertolt.train.step import StepLog


def run_head(
    kind: str, title: str, *, started: float, command: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The facts that every run has first.

    Args:
        kind: "finetune" or "pretrain".
        title: what its page is called.
        started: when, by the clock that never goes back, as `time.monotonic` gives it.
        command: a command line that repeats the run.
        arguments: resolved.
    """
    seconds = time.monotonic() - started
    began = datetime.now(UTC) - timedelta(seconds=seconds)
    return {
        "format": FORMAT,
        "kind": kind,
        "title": title,
        "command": command,
        "started": began.strftime("%Y-%m-%d %H:%M UTC"),
        "duration_seconds": seconds,
        "version": __version__,
        "arguments": {name: str(value) for name, value in arguments.items()},
    }


def machine_facts(model: PreTrainedModel, precision: PrecisionChoice) -> dict[str, Any]:
    """Where a model is, and how it computes there."""
    on_gpu = model.device.type == "cuda"
    choice = model.attention_backend
    return {
        "cpu": machine.cpu_name(),
        "cores": machine.cores(),
        "memory_bytes": machine.memory_bytes(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "precision": precision.name,
        "precision_reason": precision.reason,
        "attention": choice.name,
        "attention_reason": choice.reason,
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": machine.versions(),
    }


def model_facts(model: PreTrainedModel, source: str) -> dict[str, Any]:
    """Its shape, where it came from, and how its weights were loaded."""
    report = model.load_report
    return {
        "source": source,
        "architecture": type(model).__name__,
        "layers": model.config.num_hidden_layers,
        "hidden_size": model.config.hidden_size,
        "heads": model.config.num_attention_heads,
        "vocabulary_size": model.config.vocab_size,
        "parameters": model.num_parameters(),
        "load_report": [_loaded(*row) for row in (report.rows() if report else ())],
    }


# Tensors of the pooler or of another head, whose places the model does not have.
_HEAD = re.compile(r"(?:\w+\.)?(?:pooler|cls|lm_head|classifier|qa_outputs)\.")


def _loaded(status: str, name: str, count: int, note: str) -> dict[str, Any]:
    """A row of the load report; what belongs to another head is nothing to be wary of."""
    if status == "unexpected" and _HEAD.match(name):
        status, note = "not needed", "of the pooler or another head, which this model has not"
    return {"status": status, "name": name, "count": count, "note": note}


def curve_facts(
    steps: Sequence[StepLog], peak_share: Callable[[StepLog], float] | None = None
) -> dict[str, list[Any]]:
    """A column for each number of the steps, of six digits: what a drawing needs and more.

    `peak_share` says how much of the machine a step reached.
    """
    columns: dict[str, Callable[[StepLog], float]] = {
        "loss": lambda log: log.loss,
        "learning_rate": lambda log: log.learning_rate,
        "grad_norm": lambda log: log.grad_norm,
        "samples_per_second": lambda log: log.sequences / log.seconds if log.seconds else 0.0,
        "tokens_per_second": lambda log: log.tokens / log.seconds if log.seconds else 0.0,
    }
    if peak_share is not None:
        columns["peak_share"] = peak_share
    numbers = {name: [float(f"{of(log):.6g}") for log in steps] for name, of in columns.items()}
    return {"step": [log.step for log in steps], **numbers}


def evaluation_facts(
    evaluations: Sequence[tuple[int, Mapping[str, float]]],
) -> list[dict[str, Any]]:
    """The metrics of each evaluation while training, by names without the prefix `eval_`."""
    return [
        {"step": step, "metrics": {name.removeprefix("eval_"): v for name, v in metrics.items()}}
        for step, metrics in evaluations
    ]
