"""Whole runs: what they learn, what they write, how they go on, what they refuse."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bertolt import (
    AdamW,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertTokenizer,
    PackedBatch,
)
from bertolt.base.errors import BertoltError, CheckpointError, DataError, TrainingError, UsageError
from bertolt.checkpoint.store import Store
from bertolt.corpus.shards import Corpus
from bertolt.data.batch import IGNORE_INDEX
from bertolt.models.initialize import sinusoids
from bertolt.pretrain.batches import Batches
from bertolt.pretrain.flops import training_flops
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.run import pretrain
from bertolt.pretrain.setup import PASS_TOKENS, _even_rows
from bertolt.train.step import train_step
from tests.callbacks import At, press
from tests.pretrain.corpora import predictable_shards, random_shards, shard, write_corpus

Make = Callable[..., PretrainOptions]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in ours.items()
    )


@pytest.mark.parametrize("objective", ["mlm", "mlm+nsp"])
def test_a_run_learns_and_leaves_a_whole_folder(
    letters: Path, options: Make, objective: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    done = pretrain(letters, options(objective=objective, steps=60, lr=1e-2))
    first, last = done.history.steps[0].loss, done.history.steps[-1].loss
    assert last < 0.8 * first
    out = done.out
    assert {path.name for path in out.iterdir()} >= {
        "arguments.json",
        "checkpoint-50",
        "checkpoint-60",
        "config.json",
        "log.jsonl",
        "metrics.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert "checkpoint-40" not in {path.name for path in out.iterdir()}
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == json.loads(json.dumps(done.metrics))
    assert metrics["train"]["steps"] == 60
    assert metrics["train"]["peak_share"] > 0
    assert metrics["train"]["filler_share"] < 0.06
    names = {"eval_loss", "eval_masked_accuracy"}
    if objective == "mlm+nsp":
        names |= {f"eval_{n}" for n in ("masked_loss", "next_sentence_loss")}
        names |= {"eval_next_sentence_accuracy"}
    assert metrics["eval"].keys() == names
    said = capsys.readouterr().err
    assert "Entropy of single tokens: 3.2" in said
    assert "tokens/s" in said
    assert "Held-out masked accuracy: " in said
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    kind = "BertForMaskedLM" if objective == "mlm" else "BertForPreTraining"
    assert config["architectures"] == [kind]
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0.1
    assert config["vocab_size"] == 97


def test_the_log_has_every_step_and_evaluation(letters: Path, options: Make) -> None:
    done = pretrain(letters, options())
    lines = [json.loads(line) for line in (done.out / "log.jsonl").open(encoding="utf-8")]
    assert lines[0]["settings"]["total_steps"] == 30
    attended = batches_of(letters, rows=512).attended
    wanted = training_flops(BertConfig.from_pretrained(done.out), attended, 0.2)
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 31))
    for line, log in zip(steps, done.history.steps, strict=True):
        assert line["loss"] == pytest.approx(log.loss, rel=1e-6)
        assert line["tokens"] == log.tokens
        assert line["tokens_per_second"] == pytest.approx(log.tokens / log.seconds, rel=1e-5)
        assert line["peak_share"] == pytest.approx(line["flops_per_second"] / 1e11, rel=1e-5)
        flops = line["flops_per_second"] * line["seconds"] / line["tokens"]
        assert flops == pytest.approx(wanted, rel=1e-5)
    evaluated = [line["step"] for line in lines if "eval_loss" in line]
    assert evaluated == [10, 20, 30]


def test_a_checkpoint_too_has_the_dropout_of_the_shape(letters: Path, options: Make) -> None:
    done = pretrain(letters, options())
    result, checkpoint = map(BertConfig.from_pretrained, (done.out, done.out / "checkpoint-20"))
    assert checkpoint == result
    assert checkpoint.hidden_dropout_prob == checkpoint.attention_probs_dropout_prob == 0.1
    again = pretrain(
        letters, options(model=str(done.out / "checkpoint-20"), out=done.out.with_name("again"))
    )
    assert BertConfig.from_pretrained(again.out) == result


def batches_of(folder: Path, *, rows: int) -> Batches:
    """The batches that a run of this corpus trains on."""
    corpus = Corpus.open(folder)
    tokenizer = BertTokenizer.from_pretrained(corpus.tokenizer_folder)
    return Batches(corpus.train, tokenizer, max_length=corpus.manifest.max_length, rows=rows)


def test_the_peer_opens_it_and_answers_alike(letters: Path, options: Make) -> None:
    from transformers import AutoTokenizer as PeerTokenizer
    from transformers import BertForPreTraining as PeerModel

    out = pretrain(letters, options(objective="mlm+nsp")).out
    peer, info = PeerModel.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())
    text = "a film with a very moving plot"
    ids = PeerTokenizer.from_pretrained(out)(text, return_tensors="pt")
    assert ids["input_ids"].tolist() == [BertTokenizer.from_pretrained(out)(text)["input_ids"]]
    ours = BertForPreTraining.from_pretrained(out, verbose=False)
    with torch.no_grad():
        expected, found = peer.eval()(**ids), ours(**ids)
    for name in ("prediction_logits", "seq_relationship_logits"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


def test_a_classifier_starts_from_it(
    letters: Path,
    options: Make,
    tmp_path: Path,
    reviews: list[tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bertolt.commands.finetune.options import FinetuneOptions
    from bertolt.commands.finetune.run import finetune

    out = pretrain(letters, options()).out
    table = tmp_path / "reviews.csv"
    rows = [f"{text},{label}" for text, label in reviews]
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    capsys.readouterr()
    done = finetune(
        table,
        FinetuneOptions(model=str(out), out=tmp_path / "classifier", epochs=1, precision="fp32"),
    )
    assert done.scores is not None
    assert "Limit: 64 tokens, from the model's position table" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["mlm", "mlm+nsp"])
def test_several_passes_act_as_one_large_batch(
    objective: Any, tiny_tokenizer: BertTokenizer, tiny_config: Callable[..., BertConfig]
) -> None:
    """Three steps of four batches each are those of one batch with all their sequences."""
    kind = BertForMaskedLM if objective == "mlm" else BertForPreTraining
    made = Batches(random_shards(200), tiny_tokenizer, objective=objective, max_length=32, rows=256)
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    found: list[list[float]] = []
    for together in (False, True):
        torch.manual_seed(0)
        model = kind(config).train()
        optimizer = AdamW(model.parameters(), lr=1e-3)
        found.append([])
        for step in range(3):
            parts = [made.batch(4 * step + number, 0.2) for number in range(4)]
            log = train_step(model, _merged(parts) if together else parts, optimizer)
            found[-1] += [log.loss, log.grad_norm]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def _merged(parts: list[PackedBatch]) -> PackedBatch:
    """The sequences of several batches in one."""
    ids, types, labels, following = [], [], [], []
    for part in parts:
        bounds = part.cu_seqlens[1:-1].long()
        kept = slice(0, part.num_tokens)
        assert part.labels is not None
        for found, values in ((ids, part.input_ids), (types, part.token_type_ids)):
            found += [each.numpy() for each in torch.tensor_split(values[kept], bounds)]
        labels += [each.numpy() for each in torch.tensor_split(part.labels[kept], bounds)]
        if part.next_sentence_label is not None:
            following.append(part.next_sentence_label)
    return PackedBatch.from_sequences(
        ids,
        types,
        token_labels=labels,
        next_sentence_label=torch.cat(following) if following else None,
    )


def test_a_step_grows_while_it_is_warmed_up(letters: Path, options: Make) -> None:
    done = pretrain(letters, options(batch_tokens=2048, pass_tokens=512, steps=5, batch_warmup=4))
    tokens = [log.tokens for log in done.history.steps]
    assert [round(count / 500) for count in tokens] == [1, 1, 2, 3, 4]


def test_what_has_little_effect_is_said(
    letters: Path, options: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Words of one piece, as Chinese characters are, and a model that nothing is there to share."""
    pretrain(letters, options(steps=1, whole_words=True, shard=True))
    said = capsys.readouterr().err
    assert "Whole words: 0.0% of the tokens go on with the word before them" in said
    assert "one process alone splits nothing" in said
    pretrain(letters, options(steps=1, out=tmp_path / "plain"))
    said = capsys.readouterr().err
    assert "Whole words" not in said
    assert "splits nothing" not in said


