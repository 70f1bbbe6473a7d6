"""Batches whose rows compete with each other, in less memory and over several processes, exactly.

The loss of such a batch is a function of the vectors of all its rows, so its gradient cannot be
summed from parts of the rows by themselves. The vectors of all parts are computed first without
a graph; then the gradient of the loss by each vector; then each part is computed again, with the
same draws of dropout, and led back from its share of that gradient. The sum is the gradient of the
whole batch. Source: L. Gao et al., "Scaling deep contrastive learning batch size under memory
limited setup", 2021, arXiv:2101.06983.

Shapes: E examples, D documents, which are texts, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.base.randomness import pass_random_state, set_pass_random_state
from bertolt.data.batch import PackedBatch
from bertolt.data.parts import split, split_examples, split_windows
from bertolt.models.losses import mean_loss
from bertolt.models.precision import PrecisionChoice
from bertolt.train.arguments import TrainingArguments
from bertolt.train.micro_batches import MicroBatches


def competing_passes(
    model: Any,
    args: TrainingArguments,
    precision: PrecisionChoice,
    world: World,
    fitting: MicroBatches | None = None,
) -> Callable[[Any], Tensor] | None:
    """The passes of a batch whose rows compete, for `train_step`; None: the usual ones do.

    Args:
        model: to train.
        args: of the run.
        precision: number format.
        world: the processes of the run.
        fitting: says how many tokens memory holds, where it runs out.

    Raises:
        UsageError: gradients of several such batches are to be accumulated.
    """
    if not rows_compete(model):
        return None
    if args.gradient_accumulation_steps > 1:
        raise UsageError(
            "rows compete within their batch alone, so several small batches are not one large one",
            place="gradient_accumulation_steps",
            fix="make the batch as large as it shall be, and set model.micro_batch to the examples "
            "that memory holds at a time",
        )
    return _Passes(model, precision, world, fitting)


def rows_compete(model: Any) -> bool:
    """Whether the loss of a row depends on the others of its batch."""
    return getattr(getattr(model, "criterion", None), "rows_compete", False)


@dataclass(frozen=True)
class _Passes:
    """Forward and backward through a batch in parts, and over all processes."""

    model: Any
    precision: PrecisionChoice
    world: World
    fitting: MicroBatches | None

    def __call__(self, batch: PackedBatch) -> Tensor:
        """Add the gradients of a batch; this process's part of the loss of the step, detached."""
        device = self.model.device
        parts = self._parts(batch)
        if self.world.alone and len(parts) == 1:
            return self._at_once(batch.to(device))
        parts = [replace(part, labels=None).to(device) for part in parts]
        states, vectors = [], []
        with torch.no_grad():
            for part in self._evenly(parts):
                states.append(pass_random_state(device))
                with self.precision.autocast(device):
                    vectors.append(self.model(part).logits.float())
        loss, gradients = self._loss(batch, torch.cat(vectors[: len(parts)]))
        self.model.has_learned = True
        shares = list(torch.split(gradients, [part.num_documents for part in parts]))
        rounds = list(zip(self._evenly(parts), states, strict=True))
        for number, (part, state) in enumerate(rounds):
            again = number >= len(parts)
            share = torch.zeros_like(shares[-1]) if again else shares[number]
            set_pass_random_state(state, device)
            self._lead_back(part, share, last=number == len(rounds) - 1)
        return loss / self.world.size

    def _parts(self, batch: PackedBatch) -> list[PackedBatch]:
        """The batch as it is computed: by the examples that were asked for, or as memory has it.

        With texts in several windows parts have no more sequences than without.
        """
        if self.fitting is not None and self.fitting.tokens is not None:
            return split(batch, self.fitting.tokens)
        most = self.model.micro_batch
        if batch.document_starts is not None:
            return split_windows(batch, (most or batch.num_examples) * batch.num_choices)
        return [batch] if most is None else split_examples(batch, most)

    def _at_once(self, batch: PackedBatch) -> Tensor:
        with self.precision.autocast(self.model.device):
            loss: Tensor = self.model(batch).loss
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _evenly(self, parts: list[PackedBatch]) -> list[PackedBatch]:
        """As many parts on every process, the last again, where each pass needs all of them."""
        if not self.world.sharded:
            return parts
        counts = self.world.gather(torch.tensor([len(parts)]))
        return parts + parts[-1:] * (int(torch.cat(counts).max()) - len(parts))

    def _loss(self, batch: PackedBatch, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the step, and its gradient by this process's vectors (D, H)."""
        own = vectors.detach().requires_grad_()
        assert batch.labels is not None
        everyone, labels = self._everyone(own, batch.labels, there=not batch.is_placeholder)
        term = self.model.criterion(everyone, labels)
        loss = mean_loss({"labels": term}, batch.loss_counts)
        if batch.is_placeholder:
            return loss.detach(), torch.zeros_like(vectors)
        (gradient,) = torch.autograd.grad(loss, own)
        return loss.detach(), gradient

    def _everyone(self, own: Tensor, labels: Tensor, *, there: bool) -> tuple[Tensor, Tensor]:
        """The vectors and labels of all processes that have rows, with `own` as it is."""
        if self.world.alone:
            return own, labels.to(own.device)
        flags = torch.cat(self.world.gather(torch.tensor([int(there)])))
        vectors = self.world.gather(own.detach().cpu() if there else None)
        others = [each.to(own.device) for each in vectors]
        if there:
            others[int(flags[: self.world.rank].sum())] = own
        known = self.world.gather(labels.cpu() if there else None)
        return torch.cat(others), torch.cat(known).to(own.device)

    def _lead_back(self, part: PackedBatch, gradient: Tensor, *, last: bool) -> None:
        """Add to the gradients what a part's vectors lead back to them."""

        def product(model: Any, part: PackedBatch) -> Tensor:
            vectors: Tensor = model(part).logits.float()
            return (vectors * gradient).sum()

        with self.world.accumulating(self.model, last=last):
            with self.precision.autocast(self.model.device):
                loss = self.world.loss(self.model, part, product)
            loss.backward()  # type: ignore[no-untyped-call]
