"""Scores of a classifier: exact, streamed, with a baseline and the surest mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from bertolt import BertForSequenceClassification, PackingCollator
from bertolt.data.encode import encode_texts
from bertolt.data.load import Table
from bertolt.metrics import ConfusionMatrix
from bertolt.models.precision import FP32
from bertolt.tasks.evaluation import Scores, TaskRows, WrongRow, evaluate
from bertolt.tasks.text_classification import TextClassification

NAMES = ["bad", "fair", "good"]
TASK = TextClassification(tuple(NAMES), "fair")


@pytest.fixture(scope="module")
def model(tiny_config: Any, randomised: Any) -> BertForSequenceClassification:
    config = tiny_config(
        id2label=dict(enumerate(NAMES)), problem_type="single_label_classification"
    )
    built: BertForSequenceClassification = randomised(
        BertForSequenceClassification(config), std=0.4
    )
    return built


@pytest.fixture(scope="module")
def rows(tiny_tokenizer: Any) -> Any:
    """200 texts of mixed lengths with labels of three classes."""
    choose = np.random.default_rng(0)
    words = ["good", "bad", "the", "film", "was", "dull", "and", "fresh"]
    texts = [" ".join(choose.choice(words, choose.integers(1, 60))) for _ in range(200)]
    labels = choose.choice(3, 200, p=[0.2, 0.5, 0.3])
    return rows_of(encode_texts(tiny_tokenizer, texts, 160, labels), [NAMES[i] for i in labels])


def rows_of(encoded: Any, labels: list[str]) -> TaskRows:
    data = pa.table({"row": range(len(labels)), "text": [""] * len(labels), "label": labels})
    table = Table(
        path="rows.csv",
        data=data,
        roles={"text": ["text"], "label": ["label"]},
        columns=["text", "label"],
        found={},
        rows_read=len(labels),
        dropped={},
    )
    return TaskRows(table=table, index=np.arange(len(labels)), encoded=encoded)


@pytest.fixture(scope="module")
def plain(model: Any, rows: Any) -> tuple[np.ndarray[Any, Any], float]:
    """Probabilities (N, C) and the mean loss, one row at a time."""
    collate = PackingCollator()
    with torch.no_grad():
        outputs = [model(collate([rows.encoded[index]])) for index in range(len(rows))]
    shares = torch.cat([output.logits for output in outputs]).softmax(-1).numpy()
    return shares, float(np.mean([float(output.loss) for output in outputs]))


@pytest.fixture(scope="module")
def scores(model: Any, rows: Any) -> Scores:
    return evaluate(model, TASK, rows, precision=FP32, keep_mistakes=5)


def test_the_counts_are_those_of_one_row_at_a_time(scores: Scores, rows: Any, plain: Any) -> None:
    expected = ConfusionMatrix(3)
    expected.update(plain[0].argmax(1), rows.encoded.labels)
    assert scores.scorer.confusion.counts.tolist() == expected.counts.tolist()
    assert scores.scorer.confusion.total() == 200


def test_the_loss_is_the_mean_over_rows_whatever_the_batches(scores: Scores, plain: Any) -> None:
    assert scores.loss == pytest.approx(plain[1], abs=1e-5)


def test_the_surest_mistakes_come_first(scores: Scores, rows: Any, plain: Any) -> None:
    shares = plain[0]
    wrong = np.flatnonzero(shares.argmax(1) != rows.encoded.labels)
    surest = sorted(shares[wrong].max(1), reverse=True)[:5]
    found = [mistake.weight for mistake in scores.mistakes]
    assert found == pytest.approx([float(share) for share in surest], abs=1e-5)
    for mistake in scores.mistakes:
        assert mistake.weight == pytest.approx(float(shares[mistake.row].max()), abs=1e-5)
        said = NAMES.index(mistake.answer["label"])
        assert said == shares[mistake.row].argmax() != rows.encoded.labels[mistake.row]


def test_the_mistakes_kept_do_not_grow_with_the_rows(model: Any, rows: Any) -> None:
    found = evaluate(model, TASK, rows, precision=FP32, keep_mistakes=2)
    assert len(found.mistakes) == 2
    assert found.scorer.confusion.counts.shape == (3, 3)


_EVALUATE_IN_PARTS = """
import sys
import numpy as np
import bertolt
from bertolt.data.encode import encode_texts
from bertolt.tasks.text_classification import TextClassification
from tests.tasks.test_evaluation import rows_of
from bertolt.tasks.evaluation import evaluate
from bertolt.models.precision import choose_precision
import torch

