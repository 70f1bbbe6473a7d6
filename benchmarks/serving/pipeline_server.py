"""What most people write: FastAPI, a transformers pipeline, a function that answers a text."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import transformers
from fastapi import FastAPI
from pydantic import BaseModel

transformers.logging.set_verbosity_error()
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
classify = transformers.pipeline(
    "text-classification", model=str(Path(os.environ["SERVED"], "model")), device="cpu"
)
app = FastAPI()


class Question(BaseModel):
    """What is asked."""

    text: str


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/classify")
def answer(question: Question) -> dict[str, object]:
    return dict(classify(question.text, truncation=True)[0])
