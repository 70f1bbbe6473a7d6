"""Long texts that are compared: vectors of texts in several windows, and scores of such choices."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import BertForMultipleChoice, BertTokenizer, Predictor, TrainingArguments
from bertolt.base.distributed import ALONE
from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.data.batch import PackedBatch
from bertolt.data.collate import PackingCollator
from bertolt.data.documents import SampledWindows
from bertolt.data.encode import EncodedTexts
from bertolt.data.long import LongTexts
from bertolt.data.parted import long_pairs, long_texts
from bertolt.data.parts import split, split_windows
from bertolt.models.engine import GraphEngine
from bertolt.models.heads import SentenceEncoder
from bertolt.models.precision import FP32
from bertolt.serve.app import _account
from bertolt.serve.embeddings import encoded_ids
from bertolt.serve.limits import Limits
from bertolt.serve.queue import in_arrays
from bertolt.tasks import long
from bertolt.tasks.base import Reading, Task
from bertolt.tasks.criterion import LossChoices
from bertolt.tasks.evaluation import TaskRows, evaluate
from bertolt.tasks.multiple_choice import MultipleChoice
from bertolt.tasks.rows import Columns, encode_rows, read_for_task
from bertolt.tasks.sentence_similarity import SentenceSimilarity
from bertolt.train.competing import competing_passes

LIMIT = 12
WINDOW = LongTexts(how="window", stride=2)
WORDS = ["good", "bad", "the", "film", "was", "dull", "fresh", "plot", "warm", "cold"]
SHORT = ["good film", "the plot was dull", "cold"]
LONG = ["good bad the film was dull fresh plot warm cold " * 3, "warm " * 17 + "plot"]


def texts(count: int, seed: int = 0, most: int = 40) -> list[str]:
    choose = np.random.default_rng(seed)
    return [" ".join(choose.choice(WORDS, size)) for size in choose.integers(1, most, count)]


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(kind: str, count: int = 9) -> list[dict[str, Any]]:
    first, second, third = (texts(count, seed) for seed in range(3))
    if kind == "choices":
        right = [number % 2 for number in range(count)]
        return [
            {"question": q, "choices": [a, b, "cold plot"][: 2 + n % 2], "answer": r}
            for n, (q, a, b, r) in enumerate(zip(first, second, third, right, strict=True))
        ]
    if kind == "scores":
        return [
            {"sentence1": a, "sentence2": b, "score": n % 5}
            for n, (a, b) in enumerate(zip(first, second, strict=True))
        ]
    triplets = zip(first, second, third, strict=True)
    return [{"anchor": a, "positive": b, "negative": c} for a, b, c in triplets]


@pytest.fixture
def learned(
    tmp_path: Path, tiny_config: Any, tiny_tokenizer: Any, randomised: Any
) -> Callable[..., tuple[Task, TaskRows, Any]]:
    def make(kind: str, **changes: Any) -> tuple[Task, TaskRows, Any]:
        name = {"choices": MultipleChoice}.get(kind, SentenceSimilarity).name
        table, of = read_for_task(written(tmp_path, rows_of(kind)), Columns(), task=name)
        everything = np.arange(len(table))
        task = of.infer(table, everything, Reading())
        rows, _ = encode_rows(task, table, everything, tiny_tokenizer, LIMIT, WINDOW)
        config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model = randomised(task.head(config, **changes), std=0.3).eval()
        if kind != "choices":
            model.criterion = task.criterion(LossChoices(), rows.encoded.labels)
        return task, rows, model

    return make


def asked(model: Any, tokenizer: Any, task: Task, how: LongTexts) -> Predictor:
    predictor = Predictor(model, tokenizer, task=task, precision="fp32")
    predictor.max_length, predictor.long = LIMIT, how
    return predictor


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_vector_is_that_of_all_windows_by_the_peers_encoder(
    tmp_path: Path,
    tiny_config: Any,
    tiny_tokenizer: Any,
    randomised: Any,
    pooling: Any,
    normalized: bool,
) -> None:
    peer = pytest.importorskip("transformers")
    model = randomised(SentenceEncoder(tiny_config(), pooling, normalized), std=0.3)
    model.save_pretrained(tmp_path)
    encoder = peer.BertModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    predictor = asked(model, tiny_tokenizer, SentenceSimilarity(), WINDOW)
    predictions = list(predictor.predict([*SHORT, *LONG]))
    ids = tiny_tokenizer.encode_ids([*SHORT, *LONG])
    for prediction, example in zip(predictions, long_texts(ids, LIMIT, WINDOW), strict=True):
        with torch.no_grad():
            states = [
                encoder(torch.tensor([list(window.ids)])).last_hidden_state[0]
                for window in example.windows
            ]
        parts = torch.cat(states) if pooling == "mean" else torch.stack([s[0] for s in states])
        vector = parts.mean(dim=0)
        vector = torch.nn.functional.normalize(vector, dim=0) if normalized else vector
        np.testing.assert_allclose(prediction.vector, vector.numpy(), atol=2e-5)
        assert prediction.windows == len(example.windows)
        assert prediction.tokens_cut == 0
    assert [p.parted for p in predictions] == [False] * 3 + [True] * 2
    assert predictions[3].windows > 2


def test_a_choice_has_the_mean_of_its_windows_by_the_peers_model(
    tmp_path: Path, tiny_config: Any, tiny_tokenizer: Any, randomised: Any
) -> None:
    peer = pytest.importorskip("transformers")
    model = randomised(BertForMultipleChoice(tiny_config()), std=0.3)
    model.save_pretrained(tmp_path)
    theirs = peer.BertForMultipleChoice.from_pretrained(tmp_path, attn_implementation="eager")
    theirs.eval()
    predictor = asked(model, tiny_tokenizer, MultipleChoice(), WINDOW)
    choices = ["bad plot", "warm and fresh and good", "cold"]
    frame = tiny_tokenizer.pair_frame()
    for text in [SHORT[0], *LONG]:
        (prediction,) = predictor.predict([{"text": text, "text_pair": choices}])
        first, *seconds = tiny_tokenizer.encode_ids([text, *choices])
        pairs = long_pairs([first] * 3, seconds, frame, LIMIT, WINDOW)
        scores = []
        for pair in pairs:
            with torch.no_grad():
                logits = [
                    theirs(
                        torch.tensor([[list(window.ids)]]),
                        token_type_ids=torch.tensor([[list(window.segments or ())]]),
                    ).logits.item()
                    for window in pair.windows
                ]
            scores.append(sum(logits) / len(logits))
        expected = torch.tensor(scores).softmax(0)
        np.testing.assert_allclose(prediction.probabilities, expected.numpy(), atol=2e-5)
    assert prediction.parted
    assert prediction.windows > 3


@pytest.mark.parametrize("kind", ["scores", "choices"])
def test_one_window_has_the_bits_of_a_text_that_is_cut(
    learned: Any, tiny_tokenizer: Any, kind: str
) -> None:
    """Beside longer texts, too, whose windows are put together."""
    task, rows, model = learned(kind)
    examples = rows.examples(range(len(rows)))
    given = [{role: row[role] for role in ("text", "text_pair")} for row in examples]
    for text in SHORT:
        pair = "bad" if kind == "scores" else ["bad", "warm plot"]
        given.append({"text": text, "text_pair": pair})
    window, cut = (
        list(asked(model, tiny_tokenizer, task, how).predict(given))
        for how in (WINDOW, LongTexts(how="truncate"))
    )
    short = [n for n, each in enumerate(window) if not each.parted and not each.tokens_cut]
    assert 0 < len(short) < len(given)
    alone = [given[number] for number in short]
    again = list(asked(model, tiny_tokenizer, task, WINDOW).predict(alone))
    usual = list(asked(model, tiny_tokenizer, task, LongTexts(how="truncate")).predict(alone))
    assert [each.answer for each in again] == [each.answer for each in usual], "to the last bit"
    for number in short:
        ours, theirs = (task.public(each[number].answer) for each in (window, cut))
        assert task.differs(ours, theirs) == ""


@pytest.mark.parametrize("kind", ["scores", "choices"])
def test_rows_are_learned_as_they_are_scored(learned: Any, kind: str) -> None:
    task, rows, model = learned(kind)
    encoded = rows.encoded
    assert encoded.documents
    assert encoded.joint
    assert len(encoded) == len(rows) < rows.to_answer
    batch = PackingCollator()([encoded[number] for number in range(len(encoded))])
    assert batch.num_examples == len(rows)
    assert batch.num_sequences == rows.to_answer > batch.num_documents
    with torch.no_grad():
        loss = float(model(batch).loss)
    assert evaluate(model, task, rows, precision=FP32).loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("kind", ["scores", "choices"])
def test_portions_make_the_step_of_one_batch(learned: Any, kind: str, same_gradients: Any) -> None:
    _, rows, model = learned(kind)
    sampled = SampledWindows(rows.encoded, 2, seed=1)
    numbers = list(range(len(rows)))
    portions = list(sampled.portions(numbers, 2))
    assert len(portions) > 2
    assert [number for part in portions for number in part] == numbers
    documents = 3 if kind == "choices" else 2
    whole = _gradients(model, sampled, [numbers])
    parts = _gradients(model, sampled, portions)
    for part in portions:
        batch = PackingCollator()([sampled[number] for number in part])
        assert batch.num_sequences <= 2 * documents or len(part) == 1
    _same(parts, whole)


def _gradients(model: Any, rows: Any, parts: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for part in parts:
        batch = PackingCollator()([rows[number] for number in part])
        model(replace(batch, loss_counts={"labels": len(rows)})).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    largest = max(float(value.norm()) for value in theirs.values())
    assert largest > 0
    for name, value in theirs.items():
        assert float((ours[name] - value).norm()) <= 1e-4 * float(value.norm()) + 1e-6 * largest


@pytest.mark.parametrize("micro_batch", [None, 1, 4])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_cached_gradients_are_those_of_the_whole_batch(
    learned: Any, pooling: str, micro_batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no pass has more windows than it would have texts, however long they are."""
    _, rows, model = learned("triplets", pooling=pooling)
    model.train()
    sampled = SampledWindows(rows.encoded, 3, seed=1, whole=True)
    assert list(sampled.portions(range(9), 2)) == [range(9)], "rows compete within a whole batch"
    whole = _gradients(model, sampled, [range(9)])
    model.zero_grad()
    model.micro_batch = micro_batch
    passes = competing_passes(model, TrainingArguments(), FP32, ALONE)
    assert passes is not None
    seen: list[int] = []
    run = type(model).run
    monkeypatch.setattr(
        type(model), "run", lambda *given: seen.append(given[1].num_sequences) or run(*given)
    )
    batch = PackingCollator()([sampled[number] for number in range(9)])
    passes(replace(batch, loss_counts={"labels": 9}))
    ours = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    _same(ours, whole)
    assert len(seen) > 2
    assert max(seen) <= max(3 * (micro_batch or 9), int(sampled.counts.max()))


