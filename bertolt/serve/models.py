"""The models that a server answers with, by name; loaded, taken over and unloaded as it runs.

A request holds the version that was there when it came, so that a new one loses no request. The
folders are known from the start: a request names a model, and no name of a request is opened.
"""

from __future__ import annotations

import gc
import hashlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bertolt.base.errors import BertoltError, CheckpointError
from bertolt.base.machine import give_back_memory
from bertolt.base.threads import in_a_thread_of_its_own
from bertolt.checkpoint import huggingface, sentence_files
from bertolt.models.config import BertConfig
from bertolt.models.families.base import read_config
from bertolt.serve.errors import RefusedError
from bertolt.serve.log import Log, in_log, log_nothing
from bertolt.tasks.base import Task
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.registry import contract_in, task_of

Load = Callable[[str], Predictor]
"""Opens a folder."""

_READ = 1 << 20
_SHOWN = 80  # characters of a name, in a message
_HASHED = (".json", ".txt", ".model", ".safetensors", ".bin", ".onnx", ".xml", ".data")
_LEFT_OUT = ("run.json", "metrics.json", "complete.json")


class ServedModel:
    """A version of a model that answers.

    Attributes:
        name: as requests have it.
        version: of its files.
        predictor: that answers.
        error: the type of that of the last pass, until another one is well; None: all is well.
        log: takes a line for each pass that failed.
        since: when it was loaded, in seconds since 1970.
        promise: what clients know of its answers.
    """

    def __init__(self, name: str, version: str, predictor: Predictor) -> None:
        self.name, self.version, self.predictor = name, version, predictor
        self.error: str | None = None
        self.log: Log = log_nothing
        self.since = time.time()
        self.promise = promise(predictor.task, predictor.model.config)
        self._asked = {pairs: predictor.asked_in(pairs) for pairs in (False, True)}

    def asked_in(self, pairs: bool) -> Predictor:
        """What answers pairs, or single texts."""
        return self._asked[pairs]

    def failed(self, error: BaseException) -> None:
        """A pass of it ended in an error: it is not ready until a probe is answered."""
        self.error = type(error).__name__  # which anybody may read; what it says has texts in it
        self.log("pass failed", model=self.name, version=self.version, **in_log(error))

    def to_dict(self) -> dict[str, Any]:
        """What clients are told of it."""
        predictor = self.predictor
        task = predictor.task
        return {
            "id": self.name,
            "object": "model",
            "created": int(self.since),
            "owned_by": "bertolt",
            "version": self.version,
            "task": task.name,
            "labels": _labels(task, predictor.model.config),
            "vectors": task.vectors,
            "max_length": predictor.max_length,
            "long": predictor.long.how,
            "precision": predictor.precision.name,
            "engine": predictor.engine.name,
            "ready": self.error is None,
            "request": request_schema(predictor),
            "answer": answer_schema(predictor),
        }


def _labels(task: Task, config: BertConfig) -> list[str] | None:
    """The labels, where the task has some."""
    if "id2label" not in task.config_changes():
        return None
    return [config.id2label[place] for place in range(config.num_labels)]


Promise = dict[str, Any]
"""What clients know of the answers of a model: who reads them by it reads all others wrongly."""


def promise(task: Task, config: BertConfig) -> Promise:
    """What clients know of a model's answers; in which order labels stand is no part of it."""
    labels = _labels(task, config)
    return {
        "task": task.name,
        "labels": None if labels is None else sorted(labels),
        "parts": sorted(task.flat_names()),
        "numbers of a vector": config.hidden_size if task.vectors else None,
    }


def promise_in(folder: str) -> Promise:
    """The same of what a folder holds, by its small files: no weight is read.

    Raises:
        CheckpointError: one of these files cannot be used.
    """
    with _whole(folder):
        path = huggingface.resolve(folder)
        config = read_config(path)
        return promise(task_of(config, contract_in(path, config), folder), config)


def differences(before: Promise, after: Promise) -> str:
    """What clients would read otherwise, with both; empty: nothing."""
    names = [name for name in before if before[name] != after[name]]
    if "task" in names or "labels" in names:
        names = [name for name in names if name in ("task", "labels")]  # the others follow
    return ", ".join(f"{name} {_one(before[name])} -> {_one(after[name])}" for name in names)


def _one(value: Any) -> str:
    listed = ", ".join(value) if isinstance(value, list) else str(value)
    return listed if len(listed) <= _SHOWN else f"{listed[:_SHOWN]}…"


def example_for(predictor: Predictor) -> dict[str, Any]:
    """An example that a predictor can be asked."""
    mask = predictor.tokenizer.mask_token
    example: dict[str, Any] = {"text": f"It is {mask}." if mask else "It is good."}
    if predictor.takes_pairs:
        several = predictor.task.several_pairs
        example["text_pair"] = ["It is.", "It is not."] if several else example["text"]
    return example


