"""Documents: trained, scored and answered as one, however many windows they have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import Predictor
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.data.collate import PackingCollator
from bertolt.data.long import LongTexts
from bertolt.data.parted import TooLongError, too_long
from bertolt.models.precision import FP32
from bertolt.tasks import long
from bertolt.tasks.base import Reading, Task
from bertolt.tasks.evaluation import evaluate
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.next_sentence import NextSentencePrediction
from bertolt.tasks.question_answering import QuestionAnswering
from bertolt.tasks.regression import Regression
from bertolt.tasks.rows import Columns, encode_rows, read_for_task
from bertolt.tasks.sentence_similarity import SentenceSimilarity
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.texts import encode_long

WINDOW = LongTexts(how="window", stride=2)
LIMIT = 12
WORDS = ["good", "bad", "the", "film", "was", "dull", "fresh", "plot", "warm", "cold"]


def rows_of(folder: Path, count: int = 17) -> Path:
    choose = np.random.default_rng(0)
    lines = [
        json.dumps({"text": " ".join(choose.choice(WORDS, length)), "label": "ab"[length % 2]})
        for length in choose.integers(1, 60, count)
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def documents(tmp_path: Path, tiny_config: Any, tiny_tokenizer: Any, randomised: Any) -> Any:
    table, kind = read_for_task(rows_of(tmp_path), Columns())
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    rows, _ = encode_rows(task, table, everything, tiny_tokenizer, LIMIT, WINDOW)
    model = randomised(task.head(tiny_config(**task.config_changes())), std=0.3)
    return task, rows, model.eval()


def test_a_document_is_learned_as_it_is_scored(documents: Any) -> None:
    """The loss of a batch of whole documents is the loss of an evaluation, window by window."""
    task, rows, model = documents
    encoded = rows.encoded
    assert encoded.documents
    assert len(encoded) == len(rows) < rows.to_answer
    with torch.no_grad():
        output = model(PackingCollator()([encoded[number] for number in range(len(encoded))]))
        windows = [
            torch.cat([model(PackingCollator()([{"input_ids": ids}])).logits for ids in parts])
            for parts in (encoded[number]["input_ids"] for number in range(3))
        ]
    assert output.logits.shape == (len(rows), 2)
    means = torch.stack([logits.mean(dim=0) for logits in windows])
    torch.testing.assert_close(output.logits[:3], means, rtol=1e-4, atol=1e-5)
    scores = evaluate(model, task, rows, precision=FP32)
    assert scores.loss == pytest.approx(float(output.loss), rel=1e-5)


def test_pairs_that_may_follow_each_other_are_learned_as_they_are_scored(
    tmp_path: Path, tiny_config: Any, tiny_tokenizer: Any, randomised: Any
) -> None:
    rows = [
        {"sentence1": "good film " * n, "sentence2": "bad plot " * (12 - n), "label": n % 2}
        for n in range(1, 12)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table, kind = read_for_task(path, Columns(), task=NextSentencePrediction)
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    encoded, _ = encode_rows(task, table, everything, tiny_tokenizer, LIMIT, WINDOW)
    model = randomised(task.head(tiny_config(**task.config_changes())), std=0.3).eval()
    with torch.no_grad():
        output = model(PackingCollator()([encoded.encoded[n] for n in range(len(rows))]))
    assert output.logits.shape == (len(rows), 2)
    assert encoded.to_answer > len(rows)
    scores = evaluate(model, task, encoded, precision=FP32)
    assert scores.loss == pytest.approx(float(output.loss), rel=1e-5)


def test_answers_do_not_depend_on_the_order_of_windows(documents: Any, tiny_tokenizer: Any) -> None:
    task, rows, model = documents
    predictor = Predictor(model, tiny_tokenizer, task=task, precision="fp32")
    predictor.max_length, predictor.long = LIMIT, WINDOW
    examples = rows.examples(range(len(rows)))
    together = list(predictor.predict([example["text"] for example in examples]))
    assert sum(prediction.windows for prediction in together) == rows.to_answer
    scorer = task.scorer()
    for prediction, example in zip(together, examples, strict=True):
        scorer.add(prediction.answer, example)
        (alone,) = predictor.predict([example["text"]])
        assert alone.probability == pytest.approx(prediction.probability, abs=1e-5)
    scores = evaluate(model, task, rows, precision=FP32)
    assert scores.scorer.values()["accuracy"] == scorer.values()["accuracy"]


def test_a_step_in_portions_is_the_step_of_one_batch(documents: Any) -> None:
    """Every text counts once, whatever the number of its windows."""
    _, rows, model = documents
    encoded = rows.encoded

    def gradient(*parts: range) -> torch.Tensor:
        model.zero_grad()
        for part in parts:
            batch = PackingCollator()([encoded[number] for number in part])
            assert model.count_targets(batch) == {"labels": len(part)}
            model(replace(batch, loss_counts={"labels": len(encoded)})).loss.backward()
        weights: torch.Tensor = model.classifier.weight.grad.clone()
        return weights

    count = len(encoded)
    whole = gradient(range(count))
    parts = gradient(range(5), range(5, count))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_what_was_read_is_in_the_scores(documents: Any) -> None:
    task, rows, model = documents
    values = evaluate(model, task, rows, precision=FP32).to_dict()["lengths"]
    assert values["texts"] == 17
    assert values["windows"] == rows.to_answer
    assert values["texts_parted"] > 0
    assert (values["texts_cut"], values["tokens_cut"]) == (0, 0)
    assert values["max_length"] == LIMIT


@pytest.mark.parametrize("kind", [SentenceSimilarity, MultipleChoice])
def test_every_text_of_an_example_may_lose_its_middle(kind: Any, tiny_tokenizer: Any) -> None:
    """A text, and a pair of the text and a choice, lose what each of them loses alone."""
    first, second = "good bad " * 30 + "warm", "the film was cold"
    pair: Any = [second, first] if kind is MultipleChoice else second
    head_tail = LongTexts(how="head-tail")
    (example,) = kind().encode_long(
        [{"text": first, "text_pair": pair}], tiny_tokenizer, LIMIT, head_tail
    )
    alone = [
        {"text": first, **more}
        for more in ([{"text_pair": each} for each in pair] if kind is MultipleChoice else [{}])
    ]
    expected = list(encode_long(alone, tiny_tokenizer, LIMIT, head_tail))
    if kind is SentenceSimilarity:
        expected += encode_long([{"text": second}], tiny_tokenizer, LIMIT, head_tail)
        assert tuple(example.cut) == tuple(lost for each in expected for lost in each.cut)
    else:
        assert list(example.cut) == [
            sum(lost) for lost in zip(*(each.cut for each in expected), strict=True)
        ]
    assert [list(window.ids) for window in example.windows] == [
        list(each.windows[0].ids) for each in expected
    ]
    assert example.length == sum(each.length for each in expected)
    warm = tiny_tokenizer.convert_tokens_to_ids("warm")
    assert warm in example.windows[0].ids, "the end of the text"


@pytest.mark.parametrize(
    ("task", "how", "stride", "limit", "problem"),
    [
        (TextClassification, "truncate", 4, 64, "it says how windows overlap"),
        (TextClassification, "window", 60, 64, "may share 47 at most, and 60 were asked for"),
        (Regression, "head-tail", None, 7, "holds hardly any text"),
        (QuestionAnswering, "head-tail", None, 64, "begin in one part and end in the other"),
        (QuestionAnswering, "odd", None, 64, "there is no 'odd'"),
    ],
)
def test_what_cannot_be_is_refused(
    task: Any, how: str, stride: int | None, limit: int, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        long.chosen(task, how, stride, limit)
    assert refused.value.fix
    assert refused.value.place.startswith("--")


def test_a_longer_text_is_refused_with_its_row(tmp_path: Path, tiny_tokenizer: Any) -> None:
    table, kind = read_for_task(rows_of(tmp_path), Columns())
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    rows, _ = encode_rows(task, table, everything, tiny_tokenizer, LIMIT)
    tokens = rows.encoded.full_lengths
    longer = np.flatnonzero(tokens > LIMIT)
    with pytest.raises(TooLongError) as refused:
        encode_rows(task, table, everything, tiny_tokenizer, LIMIT, LongTexts(how="error"))
    assert refused.value.place == table.place_at(int(longer[0]))
    assert f"the limit of 12 tokens: it has {tokens[longer[0]]}" in refused.value.problem
    assert f"so are {len(longer) - 1} more rows" in refused.value.problem
    assert "--long window" in refused.value.fix
    alone = too_long(rows.encoded, int(longer[0]), "row 1", Task.longs)
    assert alone.fix == "--long truncate cuts it", "a task without windows names none"


@pytest.mark.parametrize("how", [LongTexts(how="head-tail"), WINDOW])
def test_the_contract_keeps_it(how: LongTexts) -> None:
    task = TextClassification(("a", "b"))
    values = json.loads(json.dumps(long.kept(task, how)))
    assert long.read(task, values, 64) == how
    assert long.read(task, {}, 64) is None
    assert long.chosen(task, None, None, 64, how) == how
    assert long.chosen(task, "truncate", None, 64, how) == LongTexts(how="truncate")


@pytest.mark.parametrize(
    "values", [{"how": "odd"}, {"how": "window", "answer": "the best one"}, {"how": 3}]
)
def test_a_contract_of_another_kind_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="unknown here"):
        long.read(TextClassification(("a", "b")), values, 64)
