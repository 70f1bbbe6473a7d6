"""The queue of the server: examples come in requests and leave in batches of true tokens.

One thread tokenises while another answers, one forward pass at a time on all cores; a short request
that a graph answers, and that comes while neither has work, is tokenised by the one that answers.
Both live on after any error, as after a panic of the tokenizers, which is no `Exception` in Python.
The next batch gathers while a pass runs, and never waits to become full. First come, first served:
a request is taken whole or refused whole, and split where it is larger than a batch.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from bertolt.base.chunks import characters_of
from bertolt.base.errors import BertoltError
from bertolt.data.encode import EncodedExample, Window
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits
from bertolt.tasks.base import Example
from bertolt.tasks.predictor import Prediction, Predictor

Result = Prediction | BertoltError
"""An answer, or why there is none in its place."""

_PART = 32
"""Examples that are tokenised before the next batch may be made of them."""
_SHORT = 8192
"""Characters of a request that holds up the thread that answers for no longer than a hand-over."""
_MEMORY = 0.9
"""Weight of what was seen before in the running mean of the speed."""


class Served(Protocol):
    """A model as the queue knows it."""

    predictor: Predictor

    def failed(self, error: BaseException) -> None:
        """A pass of it ended in an error."""


@dataclass(eq=False)
class Ask:
    """The examples of one request on their way.

    Attributes:
        served: the model, in the version that was there when they came.
        predictor: of it, as it answers pairs or single texts.
        examples: by role.
        encoded: the same as ids, where they came as ids.
        deadline: by `time.monotonic`.
        done: has the results once all are there.
        queue_seconds, tokenize_seconds, model_seconds: where the time went; a pass that several
            requests share counts for each.
    """

    served: Served
    predictor: Predictor
    examples: Sequence[Example]
    deadline: float
    encoded: Sequence[EncodedExample] | None = None
    done: Future[list[Result]] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    queue_seconds: float = 0.0
    tokenize_seconds: float = 0.0
    model_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.characters = sum(map(characters_of, self.examples))
        self.results: list[Result | None] = [None] * len(self.examples)
        self.missing = len(self.examples)
        self.begun = False
        self._settling = threading.Lock()  # both threads settle

    @property
    def short(self) -> bool:
        """Whether it is tokenised in a moment, beside a graph: a pass of PyTorch takes longer in a
        thread that has done something else."""
        few = len(self.examples) <= _PART and self.characters <= _SHORT
        return few and self.predictor.graph is not None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done.done() or time.monotonic() > self.deadline

    def cancel(self) -> None:
        """Nobody waits for it any more: what has not begun does not begin."""
        self.done.cancel()

    def settle(self, number: int, result: Result) -> None:
        """Take one result; the last one ends the waiting."""
        with self._settling:
            self.results[number] = result
            self.missing -= 1
            done = self.missing == 0 and not self.done.done()
            if done and self.done.set_running_or_notify_cancel():
                self.done.set_result([each for each in self.results if each is not None])

    def fail(self, error: BaseException) -> None:
        """Give the error to who waits, if anybody does."""
        if not isinstance(error, Exception):  # who waits would take it for the end of the process
            told = RuntimeError(type(error).__name__)
            told.__cause__ = error
            error = told
        with self._settling:
            if not self.done.done() and self.done.set_running_or_notify_cancel():
                self.done.set_exception(error)


@dataclass(frozen=True, eq=False)
class _Item:
    """One tokenised example."""

    ask: Ask
    number: int
    encoded: EncodedExample
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward pass that is over.

    Attributes:
        examples, tokens: of it.
        seconds: it took.
        requests: that had a share in it.
    """

    examples: int
    tokens: int
    seconds: float
    requests: int


