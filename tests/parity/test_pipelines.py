"""`pipeline`: the structures and the numbers of the peer's pipelines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.pipelines.document_question_answering import select_starts_ends

import bertolt
from bertolt import AutoTokenizer, FillMaskPipeline, Pipeline, pipeline
from bertolt.base.errors import BertoltError, CheckpointError, DataError, UsageError
from bertolt.tasks.pipelines.open import ALIASES, PIPELINES

TEXTS = [
    "the film was great and the cast is moving .",
    "a dull book",
    "not a silly story , but the plot of the film was awful in the end and it is very boring .",
]
PAIRS = [{"text": TEXTS[0], "text_pair": "the plot"}, {"text": "a film", "text_pair": TEXTS[2]}]
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Texts are cut on purpose; what is said of it once has tests of its own."""
    warnings.filterwarnings("ignore", message=".*were longer than")


@pytest.fixture(scope="module")
def saved(tiny_config: Any, randomised: Any, tiny_folder: Path, tmp_path_factory: Any) -> Make:
    """A folder with a random model of a class, its config changed, and the tiny vocabulary."""
    folders: dict[str, Path] = {}

    def make(kind: str, **changes: Any) -> Path:
        key = f"{kind} {changes}"
        if key not in folders:
            folder = folders[key] = tmp_path_factory.mktemp(kind)
            model = getattr(bertolt, kind)(tiny_config(**changes))
            randomised(model, std=0.25).save_pretrained(folder)
            AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
        return folders[key]

    return make


def both(task: str, folder: Path, **settings: Any) -> tuple[Any, Any]:
    """Our pipeline and the peer's, from one folder."""
    peer = transformers.pipeline(task, model=str(folder), device="cpu", **settings)
    return pipeline(task, model=str(folder), device="cpu", **settings), peer


def same(ours: Any, peer: Any) -> bool:
    """Whether two answers have one structure and, but for rounding, the same numbers."""
    if isinstance(peer, torch.Tensor):
        return torch.allclose(ours, peer, atol=2e-5)
    if isinstance(peer, dict):
        return list(ours) == list(peer) and all(same(ours[name], peer[name]) for name in peer)
    if isinstance(peer, list):
        return len(ours) == len(peer) and all(map(same, ours, peer))
    if isinstance(peer, float | np.floating):
        return type(ours) is float and ours == pytest.approx(float(peer), abs=2e-5)
    return type(ours) is type(peer) and ours == peer


def test_every_pipeline_is_tested_here() -> None:
    assert set(PIPELINES) == {
        "text-classification",
        "token-classification",
        "question-answering",
        "fill-mask",
        "feature-extraction",
    }
    for name, task in ALIASES.items():
        assert task in PIPELINES, name


# ---- texts and their labels ----


@pytest.mark.parametrize("task", ["text-classification", "sentiment-analysis"])
@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": {0: "neg", 1: "mid", 2: "pos"}},
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
    ],
)
@pytest.mark.parametrize("built", [{}, {"top_k": None}, {"top_k": 2}])
def test_labels_of_texts(saved: Make, task: str, changes: Any, built: Any) -> None:
    ours, peer = both(task, saved("BertForSequenceClassification", **changes), **built)
    for asked in (TEXTS[0], TEXTS, TEXTS[:1], PAIRS[0], PAIRS, [[[TEXTS[0], TEXTS[1]]]]):
        for options in (
            {},
            {"top_k": 1},
            {"top_k": None},
            {"function_to_apply": "sigmoid"},
            {"function_to_apply": "softmax", "top_k": 2},
            {"function_to_apply": "none"},
            {"truncation": True, "max_length": 6},
        ):
            assert same(ours(asked, **options), peer(asked, **options)), (asked, options)