def resident():  # MB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

tokenizer = bertolt.BertTokenizer.from_pretrained(sys.argv[1])
model = bertolt.BertForSequenceClassification(
    bertolt.BertConfig(vocab_size=97, hidden_size=384, num_hidden_layers=1, num_attention_heads=12)
)
precision = choose_precision("auto", torch.device("cpu"))  # bfloat16 where it is not emulated
choose = np.random.default_rng(0)
for part in range(10):
    texts = [" ".join(["film"] * n) for n in choose.integers(1, 120, 1000)]
    labels = choose.integers(0, 2, 1000)
    rows = rows_of(encode_texts(tokenizer, texts, 160, labels), ["ab"[i] for i in labels])
    evaluate(model, TextClassification(("a", "b"), "a"), rows, precision=precision)
    print(resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's own figures")
def test_memory_does_not_grow_with_the_rows(tiny_folder: Path) -> None:
    """Thousand after thousand of rows, every batch of another shape, in a process of its own."""
    told = subprocess.run(
        [sys.executable, "-c", _EVALUATE_IN_PARTS, str(tiny_folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    resident = [float(line) for line in told.stdout.split()]
    # Until as many kernels are prepared as are kept, there are more of them with each shape.
    assert resident[-1] - resident[4] < 40


def test_the_baseline_is_one_label_for_all(scores: Scores, rows: Any) -> None:
    share, (low, high) = scores.scorer.baseline()
    assert share == np.mean(rows.encoded.labels == 1)
    assert low < share < high


def test_progress_is_told_up_to_the_last_row(model: Any, rows: Any) -> None:
    seen: list[int] = []
    evaluate(model, TASK, rows, precision=FP32, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 200


def test_the_training_mode_is_as_before(model: Any, rows: Any) -> None:
    model.train()
    evaluate(model, TASK, rows, precision=FP32)
    assert model.training
    model.eval()


def made(counts: list[list[int]], labels: list[str], loss: float = 0.5) -> Scores:
    task = TextClassification(tuple(labels), labels[0])
    scorer = task.scorer()
    scorer.confusion.counts += np.array(counts)
    return Scores(task=task, scorer=scorer, loss=loss, mistakes=[])


def test_as_plain_values() -> None:
    found = made([[3, 1], [0, 0]], ["neg", "pos"]).to_dict()
    assert json.loads(json.dumps(found))["per_class"]["pos"]["recall_interval"] is None
    assert found["accuracy"] == 0.75
    assert found["rows"] == 4
    assert found["baseline_accuracy"] == 1.0
    assert found["per_class"]["neg"]["precision"] == 1.0
    assert found["per_class"]["pos"]["recall"] is None
    assert found["confusion"] == [[3, 1], [0, 0]]


def test_a_loss_that_is_no_number_is_null_in_json() -> None:
    found = made([[1, 0], [0, 1]], ["a", "b"], loss=float("nan")).to_dict()
    assert json.dumps(found, allow_nan=False)
    assert found["loss"] is None


def test_the_table_reads_well() -> None:
    text = str(made([[30, 10], [0, 0]], ["neg", "很好"]))
    first, second, third, absent, resampled, _, header, *lines = text.splitlines()
    assert resampled.startswith("  95% interval by resampling rows (the one above is by a formula)")
    assert ": Accuracy 0.6" in resampled
    assert first.startswith("Accuracy 0.7500 on 40 rows (95% interval 0.")
    assert second == "  against 1.0000 for always answering 'neg'"
    assert third == "  macro F1 0.4286, loss 0.5000"
    assert absent.startswith(
        "  macro F1 counts '很好' as 0, which no row here has; over the 1 label "
    )
    assert lines[0].index("1.0000") == header.index("precision")
    assert lines[1].startswith("很好   0.0000"), "wide characters take two columns"
    assert "n/a" in lines[1], "no row has this label, so its recall is not 0 but unknown"


def test_labels_cannot_spoil_the_table() -> None:
    many = [f"label {number}" for number in range(60)]
    many[:2] = ["two\nlines \x1b[31m", "x" * 500]
    text = str(made(np.eye(60, dtype=int).tolist(), many))
    assert "\x1b" not in text
    assert "… and 10 more labels" in text
    assert max(map(len, text.splitlines())) < 120


def test_wrong_rows_are_ordered_by_how_sure_the_model_was() -> None:
    assert max(WrongRow(0.5, 9, {}), WrongRow(0.9, 1, {})).row == 1
