"""One run in several processes, as torchrun starts them: DDP, FSDP2, and who does what.

Every process reads the same data and takes its share of each batch. Losses are divided by the
labels of all shares, and gradients are summed, so that the step is the one that a single process
would have made with the whole batch. Small numbers travel between CPUs (gloo), gradients as their
device likes (NCCL between GPUs). A `World` of one process does nothing, so there is one way through
the code.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import itertools
import os
import secrets
import signal
import socket
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from bertolt.base import console
from bertolt.base.errors import TrainingError, UsageError
from bertolt.base.process import end_with_torchrun, number_of
from bertolt.base.torch_private import default_store

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
LossOf = Callable[[Any, Any], Tensor]
"""The loss of a batch from (model, batch)."""

_GIVEN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_DTYPES = (*_FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool)
_HEADER = 10  # numbers that tell of a tensor: whether there is one, its type, its dimensions
JOIN_VARIABLE = "BERTOLT_JOIN_TIMEOUT"
"""Environment variable: seconds that a process waits for the others at the start."""
_JOINING = 600.0  # of them where nothing is set
_MOST_JOINING = 86_400.0
_REACHING = 60.0  # of them for torchrun
_PAUSE = 0.02  # seconds between looks
_PATIENCE = 1.0  # seconds that a process waits for the one whose error came first
_replicated: list[weakref.ref[World]] = []


class _Replica(NamedTuple):
    model: nn.Module
    called: nn.parallel.DistributedDataParallel


@dataclass(kw_only=True)
class World:
    """The processes of a run, seen from one of them.

    What is called on one process has to be called on all of them, in the same order, unless its
    name says otherwise: `share`, `seed` and the attributes.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        sharded: models are split over them, so that every forward pass needs all of them.
    """

    rank: int = 0
    size: int = 1
    sharded: bool = False
    _replica: _Replica | None = field(default=None, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def seed(self, seed: int) -> int:
        """A seed of this process's own: `seed` itself on the first."""
        if self.first:
            return seed
        return int(np.random.SeedSequence((seed, self.rank)).generate_state(1)[0])

    def own_share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items: every item belongs to exactly one process."""
        return items[self.rank :: self.size]

    def deal_out(
        self, items: Iterable[T], *, evenly: bool = False, may_stop: bool = False
    ) -> Iterator[tuple[T, bool]]:
        """This process's items in turn, each with True.

        Where models are split, or `evenly` asks for it, all processes get equally many: one that
        goes away empty in the last round gets another's item, with False.

        Args:
            items: the same on every process.
            evenly: whether all get equally many in any case.
            may_stop: whether a SIGTERM to one of them ends it for all, inside `stoppable`.

        Raises:
            Stopped: on every process, before the same round.
        """
        iterator = iter(items)
        asked = console.stop_asked() if may_stop else None
        while hand := list(itertools.islice(iterator, self.size)):
            if asked is not None and self.pending_signal(asked()) == signal.SIGTERM:
                raise console.Stopped
            own = self.rank < len(hand)
            if own or evenly or self.sharded:
                yield hand[self.rank if own else 0], own

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Numbers summed over the processes, as float64: whole ones are exact up to 2⁵³."""
        if self.alone:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(total)
        return list(total.tolist())

    def any_true(self, flag: bool) -> bool:
        """Whether the flag is true on any process."""
        return self.sum([float(flag)])[0] > 0

    def from_first(self, flag: bool) -> bool:
        """The flag of the first process."""
        return self.any_true(flag and self.first)

    def pending_signal(self, by: signal.Signals | None) -> signal.Signals | None:
        """The signal by which some process has been asked to end; of several the greatest."""
        if self.alone:
            return by
        number = torch.tensor(0 if by is None else int(by))
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return signal.Signals(int(number)) if number else None

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """A tensor summed over the processes, on its device; a GPU is not waited for."""
        if not self.alone:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor | None) -> list[Tensor]:
        """The CPU tensors of all processes that have one, in the order of the processes."""
        if self.alone:
            return [] if tensor is None else [tensor]
        tensors = (self._from(source, tensor) for source in range(self.size))
        return [each for each in tensors if each is not None]

    def _from(self, source: int, tensor: Tensor | None) -> Tensor | None:
        header = torch.zeros(_HEADER, dtype=torch.int64)
        if self.rank == source and tensor is not None:
            about = [1, _DTYPES.index(tensor.dtype), tensor.dim(), *tensor.shape]
            header[: len(about)] = torch.tensor(about)
        dist.broadcast(header, source)
        there, dtype, dimensions, *sizes = header.tolist()
        if not there:
            return None
        if self.rank != source or tensor is None:
            tensor = torch.empty(sizes[:dimensions], dtype=_DTYPES[dtype])
        tensor = tensor.contiguous()
        dist.broadcast(tensor, source)
        return tensor

    def broadcast_text(self, text: str) -> str:
        """A text of the first process, to all."""
        if self.alone:
            return text
        own = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
        (received,) = self.gather(own if self.first else None)
        return bytes(received.tolist()).rstrip(b"\0").decode()

    def require_same(self, value: object, what: str) -> None:
        """Refuse to go on where a value differs between processes.

        Raises:
            UsageError: on every process.
        """
        if self.any_true(self.broadcast_text(str(value)) != str(value)):
            raise UsageError(
                f"the processes do not find the same {what}",
                fix="give all machines the same files, and an output folder that they share",
            )

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.sum([0.0])

    def shard(self, model: nn.Module) -> None:
        """Split a model's parameters over the processes (FSDP2); optimizers are made after that.

        Each layer's parameters come together when the layer is computed, and its gradients are
        summed and split again behind it. Layers are the modules with `is_block = True`.
        """
        if self.alone:
            console.info("Caution: one process alone splits nothing; torchrun starts several")
        if self.alone or self.sharded:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        mesh = init_device_mesh(next(model.parameters()).device.type, (self.size,))
        for module in model.modules():
            if getattr(module, "is_block", False):
                fully_shard(module, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # The sum and not the mean: losses are divided by the labels of all processes.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self.sharded = True

    def replicate(self, model: nn.Module, *, unused: bool = False) -> None:
        """Let the gradients of `loss(model, …)` be summed over the processes (DDP).

        All begin with the weights of the first process. Nothing to do for a model that is split.

        Args:
            model: to train.
            unused: parameters may be left without a gradient, such as a head's whose target no
                batch has. To look for them takes a little of each step.
        """
        if self.alone or self.sharded:
            return
        replica = nn.parallel.DistributedDataParallel(
            _Loss(model), find_unused_parameters=unused, gradient_as_bucket_view=True
        )
        replica.register_comm_hook(None, lambda state, bucket: _summed(bucket))
        self._replica = _Replica(model, replica)
        _replicated.append(weakref.ref(self))

    def loss(self, model: nn.Module, batch: Any, loss_of: LossOf | None = None) -> Tensor:
        """The loss of a batch, through DDP where `model` was replicated.

        Args:
            model: to call.
            batch: with its targets.
            loss_of: computes the loss of (model, batch); None: `model(batch).loss`.
        """
        return self._called(model)(batch, loss_of or _usual_loss)

    @contextlib.contextmanager
    def accumulating(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Around a forward and a backward pass: gradients travel with the last of a step alone.

        Where models are split they travel each time: to keep them whole would be to keep the
        memory that splitting saves.
        """
        called = self._called(model)
        if last or not isinstance(called, nn.parallel.DistributedDataParallel):
            yield
            return
        with called.no_sync():
            yield

    def _called(self, model: nn.Module) -> Callable[[Any, LossOf], Tensor]:
        if self._replica is not None and self._replica.model is model:
            return self._replica.called
        return lambda batch, loss_of: loss_of(model, batch)

    def full_model(self, model: M) -> M:
        """The model to save or to use by itself: on the first process, put together if it is split.

        The other processes get theirs as it is.
        """
        if not self.sharded:
            return model
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
        from torch.distributed.fsdp import FSDPModule

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(model, options=options)
        if not self.first:
            return model
        # `fully_shard` has put classes of its own before the model's.
        own = (kind for kind in type(model).__mro__[1:] if not issubclass(FSDPModule, kind))
        copy: M = cast(Any, next(own)).rebuilt(model, weights)
        return copy


ALONE = World()
"""A run of one process."""


class _Loss(nn.Module):
    """A model that gives its loss alone: DDP asks that all that comes out leads to the loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any, loss_of: LossOf) -> Tensor:
        """The loss of a batch with targets."""
        return loss_of(self.model, batch)


def _usual_loss(model: Any, batch: Any) -> Tensor:
    loss: Tensor = model(batch).loss
    return loss


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, those that are split over processes as well."""
    norm = nn.utils.get_total_norm(gradients)
    full: Callable[[], Tensor] | None = getattr(norm, "full_tensor", None)
    return norm if full is None else full()


def _summed(bucket: Any) -> Any:
    """DDP's exchange of a bucket of gradients, without its division by the number of processes."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def join() -> World:
    """The processes that torchrun has started this one with; `ALONE` without it.

    From here on only the first of them speaks. It may be called again, for another model.

    Raises:
        UsageError: an environment that says half of it, or fewer GPUs than processes.
        TrainingError: the others did not come in time.
    """
    if dist.is_initialized():
        return _speaking(World(rank=dist.get_rank(), size=dist.get_world_size()))
    own_gpu = _place_on_machine()
    if own_gpu is None:
        return ALONE
    end_with_torchrun()
    on_gpu = torch.cuda.is_available()
    store, rank, size = _rendezvous()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=_fresh(store, rank, size),
        rank=rank,
        world_size=size,
    )
    atexit.register(_leave)
    world = _speaking(World(rank=dist.get_rank(), size=dist.get_world_size()))
    if on_gpu:
        _take_gpu(own_gpu)
    return world


