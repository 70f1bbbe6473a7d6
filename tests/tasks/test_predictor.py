"""`Predictor`: order, limits, streams, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertolt import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertTokenizer,
    Predictor,
)
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.checkpoint.contract import Contract

WORDS = ["good", "bad", "the", "film", "was", "very", "plot", "😀", "好", ""]


def contract(**changes: Any) -> Contract:
    values: dict[str, Any] = {
        "task": "text-classification",
        "columns": {"text": ["review"], "label": ["label"]},
        "settings": {"majority": "pos"},
        "max_length": 20,
        "library_version": "0.0",
    }
    return Contract(**(values | changes))


@pytest.fixture(scope="module")
def model(tiny_config: Any, randomised: Any) -> BertForSequenceClassification:
    config = tiny_config(id2label={0: "neg", 1: "pos"})
    built: BertForSequenceClassification = randomised(BertForSequenceClassification(config))
    return built


@pytest.fixture(scope="module")
def predictor(model: Any, tiny_tokenizer: BertTokenizer) -> Predictor:
    return Predictor(model, tiny_tokenizer, contract(), precision="fp32")


@pytest.fixture
def folder(model: Any, tiny_folder: Path, tmp_path: Path) -> Path:
    """A saved classifier that may be changed."""
    model.save_pretrained(tmp_path / "model")
    shutil.copy(tiny_folder / "vocab.txt", tmp_path / "model")
    return tmp_path / "model"


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=30))
def test_answers_come_in_order_and_are_those_of_each_text_alone(
    predictor: Predictor, texts: list[str]
) -> None:
    answers = list(predictor.predict(texts))
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        (alone,) = predictor.predict([text])
        assert answer.label == alone.label
        assert answer.tokens == alone.tokens
        shares = list(answer.probabilities.values())
        np.testing.assert_allclose(shares, list(alone.probabilities.values()), atol=1e-5)


def test_an_answer_is_a_distribution_over_the_labels(predictor: Predictor) -> None:
    (answer,) = predictor.predict(["the film was good"])
    assert list(answer.probabilities) == predictor.labels == ["neg", "pos"]
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert answer.probability == max(answer.probabilities.values())
    assert answer.probabilities[answer.label] == answer.probability
    assert (answer.tokens, answer.tokens_cut) == (6, 0)


def test_no_texts_no_answers(predictor: Predictor) -> None:
    assert list(predictor.predict([])) == []


def test_a_longer_text_is_cut_where_the_contract_says(predictor: Predictor) -> None:
    assert predictor.max_length == 20
    long, short = predictor.predict(["good " * 50, "good " * 18])
    assert (long.tokens, long.tokens_cut) == (52, 32)
    assert (short.tokens, short.tokens_cut) == (20, 0)
    assert long.probability == pytest.approx(short.probability, abs=1e-6)


def test_without_a_contract_the_position_table_is_the_limit(
    model: Any, tiny_tokenizer: Any
) -> None:
    assert Predictor(model, tiny_tokenizer, precision="fp32").max_length == 160


def test_a_contract_cannot_ask_for_more_than_the_position_table(
    model: Any, tiny_tokenizer: Any
) -> None:
    asking = contract(max_length=4000)
    assert Predictor(model, tiny_tokenizer, asking, precision="fp32").max_length == 160


def test_a_stream_is_read_a_window_at_a_time(predictor: Predictor) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "good film"

    answers = predictor.predict(endless(), window=4)
    for expected in (4, 4, 4, 4, 8):
        next(answers)
        assert read == expected


def test_on_a_gpu_the_next_window_is_tokenised_ahead(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers; as many texts are read again, but where a window is asked for."""
    texts = ["good film", "bad", "the plot " * 9, "very " * 30, "was", "good", "bad film"]
    plain = list(predictor.predict(texts, window=3))
    monkeypatch.setattr("bertolt.tasks.predictor.WINDOW", 3)
    monkeypatch.setattr("bertolt.tasks.predictor._ON_GPU", 1)
    monkeypatch.setattr(predictor, "device", torch.device("cuda"))
    source = iter(texts)
    answers = predictor.predict(source)
    ahead = [next(answers)]
    assert next(source) == "bad film", "two windows of three have been read"
    ahead += answers
    assert ahead == plain[:6]
    source = iter(texts)
    next(predictor.predict(source, window=1))
    assert next(source) == "bad"


def test_the_model_answers_without_dropout(model: Any, tiny_tokenizer: Any) -> None:
    predictor = Predictor(model.train(), tiny_tokenizer, precision="fp32")
    first, second = predictor.predict(["good film"]), predictor.predict(["good film"])
    assert next(first).probability == next(second).probability
    assert not predictor.model.training


