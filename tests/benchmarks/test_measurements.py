"""Every contestant that is installed does a little of each kind of work, on a tiny model."""

from __future__ import annotations

import functools
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import session
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.job import BLOCKS, Found, Job, StepClock, padding_share, time_bulk, write_rows
from benchmarks.prepare import fill, fill_corpus
from benchmarks.runtimes import EXPORTS
from benchmarks.works import WORKS, Work
from bertolt import BertModel, BertTokenizer
from bertolt.pretrain.options import PretrainOptions

pytest.importorskip("transformers")

Rows = list[tuple[str, int]]
EXPORTED = [name for name, each in CONTESTANTS.items() if each.export]
IN_TORCH = [name for name in CONTESTANTS if name not in EXPORTED]


@pytest.fixture(scope="module")
def rows(reviews: list[tuple[str, str]]) -> Rows:
    return [(text, int(label == "pos")) for text, label in reviews]


@pytest.fixture(scope="module")
def prepared(
    tiny_folder: Path, rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Job]:
    """A tiny job of a kind, made once."""
    made: dict[str, Job] = {}

    def make(kind: str) -> Job:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            BertModel.from_pretrained(tiny_folder, verbose=False).save_pretrained(folder / "model")
            BertTokenizer.from_pretrained(tiny_folder).save_pretrained(folder / "model")
            work = Work(
                name=kind,
                title=kind,
                kind=kind,
                model="tiny",
                steps=2,
                warmup=1,
                batch_size=1 if kind == "single" else 8,
                contestants=(),
                max_length=160,
            )
            if kind == "pretrain":
                made[kind] = fill_corpus(work, folder, [text for text, _ in rows], threads=1)
            else:
                made[kind] = fill(work, folder, rows, threads=1)
        return made[kind]

    return make


def installed(name: str) -> Contestant:
    contestant = CONTESTANTS[name]
    if contestant.missing:
        pytest.skip(f"needs {', '.join(contestant.missing)}")
    return contestant


@functools.cache
def export(name: str, job: Job) -> None:
    EXPORTS[name](job)


def measure(name: str, job: Job) -> Found:
    contestant = installed(name)
    if contestant.export:
        export(contestant.export, job)
    return contestant.measure(job, time.time(), 0)


def pairs(names: list[str], kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, kind) for name in names for kind in kinds if kind in CONTESTANTS[name].runs]


@pytest.mark.parametrize(("name", "kind"), pairs(IN_TORCH, ("train", "mlm")))
def test_training(name: str, kind: str, prepared: Callable[[str], Job]) -> None:
    found = measure(name, prepared(kind))
    assert found["samples"] == 16
    assert 16 * 4 <= found["tokens"] <= 16 * 20
    assert found["seconds"] > 0
    assert 0 <= found["padding_share"] < 1
    assert 0 < found["first_step_seconds"] < 60
    assert found["median_tokens_per_second"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), pairs(IN_TORCH, ("pretrain",)))
def test_pretraining(name: str, kind: str, prepared: Callable[[str], Job]) -> None:
    job = prepared(kind)
    found = measure(name, job)
    assert found["tokens"] > 0
    assert found["seconds"] > 0
    assert found["padding_share"] < 1
    assert 0 < job.flops_needed < job.flops


def test_blocks_are_full(prepared: Callable[[str], Job]) -> None:
    job = prepared("pretrain")
    blocks = np.load(job.path(BLOCKS))
    tokenizer = BertTokenizer.from_pretrained(job.model)
    assert blocks.shape[1] == 160
    assert set(blocks[:, 0]) == {tokenizer.cls_token_id}
    assert set(blocks[:, -1]) == {tokenizer.sep_token_id}
    assert not set(blocks[:, 1:-1].ravel()) & {tokenizer.cls_token_id, tokenizer.pad_token_id}


def require_answers(found: Found, kind: str) -> None:
    assert found["samples"] == (2 if kind == "single" else 16)
    assert found["seconds"] > 0
    answered = 3 if kind == "single" else 24
    assert found["accuracy"] * answered == pytest.approx(round(found["accuracy"] * answered))
    if kind == "single":
        assert found["median_ms"] > 0
        assert found["ms_95"] > 0


