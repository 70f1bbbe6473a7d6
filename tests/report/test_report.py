from __future__ import annotations

import dataclasses
import errno
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.base import format as words
from bertolt.base.errors import BertoltError
from bertolt.report import (
    ClassScore,
    CurvePoint,
    DataAccount,
    DroppedRows,
    EvalPoint,
    Evaluation,
    LabelCount,
    LengthAccount,
    LoadRow,
    Machine,
    Measure,
    Mistake,
    ModelSummary,
    RunRecord,
    TrainingLog,
    findings,
    render_report,
    write_report,
)

REPORT = Path(findings.__file__).parent
NAN = float("nan")
HOSTILE = "<script>alert('x')</script>\"&\x00\x1b\u202e\u2028\ud800"
VOID = {"meta", "link", "br", "img", "hr", "input"}


def scored(names: list[str], confusion: list[list[int]], mistakes: int = 3) -> Evaluation:
    rows = sum(map(sum, confusion))
    right = sum(confusion[i][i] for i in range(len(names)))
    majority = max(sum(row) for row in confusion)
    classes = [
        ClassScore(
            name=name,
            precision=Measure(value=0.8, low=0.7, high=0.9),
            recall=Measure(value=0.7, low=0.6, high=0.8),
            f1=Measure(value=0.75),
            support=sum(confusion[i]),
            predicted=sum(row[i] for row in confusion),
        )
        for i, name in enumerate(names)
    ]
    return Evaluation(
        rows=rows,
        accuracy=Measure(value=right / rows, low=right / rows - 0.016, high=right / rows + 0.014),
        f1_macro=0.85,
        loss=0.398,
        baseline=Measure(value=majority / rows, low=majority / rows - 0.02, high=majority / rows),
        baseline_label=names[0],
        classes=classes,
        confusion=confusion,
        mistakes=[
            Mistake(
                text=f"Sentence {i}",
                row=1000 + i,
                true_label=names[0],
                predicted_label=names[-1],
                probability=0.99 - i / 100,
            )
            for i in range(mistakes)
        ],
    )


def curve(steps: int) -> list[CurvePoint]:
    return [
        CurvePoint(
            step=step,
            loss=0.1 + 0.6 / (1 + step / 50) + 0.05 * (step % 7),
            learning_rate=1e-4 * (1 - step / (steps + 1)),
            grad_norm=1 + step % 3,
            samples_per_second=100 + step % 11,
        )
        for step in range(1, steps + 1)
    ]


LOADED = (
    LoadRow(status="loaded", name="encoder.layer.{0..5}.attention.self.query.weight", count=6),
    LoadRow(status="initialised", name="classifier.weight", count=1, note="normal, std 0.02"),
)
MACHINE = Machine(
    cpu="A processor",
    cores=2,
    memory_bytes=16 * 2**30,
    torch_threads=2,
    precision="fp32",
    precision_reason="this processor has no bf16 instructions",
    attention="grouped",
    attention_reason="tensors on the CPU",
    os="Linux 6.1",
    python="3.11.2",
    versions={"torch": "2.13.0", "numpy": "2.4.6"},
)


