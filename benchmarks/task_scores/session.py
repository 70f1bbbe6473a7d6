"""Make rows and encoder, start the runs one after the other, and keep what they found."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.session import ROOT, describe_session, environment, versions
from benchmarks.task_scores import ours
from benchmarks.task_scores.comparisons import COMPARISONS, HYPER, SIDES, Comparison, Run
from benchmarks.task_scores.scoring import (
    Scores,
    above,
    score_answers,
    score_choices,
    score_classes,
    score_labels,
    score_numbers,
    score_tags,
    score_words,
)
from benchmarks.task_scores.texts import (
    LABELS,
    Parts,
    better,
    characters,
    endings,
    halves,
    names,
    paragraph,
    questions,
    ratings,
    read_rows,
    reviews,
    speech,
    write_corpus,
    write_rows,
)
from bertolt import AutoTokenizer
from bertolt.checkpoint.demo import demo_checkpoint

PACKAGES = (
    "bertolt",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "seqeval",
    "scikit-learn",
    "scipy",
    "numpy",
)
SPECIAL = 2  # tokens of each text: [CLS] and [SEP]
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done.

    Attributes:
        comparisons: in their order.
        sides: who takes part.
        seeds: of the runs.
        out: folder for rows, models and answers.
        threads: for everyone.
        encoder: the Chinese encoder; None: pretrain one.
        words: the command line, for the record.
    """

    comparisons: list[Comparison]
    sides: list[str]
    seeds: list[int]
    out: Path
    threads: int
    encoder: Path | None
    words: list[str]


def measure(plan: Plan, *, say: Callable[[str], None], keep: Callable[[Record], None]) -> Record:
    """Do all runs that are not done, seed after seed, and call `keep` after each."""
    record = describe_session([], repeats=len(plan.seeds), threads=plan.threads, words=plan.words)
    del record["works"], record["repeats"]
    record |= {"commit": _library_commit(), "versions": versions(PACKAGES)}
    record |= {"seeds": plan.seeds, "comparisons": {}}
    for comparison in plan.comparisons:
        folder = plan.out / comparison.name
        say(f"rows of {comparison.name}")
        entry = _prepare(comparison, folder, [s for s in comparison.sides if s in plan.sides])
        record["comparisons"][comparison.name] = entry
        model = demo_checkpoint()
        if comparison.zh:
            model = plan.encoder or _pretrain(plan, say)
            entry["encoder"] = _describe_encoder(model)
        entry["longer"] = _longer(comparison, folder, model)
        for seed in plan.seeds:
            for side in entry["sides"]:
                run = Run(
                    comparison=comparison.name,
                    side=side,
                    seed=seed,
                    folder=str(folder),
                    model=str(model),
                    out=str(folder / f"{side}-{seed}"),
                )
                result = _once(run, plan, {name: record[name] for name in ("date", "commit")})
                entry["sides"][side]["runs"].append(result)
                keep(record)
                say(f"{comparison.name}  {side}  seed {seed}  {result['seconds']:.0f} s")
    return record


def _library_commit() -> str:
    """The commit that changed the library last, with a mark where its files differ from it."""
    words = ["git", "log", "-1", "--format=%h", "--abbrev=10", "--", "bertolt"]
    commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    same = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", "bertolt"], cwd=ROOT, check=False
    )
    return (commit.strip() or "unknown") + ("" if same.returncode == 0 else "-dirty")


def _prepare(comparison: Comparison, folder: Path, sides: list[str]) -> Record:
    """Write the rows, and describe them."""
    parts = _rows_of(comparison)
    rows = {"train": parts.train, "watched": parts.watched, "test": parts.test}
    for name, part in rows.items():
        write_rows(folder / f"{name}.jsonl", part)
    settings = {name: value for name, value in asdict(comparison).items() if name != "sides"}
    return {
        "settings": {**settings, **HYPER, "precision": "bf16"},
        "rows": {name: len(part) for name, part in rows.items()},
        "sides": {side: {"title": SIDES[side], "runs": []} for side in sides},
    }


def _rows_of(comparison: Comparison) -> Parts:
    """The rows of each part; tagged paragraphs are trained on and watched where they fit."""
    tagged = {"names": names, "characters": characters, "speech": speech}
    if comparison.name not in tagged:
        made = {
            "questions": questions, "reviews": reviews, "better": better, "next": halves,
            "endings": endings, "opinions": ratings, "ratings": ratings,
        }  # fmt: skip
        return made[comparison.name](comparison.sizes)
    room = comparison.max_length - SPECIAL

    def fits(row: dict[str, Any]) -> bool:
        return len(paragraph(row)) <= room

    return tagged[comparison.name](comparison.sizes, fits)


