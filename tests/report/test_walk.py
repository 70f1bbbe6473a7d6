"""The walk: what it writes down is what ran, its page is whole and safe, its command refuses."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

import bertolt
from bertolt import BertForSequenceClassification, BertForTokenClassification, BertModel
from bertolt.base.errors import BertoltError, DataError
from bertolt.cli import main
from bertolt.commands.inspect import walk_text
from bertolt.report.walk import Walk, render_walk, walk_table, write_walk
from bertolt.report.walk.build import MOST_TOKENS, PADDING
from bertolt.tasks.predictor import Predictor
from tests.report.facts import Page

TEXT, PAIR = "the film was very good , but the end was dull", "it is a book"
VIEWS = {"narrow", "view", "transpose", "unbind"}
HOSTILE = "</script><script>alert('x')</script>\"&<!-- <b> \x1b[31m ‮ 电影 😀"

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Any, randomised: Any) -> Make:
    """Save a model of noise with the tiny vocabulary."""

    def make(kind: type[Any] = BertModel, *, vocabulary: Path, **changes: Any) -> Path:
        path = tmp_path_factory.mktemp("walk") / "model"
        config = tiny_config(architectures=[kind.__name__], **changes)
        randomised(kind(config)).save_pretrained(path)
        shutil.copy(vocabulary / "vocab.txt", path)
        return path

    return make


@pytest.fixture(scope="module")
def encoder(folder: Make, tiny_folder: Path) -> Path:
    """An encoder of noise."""
    return folder(vocabulary=tiny_folder)


@pytest.fixture(scope="module")
def walk(encoder: Path) -> Walk:
    """A pair, walked through it."""
    return walk_through(encoder, TEXT, PAIR)


def walk_through(folder: Path, text: str, pair: str | None = None) -> Walk:
    """The walk that the command shows."""
    return walk_text(str(folder), text, pair)


def run_steps(walk: Walk, model: BertModel) -> dict[str, Any]:
    """Run the code of every step as it stands on the page; all the names that they bind."""

    def row(values: list[int]) -> torch.Tensor:
        return torch.tensor([values])

    names: dict[str, Any] = {
        "torch": torch,
        "math": math,
        "embeddings": model.embeddings,
        "layer": model.encoder.layer[0],
        "input_ids": row([token.id for token in walk.tokens]),
        "token_type_ids": row([token.segment for token in walk.tokens]),
        "attention_mask": row([int(not token.padding) for token in walk.tokens]),
    }
    with torch.no_grad():
        for step in walk.steps:
            exec(step.code, names)
            outputs = [names[name.strip()] for name in step.code.partition(" = ")[0].split(",")]
            assert [tuple(each.shape) for each in outputs] == [step.output] * step.outputs, step
            assert str(outputs[0].dtype) == f"torch.{step.dtype}"
            assert outputs[0].is_contiguous() == step.contiguous
    return names


# ---- what is written down is what ran ----


def test_the_columns_are_the_tokenizers(walk: Walk, tiny_tokenizer: Any) -> None:
    encoded = tiny_tokenizer(TEXT, PAIR)
    real = walk.tokens[: walk.length]
    assert [token.text for token in real] == encoded.tokens()
    assert [token.id for token in real] == encoded["input_ids"]
    assert [token.segment for token in real] == encoded["token_type_ids"]
    assert {token.segment for token in real} == {0, 1}
    assert [token.position for token in walk.tokens] == list(range(len(walk.tokens)))
    assert [token.text for token in walk.tokens[walk.length :]] == ["[PAD]"] * PADDING


def test_the_code_on_the_page_gives_the_models_first_layer(walk: Walk, encoder: Path) -> None:
    model = BertModel.from_pretrained(encoder, verbose=False)
    names = run_steps(walk, model)
    ids, segments = (names[name][:, : walk.length] for name in ("input_ids", "token_type_ids"))
    out = model(input_ids=ids, token_type_ids=segments, output_hidden_states=True)
    torch.testing.assert_close(names["states"], out.hidden_states[1], atol=1e-5, rtol=0)
    assert walk.difference < 1e-5


def test_the_real_checkpoint_agrees_with_its_walk(real_checkpoint: Path) -> None:
    walk = walk_through(real_checkpoint, "The film was not good, but it was clever.", "I agree!")
    assert 0 < walk.difference < 1e-5
    assert walk.attention.cells.shape[:2] == (6, 13)


def test_whose_memory_it_is_was_measured(walk: Walk) -> None:
    assert {step.operation for step in walk.steps if step.shares_memory} == VIEWS
    assert all(step.shares_memory for step in walk.steps if step.operation in VIEWS)
    numbers = {step.operation: step.number for step in walk.steps}
    views = {step.operation: step.view_of for step in walk.steps if step.number < 15}
    assert views["narrow"] == "the position table"
    assert views["unbind"] == views["transpose"] == f"step {numbers['stack']}"
    assert walk.steps[-1].view_of == f"step {walk.steps[-2].number}"


def test_a_reshape_that_needs_no_copy_is_a_view(folder: Make, tiny_folder: Path) -> None:
    one = walk_through(folder(vocabulary=tiny_folder, num_attention_heads=1), TEXT)
    reshape = next(step for step in one.steps if step.operation == "reshape")
    assert reshape.shares_memory
    assert one.difference < 1e-5


def test_the_mask_hides_the_padding(walk: Walk, encoder: Path) -> None:
    names = run_steps(walk, BertModel.from_pretrained(encoder, verbose=False))
    assert (names["weights"][..., walk.length :] == 0).all()
    assert (names["scores"][..., walk.length :] != 0).all()
    torch.testing.assert_close(names["weights"].sum(-1), torch.ones(1, 4, len(walk.tokens)))
    filled = next(step for step in walk.steps if step.operation == "masked_fill")
    assert filled.preview.endswith("-inf  -inf")
    assert filled.picture is not None
    assert (filled.picture[:, walk.length :] == 0).all()
    assert (filled.picture[:, : walk.length] > 0).all()


def test_a_decoder_sees_nothing_later(folder: Make, tiny_folder: Path) -> None:
    model = folder(vocabulary=tiny_folder, is_decoder=True)
    walk = walk_through(model, TEXT)
    assert walk.difference < 1e-5
    names = run_steps(walk, BertModel.from_pretrained(model, verbose=False))
    assert (names["weights"].triu(1) == 0).all()
    for layer in range(walk.attention.layers):
        assert (np.triu(walk.attention.weights(layer, 1), 1) == 0).all()


@pytest.mark.parametrize(
    "name",
    [
        "BertForPreTraining",
        "BertForMaskedLM",
        "BertForNextSentencePrediction",
        "BertForQuestionAnswering",
        "BertForMultipleChoice",
    ],
)
def test_the_folder_of_any_head(folder: Make, tiny_folder: Path, name: str) -> None:
    walk = walk_through(folder(getattr(bertolt, name), vocabulary=tiny_folder), TEXT)
    assert walk.architecture == name
    assert walk.difference < 1e-5
    assert walk.answer is None
    asks = name == "BertForQuestionAnswering"
    pair = "The model answers pairs of texts: give the second one with --pair."
    assert walk.remarks == ((pair,) if asks else ())


# ---- attention maps, the answer, limits ----


def test_the_maps_are_the_models(walk: Walk, encoder: Path) -> None:
    model = BertModel.from_pretrained(encoder, verbose=False)
    ids = torch.tensor([[token.id for token in walk.tokens[: walk.length]]])
    segments = torch.tensor([[token.segment for token in walk.tokens[: walk.length]]])
    with torch.no_grad():
        maps = model(input_ids=ids, token_type_ids=segments, output_attentions=True).attentions
    for layer, (heads,) in enumerate(maps):
        for head, want in enumerate([heads.mean(0), *heads]):
            have = walk.attention.weights(layer, head)
            # A byte is a step of 1/255 of the root, so at most 1/255 of the largest weight.
            np.testing.assert_allclose(have, want.numpy(), atol=want.max().item() / 255)


def test_a_head_that_was_trained_answers(folder: Make, tiny_folder: Path) -> None:
    labels = {0: "bad", 1: "so so", 2: "good"}
    path = folder(BertForSequenceClassification, vocabulary=tiny_folder, id2label=labels)
    answer = walk_through(path, TEXT).answer
    assert answer is not None
    (prediction,) = Predictor.from_pretrained(path, precision="fp32").predict([TEXT])
    rows = dict(answer.blocks[0]["rows"])
    assert rows == pytest.approx(prediction.probabilities, abs=1e-5)
    assert list(rows) == sorted(rows, key=lambda name: -rows[name])
    assert answer.words == prediction.label


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
def test_answers_that_are_no_single_label(folder: Make, tiny_folder: Path, kind: str) -> None:
    path = folder(BertForSequenceClassification, vocabulary=tiny_folder, problem_type=kind)
    page = render_walk(walk_through(path, TEXT))
    assert ("Probability" in page) == (kind != "regression")
    assert ("Value" in page) == (kind == "regression")


def test_a_head_that_tags_shows_its_spans(folder: Make, tiny_folder: Path) -> None:
    labels = {0: "O", 1: "B-FILM", 2: "I-FILM"}
    path = folder(BertForTokenClassification, vocabulary=tiny_folder, id2label=labels)
    walk = walk_through(path, TEXT)
    assert walk.answer is not None
    (prediction,) = Predictor.from_pretrained(path, precision="fp32").predict([TEXT])
    marks = walk.answer.blocks[0]["marks"]
    spans = [(each["start"], each["end"]) for each in prediction.spans]
    assert spans
    assert [(mark["start"], mark["end"]) for mark in marks] == spans
    assert render_walk(walk).count('<mark class="given">') == len(spans)


def test_an_answer_from_several_windows_says_so(folder: Make, tiny_folder: Path) -> None:
    path = folder(BertForTokenClassification, vocabulary=tiny_folder)
    walk = walk_through(path, "good " * 300)
    assert walk.tokens_cut == 300 + 2 - 160
    assert walk.answer is not None
    assert not walk.answer.tokens_cut
    for shown in (render_walk(walk), walk_table(walk)):
        assert "142 tokens cut off here; the answer is to the whole input" in shown


def test_a_new_head_does_not_answer(tiny_folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    config = (path / "config.json").read_text(encoding="utf-8")
    config = config.replace('"BertModel"', '"BertForSequenceClassification"')
    (path / "config.json").write_text(config, encoding="utf-8")
    walk = walk_through(path, TEXT)
    assert walk.architecture == "BertForSequenceClassification"
    assert walk.answer is None
    assert walk.remarks == ("The head is new, so there is no answer to show.",)
    assert walk.remarks[0] in render_walk(walk)


def test_a_long_text_is_cut_and_says_so(encoder: Path) -> None:
    walk = walk_through(encoder, "good " * 300)
    assert len(walk.tokens) == walk.length == walk.limit == 160
    assert walk.tokens_cut == 300 + 2 - 160
    assert walk.attention.shown == MOST_TOKENS
    assert walk.difference < 1e-5
    page = render_walk(walk)
    assert "142 tokens cut off" in page
    assert "no room for padding" in page
    assert f"Shown are the first {MOST_TOKENS} of 160 tokens" in page
    assert "142 tokens cut off" in walk_table(walk)
    assert "tokens not shown" in walk_table(walk)


def test_the_limit_of_training_holds(encoder: Path, tmp_path: Path) -> None:
    from bertolt.checkpoint.contract import Contract

    path = Path(shutil.copytree(encoder, tmp_path / "model"))
    contract = Contract(
        task="text-classification",
        columns={"text": ["text"], "label": ["label"]},
        max_length=6,
        library_version="0.1.0",
    )
    contract.write(path)
    walk = walk_through(path, TEXT)
    assert walk.length == walk.limit == 6
    assert len(walk.tokens) == 6 + PADDING


def test_segments_that_the_model_does_not_know(folder: Make, tiny_folder: Path) -> None:
    path = folder(vocabulary=tiny_folder, type_vocab_size=1)
    assert walk_through(path, TEXT).difference < 1e-5
    with pytest.raises(DataError, match="token_type_ids go from 0 to 1 and the table has 1 row"):
        walk_through(path, TEXT, PAIR)


# ---- the page ----


def test_the_page_shows_all_of_it(walk: Walk) -> None:
    page = Page(render_walk(walk))
    words = " ".join(" ".join(page.words).split())
    for step in walk.steps:
        for part in (step.operation, step.code, step.does, str(step.output), step.dtype):
            assert part in words, part
        assert not step.shares_memory or f"view of {step.view_of}" in words
    for token in walk.tokens:
        assert f"{token.text} id {token.id} segment {token.segment}" in words
    radios = [each for each in page.all("input") if each["type"] == "radio"]
    assert len(radios) == 2 * (1 + 4)
    assert len([each for each in radios if "checked" in each]) == 1
    assert TEXT in words
    assert PAIR in words


def test_the_page_needs_nothing_outside_itself(walk: Walk) -> None:
    text = render_walk(walk)
    page = Page(text)
    for address in page.attribute("src") + page.attribute("href"):
        assert re.match(r"data:|#", address)
    assert not re.search(r"https?:|@import|url\(", text)
    assert len(page.ids) == len(set(page.ids))
    assert page.links <= set(page.ids)
    assert all(each.get("alt") for each in page.all("img"))


def test_only_the_pages_own_script_may_run(walk: Walk) -> None:
    page = Page(render_walk(dataclasses.replace(walk, text=HOSTILE)))
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (e["content"] for e in page.all("meta") if "http-equiv" in e)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "innerHTML" not in script


def test_the_pictures_hold_the_maps(walk: Walk) -> None:
    page = Page(render_walk(walk))
    pictures = [each["src"] for each in page.all("img") if "layer 2, head 3" in each["alt"]]
    (source,) = pictures
    data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    cells = walk.attention.cells[1, 3]
    np.testing.assert_array_equal(np.rint(255 * imread(io.BytesIO(data))), cells)
    # Where the page's script looks for the packed rows.
    assert data[37:41] == b"IDAT"


def test_hostile_text_is_only_text(encoder: Path) -> None:
    walk = walk_through(encoder, HOSTILE, HOSTILE)
    text = render_walk(walk)
    page = Page(text)
    assert len(page.scripts) == 1
    assert text.count("<script") == 1
    assert "alert('x')" in " ".join(page.words)
    assert "\x1b" not in text
    assert "‮" not in text
    assert "\x1b" not in walk_table(walk)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_text_makes_the_same_page(walk: Walk, text: str) -> None:
    tokens = tuple(dataclasses.replace(token, text=text) for token in walk.tokens)
    other = dataclasses.replace(walk, model=text, text=text, pair=text, tokens=tokens)
    page, plain = Page(render_walk(other)), Page(render_walk(walk))
    assert page.tags == plain.tags
    assert page.scripts == plain.scripts


def test_the_same_walk_gives_the_same_page(walk: Walk) -> None:
    assert render_walk(walk) == render_walk(walk)


def test_a_page_that_cannot_be_written_leaves_nothing(walk: Walk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BertoltError, match="cannot be written"):
        write_walk(walk, tmp_path / "file" / "walk.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BertoltError, match="cannot be written"):
        write_walk(walk, tmp_path / "folder")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder"}


# ---- the command ----


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `bertolt inspect` with these words: its exit code, output and messages."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["inspect", *map(str, words)])
        return int(str(ended.value.code)), *capsys.readouterr()

    return run


def test_the_terminal_gets_a_table(encoder: Path, inspect: Any) -> None:
    code, out, err = inspect(encoder, "--text", TEXT, "--pair", PAIR)
    assert (code, err) == (0, "")
    walk = walk_through(encoder, TEXT, PAIR)
    for step in walk.steps:
        assert re.search(rf"^ +{step.number} +{step.operation} +(new memory|view of) ", out, re.M)
        assert step.code in out
    assert f"3 × (1, 4, {len(walk.tokens)}, 8) float32" in out
    assert f"{walk.difference:.1e}" in out


def test_the_page_is_written(encoder: Path, inspect: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "walk.html"
    code, out, err = inspect(encoder, "--text", "-- 电影 😀", "--html", path)
    assert (code, out) == (0, "")
    assert f"Saved to {path}" in err
    assert path.read_text(encoding="utf-8") == render_walk(walk_through(encoder, "-- 电影 😀"))
    assert [entry.name for entry in path.parent.iterdir()] == ["walk.html"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--pair", "x"], "--pair belongs to a walk"),
        (["--html", "walk.html"], "--html belongs to a walk"),
        (["--text", ""], "--text: the text is empty"),
        (["--text", "x", "--pair", " \n"], "--pair is empty"),
        (["--text", "x", "--selftest"], "--selftest and --text were both given"),
        (["--text", "a\udcff"], "--text: the byte 0xff at character 2 is no text"),
    ],
)
def test_wrong_use_is_refused(
    encoder: Path, inspect: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    words: list[str], problem: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = inspect(encoder, *words)
    assert (code, out) == (2, "")
    assert f"bertolt: error: {problem}" in err
    assert "\n  fix: " in err
    assert not list(tmp_path.iterdir())


def test_an_unwritable_file_is_an_error(encoder: Path, inspect: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = inspect(encoder, "--text", "good", "--html", tmp_path / "file" / "walk.html")
    assert code == 2
    assert "cannot be written" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