@pytest.mark.parametrize(("name", "kind"), pairs(IN_TORCH, ("predict", "single")))
def test_prediction(name: str, kind: str, prepared: Callable[[str], Job]) -> None:
    require_answers(measure(name, prepared(kind)), kind)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize(("name", "kind"), pairs(EXPORTED, ("predict", "single")))
def test_prediction_with_an_export(name: str, kind: str, prepared: Callable[[str], Job]) -> None:
    require_answers(measure(name, prepared(kind)), kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["loop-fp32", "pipeline", "sentences", "ort-fp32", "openvino-fp32"]
)
def test_others_give_the_same_answers_as_bertolt(
    name: str, prepared: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text, weights and precision: else something else than speed would differ."""
    job = prepared("predict")
    if installed(name).export:
        export(CONTESTANTS[name].export, job)
    assert answers(name, job, monkeypatch) == answers("bertolt-fp32", job, monkeypatch)


def answers(name: str, job: Job, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The labels that a contestant gives to the evaluation texts, in order and in fp32."""
    texts, _ = job.rows("eval")
    given: list[int] = []

    def listen(_: Job, started: float, answer: Callable[[list[str]], list[int]], *more: object):
        given.extend(answer(texts))
        return {}

    contestant = CONTESTANTS[name]
    module = contestant.runs["predict"].split(":")[0]
    monkeypatch.setattr(f"benchmarks.{module}.time_bulk", listen)
    settings = {key: False if key == "bf16" else v for key, v in contestant.settings.items()}
    replace(contestant, settings=settings).measure(job, time.time(), 0)
    assert len(given) == len(texts)
    return given


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bertolt-grouped", "peer-tuned"])
def test_a_worker_does_a_whole_command(name: str, prepared: Callable[[str], Job]) -> None:
    installed(name)
    job = prepared("command")
    words = [str(job.path("job.json")), name, "--seed", "0", "--started", str(time.time())]
    found = session._worker(words, job)
    assert 0 < found["seconds"] < 120
    assert 0 <= found["accuracy"] <= 1
    assert found["peak_memory_mb"] > 50


def test_a_job_is_what_was_saved(prepared: Callable[[str], Job]) -> None:
    job = prepared("train")
    assert Job.load(str(job.save())) == job
    texts, labels = job.rows()
    assert len(texts) == len(labels) == 64
    assert job.mean_tokens == pytest.approx(sum(job.lengths()) / 64)
    assert 0 < job.flops_needed < job.flops


def test_texts_are_joined_until_they_are_long_enough(
    tiny_folder: Path, rows: Rows, tmp_path: Path
) -> None:
    BertModel.from_pretrained(tiny_folder, verbose=False).save_pretrained(tmp_path / "model")
    BertTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "model")
    work = Work(
        name="x",
        title="x",
        kind="mlm",
        texts="joined",
        steps=1,
        warmup=1,
        contestants=(),
        max_length=64,
    )
    job = fill(work, tmp_path, rows, threads=1)
    assert set(job.lengths()) == {64}


def test_the_clock_leaves_the_warm_up_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(kind="train", folder=str(tmp_path), steps=2, warmup=2, batch_size=4, threads=1)
    times = iter([10.0, 13.0, 14.0, 16.0])
    monkeypatch.setattr("benchmarks.job.time.perf_counter", lambda: next(times))
    clock = StepClock(job, started=time.time() - 5)
    for _ in range(4):
        clock.tick()
    found = clock.found([4, 4, 4, 3], [40, 40, 20, 30], [48, 48, 40, 60])
    assert found["samples"] == 7
    assert found["tokens"] == 50
    assert found["seconds"] == 3.0
    assert found["warmup_seconds"] == 3.0
    assert found["padding_share"] == 0.5
    assert found["median_tokens_per_second"] == pytest.approx(1 / ((1 / 20 + 2 / 30) / 2))
    assert found["first_step_seconds"] == pytest.approx(5, abs=1)


def test_wrong_answers_count(tmp_path: Path) -> None:
    write_rows(tmp_path / "eval.csv", ["a", "b", "c", "d"], [0, 1, 1, 0])
    job = Job(kind="predict", folder=str(tmp_path), steps=1, warmup=1, batch_size=2, threads=1)
    found = time_bulk(job, time.time(), lambda texts: [int(text in "bd") for text in texts])
    assert found["accuracy"] == 0.5
    with pytest.raises(AssertionError, match="an answer for each"):
        time_bulk(job, time.time(), lambda texts: [0])