def request_example(predictor: Predictor) -> Any:
    """The same as a request has it: a text alone, where that is enough."""
    names = {role: name for name, role in predictor.task.request_roles.items()}
    asked = example_for(predictor)
    if predictor.task.question_fault(simple := {**asked, "text": "It is good."}) is None:
        asked = simple
    example = {names.get(role, role): value for role, value in asked.items()}
    required = predictor.task.request_schema(predictor.trained_on_pairs)["required"]
    if required == ["text"]:
        return example["text"]
    return {name: example[name] for name in required}


def answer(predictor: Predictor) -> None:
    """Have a predictor answer one example.

    Raises:
        BertoltError: it cannot.
    """
    predictor = predictor.asked_in(bool(predictor.trained_on_pairs))
    for prediction in predictor.predict([example_for(predictor)]):
        predictor.task.public(prediction.answer)


def selftest(predictor: Predictor, folder: str) -> list[str]:
    """How a folder answers the golden inputs otherwise than it was saved with, in words.

    Its answers are in fp32 or of a graph, and are held to such; in another number format, numbers
    that are all but equal may change places.
    """
    exact = predictor if predictor.precision.name == "fp32" else Predictor.as_saved(folder)
    return exact.selftest()


def request_schema(predictor: Predictor) -> dict[str, Any]:
    """What a model may be asked: a text alone, where that is enough, or an example."""
    example = predictor.task.request_schema(predictor.trained_on_pairs)
    if example["required"] != ["text"]:
        return example
    return {"anyOf": [example["properties"]["text"], example]}


def answer_schema(predictor: Predictor) -> dict[str, Any]:
    """What a model answers, without the account that the server adds."""
    return predictor.task.answer_schema()


class Models:
    """The models by name.

    Args:
        folders: by name.
        load: opens one.
        selftest: refuse a version whose golden answers differ.
        parent: a folder whose folders are models too, by their own names.

    Attributes:
        log: takes a line for each pass of a model that failed.
    """

    def __init__(
        self,
        folders: Mapping[str, str],
        load: Load = Predictor.from_pretrained,
        *,
        selftest: bool = False,
        parent: Path | None = None,
    ) -> None:
        self._load, self._selftest, self._parent = load, selftest, parent
        self.log: Log = log_nothing
        self._given = dict(folders)
        self._local = {name for name, folder in folders.items() if Path(folder).is_dir()}
        self._served: dict[str, ServedModel] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._changing = threading.Lock()

    @property
    def folders(self) -> dict[str, str]:
        """Every folder that may be loaded, by name; those of `parent` as it is now."""
        found = {}
        if self._parent is not None and self._parent.is_dir():
            for path in sorted(self._parent.iterdir()):
                # One with a dot is hidden, or not whole: exports and runs fill such beside theirs.
                if not path.name.startswith(".") and (path / "config.json").is_file():
                    found[path.name] = str(path)
        return found | self._given

    @property
    def served(self) -> list[ServedModel]:
        """Those that answer, in the order of their names."""
        served = dict(self._served)  # another thread may load or unload meanwhile
        return [served[name] for name in sorted(served)]

    def load(self, name: str, *, changed: bool = False, again: bool = False) -> ServedModel:
        """Load the folder of a name, or the new version that is in it now, and answer with it.

        Until it has answered a first text, the version before answers; so it does if it fails.

        Args:
            name: of the folder.
            changed: take over a version whose task or labels are others, too.
            again: only if a version of it answers until then.

        Raises:
            RefusedError: there is no such name; or nothing of it answers any more.
            BertoltError: the folder cannot be loaded, its answers are not those it was saved
                with, or who reads those of the version before would read them wrongly.
        """
        folder = self.folders.get(name)
        if folder is None:
            raise RefusedError(
                404,
                f"there is no folder of the name {_shown(name)}",
                fix=f"the server knows {', '.join(sorted(self.folders)) or 'no folder'}",
                param="name",
            )
        with self._changing:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            before = self.named(name) if again else self._served.get(name)
            if name in self._local and not Path(folder).is_dir():  # nor is it asked of a hub
                raise CheckpointError("the folder is gone", place=folder, fix="put it back")
            known = None if before is None or changed else before.promise
            if known is not None and Path(folder).is_dir():  # of an id nothing is fetched for that
                _require_same(name, folder, known, promise_in(folder))
            version = version_of(folder)
            if before is not None and before.version == version and before.error is None:
                return before
            try:
                model = in_a_thread_of_its_own(partial(self._opened, name, folder, version))
                if known is not None:  # the folder may have changed since it was looked at
                    _require_same(name, folder, known, model.promise)
                model.log = self._told
                self._put(model, again=again)
            except BaseException as error:
                _let_go(error)
                _give_back()
                raise
            if before is not None and (others := differences(before.promise, model.promise)):
                self._told("answers changed", model=name, version=version, changes=others)
        del before  # requests that hold it are answered; then nobody has it
        _give_back()
        return model

    def _put(self, model: ServedModel, *, again: bool) -> None:
        """Have a version take requests; `again`: if another one does."""
        with self._changing:  # or else it is unloaded between the look and the change
            if again:
                self.named(model.name)
            self._served[model.name] = model

    def _told(self, event: str, **values: Any) -> None:
        self.log(event, **values)  # as it is now: models are loaded before there is a log

    def _opened(self, name: str, folder: str, version: str) -> ServedModel:
        """A version that has answered a first text."""
        model = ServedModel(name, version, self._load(folder))
        if version_of(folder) != version:
            raise CheckpointError(
                "the folder changed while it was read", place=folder, fix="load it again"
            )
        answer(model.predictor)
        if self._selftest and (faults := selftest(model.predictor, folder)):
            raise CheckpointError(
                f"{len(faults)} golden answers differ: {faults[0]}",
                place=folder,
                fix="fine-tune it again, or serve it without --selftest",
            )
        return model

    def unload(self, name: str) -> str:
        """Take no more requests for a model; those that are there are answered.

        Returns:
            The version that answered.

        Raises:
            RefusedError: it is not loaded.
        """
        with self._changing:
            model = self._served.pop(name, None)
        if model is None:
            raise RefusedError(
                404, f"no model {_shown(name)} is loaded", fix=self.what_there_is(), param="name"
            )
        version = model.version
        del model
        _give_back()
        return version

    def of_task(self, task: str, name: str | None) -> ServedModel:
        """The model of a task that a request names, or the one there is.

        Raises:
            RefusedError: there is none, or there are several and none is named.
        """
        served = self.served
        fitting = self.doing(task)
        if name is not None:
            model = next((each for each in served if each.name == name), None)
            if model is None or model not in fitting:
                said = f"there is no model {_shown(name)} for {task}"
                if model is not None:
                    said = f"{name!r} does {model.predictor.task.name}"
                raise RefusedError(
                    404,
                    said,
                    fix=f"name one of {_names(fitting)}",
                    param="model",
                    code="model_not_found",
                )
            return model
        if len(fitting) == 1:
            return fitting[0]
        raise RefusedError(
            400,
            f"{len(fitting)} models do {task}",
            fix=f"name one: {_names(fitting)}",
            param="model",
        )

    def doing(self, task: str) -> list[ServedModel]:
        """The models of a task.

        Raises:
            RefusedError: there is none.
        """
        fitting = [model for model in self.served if model.predictor.task.name == task]
        if not fitting:
            raise RefusedError(404, f"no model does {task[:_SHOWN]}", fix=self.what_there_is())
        return fitting

    def named(self, name: str) -> ServedModel:
        """The model of a name.

        Raises:
            RefusedError: it is not loaded.
        """
        model = self._served.get(name)
        if model is None:
            raise RefusedError(
                404, f"there is no model {_shown(name)}", fix=self.what_there_is(), param="model"
            )
        return model

    def what_there_is(self) -> str:
        """The tasks of the models that answer, in words."""
        each = [f"{model.predictor.task.name} (model {model.name!r})" for model in self.served]
        return f"there is {', '.join(each)}" if each else "load one"