def _place_on_machine() -> int | None:
    """Which of its machine's processes this is, by the environment; None: it is alone.

    Raises:
        UsageError: the environment says half of it, or what is no number.
    """
    size = number_of("WORLD_SIZE", 1, least=1)
    if size == 1:
        return None
    missing = [name for name in _GIVEN if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {size}, and {missing[0]} is not set",
            fix="start it with torchrun: torchrun --nproc-per-node 2 -m bertolt …",
        )
    number_of("MASTER_PORT", 0)
    if (rank := number_of("RANK", 0)) >= size:
        raise UsageError(
            f"RANK is {rank}, and WORLD_SIZE is {size}",
            fix="number the processes from 0, or start them with torchrun",
        )
    return number_of("LOCAL_RANK", 0)


def _rendezvous() -> tuple[Any, int, int]:
    """The store in which the processes meet, the rank of this one, and how many they are."""
    limit = _join_timeout()
    torchruns = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if torchruns or os.environ["RANK"] != "0":
        # torchrun listens before it starts its processes: without an answer it is gone.
        _reach_store(min(limit, _REACHING) if torchruns else limit)
    try:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=limit)))
    except dist.DistError as error:
        raise _not_all_came(number_of("WORLD_SIZE", 1), limit) from error
    return store, rank, size


