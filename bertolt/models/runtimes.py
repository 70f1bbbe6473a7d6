"""ONNX Runtime and OpenVINO as engines: a graph's file is opened, and run with padded tensors."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.threads import in_a_thread_of_its_own
from bertolt.checkpoint.exported import Exported
from bertolt.models.engine import Feed, GraphEngine, Run
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel

AWAKE = 100
"""Microseconds for which a thread of ONNX Runtime waits awake."""
_ENDING = (1, 26)
"""The first version of ONNX Runtime whose threads can be told so."""
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def missing(name: str, error: ImportError, option: str = "--engine") -> UsageError:
    """What to raise where a package of the extra is not there, which an option asks for."""
    return UsageError(
        f"{name} cannot be imported ({error})",
        place=option,
        fix="pip install 'bertolt[export]'",
    )


def open_engine(
    model: PreTrainedModel, folder: Path, card: Exported, precision: str = "auto"
) -> GraphEngine:
    """What runs the graph of an exported folder.

    Args:
        model: as `PreTrainedModel.without_weights` builds it.
        folder: of the graph.
        card: its `export.json`.
        precision: "auto", as it was exported; or "bf16", which OpenVINO can run a graph in fp32 in.

    Raises:
        UsageError: the runtime is not installed, or cannot run the graph in this precision.
        CheckpointError: the graph cannot be opened.
    """
    choice = _precision_of(card, precision, folder)
    path = folder / card.graph
    if not path.is_file():
        raise CheckpointError(
            f"there is no {card.graph}, which export.json names",
            place=str(folder),
            fix="copy the whole folder, or export the model again",
        )
    opened = partial(_running, path, choice.name, card)
    return GraphEngine(model, card.engine, tuple(card.inputs), tuple(card.outputs), opened, choice)


def _precision_of(card: Exported, asked: str, folder: Path) -> PrecisionChoice:
    if asked in ("auto", card.precision):
        return PrecisionChoice(card.precision, "as the graph was exported")
    if asked == "bf16" and card.engine == "openvino" and card.precision == "fp32":
        return PrecisionChoice("bf16", "as requested; answers differ a little from the graph's")
    raise UsageError(
        f"the graph was exported in {card.precision}, and --precision says {asked}",
        place=str(folder),
        fix="leave --precision out, or export the model again"
        + (" with --int8 --calibrate FILE" if asked == "int8" else ""),
    )


def _waiting(version: str) -> dict[str, str]:
    """How threads of ONNX Runtime wait for the next part of a pass.

    Awake for as long as one part of a short text takes, they need not be woken some hundred times a
    pass; without an end they would take the time of everyone else on the machine, as they would in
    versions that know no end.
    """
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _ENDING:
        return {"allow_spinning": "0"}
    return {"allow_spinning": "1", "spin_duration_us": str(AWAKE), "spin_backoff_max": "8"}


def _open_onnxruntime(path: Path, precision: str, card: Exported) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime", error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    for name, value in _waiting(onnxruntime.__version__).items():
        options.add_session_config_entry(f"session.intra_op.{name}", value)
    providers = ["CPUExecutionProvider"]
    session = _opened(
        path, lambda: onnxruntime.InferenceSession(str(path), options, providers=providers)
    )
    names = [each.name for each in session.get_outputs()]
    _require_as_carded(path, card, {each.name for each in session.get_inputs()}, set(names))

    def run(feed: Feed) -> Mapping[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, feed), strict=True))

    return run


def import_openvino() -> Any:
    """OpenVINO, which would send what it is used for to its makers, without asking.

    Its converter and NNCF go on without that where the package for it is not there.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))
    import openvino

    return openvino


def _open_openvino(path: Path, precision: str, card: Exported) -> Run:
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise missing("openvino", error) from error
    # Left to itself, it computes in bfloat16 where the processor has that.
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    core = openvino.Core()
    # Its plugin takes the signal stack of the thread that it is made in with it when it goes: the
    # next signal, a Ctrl-C perhaps, would end the process without a word.
    compiled = _opened(
        path,
        lambda: in_a_thread_of_its_own(
            lambda: core.compile_model(core.read_model(path), "CPU", settings)
        ),
    )
    names = [each.get_any_name() for each in compiled.outputs]
    inputs = {each.get_any_name() for each in compiled.inputs}
    _require_as_carded(path, card, inputs, set(names))
    own = threading.local()

    def run(feed: Feed) -> Mapping[str, NDArray[np.float32]]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        own.request.infer(feed, share_inputs=True)
        # Its memory is written to again by the next call.
        return {
            name: own.request.get_output_tensor(place).data.copy()
            for place, name in enumerate(names)
        }

    return run


def _require_as_carded(path: Path, card: Exported, inputs: set[str], outputs: set[str]) -> None:
    """Refuse a graph that takes or gives other tensors than its card says."""
    for does, own, said in (("takes", inputs, card.inputs), ("gives", outputs, card.outputs)):
        if own != set(said):
            raise CheckpointError(
                f"the graph {does} {', '.join(sorted(own))}, and export.json says "
                f"{', '.join(said) or 'nothing'}",
                place=str(path),
                fix="copy the whole folder, or export the model again",
            )


_OPEN: dict[str, Callable[[Path, str, Exported], Run]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
}


def _running(path: Path, precision: str, card: Exported) -> Run:
    """What runs a graph, and says of what it cannot run which graph that is."""
    run = _OPEN[card.engine](path, precision, card)

    def told(feed: Feed) -> Mapping[str, NDArray[np.float32]]:
        try:
            return run(feed)
        except Exception as error:  # each runtime has its own
            if "allocate" in str(error):
                raise MemoryError(said_by(error)) from error
            raise CheckpointError(
                f"the graph cannot be run ({said_by(error)})",
                place=str(path),
                fix="copy the whole folder again, or export the model again",
            ) from error

    return told


def _opened(path: Path, open: Callable[[], Any]) -> Any:
    try:
        return open()
    except Exception as error:  # each runtime has its own, and a damaged file fails in any of them
        raise CheckpointError(
            f"the graph cannot be opened ({said_by(error)})",
            place=str(path),
            fix="copy the whole folder again, or export the model again",
        ) from error


def said_by(error: Exception) -> str:
    """The line of an error of a runtime that says what is wrong: OpenVINO's first ones say in which
    of its own files that was seen."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1 if lines[0].startswith("Exception from ") else 0]