@pytest.mark.parametrize("kind", ["triplets", "choices"])
def test_parts_that_fit_into_memory_are_whole_examples(learned: Any, kind: str) -> None:
    _, rows, _ = learned(kind)
    whole = PackingCollator()([rows.encoded[number] for number in range(len(rows))])
    for parts in (split(whole, 60), split_windows(whole, 8)):
        assert len(parts) > 2
        assert sum(part.num_examples for part in parts) == whole.num_examples
        assert sum(part.num_documents for part in parts) == whole.num_documents
        tokens = torch.cat([part.input_ids[: part.num_tokens] for part in parts])
        assert torch.equal(tokens, whole.input_ids[: whole.num_tokens])
        lengths = torch.cat([part.example_starts.diff() for part in parts])
        assert torch.equal(lengths, whole.example_starts.diff())
        windows = torch.cat(
            [
                torch.ones(part.num_documents, dtype=torch.long)
                if part.document_starts is None
                else part.document_starts.diff()
                for part in parts
            ]
        )
        assert whole.document_starts is not None
        assert torch.equal(windows, whole.document_starts.diff())
    assert all(part.num_sequences <= 8 or part.num_examples == 1 for part in parts)
    assert all(part.num_tokens <= 60 or part.num_examples == 1 for part in split(whole, 60))


