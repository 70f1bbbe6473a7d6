"""Who takes part in which kind of work, and with which settings."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.job import Found, Job


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to do some kinds of work.

    Attributes:
        name: what a person types.
        title: what the tables say.
        runs: the measuring function for each kind of work, as "module:function".
        settings: its arguments.
        needs: packages that have to be there.
        export: what `prepare` has to make of the model: "onnx" or "openvino".
    """

    name: str
    title: str
    runs: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    export: str = ""

    @property
    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def measure(self, job: Job, started: float, seed: int) -> Found:
        """Measure in this process, which `time.time()` says began at `started`."""
        module, function = self.runs[job.kind].split(":")
        run: Callable[..., Found] = getattr(
            importlib.import_module(f"benchmarks.{module}"), function
        )
        return run(job, started, seed, **self.settings)


_TRAIN_OURS = dict.fromkeys(("train", "mlm", "start"), "ours:train")
_TRAIN_PEER = dict.fromkeys(("train", "mlm", "start"), "peer:train")
_OURS = {"predict": "ours:predict", "single": "ours:single"}
_PIPELINE = {"predict": "peer:pipeline", "single": "peer:pipeline"}
_ONNX = {"predict": "runtimes:onnx", "single": "runtimes:onnx"}
_OPENVINO = {"predict": "runtimes:openvino", "single": "runtimes:openvino"}
_PEER = ("transformers", "accelerate")
_EXPORTED = ("transformers", "onnx", "onnxruntime")

CONTESTANTS = {
    each.name: each
    for each in (
        Contestant(
            name="bertolt",
            title="Bertolt",
            runs={
                **_TRAIN_OURS,
                **_OURS,
                "command": "ours:command",
                "pretrain": "ours:pretrain",
            },
        ),
        Contestant(
            name="bertolt-grouped",
            title="Bertolt, grouped by length",
            runs={**_TRAIN_OURS, "command": "ours:command"},
            settings={"order": "group_by_length"},
        ),
        Contestant(
            name="bertolt-sorted",
            title="Bertolt, texts sorted before",
            runs={"predict": "ours:predict"},
            settings={"sort": True},
        ),
        Contestant(
            name="bertolt-fp32",
            title="Bertolt, fp32",
            runs={**_TRAIN_OURS, **_OURS},
            settings={"precision": "fp32"},
        ),
        Contestant(
            name="bertolt-int8",
            title="Bertolt, int8",
            runs=_OURS,
            settings={"precision": "int8"},
        ),
        Contestant(
            name="peer-fp32",
            title="transformers Trainer, dynamic padding, fp32",
            runs=_TRAIN_PEER,
            needs=_PEER,
        ),
        Contestant(
            name="peer-bf16",
            title="transformers Trainer, dynamic padding, bf16",
            runs={**_TRAIN_PEER, "command": "peer:command"},
            settings={"bf16": True},
            needs=_PEER,
        ),
        Contestant(
            name="peer-grouped",
            title="transformers Trainer, grouped by length, bf16",
            runs={**_TRAIN_PEER, "command": "peer:command"},
            settings={"bf16": True, "grouped": True},
            needs=_PEER,
        ),
        Contestant(
            name="peer-grouped-fp32",
            title="transformers Trainer, grouped by length, fp32",
            runs=_TRAIN_PEER,
            settings={"grouped": True},
            needs=_PEER,
        ),
        Contestant(
            name="peer-tuned",
            title="transformers Trainer, grouped, bf16, tuned by hand",
            runs={**_TRAIN_PEER, "command": "peer:command"},
            settings={"bf16": True, "grouped": True, "tuned": True},
            needs=_PEER,
        ),
        Contestant(
            name="hand-sdpa",
            title="transformers model, a loop by hand, bf16, its own attention",
            runs={"pretrain": "by_hand:pretrain"},
            settings={"attention": "sdpa"},
            needs=_PEER,
        ),
        Contestant(
            name="hand-eager",
            title="transformers model, a loop by hand, bf16, attention in plain products",
            runs={"pretrain": "by_hand:pretrain"},
            settings={"attention": "eager"},
            needs=_PEER,
        ),
        Contestant(
            name="pipeline",
            title="transformers pipeline, fp32",
            runs=_PIPELINE,
            needs=_PEER,
        ),
        Contestant(
            name="pipeline-bf16",
            title="transformers pipeline, bf16",
            runs=_PIPELINE,
            settings={"bf16": True},
            needs=_PEER,
        ),
        Contestant(
            name="pipeline-sorted",
            title="transformers pipeline, bf16, texts sorted before",
            runs={"predict": "peer:pipeline"},
            settings={"bf16": True, "sort": True},
            needs=_PEER,
        ),
        Contestant(
            name="loop-fp32",
            title="transformers model by hand, sorted, fp32",
            runs={"predict": "peer:loop"},
            needs=_PEER,
        ),
        Contestant(
            name="loop-bf16",
            title="transformers model by hand, sorted, bf16",
            runs={"predict": "peer:loop"},
            settings={"bf16": True},
            needs=_PEER,
        ),
        Contestant(
            name="sentences",
            title="sentence-transformers encode, bf16",
            runs={"predict": "peer:sentences"},
            settings={"bf16": True},
            needs=(*_PEER, "sentence_transformers"),
        ),
        Contestant(
            name="ort-fp32",
            title="ONNX Runtime, fp32",
            runs=_ONNX,
            settings={"graph": "fp32"},
            needs=_EXPORTED,
            export="onnx",
        ),
        Contestant(
            name="ort-int8",
            title="ONNX Runtime, int8 dynamic",
            runs=_ONNX,
            settings={"graph": "int8"},
            needs=_EXPORTED,
            export="onnx",
        ),
        Contestant(
            name="openvino-fp32",
            title="OpenVINO, fp32",
            runs=_OPENVINO,
            settings={"precision": "f32"},
            needs=("transformers", "openvino"),
            export="openvino",
        ),
        Contestant(
            name="openvino-bf16",
            title="OpenVINO, bf16",
            runs=_OPENVINO,
            settings={"precision": "bf16"},
            needs=("transformers", "openvino"),
            export="openvino",
        ),
    )
}
"""By name, Bertolt first."""
