"""Masks filled, and hidden tokens found again: as the peer has them, and by hand."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bertolt import BertForMaskedLM, BertForPreTraining, DataCollatorForLanguageModeling, Predictor
from bertolt import pipeline as our_pipeline
from bertolt.base.errors import DataError
from bertolt.commands.evaluate import evaluate_file
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.data.batch import IGNORE_INDEX
from bertolt.tasks.answers import difference
from bertolt.tasks.base import Output
from bertolt.tasks.evaluation import of_labelled
from bertolt.tasks.fill_mask import FillMask
from bertolt.tasks.masks import Vocabulary
from bertolt.tasks.scorers.masks import MaskScorer
from tests.running import Said

Run = Callable[..., Said]
TEXTS = [
    "the Film was [MASK] and the cast is moving.",
    "a [MASK] book [MASK]",
    "[MASK] , but the plot of the film was not [MASK] in the end",
]


@pytest.fixture(scope="module")
def folders(
    tiny_config: Any, tiny_tokenizer: Any, randomised: Any, tmp_path_factory: Any
) -> dict[str, Path]:
    """Folders with random weights, by the class that wrote them."""
    written = {}
    for kind in (BertForMaskedLM, BertForPreTraining):
        folder = written[kind.__name__] = tmp_path_factory.mktemp(kind.__name__)
        config = tiny_config(max_position_embeddings=64)
        randomised(kind(config), std=0.25).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
    return written


@pytest.fixture(scope="module")
def predictor(folders: dict[str, Path]) -> Predictor:
    return Predictor.from_pretrained(folders["BertForMaskedLM"], precision="fp32")


def answers(predictor: Predictor, texts: list[str]) -> list[dict[str, Any]]:
    return [prediction.answer for prediction in predictor.predict(texts)]


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForPreTraining", "roberta"])
def test_masks_are_filled_as_the_peer_fills_them(
    kind: str, folders: dict[str, Path], roberta_folder: Path
) -> None:
    """Ids, tokens, probabilities and, but for case and spaces, the texts."""
    folder = roberta_folder if kind == "roberta" else folders[kind]
    predictor = Predictor.from_pretrained(folder, precision="fp32")
    texts = [text.replace("[MASK]", predictor.tokenizer.mask_token) for text in TEXTS]
    peer = transformers.pipeline("fill-mask", model=str(folder), device="cpu")
    if kind == "BertForPreTraining":
        peer.model = transformers.BertForMaskedLM.from_pretrained(folder)
    assert predictor.task == FillMask()
    for text, answer in zip(texts, answers(predictor, texts), strict=True):
        expected = peer(text)
        several = isinstance(expected[0], list)
        for mask, best in zip(answer["masks"], expected if several else [expected], strict=True):
            assert text[mask["start"] : mask["end"]] == predictor.tokenizer.mask_token
            for ours, theirs in zip(mask["best"], best, strict=True):
                assert (ours["id"], ours["token"]) == (theirs["token"], theirs["token_str"])
                assert ours["probability"] == pytest.approx(theirs["score"], abs=2e-5)
                assert several or plain(ours["text"]) == plain(theirs["sequence"])
        assert predictor.tokenizer.mask_token not in answer["filled"]


def plain(text: str) -> str:
    """A text without case, spaces and special tokens, which the peer leaves out."""
    for token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"):
        text = text.replace(token, "")
    return "".join(text.lower().split())


@pytest.mark.parametrize(
    ("before", "after", "token", "filled"),
    [
        ("the ", " was", "good", "the good was"),
        ("the fil ", " was", "##m", "the film was"),
        ("the", ".", "##e", "thee."),
        ("", " film", "the", "the film"),
        ("The Café — ", "!", "not", "The Café — not!"),
    ],
)
def test_a_filled_text_keeps_the_letters_around_the_mask(
    before: str, after: str, token: str, filled: str, tiny_tokenizer: Any
) -> None:
    text, words = f"{before}[MASK]{after}", Vocabulary(tiny_tokenizer)
    start = len(before)
    token_id = tiny_tokenizer.convert_tokens_to_ids(token)
    assert words.fill(text, start, start + 6, token_id) == filled


def test_a_long_text_has_every_mask_once(predictor: Predictor) -> None:
    text = " ".join(["the good [MASK] was dull ,"] * 40)
    (whole,) = predictor.predict([text])
    assert whole.tokens == 40 * 6 + 2
    assert whole.tokens_cut == 0
    starts = [mask["start"] for mask in whole.answer["masks"]]
    assert starts == [place for place in range(len(text)) if text.startswith("[MASK]", place)]
    assert "[MASK]" not in whole.answer["filled"]
    short = "the good [MASK] was dull"
    beside, alone = answers(predictor, [short, text])[0], answers(predictor, [short])[0]
    assert difference(beside, alone) < 1e-5


@pytest.mark.parametrize(
    ("asked", "problem", "fix"),
    [
        ("good film", r"has no \[MASK\]", "'the capital is [MASK].'"),
        ("a <mask> film", r"has no \[MASK\]", "write [MASK] in place of <mask>"),
        (("a [MASK]", "film"), "pair", "give one text"),
    ],
)
def test_what_has_no_mask_is_refused(
    asked: Any, problem: str, fix: str, predictor: Predictor
) -> None:
    with pytest.raises(DataError, match=problem) as refused:
        answers(predictor, ["a [MASK]", asked] if isinstance(asked, str) else [asked])
    assert refused.value.place.startswith("text ")
    assert fix in refused.value.fix


def test_commands_refuse_and_pass_over_texts_without_a_mask(
    bertolt: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["BertForMaskedLM"]
    lines = tmp_path / "lines.txt"
    lines.write_text("a [MASK]\n\nfilm\n", encoding="utf-8")
    for words, stdin, place in (
        (["--text", "film"], b"", "--text 1: "),
        (["-"], b"a [MASK]\nfilm\n", "standard input, line 2: "),
        ([lines], b"", f"{lines}, row 2 (line 3): "),
    ):
        said = bertolt("predict", folder, *words, stdin=stdin)
        assert said.code == 2
        assert f"{place}the text has no [MASK]" in said.err
        assert "put [MASK] in place of a word" in said.err
    said = bertolt("predict", folder, lines, "--on-bad-row", "answer-all")
    first, second = map(json.loads, said.out.splitlines())
    assert first["filled"] == first["masks"][0]["best"][0]["text"]
    assert (second["text"], second["reason"]) == ("film", "text without [MASK]")
    out = tmp_path / "answers.parquet"
    assert bertolt("predict", folder, lines, "--on-bad-row", "drop", "--out", out).code == 0


def test_hidden_tokens_are_scored_as_by_the_peer(folders: dict[str, Path], tmp_path: Path) -> None:
    """Loss and accuracy of the very tokens that are hidden, by the peer's model on padded rows."""
    folder = folders["BertForMaskedLM"]
    texts = [f"{'the good film was very dull and it is warm , ' * n}{n}" for n in (1, 2, 3, 4) * 9]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": 1}) + "\n" for text in texts))
    options = EvaluateOptions(sample="all", precision="fp32", by="length")
    scores = evaluate_file(str(folder), path, options)
    values = json.loads(json.dumps(scores.to_dict()))

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    peer = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    ours = Predictor.from_pretrained(folder).tokenizer
    hide = DataCollatorForLanguageModeling(ours, mlm_probability=0.15, seed=0)
    batch = hide([{"input_ids": ids} for ids in tokenizer(texts)["input_ids"]])
    with torch.inference_mode():
        output = peer(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
        )
    hidden = batch["labels"] != IGNORE_INDEX
    best = output.logits[hidden].topk(5).indices == batch["labels"][hidden][:, None]
    assert values["hidden_tokens"] == int(hidden.sum())
    assert values["loss"] == pytest.approx(float(output.loss), abs=1e-5)
    assert values["perplexity"] == pytest.approx(math.exp(output.loss), rel=1e-4)
    assert values["accuracy"] == pytest.approx(float(best[:, 0].float().mean()))
    assert values["top_5_accuracy"] == pytest.approx(float(best.any(1).float().mean()))
    assert scores.loss == pytest.approx(scores.scorer.values()["loss"], abs=1e-6)
    parts = values["slices"]["length"].values()
    assert sum(part["hidden_tokens"] for part in parts) == values["hidden_tokens"]

    nats, count = 0.0, 0
    for text in texts[:4]:
        (ids,) = tokenizer(text, return_tensors="pt")["input_ids"]
        for place in range(1, len(ids) - 1):
            masked = ids.clone()
            masked[place] = tokenizer.mask_token_id
            with torch.inference_mode():
                logits = peer(input_ids=masked[None]).logits[0, place]
            nats -= float(logits.log_softmax(-1)[ids[place]])
            count += 1
    assert values["pseudo_rows"] == 36
    assert values["pseudo_tokens"] == 9 * count
    assert values["pseudo_perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert values["pseudo_log_likelihood"] == pytest.approx(-9 * nats, rel=1e-5)


def test_each_token_of_a_long_text_is_masked_once(
    bertolt: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    """In windows too; unknown words count, and masks that stand in the text do not."""
    path = tmp_path / "texts.txt"
    path.write_text(f"{'the good film ' * 60}\nthe [MASK] ♞ film\n\n", encoding="utf-8")
    folder = folders["BertForPreTraining"]
    said = bertolt("evaluate", folder, path, "--json", "--precision", "fp32")
    values = json.loads(said.out)
    assert values["pseudo_tokens"] == 60 * 3 + 3
    assert (values["rows"], values["pseudo_rows"]) == (2, 2)
    some = bertolt("evaluate", folder, path, "--sample", "1", "--precision", "fp32")
    assert "in 1 row of 2, drawn by seed 0: --sample all takes each" in some.out
    assert "15% of the tokens, chosen by seed 0" in some.out
    again = bertolt("evaluate", folder, path, "--json", "--precision", "fp32")
    assert again.out == said.out


def test_what_evaluate_refuses(bertolt: Run, folders: dict[str, Path], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "good film", "more": "x"}\n', encoding="utf-8")
    for words, said in (
        (["--label", "more"], "'more' is another"),
        (["--text-pair", "more"], "'more' is another"),
        (["--sample", "0"], "1 or more, or all"),
    ):
        refused = bertolt("evaluate", folders["BertForMaskedLM"], rows, *words)
        assert refused.code == 2
        assert said in refused.err


def test_finetune_names_the_commands_that_teach_it(
    bertolt: Run, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And these commands teach it: the result fills masks."""
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("the good film was dull .\n\n" * 30, encoding="utf-8")
    model = folders["BertForMaskedLM"]
    refused = bertolt("finetune", "FILE", "--task", "fill-mask", "--model", model)
    assert refused.code == 2
    fix = refused.err.partition("fix: ")[2].strip()
    prepare, _, pretrain = fix.replace("MODEL", str(model)).partition(" && ")
    shorter = ["--max-length", "32", "--held-out", "0.1"]
    assert bertolt(*prepare.split()[1:], *shorter).code == 0
    steps = ["--steps", "2", "--batch-tokens", "256", "--out", "taught"]
    assert bertolt(*pretrain.split()[1:], *steps).code == 0
    assert json.loads(bertolt("predict", "taught", "--text", "the [MASK]").out)["masks"]


def test_no_hidden_token_is_no_score() -> None:
    scorer = MaskScorer(0.15, 0)
    assert scorer.score_of_each(np.array([[0.0, 0.0], [3.0, 2.0]])).tolist() == [0.0, 1.5]
    assert scorer.add({"masks": []}, {"text": "a"}) == 0.0
    assert scorer.values()["loss"] is scorer.values()["accuracy"] is None
    (line,) = scorer.lines(0.0)
    assert line.startswith("n/a: of 1 row no token was hidden")
    assert scorer.explain()["headline"]["value"] is None


def test_losses_over_other_tokens_are_not_held_against_each_other() -> None:
    def over(*tokens: str) -> FillMask:
        ids = {token: place for place, token in enumerate(tokens)}
        vocabulary: Any = SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=lambda: ids))
        return FillMask(vocabulary=vocabulary)

    one, same, two = over("a", "b"), over("a", "b"), over("a", "c")
    assert one.unlike(same) == ""
    assert "its tokens are others" in one.unlike(two)


def test_a_perfect_model_has_no_loss_and_parts_merge(
    predictor: Predictor, tiny_tokenizer: Any
) -> None:
    """Perfect outputs decoded and scored; the scores of parts are those of all."""
    labels = torch.arange(20, 40)
    logits = torch.nn.functional.one_hot(labels, len(tiny_tokenizer)) * 60.0
    kept = predictor.task.activate_labelled(logits, labels)
    known = torch.stack([torch.arange(20), labels], dim=-1).double()
    rows = torch.cat([known, kept], dim=-1).numpy()
    places = np.stack([np.arange(20), np.arange(1, 21)], axis=1).astype(np.int32)
    example = {"text": "x" * 20}
    scorers = [predictor.task.scorer() for _ in range(3)]
    for part, scorer in zip((rows[:7], rows[7:]), scorers, strict=False):
        answer = predictor.task.decode(Output([part], [places]), example)
        assert scorer.add(answer, example) == pytest.approx(0.0, abs=1e-12)
        json.dumps(answer, allow_nan=False)
    for scorer in scorers[:2]:
        scorers[2].merge(scorer.state())
    values = scorers[2].values()
    assert values["loss"] == pytest.approx(0.0, abs=1e-12)
    assert values["accuracy"] == values["top_5_accuracy"] == values["perplexity"] == 1.0
    assert (values["hidden_tokens"], values["rows"]) == (20, 2)


def test_packing_copies_and_the_pipeline_agree(predictor: Predictor) -> None:
    """Answers do not depend on neighbours, nor on whether a copy gives them."""
    together = answers(predictor, TEXTS)
    apart = [answers(predictor, [text])[0] for text in TEXTS]
    copied = answers(copy.copy(predictor), TEXTS)
    filled = our_pipeline("fill-mask", predictor.model, tokenizer=predictor.tokenizer)(TEXTS)
    for one, other, third, listed in zip(together, apart, copied, filled, strict=True):
        several = listed if isinstance(listed[0], list) else [listed]
        pairs = zip(one["masks"], other["masks"], third["masks"], several, strict=True)
        for each in pairs:
            ids = [[best["id"] for best in mask["best"]] for mask in each[:3]]
            assert ids[0] == ids[1] == ids[2] == [best["token"] for best in each[3]]
    model = Predictor(predictor.model, predictor.tokenizer, precision="fp32")
    assert answers(model, TEXTS) == together


def test_outputs_of_all_tokens_are_parted_too() -> None:
    """A forward of one's own may answer every token."""
    batch: Any = SimpleNamespace(
        labelled_rows=torch.tensor([1, 2, 4]), cu_seqlens=torch.tensor([0, 3, 4, 6])
    )
    everything = torch.arange(6.0)
    chosen, rows, counts = of_labelled(everything, batch)
    assert chosen.tolist() == rows.tolist() == [1, 2, 4]
    assert counts == [2, 0, 1]
    assert of_labelled(everything[:3], batch)[0].tolist() == [0, 1, 2]
