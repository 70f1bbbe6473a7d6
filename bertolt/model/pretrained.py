"""What every model class shares: the two doors, initialisation, loading and saving."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from bertolt.checkpoint import huggingface
from bertolt.checkpoint.report import LoadReport
from bertolt.config import BertConfig
from bertolt.console import say
from bertolt.data.batch import PackedBatch, PaddedLayout
from bertolt.errors import UsageError
from bertolt.model import initialize
from bertolt.model.attention import AttentionLayout, BackendChoice, choose_backend, prepare_layout


class PreTrainedModel(nn.Module):
    """Base of all models. A subclass builds its modules and then calls `init_weights`.

    Attributes:
        config: the shape it was built from.
        load_report: what `from_pretrained` loaded, or None.
        attention_backend: the chosen backend and the reason.
    """

    base_model_prefix = ""
    _keys_to_ignore_on_load_missing: Sequence[str] = ()
    _keys_to_ignore_on_load_unexpected: Sequence[str] = ()

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.load_report: LoadReport | None = None
        self.attention_backend: BackendChoice = choose_backend(torch.device("cpu"))

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module; override it for another rule."""
        initialize.init_weights(module, self.config.initializer_range)

    def init_weights(self) -> None:
        """Initialise every module of the model by `_init_weights`."""
        with torch.no_grad():
            self.apply(self._init_weights)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def num_parameters(self) -> int:
        """Elements of all parameters, ties counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def move(self, device: torch.device) -> Self:
        """To a device, with the attention backend chosen anew unless the user asked for one."""
        self.to(device)
        if not self.attention_backend.requested:
            self.set_attention_backend("auto")
        return self

    def set_attention_backend(self, name: str) -> BackendChoice:
        """Choose how attention is computed: "auto", or a backend by name.

        Raises:
            UsageError: there is no such backend.
        """
        choice = choose_backend(self.device, name)
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                module.attention_backend = choice
        return choice

    def prepare_layout(self, batch: PackedBatch) -> AttentionLayout:
        """Where the tokens of `batch` sit while attention is computed."""
        return prepare_layout(batch.cu_seqlens, batch.max_seqlen, batch.input_ids.shape[0])

    def enter(
        self,
        batch: PackedBatch | Tensor | None,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        labels: Tensor | None = None,
    ) -> tuple[PackedBatch, PaddedLayout | None]:
        """The model's two doors: take a packed batch as it is, or pack a padded one.

        Raises:
            UsageError: neither was given, or both; or a text longer than the position table.
        """
        if isinstance(batch, Tensor):
            batch, input_ids = None, batch
        if (batch is None) == (input_ids is None):
            raise UsageError(
                f"{type(self).__name__} takes a PackedBatch or input_ids, one of the two"
            )
        padded = None
        if batch is None:
            assert input_ids is not None
            batch, padded = PackedBatch.from_padded(
                input_ids, attention_mask, token_type_ids, position_ids, labels
            )
        if batch.max_seqlen > self.config.max_position_embeddings:
            raise UsageError(
                f"a text of {batch.max_seqlen} tokens is longer than the position table of "
                f"{self.config.max_position_embeddings}",
                fix="truncate it: tokenizer(..., truncation=True)",
            )
        return batch, padded

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        strict: bool = False,
        verbose: bool = True,
        seed: int = 0,
        **config_changes: Any,
    ) -> Any:
        """Build, initialise, overwrite with what the checkpoint has, and check every tensor.

        Args:
            name_or_path: a model folder, or the id of a model on the hub.
            output_loading_info: return `(model, LoadReport)` instead of the model.
            ignore_mismatched_sizes: keep initial values where the file's shape does not fit.
            strict: make any difference between model and file an error.
            verbose: print the report, folded, to standard error.
            seed: of the weights that the checkpoint does not have.
            config_changes: fields of the config to set, such as `num_labels=3`.

        Returns:
            The model, in evaluation mode, with its `load_report`.

        Raises:
            CheckpointError: nothing there, a broken file, or shapes that do not fit.
        """
        folder = huggingface.resolve(name_or_path)
        config = BertConfig.from_pretrained(folder).changed(**config_changes)
        model = cls._build_empty(config)
        report = huggingface.load(
            model,
            folder,
            seed=seed,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )
        if strict:
            report.require_exact()
        model.load_report = report
        model.eval()
        if verbose:
            say(str(report))
        return (model, report) if output_loading_info else model

    @classmethod
    def _build_empty(cls, config: BertConfig) -> Self:
        """The model with undefined parameters, to be initialised or overwritten one by one.

        On the meta device building costs nothing. A subclass with buffers computes them while it
        is built, so it is built in earnest.
        """
        with torch.device("meta"):
            model = cls(config)
        if any(True for _ in model.buffers()):
            with torch.random.fork_rng(devices=[]):
                return cls(config)
        return model.to_empty(device="cpu")

    def initial_rule(self, key: str) -> str:
        """By which rule the parameter `key` was initialised, in words."""
        if type(self)._init_weights is not PreTrainedModel._init_weights:
            return f"{type(self).__name__}._init_weights"
        path, _, name = key.rpartition(".")
        return initialize.rule_of(name, self.get_submodule(path), self.config.initializer_range)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors`, readable by `transformers` too.

        Raises:
            BertoltError: the folder cannot be written; files in it are then as they were.
        """
        huggingface.save(self, directory)