def test_masks_follow_their_schedule(
    letters: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    make = Batches.batch

    def watched(self: Batches, number: int, share: float) -> PackedBatch:
        batch = make(self, number, share)
        assert batch.labels is not None
        masked = int((batch.labels != IGNORE_INDEX).sum())
        shares.append((share, masked / (batch.num_tokens - 2 * batch.num_sequences)))
        return batch

    monkeypatch.setattr(Batches, "batch", watched)
    pretrain(letters, options(mask=0.4, mask_end=0.1, steps=4))
    asked, found = zip(*shares[-4:], strict=True)
    assert asked == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert found == pytest.approx(asked, abs=0.002)
    # Held-out batches come first, and their share is the one of the start.
    assert {share for share, _ in shares[:-4]} == {0.4}


@pytest.mark.parametrize(
    ("changes", "steps"), [({"epochs": 0.5}, 32), ({"tokens": "10k"}, 20), ({"steps": 7}, 7)]
)
def test_how_long_a_run_is(
    letters: Path, options: Make, changes: dict[str, Any], steps: int
) -> None:
    assert len(pretrain(letters, options(**changes)).history.steps) == pytest.approx(steps, abs=2)


@pytest.mark.parametrize("schedule", ["linear", "constant_with_warmup", "warmup_stable_decay"])
def test_the_rate_follows_its_schedule(letters: Path, options: Make, schedule: Any) -> None:
    done = pretrain(letters, options(schedule=schedule, steps=20, warmup=0.25, lr=1e-3))
    rates = [log.learning_rate for log in done.history.steps]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(1e-3)
    assert rates[12] == pytest.approx(1e-3 * 8 / 15 if schedule == "linear" else 1e-3)
    assert (rates[-1] == rates[12]) == (schedule == "constant_with_warmup")


def test_wider_models_learn_more_slowly() -> None:
    assert PretrainOptions().peak_rate(256) == 1e-3
    assert PretrainOptions().peak_rate(64) == 1e-3
    assert PretrainOptions().peak_rate(768) == pytest.approx(1e-3 / 3)
    assert PretrainOptions(lr=0.5).peak_rate(768) == 0.5


def test_a_run_goes_on_from_a_model(letters: Path, options: Make, tmp_path: Path) -> None:
    first = pretrain(letters, options(steps=40))
    again = pretrain(letters, options(model=str(first.out), steps=10, out=tmp_path / "again"))
    assert again.history.steps[0].loss < first.history.steps[0].loss - 0.3
    assert again.history.steps[0].learning_rate == 0


def test_positions_of_a_new_model_start_as_sinusoids(
    letters: Path, options: Make, tmp_path: Path
) -> None:
    """A rate of next to nothing leaves the start in place."""
    name = "bert.embeddings.position_embeddings.weight"
    still = {"steps": 1, "lr": 1e-12, "weight_decay": 0.0}
    waves = weights(pretrain(letters, options(**still)).out)[name]
    torch.testing.assert_close(waves, sinusoids(*waves.shape, std=0.02), atol=1e-6, rtol=1e-5)
    normal = options(**still, position_init="normal", out=tmp_path / "normal")
    drawn = weights(pretrain(letters, normal).out)[name]
    assert float((drawn - waves).abs().mean()) > 0.01


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_ends_as_if_it_had_not_been(
    letters: Path,
    options: Make,
    tmp_path: Path,
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = pretrain(letters, options(out=tmp_path / "whole"))
    settings = options(resume=True, dropout=0.1)
    reference = pretrain(letters, options(out=tmp_path / "reference", dropout=0.1))
    assert not same_weights(whole.out, reference.out)
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit) as ended:
            pretrain(letters, settings, callbacks=[At(17, lambda: signal.raise_signal(number))])
        assert ended.value.code == 143
    else:
        assert pretrain(
            letters, settings, callbacks=[At(17, lambda: signal.raise_signal(number))]
        ).interrupted
    assert "No checkpoint in" in capsys.readouterr().err
    assert not (settings.out / "model.safetensors").exists()
    assert (settings.out / "checkpoint-17").is_dir()
    done = pretrain(letters, settings)
    assert f"Resumed from {settings.out / 'checkpoint-17'}" in capsys.readouterr().err
    assert same_weights(settings.out, reference.out)
    assert done.history.evaluations == reference.history.evaluations
    assert [log.loss for log in done.history.steps] == [log.loss for log in reference.history.steps]
    logs = [
        [json.loads(line).get("step") for line in (folder / "log.jsonl").open(encoding="utf-8")]
        for folder in (settings.out, reference.out)
    ]
    assert logs[0] == logs[1]


def test_sigterm_does_not_wait_for_the_end_of_an_evaluation(
    letters: Path,
    options: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bertolt.pretrain import measure

    reference = pretrain(letters, options(out=tmp_path / "reference", dropout=0.1))
    settings = options(resume=True, dropout=0.1)
    sums, measured = measure._sums, []

    def watched(*given: Any) -> torch.Tensor:
        measured.append(given)
        if len(measured) == 2:
            signal.raise_signal(signal.SIGTERM)
        return sums(*given)

    with monkeypatch.context() as watching:
        watching.setattr(measure, "_sums", watched)
        with pytest.raises(SystemExit) as ended:
            pretrain(letters, settings)
    assert ended.value.code == 143
    assert len(measured) == 2
    assert Store(settings.out).steps() == [10]
    done = pretrain(letters, settings)
    assert f"Resumed from {settings.out / 'checkpoint-10'}" in capsys.readouterr().err
    assert same_weights(settings.out, reference.out)
    assert done.history.evaluations == reference.history.evaluations
    lines = [json.loads(line) for line in (settings.out / "log.jsonl").open(encoding="utf-8")]
    assert [line["step"] for line in lines if "eval_loss" in line] == [10, 20, 30]


def test_the_log_of_a_killed_run_loses_its_torn_line(letters: Path, options: Make) -> None:
    pretrain(letters, options(resume=True), callbacks=[At(12, press)])
    out = options().out
    for folder in out.glob("checkpoint-12"):
        folder.rename(out / "away")
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 13, "lo')
    (out / "away").rename(out.parent / "away")
    pretrain(letters, options(resume=True))
    lines = [json.loads(line) for line in (out / "log.jsonl").open(encoding="utf-8")]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 31))


