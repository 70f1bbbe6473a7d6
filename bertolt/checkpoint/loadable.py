"""What reading and writing weights needs of a model: the base of every `PreTrainedModel`."""

from __future__ import annotations

import abc
from collections.abc import Container, Sequence
from typing import Any

from torch import Tensor, nn

from bertolt.base.torch_private import MovedModule


class Loadable(MovedModule):
    """A model whose weights are read from a folder, written to one, and resized.

    Attributes:
        config: its shape; knows how to save itself.
        base_model_prefix: what the keys of its backbone begin with in files of a model with a head.
        has_learned: a loss has been computed to learn from since the model was made.
    """

    base_model_prefix: str
    _keys_to_ignore_on_load_missing: Sequence[str] = ()
    _keys_to_ignore_on_load_unexpected: Sequence[str] = ()
    config: Any
    has_learned: bool
    tied_to: list[Tensor]
    """The table that the decoder was last seen to share, if it shares one."""

    @abc.abstractmethod
    def get_input_embeddings(self) -> nn.Embedding:
        """The table of word embeddings."""

    @abc.abstractmethod
    def get_output_embeddings(self) -> nn.Linear | None:
        """The layer from hidden states to the vocabulary, or None."""

    @abc.abstractmethod
    def tied_weights(self) -> dict[str, str]:
        """Name of each parameter that shares another's memory, and the name of the other."""

    @abc.abstractmethod
    def tie_weights(self) -> None:
        """Let the parameters of `tied_weights` share their memory."""

    @abc.abstractmethod
    def untie_weights(self) -> None:
        """Give the output embeddings their own memory, and say so in the config."""

    @abc.abstractmethod
    def change_config(self, **changes: Any) -> None:
        """Set fields of the config here and in the models inside that share it."""

    @abc.abstractmethod
    def run_init_rule(self, only: Container[str] | None = None) -> None:
        """Initialise the modules of these paths, or all, by the model's own rule."""

    @abc.abstractmethod
    def initial_rule(self, key: str) -> str:
        """By which rule the parameter `key` was initialised, in words."""

    @abc.abstractmethod
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module's parameters."""
