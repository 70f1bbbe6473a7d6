"""Parts that share nothing, words by their first pieces, figures, and the tables of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.task_scores import ours
from benchmarks.task_scores.__main__ import _options as options
from benchmarks.task_scores.comparisons import COMPARISONS, Run
from benchmarks.task_scores.page import markdown
from benchmarks.task_scores.scoring import (
    above,
    first_pieces,
    score_answers,
    score_labels,
    score_numbers,
    score_tags,
    tags_of_words,
)
from benchmarks.task_scores.texts import (
    LABELS,
    Sizes,
    _asked,
    _unworded,
    bare,
    divide,
    paragraph,
    read_rows,
    write_corpus,
    write_rows,
)

SIZES = Sizes(train=20, watched=5, test=10)


def rows(count: int) -> list[dict[str, Any]]:
    """Paragraphs of which each third is there twice, once with other punctuation."""
    words = [["第", str(number), "行"] for number in range(count)]
    return [{"tokens": [*each, "。"]} for each in words] + [{"tokens": each} for each in words[::3]]


def forms(part: list[dict[str, Any]]) -> set[str]:
    return {bare(paragraph(row)) for row in part}


def test_no_two_parts_share_a_text_and_nothing_scored_is_in_the_corpus(tmp_path: Path) -> None:
    parts = divide(rows(60), paragraph, SIZES)

    sizes = [len(part) for part in (parts.train, parts.watched, parts.test, parts.rest)]
    assert sizes == [20, 5, 10, 25]
    assert len(forms([*parts.train, *parts.watched, *parts.test, *parts.rest])) == 60
    corpus = write_corpus(tmp_path / "corpus.txt", parts).read_text(encoding="utf-8").splitlines()
    assert len(corpus) == 50
    assert not forms(parts.test) & {bare(line) for line in corpus}


def test_the_scored_rows_are_the_same_whatever_is_trained_on() -> None:
    small = divide(rows(60), paragraph, SIZES)
    other = Sizes(train=30, watched=5, test=10)
    large = divide(rows(60), paragraph, other, lambda row: len(paragraph(row)) < 5)

    assert small.test == large.test
    assert all(len(paragraph(row)) < 5 for row in large.train + large.watched)
    assert any(len(paragraph(row)) >= 5 for row in large.rest)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    table = [{"tokens": ["北京"], "tags": ["B-LOC"]}, {"tokens": [], "tags": []}]
    assert read_rows(write_rows(tmp_path / "rows.jsonl", table)) == table


def test_a_word_is_answered_by_its_first_piece_and_one_beyond_the_limit_is_outside() -> None:
    # [CLS] Wash ##ington is [SEP], and of five words the last three were cut or have no piece.
    word_ids = [None, 0, 0, 1, None]
    assert first_pieces(word_ids) == [(1, 0), (3, 1)]
    labels = ["B-PER", "B-LOC", "I-LOC", "O", "B-ORG"]
    assert tags_of_words(labels, word_ids, 5) == (["B-LOC", "O", "O", "O", "O"], 3)


def test_entities_count_whole_and_by_kind() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC"]]
    answers = [["B-PER", "O", "O", "B-LOC"], ["B-LOC"]]

    scores = score_tags(truth, answers)

    assert scores["precision"] == scores["recall"] == scores["f1"] == pytest.approx(2 / 3)
    assert (scores["f1(PER)"], scores["f1(LOC)"]) == (0.0, 1.0)


def test_numbers_are_scored_in_their_own_unit() -> None:
    scores = score_numbers([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])

    assert (scores["rmse"], scores["mae"]) == (1.0, 1.0)
    assert scores["pearson"] == pytest.approx(1.0)
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["r2"] == pytest.approx(1 - 4 / 5)


def test_labels_are_scored_by_row_and_by_label() -> None:
    probabilities = [
        {"positive": 0.9, "negative": 0.5, "strong": 0.1, "disputed": 0.0},
        dict.fromkeys(LABELS, 0.2),
    ]
    given = above(probabilities)
    assert given == [["positive", "negative"], []]

    scores = score_labels([["positive"], []], given, LABELS)

    assert scores["f1_micro"] == pytest.approx(2 / 3)
    assert scores["f1_samples"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["subset_accuracy"] == 0.5
    assert (scores["f1(positive)"], scores["f1(negative)"]) == (1.0, 0.0)


def test_answers_are_scored_by_the_characters_that_both_share() -> None:
    scores = score_answers([["北京"], ["新华社"], [], []], ["北京。", "新华", "", "人"])

    assert scores["exact_match"] == 0.5
    assert scores["f1_answers"] == pytest.approx((1 + 0.8 + 1 + 0) / 4)
    assert scores["f1 of answers"] == pytest.approx(0.9)
    assert (scores["exact of answers"], scores["none told"]) == (0.5, 0.5)


def test_a_question_asks_for_the_one_name_of_a_paragraph_or_for_what_it_does_not_name() -> None:
    tagged = {
        "tokens": [
            "江",
            "泽民",
            "在",
            "北京",
            "会见",
            "，",
            "江",
            "泽民",
            "说",
            "了",
            *"一二三四五六七八九",
        ],
        "tags": ["B-PER", "I-PER", "O", "B-LOC", "O", "O", "B-PER", "I-PER", *["O"] * 11],
    }
    asked = _asked([tagged] * 60)

    whole = {"文中提到的人是谁？": ("江泽民", [0, 9]), "文中提到的地方是哪里？": ("北京", [4])}
    for row in asked:
        text, starts = whole[row["question"]]
        assert row["answers"] == {"text": [text] * len(starts), "answer_start": starts}
        assert all(row["context"].startswith(text, start) for start in starts)
    assert {row["question"] for row in asked} == set(whole)


def test_without_words_each_character_has_a_tag() -> None:
    row = {"tokens": ["江", "泽民", "到", "北京"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]}
    expected = {
        "tokens": list("江泽民到北京"),
        "tags": ["B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC"],
    }
    assert _unworded(row) == expected


@pytest.mark.parametrize(
    ("name", "written", "answers"),
    [
        ("names", "北\tB-LOC\n京\tI-LOC\n\n好\tO\n\n", [["B-LOC", "I-LOC"], ["O"]]),
        ("ratings", '{"row": 1, "text": "a", "value": 1.5}\n', [1.5]),
        ("endings", '{"row": 1, "choice": "a", "index": 2}\n', [2]),
        ("reviews", '{"label": "positive", "probability": 0.5}\n', ["positive"]),
        ("questions", '{"answer": "北京", "start": 0}\n{"answer": ""}\n', ["北京", ""]),
        ("opinions", '{"labels": [], "probabilities": {"strong": 0.25}}\n', [{"strong": 0.25}]),
    ],
)
def test_what_the_commands_wrote_is_read(
    name: str, written: str, answers: list[Any], tmp_path: Path
) -> None:
    ending = "conll" if name == "names" else "jsonl"
    (tmp_path / f"answered.{ending}").write_text(written, encoding="utf-8")
    run = Run(
        comparison=name, side="bertolt", seed=0, folder="rows", model="start", out=str(tmp_path)
    )

    assert ours.collect(run) == answers
    assert Run.load(str(run.save())) == run
    assert "--max-length=" + str(run.settings.max_length) in ours.finetune(run)


def test_an_unknown_task_or_side_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--tasks", "poems"], ["--sides", "nobody"]):
        with pytest.raises(SystemExit):
            options(["--out", "here", *words])
        assert f"there is no '{words[1]}'; there are:" in capsys.readouterr().err


def test_the_page_has_every_seed_and_the_mean_with_its_spread() -> None:
    of = COMPARISONS["ratings"]
    figures = {"rmse": 0.5, "mae": 0.25, "r2": 0.5, "pearson": 0.75, "spearman": 0.75}

    def run(seed: int, rmse: float) -> dict[str, Any]:
        scores = {"": {**figures, "rmse": rmse}}
        return {"seed": seed, "seconds": 60 + seed, "peak_memory_mb": 900, "scores": scores}

    settings = {
        "title": of.title,
        "task": of.task,
        "main": of.main,
        "epochs": 1.0,
        "batch_size": 16,
    }
    settings |= {"order": "random", "learning_rate": 1e-4, "max_length": 128}
    settings |= {"schedule": "linear", "warmup": 0.1, "weight_decay": 0.01}
    parts = {"train": 1500, "watched": 300, "test": 1500}
    record = {
        "date": "2026-11-29 02:00 UTC",
        "commit": "abc",
        "command": ["python"],
        "machine": {"cpu": "A", "cores": 2, "memory": 2**34},
        "threads": 1,
        "versions": {"torch": "2"},
        "comparisons": {
            "ratings": {
                "settings": settings,
                "rows": parts,
                "longer": dict.fromkeys(parts, 0),
                "sides": {
                    "bertolt": {"title": "Bertolt", "runs": [run(0, 0.5), run(1, 0.7)]},
                    "peer": {"title": "Peer", "runs": []},
                },
            }
        },
    }

    page = markdown(json.loads(json.dumps(record)))

    assert "| RMSE | seed 0 | seed 1 | mean | seconds a run | peak memory, MB |" in page
    assert "| Bertolt | 0.5000 | 0.7000 | 0.6000 ± 0.1414 | 60–61 | 900–900 |" in page
    assert "Peer" not in page