def test_windows_are_answered_without_a_task(model: Any, predictor: Predictor) -> None:
    """Logits of encoded windows, in their order, whatever runs at once."""
    texts = ["good film", "a very very bad plot", "the film was good"]
    windows = [{"input_ids": ids} for ids in predictor.tokenizer(texts)["input_ids"]]
    alone, together = predictor.outputs(windows, at_once=1), predictor.outputs(windows)
    for text, one, logits in zip(texts, alone, together, strict=True):
        assert torch.allclose(one, logits, atol=1e-6)
        (answer,) = predictor.predict([text])
        assert answer.probability == pytest.approx(float(logits.softmax(-1).max()), abs=1e-6)
    assert predictor.outputs([]) == []


def test_bf16_is_near_fp32(model: Any, tiny_tokenizer: Any, predictor: Predictor) -> None:
    rough = Predictor(model, tiny_tokenizer, contract(), precision="bf16")
    texts = ["the film was good", "a bad plot"]
    for fine, coarse in zip(predictor.predict(texts), rough.predict(texts), strict=True):
        assert coarse.probability == pytest.approx(fine.probability, abs=0.03)
    with pytest.raises(UsageError, match="fp99"):
        Predictor(model, tiny_tokenizer, precision="fp99")


# ---- what answers ----


TEXTS = ["the film was good", "a bad plot", "very " * 15]


def shares(predictor: Predictor) -> list[list[float]]:
    return [list(answer.probabilities.values()) for answer in predictor.predict(TEXTS)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_weights_that_were_there_answer_until_it_is_refreshed(
    model: Any, tiny_tokenizer: Any, precision: str
) -> None:
    edited = copy.deepcopy(model)
    predictor = Predictor(edited, tiny_tokenizer, contract(), precision=precision)
    before = shares(predictor)
    with torch.no_grad():
        edited.bert.encoder.layer[1].output.dense.weight.mul_(3)
        edited.bert.encoder.layer[0].attention.self.value.bias.add_(1)
    assert shares(predictor) == before
    predictor.refresh()
    fresh = Predictor(edited, tiny_tokenizer, contract(), precision=precision)
    assert shares(predictor) == shares(fresh) != before


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_it_can_be_pickled_and_copied(model: Any, tiny_tokenizer: Any, precision: str) -> None:
    predictor = Predictor(model, tiny_tokenizer, contract(), precision=precision)
    for twin in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):  # noqa: S301
        assert twin.model is not predictor.model
        assert twin.engine is not predictor.engine
        assert shares(twin) == shares(predictor)


def test_another_model_answers_once_it_is_refreshed(model: Any, tiny_tokenizer: Any) -> None:
    predictor = Predictor(model, tiny_tokenizer, contract(), precision="fp32")
    before = shares(predictor)
    predictor.model = copy.deepcopy(model).train()
    with torch.no_grad():
        predictor.model.bert.encoder.layer[1].output.dense.weight.mul_(3)
        predictor.model.classifier.bias.add_(torch.tensor([0.0, 1.0]))
    assert shares(predictor) == before
    predictor.refresh()
    assert not predictor.model.training
    with torch.no_grad():
        batch = tiny_tokenizer(TEXTS[0], return_tensors="pt")
        expected = predictor.model(**batch).logits.softmax(-1)[0].tolist()
    assert shares(predictor)[0] == pytest.approx(expected, abs=1e-6)


def test_a_hook_is_followed_once_it_is_refreshed(model: Any, tiny_tokenizer: Any) -> None:
    hooked = copy.deepcopy(model)
    predictor = Predictor(hooked, tiny_tokenizer, contract(), precision="fp32")
    assert predictor.engine.why_not == ""
    before, seen = shares(predictor), []
    hooked.bert.encoder.layer[0].register_forward_hook(lambda *given: seen.append(1))
    assert shares(predictor) == before
    assert not seen
    predictor.refresh()
    np.testing.assert_allclose(shares(predictor), before, atol=1e-5)
    assert seen
    assert predictor.engine.why_not == (
        "encoder.layer.0 has hooks, is compiled or has another forward"
    )


