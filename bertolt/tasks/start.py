"""The model of a task as training begins with it: that of a folder, its outputs by their names.

A head of other labels, of another task or in other units fits wherever the shapes do, so nothing is
taken over by its place alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bertolt.base.console import info
from bertolt.base.errors import CheckpointError
from bertolt.base.format import plural
from bertolt.checkpoint import huggingface
from bertolt.data.table_file import listing
from bertolt.models.config import BertConfig
from bertolt.models.families.base import family_of, read_config
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.base import Task
from bertolt.tasks.registry import contract_in, task_of


def started(
    task: Task, folder: Path, *, say: bool = True, verbose: bool = True, **named: Any
) -> PreTrainedModel:
    """The model of a task with the weights of a folder, and a head for the label space of the task.

    Outputs that the folder's head has under the same names, of the same task, are taken over, in
    the units of the task; the others are new.

    Args:
        task: that is to be learned.
        folder: of the model to begin with.
        say: whether to say, in one line, what becomes of a head of another label space.
        verbose: print the load report.
        named: further arguments of `from_pretrained`, such as `seed`.

    Raises:
        CheckpointError: the folder cannot be loaded.
    """
    config = read_config(folder)
    layer = task.head._kind_for(config, str(folder))._output_layer
    prefix = family_of(config.model_type).prefix
    keys = (f"{layer}.weight", f"{layer}.bias") if layer else ()
    before = huggingface.read_some(folder, keys, prefix) if keys else {}
    theirs, why = _task_in(folder, config, before.get(f"{layer}.weight"))
    same = theirs is not None and _same_outputs(task, theirs)
    anew = rf"^{re.escape(layer)}\." if before and not same else ()
    model: PreTrainedModel = task.head.from_pretrained(
        folder, verbose=False, keys_to_start_anew=anew, **task.config_changes(), **named
    )
    pairs: list[tuple[int, int]] = []
    if anew:
        pairs = _pairs(task, theirs)
        if theirs is not None and len(before) == len(keys) and pairs:
            _put(model.get_submodule(layer), task, theirs, [before[key] for key in keys], pairs)
            _report(model, keys, len(pairs), len(_names(task)))
        else:
            pairs = []
    if verbose:
        info(str(model.load_report))
    if anew and say:
        info(_words(task, theirs, pairs, why))
    return model


def _task_in(folder: Path, config: BertConfig, weight: Tensor | None) -> tuple[Task | None, str]:
    """The task of a folder's head; None: it has no such head, or why nobody knows its labels."""
    if weight is None:
        return None, ""
    try:
        task = task_of(config, contract_in(folder, config), str(folder))
    except CheckpointError as error:
        return None, error.problem
    count = len(_names(task)) or 1
    if len(weight) != count:
        return None, f"{len(weight)} outputs, and config.json has {count}"
    return task, ""


def _names(task: Task) -> list[str]:
    """The names of the outputs; empty where the task has no such names."""
    return [str(name) for name in task.config_changes().get("id2label", {}).values()]


def _same_outputs(task: Task, other: Task) -> bool:
    """Whether outputs of both tasks mean the same, place by place."""
    return type(task) is type(other) and _names(task) == _names(other) and task.units == other.units


def _pairs(task: Task, theirs: Task | None) -> list[tuple[int, int]]:
    """Places of outputs with one name, in this task and in that of the folder.

    Names that another library made up, LABEL_0 and so on, are numbers where all labels of the rows
    are.
    """
    if theirs is None or type(theirs) is not type(task):
        return []
    ours, names = _names(task), _names(theirs)
    if names == [f"LABEL_{place}" for place in range(len(names))] and set(ours) <= set(
        map(str, range(len(names)))
    ):
        names = [str(place) for place in range(len(names))]
    places = {name: place for place, name in enumerate(names)}
    return [(place, places[name]) for place, name in enumerate(ours) if name in places]


@torch.no_grad()
def _put(
    layer: nn.Module,
    task: Task,
    theirs: Task,
    before: Sequence[Tensor],
    pairs: Sequence[tuple[int, int]],
) -> None:
    """Give outputs the weight (C, H) and bias (C,) of those of a folder that have their names."""
    assert isinstance(layer, nn.Linear)
    ours, places = map(list, zip(*pairs, strict=True))
    weight, bias = before[0][places].double(), before[1][places].double()
    if task.units is not None and theirs.units is not None:
        (mean, scale), (old_mean, old_scale) = (
            torch.tensor(each.units, dtype=torch.float64)[:, index]
            for each, index in ((task, ours), (theirs, places))
        )
        weight = weight * (old_scale / scale)[:, None]
        bias = (bias * old_scale + old_mean - mean) / scale
    layer.weight[ours] = weight.to(layer.weight.dtype)
    layer.bias[ours] = bias.to(layer.bias.dtype)


def _report(model: PreTrainedModel, keys: Sequence[str], taken: int, count: int) -> None:
    """Let the load report say how many rows of the head come from the file."""
    report = model.load_report
    if report is None:
        return
    for key in keys:
        report.ignored.pop(key, None)
        if taken < count:
            report.partly[key] = f"{taken} of {plural(count, 'output')}, by name"
        else:
            report.initialised.pop(key, None)
            report.loaded[key] = key


def _words(task: Task, theirs: Task | None, pairs: Sequence[tuple[int, int]], why: str) -> str:
    """What becomes of the head of the folder."""
    if not pairs:
        other = (
            f"one whose labels are not known ({why})"
            if theirs is None
            else f"one {_purpose(theirs)}"
        )
        return f"Head: a new one {_purpose(task)}; the model had {other}"
    assert theirs is not None
    ours, old = _names(task), _names(theirs)
    here, there = ({pair[side] for pair in pairs} for side in (0, 1))
    new = [name for place, name in enumerate(ours) if place not in here]
    left = [name for place, name in enumerate(old) if place not in there]
    parts = [f"Head: {listing([ours[place] for place, _ in pairs])} taken over by name"]
    parts += ["in the units of these rows"] if task.units != theirs.units else []
    parts += [f"new: {listing(new)}"] if new else []
    parts += [f"left out: {listing(left)}"] if left else []
    return "; ".join(parts)


def _purpose(task: Task) -> str:
    names = _names(task)
    return f"for {task.name}" + (f" with {listing(names)}" if names else "")
