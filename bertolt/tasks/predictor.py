"""`Predictor`: a saved model with its task and its contract, answering in the order things come."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertolt.base.chunks import characters_of, chunks
from bertolt.base.errors import BertoltError, CheckpointError, DataError, UsageError
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.contract import Contract, Golden
from bertolt.checkpoint.exported import ENGINES, Exported
from bertolt.data.encode import EncodedExample, EncodedTexts, encode_examples, gathered
from bertolt.data.long import Long
from bertolt.data.parted import beyond_limit, too_long
from bertolt.data.prefetch import prefetched
from bertolt.models.config import BertConfig, EngineName
from bertolt.models.customised import require_unwrapped
from bertolt.models.engine import GraphEngine
from bertolt.models.families.base import read_config, saved_class
from bertolt.models.precision import PrecisionChoice, choose_precision
from bertolt.models.pretrained import PreTrainedModel
from bertolt.models.runtimes import open_engine
from bertolt.tasks.base import Answer, Example, Output, Task, not_finite
from bertolt.tasks.evaluation import Answered
from bertolt.tasks.long import chosen, encode_by, longer_texts, read, tell
from bertolt.tasks.ready import ReadyModel
from bertolt.tasks.registry import contract_in, has_head, is_encoder, task_named, task_of
from bertolt.tasks.rows import in_examples
from bertolt.tokenization import BertTokenizer
from bertolt.train.loop import RunningLoss

WINDOW = 1024
WINDOW_CHARACTERS = 1 << 19
"""Examples, and characters of them, that are read and sorted by length at a time: enough to fill
batches, and so few that a kill loses little of what a slow model has answered."""
_ON_GPU = 8
"""So many times as much on a GPU, whose batches are larger."""

Asked = str | tuple[str, str] | Mapping[str, Any]
"""A text, a pair of texts, or an example by role."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one example; `prediction.label` is `prediction.answer["label"]`.

    Attributes:
        answer: as the task gives it, in plain values.
        tokens: of the example, special tokens included, before cutting.
        tokens_cut: beyond the limit, and so not seen by the model.
        windows: in which the example was read; or the sequences that it is of.
        parted: whether a text of it is longer than the limit, and was read in several windows.
    """

    answer: Answer
    tokens: int
    tokens_cut: int
    windows: int = 1
    parted: bool = False

    @property
    def truncated(self) -> bool:
        """Whether tokens were cut."""
        return self.tokens_cut > 0

    def __getattr__(self, name: str) -> Any:
        answer = self.__dict__.get("answer", {})
        if name in answer:
            return answer[name]
        raise AttributeError(f"the answer has no {name!r}; it has {', '.join(answer)}")


class Predictor(ReadyModel):
    """A model with the task and the preprocessing it was trained with.

    It answers with the weights that the model has when it is built: call `refresh` after a change
    of `model`. Threads may share it: an answer changes nothing in it, and has the same bits
    whatever other threads ask meanwhile.

    Args:
        model: trained.
        tokenizer: that fits it.
        contract: how its texts were prepared; None: cut at the model's position table.
        task: what it answers; None: as the contract says, or as its head.
        precision: "auto", "fp32", "bf16" or, on a CPU, "int8".
        device: where to run; None: a GPU if there is one.
        long: what is done with a text beyond the limit: "error", "truncate", "head-tail" or
            "window"; None: as in training.
        stride: tokens that a window repeats of the one before it; None: as in training.
        graph: a graph of the model, which answers in its place on the CPU; then `precision` and
            `device` are the graph's own.

    Attributes:
        engine: what answers: the graph, or the model's layers as they were frozen.

    Raises:
        CheckpointError: weights that no training has touched, or no task for such a model.
        UsageError: the task cannot do that with longer texts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: BertTokenizer,
        contract: Contract | None = None,
        *,
        task: Task | None = None,
        precision: str = "auto",
        device: torch.device | None = None,
        long: Long | None = None,
        stride: int | None = None,
        graph: GraphEngine | None = None,
    ) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.graph = graph
        require_unwrapped(model, "Predictor")
        if not isinstance(model, PreTrainedModel):
            raise UsageError(
                f"Predictor got a {type(model).__name__}, which is no model of Bertolt's",
                fix="take a class with a head, as BertForSequenceClassification",
            )
        # Its own name, and the names of the classes that it extends.
        names = [kind.__name__ for kind in type(model).__mro__ if issubclass(kind, PreTrainedModel)]
        config = model.config.changed(architectures=names)
        task = task or task_of(config, contract, names[0])
        if graph is not None:
            self.device, choice = graph.device, graph.precision
        elif precision == "auto" and task.vectors:
            choice = PrecisionChoice("fp32", "the numbers of vectors are the answer")
        else:
            choice = choose_precision(precision, self.device, answering=True)
        super().__init__(model, tokenizer, task.name, choice)
        self.task = task.with_tokenizer(tokenizer)
        self.refresh()
        self.contract = contract
        limit = model.config.max_tokens
        self.max_length = min(contract.max_length, limit) if contract else limit
        kept = contract.long if contract else {}
        self.long_in_training = read(self.task, kept, self.max_length)
        self.long = chosen(self.task, long, stride, self.max_length, self.long_in_training)

    def tell_long(self) -> None:
        """Say so where longer texts are read otherwise than in training."""
        tell(self.task, self.long, self.max_length, self.long_in_training)

    def refresh(self) -> None:
        """Answer with what `model` is now: call it after every change of its weights or modules.

        Until then the layers of the encoder answer as they were. They are copies, in `engine`;
        where they cannot be made, `engine.why_not` says why. Embeddings and the head belong
        to the model: what changes in those is seen at once, before the layers that belong to it. A
        graph stays as it was exported.

        Raises:
            UsageError: the precision is "int8", and the model as it is now cannot answer in it.
        """
        if self.graph is not None:
            self.engine = self.graph
            return
        self.model.move(self.device, self.precision.dtype).eval()
        super().refresh()

    def __getstate__(self) -> dict[str, Any]:
        """All but the copies of the layers, which are made anew: they are laid out for one process.

        So a Predictor may be given to processes and copied.
        """
        return {name: value for name, value in self.__dict__.items() if name != "engine"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.refresh()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        task: str | None = None,
        precision: str = "auto",
        device: torch.device | None = None,
        long: Long | None = None,
        stride: int | None = None,
        engine: EngineName = "auto",
    ) -> Predictor:
        """Load a fine-tuned model, or one that was exported.

        Args:
            name_or_path: a folder, or an id on the hub.
            task: the name of what it answers, where the folder does not say it or a pretrained
                model has several heads; None: as its contract says, or its head.
            precision, device, long, stride: as of the class.
            engine: what answers: "torch", or "onnxruntime" or "openvino" for a folder that was
                exported for it; "auto": as the folder is for.

        Raises:
            UsageError: the model was trained for another task, or the folder is for another engine.
            CheckpointError: it cannot be loaded, has a head that was never trained or that no task
                here is for, its parts do not fit each other, or its graph lacks an output that
                answers are made of.
            UsageError: the task cannot do that with longer texts.
        """
        folder = huggingface.resolve(name_or_path)
        config = read_config(folder)
        contract, place = contract_in(folder, config), str(folder)
        known = (
            task_of(config, contract, place)
            if task is None
            else task_named(task, config, contract, place)
        )
        _require_head(config, contract, known, folder)
        tokenizer = BertTokenizer.from_pretrained(folder)
        how: dict[str, Any] = {"task": known, "long": long, "stride": stride}
        if (card := _card_for(engine, folder)) is not None:
            model = known.head.without_weights(config, **known.head_arguments())
            graph = open_engine(model, folder, card, precision)
            predictor = cls(model, tokenizer, contract, graph=graph, **how)
            _require_outputs(graph, predictor, folder, asked=long is not None)
            return predictor
        model = known.head.from_pretrained(folder, verbose=False, **known.head_arguments())
        model.require_trained(known.name)
        if contract is None and task is None and not has_head(config, known.head):
            raise CheckpointError(
                f"config.json says that it is a {config.architectures[0]}, which has no head that "
                f"answers, and the weights have the head of a {type(model).__name__}",
                place=place,
                fix='name that class in config.json, under "architectures", if it was trained',
            )
        return cls(model, tokenizer, contract, precision=precision, device=device, **how)

    @classmethod
    def as_saved(cls, name_or_path: str | os.PathLike[str]) -> Predictor:
        """The same in the number format of the golden answers: fp32, or as a graph was exported.

        Args:
            name_or_path: a folder, or an id on the hub.

        Raises:
            CheckpointError, UsageError: as `from_pretrained`.
        """
        folder = huggingface.resolve(name_or_path)
        precision = "fp32" if _card_for("auto", folder) is None else "auto"
        return cls.from_pretrained(folder, precision=precision)

    @property
    def labels(self) -> list[str]:
        """Names of the model's outputs, in their order."""
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    @property
    def takes_pairs(self) -> bool:
        """Whether it was trained on pairs of texts."""
        return bool(self.trained_on_pairs)

    @property
    def trained_on_pairs(self) -> bool | None:
        """The same; None where nobody knows, of another library's model, or both may be asked."""
        if self.task.needs_pair:
            return True
        if self.task.free_pairs:
            return self.task.pairs_asked
        return None if self.contract is None else "text_pair" in self.contract.columns

    def predict(
        self,
        texts: Iterable[Asked],
        *,
        window: int | None = None,
        between: Callable[[], object] | None = None,
    ) -> Iterator[Prediction]:
        """Answer texts in their order.

        Args:
            texts: texts, pairs of texts or examples, read in windows and sorted by length inside
                them, so that an endless stream needs no more memory than one window.
            window: to read before the first of them is answered; None: `WINDOW`, or less of long
                texts. On a GPU it is more, and one window more is tokenised in the background.
            between: called after each window whose answers were taken, before the next one is
                answered. The texts behind it have the same bits in a call that begins with them.

        Raises:
            UsageError: one text instead of several, a text where the model takes pairs, or texts
                of which some are pairs and others are not.
            DataError: a text of which the task cannot be asked, as one without a mask.
        """
        return self._predict(self.windows(texts, window), window, between)

    def windows(self, texts: Iterable[Asked], window: int | None = None) -> Iterator[list[Example]]:
        """The texts by role, in the lists of them that are read before the first is answered.

        Args:
            texts, window: as in `predict`.

        Raises:
            UsageError, DataError: as in `predict`.
        """
        if isinstance(texts, str | Mapping):
            raise UsageError("predict takes several texts", fix="give a list: predict([text])")
        examples = (self._example(number, text) for number, text in enumerate(texts, start=1))
        times = _ON_GPU if self.device.type == "cuda" else 1
        count, characters = window or times * WINDOW, times * WINDOW_CHARACTERS
        return chunks(_alike(examples), count, characters, characters_of)

    def _predict(
        self,
        parts: Iterator[list[Example]],
        window: int | None,
        between: Callable[[], object] | None,
    ) -> Iterator[Prediction]:
        ahead = window is None and self.device.type == "cuda"
        encoding = (
            prefetched(self._encode, parts) if ahead else nullcontext(map(self._encode, parts))
        )
        with encoding as windows:
            count = 0
            for part, rows in windows:
                if between is not None and count:
                    between()
                yield from map(_or_raise, self._answer(part, rows, count))
                count += len(part)

    def _example(self, number: int, asked: Asked) -> Example:
        """What is asked, by role; it is the text of that number."""
        if isinstance(asked, str):
            example: Mapping[str, Any] = {"text": asked}
        elif isinstance(asked, tuple) and len(asked) == 2:
            example = {"text": asked[0], "text_pair": asked[1]}
        elif isinstance(asked, Mapping) and "text" in asked:
            example = asked
        else:
            raise UsageError(
                f"predict got a {type(asked).__name__} as one of its texts",
                fix='give a text, a pair as (text, second), or an example as {"text": …}',
            )
        if self.takes_pairs and example.get("text_pair") is None:
            raise UsageError(
                "the model answers pairs of texts, and there is one",
                fix="give each text with its second one: (text, second)",
            )
        if fault := self.task.question_fault(example):
            raise DataError(fault.detail, place=f"text {number}", fix=fault.fix)
        return example

    def asked_in(self, pairs: bool) -> Predictor:
        """The same predictor as it answers pairs of texts, or single ones, where both may be asked;
        the model and what answers for it are shared."""
        if not self.task.free_pairs or self.task.pairs_asked == pairs:
            return self
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, task=self.task.asked_in(pairs))
        return other

    def encode(self, asked: Sequence[Asked]) -> tuple[list[Example], list[EncodedExample]]:
        """Tokenise texts, pairs or examples, for `answer`; another thread may be answering.

        Raises:
            UsageError: as `predict`.
            DataError: as `predict`.
        """
        examples = list(_alike(self._example(n, each) for n, each in enumerate(asked, start=1)))
        encode = encode_by(self.task, self.tokenizer, self.max_length, self.long)
        return examples, list(encode(examples))

    def answer(
        self, examples: Sequence[Example], encoded: Sequence[EncodedExample]
    ) -> Iterator[Prediction | BertoltError]:
        """Answer examples that `encode` has tokenised, in one call or several, in their order.

        An example that cannot be answered has the error in the place of its answer: it is longer
        than the limit where such texts are refused, or its outputs are not finite.
        """
        return self._answer(examples, self._gathered(encoded), 0)

    def too_long(self, example: Example, encoded: EncodedExample) -> BertoltError | None:
        """The error that `answer` has for an example that it refuses for its length."""
        if self.long.how != "error":
            return None
        rows = self._gathered([encoded])
        return self._too_long(rows, 0, example, 1) if beyond_limit(rows)[0] else None

    def _too_long(
        self, rows: EncodedTexts, number: int, example: Example, count: int
    ) -> BertoltError:
        """What to raise for an example that is too long, the `count`th of what is asked."""
        words, role = longer_texts(self.task, self.tokenizer, example, self.max_length)
        error = too_long(rows, number, f"text {count}", self.task.longs, longer=words)
        error.role = role
        return error

    def _encode(self, examples: list[Example]) -> tuple[list[Example], EncodedTexts]:
        encode = encode_by(self.task, self.tokenizer, self.max_length, self.long)
        return examples, in_examples(self.task, encode_examples(encode, examples, self.max_length))

    def _gathered(self, encoded: Sequence[EncodedExample]) -> EncodedTexts:
        return in_examples(self.task, gathered(encoded, self.max_length))

    def _answer(
        self, examples: Sequence[Example], rows: EncodedTexts, before: int
    ) -> Iterator[Prediction | BertoltError]:
        """The answers in the order of the examples, of which `before` were answered earlier."""
        outputs: dict[int, Output] = {}
        answered = Answered(self.model, self.task, rows, RunningLoss())
        lost = rows.cut.sum(axis=1) if rows.cut is not None else None
        windows, parted = rows.windows, rows.parted
        refused = beyond_limit(rows) & (self.long.how == "error")
        collate = answered.collate(self.task.collator(self.model, answering=True))
        for batch in self.batches(answered.rows, answered.rows.lengths, collate):
            numbers, whole = answered.add(batch)
            outputs.update(zip(numbers, whole, strict=True))
        for number, example in enumerate(examples):
            if refused[number]:
                yield self._too_long(rows, number, example, before + number + 1)
            elif not outputs[number].finite:
                yield not_finite(f"text {before + number + 1}")
            else:
                yield Prediction(
                    answer=self.task.decode(outputs[number], example),
                    tokens=int(rows.full_lengths[number]),
                    tokens_cut=0 if lost is None else int(lost[number]),
                    windows=int(windows[number]),
                    parted=bool(parted[number]),
                )

    def make_golden(self, examples: Sequence[Example]) -> list[Golden]:
        """Answers of this model to some examples, to be kept beside it. Meant for fp32."""
        inputs = [
            {role: example[role] for role in ("text", "text_pair") if example.get(role) is not None}
            for example in examples
        ]
        return [
            Golden(example=example, answer=self.task.public(prediction.answer))
            for example, prediction in zip(inputs, self.predict(inputs), strict=True)
        ]

    def selftest(self) -> list[str]:
        """Answer the contract's golden examples again; what differs, in words. For `as_saved`.

        Raises:
            CheckpointError: the contract keeps an answer of another task.
        """
        golden = self.contract.golden if self.contract else []
        again = self.predict([entry.example for entry in golden])
        faults = []
        for number, (entry, prediction) in enumerate(zip(golden, again, strict=True), start=1):
            try:
                fault = self._otherwise(entry.answer, prediction.answer)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise CheckpointError(
                    f"the answer of golden text {number} is not one of {self.task.name}",
                    place="bertolt.json",
                    fix="fine-tune again: the file was written for another task, or changed",
                ) from error
            if fault:
                faults.append(f"golden text {number}: {fault}")
        return faults

    def _otherwise(self, kept: Answer, answer: Answer) -> str:
        """How an answer differs from the one that the contract keeps; empty if it does not."""
        fault = self.task.differs(kept, self.task.public(answer))
        now, before = self.task.describe_answer(answer), self.task.describe_answer(kept)
        return f"{now!r} (it was {before!r}), {fault}" if fault else ""


