"""The queue: batches of true tokens, in order, and what happens to those that are not answered."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")

from bertolt.base.errors import BertoltError, DataError
from bertolt.data.encode import EncodedExample, Window
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits
from bertolt.serve.queue import Ask, Pass, Queue, in_arrays
from bertolt.tasks.predictor import Prediction, Predictor


class Stand:
    """A predictor of words: an example has as many tokens as its text has words, and its answer is
    the text. A pass begins when `gate` is open; a text "bad" breaks its pass, and "panic" does what
    the tokenizers do where they are at a loss: in a pass, and "panic early" before it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []
        self.readers: list[str] = []
        self.graph: object = "a graph"

    def encode(self, examples: Sequence[Any]) -> tuple[list[Any], list[EncodedExample]]:
        self.readers.append(threading.current_thread().name)
        if any(each["text"] == "unreadable" for each in examples):
            raise DataError("it cannot be read")
        if any(each["text"] == "panic early" for each in examples):
            raise Panic("the text")
        words = [each["text"].split() for each in examples]
        return list(examples), [EncodedExample([Window([1] * len(w))], len(w)) for w in words]

    def too_long(self, example: Any, encoded: EncodedExample) -> BertoltError | None:
        return DataError("too long") if encoded.length > 50 else None

    def answer(self, examples: Sequence[Any], encoded: Any) -> Iterator[Prediction | BertoltError]:
        self.begun.set()
        assert self.gate.wait(20)
        texts = [each["text"] for each in examples]
        self.batches.append(texts)
        if "bad" in texts:
            raise RuntimeError("the pass is broken")
        if "panic" in texts:
            raise Panic("the text")
        for text in texts:
            yield Prediction(answer={"text": text}, tokens=len(text.split()), tokens_cut=0)


class Panic(BaseException):
    """As `pyo3_runtime.PanicException`, which a mistake in Rust is in Python."""


class Model:
    def __init__(self) -> None:
        self.predictor: Any = Stand()
        self.errors: list[str] = []

    def failed(self, error: BaseException) -> None:
        self.errors.append(str(error))


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def passes() -> list[Pass]:
    return []


@pytest.fixture
def queue(passes: list[Pass]) -> Iterator[Queue]:
    queue = Queue(Limits(waiting=100), 10, passes.append)
    yield queue
    assert queue.close(10)


def ask(model: Model, *texts: str, seconds: float = 20) -> Ask:
    return Ask(model, model.predictor, [{"text": t} for t in texts], time.monotonic() + seconds)


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def told(waiting: Ask) -> list[Any]:
    results = waiting.done.result(20)
    return [each.answer["text"] if isinstance(each, Prediction) else str(each) for each in results]


def test_requests_share_batches_of_so_many_tokens_and_keep_their_order(
    queue: Queue, model: Model, passes: list[Pass]
) -> None:
    model.predictor.gate.clear()
    first = ask(model, "one")
    queue.put(first)
    assert model.predictor.begun.wait(20)  # the others gather while it runs
    others = [ask(model, "a b c", "d e"), ask(model, "f g h i"), ask(model, "j k")]
    for each in others:
        queue.put(each)
    while queue._ready.__len__() < 4:
        time.sleep(0.001)
    model.predictor.gate.set()
    assert told(first) == ["one"]
    assert [told(each) for each in others] == [["a b c", "d e"], ["f g h i"], ["j k"]]
    assert model.predictor.batches == [["one"], ["a b c", "d e", "f g h i"], ["j k"]]
    assert [(each.tokens, each.requests) for each in passes[:2]] == [(1, 1), (9, 2)]


def test_a_short_request_is_read_by_who_answers_if_neither_has_work(
    queue: Queue, model: Model
) -> None:
    answers, tokenises = "bertolt-answer", "bertolt-tokenise"
    wait_until(lambda: queue._idle)
    queue.put(first := ask(model, "one"))
    assert told(first) == ["one"]
    assert model.predictor.readers == [answers]
    model.predictor.gate.clear()
    model.predictor.begun.clear()
    wait_until(lambda: queue._idle)  # what was told may not be all that the thread does
    queue.put(second := ask(model, "two"))
    assert model.predictor.begun.wait(20)
    queue.put(third := ask(model, "three"))  # beside the pass
    wait_until(lambda: queue._ready)
    assert model.predictor.readers == [answers, answers, tokenises]
    model.predictor.gate.set()
    assert [told(second), told(third)] == [["two"], ["three"]]
    # These would keep a pass from beginning, or make it slower.
    for texts, graph in ((["a"] * 33, "one"), (["a" * 9000], "one"), (["a"], None)):
        model.predictor.graph = graph
        wait_until(lambda: queue._idle)
        queue.put(more := ask(model, *texts))
        assert told(more) == texts
        assert set(model.predictor.readers[3:]) == {tokenises}