def _reach_store(limit: float) -> None:
    """Wait until somebody listens where the processes meet; torch waits longer, with much noise."""
    host, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    end = time.monotonic() + limit
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=max(1.0, limit / 10)).close()
        except OSError as error:
            if time.monotonic() < end:
                time.sleep(_PAUSE)
                continue
            raise TrainingError(
                f"nobody answered in {limit:.0f} seconds at {host}:{port}, where the processes "
                f"meet ({error.strerror or error})",
                fix="start all of them again, and see whether they reach that address; "
                f"{JOIN_VARIABLE} sets the seconds",
            ) from error
        return


def _join_timeout() -> float:
    """Seconds to wait for the others at the start.

    Raises:
        UsageError: the environment holds no such number.
    """
    text = os.environ.get(JOIN_VARIABLE, "").strip()
    try:
        seconds = float(text or _JOINING)
    except ValueError:
        seconds = 0.0
    if 1 <= seconds <= _MOST_JOINING:
        return seconds
    raise UsageError(
        f"{text!r} is no number of seconds from 1 to {_MOST_JOINING:.0f}",
        place=JOIN_VARIABLE,
        fix="give it the seconds to wait for all processes of a run, as in 600",
    )


def _fresh(store: Any, rank: int, size: int) -> Any:
    """A part of torchrun's store that no earlier start has written to.

    The store outlives the processes, and those that torchrun starts again would read in it how
    their dead predecessors could be reached. So the first process draws a name for the part, and
    tells it to each other one in answer to a word that this one has just drawn.
    """
    own = secrets.token_hex(8)
    if rank == 0:
        _wait_for_all(lambda: _uninformed(store, own, size), size)
        return PrefixStore(f"bertolt/{own}", store)
    store.set(f"bertolt/asks/{rank}", own)
    _wait_for_all(lambda: not store.check([f"bertolt/told/{own}"]), size)
    name = store.get(f"bertolt/told/{own}").decode()
    store.add(f"bertolt/knowing/{name}", 1)
    return PrefixStore(f"bertolt/{name}", store)


