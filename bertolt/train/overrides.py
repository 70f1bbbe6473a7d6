"""What a Trainer takes: methods of a subclass and models, and what to write instead of the rest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

from torch import Tensor, nn

from bertolt.base.errors import UsageError, nearest
from bertolt.base.randomness import set_seed
from bertolt.models.customised import require_unwrapped
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.peer_arguments import refuse_arguments

P = ParamSpec("P")

CALLED = (
    "compute_loss",
    "create_optimizer",
    "create_scheduler",
    "create_optimizer_and_scheduler",
    "log",
    "training_step",
    "prediction_step",
    "get_train_dataloader",
    "get_eval_dataloader",
    "get_test_dataloader",
    "_get_train_sampler",
    "_get_eval_sampler",
    "_prepare_inputs",
    "compute_loss_context_manager",
    "evaluate",
    "save_model",
)
"""Methods of `Trainer` that a run calls, so that a subclass may define them."""

REPLACED_METHODS = {
    name: instead
    for names, instead in (
        (
            "autocast_smart_context_manager get_batch_samples",
            "define training_step or compute_loss_context_manager",
        ),
        (
            "evaluation_loop prediction_loop",
            "define prediction_step or evaluate",
        ),
        (
            "_get_dataloader",
            "define get_train_dataloader, get_eval_dataloader or get_test_dataloader",
        ),
        (
            "get_optimizer_cls_and_kwargs get_decay_parameter_names",
            "define create_optimizer",
        ),
        (
            "_maybe_log_save_evaluate",
            "give callbacks, an argument of Trainer: on_step and on_evaluate get all numbers",
        ),
        (
            "_save _save_checkpoint _load_from_checkpoint _load_best_model "
            "_load_optimizer_and_scheduler",
            "define save_model for what is saved at the end; checkpoints are written whole",
        ),
        (
            "_remove_unused_columns _set_signature_columns_if_needed",
            "give data_collator, an argument of Trainer: it takes what it needs of a row",
        ),
        (
            "_inner_training_loop _prepare_input _wrap_model create_accelerator_and_postprocess",
            "leave it out: batches are moved and models are wrapped where that is needed",
        ),
    )
    for name in names.split()
}
"""Methods of the peer's Trainer that no run calls here, and what to write instead."""

_PEER_METHODS = """
    _build_accelerator_args _clip_grad_norm _defer_fsdp_gradient_reduction _determine_best_metric
    _evaluate _finalize_training _finish_current_push _get_collator_with_removed_columns
    _get_dataloader _get_eval_sampler _get_grad_norm _get_learning_rate _get_num_items_in_batch
    _get_output_dir _get_train_sampler _has_mixed_mesh_grads _hp_search_setup _init_training_state
    _inner_training_loop _issue_warnings_after_load _load_best_model _load_callback_state
    _load_from_checkpoint _load_optimizer_and_scheduler _load_rng_state _load_scaler
    _maybe_log_save_evaluate _mixed_mesh_grad_norm _move_model_to_device
    _prepare_context_parallel_inputs _prepare_for_training _prepare_input _prepare_inputs
    _push_from_checkpoint _remove_unused_columns _report_to_hp_search _run_epoch _save
    _save_checkpoint _save_optimizer_and_scheduler _save_rng_state _save_scaler
    _set_signature_columns_if_needed _sync_replicated_trainable_parameters _track_num_input_tokens
    _tune_save_checkpoint _update_auto_batch_size _validate_args _wrap_model add_callback
    autocast_smart_context_manager call_model_init compute_loss compute_loss_context_manager
    create_accelerator_and_postprocess create_model_card create_optimizer
    create_optimizer_and_scheduler create_scheduler end evaluate evaluation_loop
    floating_point_ops get_batch_samples get_cp_size get_decay_parameter_names get_eval_dataloader
    get_learning_rates get_num_trainable_parameters get_optimizer_cls_and_kwargs
    get_optimizer_group get_sp_size get_test_dataloader get_total_train_batch_size get_tp_size
    get_train_dataloader hyperparameter_search init_hf_repo is_local_process_zero
    is_world_process_zero log log_metrics loss_is_scaled_for_ga metrics_format num_examples
    pop_callback predict prediction_step push_to_hub remove_callback save_metrics save_model
    save_state set_initial_training_values store_flos train training_step
"""
PEER_METHODS = frozenset(_PEER_METHODS.split())
"""All methods of the peer's Trainer, transformers 5.23."""