def make_record(steps: int = 200, **changes: object) -> RunRecord:
    lengths = LengthAccount(
        edges=[0, 128, 256, 384, 512, 640],
        counts=[900, 300, 90, 20, 10],
        max_length=512,
        max_length_source="the model's position table",
        texts=1320,
        texts_cut=10,
        tokens=200_000,
        tokens_cut=640,
    )
    record = RunRecord(
        title="Film sentences",
        command="bertolt finetune films.csv --epochs 3",
        started="2025-11-23 14:02",
        duration_seconds=214.7,
        version="0.1.0",
        machine=MACHINE,
        model=ModelSummary(
            source="a checkpoint",
            architecture="BertForSequenceClassification",
            layers=6,
            hidden_size=384,
            heads=12,
            vocabulary_size=30522,
            parameters=22_713_986,
            load_report=LOADED,
        ),
        data=DataAccount(
            file="films.csv",
            text_column="sentence",
            text_column_how="the only column of that name",
            label_column="label",
            label_column_how="named by --label",
            rows_read=10_605,
            dropped=[DroppedRows(reason="empty text", count=12, first_rows=[7, 1034])],
            split="20% held out, seed 0",
            labels=[
                LabelCount(name="negative", train=4203, eval=1051),
                LabelCount(name="positive", train=4269, eval=1070),
            ],
            lengths=lengths,
        ),
        training=TrainingLog(
            curve=curve(steps),
            eval_points=[EvalPoint(step=s, loss=0.4, accuracy=0.8 + s / 5000) for s in (100, 200)],
            steps=steps,
            epochs=3.0,
            samples_per_second=118.4,
            tokens_per_second=3051.0,
        ),
        evaluation=scored(["negative", "positive"], [[890, 161], [156, 914]]),
        arguments={"epochs": 3, "learning_rate": 1e-4, "max_length": None},
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def bare_record(**changes: object) -> RunRecord:
    """Nothing measured and nothing to draw: quick to render."""
    record = make_record()
    return dataclasses.replace(
        record,
        data=dataclasses.replace(record.data, labels=[], dropped=(), lengths=None),
        model=dataclasses.replace(record.model, load_report=()),
        training=TrainingLog(steps=0, epochs=0.0),
        evaluation=None,
        **changes,  # type: ignore[arg-type]
    )


class Page(HTMLParser):
    """Parses a page strictly: every element is closed where it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in <{tag}>: {names}"
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(make_record())


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
    found = [value for tag, name, value in parsed.attributes if (tag, name) == ("section", "id")]
    assert found == sections
    links = {
        value[1:] for _, name, value in parsed.attributes if name == "href" and value[0] == "#"
    }
    assert set(sections) <= links


def test_page_shows_what_the_record_holds(page: str) -> None:
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
    references = set(re.findall(r"url\(#([^)]+)\)", page))
    for _, name, value in parsed.attributes:
        if name == "href" and value.startswith("#"):
            references.add(value[1:])
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
    tables_found = re.findall(
        r'<div class="scroll[^>]*tabindex="0">\s*<table[^>]*>\s*<caption', page
    )
    assert len(tables_found) == page.count("<table")


def test_same_record_gives_the_same_bytes_whatever_the_users_settings(page: str) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "#00ff00", "font.size": 30}):
        assert render_report(make_record()) == page
        assert mpl.rcParams["font.size"] == 30, "the caller's settings are left as they were"


def test_page_is_small(page: str) -> None:
    assert len(page.encode()) < 200_000
    long = render_report(make_record(steps=50_000))
    assert len(long.encode()) < 400_000


# Foreign text


def hostile_record(text: str) -> RunRecord:
    record = make_record(steps=1)
    mistake = Mistake(
        text=text, row=3, true_label=text, predicted_label=text, probability=0.9, characters=None
    )
    scores = dataclasses.replace(
        scored([text, "other"], [[5, 1], [2, 4]]), mistakes=[mistake], baseline_label=text
    )
    return dataclasses.replace(
        record,
        title=text,
        command=text,
        stopped_early=text,
        machine=dataclasses.replace(MACHINE, cpu=text, versions={text: text}),
        model=dataclasses.replace(
            record.model, source=text, load_report=[LoadRow(status=text, name=text, count=1)]
        ),
        data=dataclasses.replace(
            record.data,
            file=text,
            text_column=text,
            labels=[LabelCount(name=text, train=1, eval=1)],
            dropped=[DroppedRows(reason=text, count=1)],
            lengths=None,
        ),
        training=TrainingLog(steps=1, epochs=1.0),
        evaluation=scores,
        arguments={text: text},
    )


def test_hostile_text_is_only_text() -> None:
    page = render_report(hostile_record(HOSTILE))
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert "<script" not in page
    assert parsed.text.count("<script>alert('x')</script>\"&\\x00\\x1b\\u202e ↵ \\ud800") > 10
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", page)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.text(st.characters(), min_size=1, max_size=40))
def test_any_text_leaves_the_page_whole(text: str) -> None:
    page = render_report(hostile_record(text))
    parsed = Page(page)
    page.encode("utf-8")
    assert parsed.tags.count("section") == 10
    assert " ".join(words.clean(text).split()) in parsed.text


def test_giant_text_is_shortened_and_its_length_is_stated() -> None:
    page = render_report(hostile_record("z" * 10_000_000))
    assert len(page) < 150_000
    assert "9,998,000 characters of 10,000,000 not shown" in Page(page).text


def test_a_beginning_states_the_length_of_the_whole() -> None:
    record = make_record(steps=1)
    assert record.evaluation is not None
    mistake = dataclasses.replace(record.evaluation.mistakes[0], text="So far", characters=5000)
    scores = dataclasses.replace(record.evaluation, mistakes=[mistake])
    text = Page(render_report(dataclasses.replace(record, evaluation=scores))).text
    assert "So far…" in text
    assert "4,994 characters of 5,000 not shown" in text


def test_chinese_text_stays_as_it_is() -> None:
    page = render_report(hostile_record("早餐不错，隔音太差"))
    assert page.count("早餐不错，隔音太差") > 10
    assert '<meta charset="utf-8">' in page


def wide_record(count: int) -> RunRecord:
    names = [f"label {i}" for i in range(count)]
    confusion = [
        [50 if i == j else int((i + j) % 5 == 0) for j in range(count)] for i in range(count)
    ]
    record = make_record(steps=1)
    labels = [LabelCount(name=name, train=100, eval=50) for name in names]
    return dataclasses.replace(
        record,
        data=dataclasses.replace(record.data, labels=labels),
        evaluation=scored(names, confusion),
    )


def without_numbers() -> RunRecord:
    record = make_record()
    nothing = Measure(value=NAN, low=NAN, high=None)
    scores = scored(["a", "b"], [[5, 1], [2, 4]], mistakes=0)
    classes = [dataclasses.replace(c, precision=nothing, recall=nothing) for c in scores.classes]
    return dataclasses.replace(
        record,
        duration_seconds=NAN,
        training=TrainingLog(
            curve=[CurvePoint(step=s, loss=NAN, grad_norm=float("inf")) for s in (1, 2)],
            eval_points=[EvalPoint(step=2, loss=NAN, accuracy=None)],
            steps=2,
            epochs=NAN,
            padding_share=NAN,
        ),
        evaluation=dataclasses.replace(
            scores,
            accuracy=nothing,
            f1_macro=None,
            loss=NAN,
            baseline=nothing,
            classes=classes,
        ),
    )


ODD = {
    "bare": bare_record,
    "without numbers": without_numbers,
    "one step": lambda: make_record(steps=1),
    "no evaluations": lambda: make_record(
        training=TrainingLog(curve=curve(50), steps=50, epochs=0.4)
    ),
    "40 labels": lambda: wide_record(40),
    "nothing dropped": lambda: make_record(
        steps=1, data=dataclasses.replace(make_record().data, dropped=())
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_records_render(name: str) -> None:
    parsed = Page(render_report(ODD[name]()))
    assert "Curves" in parsed.text
    for leak in ("nan", "None", "inf"):
        assert not re.search(rf"\b{leak}\b", parsed.text), leak
        assert not any(re.search(rf"\b{leak}\b", value) for *_, value in parsed.attributes), leak


def test_absent_measurements_are_said() -> None:
    text = Page(render_report(bare_record())).text
    assert "Trained for 0 steps; the accuracy was not measured." in text
    assert "No step was recorded." in text
    assert "The lengths were not counted." in text
    assert "no text was cut" not in text, "nobody counted"


def test_many_labels_keep_the_ones_with_most_mistakes() -> None:
    page = render_report(wide_record(150))
    assert len(page.encode()) < 400_000
    assert "110 labels left out" in Page(page).text


# The findings


def claims(record: RunRecord) -> list[str]:
    return [caution.claim for caution in findings.cautions(record)]


def test_a_clean_run_warns_of_nothing() -> None:
    record = make_record()
    assert record.data.lengths is not None
    lengths = dataclasses.replace(record.data.lengths, texts_cut=0, tokens_cut=0)
    data = dataclasses.replace(record.data, dropped=(), lengths=lengths)
    assert claims(dataclasses.replace(record, data=data)) == []


def test_cut_texts_and_dropped_rows_are_warned_of() -> None:
    assert claims(make_record()) == ["10 texts cut", "12 rows dropped"]
    cut = findings.cautions(make_record())[0].detail
    assert cut == (
        "0.8% of the texts are longer than 512 tokens; 640 tokens of 200,000 were never seen."
    )


def test_scores_no_better_than_the_majority_are_warned_of() -> None:
    poor = make_record(evaluation=scored(["a", "b"], [[10, 0], [10, 0]]))
    assert claims(poor)[:2] == [
        "No better than guessing the majority label",
        "1 label never predicted",
    ]
    good = make_record(evaluation=scored(["a", "b"], [[10, 0], [0, 10]]))
    assert not set(claims(poor)[:2]) & set(claims(good))


def test_a_label_absent_from_the_held_out_rows_is_not_called_unpredicted() -> None:
    record = make_record(evaluation=scored(["a", "b", "c"], [[9, 1, 0], [1, 9, 0], [0, 0, 0]]))
    assert claims(record)[0] == "1 label not measured"


def test_training_gone_wrong_is_warned_of() -> None:
    log = TrainingLog(
        curve=[CurvePoint(step=1, loss=0.5), CurvePoint(step=2, loss=NAN)],
        eval_points=[
            EvalPoint(step=1, loss=0.3, accuracy=0.8),
            EvalPoint(step=2, loss=0.6, accuracy=0.8),
        ],
        steps=2,
        epochs=1.0,
    )
    found = claims(make_record(training=log, stopped_early="interrupted at step 2"))
    assert found[:3] == [
        "The run stopped early",
        "The loss was not finite at 1 step",
        "The evaluation loss rose after its best",
    ]


def test_tensors_that_did_not_load_are_warned_of_and_shown() -> None:
    record = make_record(steps=1)
    rows = [*LOADED, LoadRow(status="mismatched", name="pooler.dense.weight", count=2)]
    record = dataclasses.replace(record, model=dataclasses.replace(record.model, load_report=rows))
    assert claims(record)[-1] == "2 tensors did not load as expected"
    assert "<details open>" in render_report(record)
    assert "<details open>" not in render_report(make_record(steps=1))


def test_a_loss_that_was_not_logged_is_no_broken_loss() -> None:
    log = TrainingLog(curve=[CurvePoint(step=1, loss=None)], steps=1, epochs=1.0)
    assert not any("finite" in claim for claim in claims(make_record(training=log)))


def test_report_is_written_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    record = bare_record()
    write_report(record, target)
    assert target.read_text(encoding="utf-8") == render_report(record)
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
        write_report(bare_record(), target)
    assert str(target) in str(caught.value)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BertoltError, match=r"file/report\.html: cannot be written"):
        write_report(bare_record(), tmp_path / "file" / "report.html")


def test_record_is_plain_enough_for_json() -> None:
    record = make_record(steps=2)
    assert json.loads(json.dumps(dataclasses.asdict(record)))["model"]["layers"] == 6


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = (
        "import sys, bertolt.report;"
        "print([m for m in ('matplotlib', 'numpy', 'jinja2', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=REPORT.parents[1],
        check=True,
    )
    assert done.stdout.strip() == "[]"
