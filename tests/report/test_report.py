"""The page of a run: a function of its facts, which needs nothing outside itself."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.base import format as words
from bertolt.base.errors import BertoltError
from bertolt.commands.finetune.record import task_part
from bertolt.report import findings, render_report, write_report
from bertolt.tasks.evaluation import Scores
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from tests.report.facts import (
    HOSTILE,
    Facts,
    Page,
    bare,
    changed,
    curve,
    evaluated,
    explained,
    finetuned,
    loaded,
    scored,
)

REPORT = Path(findings.__file__).parent
NAN = float("nan")


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(finetuned())


def test_page_says_the_verdict_first(page: str) -> None:
    text = Page(page).text
    verdict = (
        "Accuracy 85.1% (83.5–86.5) on 2,121 held‑out rows; "
        "guessing the majority label would give 50.4%."
    )
    assert verdict in text
    assert text.index(verdict) < text.index("Macro F1") < text.index("Before you trust it")


def test_page_has_every_section_in_order_and_each_is_reachable(page: str) -> None:
    parsed = Page(page)
    sections = ["warnings", "curves", "confusion", "classes", "lengths", "mistakes"]
    sections += ["data", "loading", "arguments", "machine"]
    assert parsed.sections == sections
    assert set(sections) <= parsed.links


def test_page_shows_what_the_facts_hold(page: str) -> None:
    text = Page(page).text
    for expected in (
        "bertolt finetune films.csv --epochs 3",
        "3 min 35 s",
        "22.7 M",
        "encoder.layer.{0..5}.attention.self.query.weight",
        "normal, std 0.02",
        "7 · 1034 …",
        "20% held out, seed 0",
        "10 of 1,320",
        "read in windows of 512 tokens",
        "12 of 1,320 1,361 windows of all texts",
        "this processor has no bf16 instructions",
        "row 1002",
        "max_length not set",
        "2.13.0",
    ):
        assert expected in text, expected


def test_page_needs_nothing_outside_itself(page: str) -> None:
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    for _, name, value in parsed.attributes:
        assert not name.startswith("on")
        if name in {"href", "src"}:
            assert value[0] == "#" or value == "data:,"


def test_ids_are_unique_and_every_reference_resolves(page: str) -> None:
    parsed = Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    references = set(re.findall(r"url\(#([^)]+)\)", page)) | parsed.links
    for _, name, value in parsed.attributes:
        if name in {"aria-labelledby", "aria-describedby"}:
            references |= set(value.split())
    assert references <= set(parsed.ids)


def test_charts_take_their_colours_from_the_page(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(drawings) == 6
    defined = set(re.findall(r"(--[a-z]+):", (REPORT / "style.css").read_text()))
    for svg in drawings:
        assert not re.search(r"#[0-9a-fA-F]{6}\b", svg), "a colour that does not follow the theme"
        assert set(re.findall(r"var\((--[a-z]+)\)", svg)) <= defined
        assert 'role="img"' in svg
        assert re.search(r"<title[^>]*>[^<]+</title><desc[^>]*>[^<]+</desc>", svg)
        assert "DejaVu" not in svg


def test_tables_have_captions_and_scroll_by_themselves(page: str) -> None:
    captioned = re.findall(r'<div class="scroll[^>]*tabindex="0">\s*<table[^>]*>\s*<caption', page)
    assert len(captioned) == page.count("<table")


def test_same_facts_give_the_same_bytes_whatever_the_users_settings(page: str) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "#00ff00", "font.size": 30}):
        assert render_report(finetuned()) == page
        assert mpl.rcParams["font.size"] == 30, "the caller's settings are left as they were"


def test_page_is_small(page: str) -> None:
    assert len(page.encode()) < 200_000
    long = render_report(finetuned(steps=50_000))
    assert len(long.encode()) < 400_000


# Foreign text


def hostile(text: str) -> Facts:
    """Facts of which every foreign word is this text."""
    scores = scored([text, "other"], [[5, 1], [2, 4]], mistakes=1)
    facts = finetuned(
        steps=1,
        title=text,
        command=text,
        stopped_early=text,
        machine={"cpu": text, "versions": {text: text}},
        model={"source": text, "load_report": [loaded(text, text, 1)]},
        training={"curve": {"step": []}, "eval_points": []},
        arguments={text: text},
        **explained(scores, text=text),
    )
    column = {"role": "text", "column": text, "how": text}
    rows = {"files": {"train": text, "eval": text}, "columns": [column], "lengths": None}
    dropped = [{"reason": text, "count": 1, "first_rows": []}]
    return changed(facts, data=rows | {"dropped": dropped})


def test_hostile_text_is_only_text() -> None:
    page = render_report(hostile(HOSTILE))
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert "<script" not in page
    assert parsed.text.count("<script>alert('x')</script>\"&\\x00\\x1b\\u202e ↵ \\ud800") > 10
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", page)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.text(st.characters(), min_size=1, max_size=40))
def test_any_text_leaves_the_page_whole(text: str) -> None:
    page = render_report(hostile(text))
    parsed = Page(page)
    page.encode("utf-8")
    assert parsed.tags.count("section") == 10
    assert " ".join(words.clean(text).split()) in parsed.text


def test_giant_text_is_shortened_and_its_length_is_stated() -> None:
    page = render_report(hostile("z" * 10_000_000))
    assert len(page) < 150_000
    assert "9,998,002 characters of 10,000,002 not shown" in Page(page).text


def test_chinese_text_stays_as_it_is() -> None:
    page = render_report(hostile("早餐不错，隔音太差"))
    assert page.count("早餐不错，隔音太差") > 10
    assert '<meta charset="utf-8">' in page


def wide(count: int) -> Facts:
    """Facts of a classifier of so many labels."""
    names = [f"label {i}" for i in range(count)]
    counts = [[50 if i == j else int((i + j) % 5 == 0) for j in range(count)] for i in range(count)]
    return finetuned(steps=1, scores=scored(names, counts))


def without_numbers() -> Facts:
    """Facts of a run that went wrong as far as it can."""
    nothing = {"value": NAN, "low": NAN, "high": None}
    facts = finetuned(steps=2, scores=scored(["a", "b"], [[5, 1], [2, 4]], mistakes=0))
    classes = facts["blocks"][0]["blocks"][1]
    classes["rows"] = [[name, nothing, nothing, None, None, None] for name in ("a", "b")]
    return changed(
        facts,
        duration_seconds=NAN,
        training={
            "curve": {"step": [1, 2], "loss": [NAN, NAN], "grad_norm": [float("inf")] * 2},
            "eval_points": [evaluated(2, loss=NAN, accuracy=None)],
            "epochs": NAN,
            "padding_share": NAN,
        },
        headline=nothing | {"baseline": nothing},
        tiles=[each | {"value": NAN} for each in facts["tiles"]],
        curves=[each | {"final": nothing, "baseline": None} for each in facts["curves"]],
    )


ODD = {
    "bare": bare,
    "without numbers": without_numbers,
    "one step": lambda: finetuned(steps=1),
    "no evaluations": lambda: finetuned(
        steps=50, training={"curve": curve(50), "eval_points": [], "epochs": 0.4}
    ),
    "40 labels": lambda: wide(40),
    "nothing dropped": lambda: finetuned(steps=1, data={"dropped": []}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_runs_render(name: str) -> None:
    parsed = Page(render_report(ODD[name]()))
    assert "Curves" in parsed.text
    for leak in ("nan", "None", "inf"):
        assert not re.search(rf"\b{leak}\b", parsed.text), leak
        assert not any(re.search(rf"\b{leak}\b", value) for *_, value in parsed.attributes), leak


def test_absent_measurements_are_said() -> None:
    text = Page(render_report(bare())).text
    assert "Trained for 0 steps; the accuracy was not measured." in text
    assert "No step was recorded." in text
    assert "The lengths were not counted." in text
    assert "no text was cut" not in text, "nobody counted"


def test_many_labels_keep_the_ones_with_most_mistakes() -> None:
    page = render_report(wide(150))
    assert len(page.encode()) < 400_000
    assert "110 labels left out" in Page(page).text


# The findings


def claims(facts: Facts) -> list[str]:
    return [caution.claim for caution in findings.cautions(facts)]


def test_a_clean_run_warns_of_nothing() -> None:
    lengths = finetuned()["data"]["lengths"] | {"texts_cut": 0, "tokens_cut": 0}
    facts = finetuned(steps=1, data={"dropped": [], "lengths": lengths})
    assert claims(facts) == []
    calm = "no row was dropped, no text was cut, every label was predicted."
    assert f"Nothing to warn about: {calm}" in Page(render_report(facts)).text


def test_cut_texts_and_dropped_rows_are_warned_of() -> None:
    assert claims(finetuned()) == ["10 texts cut", "12 rows dropped"]
    cut = findings.cautions(finetuned())[0].detail
    assert cut == (
        "0.8% of the texts lost some by the limit of 512 tokens; 640 tokens of 200,000 were never "
        "seen."
    )


@pytest.mark.parametrize("tuned", [True, False])
def test_the_page_says_that_thresholds_were_chosen_where_they_were(tuned: bool) -> None:
    task = MultiLabelClassification(("a", "b"), (0.4, 0.6))
    scorer = task.scorer()
    answer = {"labels": ["a"], "probabilities": {"a": 0.9, "b": 0.1}}
    scorer.add(answer, {"text": "x", "label": ["a"]})
    scores = Scores(task=task, scorer=scorer, loss=0.5, mistakes=[], tuned=tuned)
    page = render_report(finetuned(**task_part(task, scores, [], [], {})))
    told = "The thresholds were chosen on these very rows, which flatters the scores."
    assert page.count(told) == tuned
    assert page.count("chosen on these") == tuned


def test_repeated_texts_are_warned_of() -> None:
    repeated = findings.cautions(finetuned(data={"repeated": 3}))[0]
    assert repeated.claim == "3 evaluation texts seen in training"
    assert repeated.detail.startswith("3 of 2,121 stand word for word among the training texts")


def test_training_gone_wrong_is_warned_of() -> None:
    training = {
        "curve": {"step": [1, 2], "loss": [0.5, NAN]},
        "eval_points": [evaluated(1, loss=0.3, accuracy=0.8), evaluated(2, loss=0.6, accuracy=0.8)],
    }
    first = claims(finetuned(training=training, stopped_early="interrupted at step 2"))
    assert first[:3] == [
        "The run stopped early",
        "The loss was not finite at 1 step",
        "The evaluation loss rose after its best",
    ]


def test_what_a_task_warns_of_comes_before_what_any_run_may() -> None:
    task = [{"claim": "Of the task", "detail": "Look."}]
    assert claims(finetuned(cautions=task, stopped_early="Yes.")) == [
        "The run stopped early",
        "Of the task",
        "10 texts cut",
        "12 rows dropped",
    ]


def test_tensors_that_did_not_load_are_warned_of_and_shown() -> None:
    facts = finetuned(steps=1)
    rows = [*facts["model"]["load_report"], loaded("mismatched", "pooler.dense.weight", 2)]
    odd = changed(facts, model={"load_report": rows})
    assert claims(odd)[-1] == "2 tensors did not load as expected"
    assert "<details open>" in render_report(odd)
    assert "<details open>" not in render_report(facts)


def test_a_loss_that_was_not_logged_is_no_broken_loss() -> None:
    facts = finetuned(training={"curve": {"step": [1]}, "eval_points": []})
    assert not any("finite" in claim for claim in claims(facts))


# The file


def test_report_is_written_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    facts = bare()
    write_report(facts, target)
    assert target.read_text(encoding="utf-8") == render_report(facts)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_old_report_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "report.html"
    target.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(BertoltError, match="No space left on device") as caught:
        write_report(bare(), target)
    assert str(target) in str(caught.value)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BertoltError, match=r"file/report\.html: cannot be written"):
        write_report(bare(), tmp_path / "file" / "report.html")


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = (
        "import sys, bertolt.report;"
        "print([m for m in ('matplotlib', 'numpy', 'jinja2', 'torch') if m in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=REPORT.parents[1],
        check=True,
    )
    assert process.stdout.strip() == "[]"
