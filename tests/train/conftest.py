"""What the tests of a step and of a run train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.train.small import STILL, Model, Rows, random_rows


@pytest.fixture
def make_model(tiny_config: Any) -> Callable[..., Model]:
    def make(**changes: Any) -> Model:
        torch.manual_seed(0)
        return Model(tiny_config(num_labels=3, **{**STILL, **changes})).train()

    return make


@pytest.fixture(scope="module")
def rows() -> Rows:
    return random_rows()