def _uninformed(store: Any, name: str, size: int) -> int:
    """Answer the processes that ask for the name, and count those that do not have it yet."""
    for rank in range(1, size):
        if store.check([f"bertolt/asks/{rank}"]):
            word = store.get(f"bertolt/asks/{rank}").decode()
            store.set(f"bertolt/told/{word}", name)
    return size - 1 - int(store.add(f"bertolt/knowing/{name}", 0))


def _wait_for_all(missing: Callable[[], int], size: int) -> None:
    limit = _join_timeout()
    end = time.monotonic() + limit
    while missing():
        if time.monotonic() > end:
            raise _not_all_came(size, limit)
        time.sleep(_PAUSE)


def _not_all_came(size: int, limit: float) -> TrainingError:
    return TrainingError(
        f"not all of {size} processes came in {limit:.0f} seconds",
        fix="see whether all machines run the same command, and reach each other; "
        f"{JOIN_VARIABLE} sets the seconds",
    )


def is_restarted() -> bool:
    """Whether torchrun has started the processes again, since one of them had died."""
    return number_of("TORCHELASTIC_RESTART_COUNT", 0) > 0


def note_taken(folder: Path) -> None:
    """Remember, for as long as torchrun lives, that its run has begun to fill a folder."""
    if (store := _torchruns_store()) is not None:
        store.set(_taken(folder), "")


def is_restarted_in(folder: Path, world: World) -> bool:
    """Whether torchrun has started the processes again after they had begun to fill a folder.

    What is in it is then of their run; before that it is of an earlier one, or of somebody else.
    All processes call it, and go by what the first finds.
    """
    if not is_restarted():
        return False
    store = _torchruns_store() if world.first else None
    return world.from_first(store is None or bool(store.check([_taken(folder)])))


def _taken(folder: Path) -> str:
    return f"bertolt/taken/{folder.absolute()}"


def _torchruns_store() -> Any:
    """The store that outlives the processes; None where torchrun keeps none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, wait_for_workers=False)


def _take_gpu(number: int) -> None:
    if number >= torch.cuda.device_count():
        raise UsageError(
            f"this is process {number + 1} of this machine, which has "
            f"{torch.cuda.device_count()} GPUs",
            fix="give torchrun --nproc-per-node no more than that",
        )
    torch.cuda.set_device(number)


def _speaking(world: World) -> World:
    console.set_output_role(
        silent=not world.first, may_report_error=functools.partial(_claim, world.first)
    )
    return world


def _claim(first: bool) -> bool:
    """Whether this process is the first of all to say why the run has to end.

    An error may occur on every process, or end the others as their partner is gone: one reports it.
    """
    if not first:
        time.sleep(_PATIENCE)
    try:
        store = default_store()
        return store is None or bool(store.add("bertolt/complained", 1) == 1)
    except (RuntimeError, ValueError):  # whoever kept the store is gone, and has spoken
        return False


def report_crash(error: Exception) -> None:
    """Say what ended this process: another one that is gone, or a fault, with its traceback."""
    if not _is_lost_contact(error):
        console.report_error("".join(traceback.format_exception(error)).rstrip())
        return
    console.report_error(
        "bertolt: error: another process of this run has ended, and this one cannot go on alone "
        f"({str(error).strip().splitlines()[0]})\n"
        "  fix: see what it said; with torchrun --max-restarts and checkpoints a run goes on"
    )


def _is_lost_contact(error: Exception) -> bool:
    message = str(error)
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out")
    torn = isinstance(error, RuntimeError) and any(each in message for each in lost)
    return torn or isinstance(error, dist.DistError)


def _leave() -> None:
    """Leave the process group at the end; a process that failed just ends, as the others notice."""
    if dist.is_initialized() and not console.has_failed():
        # A replica that somebody still holds would keep the group and its threads until after the
        # end of the interpreter, where a thread that still has to let go of a callback aborts.
        for each in _replicated:
            if (world := each()) is not None:
                world._replica = None
        gc.collect()
        dist.destroy_process_group()


def is_joined() -> bool:
    """Whether this process is one of several, whose threads may outlive the interpreter."""
    return dist.is_initialized()