def test_a_request_larger_than_a_batch_is_split(queue: Queue, model: Model) -> None:
    texts = [f"text {number} of four" for number in range(25)]
    waiting = ask(model, *texts)
    queue.put(waiting)
    assert told(waiting) == texts
    assert max(map(len, model.predictor.batches)) <= 2
    assert queue.waiting == 0


def test_a_batch_is_of_one_model_and_the_others_keep_their_places(
    queue: Queue, model: Model
) -> None:
    other = Model()
    model.predictor.gate.clear()
    queue.put(first := ask(model, "one"))
    assert model.predictor.begun.wait(20)
    asks = [ask(each, text) for each, text in zip([model, other] * 3, "abcdef", strict=True)]
    for each in asks:
        queue.put(each)
    wait_until(lambda: len(queue._ready) == 6)
    model.predictor.gate.set()
    assert [told(each) for each in (first, *asks)] == [["one"], *([text] for text in "abcdef")]
    assert model.predictor.batches == [["one"], ["a", "c", "e"]]
    assert other.predictor.batches == [["b", "d", "f"]]


def test_an_example_beyond_the_limit_is_refused_by_itself_at_once(
    queue: Queue, model: Model
) -> None:
    model.predictor.gate.clear()
    alone = ask(model, "word " * 60)
    queue.put(alone)
    assert told(alone) == ["too long"]  # though nothing is answered now
    model.predictor.gate.set()
    mixed = ask(model, "fine", "word " * 60, "unreadable", "well")
    queue.put(mixed)
    assert told(mixed) == ["fine", "too long", "it cannot be read", "well"]


def test_a_request_is_taken_whole_or_refused_whole(queue: Queue, model: Model) -> None:
    model.predictor.gate.clear()
    held = ask(model, *["text"] * 90)
    queue.put(held)
    with pytest.raises(RefusedError, match="no room for 11 more") as refused:
        queue.put(ask(model, *["text"] * 11))
    assert refused.value.status == 503
    assert "Retry-After" in refused.value.headers
    queue.put(ask(model, *["text"] * 10))
    model.predictor.gate.set()
    assert len(told(held)) == 90


def test_characters_that_wait_are_bounded_and_free_again_once_they_are_answered(
    model: Model,
) -> None:
    queue = Queue(Limits(waiting_characters=20), 100)
    for _ in range(3):  # what is answered or given up takes no room of the next
        model.predictor.gate.clear()
        queue.put(first := ask(model, "a" * 12))
        queue.put(left := ask(model, "b" * 8))
        with pytest.raises(RefusedError, match="no room for 1 more"):
            queue.put(ask(model, "c"))
        left.cancel()
        queue.put(last := ask(model, "c" * 8))
        model.predictor.gate.set()
        assert (told(first), told(last)) == (["a" * 12], ["c" * 8])
        wait_until(lambda: not queue.waiting)
    assert queue.close(10)


def test_what_is_larger_than_the_queue_is_taken_alone(queue: Queue, model: Model) -> None:
    queue.put(large := ask(model, *["text"] * 101))
    assert len(told(large)) == 101
    wait_until(lambda: not queue.waiting)
    model.predictor.gate.clear()
    queue.put(first := ask(model, "one"))
    with pytest.raises(RefusedError, match="no room for 101 more"):
        queue.put(ask(model, *["text"] * 101))
    model.predictor.gate.set()
    assert told(first) == ["one"]


def test_whose_turn_would_come_too_late_is_told_so_at_once(queue: Queue, model: Model) -> None:
    queue._seconds_each = 0.5  # as the passes before have taken
    model.predictor.gate.clear()
    queue.put(first := ask(model, *["text"] * 20))  # 10 seconds
    with pytest.raises(RefusedError, match="no room for 1 more") as refused:
        queue.put(ask(model, "late", seconds=8))
    assert refused.value.headers["Retry-After"] == "10"
    queue.put(patient := ask(model, "patient", seconds=12))
    model.predictor.gate.set()
    assert len(told(first)) == 20
    assert told(patient) == ["patient"]


def test_who_leaves_frees_what_has_not_begun(queue: Queue, model: Model) -> None:
    model.predictor.gate.clear()
    running, left = ask(model, "one"), ask(model, "two")
    queue.put(running)
    assert model.predictor.begun.wait(20)
    queue.put(left)
    left.cancel()
    assert queue.waiting == 1
    last = ask(model, "three")
    queue.put(last)
    model.predictor.gate.set()
    assert told(last) == ["three"]
    assert ["two"] not in model.predictor.batches


