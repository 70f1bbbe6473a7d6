"""The page of a pretraining run: the same page, with what only pretraining has to tell."""

from __future__ import annotations

import re

import pytest

from bertolt.report import findings, render_report
from tests.report.facts import HOSTILE, Page, pretrained


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
    assert parsed.sections == sections
    assert set(sections) <= parsed.links <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(parsed.ids)


def test_the_page_shows_what_the_facts_hold(page: str) -> None:
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
    facts = pretrained(
        stuck="The held-out loss 6.10 stays near 6.19 since step 50.",
        warnings=["12% of the lines are repeated"],
        left_out=7,
    )
    assert [caution.claim for caution in findings.cautions(facts)] == [
        "The loss is near the entropy of single tokens",
        "The corpus was prepared with a warning",
    ]
    text = Page(render_report(facts)).text
    assert "12% of the lines are repeated" in text
    assert "7 pairs for which the last epoch had no room" in text


def test_nothing_measured_is_said() -> None:
    facts = pretrained(steps=3, held_out_tokens=0, measured_tokens=0, sources=[])
    text = Page(render_report(facts)).text
    assert "Trained for 3 steps; no text was held out." in text
    assert "Nothing was measured" in text


def test_many_sources_are_counted() -> None:
    sources = [{"name": f"file {i}", "documents": 1, "tokens": 9} for i in range(53)]
    assert "3 more sources not shown." in Page(render_report(pretrained(sources=sources))).text


def test_hostile_text_is_only_text() -> None:
    source = {"name": HOSTILE, "documents": 1, "tokens": 1}
    facts = pretrained(stuck=HOSTILE, folder=HOSTILE, sources=[source], warnings=[HOSTILE])
    page = render_report(facts | {"title": HOSTILE})
    assert "<script" not in page
    assert "alert('x')" in Page(page).text
    page.encode()
