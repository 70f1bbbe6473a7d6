"""What a Trainer takes: methods of a subclass and models, and what to write instead of the rest."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bertolt.base.errors import UsageError
from bertolt.models.customised import require_unwrapped
from bertolt.models.pretrained import PreTrainedModel

CALLED = (
    "compute_loss",
    "create_optimizer",
    "create_scheduler",
    "create_optimizer_and_scheduler",
    "log",
    "evaluate",
    "save_model",
)
"""Methods of `Trainer` that a run calls, so that a subclass may define them."""

REPLACED_METHODS = {
    name: instead
    for names, instead in (
        (
            "training_step compute_loss_context_manager autocast_smart_context_manager "
            "get_batch_samples",
            "define compute_loss(model, inputs, return_outputs=False), or write the loop with "
            "bertolt.train_step",
        ),
        (
            "prediction_step evaluation_loop prediction_loop",
            "define evaluate, or give evaluate=, an argument of Trainer",
        ),
        (
            "get_train_dataloader _get_train_sampler _get_dataloader",
            "give train_dataset with data_collator and train_sampling_strategy, or batches=, "
            "arguments of Trainer",
        ),
        (
            "get_eval_dataloader get_test_dataloader _get_eval_sampler",
            "give eval_dataset with data_collator, or evaluate=, arguments of Trainer",
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
            "_inner_training_loop _prepare_inputs _prepare_input _wrap_model "
            "create_accelerator_and_postprocess",
            "leave it out: batches are moved and models are wrapped where that is needed",
        ),
    )
    for name in names.split()
}
"""Methods of the peer's Trainer that no run calls here, and what to write instead."""


def require_called(trainer: object) -> None:
    """Refuse a subclass that defines a method which no run would call.

    Raises:
        UsageError: naming the method, and what to write instead.
    """
    for name, instead in REPLACED_METHODS.items():
        if hasattr(type(trainer), name):
            raise UsageError(
                f"{name} is defined, and no run calls it here",
                place=type(trainer).__name__,
                fix=f"{instead}; a subclass may define {', '.join(CALLED)}",
            )


def require_head(model: Any) -> None:
    """Refuse what gives no loss to train by and no logits to predict by.

    Raises:
        UsageError: no model of Bertolt's, or one without targets.
    """
    require_unwrapped(model, "Trainer")
    if not isinstance(model, PreTrainedModel) or not model.targets:
        raise UsageError(
            f"Trainer got a {type(model).__name__}, which has no head to learn with",
            fix="take a class with a head, as BertForSequenceClassification; one of your own is a "
            "PreTrainedModel that names its `targets`",
        )


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