def _or_raise(answer: Prediction | BertoltError) -> Prediction:
    if isinstance(answer, BertoltError):
        raise answer
    return answer


def _alike(examples: Iterable[Example]) -> Iterator[Example]:
    """The same examples; refused where some have a second text and others do not."""
    pairs: bool | None = None
    for example in examples:
        pair = example.get("text_pair") is not None
        if pairs is not None and pair != pairs:
            raise UsageError(
                "some of the texts have a second one and others do not",
                fix="answer pairs and single texts in two calls",
            )
        pairs = pair
        yield example


def _require_outputs(
    graph: GraphEngine, predictor: Predictor, folder: Path, *, asked: bool
) -> None:
    """Refuse a graph without an output of which answers are made, before the first text comes.

    Args:
        graph, folder: that answer.
        predictor: over them.
        asked: whether the user says what is done with longer texts.

    Raises:
        CheckpointError: there is none.
    """
    place, windows = str(folder), predictor.long.how == "window"
    fix = "export the model again: bertolt export MODEL --out DIR"
    if windows:
        others = [each for each in predictor.task.longs if each not in ("window", "error")]
        place += ", --long window" * asked
        fix += f"; or use --long {' or '.join(others)}" if others else ""
    graph.require_outputs(windows=windows, place=place, fix=fix)


