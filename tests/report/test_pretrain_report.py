"""The page of a pretraining run: the same layout, and what only pretraining has to tell."""

from __future__ import annotations

import dataclasses
import re

import pytest

from bertolt.report import (
    CorpusAccount,
    EvalPoint,
    PretrainRecord,
    SourceCount,
    TrainingLog,
    findings,
    render_report,
)
from tests.report.test_report import HOSTILE, Page, curve, make_record

CORPUS = CorpusAccount(
    folder="my-corpus",
    fingerprint="0123456789abcdef",
    objective="mlm+nsp",
    max_length=128,
    documents=2479,
    sentences=9777,
    tokens=2_900_000,
    held_out_documents=25,
    held_out_tokens=31_000,
    measured_tokens=33_210,
    sources=[
        SourceCount(name="reviews.csv", documents=2000, sentences=7000, tokens=2_000_000),
        SourceCount(name="news", documents=504, sentences=2900, tokens=931_000),
    ],
    token_entropy=6.19,
    pairs_baseline=0.512,
)


def pretrained(pairs: bool = True, steps: int = 200, **changes: object) -> PretrainRecord:
    one = make_record()
    evaluations = [
        EvalPoint(
            step=step,
            loss=4.0 - step / 100 + (0.5 if pairs else 0),
            accuracy=step / 500,
            masked_loss=4.0 - step / 100 if pairs else None,
            next_sentence_accuracy=0.5 + step / 500 if pairs else None,
        )
        for step in range(50, steps + 1, 50)
    ]
    points = [
        dataclasses.replace(point, tokens_per_second=30_000.0 + point.step, peak_share=0.4)
        for point in curve(steps)
    ]
    record = PretrainRecord(
        title="my-corpus: mlm+nsp",
        command="bertolt pretrain my-corpus --steps 200",
        started="2026-11-25 22:00 UTC",
        duration_seconds=1500.0,
        version="0.1.0",
        machine=one.machine,
        model=dataclasses.replace(one.model, load_report=()),
        corpus=CORPUS,
        training=TrainingLog(
            curve=points,
            eval_points=evaluations,
            steps=steps,
            epochs=11.3,
            tokens_per_second=30_123.0,
            padding_share=0.0042,
            tokens=33_000_000,
            flops_per_second=3.1e11,
            peak_share=0.42,
        ),
        arguments={"mask": 0.2},
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(pretrained())


def test_the_page_says_the_loss_first(page: str) -> None:
    verdict = (
        "Held‑out loss 2, 40.0% of the masked tokens guessed right, and 90.0% of the pairs. "
        "Knowing how frequent tokens are, and no more, gives 6.19."
    )
    assert verdict in Page(page).text


def test_every_section_is_reachable_and_every_reference_resolves(page: str) -> None:
    parsed = Page(page)
    sections = ["warnings", "curves", "corpus", "loading", "arguments", "machine"]
    found = [value for tag, name, value in parsed.attributes if (tag, name) == ("section", "id")]
    assert found == sections
    links = {v[1:] for _, name, v in parsed.attributes if name == "href" and v[0] == "#"}
    assert set(sections) <= links <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(parsed.ids)


def test_the_page_shows_what_the_record_holds(page: str) -> None:
    text = Page(page).text
    for expected in (
        "bertolt pretrain my-corpus --steps 200",
        "33.0 M",  # a number and its note are set apart by style alone
        "11.3 epochs, 200 steps",
        "30,123310 GFLOP/s",
        "42%of its matrix products, in fp32",
        "0.4%of the tokens computed",
        "2,900,000 tokens 2,479 documents · 9,777 sentences",
        "33,210 tokens measured each time, with fixed masks",
        "entropy 6.19",
        "reviews.csv",
        "Loss of masked tokens, held out",
        "single tokens",
        "the more frequent answer",
        "Speed, tokens/s",
        "Nothing to warn about",
    ):
        assert expected in text, expected
    assert len(re.findall("<svg", page)) == 8


def test_without_pairs_the_loss_is_held_to_the_entropy() -> None:
    text = Page(render_report(pretrained(pairs=False))).text
    assert "single tokens" in text
    assert "of the pairs" not in text
    assert "Accuracy on pairs" not in text
    assert "Loss of masked tokens" not in text


def test_what_to_be_wary_of() -> None:
    record = pretrained(
        stuck="The held-out loss 6.10 stays near 6.19 since step 50.",
        corpus=dataclasses.replace(CORPUS, warnings=["12% of the lines are repeated"], left_out=7),
    )
    claims = [caution.claim for caution in findings.pretraining_cautions(record)]
    assert claims == [
        "The loss is that of single tokens",
        "The corpus was prepared with a warning",
    ]
    text = Page(render_report(record)).text
    assert "12% of the lines are repeated" in text
    assert "7 pairs for which the last epoch had no room" in text


def test_nothing_measured_is_said() -> None:
    nothing = TrainingLog(steps=3, epochs=0.1)
    corpus = dataclasses.replace(CORPUS, held_out_tokens=0, measured_tokens=0, sources=())
    text = Page(render_report(pretrained(training=nothing, corpus=corpus))).text
    assert "Trained for 3 steps; no text was held out." in text
    assert "Nothing was measured" in text


def test_hostile_text_is_only_text() -> None:
    source = SourceCount(name=HOSTILE, documents=1, sentences=1, tokens=1)
    corpus = dataclasses.replace(CORPUS, folder=HOSTILE, sources=[source], warnings=[HOSTILE])
    page = render_report(pretrained(title=HOSTILE, stuck=HOSTILE, corpus=corpus))
    assert "<script" not in page
    assert "alert('x')" in Page(page).text
    page.encode()
