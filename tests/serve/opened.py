"""How the tests of the server open a model, and the key of who may load one."""

from __future__ import annotations

from bertolt import Predictor

RULER = "a-key-of-those-who-rule"


def fp32(folder: str, task: str | None = None) -> Predictor:
    return Predictor.from_pretrained(folder, task=task, precision="fp32")
