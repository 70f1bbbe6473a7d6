"""Laws that hold for every task: one suite, a case or two for each task."""

from __future__ import annotations

import copy
import inspect
import json
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bertolt import BertConfig, Predictor
from bertolt.base.errors import DataError, UsageError
from bertolt.commands.evaluate import evaluate_file
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.data.long import LongTexts
from bertolt.data.parted import TooLongError
from bertolt.metrics import RowSums
from bertolt.models.precision import FP32
from bertolt.report import read_facts
from bertolt.serve.models import promise, promise_in
from bertolt.tasks import long
from bertolt.tasks.answers import difference
from bertolt.tasks.base import TASKS, Output, Reading, Task
from bertolt.tasks.evaluation import Gathered, TaskRows, evaluate
from bertolt.tasks.registry import SHIPPED, find_task
from bertolt.tasks.row_answers import ANSWERS, RowAnswers, read_answers
from bertolt.tasks.rows import Columns, encode_rows, read_for_task

WORDS = ["good", "bad", "the", "film", "was", "dull", "fresh", "plot", ",", ".", "warm", "cold"]
LIMIT = 40


@dataclass(frozen=True)
class Case:
    """A file of a task: how its rows are made, one that training never had, and how longer ones
    are read."""

    task: str
    row: Callable[[random.Random, str], dict[str, Any]]
    unseen: dict[str, Any] | None
    named: bool = False  # its columns are those of another task too
    long: LongTexts | None = None


def _together(choose: random.Random, text: str) -> dict[str, Any]:
    return {"anchor": text, "positive": f"{text_of(choose)} {text}"}


def _tagged(choose: random.Random, text: str) -> dict[str, Any]:
    words = [*text.split(), "xyz"]
    tags = ["O"] * len(words)
    start = choose.randrange(len(words))
    kind = choose.choice(["PER", "LOC"])
    tags[start] = f"B-{kind}"
    if start + 1 < len(words):
        tags[start + 1] = f"I-{kind}"
    return {"tokens": words, "tags": tags}


def _marked(choose: random.Random, text: str) -> dict[str, Any]:
    word = choose.choice(text.split())
    start = text.index(word)
    span = {"start": start, "end": start + len(word), "label": choose.choice(["A", "B"])}
    return {"text": text, "spans": [span]}


def _asked(choose: random.Random, text: str) -> dict[str, Any]:
    words = text.split()
    first = choose.randrange(len(words))
    start = sum(len(word) + 1 for word in words[:first])
    answer = " ".join(words[first : first + choose.randrange(1, 4)])
    there = {"text": [answer], "answer_start": [start]}
    none: dict[str, Any] = {"text": [], "answer_start": []}
    return {
        "question": choose.choice(WORDS),
        "context": text,
        "answers": there if choose.random() < 0.7 else none,
    }


def _chosen(choose: random.Random, text: str) -> dict[str, Any]:
    """Two to four choices, counted from 0 by the label."""
    choices = [f"{' '.join(choose.sample(WORDS, 2))} {number}" for number in "abcd"]
    count = choose.randrange(2, 5)
    return {"question": text, "choices": choices[:count], "answer": choose.randrange(count)}