def test_all_scores_as_version_four_gave_them(saved: Make) -> None:
    """The peer of today takes the argument and answers as if it were not there."""
    folder = saved("BertForSequenceClassification", num_labels=3)
    ours, peer = both("text-classification", folder)
    best = {label["label"]: label["score"] for label in peer(TEXTS[0], top_k=None)}
    found = ours(TEXTS[0], return_all_scores=True)
    assert [label["label"] for label in found[0]] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert all(
        label["score"] == pytest.approx(best[label["label"]], abs=1e-5) for label in found[0]
    )
    several = pipeline("text-classification", folder, return_all_scores=True)(TEXTS)
    assert same(several[0], found[0])
    assert same(ours(TEXTS[0], return_all_scores=False), peer(TEXTS[0]))


def test_streams_are_answered_as_they_come(saved: Make) -> None:
    ours, peer = both("text-classification", saved("BertForSequenceClassification", num_labels=3))
    read = []

    def texts() -> Iterator[str]:
        for number in range(200):
            read.append(number)
            yield TEXTS[number % 3]

    stream = ours(texts(), batch_size=8)
    assert not read
    first = next(stream)
    assert len(read) == 8
    answers = [first, *stream]
    assert len(answers) == 200
    assert same(answers[:3], peer(TEXTS))

    class Rows(torch.utils.data.Dataset[str]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> str:
            return TEXTS[range(3)[index]]

    assert same(list(ours(Rows())), list(peer(Rows())))
    assert ours([]) == []


@pytest.mark.parametrize("size", [1, 2, None])
def test_no_answer_depends_on_the_batch(saved: Make, size: int | None) -> None:
    ours, peer = both("text-classification", saved("BertForSequenceClassification", num_labels=3))
    assert same(ours(TEXTS * 5, batch_size=size), peer(TEXTS * 5, batch_size=size))


# ---- tokens ----


@pytest.mark.parametrize("task", ["ner", "token-classification"])
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
@pytest.mark.filterwarnings("ignore:Tokenizer does not support", "ignore:the vocabulary does not")
def test_entities(
    saved: Make, strategy: str, task: str, kind: str, roberta_folder: Path, tmp_path: Path
) -> None:
    changes = {"id2label": dict(enumerate(LABELS))}
    if kind == "Bert":
        folder = saved("BertForTokenClassification", **changes)
    else:
        folder = tmp_path
        model = bertolt.RobertaForTokenClassification.from_pretrained(
            roberta_folder, verbose=False, num_labels=5, **changes
        )
        torch.manual_seed(0)
        torch.nn.init.normal_(model.classifier.weight, std=2.0)
        model.has_learned = True
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(roberta_folder).save_pretrained(folder)
    ours, peer = both(task, folder, aggregation_strategy=strategy)
    texts = [*TEXTS, "unseen wonderful café, ∂ words!", "", "A  Film"]
    for asked in (TEXTS[0], texts, texts[:1]):
        assert same(ours(asked), peer(asked)), asked
        assert same(ours(asked, ignore_labels=[]), peer(asked, ignore_labels=[]))
        ignored = {"ignore_labels": ["O", "PER", "I-LOC"]}
        assert same(ours(asked, **ignored), peer(asked, **ignored))
    words = [text.split() for text in texts if text]
    for asked in (words[0], words):
        options = {"is_split_into_words": True}
        assert same(ours(asked, **options), peer(asked, **options))
        assert same(ours(asked, delimiter="", **options), peer(asked, delimiter="", **options))


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("stride", [0, 3, 7])
def test_long_texts_in_windows(saved: Make, strategy: str, stride: int) -> None:
    folder = saved("BertForTokenClassification", id2label=dict(enumerate(LABELS)))
    ours, peer = both("ner", folder, aggregation_strategy=strategy)
    ours.tokenizer.model_max_length = peer.tokenizer.model_max_length = 12
    for text in (" ".join(TEXTS), TEXTS[1], "unseen words " * 9):
        assert same(ours(text, stride=stride), peer(text, stride=stride))
    both_texts = [" ".join(TEXTS), TEXTS[1]]
    assert same(ours(both_texts, stride=stride), [ours(text, stride=stride) for text in both_texts])


def test_texts_that_are_cut_are_told(saved: Make) -> None:
    ours, peer = both("ner", saved("BertForTokenClassification", id2label=dict(enumerate(LABELS))))
    long = " ".join(TEXTS * 9)
    peer.tokenizer.model_max_length = 160
    with pytest.warns(UserWarning, match="1 of 1 texts were longer than 160 tokens"):
        assert same(ours(long), peer(long))


def test_older_names_of_the_strategies(saved: Make) -> None:
    folder = saved("BertForTokenClassification", id2label=dict(enumerate(LABELS)))
    plain = pipeline("ner", folder)
    for older, strategy in (
        ({"grouped_entities": True}, "simple"),
        ({"grouped_entities": True, "ignore_subwords": True}, "first"),
        ({"grouped_entities": False}, "none"),
    ):
        assert plain(TEXTS, **older) == plain(TEXTS, aggregation_strategy=strategy)
    with pytest.raises(UsageError, match="aggregation_strategy='mean' is not known"):
        plain(TEXTS, aggregation_strategy="mean")
    with pytest.raises(UsageError, match="answered twice"):
        plain(TEXTS, stride=2)
    with pytest.raises(UsageError, match="use a smaller stride"):
        plain(TEXTS, stride=160, aggregation_strategy="max")
    with pytest.raises(DataError, match="text 1: a list is no text"):
        plain(["a", ["b"]])


# ---- masks ----


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_k": 50}, {"targets": "good"}])
def test_masks(saved: Make, options: Any) -> None:
    ours, peer = both("fill-mask", saved("BertForMaskedLM"), **options)
    one, two = "the [MASK] was great .", "a [MASK] [MASK] of it"
    for asked in (one, [one], [one, "[MASK] film"], two, [two, one], "a [PAD] [MASK]"):
        assert same(ours(asked), peer(asked)), asked
    targets = {"targets": ["bad", "good", "the"], "top_k": 2}
    assert same(ours(one, **targets), peer(one, **targets))
    kwargs = {"tokenizer_kwargs": {"truncation": True, "max_length": 5}}
    assert same(ours(one, **kwargs), peer(one, **kwargs))


def test_targets_of_several_pieces(saved: Make) -> None:
    ours, peer = both("fill-mask", saved("BertForMaskedLM"))
    with pytest.warns(UserWarning, match="'goodx' is no token of the vocabulary: 'good' stands"):
        found = ours("the [MASK]", targets=["goodx", "bad"])
    assert same(found, peer("the [MASK]", targets=["goodx", "bad"]))
    with pytest.raises(UsageError, match="no token"), pytest.warns(UserWarning, match="left out"):
        ours("the [MASK]", targets=[" "])


def test_masks_that_are_not_there(saved: Make) -> None:
    folder = saved("BertForMaskedLM")
    with pytest.raises(DataError, match=r"text 1: it has no \[MASK\]"):
        pipeline("fill-mask", folder)(["a [MASK]", "none here"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"mask_token": None})
    with pytest.raises(UsageError, match="has no mask token"):
        pipeline("fill-mask", folder, tokenizer=tokenizer)


def test_a_forward_of_ones_own_fills_masks(saved: Make) -> None:
    folder = saved("BertForMaskedLM")

    class Own(bertolt.BertForMaskedLM):
        def forward(self, input_ids: Any = None, attention_mask: Any = None, **others: Any) -> Any:
            others.pop("labels", None)
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **others)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Own.from_pretrained(folder, verbose=False)
    text = ["the [MASK] was great", "a [MASK] and a [MASK] film"]
    assert same(FillMaskPipeline(model, tokenizer)(text), pipeline("fill-mask", folder)(text))


