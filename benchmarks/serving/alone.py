"""The engines by themselves: the same texts in the same process, without a server.

python -m benchmarks.serving.alone FOLDER ENGINE SECONDS
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.serving.prepare import Material

BATCH = 64
"""Texts that 64 clients have under way."""


def _predictor(folder: Path, engine: str) -> Callable[[list[str]], Any]:
    from bertolt.tasks.predictor import Predictor

    settings: dict[str, Any] = {} if engine == "torch" else {"engine": engine}
    predictor = Predictor.from_pretrained(folder / "model", **settings)
    return lambda texts: list(predictor.predict(texts))


def _fastest(folder: Path) -> Callable[[list[str]], Any]:
    """The engine that `serve --engine auto` would take, measured once for a folder."""
    from bertolt.commands.engines import choose
    from bertolt.tasks.predictor import Predictor

    path, material = folder / "choice.json", Material(folder)
    if not path.is_file():
        found = choose(str(material.model), folder / "engines", material.held_out, by="serving")
        path.write_text(json.dumps(found.to_dict()), encoding="utf-8")
    choice = json.loads(path.read_text(encoding="utf-8"))
    predictor = Predictor.from_pretrained(
        choice["folder"], precision=choice["precision"], engine=choice["engine"]
    )
    return lambda texts: list(predictor.predict(texts))


def _onnx(folder: Path) -> Callable[[list[str]], Any]:
    os.environ["SERVED"] = str(folder)
    from benchmarks.serving.onnx_server import MOST, Model

    model = Model(folder, int(os.environ["OMP_NUM_THREADS"]))

    def answer(texts: list[str]) -> Any:
        ids = sorted((model.ids(text) for text in texts), key=len)
        return [model.shares(ids[n : n + MOST]) for n in range(0, len(ids), MOST)]

    return answer


def measure(folder: Path, engine: str, seconds: float) -> dict[str, Any]:
    """Milliseconds of one text, texts a second of many, and what either takes of the processor."""
    material = Material(folder)
    opened = {"ort-int8": _onnx, "auto": _fastest}.get(engine, partial(_predictor, engine=engine))
    answer = opened(folder)
    texts = material.texts
    for text in texts[:20]:
        answer([text])
    taken, row = [], 0
    cpu, end = time.process_time(), time.perf_counter() + seconds / 2
    while (begin := time.perf_counter()) < end:
        answer([texts[row % len(texts)]])
        taken.append(1000 * (time.perf_counter() - begin))
        row += 1
    one = 1000 * (time.process_time() - cpu) / row
    answer(texts[:BATCH])
    cpu, begin, done = time.process_time(), time.perf_counter(), 0
    while (now := time.perf_counter()) < begin + seconds / 2:
        answer([texts[(done + n) % len(texts)] for n in range(BATCH)])
        done += BATCH
    return {
        "p50_ms": statistics.median(taken),
        "cpu_ms_one": one,
        "texts_per_second": done / (now - begin),
        "cpu_ms_many": 1000 * (time.process_time() - cpu) / done,
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))
