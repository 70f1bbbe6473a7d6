"""What all pipelines share: their arguments, and how a `ReadyModel` answers their windows.

Shapes: B windows, L tokens of a window, C classes.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from bertolt.base.arguments import refuse_unknown, tell_unused
from bertolt.base.errors import BertoltError, UsageError
from bertolt.models.customised import require_unwrapped
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.ready import ReadyModel
from bertolt.tokenization import BertTokenizer
from bertolt.tokenization.rows import one_of, require_whole

_STREAMED = 64
_LISTED = 2048
# Settings that change no answer here, and why.
_UNUSED = {
    "num_workers": "texts are tokenized by the threads of the tokenizer",
    "binary_output": "answers are plain values",
    "framework": "models are PyTorch's",
}


_AS_THE_WEIGHTS = PrecisionChoice("fp32", "products are computed in the weights' own format")


class Window(NamedTuple):
    """What the model sees of an example at once.

    Attributes:
        row: for the collator: `input_ids` and what goes with them.
        about: what the decoding needs to know of it.
    """

    row: Mapping[str, Any]
    about: Any = None


class Pipeline(abc.ABC):
    """A model, its tokenizer, and the settings of its answers.

    Settings are given when it is built, and for one call when it is called.

    Args:
        model: with the head of the task. It answers with the weights that it has when it is asked.
        tokenizer: that fits it.
        device: to move the model to; None: where it is.
        batch_size: no more tokens run at once than so many of the longest texts have; no answer
            depends on it.
        settings: of this task, see `defaults`.

    Raises:
        UsageError: another model, or a setting that there is not.
        CheckpointError: a head that was never trained, or a tokenizer of another model.
    """

    task: ClassVar[str]
    head: ClassVar[type[PreTrainedModel]]
    defaults: ClassVar[Mapping[str, Any]]
    """Settings with the values that they have when nobody gives others."""
    unused: ClassVar[Mapping[str, str]] = {}
    """Settings of the peer that change no answer here, and why."""
    instead: ClassVar[Mapping[str, str]] = {}
    """Settings that the peer has and this has not, with what to write instead."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: BertTokenizer,
        *,
        device: torch.device | None = None,
        batch_size: int | None = None,
        **settings: Any,
    ) -> None:
        require_unwrapped(model, "pipeline")
        if not isinstance(model, self.head):
            raise UsageError(
                f"{self.task} needs a model with another head than a {type(model).__name__} has",
                fix=f"open it with AutoModelFor{self.head.__name__}.from_pretrained"
                if self.head is not PreTrainedModel
                else "give a model of Bertolt's, as AutoModel.from_pretrained opens",
            )
        self._ready = ReadyModel(model, tokenizer, self.task, _AS_THE_WEIGHTS)
        require_whole("batch_size", batch_size, least=1)
        self.model = model if device is None else model.move(device)
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._given = self._known(settings)
        self.checked({**self.defaults, **self._given})

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def freeze(self) -> None:
        """Answer from now on by copies of the encoder's layers, made ready once, where that can be.

        After a change of `model` call it again.
        """
        self._ready.refresh()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and the tokenizer, to be opened by `pipeline(task, folder)`."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def __call__(self, inputs: Any, *, batch_size: int | None = None, **settings: Any) -> Any:
        """The answer to one input; a list of answers to a list; an iterator over them to a stream.

        A stream is a generator or a data set; of a generator up to 64 inputs, or `batch_size`, are
        read before the first is answered.

        Raises:
            UsageError: a setting that there is not, or a text that is longer than the model takes.
            DataError: what is no text.
        """
        require_whole("batch_size", batch_size, least=1)
        size = batch_size or self.batch_size
        chosen = self.checked({**self.defaults, **self._given, **self._known(settings)})
        if isinstance(inputs, list):
            return list(self._answers(inputs, chosen, size, _LISTED))
        if not isinstance(inputs, str | bytes | Mapping | tuple):
            if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):
                rows = (inputs[number] for number in range(len(inputs)))
                return self._answers(rows, chosen, size, _LISTED)
            if isinstance(inputs, Iterable):
                return self._answers(inputs, chosen, size, size or _STREAMED)
        return next(self._answers([inputs], chosen, size, 1))

    def predict(self, inputs: Any, **settings: Any) -> Any:
        """As a call."""
        return self(inputs, **settings)

    transform = predict

    def _known(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings without those that change nothing, which are told."""
        tell_unused(settings, {**_UNUSED, **self.unused})
        refuse_unknown(self.task, settings, self.names(), self.instead)
        return settings

    def names(self) -> list[str]:
        """The settings that there are."""
        return list(self.defaults)

    def checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings as they are worked with.

        Raises:
            UsageError: a value that cannot be.
        """
        return settings

    @abc.abstractmethod
    def encode(
        self, examples: Sequence[Any], settings: Mapping[str, Any]
    ) -> Iterable[Sequence[Window]]:
        """The windows of each example."""

    def rows(self, texts: Sequence[Any], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A row for the collator for each text or pair; `options` are the tokenizer's."""
        batch = self.tokenizer(list(texts), **{**options, "return_tensors": None, "padding": False})
        return rows_of(batch)

    @abc.abstractmethod
    def decode(
        self,
        example: Any,
        windows: Sequence[Window],
        outputs: Sequence[Tensor],
        settings: Mapping[str, Any],
    ) -> Any:
        """The answer to an example; `outputs` are on the CPU, one for each window."""

    def _answers(
        self, inputs: Iterable[Any], settings: Mapping[str, Any], size: int | None, ahead: int
    ) -> Iterator[Any]:
        stream = iter(inputs)
        before = 0
        while examples := list(islice(stream, ahead)):
            encoded = [list(windows) for windows in self.encode(examples, settings)]
            for number, windows in enumerate(encoded, start=before):
                self._require_room(number, windows)
            outputs = iter(self._run([w for windows in encoded for w in windows], size))
            for example, windows in zip(examples, encoded, strict=True):
                own = [next(outputs) for _ in windows]
                yield self.decode(example, windows, own, settings)
            before += len(examples)

    def _require_room(self, number: int, windows: Sequence[Window]) -> None:
        limit = self.model.config.max_tokens
        longest = max((len(window.row["input_ids"]) for window in windows), default=0)
        if longest > limit:
            raise UsageError(
                f"it has {longest} tokens, and the model takes {limit}",
                place=f"text {number}",
                fix=self.fix_of_length(limit),
            )

    def fix_of_length(self, limit: int) -> str:
        """What to do about a text that is too long."""
        return f"cut it: truncation=True, max_length={limit}"

    def _run(self, windows: Sequence[Window], size: int | None) -> list[Tensor]:
        """The model's outputs on the CPU for each window, in their order."""
        outputs = self._ready.outputs([window.row for window in windows], at_once=size)
        if not all(bool(values.isfinite().all()) for values in outputs):
            raise BertoltError(
                "the model's outputs are not finite",
                fix="look for weights that are not finite, or open it with dtype='float32'",
            )
        return outputs


def rows_of(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a model reads of each row of a tokenizer's output."""
    names = [name for name in ("input_ids", "token_type_ids") if name in batch]
    return [{name: batch[name][row] for name in names} for row in range(len(batch["input_ids"]))]


def one_of_names(name: str, value: Any, allowed: Sequence[str]) -> str:
    """A setting that is one of some words, in any case; an enumeration's value too.

    Raises:
        UsageError: another value.
    """
    text = str(getattr(value, "value", value)).lower()
    word: str = one_of(name, text, allowed)
    return word