def _card_for(engine: EngineName, folder: Path) -> Exported | None:
    """The card of an exported folder that answers by its graph; None: by PyTorch."""
    if engine == "torch":
        return None  # where there are no weights, whoever looks for them says so
    card = Exported.read(folder)
    if card is None and engine != "auto":
        form = next(name for name, runs in ENGINES.items() if runs == engine)
        raise UsageError(
            f"--engine {engine} answers with a graph, and the folder holds none",
            place=str(folder),
            fix=f"bertolt export {shlex.quote(str(folder))} --format {form} --out DIR; name DIR",
        )
    if card is not None and engine not in ("auto", card.engine):
        raise UsageError(
            f"the folder was exported to {card.format}, which {card.engine} answers with, and "
            f"--engine says {engine}",
            place=str(folder),
            fix=f"--engine {card.engine}, or leave --engine out",
        )
    return card


def _require_head(config: BertConfig, contract: Contract | None, task: Task, folder: Path) -> None:
    """Refuse a folder whose head is not the head of the task that its contract names."""
    kind = saved_class(config).__name__
    another = kind in config.architectures and not has_head(config, task.head)
    if contract is not None and another and not is_encoder(config):
        raise CheckpointError(
            f"bertolt.json says {task.name}, and the weights are of a {kind}",
            place=str(folder),
            fix="save the model again, so that both are written together",
        )
