"""Sentence similarity: what is read and refused, scores equal to the peer's, and the folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from bertolt import Predictor
from bertolt.base.errors import BertoltError, CheckpointError, DataError, UsageError
from bertolt.commands.evaluate import evaluate_file
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune
from bertolt.metrics.nearest import cosine_of
from bertolt.tasks.base import Reading
from bertolt.tasks.row_answers import RowAnswers
from bertolt.tasks.rows import Columns, read_for_task
from bertolt.tasks.scale import Scale, read_scale, usual_scale
from bertolt.tasks.scorers.retrieval import RetrievalScorer
from bertolt.tasks.sentence_similarity import SentenceSimilarity

NAME = SentenceSimilarity.name
FIRST = ["a warm film", "a cold book", "the plot was dull", "good and fresh", "a warm film"]
SECOND = ["warm and moving", "cold and stale", "a boring story", "fresh, good", "the film is warm"]
THIRD = ["a dull book", "good and fresh", "a cold book", "the cast was poor", "the end"]
SCORES = [4.5, 4.0, 3.0, 5.0, 0.5]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(names: str, *columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(names.split(), row, strict=True)) for row in zip(*columns, strict=True)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("similar")
    made = {
        "scores": rows_of("sentence1 sentence2 score", FIRST, SECOND, SCORES),
        "pairs": rows_of("anchor positive", FIRST, SECOND),
        "triplets": rows_of("anchor positive negative", FIRST, SECOND, THIRD),
    }
    for name, rows in made.items():
        write(folder / f"{name}.jsonl", rows)
    return lambda name: folder / f"{name}.jsonl"


@pytest.fixture(scope="module")
def predictor(real_checkpoint: Path) -> Predictor:
    """The demo's checkpoint, without any training here."""
    return Predictor.from_pretrained(real_checkpoint)


@pytest.fixture(scope="module")
def peer(real_checkpoint: Path) -> Any:
    package = pytest.importorskip("sentence_transformers")
    return package.SentenceTransformer(str(real_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def evaluators() -> Any:
    return pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")


def test_a_folder_of_the_peer_answers_at_once(predictor: Predictor, peer: Any) -> None:
    assert predictor.task.name == NAME
    assert predictor.max_length == 256
    assert predictor.precision.name == "fp32"
    ours = [prediction.vector for prediction in predictor.predict(FIRST)]
    assert abs(np.array(ours) - peer.encode(FIRST)).max() < 1e-5
    (pair,) = predictor.predict([(FIRST[0], SECOND[0])])
    assert pair.similarity == pytest.approx(
        float(peer.similarity(peer.encode(FIRST[:1]), peer.encode(SECOND[:1]))), abs=1e-5
    )


def test_a_plain_encoder_keeps_its_error(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="never been trained"):
        Predictor.from_pretrained(tiny_folder)
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    (folder / "modules.json").write_text('[{"type": "torch.nn.Linear"}]')
    with pytest.raises(CheckpointError, match=r"torch\.nn\.Linear"):
        Predictor.from_pretrained(folder)


def test_scores_are_those_of_the_peer_s_evaluators(
    real_checkpoint: Path, files: Any, peer: Any, evaluators: Any
) -> None:
    ours = evaluate_file(
        str(real_checkpoint), files("scores"), EvaluateOptions(label="score")
    ).to_dict()
    both = evaluators.EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)(peer)
    assert ours["spearman"] == pytest.approx(both["spearman_cosine"], abs=1e-6)
    assert ours["pearson"] == pytest.approx(both["pearson_cosine"], abs=1e-6)

    ours = evaluate_file(str(real_checkpoint), files("triplets")).to_dict()
    theirs = evaluators.TripletEvaluator(FIRST, SECOND, THIRD)(peer)
    assert ours["triplet_accuracy"] == theirs["cosine_accuracy"]

    queries = {text: text for text in FIRST}
    relevant: dict[str, set[str]] = {}
    for first, second in zip(FIRST, SECOND, strict=True):
        relevant.setdefault(first, set()).add(second)
    theirs = evaluators.InformationRetrievalEvaluator(
        queries,
        {text: text for text in SECOND},
        relevant,
        precision_recall_at_k=[1, 5, 10],
        mrr_at_k=[len(SECOND)],
        show_progress_bar=False,
    )(peer)
    for values in (ours, evaluate_file(str(real_checkpoint), files("pairs")).to_dict()):
        assert values["mrr"] == pytest.approx(theirs["cosine_mrr@5"])
        for depth in (1, 5, 10):
            expected = theirs[f"cosine_recall@{depth}"]
            assert values[f"recall_at_{depth}"] == pytest.approx(expected), depth
        assert (values["queries"], values["candidates"], values["rows"]) == (4, 5, 5)


@pytest.mark.parametrize(
    ("candidates", "certain", "words"),
    [
        (11, [], ""),
        (10, [10], "Recall at 10 is 1 whatever the model gives: there are 10 second texts"),
        (6, [10], "Recall at 10 is 1 whatever the model gives: there are 6 second texts"),
        (5, [5, 10], "Recall at 5 and recall at 10 are 1 whatever the model gives: there are 5 "),
        (
            1,
            [1, 5, 10],
            "Mean reciprocal rank, recall at 1, recall at 5 and recall at 10 are 1 what",
        ),
    ],
)
def test_a_recall_that_is_always_1_is_told_as_such(
    candidates: int, certain: list[int], words: str
) -> None:
    draw = np.random.default_rng(0)
    for triplets in (False, True):
        scorer = RetrievalScorer(triplets=triplets)
        for number in range(candidates):
            vectors = draw.normal(size=(2 + triplets, 4)).tolist()
            answer = {"similarity": cosine_of(*vectors[:2]), "vectors": vectors}
            texts = {"text": f"a{number}", "text_pair": f"b{number}"}
            scorer.add(answer, texts)
        names = ["mrr"] * (candidates == 1) + [f"recall_at_{depth}" for depth in certain]
        values = scorer.values()
        assert values["certain"] == names
        assert all(values[name] == 1 for name in names)
        told = [line for line in scorer.lines(0.0) if "whatever the model" in line]
        cautions = [
            each["detail"]
            for each in scorer.explain()["cautions"]
            if each["claim"] == "Some scores say nothing"
        ]
        assert len(told) == len(cautions) == bool(words)
        assert all(line.strip().startswith(words) for line in told)
        assert all(detail.startswith(words) for detail in cautions)
        claims = [each["claim"] for each in scorer.explain()["cautions"]]
        if candidates == 1 and not triplets:
            assert claims == ["Some scores say nothing"]
        part = RetrievalScorer(triplets=triplets)
        part.add(answer, texts)
        part.part_of(scorer)
        assert part.values()["certain"] == names, "it is ranked among all"


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ([0.2, 0.9], (0, 1)),
        ([-0.5, 1], (-1, 1)),
        ([0, 3.18], (0, 5)),
        ([1, 5, 2], (1, 5)),
        ([1.5, 5], (0, 5)),
        ([0, 10], (0, 10)),
        ([1, 10], (1, 10)),
        ([55, 8], (0, 100)),
        ([-3.2, 2], (-5, 5)),
    ],
)
def test_the_scale_is_the_shortest_usual_one(scores: list[float], scale: Any) -> None:
    assert usual_scale(np.array(scores, np.float64), "here") == scale


