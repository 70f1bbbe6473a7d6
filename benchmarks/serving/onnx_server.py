"""What those write who care: ONNX Runtime int8 and batches of what waits, up to 32 texts, sorted by
length and padded to the longest, as infinity and text-embeddings-inference do it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

from benchmarks.runtimes import _pad

MOST = 32
FOLDER = Path(os.environ["SERVED"])
Waiting = tuple[list[int], asyncio.Future[list[float]]]


class Model:
    """The tokenizer and the graph that was fastest."""

    def __init__(self, folder: Path, threads: int) -> None:
        name = json.loads((folder / "onnx.json").read_text())["int8"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            folder / name, options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(json.loads((folder / "limit.json").read_text()))
        config = json.loads((folder / "model" / "config.json").read_text())
        self.labels = [config["id2label"][str(n)] for n in range(len(config["id2label"]))]

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text).ids)

    def shares(self, ids: list[list[int]]) -> list[list[float]]:
        """The probabilities of each text of a batch."""
        logits = self.session.run(None, _pad(ids))[0]
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        shares: list[list[float]] = (odds / odds.sum(-1, keepdims=True)).tolist()
        return shares


model = Model(FOLDER, int(os.environ["OMP_NUM_THREADS"]))
waiting: asyncio.Queue[Waiting] = asyncio.Queue()


async def _answer_batches() -> None:
    loop, worker = asyncio.get_running_loop(), ThreadPoolExecutor(1)
    while True:
        batch = [await waiting.get()]
        while not waiting.empty():
            batch.append(waiting.get_nowait())
        batch.sort(key=lambda each: len(each[0]))
        for begin in range(0, len(batch), MOST):
            part = batch[begin : begin + MOST]
            shares = await loop.run_in_executor(worker, model.shares, [ids for ids, _ in part])
            for (_, future), each in zip(part, shares, strict=True):
                if not future.done():
                    future.set_result(each)


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    task = asyncio.create_task(_answer_batches())
    yield
    task.cancel()


app = FastAPI(lifespan=_life)


class Question(BaseModel):
    """What is asked."""

    text: str


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/classify")
async def answer(question: Question) -> dict[str, object]:
    future: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
    waiting.put_nowait((model.ids(question.text), future))
    shares = await future
    best = max(range(len(shares)), key=shares.__getitem__)
    return {"label": model.labels[best], "score": shares[best]}
