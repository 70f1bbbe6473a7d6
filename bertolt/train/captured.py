"""Steps on a GPU, captured once for each shape and replayed from then on.

A step of a base-size model starts about two thousand kernels. Where each has little to do, it is
over before the host has started the next, and the GPU waits. A CUDA graph starts all of them with
one call, the update included.

What a graph has taken in is fixed: addresses, shapes, and each number that came from the host. So a
batch is copied into tensors of the graph's own, its sizes are rounded up so that they come again,
the learning rate is a tensor, and an update by numbers that are not finite is held back on the GPU.
A step is captured the second time that its shape comes; the first one is made as usual, by the same
kernels and with the same masks. What cannot be captured is made as usual each time.

Shapes: B sequences, T rows.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from bertolt.base.distributed import World
from bertolt.base.torch_private import (
    can_capture,
    gradients_have_hooks,
    is_customised,
    modules_inside,
    optimizer_has_hooks,
    parameters_inside,
)
from bertolt.data.batch import PackedBatch
from bertolt.data.buckets import bucket_bounds, pad_to_bucket
from bertolt.data.prefetch import ToHost
from bertolt.models import fused
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.gradients import gradient_norm, update_if_finite
from bertolt.train.optim import AdamW

MOST_GRAPHS = 16
_MEMORY = 0.45  # of the GPU, at most, that steps may take: a graph has memory of its own


@dataclass
class _Step:
    """One captured step.

    Attributes:
        learn: the passes forward and backward, to replay.
        update: the update, to replay while the host goes on.
        batch: whose tensors are read.
        checked: (2,) float64, the loss and the norm of the gradients, that are written.
        norm: of the gradients, which `learn` leaves for `update`.
    """

    learn: torch.cuda.CUDAGraph
    update: torch.cuda.CUDAGraph
    batch: PackedBatch
    checked: Tensor
    norm: Tensor

    def replay(self, batch: PackedBatch) -> tuple[float, float]:
        """Make the step with a batch of the same shape: its loss and the norm of its gradients."""
        for ours, theirs in zip(_tensors(self.batch), _tensors(batch), strict=True):
            ours.copy_(theirs, non_blocking=True)
        self.learn.replay()
        reading = ToHost(self.checked)
        self.update.replay()
        loss, norm = reading.wait()[0].tolist()
        return loss, norm


def _tensors(batch: PackedBatch) -> list[Tensor]:
    values = [getattr(batch, each.name) for each in fields(batch)]
    if batch.host is not None:
        values.append(batch.host.labelled_rows)
    return [each for each in values if isinstance(each, Tensor)]


@dataclass
class CapturedSteps:
    """Makes the steps of a run, as far as they can be replayed.

    Attributes:
        model, optimizer, precision, max_grad_norm: of the run.
        failure: why nothing is captured any more, in words.
        replayed: steps made so.
    """

    model: PreTrainedModel
    optimizer: AdamW
    precision: PrecisionChoice
    max_grad_norm: float
    failure: str | None = None
    replayed: int = 0
    _taken_in: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # PyTorch's own stream for captures is on the GPU that first captured something.
        self._stream = _side_stream(self.model.device)
        self._start_again()

    def _start_again(self) -> None:
        """Forget what was captured, and look at the model and its optimizer as they are now."""
        self._steps: dict[Any, _Step] = {}
        self._seen: set[Any] = set()
        self._pool: Any = None
        groups = self.optimizer.param_groups
        self._rates = [torch.zeros((), device=self.model.device) for _ in groups]
        # Read once: the GPU would wait while the host walks through all modules.
        self._all_modules = modules = list(self.model.modules())
        self._children = [own for own in map(modules_inside, modules) if own]
        self._weights = [own for own in map(parameters_inside, modules) if own]
        self._numbers = [own for own in map(vars, modules) if _TAKEN_IN & own.keys()]
        self._encoders = [own for own in map(vars, modules) if "gradient_checkpointing" in own]
        self._known = all(type(module).__module__.startswith(_KNOWN) for module in modules)
        self._trained = [p for group in groups for p in group["params"]]

    def belongs_to(
        self, model: PreTrainedModel, optimizer: torch.optim.Optimizer, max_grad_norm: float
    ) -> bool:
        """Whether it was made for this model, optimizer and norm."""
        return (self.model, self.optimizer, self.max_grad_norm) == (model, optimizer, max_grad_norm)

    def pad_to_bucket(self, batch: PackedBatch) -> PackedBatch:
        """A collator's batch with more filler, in a shape that will come again."""
        words_alone = self.model.labels_per_token and len(self.model.targets) == 1
        return pad_to_bucket(batch, counts_sequences=not words_alone)

    def bucket_bounds(self, batch: PackedBatch) -> PackedBatch:
        """The batch with bounds for its sizes that hold for all batches of its shape."""
        if self._watched():
            return batch
        return bucket_bounds(batch, positions=self.model.config.max_tokens)

    def _watched(self) -> bool:
        """Whether passes collect attention maps or hidden states, which take more than shapes."""
        config = self.model.config
        return config.output_attentions or config.output_hidden_states

    def make(self, batches: Sequence[PackedBatch]) -> tuple[float, float] | None:
        """Make a step if one like it was captured, or can be now.

        Args:
            batches: of the step, as `bucket_bounds` gives them.

        Returns:
            The loss and the norm of the gradients; nothing was updated if one of them is not
            finite. None: the step is still to be made.
        """
        if self.failure is not None or len(batches) != 1 or not self._plain():
            return None
        (batch,) = batches
        # One that is on the GPU already would become the graph's own, and be written over.
        if batch.host is None or batch.cu_seqlens.is_cuda or batch.loss_counts is not None:
            return None
        taken_in = self._fixed()
        if taken_in != self._taken_in:
            self._start_again()
            self._taken_in = self._fixed()
        captured = self._captured(_shape(batch), batch)
        if captured is None:
            return None
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self.replayed += 1
        return captured.replay(batch)

    def _captured(self, shape: Any, batch: PackedBatch) -> _Step | None:
        """The step of a shape, captured now if it came before; None if it is new."""
        if shape not in self._seen:
            self._seen.add(shape)
        elif shape not in self._steps and len(self._steps) < MOST_GRAPHS:
            handled = sys.exception()
            try:
                self._steps[shape] = self._capture(batch)
            except Exception as error:  # noqa: BLE001 - made as usual, the step tells what is wrong
                self.failure = _reason(error, handled)
                self._start_again()
                warnings.warn(
                    f"steps are not captured as CUDA graphs: {self.failure}", stacklevel=2
                )
        return self._steps.get(shape)

    def _plain(self) -> bool:
        """Whether a step runs no hook or other code that a replay would leave out."""
        optimizer = self.optimizer
        return not (
            not self._known
            or self._watched()
            or not _current(self.model.device)
            or optimizer_has_hooks(optimizer)
            or any(map(is_customised, self._all_modules))
            or any(own["gradient_checkpointing"] for own in self._encoders)
            or gradients_have_hooks(self._each_weight())
        )

    def _each_weight(self) -> Iterator[nn.Parameter]:
        return (p for owned in self._weights for p in owned.values() if p is not None)

    def _fixed(self) -> Any:
        """Everything of the model and its optimizer that a graph keeps as it is."""
        state = self.optimizer.state
        return (
            [(p.data_ptr(), p.requires_grad) for p in self._each_weight()],
            [_address(state.get(p)) for p in self._trained],
            [id(child) for children in self._children for child in children.values()],
            [module.training for module in self._all_modules],
            [own.get(name) for own in self._numbers for name in _TAKEN_IN],
            [
                [len(group["params"]), *(group.get(name) for name in _SETTINGS)]
                for group in self.optimizer.param_groups
            ],
            self.model.attention_backend.name,
        )

    def _capture(self, batch: PackedBatch) -> _Step:
        """Record a step as graphs; nothing is computed yet."""
        device = self.model.device
        used, there = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
        if used > _MEMORY * there:
            raise RuntimeError(
                f"{used / there:.0%} of the GPU's memory were in use, and they take as much again"
            )
        inside = batch.to(device, non_blocking=True)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        learn, update = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # What others have left would be added to, and read again by every replay.
        self.model.zero_grad(set_to_none=True)
        try:
            with self._rates_as_tensors(), fused.preferred(True):
                with self._into(learn):
                    with self.precision.autocast(device):
                        loss = self.model(inside).loss
                    loss.backward()
                    norm = gradient_norm(self._trained)
                    checked = torch.stack([loss.detach().double(), norm.double()])
                del loss
                with self._into(update):
                    limit = self.max_grad_norm
                    update_if_finite(self.optimizer, self._trained, checked, norm, limit)
                    self.model.zero_grad(set_to_none=True)
        finally:
            self.model.zero_grad(set_to_none=True)
        return _Step(learn, update, inside, checked, norm)

    @contextlib.contextmanager
    def _into(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        """Inside, what this thread starts on the GPU is recorded and not run."""
        with (
            torch.cuda.stream(torch.cuda.current_stream()),  # back to it, whatever a capture leaves
            # The thread that makes batches goes on pinning memory meanwhile.
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            yield

    @contextlib.contextmanager
    def _rates_as_tensors(self) -> Iterator[None]:
        """Inside, the optimizer reads its learning rates from the GPU, and may be captured."""
        groups = self.optimizer.param_groups
        before = [(group["lr"], group["capturable"]) for group in groups]
        for rate, group in zip(self._rates, groups, strict=True):
            group["lr"], group["capturable"] = rate, True
        try:
            yield
        finally:
            for (rate, capturable), group in zip(before, groups, strict=True):
                group["lr"], group["capturable"] = rate, capturable


_KNOWN = ("bertolt.", "torch.nn.")
"""Packages whose modules go by shapes alone; a graph may not be able to record others."""
_TAKEN_IN = {"p", "dropout_p", "next_sentence_weight"}
"""Numbers of modules that a graph keeps, since kernels get them as arguments."""
_SETTINGS = ("betas", "eps", "weight_decay", "amsgrad", "maximize", "fused")
"""Optimizer settings that a graph keeps; the learning rate is read at each replay."""


def _side_stream(device: torch.device) -> torch.cuda.Stream | None:
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _current(device: torch.device) -> bool:
    """Whether what is started without naming a device is started on this one."""
    return device.index is None or device.index == torch.cuda.current_device()


def _address(state: Mapping[str, Any] | None) -> int | None:
    """Where the state of a weight lies; it is only ever replaced as a whole."""
    return None if not state else state["exp_avg"].data_ptr()


def _reason(error: BaseException, handled: BaseException | None = None) -> str:
    """The first error, in one line: ending a capture that has failed raises another.

    Args:
        error: the last one.
        handled: what the caller was handling before it began.
    """
    while error.__context__ not in (None, handled) and not error.__suppress_context__:
        assert error.__context__ is not None
        error = error.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]


def _shape(batch: PackedBatch) -> tuple[Any, ...]:
    """The sizes that two batches must share to go through the same kernels."""
    tensors = [(tuple(each.shape), each.dtype) for each in _tensors(batch)]
    return batch.max_seqlen, batch.num_tokens, batch.num_choices, *tensors


def captured_steps(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    precision: PrecisionChoice,
    max_grad_norm: float,
    world: World,
) -> CapturedSteps | None:
    """The `CapturedSteps` of a run on a GPU; None where steps cannot be replayed.

    It takes heads whose passes go by shapes alone, flash attention (groups are laid out on the
    host), Bertolt's fused AdamW, and one process.
    """
    possible = (
        world.alone
        and can_capture()
        and model.device.type == "cuda"
        and _current(model.device)
        and model.replayable
        and getattr(model, "distillation", None) is None
        and not model.config.is_decoder
        and type(model).__module__.startswith("bertolt.")
        and model.attention_backend.name == "varlen"
        and precision.name == "bf16"
        and type(optimizer) is AdamW
        and optimizer.fused
    )
    if not possible:
        return None
    assert isinstance(optimizer, AdamW)
    return CapturedSteps(model, optimizer, precision, max_grad_norm)
