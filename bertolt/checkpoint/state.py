"""What a run needs to go on as if it had never stopped: written into a checkpoint and read back.

Weights, the optimizer's tensors, the schedule, the random generators, and whatever plain values and
tensors the run adds. Everything is safetensors or JSON; floats keep every bit in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bertolt.base.errors import BertoltError, CheckpointError, UsageError
from bertolt.base.json_files import read_json
from bertolt.base.randomness import set_random_state
from bertolt.checkpoint import huggingface, plain, sharded
from bertolt.checkpoint.loadable import Loadable
from bertolt.checkpoint.weights import read_tensors, write_tensors

if TYPE_CHECKING:
    from bertolt.base.distributed import World

STATE = "state.json"
OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
EXTRA = "extra.safetensors"


class TrainingState(NamedTuple):
    """What training changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run keeps beside its parts.

    Attributes:
        values: anything that JSON has; floats may be NaN.
        tensors: by name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def write_state(
    folder: Path,
    parts: TrainingState,
    extra: RunFacts,
    generators: Mapping[str, Tensor],
    *,
    first: bool = True,
) -> None:
    """Write the state of a run into a folder that is there.

    Of several processes the first calls this, and all if the model is split over them.

    Args:
        folder: the files go into it.
        parts: as they are now.
        extra: to be read back with them.
        generators: from `random_state`.
        first: this is the first process, which writes what all have.

    Raises:
        UsageError: the optimizer or the scheduler has a state that is neither tensors nor JSON.
        OSError, BertoltError: the file system refused.
    """
    tensors, values = _taken_apart(parts.optimizer)
    if sharded.is_split_model(parts.model):
        sharded.save_parts(folder, sharded.named_weights(parts.model) | tensors)
        if not first:
            return
    else:
        if isinstance(parts.model, Loadable):
            huggingface.save(parts.model, folder)
        else:
            plain.save(parts.model, folder)
        write_tensors(folder / OPTIMIZER, tensors)
    scheduler = None if parts.scheduler is None else parts.scheduler.state_dict()
    state = {"extra": dict(extra.values), "optimizer": values, "scheduler": scheduler}
    write_tensors(folder / RANDOM, generators)
    # What callbacks keep of a model that is split is not worth a gathering; they begin anew.
    whole = {name: value for name, value in extra.tensors.items() if not sharded.is_split(value)}
    write_tensors(folder / EXTRA, whole)
    try:
        text = json.dumps(state, default=_plain, indent=1, ensure_ascii=False)
    except TypeError as error:
        raise UsageError(
            f"the run has a state that no checkpoint can keep ({error})",
            place=f"{type(parts.optimizer).__name__}, {type(parts.scheduler).__name__}",
            fix='use an optimizer and a schedule of torch, or save_strategy="no"',
        ) from error
    (folder / STATE).write_text(text + "\n", encoding="utf-8")


def read_run_facts(checkpoint: Path) -> RunFacts:
    """The facts that the run added to a checkpoint.

    Raises:
        CheckpointError: the folder is no checkpoint of a run.
    """
    values = _read(checkpoint)["extra"]
    return RunFacts(values=dict(values), tensors=read_tensors(checkpoint / EXTRA))


def restore_state(checkpoint: Path, parts: TrainingState, *, rank: int = 0) -> None:
    """Set the parts and the random generators to what they were, bit by bit.

    All processes of a run call it; `rank` is the number of this one.

    Raises:
        CheckpointError: the folder is no checkpoint of a run, or of one with other parts.
    """
    state = _read(checkpoint)
    restore_weights(checkpoint, parts.model)
    if isinstance(parts.model, Loadable):
        parts.model.has_learned = True
    try:
        tensors = _optimizer_tensors(checkpoint, parts.optimizer)
        _put_together(parts.optimizer, tensors, state["optimizer"])
        if parts.scheduler is not None:
            fresh = parts.scheduler.state_dict()
            parts.scheduler.load_state_dict(_shaped_like(fresh, state["scheduler"]))
    except BertoltError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"its optimizer or schedule is not the one of this run ({error})",
            place=str(checkpoint),
            fix="resume with the settings that it was made with",
        ) from error
    generators = own_generators(read_tensors(checkpoint / RANDOM), rank)
    try:
        if generators:
            set_random_state(generators, next(parts.model.parameters()).device)
    except (KeyError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise CheckpointError(
            f"its random generators cannot be set ({error})",
            place=str(checkpoint / RANDOM),
            fix="resume from another checkpoint",
        ) from error


def restore_weights(checkpoint: Path, model: nn.Module) -> None:
    """Give a model the weights of a checkpoint, whichever way it was saved.

    Raises:
        CheckpointError: the weights are of another model.
    """
    if not isinstance(model, Loadable):
        plain.restore(model, checkpoint)
    elif sharded.is_split_model(model) or (checkpoint / sharded.FOLDER).is_dir():
        sharded.load_model(checkpoint, model)
    else:
        huggingface.restore(model, checkpoint)


def _optimizer_tensors(checkpoint: Path, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    split = any(sharded.is_split(p) for group in optimizer.param_groups for p in group["params"])
    if split or (checkpoint / sharded.FOLDER).is_dir():
        return sharded.load_optimizer(checkpoint, optimizer)
    return read_tensors(checkpoint / OPTIMIZER)


def everybodys_generators(own: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """The random states of all processes: of the first as NAME, of others as RANK.NAME."""
    if world.alone:
        return dict(own)
    generators: dict[str, Tensor] = {}
    for name in sorted(own):
        for rank, state in enumerate(world.gather(own[name].cpu())):
            generators[f"{rank}.{name}" if rank else name] = state
    return generators


def own_generators(generators: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The random state of a process; empty if there were fewer processes when it was saved."""
    if not rank:
        return {name: state for name, state in generators.items() if not name[0].isdigit()}
    start = f"{rank}."
    return {
        name.removeprefix(start): state
        for name, state in generators.items()
        if name.startswith(start)
    }


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        state = read_json(checkpoint / STATE)
        if not isinstance(state["extra"], dict):
            raise TypeError("what a run added is not an object")
        return {name: state[name] for name in ("extra", "optimizer", "scheduler")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            "this is no checkpoint of a run",
            place=str(checkpoint),
            fix="name a checkpoint-STEP that Bertolt wrote while training",
        ) from error


def _taken_apart(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of an optimizer's state as NUMBER.NAME, and the rest of the state as JSON."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{index}.{name}"] = value
    return tensors, {"numbers": numbers, "groups": state["param_groups"]}


def _put_together(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values["numbers"]}.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = _shaped_like(optimizer.state_dict()["param_groups"], values["groups"])
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _plain(value: object) -> object:
    """A tensor or an array of one number as the number: a learning rate may be one."""
    if isinstance(value, Tensor | np.generic) and getattr(value, "ndim", 0) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _shaped_like(fresh: Any, value: Any) -> Any:
    """A value that went through JSON, with tuples, keys and tensors restored after a fresh one."""
    if isinstance(fresh, Tensor):
        return torch.full_like(fresh, value)
    if isinstance(value, dict):
        keys = {str(key): key for key in fresh} if isinstance(fresh, Mapping) else {}
        return {
            keys.get(key, key): _shaped_like(fresh[keys[key]] if key in keys else None, item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        known = list(fresh) if isinstance(fresh, list | tuple) else []
        known += [None] * (len(value) - len(known))
        items = [_shaped_like(old, item) for old, item in zip(known, value, strict=False)]
        return tuple(items) if isinstance(fresh, tuple) else items
    return value
