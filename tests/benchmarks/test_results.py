"""Medians, spreads, ratios and shares, and the tables and the drawing that show them."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from benchmarks.__main__ import _options as options
from benchmarks.__main__ import _without_folder, chosen_works, main
from benchmarks.drawing import draw
from benchmarks.results import fastest_other, markdown, summarise, table, times_faster
from benchmarks.works import WORKS


def contestant(title: str, *runs: dict[str, Any], state: str = "ok") -> dict[str, Any]:
    return {"title": title, "state": state, "runs": list(runs)}


def trained(tokens: int, seconds: float) -> dict[str, Any]:
    return {
        "samples": tokens // 25,  # not what the rate is made of
        "tokens": tokens,
        "seconds": seconds,
        "padding_share": 0.25,
        "peak_memory_mb": 1000.0,
        "first_step_seconds": 3.0,
        "warmup_seconds": 1.0,
    }


JOB = {
    "mean_tokens": 20.0,
    "flops": 50e6,
    "flops_needed": 40e6,
    "steps": 60,
    "batch_size": 32,
    "warmup": 10,
}
TRAIN = {
    "title": "Training",
    "kind": "train",
    "job": JOB,
    "products": [{"bf16": 300.0}, {"bf16": 600.0}, {"bf16": 300.0}],
    "contestants": {
        "bertolt": contestant("Bertolt", trained(2000, 1), trained(4000, 1), trained(1000, 1)),
        "peer-bf16": contestant("peer | a", trained(1000, 1), trained(1000, 1), trained(1000, 1)),
        "peer-grouped": contestant("peer, grouped", trained(1500, 1), trained(1500, 1)),
        "ort-int8": contestant("ORT", state="not installed: onnx"),
        "peer-fp32": contestant("peer, fp32", state="failed: ValueError: no luck"),
    },
}
SINGLE = {
    "title": "One at a time",
    "kind": "single",
    "job": {**JOB, "batch_size": 1},
    "products": [{"bf16": 300.0}],
    "contestants": {
        "bertolt": contestant("Bertolt", {"median_ms": 4.0, "ms_95": 6.0, "accuracy": 0.8}),
        "ort-int8": contestant("ORT", {"median_ms": 2.0, "ms_95": 3.0, "note": "plain.onnx"}),
        "pipeline": contestant("pipeline", {"median_ms": 8.0, "ms_95": 9.0}),
    },
}


@pytest.fixture
def record() -> dict[str, Any]:
    return copy.deepcopy(
        {
            "date": "2026-11-23 07:00 UTC",
            "commit": "abc",
            "command": ["python", "-m", "benchmarks"],
            "machine": {"cpu": "CPU", "cores": 2, "memory": 2**34},
            "threads": 2,
            "repeats": 3,
            "versions": {"torch": "2.13.0"},
            "works": {"finetune": TRAIN, "single": SINGLE},
        }
    )


def test_medians_and_spread() -> None:
    found = summarise(TRAIN)["bertolt"]
    rate = found["texts_per_second"]
    assert (rate.middle, rate.low, rate.high, rate.count) == (100, 50, 200, 3)
    assert found["tokens_per_second"].middle == 2000
    # 3 · 50 MFLOP · (2000, 4000, 1000) tokens/s over 300, 600, 300 GFLOP/s
    assert found["share"].middle == pytest.approx(1.0)
    assert found["share"].low == pytest.approx(0.5)
    assert found["share_needed"].middle == pytest.approx(0.8)
    assert summarise(TRAIN)["ort-int8"] == {}


def test_a_forward_pass_counts_once() -> None:
    run = {"samples": 100, "seconds": 1.0, "accuracy": 0.5}
    entry = {**TRAIN, "kind": "predict", "contestants": {"bertolt": contestant("Bertolt", run)}}
    found = summarise(entry)["bertolt"]
    assert found["tokens_per_second"].middle == 2000
    assert found["share"].middle == pytest.approx(50e6 * 2000 / 300e9)


def test_ratios_compare_runs_of_the_same_round() -> None:
    # 2, 4 and 1 times the rate of the peer in its round; with the grouped one, only two rounds.
    assert times_faster(TRAIN, "bertolt", "peer-bf16") == pytest.approx(2)
    assert times_faster(TRAIN, "bertolt", "peer-grouped") == pytest.approx((4 / 3 + 8 / 3) / 2)
    assert times_faster(TRAIN, "bertolt", "ort-int8") is None


def test_less_is_better_for_times() -> None:
    assert times_faster(SINGLE, "bertolt", "pipeline") == pytest.approx(2)
    assert times_faster(SINGLE, "bertolt", "ort-int8") == pytest.approx(0.5)
    assert fastest_other(SINGLE) == "ort-int8"
    assert fastest_other(TRAIN) == "peer-grouped"


def test_tables() -> None:
    lines = table(TRAIN).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].startswith("|  | texts/s | Bertolt is | tokens/s | padding |")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert rows[0][:4] == ["Bertolt", "100 (50–200)", "1 ×", "2,000"]
    assert rows[1][:3] == ["peer / a", "50 (50–50)", "2 ×"]
    assert rows[3][1] == rows[3][2] == "n/a"
    assert rows[3][-1] == "not installed: onnx"
    assert rows[4][-1] == "failed: ValueError: no luck"
    single = table(SINGLE).splitlines()
    assert single[2].startswith("| Bertolt | 4 | 1 × | 6 | 0.8000 |")
    assert single[3].startswith("| ORT | 2 | 0.500 × |")
    assert single[3].endswith("| plain.onnx |")


def test_the_page(record: dict[str, Any]) -> None:
    text = markdown(record)
    assert text.startswith(
        "# Measured on 2026-11-23 07:00 UTC\n\nCPU, 2 cores, 16.0 GiB; 2 threads"
    )
    assert "Products: bf16 300 (300–600) GFLOP/s. 60 steps of 32 texts, after 10" in text
    assert "The fastest other: ORT. Bertolt is 0.500 times as fast." in text


def test_the_page_before_anything_is_measured(record: dict[str, Any]) -> None:
    for entry in record["works"].values():
        entry["products"].clear()
        for each in entry["contestants"].values():
            each["runs"].clear()
    assert "Not measured yet" in markdown(record)
    ET.fromstring(draw(record))


def test_the_drawing(record: dict[str, Any]) -> None:
    svg = draw(record)
    ET.fromstring(svg)
    for word in ("Bertolt", "peer, grouped", "more is better", "less is better", "median, ms"):
        assert word in svg
    assert "ORT" in svg
    assert "peer, fp32" not in svg
    assert draw(record) == svg


def test_choosing_works() -> None:
    everything = chosen_works(options([]))
    assert [work.name for work in everything] == [n for n, w in WORKS.items() if not w.asked]
    quick = chosen_works(options(["--quick"]))
    assert all(work.contestants == WORKS[work.name].quick != () for work in quick)
    few = chosen_works(options(["--works", "accuracy,mlm", "--contestants", "bertolt,ort-int8"]))
    assert [(work.name, work.contestants) for work in few] == [
        ("accuracy", ("bertolt",)),
        ("mlm", ("bertolt",)),
    ]


def test_a_name_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--works", "finetune-moon"])
    assert "there is no 'finetune-moon'; there are: finetune-movie" in capsys.readouterr().err


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in WORKS)


def test_results_do_not_tell_where_they_were_written() -> None:
    for out in (["--out", "a/folder"], ["--out=a/folder"]):
        words = ["--works", "mlm", *out, "--quick"]
        assert _without_folder(words) == ["--works", "mlm", "--quick"]