def test_the_windows_of_an_epoch(learned: Any) -> None:
    """So many of each text at most, and of choices in as many windows the same ones."""
    _, rows, _ = learned("choices")
    encoded = rows.encoded
    sampled = SampledWindows(encoded, 2, seed=0)
    drawn = set()
    for epoch in range(6):
        sampled.set_epoch(epoch)
        for number in range(len(rows)):
            row, documents = sampled[number], encoded.documents_of(number)
            counts = row["document_windows"]
            assert counts == [min(2, len(windows)) for windows in documents]
            assert len(row["input_ids"]) == len(row["token_type_ids"]) == sum(counts)
            assert sampled.counts[number] == sum(counts)
            read = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
            places: dict[int, list[int]] = {}
            for windows, own in zip(documents, read, strict=True):
                ids = [row["input_ids"][place].tolist() for place in own]
                all_ids = [
                    encoded.ids[slice(*encoded.offsets[w : w + 2])].tolist() for w in windows
                ]
                chosen = [all_ids.index(each) for each in ids]
                assert places.setdefault(len(windows), chosen) == chosen
                drawn.add((len(windows), *chosen))
    assert len(drawn) > 6


def test_a_subset_of_rows_keeps_its_documents(learned: Any) -> None:
    _, rows, _ = learned("triplets")
    encoded: EncodedTexts = rows.encoded
    order = np.array([4, 0, 7])
    some = encoded.at(order)
    for place, number in enumerate(order.tolist()):
        assert some[place]["document_windows"] == encoded[number]["document_windows"]
        assert [ids.tolist() for ids in some[place]["input_ids"]] == [
            ids.tolist() for ids in encoded[number]["input_ids"]
        ]
    assert some.parted.tolist() == encoded.parted[order].tolist()
    account = encoded.account
    assert account.texts_parted == encoded.parted.sum() > 0
    assert f"of 9 rows have texts that are longer than {LIMIT} tokens and read in" in str(account)