def _longer(comparison: Comparison, folder: Path, model: Path) -> dict[str, int]:
    """The rows of each part that have more tokens than the limit."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    columns = [name for name in (comparison.text or "text", comparison.text_pair) if name]
    longer = {}
    for part in ("train", "watched", "test"):
        rows = read_rows(folder / f"{part}.jsonl")
        texts = [
            [paragraph(row)] if "tokens" in row else [row[name] for name in columns] for row in rows
        ]
        lengths = (sum(map(len, tokenizer.encode_ids(each))) - len(each) + 1 for each in texts)
        longer[part] = sum(length > comparison.max_length for length in lengths)
    return longer


def _pretrain(plan: Plan, say: Callable[[str], None]) -> Path:
    """The Chinese encoder, from the paragraphs that are not scored."""
    folder = plan.out / "zh"
    if not (folder / "encoder" / "metrics.json").is_file():
        corpus = write_corpus(folder / "corpus.txt", _rows_of(COMPARISONS["names"]))
        for command in ours.pretraining(corpus, folder):
            say(" ".join(command[1:4]))
            _spend(command, plan, folder / "pretraining.log")
    return folder / "encoder"


def _describe_encoder(folder: Path) -> Record:
    """How it was pretrained, as its own files say."""
    arguments = json.loads((folder / "arguments.json").read_text(encoding="utf-8"))
    arguments.pop("out", None)  # where it lay is nobody's business afterwards
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {"arguments": arguments, "metrics": metrics}


def _once(run: Run, plan: Plan, session: Record) -> Record:
    """The result of a run in this session, or of an earlier one whose folder is there."""
    done = Path(run.out) / "result.json"
    if not done.is_file():
        shutil.rmtree(run.out, ignore_errors=True)
        settings = run.save()
        if run.side == "bertolt":
            commands = [ours.finetune(run), ours.predict(run)]
        else:
            commands = [[sys.executable, "-m", "benchmarks.task_scores.peer", str(settings)]]
        spent = [_spend(command, plan, Path(run.out) / "said.log") for command in commands]
        result = {
            "seed": run.seed,
            **session,
            "seconds": sum(seconds for seconds, _ in spent),
            "peak_memory_mb": max(memory for _, memory in spent),
            **score(run),
        }
        done.write_text(json.dumps(result), encoding="utf-8")
    result = json.loads(done.read_text(encoding="utf-8"))
    return dict(result)


def _spend(command: Sequence[str], plan: Plan, log: Path) -> tuple[float, float]:
    """Run a command; its seconds, and the most memory of it in MB.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is in the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    with log.open("a", encoding="utf-8") as said:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(plan.threads, log.parent),
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - begin, _megabytes(usage)


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def score(run: Run) -> Record:
    """The figures of a run whose answers are there, and notes about it."""
    test = read_rows(run.rows("test"))
    truth = [row[run.settings.label] for row in test]
    mine = run.side == "bertolt"
    if mine:
        answers, notes = ours.collect(run), {}
    else:
        answers = [json.loads(line) for line in run.answers.read_text().splitlines()]
        notes = json.loads((Path(run.out) / "notes.json").read_text(encoding="utf-8"))
    assert len(answers) == len(test), "an answer for each row"
    scores: dict[str, Scores]
    if run.settings.task == "regression":
        scores = {"": score_numbers(truth, answers)}
    elif run.settings.task == "multiple-choice":
        scores = {"": score_choices(truth, answers)}
    elif run.settings.task in ("text-classification", "next-sentence-prediction"):
        scores = {"": score_classes(truth, answers)}
    elif run.settings.task == "question-answering":
        golds = [each["text"] for each in truth]
        scores = {"none if it is likelier": score_answers(golds, answers)}
        if mine:
            by_odds = score_answers(golds, ours.answers_by_odds(run))
            scores = {
                "none if it is likelier": by_odds,
                "its own threshold": score_answers(golds, answers),
            }
    elif run.settings.task == "multi-label-classification":
        scores = {"threshold 0.5": score_labels(truth, above(answers), LABELS)}
        if mine:
            scores["its own thresholds"] = score_labels(truth, ours.given_labels(run), LABELS)
            notes["thresholds"] = ours.thresholds(run)
    else:
        by = score_words if run.settings.name == "speech" else score_tags
        scores = _score_tagged(run, test, truth, answers, by)
    return {"scores": scores, "notes": notes}


def _score_tagged(
    run: Run,
    test: list[Record],
    truth: list[Any],
    answers: list[Any],
    by: Callable[[list[Any], list[Any]], Scores],
) -> Any:
    """Over all rows, and over those that no side had to cut."""
    different = sum(len(a) != len(b) for a, b in zip(truth, answers, strict=True))
    assert not different, f"{different} rows have another number of tags than words"
    room = run.settings.max_length - SPECIAL
    short = [row for row, each in enumerate(test) if len(paragraph(each)) <= room]
    return {
        f"the {len(short):,} rows within the limit": by(
            [truth[row] for row in short], [answers[row] for row in short]
        ),
        f"all {len(test):,} rows": by(truth, answers),
    }
