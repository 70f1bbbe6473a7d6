"""The choice of a number format, and its reason."""

from __future__ import annotations

import pytest
import torch

from bertolt.base.errors import UsageError
from bertolt.models import precision
from bertolt.models.precision import choose_precision

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


@pytest.mark.parametrize(("small", "gain"), [(0.02, 0.02), (0.9, 1.9)])
def test_a_large_product_is_not_tried_where_a_small_one_takes_for_ever(
    small: float, gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {precision._SMALL_SHAPE: small, precision._PROBE_SHAPE: 1.9}
    monkeypatch.setattr(precision, "_gain", found.__getitem__)
    assert precision._bf16_gain.__wrapped__() == gain


def test_another_name_is_refused() -> None:
    with pytest.raises(UsageError, match="'fp8'") as caught:
        choose_precision("fp8", CPU)
    assert "bf16" in caught.value.fix
