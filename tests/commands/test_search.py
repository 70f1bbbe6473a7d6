"""`bertolt search`: what it finds, what it keeps, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt import BertTokenizer, Predictor
from bertolt.checkpoint.contract import Contract
from bertolt.models.heads import SentenceEncoder
from bertolt.tasks.sentence_similarity import SentenceSimilarity

TEXTS = ["a warm film", "a cold book", "the plot was dull", "good and fresh", "warm films"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.csv"
    path.write_text("id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(TEXTS)))
    return path


def test_it_finds_what_the_product_finds(
    bertolt: Any, corpus: Path, real_checkpoint: Path, tmp_path: Path
) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text("what is\u2028\x0c\x85cold?\r\n\n", encoding="utf-8")  # one line
    words = ("search", corpus, "--query", "a movie with warmth", "--queries", queries, "--top", 2)
    said = bertolt(*words, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)["queries"]
    predictor = Predictor.from_pretrained(real_checkpoint)

    def vectors(texts: list[str]) -> Any:
        return np.array([each.vector for each in predictor.predict(texts)])

    product = vectors([each["query"] for each in found]) @ vectors(TEXTS).T
    for scores, each in zip(product, found, strict=True):
        order = np.argsort(-scores)[:2]
        assert [hit["row"] for hit in each["results"]] == (order + 1).tolist()
        assert [hit["text"] for hit in each["results"]] == [TEXTS[place] for place in order]
        assert [hit["score"] for hit in each["results"]] == pytest.approx(scores[order], abs=1e-5)
        assert [hit["rank"] for hit in each["results"]] == [1, 2]
    table = bertolt(*words).out
    assert "a movie with warmth\n   1  0." in table
    assert "row 1" in table


@pytest.mark.parametrize(("top", "all_of_them"), [(4, False), (5, True), (10, True)])
def test_a_list_of_all_texts_is_told_as_such(
    bertolt: Any, corpus: Path, top: int, all_of_them: bool
) -> None:
    said = bertolt("search", corpus, "--query", "warm", "--top", top)
    assert said.code == 0, said.err
    assert (f"There are 5 texts for --top {top}: all are listed" in said.err) == all_of_them


def test_vectors_are_kept_and_belong_to_their_corpus(
    bertolt: Any, corpus: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "corpus.npy"
    words = ("search", corpus, "--query", "warm", "--vectors", kept)
    first, again = bertolt(*words), bertolt(*words)
    assert first.code == again.code == 0, first.err + again.err
    assert first.out == again.out
    assert "Vectors: read from" in again.err
    assert np.load(kept).shape == (5, 384)
    corpus.write_text(corpus.read_text() + "5,another one\n")
    changed = bertolt(*words)
    assert changed.code == 2
    assert "made of other texts than these" in changed.err
    assert "--overwrite" in changed.err
    assert bertolt(*words, "--overwrite").code == 0
    assert np.load(kept).shape == (6, 384)
    vectors = np.load(kept)
    for other, problem in [
        (vectors[:, :5], "vectors of these texts are float32 of (6, 384)"),
        (vectors * np.nan, "some of its vectors are not finite"),
        (np.array([{}], object), "no vectors that bertolt search has kept\n"),
    ]:
        np.save(kept, other, allow_pickle=True)
        said = bertolt(*words)
        assert said.code == 2
        assert problem in said.err
    (tmp_path / "corpus.npy.json").unlink()
    assert "no vectors that bertolt search has kept" in bertolt(*words).err


def test_longer_texts_are_searched_as_the_model_was_trained(
    bertolt: Any, corpus: Path, tiny_folder: Path, tmp_path: Path, randomised: Any
) -> None:
    """And vectors that were kept of texts that were read otherwise are refused."""
    model, task = tmp_path / "model", SentenceSimilarity(pooling="mean", normalized=True)
    randomised(SentenceEncoder.from_pretrained(tiny_folder, verbose=False)).save_pretrained(model)
    BertTokenizer.from_pretrained(tiny_folder).save_pretrained(model)
    values: dict[str, Any] = {"task": task.name, "settings": task.settings(), "max_length": 12}
    values |= {"columns": {"text": ["a"], "text_pair": ["b"]}, "library_version": "0"}
    texts = ["the plot was dull " * 9, "good film", "cold and warm " * 7 + "fresh"]
    corpus.write_text("text\n" + "".join(f"{text}\n" for text in texts))
    words = ("search", corpus, "--model", model, "--query", texts[2], "--top", 3, "--json")
    kept = ("--vectors", tmp_path / "kept.npy")
    for how in ("window", "truncate"):
        long = {"how": how, **({"stride": 2} if how == "window" else {})}
        Contract.of({**values, "long": long}).write(model)
        said = bertolt(*words)
        assert said.code == 0, said.err
        (found,) = json.loads(said.out)["queries"]
        scores = {hit["row"]: hit["score"] for hit in found["results"]}
        asked, *each = Predictor.from_pretrained(model).predict([texts[2], *texts])
        assert asked.parted == (how == "window")
        for row, prediction in enumerate(each, start=1):
            product = np.dot(asked.vector, prediction.vector)
            assert scores[row] == pytest.approx(product, abs=1e-5)
        other = bertolt(*words, *kept)
        assert other.code == (0 if how == "window" else 2), other.err
    assert "made of other settings of the model" in other.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "there is nothing to look for"),
        (["--query", " "], "--query is empty"),
        (["--query", "a", "--top", "0"], "--top"),
        (["--query", "a", "--vectors", "v.bin"], "vectors are kept as .npy"),
        (["--query", "a", "--queries", "nowhere.txt"], "there is no such file"),
        (["--query", "a", "--column", "body"], "there is no column 'body'"),
        (["--query", "a", "--text", "body"], "there is no column 'body'"),
    ],
)
def test_bad_input(bertolt: Any, corpus: Path, words: list[str], problem: str) -> None:
    said = bertolt("search", corpus, *words)
    assert said.code == 2
    assert problem in said.err
    assert "fix:" in said.err


def test_a_model_without_vectors_and_a_corpus_of_pairs(
    bertolt: Any, corpus: Path, tuned: Path, tmp_path: Path
) -> None:
    said = bertolt("search", corpus, "--query", "a", "--model", tuned)
    assert "gives no vectors" in said.err
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("anchor,positive\na b,c d\n")
    said = bertolt("search", pairs, "--query", "a")
    assert "--column positive" in said.err