def test_what_is_left_by_its_client_is_tokenised_no_further(queue: Queue, model: Model) -> None:
    encode, left = model.predictor.encode, ask(model, *["text"] * 90)

    def leaving(examples: Sequence[Any]) -> Any:
        left.cancel()
        return encode(examples)

    model.predictor.encode = leaving
    queue.put(left)
    queue.put(last := ask(model, "last"))
    assert told(last) == ["last"]
    assert len(model.predictor.readers) == 2
    assert model.predictor.batches == [["last"]]


def test_what_is_too_late_is_not_answered(queue: Queue, model: Model) -> None:
    model.predictor.gate.clear()
    running, late = ask(model, "one"), ask(model, "two", seconds=0.05)
    queue.put(running)
    assert model.predictor.begun.wait(20)
    queue.put(late)
    time.sleep(0.1)
    model.predictor.gate.set()
    with pytest.raises(RefusedError, match="the time for an answer is over"):
        late.done.result(20)
    assert model.predictor.batches == [["one"]]


def test_who_is_too_late_is_told_while_the_queue_goes_on(queue: Queue, model: Model) -> None:
    model.predictor.gate.clear()
    running, late = ask(model, "one"), ask(model, "two", seconds=0.05)
    queue.put(running)
    assert model.predictor.begun.wait(20)
    queue.put(late)
    wait_until(lambda: queue._ready)
    time.sleep(0.1)
    with late._settling:  # as when the other thread gives the same request up
        model.predictor.gate.set()
        told(running)
        while queue._ready:
            time.sleep(0.001)
        assert queue._lock.acquire(timeout=5)
        queue._lock.release()
    with pytest.raises(RefusedError, match="the time for an answer is over"):
        late.done.result(20)


def test_tokens_that_wait_take_few_bytes_and_are_the_same(tuned: Path) -> None:
    places = [(n, n + 1) for n in range(1000)]
    window = Window(list(range(1000)), [0] * 1000, places)
    small = in_arrays(EncodedExample([window], 1000)).windows[0]
    assert sum(memoryview(part).nbytes for part in small) == 13 * 1000
    assert np.array_equal(np.asarray(small.places), places)
    predictor = Predictor.from_pretrained(tuned, precision="fp32")
    examples, encoded = predictor.encode(["a fine film", "dull and long, with no end to it"])
    answers = [
        list(predictor.answer(examples, each)) for each in (encoded, list(map(in_arrays, encoded)))
    ]
    assert answers[0] == answers[1]


def test_a_broken_pass_harms_no_other_request(queue: Queue, model: Model) -> None:
    model.predictor.gate.clear()
    first = ask(model, "one")
    queue.put(first)
    assert model.predictor.begun.wait(20)
    good, broken = ask(model, "fine"), ask(model, "bad")
    queue.put(broken)
    queue.put(good)
    while queue._ready.__len__() < 2:
        time.sleep(0.001)
    model.predictor.gate.set()
    assert told(good) == ["fine"]
    with pytest.raises(RuntimeError, match="the pass failed"):
        broken.done.result(20)
    assert model.errors == ["the pass is broken"]


@pytest.mark.parametrize("graph", ["a graph", None], ids=["who answers", "who tokenises"])
@pytest.mark.parametrize("text", ["panic", "panic early"])
def test_a_panic_ends_neither_thread(
    queue: Queue, model: Model, text: str, graph: str | None
) -> None:
    model.predictor.graph = graph
    wait_until(lambda: queue._idle)
    queue.put(broken := ask(model, text))
    with pytest.raises(RuntimeError, match=r"^Panic$|^the pass failed$") as error:
        broken.done.result(20)
    assert isinstance(error.value.__cause__, Panic)
    assert model.errors == ["the text"]
    queue.put(good := ask(model, "fine"))
    assert told(good) == ["fine"]


def test_a_model_that_is_taken_over_is_held_by_no_request_that_is_over(queue: Queue) -> None:
    model = Model()
    waiting = ask(model, "one")
    queue.put(waiting)
    assert told(waiting) == ["one"]
    last = ask(Model(), "two")  # the threads let go of what they did last
    queue.put(last)
    told(last)
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model, waiting
        assert gone() is None
    finally:
        gc.enable()


def test_at_its_end_it_answers_what_is_there_and_takes_no_more(model: Model) -> None:
    queue = Queue(Limits(), 10)
    waiting = ask(model, *["some words"] * 40)
    queue.put(waiting)
    assert queue.close(20)
    assert len(told(waiting)) == 40
    with pytest.raises(RefusedError, match="going away"):
        queue.put(ask(model, "more"))
