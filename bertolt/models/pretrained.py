"""What every model class shares: initialisation, ties, devices, loading and saving."""

from __future__ import annotations

import inspect
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
from torch import nn

from bertolt.base.console import info
from bertolt.base.errors import CheckpointError, KeywordError, UsageError
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.report import LoadReport
from bertolt.data.batch import PackedBatch
from bertolt.models import initialize
from bertolt.models.attention import AttentionLayout, BackendChoice, choose_backend, prepare_layout
from bertolt.models.config import BertConfig
from bertolt.models.doors import TwoDoors
from bertolt.models.families.base import family_of, read_config
from bertolt.models.given_weights import require_unwrapped_names, tell_of_shapes, weights_for
from bertolt.models.peer_names import one_of, require_harmless, require_present, take_loading
from bertolt.models.precision import weights_format
from bertolt.models.resize import follow_table, put_decoder, require_table, resize_vocabulary


class PreTrainedModel(TwoDoors):
    """Base of all models. A subclass builds its modules and then calls `post_init`.

    A subclass with a `forward` of its own learns from those of its arguments that are called like a
    target, as `labels`; one whose labels are of tokens says `labels_per_token = True`.

    Attributes:
        config: the shape it was built from.
        base_model_prefix: the attribute that holds the backbone; by default that of the family.
        name_or_path: what `from_pretrained` was given, or empty.
        load_report: what `from_pretrained` loaded, or None.
        has_learned: a loss has been computed to learn from since the model was made.
        attention_backend: the chosen backend and the reason.
    """

    _built_with: tuple[tuple[Any, ...], dict[str, Any]]
    config_class: ClassVar[type[BertConfig] | None] = None
    """The config of the family that the class is of; None for a head as all families have it."""
    _tied_weights_keys: ClassVar[Mapping[str, str]] = {}
    """Name of a parameter to the one whose memory it shares, if `config.tie_word_embeddings`."""

    _output_layer: ClassVar[str] = ""
    """Path of the layer that gives an output for each label, or for each choice; empty: a head has
    no such layer, or its outputs mean the same in every folder."""

    supports_gradient_checkpointing: ClassVar[bool] = True
    main_input_name: ClassVar[str] = "input_ids"

    def __new__(cls, config: BertConfig | None = None, *more: Any, **named: Any) -> Self:
        """A head as all families have it is built as the class that the config's family has."""
        kind = cls.of_family(config) if isinstance(config, BertConfig) else cls
        model = super().__new__(kind)
        object.__setattr__(model, "_built_with", (more, named))
        return model

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        if not isinstance(config, BertConfig):
            raise KeywordError(
                f"{type(self).__name__} is built from a config, and this is {config!r:.60}",
                fix="give a BertConfig; a folder or an id goes to from_pretrained",
            )
        config.check()
        self.config = config
        if not hasattr(type(self), "base_model_prefix"):
            self.base_model_prefix = family_of(config.model_type).prefix
        self.name_or_path = ""
        self.tied_to = []
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

    def post_init(self) -> None:
        """Initialise and tie a model whose modules are all built, as `init_weights` does."""
        self.init_weights()

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

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As of every module; names that a wrapper has lengthened are refused as such.

        Raises:
            WeightsError: a RuntimeError, with the line that shortens them.
            RuntimeError: with `strict`, names that are not the model's own.
        """
        require_unwrapped_names(self, state_dict)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def tie_weights(self) -> None:
        """Let the parameters of `tied_weights` share their memory."""
        for alias, source in self.tied_weights().items():
            path, _, name = alias.rpartition(".")
            setattr(self.get_submodule(path), name, self.get_parameter(source))
        if (decoder := self.get_output_embeddings()) is not None:
            self.tied_to[:] = [decoder.weight]

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

    @property
    def num_labels(self) -> int:
        """C, as the config has it, or what a class of one's own has set."""
        return int(vars(self).get("_num_labels", self.config.num_labels))

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if count != self.config.num_labels:
            object.__setattr__(self, "_num_labels", count)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the parameters."""
        return next(self.parameters()).dtype

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    @classmethod
    def can_generate(cls) -> bool:
        """Whether it writes texts."""
        return hasattr(cls, "generate")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            require_present(type(self).__name__, name)
            raise

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of word embeddings."""
        table: nn.Embedding = self.base_model.embeddings.word_embeddings
        return table

    def set_input_embeddings(self, table: nn.Embedding) -> None:
        """Put another table of word embeddings in, of as many columns; what is tied follows it.

        Raises:
            UsageError: it is no table of that width.
        """
        require_table(table, self.config)
        self.base_model.embeddings.word_embeddings = table
        follow_table(self)

    def set_output_embeddings(self, decoder: nn.Linear) -> None:
        """Put another layer to the vocabulary in.

        Raises:
            UsageError: the model has none, or the layer has another shape.
        """
        put_decoder(self, decoder)
        self.tie_weights()

    def get_position_embeddings(self) -> nn.Embedding:
        """The table of position embeddings."""
        table: nn.Embedding = self.base_model.embeddings.position_embeddings
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

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | bool | None = None
    ) -> None:
        """While training, keep less for the backward pass and compute it again there.

        Args:
            gradient_checkpointing_kwargs: as of the peer's; there is one way here, without
                re-entrant passes, and the numbers are the same. False: keep everything again.
        """
        if gradient_checkpointing_kwargs is False:
            self.gradient_checkpointing_disable()
            return
        if gradient_checkpointing_kwargs is True:
            gradient_checkpointing_kwargs = None
        if (gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            info("gradient checkpointing: use_reentrant=True changes nothing, and is left out")
        self._checkpoint_gradients(True)

    def _checkpoint_gradients(self, enable: bool) -> None:
        for module in self.modules():
            if isinstance(getattr(module, "gradient_checkpointing", None), bool):
                module.gradient_checkpointing = enable  # type: ignore[assignment]

    def gradient_checkpointing_disable(self) -> None:
        """Keep all that the backward pass needs."""
        self._checkpoint_gradients(False)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Elements of all parameters, ties counted once.

        Args:
            only_trainable: without those that require no gradient.
            exclude_embeddings: without tables of embeddings, and what is tied to them.
        """
        tables = {
            id(each.weight)
            for each in self.modules()
            if exclude_embeddings and isinstance(each, nn.Embedding)
        }
        return sum(
            each.numel()
            for each in self.parameters()
            if id(each) not in tables and (each.requires_grad or not only_trainable)
        )

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters, and of the buffers unless `return_buffers` is False."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(each.numel() * each.element_size() for each in tensors)

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
        if self.load_report is not None and not self._has_learned_inside():
            self.load_report.require_trained(purpose)

    def _has_learned_inside(self) -> bool:
        """Whether it has learned, or the encoder of a class with a `forward` of its own."""
        models = (each for each in self.modules() if isinstance(each, PreTrainedModel))
        return any(each.has_learned for each in models)

    @classmethod
    def from_config(
        cls,
        config: BertConfig,
        *,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
    ) -> Any:
        """A new model of this class, or as the config's family has it, with initial weights."""
        return cls(config).to(weights_format(torch_dtype if dtype is None else dtype, config))

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *model_args: Any,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        config: BertConfig | str | os.PathLike[str] | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        strict: bool = False,
        keys_to_ignore_on_load_missing: str | Sequence[str] = (),
        keys_to_ignore_on_load_unexpected: str | Sequence[str] = (),
        keys_to_start_anew: str | Sequence[str] = (),
        verbose: bool = True,
        seed: int = 0,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        device_map: str | int | torch.device | None = None,
        **config_changes: Any,
    ) -> Any:
        """Build, initialise, overwrite with what the checkpoint has, and check every tensor.

        Args:
            name_or_path, pretrained_model_name_or_path: a model folder, or the id of a model on the
                hub.
            model_args: what the class is built with behind its config.
            config: to build the model by, in place of the folder's own: a config, or its folder.
            dtype, torch_dtype: of the weights, as "bfloat16"; "auto": the config's; None: float32.
            output_loading_info: return `(model, LoadReport)` instead of the model.
            ignore_mismatched_sizes: keep initial values where the file's shape does not fit.
            strict: make any difference between model and file an error.
            keys_to_ignore_on_load_missing, keys_to_ignore_on_load_unexpected: regular expressions
                for names whose absence from the file, or from the model, is as it should be;
                beside the class's own.
            keys_to_start_anew: regular expressions for parameters that keep their initial values,
                whatever the file has for them.
            verbose: print the report, folded, to standard error.
            seed: of the weights that the checkpoint does not have.
            revision: a branch, tag or commit on the hub.
            cache_dir: the hub's cache, when not the usual one.
            local_files_only: take only what the cache has.
            device_map: where the model is to be, as "cuda:1"; "auto": a GPU if there is one.
            config_changes: fields of the config to set, such as `num_labels=3`; arguments that the
                class is built with, such as `add_pooling_layer=False`; and what else the peer's
                takes, which is said where it changes nothing.

        Returns:
            The model, in evaluation mode, with its `load_report`.

        Raises:
            CheckpointError: nothing there, a model of another family, a broken file, shapes that do
                not fit, or, with `strict`, any difference.
            UsageError: a name that is no field of the config, a pattern that is none, an argument
                that is not supported.
        """
        # All of the above is long because the arguments are the peer's.
        name_or_path = one_of(name_or_path, pretrained_model_name_or_path)
        named = {name: config_changes.pop(name) for name in cls._own_arguments(config_changes)}
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        device, hub = _device_of(device_map), hub | take_loading(config_changes)
        folder = huggingface.resolve(name_or_path, hub)
        if not isinstance(config, BertConfig):
            config = read_config(folder if config is None else config)
        config = config.changed(**config_changes)
        to_format = weights_format(torch_dtype if dtype is None else dtype, config)
        model = cls._kind_for(config, str(folder))._build_empty(config, *model_args, **named)
        with initialize.force_init():
            report = huggingface.load(
                model,
                folder,
                seed=seed,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
                ignore_missing=keys_to_ignore_on_load_missing,
                ignore_unexpected=keys_to_ignore_on_load_unexpected,
                anew=keys_to_start_anew,
            )
        if strict:
            report.require_exact()
        model.load_report, model.name_or_path = report, str(name_or_path)
        model.eval().to(to_format)
        model = model if device is None else model.move(device)
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
    def _own_arguments(cls, names: Iterable[str]) -> list[str]:
        """Those of the names that the class is built with; a field of the config goes before."""
        fields = cls.config_class or BertConfig
        own = inspect.signature(cls.__init__).parameters
        return [name for name in names if name in own and not hasattr(fields(), name)]

    @classmethod
    def _build_empty(cls, config: BertConfig, *model_args: Any, **named: Any) -> Self:
        """The model with undefined parameters, to be initialised or overwritten one by one.

        A subclass with buffers computes them while it is built, so it is built in earnest. What
        else it draws by `nn.init`, and is neither a parameter nor a buffer, is undefined too.
        """
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            with initialize.skip_init():
                model = cls(config, *model_args, **named)
            if any(True for _ in model.buffers()):
                with initialize.force_init():
                    return cls(config, *model_args, **named)
        # A layer that a subclass has put in after `init_weights` is not tied yet.
        model.tie_weights()
        return model

    @classmethod
    def without_weights(cls, config: BertConfig, **named: Any) -> Self:
        """A model that knows its config and its head, for what another runtime computes.

        Its parameters are on PyTorch's "meta" device: they have shapes and no memory.

        Args:
            config: of any family.
            named: what the class is built with beside it.
        """
        return cls._build_empty(config, **named).eval().to("meta")

    @classmethod
    def rebuilt(cls, model: PreTrainedModel, weights: dict[str, Any]) -> Self:
        """A model of this class with the whole weights of `model`, and all that it knows."""
        more, named = model._built_with
        copy = cls._build_empty(model.config, *more, **named)
        copy.load_state_dict(weights)
        copy.load_report, copy.has_learned = model.load_report, model._has_learned_inside()
        copy.attention_backend = model.attention_backend
        return copy.move(model.device).train(model.training)

    def initial_rule(self, key: str) -> str:
        """By which rule the parameter `key` was initialised, in words."""
        if type(self)._init_weights is not PreTrainedModel._init_weights:
            return f"{type(self).__name__}._init_weights"
        path, _, name = key.rpartition(".")
        return initialize.rule_of(name, self.get_submodule(path), self.config.initializer_range)

    def save_pretrained(
        self,
        directory: str | os.PathLike[str],
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        safe_serialization: bool = True,
        **peers: Any,
    ) -> None:
        """Write `config.json` and `model.safetensors`, readable by `transformers` too.

        Args:
            directory: made if need be.
            is_main_process: False writes nothing, for the other processes of a run.
            state_dict: the weights to write in place of the model's, by the same names.
            safe_serialization: True; nothing is pickled.
            peers: `max_shard_size`, `save_function` and what else the peer takes that changes
                nothing here is named in a message; the rest is refused.

        Raises:
            BertoltError: the folder cannot be written; files in it are then as they were.
            UsageError: an argument that cannot be honoured, or weights of another model.
        """
        require_harmless(peers)
        if not safe_serialization:
            raise UsageError(
                "safe_serialization=False asks for a pickled file, and whoever opens one runs code",
                fix="leave it out: model.safetensors is read everywhere",
            )
        if not is_main_process:
            return
        follow_table(self)
        if type(self).__module__.startswith("bertolt."):  # others may do what they like when built
            more, named = self._built_with
            tell_of_shapes(self, self._build_empty(self.config, *more, **named))
        if state_dict is not None:
            state_dict = weights_for(self, state_dict)
        huggingface.save(self, directory, state_dict)


def _device_of(device_map: Any) -> torch.device | None:
    """The one device that a `device_map` names; None for None.

    Raises:
        UsageError: it spreads the model over several.
    """
    if device_map is None or isinstance(device_map, torch.device):
        return device_map
    if device_map == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device_map)
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"device_map is {device_map!r}, and a model is on one device",
            fix='give "auto", "cpu" or "cuda:0", or leave it out and use model.to(device)',
        ) from error