def test_scores_become_cosines_and_odd_scales_are_asked_for() -> None:
    assert Scale(0, 5).cosines(np.array([0.0, 2.5, 5.0])).tolist() == [0, 0.5, 1]
    assert Scale(-1, 1).cosines(np.array([-1.0, 0.5])).tolist() == [-1, 0.5]
    assert read_scale("0, 7.5") == (0, 7.5)
    with pytest.raises(DataError, match="no usual scale") as refused:
        usual_scale(np.array([3.0, 400.0]), "x.csv, column 's'")
    assert "--score-scale 0,400" in refused.value.fix
    for text in ("5", "5,0", "a,b", "0,1,2"):
        with pytest.raises(UsageError, match="--score-scale"):
            read_scale(text)


@pytest.mark.parametrize(
    ("name", "columns", "learns"),
    [
        ("pairs", {}, "pairs"),
        ("triplets", {}, "triplets"),
        ("scores", {}, "scores"),
        ("triplets", {"text": "positive", "text_pair": "negative"}, "pairs"),
    ],
)
def test_the_columns_say_what_is_learned(
    files: Any, name: str, columns: dict[str, Any], learns: str
) -> None:
    table, kind = read_for_task(files(name), Columns(**columns), task=NAME)
    assert kind is SentenceSimilarity
    assert kind.infer(table, np.arange(len(table)), Reading()).learns == learns  # type: ignore[attr-defined]


def test_questions_with_answers_are_pairs_where_the_task_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "faq.jsonl", rows_of("answer question id", SECOND, FIRST, THIRD))
    table, _ = read_for_task(path, Columns(), task=NAME)
    assert table.roles == {"text": ["question"], "text_pair": ["answer"]}