def test_padding_share() -> None:
    assert padding_share([4, 4, 2, 2], 2) == 0
    assert padding_share([4, 2, 4, 2], 2) == 0.25
    assert math.isclose(padding_share([3, 1, 1], 2), 1 - 5 / 7)


def test_every_work_has_contestants_that_can_do_it() -> None:
    for name, work in WORKS.items():
        assert work.name == name
        assert work.contestants[0] == "bertolt"
        assert set(work.quick) <= set(work.contestants)
        for each in work.contestants:
            assert work.kind in CONTESTANTS[each].runs, (name, each)
        assert work.kind == "command" or work.warmup >= 1
    assert {each for work in WORKS.values() for each in work.contestants} == set(CONTESTANTS)
    assert all(name == each.name for name, each in CONTESTANTS.items())


def test_timed_steps_are_whole_windows_of_who_groups_by_length() -> None:
    """`transformers` and Bertolt sort a quarter of the rows, of 50 batches at most."""
    for work in WORKS.values():
        if work.kind == "train" and work.texts != "joined":
            assert work.steps % min(work.rows // (4 * work.batch_size), 50) == 0, work.name


def test_the_loop_by_hand_masks_as_many_words_as_bertolt() -> None:
    by_hand = pytest.importorskip("benchmarks.by_hand")
    assert PretrainOptions().mask == by_hand.MASKED


def test_who_is_not_installed_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    work = WORKS["single-movie"]
    record = session.describe_session([work], repeats=1, threads=1, words=[])
    states = {n: e["state"] for n, e in record["works"][work.name]["contestants"].items()}
    assert list(states) == list(work.contestants)
    assert states["bertolt"] == "ok"
    assert states["ort-int8"] == "not installed: transformers, onnx, onnxruntime"


def test_rounds_are_interleaved_and_a_failure_stops_only_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = session.select(WORKS["finetune-movie"], ["bertolt", "bertolt-grouped", "peer-bf16"])
    asked = []

    def python(words: list[str], threads: int, folder: Path) -> str:
        module, first, *rest = words
        if module == "benchmarks.prepare":
            Job(
                kind="train", folder=str(folder), steps=1, warmup=1, batch_size=1, threads=threads
            ).save()
            return ""
        name = first if first.startswith("--") else rest[0]
        asked.append(name)
        if name == "bertolt-grouped":
            failed = [sys.executable, "-c", "raise ValueError('no luck')"]
            return session.subprocess.run(
                failed, check=True, capture_output=True, encoding="utf-8"
            ).stdout
        return f'noise\n{{"bf16": {len(asked) % 2 + 1.0}, "seconds": 2.0}}'

    monkeypatch.setattr(session, "_python", python)
    kept = []
    record = session.run(
        [work],
        repeats=2,
        threads=3,
        words=["x"],
        quick=False,
        steps=None,
        say=lambda line: None,
        keep=lambda record: kept.append(len(asked)),
    )
    once = ["--products", "bertolt", "bertolt-grouped", "peer-bf16"]
    assert asked == [*once, "--products", "--products", "bertolt", "peer-bf16", "--products"]
    assert kept == [5, 9]
    # The faster of before and after: calls 1 and 5, then 6 and 9.
    assert [each["bf16"] for each in record["works"]["finetune-movie"]["products"]] == [2.0, 2.0]
    found = record["works"]["finetune-movie"]["contestants"]
    assert found["bertolt-grouped"]["state"] == "failed: ValueError: no luck"
    assert len(found["bertolt"]["runs"]) == len(found["peer-bf16"]["runs"]) == 2


def test_everyone_gets_the_same_threads_no_network_and_no_cache(tmp_path: Path) -> None:
    found = session.environment(3, tmp_path)
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "3"
    assert found["HF_HUB_OFFLINE"] == "1"
    assert found["HF_HOME"].startswith(str(tmp_path))
    assert found["BERTOLT_CACHE_TOKENS"] == "0"
    assert found["PATH"] == os.environ["PATH"]