def test_a_server_answers_the_same(learned: Any, tiny_tokenizer: Any) -> None:
    """From tokens that have waited in a queue, in one call or several."""
    task, _, model = learned("scores")
    predictor = asked(model, tiny_tokenizer, task, WINDOW).asked_in(True)
    pairs = list(zip(LONG * 2, [*SHORT, "bad"], strict=True))
    expected = [each.answer for each in predictor.predict(pairs)]
    examples, encoded = predictor.encode(pairs)
    waiting = [in_arrays(each) for each in encoded]
    together: list[Any] = list(predictor.answer(examples, waiting))
    assert [each.answer for each in together] == expected
    assert [_account(each)["windows"] for each in together] == [each.windows for each in together]
    assert min(each.windows for each in together) > 2
    (short,) = predictor.predict([("good", "bad")])
    assert (short.windows, _account(short)["windows"]) == (2, 1), "each text is read in one"


def test_ids_that_a_client_sends_are_answered_beside_longer_texts(
    learned: Any, tiny_tokenizer: Any
) -> None:
    """Of two requests, in the batch that the queue makes of them."""
    task, _, model = learned("scores")
    predictor = asked(model, tiny_tokenizer, task, WINDOW).asked_in(False)
    expected = [each.answer for each in predictor.predict([*SHORT, *LONG])]
    ids = encoded_ids(predictor, tiny_tokenizer.encode_ids(SHORT), Limits())
    examples, encoded = predictor.encode(LONG)
    both = [in_arrays(each) for each in [*ids, *encoded]]
    together: list[Any] = list(predictor.answer([{"text": ""}] * 3 + list(examples), both))
    assert [each.answer for each in together] == expected


def test_what_rows_say_of_their_windows_has_to_fit() -> None:
    row = {"input_ids": [[1, 2, 3], [4, 5], [6, 7]], "document_windows": [2, 2]}
    with pytest.raises(DataError, match="row 0 of the batch has 3 lists"):
        PackingCollator()([row])
    with pytest.raises(DataError, match="row 0 of the batch has 0 lists"):
        PackingCollator()([{"input_ids": [1, 2, 3], "document_windows": [1]}])
    batch = PackingCollator()([{**row, "document_windows": [2, 1]}])
    assert (batch.num_sequences, batch.num_documents, batch.num_examples) == (3, 2, 1)
    with pytest.raises(DataError, match="no padded form"):
        batch.padded()
    plain = PackingCollator()([{**row, "document_windows": [1, 1, 1]}])
    assert plain.document_starts is None


def test_a_forward_of_ones_own_puts_no_windows_together(
    learned: Any, tiny_config: Any, tiny_tokenizer: Any
) -> None:
    class Own(SentenceEncoder):
        def forward(self, input_ids: Any = None, attention_mask: Any = None) -> Any:  # type: ignore[override]
            return super().forward(input_ids, attention_mask=attention_mask)

    predictor = asked(Own(tiny_config()), tiny_tokenizer, SentenceSimilarity(), WINDOW)
    with pytest.raises(UsageError, match="puts no windows of a text together"):
        list(predictor.predict(LONG))


@pytest.mark.parametrize(
    ("task", "answer"),
    [(SentenceSimilarity(), "mean of vectors"), (MultipleChoice(), "mean of logits")],
)
def test_the_contract_keeps_how_windows_answer(task: Task, answer: str) -> None:
    values = json.loads(json.dumps(long.kept(task, WINDOW)))
    assert values == {"how": "window", "stride": 2, "answer": answer}
    assert long.read(task, values, 64) == WINDOW


def test_graphs_give_what_windows_need(
    learned: Any, tiny_tokenizer: BertTokenizer, tiny_config: Any
) -> None:
    """What an older graph does not give is said before it answers, with what may be done."""
    _, _, model = learned("scores")
    batch = replace(PackedBatch.from_sequences([[1, 2, 3], [4, 5]]), windows_apart=True)
    vectors = torch.ones(2, 8)
    fields = {"sentence_embedding": vectors, "mean_embedding": 3 * vectors}
    assert torch.equal(model.read_graph(fields, batch).logits, 3 * vectors)
    assert torch.equal(
        model.read_graph(fields, replace(batch, windows_apart=False)).logits, vectors
    )
    for given, windows, words in (
        (("sentence_embedding",), True, "no mean_embedding, of which the answer to a text in sev"),
        (("mean_embedding",), False, "no sentence_embedding, of which answers are made"),
        (("sentence_embedding",), False, ""),
        (("sentence_embedding", "mean_embedding"), True, ""),
    ):
        graph = GraphEngine(model, "torch", ("input_ids",), given, lambda: lambda feed: {}, FP32)
        expected = pytest.raises(CheckpointError, match=words) if words else nullcontext()
        with expected:
            graph.require_outputs(windows=windows, place="here", fix="export it again")
