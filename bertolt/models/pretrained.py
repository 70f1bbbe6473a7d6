"""What every model class shares: initialisation, ties, devices, loading and saving."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
from torch import nn

from bertolt.base.console import info
from bertolt.base.errors import CheckpointError
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.report import LoadReport
from bertolt.data.batch import PackedBatch
from bertolt.models import initialize
from bertolt.models.attention import AttentionLayout, BackendChoice, choose_backend, prepare_layout
from bertolt.models.config import BertConfig
from bertolt.models.doors import TwoDoors
from bertolt.models.families.base import family_of, read_config
from bertolt.models.precision import weights_format
from bertolt.models.resize import follow_table, resize_vocabulary


class PreTrainedModel(TwoDoors):
    """Base of all models. A subclass builds its modules and then calls `init_weights`.

    Attributes:
        config: the shape it was built from.
        load_report: what `from_pretrained` loaded, or None.
        has_learned: a loss has been computed to learn from since the model was made.
        attention_backend: the chosen backend and the reason.
    """

    config_class: ClassVar[type[BertConfig] | None] = None
    """The config of the family that the class is of; None for a head as all families have it."""
    _tied_weights_keys: ClassVar[Mapping[str, str]] = {}
    """Name of a parameter to the one whose memory it shares, if `config.tie_word_embeddings`."""

    def __new__(cls, config: BertConfig | None = None, *_: Any, **__: Any) -> Self:
        """A head as all families have it is built as the class that the config's family has."""
        kind = cls.of_family(config) if isinstance(config, BertConfig) else cls
        return super().__new__(kind)

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.base_model_prefix = family_of(config.model_type).prefix
        self.load_report: LoadReport | None = None
        self.has_learned = False
        self.attention_backend: BackendChoice = choose_backend(torch.device("cpu"))

    @classmethod
    def of_family(cls, config: BertConfig) -> type[Self]:
        """This class, or for a head as all families have it, the class of the config's family.

        Raises:
            CheckpointError: the class is of another family than the config.
        """
        family = family_of(config.model_type)
        if cls.config_class is None:
            return cast(type[Self], family.class_for(cls) or cls)
        if cls.config_class.model_type == config.model_type:
            return cls
        own = cls.config_class.model_type
        fitting = family.counterpart(cls, family_of(own))
        raise CheckpointError(
            f"model_type is {config.model_type!r}, and {cls.__name__} is for {own!r} models",
            place="config",
            fix=f"use {fitting.__name__}" if fitting else f"choose a checkpoint of type {own!r}",
        )

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module's parameters; override it for another rule.

        In `from_pretrained` it is called for what the file lacks alone.
        """
        initialize.init_weights(module, self.config.initializer_range)

    def init_weights(self) -> None:
        """Initialise every module of the model by `_init_weights`, and tie what is tied."""
        if initialize.init_enabled():
            self.run_init_rule()
        self.tie_weights()

    @torch.no_grad()
    def run_init_rule(self, only: Container[str] | None = None) -> None:
        """Call `_init_weights` for each module, children before parents.

        Args:
            only: paths of the modules; None for all.
        """
        # What has two owners is left as its source's rule leaves it: with a padding row of zeros.
        second = {alias.rpartition(".")[0] for alias in self.tied_weights()}
        upwards = reversed(list(self.named_modules()))
        for path, module in sorted(upwards, key=lambda found: found[0] not in second):
            if only is None or path in only:
                self._init_weights(module)

    def tied_weights(self) -> dict[str, str]:
        """Name of each parameter that shares another's memory, and the name of the other."""
        return dict(self._tied_weights_keys) if self.config.tie_word_embeddings else {}

    def tie_weights(self) -> None:
        """Let the parameters of `tied_weights` share their memory."""
        for alias, source in self.tied_weights().items():
            path, _, name = alias.rpartition(".")
            setattr(self.get_submodule(path), name, self.get_parameter(source))

    def untie_weights(self) -> None:
        """Give the output embeddings their own memory, and say so in the config."""
        before = self.tied_weights()
        self.change_config(tie_word_embeddings=False)
        for alias in before.keys() - self.tied_weights().keys():
            path, _, name = alias.rpartition(".")
            own = self.get_parameter(alias).detach().clone()
            setattr(self.get_submodule(path), name, nn.Parameter(own))

    def change_config(self, **changes: Any) -> None:
        """Set fields of the config here and in the models inside that share it.

        Other models that were built from the same config object keep theirs.
        """
        # An encoder whose own vocabulary was resized has a config of its own until it is followed.
        before = (self.config, self.base_model.config)
        after = self.config.changed(**changes)
        for module in self.modules():
            if isinstance(module, PreTrainedModel) and any(module.config is it for it in before):
                module.config = after

    @property
    def base_model(self) -> Any:
        """The backbone: what a head stands on, or the model itself."""
        return getattr(self, self.base_model_prefix, self)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of word embeddings."""
        table: nn.Embedding = self.base_model.embeddings.word_embeddings
        return table

    def get_output_embeddings(self) -> nn.Linear | None:
        """The layer from hidden states to the vocabulary, or None."""
        return None

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        *,
        seed: int = 0,
    ) -> nn.Embedding:
        """Let the vocabulary grow or shrink at its end; what stays, stays as it is.

        New rows come from `_init_weights`. Ties stay, and so does the row of the padding. An
        optimizer that was built before goes on training the old parameters: build it afterwards.

        Args:
            new_num_tokens: rows of the table, for instance `len(tokenizer)`; None: as many as now.
            pad_to_multiple_of: round that up.
            seed: of the new rows.

        Returns:
            The table of word embeddings.

        Raises:
            UsageError: no size, or one too small for the padding token.
        """
        return resize_vocabulary(self, new_num_tokens, pad_to_multiple_of, seed)

    def gradient_checkpointing_enable(self, enable: bool = True) -> None:
        """While training, keep less for the backward pass and compute it again there."""
        for module in self.modules():
            if isinstance(getattr(module, "gradient_checkpointing", None), bool):
                module.gradient_checkpointing = enable  # type: ignore[assignment]

    def gradient_checkpointing_disable(self) -> None:
        """Keep all that the backward pass needs."""
        self.gradient_checkpointing_enable(False)

    def num_parameters(self) -> int:
        """Elements of all parameters, ties counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def move(self, device: torch.device, dtype: torch.dtype | None = None) -> Self:
        """To a device, with the attention backend chosen anew unless the user asked for one.

        Args:
            device: to run on.
            dtype: the number format that forward passes will run in, if it is known.
        """
        self.to(device)
        self._choose_attention(dtype)
        return self

    def after_move(self, before: torch.device) -> None:
        """Choose again how to attend: another device may have another way."""
        if self.device != before:
            self._choose_attention()

    def _choose_attention(self, dtype: torch.dtype | None = None) -> None:
        asked = self.attention_backend
        self.set_attention_backend(asked.name if asked.requested else "auto", dtype=dtype)

    def set_attention_backend(
        self, name: str, *, dtype: torch.dtype | None = None
    ) -> BackendChoice:
        """Choose how attention is computed: "auto", or a backend by name.

        Args:
            name: of the backend.
            dtype: the number format that forward passes will run in, if it is known.

        Raises:
            UsageError: there is no such backend, or it cannot run here.
        """
        head_size = self.config.hidden_size // self.config.num_attention_heads
        choice = choose_backend(self.device, name, head_size=head_size, dtype=dtype)
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                module.attention_backend = choice
        return choice

    def prepare_layout(self, batch: PackedBatch) -> AttentionLayout:
        """Where the tokens of `batch` sit while attention is computed."""
        causal = self.config.is_decoder
        return prepare_layout(
            batch,
            heads=self.config.num_attention_heads,
            causal=causal,
            backend=self.attention_backend.name,
        )

    def require_trained(self, purpose: str) -> None:
        """Refuse weights that no training has touched; a forward pass to learn from counts as one.

        Raises:
            CheckpointError: the checkpoint lacked parameters, and the model has not learned since.
        """
        if self.load_report is not None and not self.has_learned:
            self.load_report.require_trained(purpose)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        config: BertConfig | str | os.PathLike[str] | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        strict: bool = False,
        keys_to_ignore_on_load_missing: str | Sequence[str] = (),
        keys_to_ignore_on_load_unexpected: str | Sequence[str] = (),
        verbose: bool = True,
        seed: int = 0,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        **config_changes: Any,
    ) -> Any:
        """Build, initialise, overwrite with what the checkpoint has, and check every tensor.

        Args:
            name_or_path: a model folder, or the id of a model on the hub.
            config: to build the model by, in place of the folder's own: a config, or its folder.
            dtype, torch_dtype: of the weights, as "bfloat16"; "auto": the config's; None: float32.
            output_loading_info: return `(model, LoadReport)` instead of the model.
            ignore_mismatched_sizes: keep initial values where the file's shape does not fit.
            strict: make any difference between model and file an error.
            keys_to_ignore_on_load_missing, keys_to_ignore_on_load_unexpected: regular expressions
                for names whose absence from the file, or from the model, is as it should be;
                beside the class's own.
            verbose: print the report, folded, to standard error.
            seed: of the weights that the checkpoint does not have.
            revision: a branch, tag or commit on the hub.
            cache_dir: the hub's cache, when not the usual one.
            local_files_only: take only what the cache has.
            config_changes: fields of the config to set, such as `num_labels=3`.

        Returns:
            The model, in evaluation mode, with its `load_report`.

        Raises:
            CheckpointError: nothing there, a model of another family, a broken file, shapes that do
                not fit, or, with `strict`, any difference.
            UsageError: a name that is no field of the config, a pattern that is none.
        """
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        folder = huggingface.resolve(name_or_path, hub)
        if not isinstance(config, BertConfig):
            config = read_config(folder if config is None else config)
        config = config.changed(**config_changes)
        to_format = weights_format(torch_dtype if dtype is None else dtype, config)
        model = cls._kind_for(config, str(folder))._build_empty(config)
        with initialize.force_init():
            report = huggingface.load(
                model,
                folder,
                seed=seed,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
                ignore_missing=keys_to_ignore_on_load_missing,
                ignore_unexpected=keys_to_ignore_on_load_unexpected,
            )
        if strict:
            report.require_exact()
        model.load_report = report
        model.eval()
        model.to(to_format)
        if verbose:
            info(str(report))
        return (model, report) if output_loading_info else model

    @classmethod
    def _kind_for(cls, config: BertConfig, folder: str) -> type[Self]:
        try:
            return cls.of_family(config)
        except CheckpointError as error:
            raise CheckpointError(error.problem, place=folder, fix=error.fix) from error

    @classmethod
    def _build_empty(cls, config: BertConfig) -> Self:
        """The model with undefined parameters, to be initialised or overwritten one by one.

        A subclass with buffers computes them while it is built, so it is built in earnest. What
        else it draws by `nn.init`, and is neither a parameter nor a buffer, is undefined too.
        """
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            with initialize.skip_init():
                model = cls(config)
            if any(True for _ in model.buffers()):
                with initialize.force_init():
                    return cls(config)
        # A layer that a subclass has put in after `init_weights` is not tied yet.
        model.tie_weights()
        return model

    @classmethod
    def rebuilt(cls, model: PreTrainedModel, weights: dict[str, Any]) -> Self:
        """A model of this class with the whole weights of `model`, and all that it knows."""
        copy = cls._build_empty(model.config)
        copy.load_state_dict(weights)
        copy.load_report, copy.has_learned = model.load_report, model.has_learned
        copy.attention_backend = model.attention_backend
        return copy.move(model.device).train(model.training)

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
        follow_table(self)
        huggingface.save(self, directory)
