"""Questions: how files hold them, their windows, their best answers, and their scores."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt import BertConfig, load_metric
from bertolt.base.errors import DataError, UsageError
from bertolt.data.arrow import pa
from bertolt.data.encode import encode_examples
from bertolt.data.labels import split_rows
from bertolt.data.parquet import pq
from bertolt.metrics.squad import answer_scores, chinese_parts
from bertolt.tasks.base import Output, Reading
from bertolt.tasks.question_answering import QuestionAnswering
from bertolt.tasks.questions import best_answers, golds_of, windows_of
from bertolt.tasks.rows import Columns, encode_rows, read_for_task

CONTEXT = "the film was dull , the plot was fresh . the cold film was good ."
ROW = {"question": "fresh plot", "context": CONTEXT}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read(path: Path, on_bad_row: Any = "drop") -> Any:
    return read_for_task(path, Columns(on_bad_row=on_bad_row), task="question-answering")[0]


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "films",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "a",
                            "question": "fresh plot",
                            "answers": [
                                {"text": "the plot", "answer_start": 20},
                                {"text": "plot", "answer_start": 24},
                            ],
                            "is_impossible": False,
                        },
                        {
                            "id": "b",
                            "question": "bad film",
                            "answers": [],
                            "plausible_answers": [{"text": "the film", "answer_start": 0}],
                            "is_impossible": True,
                        },
                    ],
                }
            ],
        }
    ],
}


def test_a_file_of_squad_gives_a_row_for_each_question(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(SQUAD))
    table, kind = read_for_task(path, Columns())
    assert kind is QuestionAnswering
    assert table.texts == ["fresh plot", "bad film"]
    assert table.labels[0] == [{"text": "the plot", "start": 20}, {"text": "plot", "start": 24}]
    assert table.labels[1] == []
    assert table.columns == ["id", "title", "question", "context", "answers"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d["data"][0]["paragraphs"].append(3), "record 1: paragraph 2 is no object"),
        (lambda d: d["data"][0]["paragraphs"][0].pop("context"), "has no text called 'context'"),
        (lambda d: d["data"][0]["paragraphs"][0].update(qas={}), "has no list called 'qas'"),
        (
            lambda d: d["data"][0]["paragraphs"][0]["qas"][1].pop("question"),
            "record 1: paragraph 1, question 2 has no text called 'question'",
        ),
    ],
)
def test_a_broken_file_of_squad_is_refused_with_the_place(
    tmp_path: Path, spoil: Any, words: str
) -> None:
    broken = json.loads(json.dumps(SQUAD))
    spoil(broken)
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(DataError, match=words):
        read(path)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"text": ["film", "dull"], "answer_start": [4, 13]}, [("film", 4), ("dull", 13)]),
        ([{"text": "film", "answer_start": 4}], [("film", 4)]),
        ({"text": "film", "start": 4}, [("film", 4)]),
        ("film", [("film", None)]),
        (["film", "dull"], [("film", None), ("dull", None)]),
        ({"text": [], "answer_start": []}, []),
        ([], []),
        (None, []),
        ("", []),
    ],
)
def test_answers_are_read_as_files_have_them(
    tmp_path: Path, answers: Any, expected: list[tuple[str, int | None]]
) -> None:
    rows = [{**ROW, "answers": answers}, {**ROW, "answers": ["dull"]}]
    table, _ = read_for_task(
        write(tmp_path / "a.jsonl", rows), Columns(), task="question-answering"
    )
    assert [(each["text"], each["start"]) for each in table.labels[0]] == expected


def test_parquet_as_datasets_writes_it(tmp_path: Path) -> None:
    rows = [{**ROW, "answers": {"text": ["film"], "answer_start": [4]}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    table, kind = read_for_task(tmp_path / "a.parquet", Columns())
    assert (kind, table.labels) == (QuestionAnswering, [[{"text": "film", "start": 4}]])


def test_csv_with_the_answer_as_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'question,context,answer\nwho,"{CONTEXT}",dull\nwhat,"{CONTEXT}",\n')
    table, kind = read_for_task(path, Columns())
    assert (kind, table.labels) == (QuestionAnswering, [[{"text": "dull", "start": None}], []])


def test_pairs_with_labels_are_no_questions(tmp_path: Path) -> None:
    rows = [{**ROW, "label": name} for name in ("yes", "no")]
    assert read_for_task(write(tmp_path / "a.jsonl", rows), Columns())[1] is not QuestionAnswering


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"text": "actor", "answer_start": 4}, "answer not in its text"),
        ("actor", "answer not in its text"),
        ({"text": "film", "answer_start": 5}, "answer at another place"),
        ({"text": "film", "answer_start": -1}, "answer at another place"),
        ({"text": "film", "answer_start": 900}, "answer at another place"),
        ({"text": "film", "answer_start": 4.5}, "broken answer"),
        ({"text": "film", "answer_start": True}, "broken answer"),
        ({"text": ["film", "dull"], "answer_start": [4]}, "broken answer"),
        ({"text": " ", "answer_start": 3}, "broken answer"),
        ({"text": None, "answer_start": 3}, "broken answer"),
        (7, "broken answer"),
        ("fi\0lm", "NUL byte"),
    ],
)
def test_an_answer_that_cannot_be_is_left_out_and_counted(
    tmp_path: Path, answer: Any, reason: str
) -> None:
    rows = [{**ROW, "answers": answer}, {**ROW, "answers": {"text": "dull", "answer_start": 13}}]
    table, _ = read_for_task(
        write(tmp_path / "a.jsonl", rows), Columns(), task="question-answering"
    )
    assert table.dropped == {reason: [1]}
    assert len(table) == 1


def test_where_another_place_is_meant_it_is_named(tmp_path: Path) -> None:
    rows = [{**ROW, "answers": {"text": "dull", "answer_start": 12}}]
    with pytest.raises(DataError, match=r"'dull' is said to begin at character 12.* begins at 13"):
        read_for_task(
            write(tmp_path / "a.jsonl", rows),
            Columns(on_bad_row="error"),
            task="question-answering",
        )


def test_a_question_without_its_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "who", "answers": ["x"]}])
    columns = Columns(text="question", label="answers")
    with pytest.raises(UsageError, match="needs a question and the text"):
        read_for_task(path, columns, task="question-answering")


def test_questions_on_one_text_stay_together(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{n} {m}", "context": f"{CONTEXT} {n}", "answers": ["dull"]}
        for n in range(20)
        for m in range(3)
    ]
    table = read(write(tmp_path / "a.jsonl", rows))
    groups = QuestionAnswering.groups(table)
    assert groups is not None
    train, held_out = split_rows(np.zeros(60, np.int64), 0.2, 7, groups)
    assert not set(groups[train]) & set(groups[held_out])
    assert (len(train), len(held_out)) == (48, 12)
    with pytest.raises(UsageError, match="belong together"):
        split_rows(np.zeros(3, np.int64), 0.2, 7, np.zeros(3, np.int64))


def test_texts_of_their_own_are_no_groups(tmp_path: Path) -> None:
    rows = [{**ROW, "context": f"{CONTEXT} {n}", "answers": ["dull"]} for n in range(4)]
    assert QuestionAnswering.groups(read(write(tmp_path / "a.jsonl", rows))) is None


# ---- windows


def test_every_window_has_the_whole_question_and_every_answer_has_its_window(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    words = CONTEXT.split()
    context = " ".join(itertools.islice(itertools.cycle(words), 300))
    starts = [match for match in range(len(context)) if context.startswith("plot", match)]
    rows = [
        {**ROW, "context": context, "answers": {"text": "plot", "answer_start": start}}
        for start in starts
    ]
    table = read(write(tmp_path / "a.jsonl", rows))
    everything = np.arange(len(table))
    task = QuestionAnswering.infer(table, everything, Reading())
    encoded = encode_rows(task, table, everything, tiny_tokenizer, 40)[0].encoded
    assert encoded.lengths.max() == 40
    assert encoded.account.tokens_cut == 0
    assert encoded.account.texts_parted == len(rows)
    asked = tiny_tokenizer("fresh plot")["input_ids"]
    assert encoded.labels is not None
    for window in range(len(encoded)):
        row = encoded[window]
        assert row["input_ids"][: len(asked)].tolist() == asked
        start, end = row["start_positions"], row["end_positions"]
        if start:
            places = encoded.place_of(window)
            answer = context[places[start, 0] : places[end, 1]]
            assert answer == "plot"
    has = np.zeros(len(rows), bool)
    np.logical_or.at(has, encoded.window_examples, encoded.labels[:, 0] > 0)
    assert has.all(), "no answer is lost between two windows"


def test_an_answer_longer_than_what_windows_share_is_counted(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    rows = [
        {**ROW, "context": CONTEXT * 4, "answers": {"text": CONTEXT * 3, "answer_start": 0}},
        {**ROW, "answers": {"text": "dull", "answer_start": 13}},
    ]
    table = read(write(tmp_path / "a.jsonl", rows))
    everything = np.arange(2)
    task = QuestionAnswering.infer(table, everything, Reading())
    encoded = encode_rows(task, table, everything, tiny_tokenizer, 24)[0].encoded
    (told,) = task.cautions(table, everything, encoded)
    assert told["claim"] == "1 answer lies in no window"
    assert "row 1" in told["detail"]


def test_a_place_that_nobody_said_and_that_may_be_another_is_told(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    table = read(write(tmp_path / "a.jsonl", [{**ROW, "answers": ["film"]}]))
    everything = np.arange(1)
    task = QuestionAnswering.infer(table, everything, Reading())
    encoded = encode_rows(task, table, everything, tiny_tokenizer, 40)[0].encoded
    (told,) = task.cautions(table, everything, encoded)
    assert told["claim"] == "1 answer stands in the text several times"


def test_windows_are_rows_as_a_call_makes_them(tiny_tokenizer: Any) -> None:
    frame = tiny_tokenizer.pair_frame()
    question, context = tiny_tokenizer.encode_words(["fresh plot", CONTEXT])
    (window,) = windows_of(question, context, frame, 60).windows
    called = tiny_tokenizer("fresh plot", CONTEXT)
    assert list(window.ids) == called["input_ids"]
    assert list(window.segments or ()) == called["token_type_ids"]


def test_a_long_question_leaves_room_for_its_text(tiny_tokenizer: Any) -> None:
    frame = tiny_tokenizer.pair_frame()
    question, context = tiny_tokenizer.encode_words([CONTEXT * 3, CONTEXT])
    encoded = windows_of(question, context, frame, 30)
    assert encoded.cut == (len(question.ids) - 13, 0)
    assert all(len(window.ids) <= 30 for window in encoded.windows)


# ---- answers


def test_a_window_has_room_for_a_question_and_a_part_of_its_text(tiny_tokenizer: Any) -> None:
    example = {"text": "good film", "text_pair": "bad plot"}
    (encoded,) = QuestionAnswering().encode([example], tiny_tokenizer, 5)
    assert {len(window.ids) for window in encoded.windows} == {5}
    with pytest.raises(UsageError, match="a window of 4 tokens") as refused:
        list(QuestionAnswering().encode([example], tiny_tokenizer, 4))
    assert refused.value.fix == "give 5 or more"


def test_the_best_answers_are_those_of_looking_at_all_of_them() -> None:
    random = np.random.default_rng(3)
    windows = [random.normal(size=(9, 2)).astype(np.float32) for _ in range(2)]
    one = np.array([[-1, -1], *[[3 * n, 3 * n + 2] for n in range(7)], [-1, -1]], np.int32)
    two = np.where(one < 0, one, one + 15)
    said = best_answers(windows, [one, two], longest=9, none=True)
    odds: dict[tuple[int, int], list[float]] = {}
    for ends, places in zip(windows, (one, two), strict=True):
        for first, last in itertools.combinations_with_replacement(range(1, 8), 2):
            span = int(places[first, 0]), int(places[last, 1])
            if span[1] - span[0] <= 9:
                odds.setdefault(span, []).append(float(ends[first, 0]) + float(ends[last, 1]))
    nothing = min(float(ends[0].sum()) for ends in windows)
    whole = np.exp(nothing) + sum(np.exp(each).sum() for each in odds.values())
    best = sorted(odds, key=lambda span: -max(odds[span]))[:5]
    assert [(start, end) for start, end, _ in said.spans] == best
    for start, end, share in said.spans:
        assert share == pytest.approx(np.exp(odds[start, end]).sum() / whole, abs=1e-9)
    assert said.none_probability == pytest.approx(np.exp(nothing) / whole)
    assert said.best == pytest.approx(max(odds[best[0]]))


def test_a_text_without_tokens_has_no_answer() -> None:
    places = np.full((4, 2), -1, np.int32)
    output = Output([np.zeros((4, 2), np.float32)], [places])
    answer = QuestionAnswering().decode(output, {"text": "who", "text_pair": "\u200b"})
    assert (answer["answer"], answer["start"], answer["best"]) == ("", None, [])
    json.dumps(answer, allow_nan=False)


def test_the_threshold_decides_whether_there_is_an_answer() -> None:
    places = np.array([[-1, -1], [0, 4], [-1, -1]], np.int32)
    ends = np.array([[2.0, 1.0], [1.0, 1.0], [0.0, 0.0]], np.float32)
    example = {"text": "who", "text_pair": "dull"}
    for threshold, answer in ((0.5, ""), (1.5, "dull")):
        task = QuestionAnswering(may_be_none=True, threshold=threshold, longest=9)
        assert task.decode(Output([ends], [places]), example)["answer"] == answer
    always = QuestionAnswering(longest=9).decode(Output([ends], [places]), example)
    assert (always["answer"], always["probability"]) == ("dull", 1.0)


# ---- scores


@pytest.mark.parametrize(
    ("answer", "golds", "exact", "f1"),
    [
        ("The Plot!", ["plot"], 1, 1),
        ("the fresh plot", ["plot", "fresh film"], 0, 2 / 3),
        ("", [], 1, 1),
        ("plot", [], 0, 0),
        ("", ["plot"], 0, 0),
        ("a", ["the"], 1, 1),  # both are articles, of which nothing is left
    ],
)
def test_scores_of_one_answer(answer: str, golds: list[str], exact: float, f1: float) -> None:
    assert answer_scores(answer, golds, chinese=False) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("北京大学", "北京大学。", 1, 1),
        ("在北京", "北京大学", 0, 4 / 7),
        ("北大京", "北京大", 0, 2 / 6),  # a run, not a bag, of characters
        ("BERT模型", "bert模型", 1, 1),
        ("5亿元", "3.5亿元", 0, 2 / 3),
        ("200人", "1,200人", 0, 1 / 2),
        ("iPhone6手机", "iPhone 6手机", 0, 4 / 7),  # spaces count for an exact match
        ("等人", "等……人", 0, 2 / 5),  # one … is no mark that is left out
        ("2.5", "2.5亿", 0, 2 / 3),
        ("125", "12.5", 0, 0),  # numbers are no English, and stay whole
        ("the plot", "plot", 0, 2 / 3),  # articles count
        ("。", "", 1, 0),  # without a part there is no run
        ("2019-2020", "20192020", 1, 1),
    ],
)
def test_scores_of_one_answer_in_chinese(answer: str, gold: str, exact: float, f1: float) -> None:
    assert answer_scores(answer, [gold], chinese=True) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("用BERT，得 92.5 分", "用 bert 得 92.5 分"),
        ("约1,200万（3.5%）", "约 1,200 万 3.5 %"),
        ("in New York, U.S.A.", "in new york , u.s.a ."),
        ("He's said: 'it didn't cost $3.88'!", "he 's said ' it did n't cost $ 3.88 ' !"),
        ("a...b;c(d)", "a ... b ; c ( d )"),
        ("《三体》·Ⅲ——“死神”", "三 体 ⅲ — — 死 神"),
    ],
)
def test_parts_are_those_of_the_peer(text: str, parts: str) -> None:
    """Parts as characters of Chinese beside the words of NLTK 3.9."""
    assert chinese_parts(text) == parts.split()


def test_the_text_says_which_evaluation_counts() -> None:
    for context, f1 in (("去年收入12.5亿元。", 0), ("It earned 12.5 at Beijing 北京.", 1)):
        example = {"text_pair": context, "label": [{"text": "12.5", "start": 4}]}
        scorer = QuestionAnswering().scorer()
        assert scorer.row_sums(_answer("125", 0.0), example) == (f1, 1.0)
        scorer.add(_answer("125", 0.0), example)
        assert scorer.values()["f1"] == f1


def test_english_scores_are_those_of_the_metric() -> None:
    pairs = [("the fresh plot", ["plot"]), ("film", ["dull film", "a film"]), ("cold", ["warm"])]
    metric = load_metric("squad")
    metric.add_batch(
        predictions=[{"id": n, "prediction_text": said} for n, (said, _) in enumerate(pairs)],
        references=[{"id": n, "answers": {"text": golds}} for n, (_, golds) in enumerate(pairs)],
    )
    exact, f1 = np.mean([answer_scores(*pair, chinese=False) for pair in pairs], axis=0)
    assert metric.compute() == {
        "exact_match": pytest.approx(100 * exact),
        "f1": pytest.approx(100 * f1),
    }


def _answer(text: str, margin: float) -> dict[str, Any]:
    best = [{"text": text, "start": 0, "end": len(text), "probability": 0.9}]
    return {"answer": text, "probability": 0.9, "best": best, "margin": margin}


def test_the_threshold_of_the_best_f1_is_that_of_trying_all() -> None:
    random = np.random.default_rng(1)
    scorer = QuestionAnswering(may_be_none=True).scorer()
    for margin in random.normal(size=40).round(1):
        has = random.random() < 0.6
        said = "plot" if random.random() < 0.7 else "film"
        gold = [{"text": "plot", "start": 0}] if has else []
        scorer.add(_answer(said, float(margin)), {"label": gold})
    task = QuestionAnswering(may_be_none=True).tuned(scorer)

    def f1(threshold: float) -> float:
        other = QuestionAnswering(may_be_none=True, threshold=threshold).scorer()
        other.merge(scorer.state())
        return float(other.values()["f1"])

    assert f1(task.threshold) == max(f1(t) for t in np.arange(-5, 5, 0.05))


def test_settings_that_cannot_be_are_refused() -> None:
    for settings in (
        {"may_be_none": 1},
        {"no_answer_threshold": "0"},
        {"no_answer_threshold": float("inf")},
        {"longest_answer": 0},
        {"longest_answer": 2.5},
    ):
        with pytest.raises(ValueError, match=r"must be|not finite"):
            QuestionAnswering.restore(BertConfig(), settings)


def test_rows_without_an_answer_need_a_model_that_knows_such(tmp_path: Path) -> None:
    table = read(
        write(tmp_path / "a.jsonl", [{**ROW, "answers": [["dull"], []][n]} for n in (0, 1)])
    )
    QuestionAnswering(may_be_none=True).check(table)
    with pytest.raises(DataError, match="the question has no answer") as refused:
        QuestionAnswering().check(table)
    assert "row 2" in refused.value.place


def test_without_any_answer_there_is_nothing_to_learn(tmp_path: Path) -> None:
    table = read(write(tmp_path / "a.jsonl", [{**ROW, "answers": []}] * 2))
    with pytest.raises(DataError, match="no question of 2 has an answer"):
        QuestionAnswering.infer(table, np.arange(2), Reading())


def test_the_marks_of_an_answer() -> None:
    example = {"text": "q", "text_pair": CONTEXT, "label": [{"text": "dull", "start": None}]}
    assert [(gold.start, gold.end) for gold in golds_of(example)] == [(13, 17)]
    wrong = {"answer": "film", "start": 4, "end": 8}
    kinds = [mark["kind"] for mark in QuestionAnswering().marks(wrong, example)]
    assert kinds == ["wrong", "missed"]
    right = {"answer": "dull", "start": 13, "end": 17}
    assert [m["kind"] for m in QuestionAnswering().marks(right, example)] == ["right"]


def test_encoding_of_a_chunk_reads_each_text_once(tiny_tokenizer: Any) -> None:
    calls: list[int] = []

    class Counting:
        pair_frame = tiny_tokenizer.pair_frame

        def encode_words(self, texts: list[str]) -> Any:
            calls.append(len(texts))
            return tiny_tokenizer.encode_words(texts)

    examples = [{"text": f"q{n}", "text_pair": CONTEXT} for n in range(5)]
    task, tokenizer = QuestionAnswering(), Counting()
    encoded = encode_examples(lambda chunk: task.encode(chunk, tokenizer, 40), examples, 40)  # type: ignore[arg-type]
    assert len(encoded) == 5
    assert sorted(calls) == [1, 5]


def test_intervals_are_as_wide_as_the_rows_allow_and_a_tie_is_no_better() -> None:
    scorer = QuestionAnswering(may_be_none=True, threshold=-9.0).scorer()
    for gold in (True, False, False):
        golds = [{"text": "plot", "start": 0}] if gold else []
        scorer.add(_answer("plot", 0.0), {"label": golds})
    ends = scorer.intervals()
    assert ends["f1"] == ends["exact_match"]
    assert scorer.values()["f1"] == pytest.approx(scorer.values()["baseline_f1"])
    claims = [caution["claim"] for caution in scorer.explain()["cautions"]]
    assert claims == ["No better than never giving an answer"]
    assert "  0 of 3 questions were given an answer" in list(scorer.lines(0.5))