BAD: dict[str, tuple[list[dict[str, Any]], dict[str, Any], type[BertoltError], str, str]] = {
    "no second text": (
        rows_of("text label", FIRST, SCORES), {"task": NAME}, UsageError, "two texts a row",
        "--text anchor",
    ),
    "one pair": (
        rows_of("anchor positive", FIRST[:1], SECOND[:1]), {"test_size": 0.0}, DataError,
        "there is one pair", "more rows",
    ),
    "equal scores": (
        rows_of("sentence1 sentence2 score", FIRST, SECOND, [3] * 5), {"task": NAME}, DataError,
        "nothing to learn", "--label",
    ),
    "a score beyond the scale": (
        rows_of("sentence1 sentence2 score", FIRST, SECOND, [*SCORES[:4], 6]),
        {"task": NAME, "score_scale": "0,5"}, DataError, "the score 6 is beyond the scale",
        "--score-scale 0,6",
    ),
    "a scale without scores": (
        rows_of("anchor positive", FIRST, SECOND), {"score_scale": "0,5"}, UsageError,
        "no column holds any", "--label",
    ),
    "two columns of scores": (
        rows_of("sentence1 sentence2 a b", FIRST, SECOND, SCORES, SCORES),
        {"task": NAME, "label": "a,b"}, UsageError, "one column beside the two texts",
        "name the column",
    ),
    "accumulated batches": (
        rows_of("anchor positive", FIRST, SECOND), {"accumulate": 4}, UsageError,
        "not one large one", "--batch-size 128 --micro-batch 32",
    ),
    "parts of rows that do not compete": (
        rows_of("sentence1 sentence2 score", FIRST, SECOND, SCORES),
        {"task": NAME, "micro_batch": 8}, UsageError, "rows that compete",
        "--batch-size 8 --accumulate 4",
    ),
    "parts that do not divide the batch": (
        rows_of("sentence1 sentence2 score", FIRST, SECOND, SCORES),
        {"task": NAME, "micro_batch": 12, "accumulate": 2}, UsageError, "rows that compete",
        "leave it out: --batch-size 8 --accumulate 8 makes the same step",
    ),
    "parts as large as the batch": (
        rows_of("sentence1 sentence2 score", FIRST, SECOND, SCORES),
        {"task": NAME, "micro_batch": 32}, UsageError, "rows that compete", "leave it out",
    ),
    "another task's loss": (
        rows_of("anchor positive", FIRST, SECOND), {"focal": 2.0}, UsageError, "--focal",
        "leave --focal out",
    ),
    "pooling for another task": (
        rows_of("text label", FIRST, ["a", "b", "a", "b", "a"]), {"pooling": "cls"}, UsageError,
        "it is for sentence-similarity", "--task sentence-similarity",
    ),
    "a separator": (
        rows_of("anchor positive", FIRST, SECOND), {"label_separator": ";"}, UsageError,
        "--label-separator", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_refused_with_its_place_and_a_fix(
    case: str, tiny_folder: Path, tmp_path: Path
) -> None:
    rows, options, kind, problem, fix = BAD[case]
    path, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    with pytest.raises(kind, match=problem) as refused:
        finetune(path, FinetuneOptions(model=str(tiny_folder), out=out, **options))
    assert fix in refused.value.fix
    assert not out.exists()
    if case == "a score beyond the scale":
        assert "row 5, column 'score'" in refused.value.place


def test_texts_in_the_place_of_labels_are_no_labels(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checks of labels pass over triplets, whose third texts differ where the others are alike."""
    thirds = [*THIRD, "the plot was cold", "NA"]
    rows = rows_of("anchor positive negative", [*FIRST, *FIRST[:2]], [*SECOND, *SECOND[:2]], thirds)
    options = FinetuneOptions(
        model=str(tiny_folder), out=tmp_path / "out", epochs=1, test_size=0.0, precision="fp32",
        find_batch_size=True,  # parts of a batch whose rows compete make the same step
    )  # fmt: skip
    finetune(write(tmp_path / "rows.jsonl", rows), options)
    said = capsys.readouterr().err
    assert "different labels" not in said
    assert "look like a gap" not in said
    assert "(triplets, 4 different first texts and 5 second ones)" in said


@pytest.mark.parametrize(("pooling", "unnormalized"), [("cls", True), (None, False)])
def test_a_trained_folder_opens_in_the_peer_and_says_how(
    files: Any,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pooling: Any,
    unnormalized: bool,
) -> None:
    package = pytest.importorskip("sentence_transformers")
    out = tmp_path / "out"
    options = FinetuneOptions(
        model=str(tiny_folder), out=out, epochs=1, batch_size=4, lr=1e-3, micro_batch=2,
        pooling=pooling, unnormalized=unnormalized, precision="fp32", max_length=40,
        test_size=0.0,
    )  # fmt: skip
    finetune(files("pairs"), options)
    said = capsys.readouterr().err
    assert "whose first text" in said, "texts that stand twice are told"
    contract = json.loads((out / "bertolt.json").read_text())
    settings = {"pooling": pooling or "mean", "normalized": not unnormalized}
    assert settings.items() <= contract["settings"].items()
    predictor = Predictor.from_pretrained(out)
    ours = np.array([each.vector for each in predictor.predict(FIRST)])
    theirs = package.SentenceTransformer(str(out), device="cpu")
    assert theirs.max_seq_length == 40
    assert abs(theirs.encode(FIRST) - ours).max() < 1e-5
    assert predictor.selftest() == []
    again = FinetuneOptions(model=str(out), out=out, overwrite=True)
    with pytest.raises(UsageError):
        finetune(files("pairs"), again)


def test_vectors_are_written_as_numpy_parquet_and_json_lines(
    bertolt: Any, real_checkpoint: Path, files: Any, predictor: Predictor, tmp_path: Path
) -> None:
    expected = np.array([each.vector for each in predictor.predict(FIRST)], np.float32)
    asked = ("predict", real_checkpoint, files("pairs"))
    for name in ("v.npy", "v.parquet", "v.jsonl"):
        said = bertolt(*asked, "--column", "anchor", "--out", tmp_path / name)
        assert said.code == 0, said.err
    assert np.array_equal(np.load(tmp_path / "v.npy"), expected)
    table = pq.read_table(tmp_path / "v.parquet")
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float>[384]"
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), expected)
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert np.array_equal(np.array([line["vector"] for line in lines], np.float32), expected)
    said = bertolt(*asked, "--out", tmp_path / "c.npy")
    assert said.code == 0, said.err
    assert np.load(tmp_path / "c.npy").shape == (5,), "cosines of pairs"
    said = bertolt("predict", real_checkpoint, "--text", FIRST[0], "--pair", SECOND[0])
    assert set(json.loads(said.out)) == {"row", "text", "text_pair", "similarity"}


def test_two_runs_are_compared_by_the_ranks_of_each_first_text() -> None:
    """By all cosines, sorted, and by each of the ways to exchange the queries of two runs."""
    generator = np.random.default_rng(0)
    asked = generator.integers(0, 12, 30)  # some are asked several times
    asked[:12] = np.arange(12)
    task = SentenceSimilarity()
    kept, ranks = [], []
    for spread in (0.8, 1.5):
        second = generator.normal(size=(30, 8))
        first = np.array([second[number] for number in range(12)])
        first = first + spread * generator.normal(size=(12, 8))
        rows, scorer = RowAnswers(task), task.scorer()
        for number, one in enumerate(asked.tolist()):
            vectors = first[one].tolist(), second[number].tolist()
            answer = {"similarity": cosine_of(*vectors), "vectors": list(vectors)}
            example = {"row": number + 1, "text": f"q {one}", "text_pair": f"a {number}"}
            scorer.add(answer, example)
            rows.add(number, answer, example)
        rows.complete(scorer)
        units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second)]
        order = np.argsort(-(units[0] @ units[1].T), axis=1)
        best = [
            1 + int(np.isin(line, np.flatnonzero(asked == q)).argmax())
            for q, line in enumerate(order)
        ]
        said = {asked[row.row - 1]: row.said for row in rows.rows}
        assert said == {query: f"rank {rank}" for query, rank in enumerate(best)}
        assert scorer.values()["mrr"] == pytest.approx(np.mean(1 / np.array(best)))
        kept.append(np.array([row.sums for row in rows.rows]))
        ranks.append(1 / np.array([best[asked[row.row - 1]] for row in rows.rows]))
    np.testing.assert_allclose(kept, [np.column_stack([each, np.ones(12)]) for each in ranks])
    ways = 1 - 2 * ((np.arange(4096)[:, None] >> np.arange(12)) & 1)
    gaps = np.abs(ways @ (ranks[1] - ranks[0]))
    test = task.scorer().paired(*kept)
    assert test.difference == pytest.approx(ranks[1].mean() - ranks[0].mean())
    share = (gaps >= 12 * abs(test.difference) - 1e-9).mean()
    assert 0.005 < share < 0.9
    assert test.p == pytest.approx(share, abs=0.015)


def test_a_text_without_an_answer_has_no_number(
    bertolt: Any, real_checkpoint: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "some.jsonl", [{"text": "good"}, {"text": " "}, {"text": "bad"}])
    out = tmp_path / "v.npy"
    said = bertolt("predict", real_checkpoint, path, "--out", out)
    assert "1 text without an answer" in said.err
    missing = np.isnan(np.load(out))
    assert missing.all(axis=1).tolist() == missing.any(axis=1).tolist() == [False, True, False]


def test_answers_that_are_no_vectors_are_no_array(
    bertolt: Any, tuned: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    said = bertolt("predict", tuned, reviews_csv, "--out", tmp_path / "v.npy")
    assert said.code == 2
    assert "are no vectors" in said.err
    assert not (tmp_path / "v.npy").exists()