# ---- states ----


def test_features(saved: Make, real_checkpoint: Path) -> None:
    for folder, texts in ((saved("BertModel"), TEXTS), (real_checkpoint, ["A real text.", "two"])):
        ours, peer = both("feature-extraction", folder)
        for asked in (texts[0], texts):
            assert same(ours(asked), peer(asked))
            cut = {"truncation": True, "tokenize_kwargs": {"max_length": 4}}
            assert same(ours(asked, **cut), peer(asked, **cut))
        assert same(ours(texts, return_tensors=True), peer(texts, return_tensors=True))
    with pytest.raises(UsageError, match="given by itself and in tokenize_kwargs"):
        ours("a", truncation=True, tokenize_kwargs={"truncation": True})


# ---- questions ----

CONTEXTS = [" ".join(TEXTS), "the film .", " ".join(TEXTS * 4)]
QUESTION = "was the film great"


@pytest.fixture(scope="module")
def questions(saved: Make) -> Pipeline:
    return pipeline("question-answering", saved("BertForQuestionAnswering"))


def version_four(folder: Path, question: str, context: str, **options: Any) -> Any:
    """What version 4 of the peer answers: its model, its choice of spans, and the steps between.

    Written from its documented behaviour: version 5 has the parts and no pipeline over them.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForQuestionAnswering.from_pretrained(folder).eval()
    top_k, words = options.get("top_k", 1), options.get("align_to_words", True)
    size = options.get("max_seq_len") or min(tokenizer.model_max_length, 384)
    stride = options.get("doc_stride", min(size // 2, 128))
    encoded = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=size,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    nothing, answers = 1_000_000, []
    for row in range(len(encoded["input_ids"])):
        tensors = {
            name: torch.tensor([encoded[name][row]])
            for name in ("input_ids", "token_type_ids", "attention_mask")
        }
        with torch.no_grad():
            out = model(**tensors)
        mask = np.array([[sequence != 1 for sequence in encoded.sequence_ids(row)]])
        mask[tensors["input_ids"].numpy() == tokenizer.cls_token_id] = False
        starts, ends, scores, nothing = select_starts_ends(
            out.start_logits.numpy(),
            out.end_logits.numpy(),
            mask.astype(int),
            tensors["attention_mask"].numpy(),
            nothing,
            top_k * 2 + 10 if words else top_k,
            options.get("handle_impossible_answer", False),
            options.get("max_answer_len", 15),
        )
        for start, end, score in zip(starts.tolist(), ends.tolist(), scores, strict=True):
            encoding = encoded.encodings[row]
            first, last = encoding.token_to_word(start), encoding.token_to_word(end)
            if words and first is not None and last is not None:
                begin, stop = (
                    encoding.word_to_chars(first, 1)[0],
                    encoding.word_to_chars(last, 1)[1],
                )
            else:
                begin, stop = encoding.offsets[start][0], encoding.offsets[end][1]
            text = context[begin:stop]
            known = next((a for a in answers if a["answer"].lower() == text.lower()), None)
            if known:
                known["score"] += float(score)
            else:
                answers.append({"score": float(score), "start": begin, "end": stop, "answer": text})
    if options.get("handle_impossible_answer"):
        answers.append({"score": nothing, "start": 0, "end": 0, "answer": ""})
    answers = sorted(answers, key=lambda answer: answer["score"], reverse=True)[:top_k]
    return answers[0] if len(answers) == 1 else answers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 4},
        {"max_answer_len": 2, "top_k": 3},
        {"align_to_words": False, "top_k": 3},
        {"handle_impossible_answer": True, "top_k": 9},
        {"max_seq_len": 24, "doc_stride": 6, "top_k": 5},
        {"max_seq_len": 30, "handle_impossible_answer": True},
    ],
)
def test_answers_equal_those_of_version_four(saved: Make, questions: Any, options: Any) -> None:
    folder = saved("BertForQuestionAnswering")
    for context in (*CONTEXTS, "unaffable Words, and a film"):
        wanted = version_four(folder, QUESTION, context, **options)
        found = questions(question=QUESTION, context=context, **options)
        assert same(found, wanted), (found, wanted)
        for answer in found if isinstance(found, list) else [found]:
            assert context[answer["start"] : answer["end"]] == answer["answer"]


def test_all_ways_to_ask(questions: Any, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = ({"question": q, "context": CONTEXTS[0]} for q in (QUESTION, "a book"))
    single, other = questions(one), questions(two)
    assert set(single) == {"score", "start", "end", "answer"}
    assert same(questions(question=QUESTION, context=CONTEXTS[0]), single)
    assert same(questions(QUESTION, CONTEXTS[0]), single)
    assert same(questions([one]), single)
    for asked in (
        questions([one, two]),
        questions(one, two),
        questions(data=[one, two]),
        questions(question=[QUESTION, "a book"], context=CONTEXTS[0]),
        questions(question=[QUESTION, "a book"], context=[CONTEXTS[0]] * 2),
        questions({"question": [QUESTION, "a book"], "context": CONTEXTS[0]}),
        list(questions(each for each in (one, two))),
    ):
        assert same(asked, [single, other])
    assert same(questions(one, topk=2), questions(one, top_k=2))
    assert same(questions({**one, "id": "7"}), single)
    assert same(questions(one, padding="max_length", max_question_len=64), single)
    assert "max_question_len=64 changes nothing here" in capsys.readouterr().err


def test_questions_from_the_left(questions: Any) -> None:
    """A tokenizer that pads on the left has the context first, as in the peer."""
    questions.tokenizer.padding_side = "left"
    try:
        found = questions(QUESTION, CONTEXTS[1], top_k=30)
    finally:
        questions.tokenizer.padding_side = "right"
    assert {a["answer"] for a in found} >= {"the film .", "film"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"question": "", "context": "x"}, "its question is empty"),
        ({"question": "x", "context": None}, "its context is a NoneType"),
        ({"question": ["a", "b"], "context": ["c"]}, "2 questions and 1 contexts"),
        ({}, "no question with its context"),
        ({"question": "x", "context": "y", "top_k": 0}, "top_k is 0"),
        ({"question": "x", "context": "y", "max_seq_len": 20, "doc_stride": 20}, "cannot be"),
        ({"question": "x", "context": "y", "max_answer_length": 3}, "use max_answer_len"),
    ],
)
def test_questions_that_are_none(questions: Any, asked: Any, words: str) -> None:
    with pytest.raises(BertoltError, match=words):
        questions(**asked)


# ---- opening ----


def test_a_model_and_its_tokenizer(saved: Make, tmp_path: Path) -> None:
    folder = saved("BertForSequenceClassification", num_labels=3)
    model = bertolt.AutoModelForSequenceClassification.from_pretrained(folder, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours = pipeline(model=model, tokenizer=tokenizer, device=-1)
    assert isinstance(ours, bertolt.TextClassificationPipeline)
    before = ours(TEXTS)
    assert same(before, pipeline("text-classification", folder)(TEXTS))
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(2.0)
    assert not same(ours(TEXTS), before)  # it answers with the weights of now
    ours.save_pretrained(tmp_path)
    again = pipeline("text-classification", str(tmp_path), tokenizer=str(folder))
    assert same(again(TEXTS), ours(TEXTS))
    assert again.predict(TEXTS) == again(TEXTS)
    assert again.device == torch.device("cpu")


def test_a_pipeline_answers_in_evaluation_mode(saved: Make) -> None:
    folder = saved("BertForSequenceClassification", num_labels=3)
    model = bertolt.AutoModelForSequenceClassification.from_pretrained(folder, verbose=False)
    ours = pipeline(
        "sentiment-analysis", model.train(), None, AutoTokenizer.from_pretrained(folder)
    )
    assert ours(TEXTS) == ours(TEXTS)
    assert model.training


def test_arguments_of_the_peer(saved: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved("BertForSequenceClassification", num_labels=3)
    ours = pipeline(
        "text-classification",
        model=folder,
        tokenizer=folder,
        config=folder,
        use_fast=True,
        framework="pt",
        torch_dtype=torch.float32,
        device_map="auto",
        token=None,
        model_kwargs={"num_labels": 3},
        num_workers=2,
    )
    said = capsys.readouterr().err
    for name in ("use_fast", "framework", "num_workers"):
        assert f"{name}=" in said
    assert ours("a film")


def test_what_cannot_be_opened(saved: Make, tiny_folder: Path) -> None:
    folder = saved("BertForSequenceClassification", num_labels=3)
    encoder = bertolt.AutoModel.from_pretrained(tiny_folder, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for arguments, error, words in (
        (("translation", folder), UsageError, "no pipeline for 'translation'"),
        (("fill-maks", folder), UsageError, "did you mean 'fill-mask'"),
        (("ner",), UsageError, "got no model"),
        ((None, folder), UsageError, "got no task"),
        (("text-classification", encoder), UsageError, "without its tokenizer"),
        (("text-classification", encoder, None, tokenizer), UsageError, "another head"),
        (("text-classification", tiny_folder), CheckpointError, "never"),
    ):
        with pytest.raises(error, match=words):
            pipeline(*arguments)
    for options, words in (
        ({"device": "nowhere"}, "device is 'nowhere'"),
        ({"image_processor": "x"}, "takes no image_processor"),
        ({"tok_k": 3}, "takes no argument 'tok_k'.*\n.*top_k"),
        ({"top_k": 0}, "top_k is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"function_to_apply": "tanh"}, "is not known"),
    ):
        with pytest.raises(UsageError, match=words):
            pipeline("text-classification", folder, **options)
    with pytest.raises(UsageError, match="'a', 'b'"):
        pipeline("ner", saved("BertForTokenClassification", num_labels=3))("x", a=1, b=2)


def test_texts_that_are_too_long(saved: Make) -> None:
    ours = pipeline("text-classification", saved("BertForSequenceClassification", num_labels=3))
    warnings.filterwarnings("ignore", message="a text has 282 tokens")
    with pytest.raises(UsageError, match="text 1: it has 282 tokens, and the model takes 160"):
        ours(["a film", "a film " * 140])
    with pytest.warns(UserWarning, match="lost 122"):
        assert ours("a film " * 140, truncation=True, max_length=160)
    with pytest.raises(DataError, match="text 1: a int is no text"):
        ours(["a film", 7])
    with pytest.raises(DataError, match="a list is no text"):
        ours([["a", "b"]])


def test_a_model_that_was_trained_here_answers_as_its_predictor(tuned: Path) -> None:
    texts = ["a great film", "a dull story and a bad plot", "the cast was lovely"]
    predictor = bertolt.Predictor.from_pretrained(tuned, precision="fp32")
    for found, wanted in zip(
        pipeline("text-classification", tuned, top_k=None)(texts),
        predictor.predict(texts),
        strict=True,
    ):
        assert found[0]["label"] == wanted.label
        shares = {label["label"]: label["score"] for label in found}
        assert shares[wanted.label] == pytest.approx(max(shares.values()))
        assert same(shares[wanted.label], wanted.answer["probability"])


def test_weights_of_half_the_size(saved: Make) -> None:
    """Their answers are near those of float32, and plain numbers."""
    folder = saved("BertForSequenceClassification", num_labels=3)
    exact = pipeline("text-classification", folder, top_k=None)(TEXTS[0])
    half = pipeline("text-classification", folder, top_k=None, dtype="bfloat16")
    assert next(half.model.parameters()).dtype == torch.bfloat16
    near = {label["label"]: label["score"] for label in half(TEXTS[0])[0]}
    for label in exact[0]:
        assert near[label["label"]] == pytest.approx(label["score"], abs=0.05)