def test_int8_is_refused_for_a_model_that_cannot_be_frozen(model: Any, tiny_tokenizer: Any) -> None:
    hooked = copy.deepcopy(model)
    predictor = Predictor(hooked, tiny_tokenizer, precision="int8")
    hooked.bert.encoder.layer[0].register_forward_hook(lambda *given: None)
    for act in (predictor.refresh, lambda: Predictor(hooked, tiny_tokenizer, precision="int8")):
        with pytest.raises(UsageError, match=r"int8 is not for this model: encoder\.layer\.0"):
            act()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_threads_that_share_a_predictor_get_equal_answers(
    model: Any, tiny_tokenizer: Any, precision: str
) -> None:
    predictor = Predictor(model, tiny_tokenizer, contract(), precision=precision)
    expected = shares(predictor)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: shares(predictor), range(40)))
    assert found == [expected] * 40


def test_frozen_weights_go_with_the_predictor(model: Any, tiny_tokenizer: Any) -> None:
    predictor = Predictor(model, tiny_tokenizer, contract(), precision="fp32")
    first = weakref.ref(predictor.engine.encoder)
    shares(predictor)
    predictor.refresh()
    assert first() is None
    second = weakref.ref(predictor.engine.encoder)
    del predictor
    assert second() is None


# ---- golden texts ----


def test_the_selftest_passes_on_its_own_answers(model: Any, tiny_tokenizer: Any) -> None:
    maker = Predictor(model, tiny_tokenizer, contract(), precision="fp32")
    texts = ["the film was good", "bad", ""]
    golden = maker.make_golden([{"text": text} for text in texts])
    assert [entry.example["text"] for entry in golden] == texts
    again = Predictor(model, tiny_tokenizer, contract(golden=golden), precision="fp32")
    assert again.selftest() == []
    assert maker.selftest() == [], "no golden texts, no faults"


@pytest.mark.parametrize("share", [0.01, float("nan")])
def test_the_selftest_tells_which_text_is_answered_otherwise(
    model: Any, tiny_tokenizer: Any, predictor: Predictor, share: float
) -> None:
    good, other = predictor.make_golden([{"text": "good"}, {"text": "bad"}])
    answer = other.answer | {"probabilities": {"neg": share, "pos": 1 - share}}
    off = dataclasses.replace(other, answer=answer)
    again = Predictor(model, tiny_tokenizer, contract(golden=[good, off]), precision="fp32")
    (fault,) = again.selftest()
    assert fault.startswith("golden text 2: ")


# ---- from a folder ----


def test_a_folder_without_a_contract(folder: Path) -> None:
    predictor = Predictor.from_pretrained(folder)
    assert predictor.contract is None
    assert predictor.labels == ["neg", "pos"]


def test_a_folder_with_a_contract(folder: Path) -> None:
    contract().write(folder)
    assert Predictor.from_pretrained(folder).max_length == 20


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "bertolt.json", "vocab.txt", "tokenizer.json",
     "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
)  # fmt: skip
def test_a_file_of_a_model_that_is_a_link_to_nothing(folder: Path, name: str) -> None:
    """None of them counts as not there: what it says would be lost in silence."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("gone")
    with pytest.raises(CheckpointError) as caught:
        Predictor.from_pretrained(folder)
    assert caught.value.place == str(folder / name)


def test_a_head_that_was_never_trained(tiny_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="never been trained") as refused:
        Predictor.from_pretrained(tiny_folder)
    assert "finetune" in refused.value.fix


def test_labels_of_a_first_contract_that_do_not_agree(folder: Path) -> None:
    first = {"text_column": "text", "label_column": "label", "labels": ["pos", "neg"]}
    first |= {"majority_label": "pos", "max_length": 20, "library_version": "0.0"}
    content = first | {"task": "sequence-classification"}
    (folder / "bertolt.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"\['pos', 'neg'\].*\['neg', 'pos'\]"):
        Predictor.from_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("regression", {"values"}),
        ("multi_label_classification", {"labels", "probabilities"}),
        ("single_label_classification", {"label", "probability", "probabilities"}),
    ],
)
def test_without_a_contract_the_problem_type_names_the_task(
    folder: Path, kind: str, answers: set[str]
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"problem_type": kind}))
    (prediction,) = Predictor.from_pretrained(folder).predict(["good"])
    assert prediction.answer.keys() == answers


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("BertForQuestionAnswering", "never been trained for question-answering"),
        ("BertForMultipleChoice", "classifier.weight has shape"),
    ],
)
def test_a_folder_of_another_head_is_refused(folder: Path, head: str, words: str) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"architectures": [head]}))
    with pytest.raises(CheckpointError, match=words):
        Predictor.from_pretrained(folder)


def test_a_model_of_questions_asks_for_their_texts(
    tiny_config: Any, tiny_tokenizer: Any, randomised: Any
) -> None:
    model = randomised(BertForQuestionAnswering(tiny_config()))
    predictor = Predictor(model, tiny_tokenizer, precision="fp32")
    assert predictor.takes_pairs
    with pytest.raises(UsageError, match="answers pairs of texts"):
        list(predictor.predict(["who"]))
    (prediction,) = predictor.predict([("who", "good film")])
    assert prediction.answer["answer"] in "good film"


@pytest.fixture
def tagger(tiny_config: Any, randomised: Any, tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder of a token classifier with a pooler, as older libraries wrote it; no contract."""
    config = tiny_config(id2label={0: "O", 1: "B", 2: "I"})
    both = randomised(BertForSequenceClassification(config))
    both.save_pretrained(tmp_path / "tagger")
    shutil.copy(tiny_folder / "vocab.txt", tmp_path / "tagger")
    return named(tmp_path / "tagger", ["BertForTokenClassification"])


