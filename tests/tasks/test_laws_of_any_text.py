"""Laws that hold for whatever is written: every script, any limit, any neighbours, any names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bertolt import BertConfig, BertTokenizer, Predictor
from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.tasks.base import TASKS, Output, Reading, Task
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.question_answering import QuestionAnswering
from bertolt.tasks.registry import SHIPPED
from bertolt.tasks.regression import Regression
from bertolt.tasks.rows import Columns, encode_rows, read_for_task
from bertolt.tasks.sentence_similarity import SentenceSimilarity
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.token_classification import TokenClassification
from bertolt.tasks.words import join_words

EXAMPLES: dict[str, Task] = {
    "text-classification": TextClassification(("a", "b", "c"), "b"),
    "multi-label-classification": MultiLabelClassification(("a", "b"), (0.3, 0.6), ("a",)),
    "regression": Regression(("warmth", "price"), (5.0, -100.0), (2.0, 30.0)),
    "token-classification": TokenClassification(("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
    "question-answering": QuestionAnswering(may_be_none=True, threshold=0.2, longest=9),
    "sentence-similarity": SentenceSimilarity("pairs", pooling="mean", normalized=True),
}
ASKS_FOR_MORE = {"fill-mask", "multiple-choice", "next-sentence-prediction"}
"""Tasks whose texts are not any texts: tests of their own have those."""
CASES = [(name, False) for name, task in EXAMPLES.items() if not task.needs_pair] + [
    (name, True) for name in EXAMPLES if name != "token-classification"
]
# Latin with marks, Greek, Arabic with marks, Hebrew, Devanagari, kana, Chinese, full width, Hangul,
# emoji with joiners, punctuation.
LETTERS = "abzé\u0301ßΑςمُحבिकカタがー江民中㐀豈Ａ１０〇한글😀👩\u200d🎬️.,-'。、！（"
WORD = st.text(st.sampled_from(LETTERS), min_size=1, max_size=5)
ANY_WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
TEXT = st.lists(WORD | ANY_WORD | st.sampled_from(["good", "film"]), max_size=30).map(" ".join)


def test_every_task_that_ships_has_a_case() -> None:
    assert EXAMPLES.keys() == {task.name for task in SHIPPED} - ASKS_FOR_MORE


@pytest.fixture(scope="module")
def predictors(tiny_config: Any, tiny_tokenizer: Any, randomised: Any) -> dict[str, Predictor]:
    """One for each task, with random weights."""
    made = {}
    for name, task in EXAMPLES.items():
        model = randomised(task.head(tiny_config(**task.config_changes())), std=0.3)
        made[name] = Predictor(model, tiny_tokenizer, task=task, precision="fp32")
    return made


def answers(predictor: Predictor, texts: list[Any], limit: int = 160) -> list[dict[str, Any]]:
    predictor.max_length = limit
    return [prediction.answer for prediction in predictor.predict(texts)]


def numbers(answer: Any) -> list[float]:
    """All that was computed, in order; names and places by themselves would hide a difference."""
    if isinstance(answer, dict):
        return [number for value in answer.values() for number in numbers(value)]
    if isinstance(answer, list):
        return [number for value in answer for number in numbers(value)]
    return [answer] if isinstance(answer, float) else []


def asked(texts: list[str], pairs: bool) -> list[Any]:
    return [(text, text[::-1]) for text in texts] if pairs else list(texts)


# ---- packing and window ----


@pytest.mark.parametrize(("name", "pairs"), CASES)
@given(texts=st.lists(TEXT, min_size=2, max_size=6))
def test_an_answer_does_not_depend_on_its_neighbours(
    predictors: dict[str, Predictor], name: str, pairs: bool, texts: list[str]
) -> None:
    examples = asked(texts, pairs)
    together = answers(predictors[name], examples)
    for example, answer in zip(examples, together, strict=True):
        (alone,) = answers(predictors[name], [example])
        np.testing.assert_allclose(numbers(answer), numbers(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "pairs"), CASES)
@given(text=TEXT, more=st.integers(0, 60))
def test_a_text_that_fits_is_answered_alike_whatever_the_limit(
    predictors: dict[str, Predictor], name: str, pairs: bool, text: str, more: int
) -> None:
    (example,) = asked([text], pairs)
    predictors[name].max_length = 160
    (whole,) = predictors[name].predict([example])
    assume(whole.tokens + more <= 160)
    least = 5 if name == "question-answering" else 3  # of a window
    (again,) = answers(predictors[name], [example], max(least, whole.tokens + more))
    assert whole.tokens_cut == 0
    np.testing.assert_allclose(numbers(again), numbers(whole.answer), rtol=1e-5, atol=1e-5)


@given(words=st.lists(WORD, min_size=1, max_size=40), limit=st.integers(3, 40))
def test_every_word_is_answered_once_whatever_the_limit(
    predictors: dict[str, Predictor], words: list[str], limit: int
) -> None:
    predictor = predictors["token-classification"]
    seen = [word for word in words if predictor.tokenizer.encode_words([word])[0].ids]
    assume(seen)
    (answer,) = answers(predictor, [{"text": seen}], limit)
    assert [(start, end) for start, end, _ in answer["words"]] == join_words(seen)[1]


@pytest.mark.parametrize("first", ["pair", "single"])
def test_pairs_and_single_texts_together_are_refused(
    predictors: dict[str, Predictor], first: str
) -> None:
    """One of them would be answered without its second text, or with one that nobody wrote."""
    mixed: list[Any] = [("good film", "bad"), "plot"]
    with pytest.raises(UsageError, match="some of the texts have a second one") as refused:
        answers(predictors["text-classification"], mixed if first == "pair" else mixed[::-1])
    assert refused.value.fix


# ---- offset and JSON ----


@pytest.mark.parametrize("name", list(EXAMPLES))
@given(text=TEXT)
def test_every_script_has_an_answer_that_names_its_own_characters(
    predictors: dict[str, Predictor], name: str, text: str
) -> None:
    (answer,) = answers(predictors[name], asked([text], EXAMPLES[name].needs_pair))
    public = predictors[name].task.public(answer)
    json.dumps(answer, allow_nan=False)  # every number is finite
    assert json.loads(json.dumps(public, allow_nan=False)) == public
    for span in answer.get("spans", []):
        assert text[span["start"] : span["end"]] == span["text"] != ""
    places = [place for start, end, _ in answer.get("words", []) for place in (start, end)]
    assert places == sorted(places), "words stand from left to right"
    assert all(0 <= place <= len(text) for place in places)


# ---- oracle ----


def file_of(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def tagged(words: list[str], tags: list[str]) -> dict[str, Any]:
    return {"tokens": words, "tags": tags}


def f1_of_an_oracle(path: Path, tokenizer: BertTokenizer, limit: int = 40) -> float | None:
    """The score of a model that knows every target."""
    table, kind = read_for_task(path, Columns(), task="token-classification")
    task = kind.infer(table, np.arange(len(table)), Reading())
    rows, _ = encode_rows(task, table, np.arange(len(table)), tokenizer, limit)
    encoded, targets = rows.encoded, np.asarray(rows.encoded.labels)
    assert isinstance(task, TokenClassification)
    outputs = np.zeros((len(targets), len(task.labels)))
    outputs[targets >= 0] = np.eye(len(task.labels))[targets[targets >= 0]]
    scorer = task.scorer()
    for number, example in enumerate(rows.examples(range(len(rows)))):
        windows = np.flatnonzero(encoded.window_examples == number).tolist()
        parts = [outputs[encoded.offsets[w] : encoded.offsets[w + 1]] for w in windows]
        places = [encoded.place_of(window) for window in windows]
        scorer.add(task.decode(Output(parts, places), example), example)
    f1: float | None = scorer.values()["f1"]
    return f1


@given(words=st.lists(WORD, min_size=1, max_size=20), limit=st.integers(5, 40), choose=st.randoms())
def test_the_tags_of_words_in_every_script_can_be_learned(
    tiny_tokenizer: Any,
    tmp_path_factory: pytest.TempPathFactory,
    words: list[str],
    limit: int,
    choose: Any,
) -> None:
    """What the tokenizer drops whole, such as a joiner alone, cannot be answered."""
    seen = [word for word in words if tiny_tokenizer.encode_words([word])[0].ids]
    assume(seen)
    tags = [choose.choice(["O", "B-A", "I-A", "B-B", "I-B"]) for _ in seen]
    assume(set(tags) != {"O"})
    path = file_of(tmp_path_factory.mktemp("oracle"), [tagged(seen, tags)])
    assert f1_of_an_oracle(path, tiny_tokenizer, limit) == 1.0


@pytest.mark.parametrize(
    "words",
    [["カタ", "カナ"], ["ＡＢ", "ＣＤ"], ["１９", "２０"], ["￥", "１００"], ["江", "\u302aカ"]],
)
def test_words_that_would_run_on_as_one_are_kept_apart(
    tmp_path: Path, tiny_tokenizer: Any, words: list[str]
) -> None:
    assert join_words(words)[0] == " ".join(words)
    path = file_of(tmp_path, [tagged(words, ["B-A", "B-B"])])
    assert f1_of_an_oracle(path, tiny_tokenizer) == 1.0


@pytest.mark.parametrize("tags", [["B", "I", "O"], ["B", "E", "S"], ["B", "L", "U"]])
def test_tags_that_are_prefixes_alone(tmp_path: Path, tiny_tokenizer: Any, tags: list[str]) -> None:
    """As words are parted in Chinese: there is one kind, and it has no name."""
    path = file_of(tmp_path, [tagged(["a", "b", "c"], tags)])
    assert f1_of_an_oracle(path, tiny_tokenizer) == 1.0
    table, kind = read_for_task(path, Columns())
    assert kind.infer(table, np.arange(1), Reading()) == TokenClassification(("O", "B-_", "I-_"))


# ---- merge ----


@pytest.mark.parametrize(
    "name", [name for name, task in EXAMPLES.items() if not task.several_documents]
)
def test_scores_merge_through_json_and_a_part_may_be_empty(name: str) -> None:
    task = EXAMPLES[name]
    label = {
        "text-classification": "b",
        "multi-label-classification": ["b"],
        "regression": [4.0, -90.0],
        "token-classification": ["B-PER", "O"],
        "question-answering": [{"text": "江", "start": 2}],
    }[name]
    tokens = {"token-classification": 5, "question-answering": 2}.get(name)
    width = tokens or len(task.config_changes()["id2label"])
    text = ["é", "江"] if name == "token-classification" else "é"
    example = {"text": text, "text_pair": "é 江", "label": label}
    choose = np.random.default_rng(0)
    whole, parts = task.scorer(), [task.scorer() for _ in range(3)]
    for number in range(12):
        shares = choose.random((2, width) if tokens else width)
        places = [np.array([[0, 1], [2, 3]], np.int32)] if tokens else []
        answer = task.decode(Output([shares], places), example)
        for scorer in (whole, parts[number % 2]):
            scorer.add(answer, example)
    merged = task.scorer()
    for part in parts:
        kept = {n: (v.tolist(), v.dtype.str, v.shape) for n, v in part.state().items()}
        sent = json.loads(json.dumps(kept))
        merged.merge(
            {n: np.array(v, dtype).reshape(shape) for n, (v, dtype, shape) in sent.items()}
        )
    assert numbers(merged.values()) == pytest.approx(numbers(whole.values()), abs=1e-12)
    assert str(list(merged.lines(0.5))) == str(list(whole.lines(0.5)))


# ---- the label space ----

NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).map(str.strip),
    min_size=2,
    max_size=5,
    unique=True,
).filter(all)


@given(names=NAMES, shares=st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_a_label_space_of_any_names_comes_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], shares: list[float]
) -> None:
    width = len(names)
    tags = ("O", *(f"{prefix}-{name}" for name in names for prefix in "BI"))
    tasks: list[Task] = [
        TextClassification(tuple(names), names[-1]),
        MultiLabelClassification(tuple(names), tuple(shares[:width]), (names[0],), "|"),
        Regression(tuple(names), tuple(shares[:width]), tuple(1 + s for s in shares[:width])),
        TokenClassification(tags),
        QuestionAnswering(may_be_none=width > 2, threshold=9 * shares[0], longest=width),
    ]
    folder = tmp_path_factory.mktemp("config")
    for task in tasks:
        BertConfig(**task.config_changes()).save_pretrained(folder)
        settings = json.loads(json.dumps(task.settings(), allow_nan=False))
        config = BertConfig.from_pretrained(folder)
        assert TASKS[task.name].restore(config, settings) == task


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=6, unique=True)
)
def test_any_numbers_are_scaled_so_that_they_come_back_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    rows = [{"text": "a", "rating": value} for value in values]
    path = file_of(tmp_path_factory.mktemp("numbers"), rows)
    table, kind = read_for_task(path, Columns(), task="regression")
    try:
        task = kind.infer(table, np.arange(len(table)), Reading())
    except DataError:  # said in words: see the next test
        return
    settings = json.loads(json.dumps(task.settings(), allow_nan=False))
    assert kind.restore(BertConfig(**task.config_changes()), settings) == task


@pytest.mark.parametrize("values", [[1e308, -1e308], [1e200, -1e200, 1.0], [0.0, 1e-320]])
def test_a_spread_that_cannot_be_computed_is_refused(tmp_path: Path, values: list[float]) -> None:
    path = file_of(tmp_path, [{"text": "a", "rating": value} for value in values])
    table, kind = read_for_task(path, Columns(), task="regression")
    with pytest.raises(DataError, match="beyond what can be computed") as refused:
        kind.infer(table, np.arange(len(table)), Reading())
    assert refused.value.place == f"{path}, column 'rating'"


# ---- what training never had, and files with next to nothing ----

ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "text-classification": (
        {"text": "x", "label": "好"},
        {"text": "y", "label": "é"},
        {"text": "z", "label": "odd"},
    ),
    "multi-label-classification": (
        {"text": "x", "labels": ["好"]},
        {"text": "y", "labels": []},
        {"text": "z", "labels": ["好", "odd"]},
    ),
    "token-classification": (
        tagged(["x"], ["B-好"]),
        tagged(["y"], ["O"]),
        tagged(["z", "y"], ["O", "I-odd"]),
    ),
}


@pytest.mark.parametrize("name", list(ROWS))
def test_what_training_never_had_is_named_by_file_row_and_column(
    tmp_path: Path, tiny_tokenizer: Any, name: str
) -> None:
    first, second, odd = ROWS[name]
    table, kind = read_for_task(file_of(tmp_path, [first, second]), Columns(), task=name)
    task = kind.infer(table, np.arange(2), Reading())
    other, _ = read_for_task(file_of(tmp_path, [first, second, odd], "other.jsonl"), Columns())
    with pytest.raises(DataError, match="odd") as refused:
        encode_rows(task, other, np.arange(3), tiny_tokenizer, 40)
    column = list(first)[-1]
    assert refused.value.place == f"{tmp_path / 'other.jsonl'}, row 3, column {column!r}"


@pytest.mark.parametrize("name", list(EXAMPLES))
@pytest.mark.parametrize("count", [0, 1])
def test_a_file_with_nothing_or_one_row_is_refused_and_leaves_no_folder(
    tmp_path: Path, tiny_folder: Path, name: str, count: int
) -> None:
    others = {
        "regression": {"text": "x", "rating": 1.5},
        "question-answering": {"question": "x", "context": "x", "answers": ["x"]},
        "sentence-similarity": {"anchor": "x", "positive": "y"},
    }
    row = ROWS[name][0] if name in ROWS else others[name]
    path = file_of(tmp_path, [row] * count)
    options = FinetuneOptions(model=str(tiny_folder), out=tmp_path / "out", task=name)
    with pytest.raises(BertoltError) as refused:
        finetune(path, options)
    assert refused.value.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spans", [False, True])
def test_a_kind_that_occurs_once_is_in_training(tmp_path: Path, spans: bool) -> None:
    def row(number: int, kind: str) -> dict[str, Any]:
        marks = [{"start": 0, "end": 4, "label": kind}]
        if spans:
            return {"text": f"good film {number}", "spans": marks}
        return tagged(["good", "film", str(number)], [f"B-{kind}", f"I-{kind}", "O"])

    rows = [row(number, "RARE" if number == 17 else "A") for number in range(40)]
    table, kind = read_for_task(file_of(tmp_path, rows), Columns())
    strata = kind.strata(table)
    assert (strata == strata[17]).sum() == 1
    assert len(set(strata.tolist())) == 2
