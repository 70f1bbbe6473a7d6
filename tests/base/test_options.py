"""One validator of options: what a field does not allow is refused, with the option and the fix."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bertolt.base.errors import UsageError
from bertolt.base.options import (
    FREE,
    SEED,
    above,
    at_least,
    check_options,
    deciding,
    seen_in,
    share,
)
from bertolt.commands.check.options import CheckOptions
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.predict_options import PredictOptions
from bertolt.commands.search_options import SearchOptions
from bertolt.corpus.options import PrepareOptions, TokenizerOptions
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.plan import PlanOptions
from bertolt.train.arguments import TrainingArguments

EVERY = (
    CheckOptions,
    EvaluateOptions,
    FinetuneOptions,
    PlanOptions,
    PredictOptions,
    PrepareOptions,
    PretrainOptions,
    SearchOptions,
    TokenizerOptions,
    TrainingArguments,
)


@dataclass(kw_only=True)
class Options:
    count: int = field(default=1, metadata=at_least(1))
    rate: float = field(default=0.5, metadata=above(0))
    part: float | None = field(default=None, metadata=share(0.2) | FREE)
    whole: float = field(default=0.0, metadata=share(0.2, zero=True, one=True))
    seed: int = field(default=0, metadata=SEED)
    keep: int | Literal["best"] = field(default=2, metadata=at_least(1) | seen_in("kept"))
    name: str | None = None
    folder: Path = Path()
    quick: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"count": np.int64(3), "rate": np.float32(0.5)},
        {"rate": 2, "part": 0.999, "whole": 0},
        {"whole": 1, "seed": 2**63 - 1},
        {"keep": "best", "name": "", "extra": {"a": 1}, "folder": Path("x")},
    ],
)
def test_what_is_allowed_passes(values: dict[str, Any]) -> None:
    check_options(Options(**values))


@pytest.mark.parametrize(
    ("values", "problem", "fix"),
    [
        ({"count": 0}, "--count is 0", "give 1 or more"),
        ({"count": 2**63}, f"--count is {2**63}", "give 1 or more, below 2**63"),
        ({"rate": 10**400}, f"--rate is 1{'0' * 198}…", "give a number above 0, below 2**63"),
        ({"count": 2.0}, "--count is 2.0", "give 1 or more"),
        ({"count": True}, "--count is True", "give 1 or more"),
        ({"count": None}, "--count is None", "give 1 or more"),
        ({"rate": 0}, "--rate is 0", "give a number above 0"),
        ({"rate": math.inf}, "--rate is inf", "give a number above 0"),
        ({"rate": "0.1"}, "--rate is '0.1'", "give a number above 0"),
        ({"part": 1}, "--part is 1", "give a share above 0 to below 1, as 0.2"),
        ({"part": math.nan}, "--part is nan", "give a share above 0 to below 1, as 0.2"),
        ({"whole": 1.01}, "--whole is 1.01", "give a share from 0 to 1, as 0.2"),
        ({"seed": 2**63}, f"--seed is {2**63}", "give 0 or more, below 2**63"),
        ({"keep": "last"}, "--keep is 'last'", "give 1 or more, or best"),
        ({"keep": 0}, "--keep is 0", "give 1 or more, or best"),
        ({"name": 3}, "--name is 3", "give a text"),
        ({"quick": "yes"}, "--quick is 'yes'", "give True or False"),
    ],
)
def test_what_is_not_is_refused_with_the_option_and_the_fix(
    values: dict[str, Any], problem: str, fix: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_options(Options(**values))
    assert (caught.value.problem, caught.value.fix) == (problem, fix)


def test_a_name_and_a_place_of_ones_own() -> None:
    with pytest.raises(UsageError, match=r"^Here: COUNT is 0\n"):
        check_options(Options(count=0), shown=str.upper, place="Here")


def test_what_is_said_of_a_field_can_be_joined() -> None:
    assert set(deciding(Options())) == {
        *("--count", "--rate", "--whole", "--seed"),
        *("--name", "--folder", "--quick", "--extra"),
    }


@pytest.mark.parametrize("kind", EVERY)
def test_every_number_of_every_command_has_a_range_or_takes_any(kind: type) -> None:
    """No class of options checks by itself what its fields can say."""
    free = {"max_steps"}  # -1 stands for no limit
    for option in fields(kind):
        annotation = str(option.type)
        if not option.metadata.get("checked", True):
            continue  # it is the peer's, and does nothing here
        if option.name not in free and ("int" in annotation or "float" in annotation):
            assert "range" in option.metadata, option.name


@pytest.mark.parametrize("kind", EVERY)
def test_every_number_of_every_command_refuses_nan(kind: Any) -> None:
    for option in fields(kind):
        if "range" in option.metadata:
            with pytest.raises(UsageError, match=r"\bnan\b"):
                kind(**{option.name: math.nan})
    assert "check_options" in inspect.getsource(inspect.getmodule(kind) or kind)
