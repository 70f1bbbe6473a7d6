"""Several runs by one command: each is the run that it would be alone, and all are one result."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.errors import TrainingError, UsageError
from bertolt.commands.compare import compare_runs
from bertolt.commands.finetune import turns
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.planned import Goal, Outcome
from bertolt.commands.finetune.run import FinetuneResult, finetune
from bertolt.commands.finetune.runs_page import summary_facts
from bertolt.commands.finetune.spread import Summary, fitted, spread_of
from bertolt.commands.report import draw_again
from bertolt.report import read_facts
from bertolt.report.findings import cautions
from tests.callbacks import At, press

Quick = Callable[..., FinetuneOptions]


@pytest.fixture(autouse=True, scope="module")
def _without_pages() -> Iterator[None]:
    """Pages are drawn in one test, and take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for home in ("bertolt.train.job", "bertolt.commands.finetune.several"):
            patch.setattr(f"{home}.write_report", lambda facts, path: path.write_text(""))
        yield


def metrics_of(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    for name in [name for name in values["train"] if "second" in name]:
        del values["train"][name]
    return values


@pytest.fixture(scope="module")
def seeds(
    tiny_folder: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory
) -> FinetuneResult:
    """Three seeds of one run, of which the learning rate lets two collapse."""
    options = FinetuneOptions(
        model=str(tiny_folder),
        out=tmp_path_factory.mktemp("seeds") / "out",
        precision="fp32",
        epochs=2,
        batch_size=8,
        lr=3e-3,
        seeds=3,
    )
    return finetune(reviews_csv, options)


def test_a_seed_of_several_is_the_run_that_it_is_alone(
    seeds: FinetuneResult, reviews_csv: Path, quick: Quick, tmp_path: Path
) -> None:
    assert seeds.several is not None
    best = seeds.several.best
    alone = finetune(reviews_csv, quick(epochs=2, seed=int(best.removeprefix("seed-"))))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (seeds.out, alone.out)]
    assert weights[0] == weights[1]
    assert metrics_of(seeds.out / best) == metrics_of(alone.out)
    assert str(seeds.scores) == str(alone.scores)


def test_mean_and_spread_and_what_collapsed(seeds: FinetuneResult) -> None:
    several = metrics_of(seeds.out)["several"]
    scores = [each["score"] for each in several["runs"]]
    assert [each["name"] for each in several["runs"]] == ["seed-42", "seed-43", "seed-44"]
    spread = several["spread"]["accuracy"]
    assert spread["mean"] == pytest.approx(statistics.fmean(scores))
    assert spread["standard_deviation"] == pytest.approx(statistics.stdev(scores))
    assert (spread["min"], spread["max"], spread["runs"]) == (min(scores), max(scores), 3)
    assert several["spread"].keys() == {"accuracy", "loss", "f1_macro"}
    best = max(several["runs"], key=lambda each: each["score"])
    assert several["best"] == best["name"]
    collapsed = [each for each in several["runs"] if each["collapsed"]]
    assert collapsed
    facts = read_facts(seeds.out)
    told = " ".join(each["claim"] + each["detail"] for each in facts["cautions"])
    assert f"{len(collapsed)} of 3 runs collapsed" in told
    assert all(each["title"] in told for each in collapsed)
    assert "no better than" in told or "answered alike" in told
    assert "flatters" in told


def test_the_folder_has_one_model_and_the_metrics_of_all(seeds: FinetuneResult) -> None:
    assert seeds.several is not None
    folders = sorted(path for path in seeds.out.iterdir() if path.is_dir())
    assert [path.name for path in folders] == ["seed-42", "seed-43", "seed-44"]
    with_model = [path.name for path in folders if (path / "model.safetensors").is_file()]
    assert with_model == [seeds.several.best]
    assert all((path / "metrics.json").is_file() for path in folders)
    arguments = json.loads((seeds.out / "arguments.json").read_text(encoding="utf-8"))
    assert (arguments["seeds"], arguments["seed"]) == (3, 42)
    assert "--seeds 3" in read_facts(seeds.out)["command"]