def instead_of_method(base: type, name: str) -> str | None:
    """What to write instead of a method of the peer's Trainer; None: `base`, ours, has it too."""
    if hasattr(base, name) or name not in PEER_METHODS | REPLACED_METHODS.keys():
        return None
    unnamed = "leave it out; what only your own code calls takes a name that the peer has not"
    return REPLACED_METHODS.get(name, unnamed)


def require_called(trainer: object, base: type) -> None:
    """Refuse a subclass of `base` that defines a method which no run would call, or an inner one.

    Raises:
        UsageError: naming the method, and what to write instead.
    """
    for name in dir(type(trainer)):
        inner = name.startswith("_") and not name.startswith("__") and hasattr(base, name)
        if inner and name not in CALLED and getattr(type(trainer), name) is not getattr(base, name):
            raise UsageError(
                f"{name} is defined, and it is what Trainer itself works by",
                place=type(trainer).__name__,
                fix="call it by another name",
            )
        if (instead := instead_of_method(base, name)) is not None:
            raise UsageError(
                f"{name} is defined, and no run calls it here",
                place=type(trainer).__name__,
                fix=f"{instead}; a subclass may define {', '.join(CALLED)}",
            )


def names_checked(init: Callable[P, None]) -> Callable[P, None]:
    """Let an `__init__` refuse all names that it does not take at once, with the nearest ones.

    Raises:
        KeywordError: a UsageError, and a TypeError as Python's own.
    """
    known = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def checked(*given: P.args, **named: P.kwargs) -> None:
        unknown = {
            name: f"use {close}"
            if (close := nearest(name, known))
            else f"the arguments are {', '.join(known)}"
            for name in named
            if name not in known
        }
        refuse_arguments(type(given[0]).__name__, unknown)
        init(*given, **named)

    return checked


def is_own_module(model: Any, *, own_loss: bool) -> bool:
    """Whether a model is called by the padded door, as it was written, and not as one of Bertolt's.

    Args:
        model: to train.
        own_loss: the Trainer computes a loss by itself, from whatever the model gives.

    Raises:
        UsageError: what gives no loss to train by and no logits to predict by.
    """
    require_unwrapped(model, "Trainer")
    if isinstance(model, PreTrainedModel) and model.targets:
        return False
    written = isinstance(model, nn.Module) and not type(model).__module__.startswith("torch.")
    if written and (own_loss or not isinstance(model, PreTrainedModel)):
        return True
    raise UsageError(
        f"Trainer got a {type(model).__name__}, which has no head to learn with",
        fix="take a class with a head, as BertForSequenceClassification; one of your own is a "
        "torch.nn.Module whose forward takes the inputs by name and returns the loss",
    )


def require_one_each(model: Any, model_init: Any, optimizers: Any, kind: Any) -> None:
    """Refuse arguments of which one would be left out without a word.

    Raises:
        UsageError: naming them.
    """
    if model is None and model_init is None:
        raise UsageError("Trainer has no model", fix="give it model, or model_init to make one")
    init, optimizer = model_init is not None, optimizers[0] is not None
    for names, both, fix in (
        ("model and model_init", init and model is not None, "give it one of them"),
        (
            "optimizers and model_init",
            init and (optimizer or optimizers[1] is not None),
            "leave optimizers out, and give optimizer_cls_and_kwargs or define create_optimizer",
        ),
        (
            "optimizers and optimizer_cls_and_kwargs",
            optimizer and kind is not None,
            "give it one of them",
        ),
    ):
        if both:
            raise UsageError(f"Trainer has both {names}", fix=fix)


def made_model(model_init: Callable[..., Any], seed: int) -> Any:
    """A new model by the function of the user, the same for the same seed.

    Raises:
        UsageError: the function takes more than a trial, which is None.
    """
    set_seed(seed)
    needed = [
        each
        for each in inspect.signature(model_init).parameters.values()
        if each.kind <= each.POSITIONAL_OR_KEYWORD
    ]
    if len(needed) > 1:
        raise UsageError(
            f"model_init takes {len(needed)} arguments", fix="let it take nothing, or a trial alone"
        )
    return model_init(None) if needed else model_init()


def scalar_loss(loss: Any) -> Tensor:
    """A loss of the user's own, if it can be one.

    Raises:
        UsageError: it is no tensor of one number.
    """
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.reshape(())
    shape = f" of the shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
    raise UsageError(
        f"the loss is a {type(loss).__name__}{shape}",
        place="compute_loss",
        fix="return a tensor of one number, as loss.mean() is",
    )