def named(folder: Path, architectures: list[str]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": architectures}))
    return folder


def test_a_token_classifier_with_a_pooler_tags_and_nothing_else(tagger: Path) -> None:
    (prediction,) = Predictor.from_pretrained(tagger).predict(["good film"])
    assert prediction.answer.keys() == {"spans", "words"}


@pytest.mark.parametrize(
    ("architectures", "words"),
    [
        ([], "names no architectures"),
        (["BertWithCrf"], "it is a BertWithCrf"),
        (["BertModel"], "it is a BertModel, which has no head"),
        (["BertForMaskedLM"], "never been trained for fill-mask"),
        (["BertForNextSentencePrediction"], "never been trained for next-sentence-prediction"),
    ],
)
def test_weights_that_would_fit_a_text_classifier_answer_as_nothing_else(
    tagger: Path, architectures: list[str], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words) as refused:
        Predictor.from_pretrained(named(tagger, architectures))
    assert refused.value.place == str(tagger)
    assert refused.value.fix


def test_a_contract_decides_for_a_class_that_nobody_knows(tagger: Path) -> None:
    contract(settings={}).write(named(tagger, ["MyOwnClassifier"]))
    (prediction,) = Predictor.from_pretrained(tagger).predict(["good film"])
    assert prediction.label in ("O", "B", "I")
    named(tagger, ["BertForQuestionAnswering"])
    with pytest.raises(CheckpointError, match="weights are of a BertForQuestionAnswering"):
        Predictor.from_pretrained(tagger)


def test_a_class_of_ones_own_answers_as_what_it_extends(
    tiny_config: Any, tiny_tokenizer: Any, randomised: Any
) -> None:
    class Own(BertForSequenceClassification):
        pass

    built = randomised(Own(tiny_config(id2label={0: "neg", 1: "pos"})))
    assert Predictor(built, tiny_tokenizer).task.name == "text-classification"


@pytest.mark.parametrize(
    "kind",
    ["regression", "multi_label_classification", "single_label_classification"],
)
@pytest.mark.parametrize("labels", [["neg", "neg"], [1, "1"]])
def test_two_labels_with_one_name_are_refused(folder: Path, kind: str, labels: list[Any]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    named = {"id2label": {"0": labels[0], "1": labels[1]}, "problem_type": kind}
    path.write_text(json.dumps(config | named))
    with pytest.raises(CheckpointError, match=f"several of its labels are called '{labels[1]}'"):
        Predictor.from_pretrained(folder)
    path.write_text(json.dumps(config | named | {"id2label": {"0": "neg", "1": "neg 2"}}))
    assert Predictor.from_pretrained(folder).labels == ["neg", "neg 2"]


def test_a_tokenizer_that_has_more_tokens_than_the_model(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("".join(f"more{number}\n" for number in range(5)))
    with pytest.raises(CheckpointError, match="97 rows"):
        Predictor.from_pretrained(folder)


def test_the_answers_are_the_models(predictor: Predictor, tiny_tokenizer: BertTokenizer) -> None:
    text = "the film was very good"
    batch = tiny_tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        expected = predictor.model(**batch).logits.softmax(-1)[0].tolist()
    (answer,) = predictor.predict([text])
    assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("texts", ["Two hours", {"text": "x"}], ids=str)
def test_one_text_is_no_list_of_texts(tuned: Path, texts: Any) -> None:
    with pytest.raises(UsageError, match="predict takes several texts"):
        Predictor.from_pretrained(tuned).predict(texts)


@pytest.mark.parametrize("asked", [["a", "b"], 1, None, {"label": "x"}, ("a", "b", "c")], ids=str)
def test_what_is_no_text_is_refused(tuned: Path, asked: Any) -> None:
    with pytest.raises(UsageError, match="as one of its texts"):
        list(Predictor.from_pretrained(tuned).predict([asked]))