def test_the_best_weights_can_be_the_result(
    letters: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertolt.pretrain.measure import HeldOut

    measure = HeldOut.measure
    found: list[dict[str, float]] = []

    def worse_at_the_end(self: HeldOut, *args: Any) -> dict[str, float]:
        metrics = measure(self, *args)
        found.append({**metrics, "eval_loss": 1.0 if len(found) == 1 else 2.0})
        return found[-1]

    monkeypatch.setattr(HeldOut, "measure", worse_at_the_end)
    done = pretrain(letters, options(keep="best"))
    out = done.out
    assert done.metrics["eval"]["eval_loss"] == 1
    assert Store(out).steps() == [20, 30]
    assert same_weights(out, out / "checkpoint-20")


def test_a_loss_that_is_not_finite_ends_the_run(letters: Path, options: Make) -> None:
    with pytest.raises(TrainingError, match=r"checkpoint-\d+ has whole weights") as found:
        pretrain(letters, options(lr=1e30, clip=0, save_every=1))
    assert "smaller --lr than 1e+30" in found.value.fix
    assert not (options().out / "model.safetensors").exists()


def test_a_plateau_is_named_and_its_end_too(
    tmp_path: Path,
    options: Make,
    tiny_tokenizer: BertTokenizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Words in no order have nothing to learn but how frequent they are."""
    random = np.random.default_rng(0)

    def noise(seed: int) -> list[Any]:
        words = np.minimum(random.geometric(0.2, 12_000), 40) + 5
        return [shard([[part.tolist() for part in np.split(words[at : at + 60], 3)]
                       for at in range(0, 12_000, 60)])]  # fmt: skip

    corpus = write_corpus(tmp_path / "noise", tiny_tokenizer, noise(0), noise(1))
    done = pretrain(corpus, options(steps=100, lr=1e-2, eval_every=10))
    said = capsys.readouterr().err
    assert "stays near 2.4" in said or "stays near 2.5" in said
    assert "the entropy of single tokens" in said
    assert done.metrics["left_token_entropy_at_step"] is None
    entropy = done.metrics["token_entropy"]
    assert done.metrics["eval"]["eval_loss"] == pytest.approx(entropy, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "words", "fix"),
    [
        ({"mask": 0}, "--mask is 0", "give a share above 0 to below 1, as 0.2"),
        ({"steps": 3, "epochs": 2}, "--steps and --epochs were given", "give one of them"),
        ({"tokens": "many"}, "--tokens is 'many'", "give a number, as 33M, 100B or 1.5T"),
        ({"model": "x", "config": "base"}, "--model and --config were given", "give one of them"),
        (
            {"model": "x", "position_init": "normal"},
            "--model and --position-init were given",
            "give one of them",
        ),
        ({"position_init": "cosine"}, "--position-init is 'cosine'", "give sinusoid or normal"),
        ({"keep": 0}, "--keep is 0", "give 1 or more, or best"),
        ({"warmup": -1}, "--warmup is -1", "give 0 or more"),
        ({"schedule": "straight"}, "--schedule is 'straight'", "give linear or"),
    ],
)
def test_options_that_cannot_be_are_refused(changes: dict[str, Any], words: str, fix: str) -> None:
    with pytest.raises(UsageError, match=words) as found:
        PretrainOptions(**changes)
    assert found.value.fix.startswith(fix)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_tokens": 1000, "pass_tokens": 512}, "no multiple of the 512 of a forward pass"),
        ({"batch_tokens": 100}, "--batch-tokens is 100, and sequences have up to 64"),
        ({"batch_warmup": 9}, "--batch-warmup is 9, and a step is a single forward pass"),
        ({"config": "huge"}, "--config is 'huge'"),
        ({"positions": 32}, "up to 64 tokens, and the position table"),
        ({"model": "nowhere"}, "nowhere"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    letters: Path, options: Make, changes: dict[str, Any], words: str
) -> None:
    settings = options(**changes)
    with pytest.raises(BertoltError, match=words):
        pretrain(letters, settings)
    assert not settings.out.exists()


@pytest.mark.parametrize(
    ("batch", "most", "least", "rows"),
    [
        (4096, 4096, 128, 4096),
        (4096, 1365, 128, 1024),  # of three processes
        (4096, 256, 1024, 1024),  # of sixteen, which a sequence of 512 does not leave that little
        (5000, 4096, 128, 2500),
        (100, 100, 128, 100),  # refused: too few for two sequences
        (4099, 4096, 128, 4096),  # refused: a prime number of tokens
        (4099, 4099, 128, 4099),
        (131 * 37, 4096, 128, 4096),  # refused rather than cut into 37
    ],
)
def test_passes_are_as_large_as_they_may_be_and_even(
    batch: int, most: int, least: int, rows: int
) -> None:
    assert _even_rows(batch, most, least) == rows


def test_a_model_of_another_vocabulary_is_refused(
    letters: Path, options: Make, real_checkpoint: Path
) -> None:
    with pytest.raises(UsageError, match="another vocabulary than the one that made the corpus"):
        pretrain(letters, options(model=str(real_checkpoint)))


@pytest.mark.parametrize("option", ["model", "config"])
def test_another_family_is_refused(
    option: str, letters: Path, options: Make, roberta_folder: Path, tmp_path: Path
) -> None:
    given = roberta_folder if option == "model" else roberta_folder / "config.json"
    with pytest.raises(CheckpointError, match="is 'roberta', and a 'bert' model is needed") as told:
        pretrain(letters, options(**{option: str(given)}))
    assert told.value.place == str(roberta_folder / "config.json")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_corpus_without_text_or_none_at_all_is_refused(
    tmp_path: Path, options: Make, tiny_tokenizer: BertTokenizer
) -> None:
    with pytest.raises(DataError, match="no prepared corpus"):
        pretrain(tmp_path, options())
    empty = write_corpus(tmp_path / "empty", tiny_tokenizer, [], predictable_shards(3))
    with pytest.raises(DataError, match="no text to train on"):
        pretrain(empty, options())


def test_a_corpus_that_holds_nothing_out_is_trained_on(
    tmp_path: Path,
    options: Make,
    tiny_tokenizer: BertTokenizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = write_corpus(tmp_path / "all", tiny_tokenizer, predictable_shards(50))
    done = pretrain(corpus, options(steps=3))
    assert done.metrics["eval"] is None
    assert "there is no held-out loss" in capsys.readouterr().err


def test_held_out_text_without_pairs_is_measured_by_its_masks(
    tmp_path: Path,
    options: Make,
    tiny_tokenizer: BertTokenizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = write_corpus(
        tmp_path / "one", tiny_tokenizer, predictable_shards(50), predictable_shards(1)
    )
    done = pretrain(corpus, options(steps=3, objective="mlm+nsp"))
    assert done.metrics["eval"].keys() == {"eval_loss", "eval_masked_accuracy"}
    assert "only masked tokens are measured: next sentence prediction needs" in (
        capsys.readouterr().err
    )


def test_a_folder_in_use_is_refused(letters: Path, options: Make) -> None:
    settings = options(steps=3)
    pretrain(letters, settings)
    with pytest.raises(UsageError, match="the folder is not empty") as found:
        pretrain(letters, settings)
    assert found.value.fix == "go on with what is there: --resume; or replace it: --overwrite"
    (settings.out / "mine.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(UsageError, match=r"'mine.txt', which no run has written"):
        pretrain(letters, replace(settings, overwrite=True))
    (settings.out / "mine.txt").unlink()
    pretrain(letters, replace(settings, overwrite=True, steps=4))
    assert Store(settings.out).steps() == []


def test_a_folder_without_a_run_is_not_gone_on_with(letters: Path, options: Make) -> None:
    settings = options(resume=True)
    settings.out.mkdir()
    (settings.out / "config.json").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="no run to go on with"):
        pretrain(letters, settings)
    assert [path.name for path in settings.out.iterdir()] == ["config.json"]


def test_other_settings_do_not_go_on(letters: Path, options: Make) -> None:
    pretrain(letters, options(), callbacks=[At(12, press)])
    with pytest.raises(UsageError, match=r"it was made with --mask 0\.2, and now it is 0\.3"):
        pretrain(letters, options(resume=True, mask=0.3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eval_every": 5}, "--eval-every 10, and now"),
        ({"eval_tokens": 900}, "--eval-tokens 200000"),
    ],
)
def test_evaluations_that_choose_the_weights_stay_as_they_were(
    letters: Path, options: Make, changes: dict[str, Any], words: str
) -> None:
    pretrain(letters, options(keep="best"), callbacks=[At(12, press)])
    with pytest.raises(UsageError, match=f"it was made with {words}"):
        pretrain(letters, options(keep="best", resume=True, **changes))
    last = options(out=options().out.with_name("last"))
    pretrain(letters, last, callbacks=[At(12, press)])
    pretrain(letters, replace(last, resume=True, **changes))  # nothing is chosen by them


def test_a_config_is_compared_by_its_content(letters: Path, options: Make) -> None:
    settings = options(resume=True)
    pretrain(letters, settings, callbacks=[At(12, press)])
    config = Path(str(settings.config))
    values = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(values | {"num_attention_heads": 2}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"config\.num_attention_heads 4, and now it is 2"):
        pretrain(letters, settings)
    config.unlink()
    moved = config.with_name("moved.json")
    moved.write_text(json.dumps(values), encoding="utf-8")
    pretrain(letters, replace(settings, config=str(moved)))


def test_a_run_goes_on_with_the_passes_that_it_began_with(
    letters: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this machine would take by default."""
    reference = pretrain(letters, options(out=options().out.with_name("reference")))
    pretrain(letters, options(), callbacks=[At(12, press)])
    monkeypatch.setitem(PASS_TOKENS, "cpu", 256)
    with pytest.raises(UsageError, match=r"it was made with --pass-tokens 512, and now it is 256"):
        pretrain(letters, options(resume=True, pass_tokens=256))
    with pytest.raises(UsageError, match=r"it was made with --batch-tokens 512, and now it is 768"):
        pretrain(letters, options(resume=True, batch_tokens=768))
    pretrain(letters, options(resume=True))
    assert same_weights(options().out, reference.out)
    pretrain(letters, options(resume=True))  # complete


@pytest.mark.parametrize("save_every", [10, 100])
def test_a_complete_run_has_nothing_left_to_do(
    letters: Path,
    options: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    save_every: int,
) -> None:
    first = pretrain(letters, options(save_every=save_every))
    before = content(first.out)
    capsys.readouterr()
    for slow in ("pretrain.setup.this_device", "train.trainer.choose_precision"):  # both measure
        monkeypatch.setattr(f"bertolt.{slow}", None)
    again = pretrain(letters, options(save_every=save_every, resume=True, precision="auto"))
    said = capsys.readouterr().err
    assert f"nothing is left to do: its result is in {first.out}\n" in said
    assert "step 1/" not in said
    assert again.metrics == json.loads(json.dumps(first.metrics))
    assert not again.history.steps
    with pytest.raises(UsageError, match=r"out: it was made with --mask 0\.2, and now it is 0\.3"):
        pretrain(letters, options(resume=True, precision="auto", mask=0.3))
    assert content(first.out) == before


@pytest.mark.parametrize("gone", ["metrics.json", "model.safetensors"])
def test_a_result_of_which_a_file_is_gone_is_written_again(
    letters: Path, options: Make, gone: str
) -> None:
    first = pretrain(letters, options())
    wanted = weights(first.out)
    (first.out / gone).unlink()
    again = pretrain(letters, options(resume=True))
    assert again.metrics["eval"] == first.metrics["eval"]
    assert json.loads((first.out / "metrics.json").read_text(encoding="utf-8"))["eval"]
    found = weights(first.out)
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


def content(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """When each file was written, and what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_result_that_is_written_anew_is_not_complete_before(letters: Path, options: Make) -> None:
    settings = options(save_every=100)
    pretrain(letters, settings)
    again = replace(settings, resume=True, overwrite=True)
    assert pretrain(letters, again, callbacks=[At(12, press)]).interrupted
    done = pretrain(letters, replace(settings, resume=True))
    assert [log.step for log in done.history.steps] == list(range(1, 31))
    assert (settings.out / "complete.json").is_file()


def test_held_out_numbers_are_of_fixed_masks(letters: Path, options: Make) -> None:
    """The first evaluation of two runs that differ only in their later steps is the same."""
    one = pretrain(letters, options(steps=10, schedule="constant", warmup=0))
    other = pretrain(
        letters, options(steps=20, schedule="constant", warmup=0, out=options().out / "b")
    )
    assert one.history.evaluations[0] == other.history.evaluations[0]
    assert math.isfinite(one.metrics["eval"]["eval_loss"])


def test_an_epoch_reads_the_text_once_whatever_the_objective(letters: Path, options: Make) -> None:
    """Pairs have half of their second spans from elsewhere, so a round of them is longer."""
    seen = {}
    for objective in ("mlm", "mlm+nsp"):
        done = pretrain(letters, options(objective=objective, epochs=0.5, overwrite=True))
        assert done.metrics["train"]["epochs"] == pytest.approx(0.5, rel=0.05)
        seen[objective] = sum(log.tokens for log in done.history.steps)
    assert seen["mlm+nsp"] == pytest.approx(seen["mlm"], rel=0.15)


def test_held_out_masks_do_not_depend_on_passes_and_seeds(
    letters: Path, options: Make, tmp_path: Path
) -> None:
    """The same weights measured in two runs: a rate of next to nothing leaves them in place."""
    model = str(pretrain(letters, options()).out)
    still = {"model": model, "steps": 1, "lr": 1e-12, "weight_decay": 0.0, "objective": "mlm+nsp"}
    changes = {"a": {}, "b": {"batch_tokens": 1024, "pass_tokens": 256, "seed": 7}}
    found = [
        pretrain(letters, options(**still, **each, out=tmp_path / name)).metrics["eval"]
        for name, each in changes.items()
    ]
    names = ("eval_masked_loss", "eval_masked_accuracy")
    assert [found[0][name] for name in names] == pytest.approx([found[1][name] for name in names])
