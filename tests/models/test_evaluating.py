"""Evaluation mode for a while, also where several threads answer with one model."""

from __future__ import annotations

from torch import nn

from bertolt.models.evaluating import evaluating


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_each_module_is_afterwards_as_it_was() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    before = modes(model)
    with evaluating(model):
        assert modes(model) == [False] * 4
    assert modes(model) == before == [True, True, False, False]


def test_the_last_to_end_puts_training_mode_back() -> None:
    model = nn.Sequential(nn.Dropout())
    first, second = evaluating(model), evaluating(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert modes(model) == [False, False], "the second is still answering"
    second.__exit__(None, None, None)
    assert modes(model) == [True, True]
    with evaluating(model):
        assert modes(model) == [False, False]
    assert modes(model) == [True, True]


def test_training_mode_that_comes_meanwhile_comes_back_at_the_end() -> None:
    model = nn.Sequential(nn.Dropout())
    model.eval()
    with evaluating(model):
        model.train()
        with evaluating(model):
            assert modes(model) == [False, False]
        assert modes(model) == [True, True]
    assert modes(model) == [True, True]
