"""ONNX Runtime and OpenVINO: exports of a classifier, and predictions with them.

Their own advice is followed. The graph that ONNX Runtime's BERT optimizer fuses is tried against
the plain one, weights for int8 are signed, by channel or not, and whichever is fastest on the usual
shape of the texts is measured. OpenVINO answers many texts with its throughput hint and
asynchronous requests, single ones with its latency hint. Texts are sorted by length and batched for
both.

Nothing here imports torch but the exports, which run in a process of their own:
`python -m benchmarks.runtimes onnx|openvino JOB.json`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.job import Found, Job, batches_of, by_length, time_bulk, time_single

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Feed = dict[str, NDArray[np.int64]]


# ---- what is made once ----


def export_onnx(job: Job) -> None:
    """Write the graphs that ONNX Runtime may use, and `onnx.json` with the fastest of each kind."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    plain, fused = job.path("plain.onnx"), job.path("fused.onnx")
    # Attention in plain products, and the exporter whose graphs the optimizer knows: with the
    # others it fuses no attention.
    model = _classifier(job, "eager")
    example = torch.ones(2, 8, dtype=torch.long)
    torch.onnx.export(
        model,
        (example, example, torch.zeros_like(example)),
        str(plain),
        dynamo=False,
        opset_version=17,
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "length"} for name in INPUTS},
    )
    config = model.config
    optimizer.optimize_model(
        str(plain),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    ).save_model_to_file(str(fused))
    logging.getLogger().setLevel(logging.ERROR)  # it advises what was done just now
    graphs: dict[str, list[Path]] = {"fp32": [plain, fused], "int8": []}
    for source in (plain, fused):
        for per_channel in (False, True):
            target = source.with_suffix(f".int8-{per_channel}.onnx")
            quantize_dynamic(
                source,
                target,
                weight_type=QuantType.QInt8,
                per_channel=per_channel,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
            graphs["int8"].append(target)
    fastest = {kind: _fastest(job, paths) for kind, paths in graphs.items()}
    job.path("onnx.json").write_text(json.dumps(fastest), encoding="utf-8")


def _classifier(job: Job, attention: str) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        job.model, attn_implementation=attention
    ).eval()


def _fastest(job: Job, graphs: list[Path], rounds: int = 5) -> str:
    """The name of the quickest graph on the usual shape of this job."""
    size = 1 if job.kind == "single" else job.batch_size
    ids = np.ones((size, max(2, round(job.mean_tokens))), dtype=np.int64)
    feed = {"input_ids": ids, "attention_mask": ids, "token_type_ids": np.zeros_like(ids)}
    sessions = {path.name: _session(job, path) for path in graphs}
    seconds = dict.fromkeys(sessions, float("inf"))
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feed)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return min(seconds, key=seconds.__getitem__)


def export_openvino(job: Job) -> None:
    """Write the model in OpenVINO's format, with weights as they are."""
    import openvino
    import torch

    example = torch.ones(2, 8, dtype=torch.long)
    inputs = dict.fromkeys(INPUTS, example)
    made = openvino.convert_model(_classifier(job, "sdpa"), example_input=inputs)
    openvino.save_model(made, job.path("openvino.xml"), compress_to_fp16=False)


# ---- what is measured ----


def onnx(job: Job, started: float, seed: int, *, graph: str) -> Found:
    """ONNX Runtime on the CPU; `graph` is "fp32" or "int8"."""
    name = json.loads(job.path("onnx.json").read_text(encoding="utf-8"))[graph]
    session = _session(job, job.path(name))

    def run(feeds: Iterator[Feed]) -> Iterator[NDArray[Any]]:
        return (session.run(None, feed)[0] for feed in feeds)

    return {**_measure(job, started, run), "note": name}


def _session(job: Job, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def openvino(job: Job, started: float, seed: int, *, precision: str) -> Found:
    """OpenVINO on the CPU; `precision` is "f32" or "bf16"."""
    import openvino

    single = job.kind == "single"
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": job.threads,
        "PERFORMANCE_HINT": "LATENCY" if single else "THROUGHPUT",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(job.path("openvino.xml")), "CPU", settings)

    def run_one(feeds: Iterator[Feed]) -> Iterator[NDArray[Any]]:
        return (compiled(feed)[0] for feed in feeds)

    def run_many(feeds: Iterator[Feed]) -> Iterator[NDArray[Any]]:
        # As many batches under way as the plan asks for. Waiting for the oldest one, and not a
        # callback from another thread: those were seen to hang when the queue was taken down.
        count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        free = [compiled.create_infer_request() for _ in range(count)]
        running: deque[Any] = deque()

        def finish() -> NDArray[Any]:
            request = running.popleft()
            request.wait()
            free.append(request)
            logits: NDArray[Any] = request.get_output_tensor().data.copy()
            return logits

        for feed in feeds:
            if not free:
                yield finish()
            request = free.pop()
            request.start_async(feed)
            running.append(request)
        while running:
            yield finish()

    return _measure(job, started, run_one if single else run_many)


def _measure(
    job: Job, started: float, run: Callable[[Iterator[Feed]], Iterator[NDArray[Any]]]
) -> Found:
    """Time from text to label; `run` gives the logits of each padded batch, in order."""
    tokenizer = Tokenizer.from_file(str(job.path("model/tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(job.max_length)

    def answer(texts: list[str]) -> list[int]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        batches = list(batches_of(by_length(ids), job.batch_size))
        found = [0] * len(texts)
        feeds = (_pad([ids[row] for row in rows]) for rows in batches)
        for rows, logits in zip(batches, run(feeds), strict=True):
            for row, label in zip(rows, logits.argmax(-1).tolist(), strict=True):
                found[row] = label
        return found

    if job.kind == "single":
        return time_single(job, started, lambda text: answer([text])[0])
    return time_bulk(
        job,
        started,
        answer,
        lambda texts, lengths: sorted(range(len(lengths)), key=lambda row: -lengths[row]),
    )


def _pad(ids: list[list[int]]) -> Feed:
    """A batch, padded to its longest text."""
    padded = np.zeros((len(ids), max(map(len, ids))), dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, each in enumerate(ids):
        padded[row, : len(each)] = each
        mask[row, : len(each)] = 1
    return {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}


EXPORTS = {"onnx": export_onnx, "openvino": export_openvino}

if __name__ == "__main__":
    EXPORTS[sys.argv[1]](Job.load(sys.argv[2]))