CASES = {
    "labels": Case(
        "text-classification",
        lambda choose, text: {"text": text, "label": choose.choice(["bad", "fair", "good"])},
        {"text": "good", "label": "odd"},
    ),
    "pairs": Case(
        "text-classification",
        lambda choose, text: {
            "premise": text,
            "hypothesis": text[: len(text) // 2] + " film",
            "label": choose.choice(["yes", "no"]),
        },
        {"premise": "good", "hypothesis": "bad", "label": "odd"},
    ),
    "documents": Case(
        "text-classification",
        lambda choose, text: {
            "text": f"{text} " * choose.randrange(1, 4),
            "label": choose.choice(["bad", "good"]),
        },
        {"text": "good", "label": "odd"},
        long=LongTexts(how="window", stride=5),
    ),
    "several labels": Case(
        "multi-label-classification",
        lambda choose, text: {
            "text": text,
            "labels": sorted(choose.sample(["a", "b", "c"], choose.randrange(4))),
        },
        {"text": "good", "labels": ["odd"]},
    ),
    "numbers": Case(
        "regression",
        lambda choose, text: {"text": text, "rating": choose.uniform(-40, 90)},
        None,
    ),
    "tags": Case("token-classification", _tagged, {"tokens": ["good"], "tags": ["B-ODD"]}),
    "spans": Case(
        "token-classification",
        _marked,
        {"text": "good film", "spans": [{"start": 0, "end": 4, "label": "ODD"}]},
    ),
    "questions": Case("question-answering", _asked, None),
    "texts that belong together": Case("sentence-similarity", _together, None),
    "triplets": Case(
        "sentence-similarity",
        lambda choose, text: _together(choose, text) | {"negative": text_of(choose)},
        None,
    ),
    "scores of pairs": Case(
        "sentence-similarity",
        lambda choose, text: {
            "sentence1": text,
            "sentence2": text_of(choose),
            "score": choose.uniform(0, 5),
        },
        {"sentence1": "good", "sentence2": "odd", "score": 7.5},
        named=True,
    ),
    "next": Case(
        "next-sentence-prediction",
        lambda choose, text: {
            "sentence1": text,
            "sentence2": text[: len(text) // 2] + " film",
            "is_next": choose.choice([True, False]),
        },
        None,
    ),
    "choices": Case("multiple-choice", _chosen, None),
    "documents that belong together": Case(
        "sentence-similarity",
        lambda choose, text: _together(choose, f"{text} " * choose.randrange(1, 4)),
        None,
        long=LongTexts(how="window"),
    ),
    "scores of documents": Case(
        "sentence-similarity",
        lambda choose, text: {
            "sentence1": f"{text} " * choose.randrange(1, 4),
            "sentence2": f"{text_of(choose)} " * choose.randrange(1, 4),
            "score": choose.uniform(0, 5),
        },
        None,
        named=True,
        long=LongTexts(how="window", stride=5),
    ),
    "choices for documents": Case(
        "multiple-choice",
        lambda choose, text: _chosen(choose, f"{text} " * choose.randrange(1, 4)),
        None,
        long=LongTexts(how="window", stride=5),
    ),
}
UNLABELLED = {"fill-mask"}
"""Tasks that are measured on plain text: their file has tests of the laws that apply to them."""


class Given(NamedTuple):
    """A case with its file read and encoded, and a model with random weights."""

    case: Case
    path: Path
    task: Task
    rows: TaskRows
    predictor: Predictor


def text_of(choose: random.Random) -> str:
    return " ".join(choose.choice(WORDS) for _ in range(choose.randrange(2, 25)))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def written(folder: Path, case: Case, count: int = 60, seed: int = 0) -> Path:
    choose = random.Random(seed)
    rows = [case.row(choose, text_of(choose)) for _ in range(count)]
    return write(folder / f"rows-{seed}.jsonl", rows)


@pytest.fixture(scope="module", params=list(CASES))
def given(
    request: Any,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: Any,
    tiny_tokenizer: Any,
    randomised: Any,
) -> Given:
    case = CASES[request.param]
    path = written(tmp_path_factory.mktemp("case"), case)
    table, kind = read_for_task(path, Columns(), task=case.task if case.named else None)
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    rows, _ = encode_rows(task, table, everything, tiny_tokenizer, LIMIT, case.long)
    model = randomised(task.head(tiny_config(**task.config_changes())), std=0.3)
    predictor = Predictor(model, tiny_tokenizer, task=task, precision="fp32")
    predictor.max_length = LIMIT
    predictor.long = case.long or predictor.long
    return Given(case, path, task, rows, predictor)


def test_every_task_has_a_case() -> None:
    assert {case.task for case in CASES.values()} | UNLABELLED == {task.name for task in SHIPPED}
    assert {task.name for task in SHIPPED if not task.has_labels} == UNLABELLED
    assert {task.name for task in SHIPPED} <= TASKS.keys()


def test_the_columns_say_which_task_it_is(given: Given) -> None:
    assert given.task.name == given.case.task


def perfect(given: Given) -> list[Output]:
    """What a model would give that knows every target."""
    if given.case.task == "sentence-similarity":
        return list(map(Output, perfect_vectors(given), [[]] * len(given.rows)))
    encoded, classes = given.rows.encoded, len(given.predictor.labels)
    labels = np.asarray(encoded.labels)
    outputs = labels
    ends = len(encoded.label_names) > 1
    if ends:
        outputs = np.zeros((len(encoded.ids), 2))
        outputs[encoded.offsets[:-1, None] + labels, [0, 1]] = 50.0
    elif given.task.several_documents:
        outputs = np.zeros(len(encoded.document_firsts) - 1)
        outputs[encoded.first_documents[:-1] + labels] = 50.0
    elif labels.dtype.kind == "i":
        outputs = np.zeros((len(labels), classes))
        known = labels >= 0
        outputs[known] = np.eye(classes)[labels[known]]
    parts: list[Output] = []
    for example in range(encoded.examples):
        if encoded.documents or given.task.several_documents:
            documents = slice(*encoded.first_documents[example : example + 2])
            parts.append(Output(list(outputs[documents]), []))
            continue
        windows = np.flatnonzero(encoded.window_examples == example)
        spans = [slice(encoded.offsets[w], encoded.offsets[w + 1]) for w in windows]
        per_token = encoded.places is not None
        chosen = [outputs[s] for s in spans] if per_token else [outputs[w] for w in windows]
        places = [encoded.place_of(int(w)) for w in windows] if per_token else []
        parts.append(Output(chosen, places))
    return parts


def perfect_vectors(given: Given) -> list[list[Any]]:
    """Texts that belong together have one direction of their own; others have the right cosine."""
    labels = np.asarray(given.rows.encoded.labels)
    if labels.ndim == 1:
        return [[np.array([1.0, 0.0]), np.array([c, np.sqrt(1 - c**2)])] for c in labels]
    directions = np.eye(len(labels) + 1)
    texts: dict[int, int] = {}
    for row, (_, second, *_) in enumerate(labels.tolist()):
        texts.setdefault(second, row)
    return [
        [directions[texts[second]]] * 2 + [directions[-1]] * len(third)
        for _, second, *third in labels.tolist()
    ]


def test_oracle(given: Given) -> None:
    """Perfect outputs, decoded and scored, are perfect answers."""
    scorer = given.task.scorer()
    examples = given.rows.examples(range(len(given.rows)))
    wrong = [
        scorer.add(given.task.decode(output, example), example)
        for output, example in zip(perfect(given), examples, strict=True)
    ]
    value = scorer.values()[given.task.primary.name]
    assert value == pytest.approx(1.0 if given.task.primary.greater else 0.0, abs=1e-5)
    assert max(wrong) == pytest.approx(0.0, abs=1e-5)


def answers(given: Given, examples: list[Any]) -> list[Any]:
    return [prediction.answer for prediction in given.predictor.predict(examples)]


def inputs(given: Given, count: int = 20) -> list[dict[str, Any]]:
    rows = given.rows.examples(range(count))
    return [{role: row[role] for role in given.task.encoded_roles if role in row} for row in rows]


def second(given: Given, text: str) -> dict[str, Any]:
    """A second text, or choices, where the examples of the case have one."""
    if "text_pair" not in inputs(given, 1)[0]:
        return {}
    return {"text_pair": [text, f"{text} film"] if given.task.several_pairs else text}


def test_packing(given: Given) -> None:
    """An answer does not depend on its neighbours."""
    examples = inputs(given)
    together = answers(given, examples)
    for example, answer in zip(examples, together, strict=True):
        (alone,) = answers(given, [example])
        assert difference(answer, alone) < 1e-4


def test_threads(given: Given) -> None:
    """Threads that answer at once have the bits of one thread alone, each for its own texts."""
    threads, examples = 8, inputs(given, 12)
    parts = [examples[number : number + 4] for number in range(threads)]
    expected = [answers(given, part) for part in parts]
    begin = Barrier(threads)

    def answered(part: list[Any]) -> list[Any]:
        begin.wait()
        return answers(given, part)

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(answered, parts))
    assert results == expected


def test_window(given: Given, tiny_tokenizer: Any) -> None:
    """A text that fits is answered alike whatever the limit; one that does not is accounted for."""
    examples = inputs(given)
    before = answers(given, examples)
    wide = copy.copy(given.predictor)
    wide.max_length = 160
    fits = [prediction.tokens <= LIMIT for prediction in given.predictor.predict(examples)]
    after = [prediction.answer for prediction in wide.predict(examples)]
    assert any(fits)
    for same, one, other in zip(fits, before, after, strict=True):
        assert not same or difference(one, other) < 1e-4
    long = " ".join(WORDS * 6)
    pair = second(given, "good film")
    (narrow,) = given.predictor.predict([{"text": long, **pair}])
    (whole,) = wide.predict([{"text": long, **pair}])
    assert narrow.tokens == whole.tokens > LIMIT
    words = whole.answer.get("words")
    if given.case.long is not None:
        assert (narrow.tokens_cut, whole.tokens_cut) == (0, 0)
        assert (narrow.parted, whole.parted) == (True, False)
        assert narrow.windows > whole.windows
    elif words is None:
        beside = (
            len(tiny_tokenizer("good film")["input_ids"])
            if given.task.several_documents and pair
            else 0
        )
        if given.task.several_pairs:
            beside = (len(pair["text_pair"]) - 1) * LIMIT
        assert narrow.tokens_cut == narrow.tokens - beside - LIMIT
    else:
        assert narrow.tokens_cut == 0
        places = [(start, end) for start, end, _ in narrow.answer["words"]]
        assert places == [(start, end) for start, end, _ in words], "each word once, in order"


@pytest.mark.parametrize("how", ["error", "truncate", "head-tail", "window"])
def test_longer_texts(given: Given, how: Any) -> None:
    """Whatever is done with longer texts, one that fits is answered alike, and each is accounted
    for; a task refuses in words what it cannot do."""
    predictor = copy.copy(given.predictor)
    if how not in given.task.longs:
        with pytest.raises(UsageError, match=re.escape(given.task.why_not_long)) as refused:
            long.chosen(given.task, how, None, LIMIT)
        assert all(name in refused.value.fix for name in given.task.longs)
        return
    predictor.long = long.chosen(given.task, how, None, LIMIT)
    words, (first, *_) = " ".join(WORDS * 6), inputs(given)
    longest = "text_pair" if "text_pair" in first else "text"
    many = given.task.several_pairs
    long_text: Any = [words, "good film"] if many else words
    examples = [*inputs(given), {**dict.fromkeys(first, "good film"), longest: long_text}]
    usual = list(given.predictor.predict(examples))
    beyond = [prediction.truncated or prediction.parted for prediction in usual]
    assert beyond[-1]
    if how == "error":
        with pytest.raises(TooLongError) as refusal:
            list(predictor.predict(examples))
        assert refusal.value.place == f"text {beyond.index(True) + 1}"
        assert "--long" in refusal.value.fix
        return
    for before, after, longer in zip(usual, predictor.predict(examples), beyond, strict=True):
        assert after.tokens == before.tokens
        assert longer or difference(before.answer, after.answer) < 1e-4
        if how == "window":
            assert after.parted == longer
            assert after.tokens_cut <= before.tokens_cut
        elif given.predictor.long.how == "truncate":
            assert (after.windows, after.tokens_cut) == (before.windows, before.tokens_cut)
        if not given.task.several_documents and how != "window":
            assert (after.windows, after.tokens_cut) == (1, max(0, after.tokens - LIMIT))
    assert how != "window" or after.tokens_cut == 0


@pytest.mark.parametrize(
    "text", ["好看的电影 good", "é́ film 👩‍🎬", "مرحبا bad", "  \u200b  x", "ΑΣ ǅ ﬁ film", "a" * 300]
)
def test_offset_and_every_script(given: Given, text: str) -> None:
    """Every span names its own characters, whatever the script; every text has an answer."""
    pair = second(given, text)
    (answer,) = answers(given, [{"text": text, **pair}])
    json.dumps(answer, allow_nan=False)  # every number is finite
    for span in answer.get("spans", []):
        assert text[span["start"] : span["end"]] == span["text"] != ""
    for start, end, _ in answer.get("words", []):
        assert 0 <= start < end <= len(text)


def test_merge(given: Given) -> None:
    """The scores of parts, merged, are the scores of all; resampling gives them one interval."""
    examples = given.rows.examples(range(len(given.rows)))
    said = answers(given, inputs(given, len(examples)))
    whole = given.task.scorer()
    parts = [given.task.scorer() for _ in range(3)]
    for number, (answer, example) in enumerate(zip(said, examples, strict=True)):
        whole.add(answer, example)
        parts[number % 3].add(answer, example)
    merged, settled = given.task.scorer(), given.task.scorer()
    for part in parts:
        merged.merge(part.state())
    assert difference(merged.values(), whole.values()) < 1e-12
    assert merged.bootstrap() == whole.bootstrap(), "to the last bit"
    for part in parts:
        part.settle()
    settled.settle()
    for part in reversed(parts):
        settled.merge(part.state())
    assert difference(settled.values(), whole.values()) < 1e-12
    assert settled.bootstrap() == whole.bootstrap()


def test_rows_alone_add_up_to_the_primary_metric(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each row adds gives the primary metric of all rows, and the interval holds it."""
    examples = given.rows.examples(range(len(given.rows)))
    said = answers(given, inputs(given, len(examples)))
    scorer, parts = given.task.scorer(), [given.task.scorer() for _ in range(2)]
    kept = RowAnswers(given.task)
    for number, (answer, example) in enumerate(zip(said, examples, strict=True)):
        scorer.add(answer, example)
        kept.add(number, answer, example)
    monkeypatch.setattr("bertolt.tasks.row_answers._BATCH", 7)
    monkeypatch.setattr("bertolt.data.spill.IN_MEMORY", 1000)  # bytes: the rest is on disk
    parted = RowAnswers(given.task)
    for number, (answer, example) in reversed(list(enumerate(zip(said, examples, strict=True)))):
        parts[number % 2].add(answer, example)
        parted.add(number, answer, example)
    merged = given.task.scorer()
    for part in parts:
        merged.merge(part.state())
    kept.complete(scorer)
    parted.complete(merged)
    assert parted.rows == kept.rows, "in any order, by several processes"
    value = scorer.values()[given.task.primary.name]
    low, high = scorer.bootstrap() or (value, value)
    assert low <= value <= high
    sums = np.array([row.sums for row in kept.rows])
    assert scorer.score_of(sums) == pytest.approx(value, abs=1e-9)
    assert scorer.interval_of(sums) == pytest.approx(scorer.bootstrap(), abs=1e-9)
    test = scorer.paired(sums, sums)
    assert (test.difference, test.interval, test.p) == (0.0, None, 1.0)
    assert scorer.score_of_each(sums).shape == (len(sums),)
    rows, alone = scorer.by_rows(), RowSums.of(sums)
    if rows is None:  # a correlation of ranks is a function of no sums
        assert given.task.primary.name == "spearman"
        return
    present = rows.counts > 0
    np.testing.assert_allclose(rows.sums[present], alone.sums, atol=1e-9)
    assert rows.counts[present].tolist() == alone.counts.tolist()


def test_json(given: Given) -> None:
    """Answers, settings and scores survive a file."""
    for answer in answers(given, inputs(given)):
        assert json.loads(json.dumps(given.task.public(answer))) == given.task.public(answer)
        assert len(given.task.flat(answer)) == len(given.task.flat_names())
    scores = evaluate(given.predictor.model, given.task, given.rows, precision=FP32)
    values = scores.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False))["primary"] in values


def test_the_label_space_comes_back(given: Given) -> None:
    config: BertConfig = given.predictor.model.config
    settings = json.loads(json.dumps(given.task.settings()))
    assert type(given.task).restore(config, settings) == given.task
    assert find_task(given.task.name) is type(given.task)


def test_windows_come_in_any_order(given: Given, tiny_tokenizer: Any) -> None:
    """An example is whole once, when its last window is there, and has its windows in order."""
    rows, _ = encode_rows(given.task, given.rows.table, given.rows.index, tiny_tokenizer, 12)
    encoded = rows.encoded
    several = encoded.places is not None or given.task.several_documents
    assert (len(encoded.window_examples) > encoded.examples) == several, "tags, choices"
    order = np.random.default_rng(0).permutation(len(encoded))
    gathered = Gathered(encoded)
    whole: dict[int, list[int]] = {}
    for start in range(0, len(order), 3):
        windows = order[start : start + 3]
        batch: Any = SimpleNamespace(rows=windows)
        answered = encoded.windows_of(windows.tolist())
        numbers, outputs = gathered.add(batch, [np.array([window]) for window in answered])
        for number, output in zip(numbers, outputs, strict=True):
            assert number not in whole
            whole[number] = [int(values[0]) for values in output.windows]
    expected = {
        number: np.flatnonzero(encoded.window_examples == number).tolist()
        for number in range(encoded.examples)
    }
    assert whole == expected


def test_empty_and_one(given: Given) -> None:
    assert answers(given, []) == []
    assert len(answers(given, inputs(given, 1))) == 1


def test_what_training_never_had_is_refused(
    given: Given, tiny_folder: Path, tmp_path: Path
) -> None:
    if given.case.unseen is None:
        pytest.skip("a number is never unknown")
    held_out = write(tmp_path / "odd.jsonl", [given.case.unseen])
    task = given.case.task if given.case.named else None
    options = FinetuneOptions(
        model=str(tiny_folder), out=tmp_path / "out", eval=held_out, task=task
    )
    with pytest.raises(DataError, match=r"(?i)odd") as refused:
        finetune(given.path, options)
    assert "row 1, column" in refused.value.place
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def tuned(
    given: Given, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, dict[str, Any]]:
    """A fine-tuned model of the case, its held-out file, and what was measured."""
    folder = tmp_path_factory.mktemp("tuned")
    held_out = written(folder, given.case, count=24, seed=1)
    chosen = given.case.long is not None and given.task.head.reads_documents
    options = FinetuneOptions(
        model=str(tiny_folder),
        out=folder / "out",
        eval=held_out,
        task=given.case.task if given.case.named else None,
        epochs=2,
        batch_size=8,
        lr=3e-3,
        max_length=LIMIT,
        long=given.case.long and given.case.long.how,
        stride=given.case.long and given.case.long.stride,
        windows=2 if chosen else FinetuneOptions.windows,
        precision="fp32",
    )
    torch.manual_seed(0)
    return folder / "out", held_out, finetune(given.path, options).metrics["eval"]


def test_contract(given: Given, tuned: tuple[Path, Path, dict[str, Any]]) -> None:
    """After a reload evaluation, self-test, report and prediction agree with the run."""
    out, held_out, measured = tuned
    again = evaluate_file(str(out), held_out, EvaluateOptions(precision="fp32"))
    assert difference(again.to_dict(), json.loads(json.dumps(measured))) < 1e-6
    predictor = Predictor.from_pretrained(out, precision="fp32")
    assert predictor.selftest() == []
    assert predictor.contract is not None
    assert predictor.contract.task == given.case.task
    # By which a server compares a new version before it reads the weights.
    assert promise_in(str(out)) == promise(predictor.task, predictor.model.config)
    kept = read_answers(out / ANSWERS)
    if given.task.primary.name not in ("spearman", "mrr"):
        assert [row.row for row in kept] == list(range(1, 25))
        score = predictor.task.scorer().score(np.sum([row.sums for row in kept], axis=0))
        assert float(score) == pytest.approx(measured[given.task.primary.name], abs=1e-9)
    headline = read_facts(out)["headline"]
    assert headline["value"] == pytest.approx(measured[given.task.primary.name] or 0.0)
    assert headline["rows"] == 24
    table, _ = read_for_task(held_out, Columns(), task=type(predictor.task))
    scorer = predictor.task.scorer()
    examples = list(table.examples())
    asked = [{r: row[r] for r in given.task.encoded_roles if r in row} for row in examples]
    for prediction, example in zip(predictor.predict(asked), examples, strict=True):
        scorer.add(prediction.answer, example)
    name = given.task.primary.name
    assert difference(scorer.values()[name], measured[name]) < 1e-6


def test_the_help_of_the_option_names_every_task_that_ships() -> None:
    words = " ".join(inspect.getsource(FinetuneOptions).split())
    named = words.partition("What to learn: ")[2].partition(". Default")[0]
    taught = {task.name for task in SHIPPED if not task.taught_by}
    assert set(named.replace(" or ", ", ").split(", ")) == taught
