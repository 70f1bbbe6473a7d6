"""The choice of a number format, and its reason."""

from __future__ import annotations

import pytest
import torch

from bertolt.errors import UsageError
from bertolt.model.precision import choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_what_is_asked_for_is_taken(name: str, dtype: torch.dtype) -> None:
    choice = choose_precision(name, CPU)
    assert (choice.name, choice.dtype, choice.reason) == (name, dtype, "as requested")
    with choice.autocast(CPU):
        assert torch.is_autocast_enabled("cpu") == (name == "bf16")
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype


def test_auto_measures_and_says_what_it_found() -> None:
    choice = choose_precision("auto", CPU)
    assert choice.name in ("fp32", "bf16")
    assert "times as fast" in choice.reason
    assert choose_precision("auto", CPU) == choice


def test_another_name_is_refused() -> None:
    with pytest.raises(UsageError, match="'fp8'") as caught:
        choose_precision("fp8", CPU)
    assert "bf16" in caught.value.fix