def test_one_page_draws_the_spread(seeds: FinetuneResult) -> None:
    page = draw_again(seeds.out).read_text(encoding="utf-8")
    for words in ("mean of 3 seeds", 'id="runs"', "Accuracy of each run", "Standard deviation"):
        assert words in page


def test_a_complete_one_is_complete_and_another_is_refused(
    seeds: FinetuneResult,
    quick: Quick,
    reviews_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = shutil.copytree(seeds.out, tmp_path / "out")
    again = finetune(reviews_csv, quick(epochs=2, seeds=3, resume=True))
    assert "nothing is left to do" in capsys.readouterr().err
    assert again.metrics == seeds.metrics
    with pytest.raises(UsageError, match="made with --epochs 2"):
        finetune(reviews_csv, quick(epochs=1, seeds=3, resume=True))
    with pytest.raises(UsageError, match="--seeds"):
        finetune(reviews_csv, quick(epochs=2, seeds=4, resume=True))
    with pytest.raises(UsageError, match="holds several runs"):
        finetune(reviews_csv, quick(epochs=2, resume=True))
    (out / "runs.json").unlink()
    with pytest.raises(UsageError, match="holds a single run"):
        finetune(reviews_csv, quick(epochs=2, seeds=3, resume=True))
    with pytest.raises(UsageError, match="'seed-42', which no run has written"):
        finetune(reviews_csv, quick(overwrite=True))


def test_folds_answer_each_row_once_by_a_model_that_has_not_seen_it(
    reviews_csv: Path, quick: Quick, tmp_path: Path
) -> None:
    path = tmp_path / "grouped.csv"
    with reviews_csv.open(encoding="utf-8", newline="") as file:
        rows_of = list(csv.reader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows_of[21:23] = rows_of[1], [f"{rows_of[2][0]} so", *rows_of[2][1:]]
        csv.writer(file).writerows([*row, f"u{n // 2}"] for n, row in enumerate(rows_of, 1))
    result = finetune(path, quick(folds=3, epochs=2, group="u0"))
    assert result.several is not None
    lines = (result.out / "out_of_fold.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["row"] for row in rows] == list(range(1, 81))
    assert {row["fold"] for row in rows} == {1, 2, 3}
    assert all(one["fold"] == two["fold"] for one, two in zip(rows[::2], rows[1::2], strict=True))
    assert all(row["answer"]["probability"] == row["probability"] for row in rows)
    right = sum(row["gold"] == row["answer"]["label"] for row in rows)
    facts = read_facts(result.out)
    assert facts["pooled"]["accuracy"] == pytest.approx(right / 80)
    assert facts["pooled"]["resampled_by"] == "u0"
    assert metrics_of(result.out / "fold-1")["eval"]["resampled_by"] == "u0"
    assert facts["headline"]["value"] == pytest.approx(right / 80)
    assert facts["data"]["train_rows"] == 80
    metrics = metrics_of(result.out)
    assert metrics["eval"] is None
    assert metrics["not_measured"] == "--folds 3: the last model trains on all rows"
    assert metrics["pooled"] == facts["pooled"]
    assert len(metrics["several"]["runs"]) == 3
    compared = compare_runs([str(result.out), str(shutil.copytree(result.out, tmp_path / "two"))])
    assert (compared.rows, compared.groups) == (80, 40)
    assert compared.scores[str(result.out)][0] == pytest.approx(right / 80)
    # Folds of groups differ in size: the loss is that of all rows, as their answers give it.
    losses = [-math.log(row["answer"]["probabilities"][row["gold"]]) for row in rows]
    assert metrics["pooled"]["loss"] == pytest.approx(statistics.fmean(losses), abs=1e-4)
    folds = [read_facts(result.out / f"fold-{number}")["data"] for number in (1, 2, 3)]
    repeated = sum(each["repeated"] for each in folds)
    assert repeated == facts["data"]["repeated"] > 0
    assert facts["data"]["measured_rows"] == 80
    near = sum(each["nearly_repeated"]["rows"] for each in folds)
    claims = [each.claim for each in cautions(facts)]
    assert f"{repeated} texts stand in other folds too" in claims
    assert f"{near} rows nearly in other folds too" in claims
    assert not [claim for claim in claims if "training" in claim]
    (detail,) = [each.detail for each in cautions(facts) if "texts stand in" in each.claim]
    assert detail.startswith(f"{repeated} of 80 were answered by a model that had learned the same")
    parts = [read_facts(result.out / f"fold-{number}")["data"]["split"] for number in (1, 2, 3)]
    assert all("of 3 held out, each 'u0' in one part, seed" in each for each in parts)
    assert result.several.best == "all-rows"
    alone = finetune(path, quick(epochs=2, test_size=0.0, out=tmp_path / "alone"))
    weights = [(each.out / "model.safetensors").read_bytes() for each in (result, alone)]
    assert weights[0] == weights[1]


def test_a_learning_curve_says_whether_more_labels_would_help(
    reviews_csv: Path, quick: Quick
) -> None:
    result = finetune(reviews_csv, quick(sample="40,8,16"))
    assert result.several is not None
    assert [each.rows for each in result.several.runs] == [8, 16, 40]
    assert result.several.best == "sample-40"
    curve = metrics_of(result.out)["several"]["learning_curve"]
    assert (curve["first"], curve["last"]) == (8, 40)
    assert "8 to 40 rows" in curve["sentence"]
    assert curve["verdict"] in ("yes", "no sign", "not known")
    assert curve["sentence"] in read_facts(result.out)["first_blocks"][0]["lead"]
    runs = [replace(each, collapsed="every row is answered alike") for each in result.several.runs]
    told = fitted(replace(result.several, runs=runs))
    assert told is not None
    assert told.verdict == "not known"  # runs that learned nothing tell nothing of their rows


def test_one_sample_is_the_end_of_a_learning_curve(
    reviews_csv: Path, quick: Quick, capsys: pytest.CaptureFixture[str]
) -> None:
    result = finetune(reviews_csv, quick(sample=15))
    said = capsys.readouterr().err
    assert "Learning curve: runs on 4, 8, 15 rows" in said
    assert result.several is not None
    assert result.several.curve() is not None
    assert [each.rows for each in result.several.runs] == [4, 8, 15]
    assert metrics_of(result.out)["several"]["learning_curve"]["sentence"] in said
    assert read_facts(result.out)["data"]["train_rows"] == 15
    with pytest.raises(UsageError, match="1 row cannot have each of 2 labels") as refused:
        finetune(reviews_csv, quick(sample=4, out=result.out / "four"))
    assert refused.value.fix == "name sizes of 2 and more: --sample 2,4"


def test_a_sample_without_a_score_is_one_run(
    reviews_csv: Path, quick: Quick, tmp_path: Path
) -> None:
    result = finetune(reviews_csv, quick(sample=16, eval=None, test_size=0.0))
    assert read_facts(result.out)["data"]["train_rows"] == 16
    assert result.several is None
    result = finetune(reviews_csv, quick(sample=16, seeds=2, out=tmp_path / "seeds"))
    facts = read_facts(result.out)
    assert (facts["data"]["train_rows"], facts["data"]["eval_rows"]) == (16, 16)
    assert "16 of 64" in facts["data"]["split"]


def test_a_search_goes_on_with_more_trials(
    reviews_csv: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = "lr=1e-4..1e-2:log batch_size=8,16 epochs=1,2"
    first = finetune(reviews_csv, quick(search=space, trials=2))
    kept = (first.out / "runs.json").read_text(encoding="utf-8")
    more = finetune(reviews_csv, quick(search=space, trials=3, resume=True))
    assert more.several is not None
    runs = json.loads((more.out / "runs.json").read_text(encoding="utf-8"))["runs"]
    assert runs[:2] == json.loads(kept)["runs"]
    assert [each.name for each in more.several.runs] == ["trial-1", "trial-2", "trial-3"]
    best = max(more.several.runs, key=lambda each: each.score or 0.0)
    assert more.several.best == best.name
    arguments = json.loads((more.out / "arguments.json").read_text(encoding="utf-8"))
    assert arguments["lr"] == best.changes["lr"]
    with pytest.raises(UsageError, match="--search"):
        finetune(reviews_csv, quick(search="lr=1e-4..1e-3", trials=3, resume=True))


def test_a_trial_that_cannot_be_made_ends_alone_and_overwrite_begins_anew(
    reviews_csv: Path, quick: Quick
) -> None:
    search = quick(search="max_length=16,999", trials=3, epochs=1, seed=2)
    result = finetune(reviews_csv, search)
    assert result.several is not None
    problems = {each.changes["max_length"]: each.problem for each in result.several.runs}
    assert problems[16] == ""
    assert problems[999] == "--max-length is 999, and the model takes 160 tokens at most"
    anew = replace(search, search="max_length=999", trials=1, resume=True, overwrite=True)
    with pytest.raises(UsageError, match="trial 1 cannot be made: --max-length is 999") as refused:
        finetune(reviews_csv, anew)  # of the first one it is the command's error
    assert refused.value.place == "--search"
    assert "as a value of max_length in --search" in refused.value.fix
    again = finetune(reviews_csv, replace(anew, search="max_length=16", trials=1))
    assert again.several is not None
    assert len(again.several.runs) == 1
    assert {each.name for each in result.out.iterdir() if each.is_dir()} == {"trial-1"}


def test_a_run_whose_loss_is_not_finite_ends_alone(
    reviews_csv: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = finetune(reviews_csv, quick(search="lr=1e-3,1e30", trials=3, seed=1, epochs=1))
    assert result.several is not None
    failed = [each for each in result.several.runs if each.problem]
    assert failed
    assert all("nan" in each.problem and each.score is None for each in failed)
    assert result.several.best not in {each.name for each in failed}
    with pytest.raises(TrainingError, match="no run came to a score"):
        finetune(reviews_csv, quick(search="lr=1e30", trials=1, overwrite=True))


def test_one_score_has_no_standard_deviation() -> None:
    goal = Goal(metric="accuracy", title="Accuracy", greater=True)
    runs = [
        Outcome(name="seed-1", title="seed 1", done=True, score=0.5, metrics={"accuracy": 0.5}),
        Outcome(name="seed-2", title="seed 2", done=True, problem="the loss is nan"),
    ]
    spread = spread_of(runs, goal)
    assert spread == {"accuracy": {"mean": 0.5, "min": 0.5, "max": 0.5, "runs": 1}}
    known = Summary(
        kind="seeds", words="2 seeds", goal=goal, runs=runs, best="seed-1", spread=spread
    )
    assert "standard deviation n/a" in known.sentence()
    assert re.search(r"^standard deviation +n/a$", "\n".join(known.lines()), re.MULTILINE)
    facts = summary_facts({"headline": {"rows": 4}}, known, {})
    assert "standard deviation n/a" in str(facts)
    assert "band" not in str(facts)


def test_a_setting_beside_a_search_of_it_is_told(
    reviews_csv: Path, quick: Quick, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(reviews_csv, quick(search="lr=1e-3", trials=1, lr=2e-3))
    assert "--lr 0.002 has no effect: --search tries lr" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["distil", "class_weights", "search"])
def test_what_is_read_is_not_replaced(
    reviews_csv: Path, quick: Quick, tmp_path: Path, option: str
) -> None:
    """A teacher, weights and a space may lie where the result is to be, under one of its names."""
    out = tmp_path / "out"
    out.mkdir()
    path = out / "arguments.json"
    path.write_text('{"lr": [0.001]}', encoding="utf-8")
    read = str(out if option == "distil" else path)
    for choices in ({}, {"seeds": 2}):
        if option != "search" or not choices:
            with pytest.raises(UsageError, match="which is read and would be lost"):
                finetune(reviews_csv, quick(**{option: read}, overwrite=True, **choices))
    assert [each.name for each in out.iterdir()] == ["arguments.json"]


def test_ctrl_c_ends_all_and_leaves_what_was_complete(
    reviews_csv: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    class Second(At):
        def on_step(self, log: Any, total_steps: int) -> None:
            calls.append(log.step)
            if calls.count(3) == 2:
                super().on_step(log, total_steps)

    result = finetune(reviews_csv, quick(seeds="5,6,7"), callbacks=[Second(3, press)])
    assert result.interrupted
    assert (result.out / "model.safetensors").is_file()
    assert not (result.out / "complete.json").exists()
    assert "1 of 3 runs are complete" in read_facts(result.out)["stopped_early"]
    rest = finetune(reviews_csv, quick(seeds="5,6,7", resume=True))
    assert rest.several is not None
    assert [each.name for each in rest.several.runs] == ["seed-5", "seed-6", "seed-7"]
    assert (rest.out / "complete.json").is_file()


def test_texts_that_compete_have_no_folds_and_are_read_by_seeds(
    quick: Quick, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"question": f"good {n}", "answer": f"bad film {n}"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UsageError, match="each fold has a model of its own"):
        finetune(path, quick(folds=3, task="sentence-similarity"))
    result = finetune(path, quick(seeds=2, task="sentence-similarity"))
    assert result.several is not None
    assert len(result.several.runs) == 2


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ({"seeds": 3, "folds": 3}, "--seeds and --folds are two kinds"),
        ({"search": "lr=1e-4,1e-5", "sample": "8,16"}, "--search and --sample with several"),
        ({"seeds": 3, "test_size": 0.0}, "--test-size 0 holds no rows out"),
        ({"folds": 3, "patience": 1}, "none is held out to choose"),
        ({"folds": 3, "calibrate": True}, "none is held out to fit"),
        ({"folds": 3, "eval": Path("more.csv")}, "--eval names other rows"),
        ({"seeds": "1,1"}, "names 1 twice"),
        ({"seeds": "7,"}, "--seeds names 7 alone"),
        ({"seeds": f"1,{2**63}"}, f"--seeds has {2**63}"),
        ({"seeds": 2, "seed": 2**63 - 1}, f"--seeds has {2**63}"),
        ({"seeds": "1000000000"}, "--seeds is 1000000000"),
        ({"seeds": "9" * 5000}, "--seeds is 9999"),
        ({"seeds": "a,b"}, "--seeds is 'a,b'"),
        ({"sample": "8,x"}, "--sample is '8,x'"),
        ({"sample": "8,900"}, "900 rows are asked for, and 64 train"),
        ({"keep_models": True}, "there is one run"),
        ({"prune": True}, "there is none"),
        ({"seeds": 2, "shard": True}, "in one process"),
    ],
)
def test_what_does_not_go_together_is_refused_and_leaves_nothing(
    reviews_csv: Path, quick: Quick, choices: dict[str, Any], problem: str
) -> None:
    options = quick(**choices)
    with pytest.raises(UsageError, match=problem):
        finetune(reviews_csv, options)
    assert not options.out.exists()


def test_without_optuna_it_says_what_to_install(
    reviews_csv: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UsageError, match="needs the package optuna") as refused:
        finetune(reviews_csv, quick(search="lr=1e-4,1e-5"))
    assert refused.value.fix == 'pip install "bertolt[search]"'


def test_several_processes_are_refused(
    reviews_csv: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertolt.base.distributed import World

    monkeypatch.setattr(turns, "join", lambda: World(rank=0, size=2))
    with pytest.raises(UsageError, match="torchrun has started several"):
        finetune(reviews_csv, quick(seeds=2))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda runs: runs[0].update(name="../../models"), "'../../models' is none"),
        (lambda runs: runs.pop(0), "'seed-43' is none, or out of its order"),
        (lambda runs: runs[0].update(done=False), "'seed-42' is none, or out of its order"),
        (lambda runs: runs[0].update(collapsed=["all"]), r"collapsed is \['all'\]"),
        (lambda runs: runs[0].update(metrics={"loss": "low"}), "scores that are no numbers"),
        (lambda runs: runs[0].pop("title"), "title"),
    ],
)
def test_a_record_that_somebody_altered_is_refused(
    seeds: FinetuneResult,
    reviews_csv: Path,
    quick: Quick,
    tmp_path: Path,
    change: Callable[[Any], Any],
    problem: str,
) -> None:
    (tmp_path / "out").mkdir()
    record = json.loads((seeds.out / "runs.json").read_text(encoding="utf-8"))
    change(record["runs"])
    (tmp_path / "out" / "runs.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match=problem) as refused:
        finetune(reviews_csv, quick(epochs=2, seeds=3, resume=True))
    assert "--overwrite" in refused.value.fix