class Queue:
    """Takes requests, and answers them in batches.

    Args:
        limits: of what may wait.
        budget: most tokens of a batch; an example with more has one of its own.
        watch: called after each pass.
    """

    def __init__(
        self, limits: Limits, budget: int, watch: Callable[[Pass], None] | None = None
    ) -> None:
        self.limits, self.budget = limits, budget
        self._watch = watch
        self._arrived: deque[Ask] = deque()
        self._ready: deque[_Item] = deque()
        self._lock = threading.Lock()
        self._to_tokenise, self._to_answer = (threading.Condition(self._lock) for _ in range(2))
        self._waiting = self._characters = 0
        self._closed, self._tokenising = False, True
        self._busy = self._idle = False  # who tokenises, who answers
        self._seconds_each = 0.0
        self._threads = [
            threading.Thread(target=work, name=f"bertolt-{work.__name__.strip('_')}", daemon=True)
            for work in (self._tokenise, self._answer)
        ]
        for thread in self._threads:
            thread.start()

    # ---- what requests see

    @property
    def waiting(self) -> int:
        """Examples that wait or are being answered."""
        return self._waiting

    @property
    def seconds_to_wait(self) -> float:
        """How long those that wait will take, by the speed of the last passes."""
        return self._waiting * self._seconds_each

    def put(self, ask: Ask) -> None:
        """Take a request whole.

        Raises:
            RefusedError: there is no room for all of it, or the server is going away.
        """
        count = len(ask.examples)
        with self._lock:
            if self._closed:
                raise RefusedError(
                    503, "the server is going away", fix="ask another one", retry_after=1
                )
            full = self._waiting + count > self.limits.waiting
            full |= self._characters + ask.characters > self.limits.waiting_characters
            # Whose turn would come after its deadline is told so now, and not when it is over.
            full |= self.seconds_to_wait > ask.deadline - time.monotonic()
            # What is larger than the whole queue would never be taken; alone it may pass.
            if full and self._waiting:
                raise RefusedError(
                    503,
                    f"{self._waiting:,} texts are waiting, and there is no room for {count:,} more",
                    fix="ask again later",
                    code="queue_full",
                    retry_after=self.seconds_to_wait,
                )
            self._waiting += count
            self._characters += ask.characters
            self._arrived.append(ask)
            mine = self._idle and not self._ready and len(self._arrived) == 1
            mine &= self._for_who_answers
            (self._to_answer if mine else self._to_tokenise).notify()
        # Of numbers alone: a circle would hold the model of a request after its end.
        ask.done.add_done_callback(partial(self._leave, count, ask.characters))

    def close(self, seconds: float) -> bool:
        """Take no more requests and answer those that are there; whether all were in time."""
        end = time.monotonic() + seconds
        with self._lock:
            self._closed = True
            self._to_tokenise.notify()
            self._to_answer.notify()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _leave(self, count: int, characters: int, done: Future[list[Result]]) -> None:
        with self._lock:
            self._waiting -= count
            self._characters -= characters

    # ---- the thread that tokenises

    def _tokenise(self) -> None:
        while self._tokenise_next():
            pass
        with self._lock:
            self._tokenising = False
            self._to_answer.notify()

    def _tokenise_next(self) -> bool:
        """Whether there was a request; what waits for the next one holds the model of none."""
        ask = self._next_ask()
        if ask is not None:
            self._tokenise_one(ask)
        return ask is not None

    def _next_ask(self) -> Ask | None:
        with self._lock:
            self._busy = False
            self._to_tokenise.wait_for(lambda: self._arrived or self._closed)
            self._busy = bool(self._arrived)
            return self._arrived.popleft() if self._arrived else None

    def _tokenise_one(self, ask: Ask) -> None:
        try:
            self._tokenise_all(ask)
        except BertoltError as error:
            ask.fail(error)
        except BaseException as error:  # noqa: BLE001 - the thread lives on, after a panic too
            ask.served.failed(error)
            ask.fail(error)

    def _tokenise_all(self, ask: Ask) -> None:
        for first in range(0, len(ask.examples), _PART):
            if ask.given_up:
                ask.fail(_too_late())
                return
            started = time.monotonic()
            part = ask.examples[first : first + _PART]
            if ask.encoded is None:
                encoded = _encode(ask.predictor, part)
            else:
                encoded = ask.encoded[first : first + _PART]
            items = []
            for number, each in enumerate(encoded, start=first):
                if isinstance(each, BertoltError):
                    ask.settle(number, each)
                    continue
                refusal = ask.predictor.too_long(ask.examples[number], each)
                if refusal is not None:
                    ask.settle(number, refusal)
                    continue
                tokens = sum(len(window.ids) for window in each.windows)
                items.append(_Item(ask, number, in_arrays(each), tokens))
            ask.tokenize_seconds += time.monotonic() - started
            with self._lock:
                self._ready.extend(items)
                self._to_answer.notify()

    # ---- the thread that answers

    def _answer(self) -> None:
        while self._answer_next():
            pass

    def _answer_next(self) -> bool:
        """Whether there was a batch; what waits for the next one holds the model of none."""
        batch = self._next_batch()
        if batch:
            self._run(batch)
        return bool(batch)

    def _next_batch(self) -> list[_Item]:
        """The next examples for one pass, of one model; empty at the end."""
        while True:
            late, batch, ask = list[Ask](), list[_Item](), None
            with self._lock:
                self._idle = True
                self._to_answer.wait_for(lambda: self._ready or self._over or self._for_who_answers)
                self._idle = False
                if self._ready:
                    batch = self._take(late)
                elif self._for_who_answers:
                    ask = self._arrived.popleft()
                    if self._arrived:  # meanwhile
                        self._to_tokenise.notify()
                else:
                    return []
            if ask is not None:
                self._tokenise_one(ask)
            # Not inside: who waits is told under a lock of the request, and leaves under this one.
            _give_up(late)
            if batch:
                return batch

    @property
    def _for_who_answers(self) -> bool:
        """Whether the next request is tokenised by the thread that answers, if that has no work."""
        return bool(self._arrived) and not self._busy and self._arrived[0].short

    @property
    def _over(self) -> bool:
        """Whether nothing will come any more."""
        return self._closed and not self._tokenising

    def _take(self, late: list[Ask]) -> list[_Item]:
        """From the front, as many examples of one model as fit; what nobody waits for goes to
        `late`."""
        batch: list[_Item] = []
        others: list[_Item] = []
        tokens = 0
        while self._ready:
            item = self._ready[0]
            if item.ask.given_up:
                self._ready.popleft()
                late.append(item.ask)
                continue
            if batch and tokens + item.tokens > self.budget:
                break
            self._ready.popleft()
            if batch and item.ask.predictor is not batch[0].ask.predictor:
                others.append(item)
                continue
            batch.append(item)
            tokens += item.tokens
        self._ready.extendleft(reversed(others))
        return batch

    def _run(self, batch: list[_Item]) -> None:
        started = time.monotonic()
        asks = list(dict.fromkeys(item.ask for item in batch))
        for ask in asks:
            if not ask.begun:
                ask.begun = True
                ask.queue_seconds = started - ask.arrived - ask.tokenize_seconds
        examples = [item.ask.examples[item.number] for item in batch]
        encoded = [item.encoded for item in batch]
        try:
            results = list(batch[0].ask.predictor.answer(examples, encoded))
        except BaseException as error:  # noqa: BLE001 - others wait behind it
            self._apart(batch, asks, error)
            return
        seconds = time.monotonic() - started
        for ask in asks:
            ask.model_seconds += seconds
        for item, result in zip(batch, results, strict=True):
            item.ask.settle(item.number, result)
        each = seconds / len(batch)
        before = self._seconds_each or each
        self._seconds_each = _MEMORY * before + (1 - _MEMORY) * each
        if self._watch is not None:
            tokens = sum(item.tokens for item in batch)
            self._watch(
                Pass(examples=len(batch), tokens=tokens, seconds=seconds, requests=len(asks))
            )

    def _apart(self, batch: list[_Item], asks: list[Ask], error: BaseException) -> None:
        """After a pass that failed: each request by itself, so that one harms no other."""
        if len(asks) == 1:
            asks[0].served.failed(error)
            failed = RuntimeError("the pass failed")  # whatever it was: no fault of the request
            failed.__cause__ = error
            asks[0].fail(failed)
            return
        for ask in asks:
            self._run([item for item in batch if item.ask is ask])


def _encode(
    predictor: Predictor, examples: Sequence[Example]
) -> Sequence[EncodedExample | BertoltError]:
    """The examples tokenised; where one cannot be, an error in its place."""
    try:
        return predictor.encode(examples)[1]
    except BertoltError as error:
        if len(examples) == 1:
            return [error]
        return [each for example in examples for each in _encode(predictor, [example])]


def in_arrays(encoded: EncodedExample) -> EncodedExample:
    """The same tokens in a few bytes each: much may wait, and a list takes some thirty."""
    windows = [
        Window(
            array("i", window.ids),
            None if window.segments is None else array("B", window.segments),
            None if window.places is None else _in_array(window.places),
        )
        for window in encoded.windows
    ]
    return encoded._replace(windows=windows)


def _in_array(places: Sequence[tuple[int, int]]) -> Any:
    return np.array(places, np.int32).reshape(-1, 2)


def _give_up(late: Sequence[Ask]) -> None:
    for ask in late:
        ask.fail(_too_late())


def _too_late() -> RefusedError:
    return RefusedError(504, "the time for an answer is over", fix="ask for less, or later")