def _require_same(name: str, folder: str, known: Promise, found: Promise) -> None:
    """Refuse a version whose answers clients would read wrongly.

    Raises:
        CheckpointError: they would.
    """
    if others := differences(known, found):
        raise CheckpointError(
            f"its answers are others than those of the version that is served: {others}",
            place=folder,
            fix=f"once its clients know, POST /v1/models/{name}/load?changed=yes, or restart the "
            "server",
        )


def _let_go(error: BaseException | None) -> None:
    """Take the model out of an error that is on its way: its frames hold what they worked with."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _give_back() -> None:
    """Give the system the memory of what nobody holds any more."""
    gc.collect()  # errors hold the frames that they came through, and so their version
    give_back_memory()


def _shown(name: str) -> str:
    """A name of a request, which may be as long as its body."""
    return repr(name[:_SHOWN])


def _names(models: list[ServedModel]) -> str:
    return ", ".join(repr(model.name) for model in models)


def version_of(folder: str) -> str:
    """A short name of what a folder holds: other weights, config or contract have another.

    Raises:
        CheckpointError: a file of it cannot be read.
    """
    with _whole(folder):
        return _version_of(folder)


@contextmanager
def _whole(folder: str) -> Iterator[None]:
    """Turn what the system says of a file that cannot be read into an error with a fix."""
    try:
        yield
    except BertoltError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"it cannot be read: {error}", place=folder, fix="load it once it is whole"
        ) from error


def _version_of(folder: str) -> str:
    path = Path(folder)
    if not path.is_dir():
        return folder
    digest = hashlib.sha256()
    for file in [*sorted(path.iterdir()), *sentence_files.in_folders(path)]:
        if file.is_file() and file.suffix in _HASHED and file.name not in _LEFT_OUT:
            digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as data:
                while part := data.read(_READ):
                    digest.update(part)
    return digest.hexdigest()[:12]
