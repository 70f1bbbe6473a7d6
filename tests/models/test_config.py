"""`BertConfig`, `TrainingArguments` and `FinetuneOptions`."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import logging
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from bertolt import BertConfig, Trainer, TrainingArguments
from bertolt.base.errors import CheckpointError, KeywordError, UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.models import bert, config
from bertolt.models.shapes import find_config
from bertolt.train.peer_arguments import (
    REPLACED_ARGUMENTS,
    PeerArguments,
    instead_of_argument,
    is_peers,
)

# ---- BertConfig ----


def test_defaults_are_those_of_the_peer() -> None:
    ours, theirs = BertConfig(), transformers.BertConfig()
    for item in dataclasses.fields(BertConfig):
        if item.name not in ("extra", "architectures"):
            assert getattr(ours, item.name) == getattr(theirs, item.name), item.name


def test_what_the_peer_writes_is_read_and_written_back_whole(tmp_path: Path) -> None:
    theirs = transformers.BertConfig(
        num_labels=3,
        id2label={0: "poor", 1: "so so", 2: "好"},
        label2id={"poor": 0, "so so": 1, "好": 2},
        classifier_dropout=0.3,
        hidden_act="relu",
        finetuning_task="reviews",
    )
    theirs.save_pretrained(tmp_path / "theirs")
    ours = BertConfig.from_pretrained(tmp_path / "theirs")
    assert ours.id2label == theirs.id2label
    assert ours.label2id == theirs.label2id
    assert (ours.num_labels, ours.classifier_dropout, ours.hidden_act) == (3, 0.3, "relu")
    assert ours.extra["finetuning_task"] == "reviews"
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.BertConfig.from_pretrained(tmp_path / "ours")
    skip = ("_name_or_path", "transformers_version", "architectures")
    found, wanted = (
        {k: v for k, v in c.to_dict().items() if k not in skip} for c in (again, theirs)
    )
    assert {key: found.get(key) for key in wanted} == wanted
    assert BertConfig.from_pretrained(tmp_path / "ours") == ours


def test_what_a_file_asks_to_see_is_a_field() -> None:
    config = BertConfig.from_dict({"output_hidden_states": True, "output_attentions": True})
    assert config.output_hidden_states
    assert config.output_attentions
    assert not config.extra


def test_the_file_is_readable_by_people(tmp_path: Path) -> None:
    BertConfig().changed(id2label={0: "好", 1: "坏"}).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert '"好"' in text
    assert text.endswith("}\n")
    assert json.loads(text)["model_type"] == "bert"


def test_labels_are_counted_and_named() -> None:
    config = BertConfig()
    assert config.num_labels == 2
    config.num_labels = 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    named = config.changed(id2label={"1": "b", "0": "a"})
    assert named.id2label == {0: "a", 1: "b"}
    assert list(named.id2label) == [0, 1]
    assert named.changed(num_labels=2).id2label == {0: "a", 1: "b"}, "names that fit are kept"
    assert named.changed(label2id={"x": 0, "y": 1, "z": 2}).id2label == {0: "x", 1: "y", 2: "z"}
    assert BertConfig.from_dict({"num_labels": 5}).num_labels == 5
    with pytest.raises(CheckpointError, match="num_labels is 0"):
        config.changed(num_labels=0)


def test_a_changed_copy_leaves_the_old_one_alone() -> None:
    config = BertConfig()
    other = config.changed(hidden_size=24, num_labels=7)
    assert (other.hidden_size, other.head_size, other.num_labels) == (24, 2, 7)
    assert (config.hidden_size, config.head_size, config.num_labels) == (768, 64, 2)
    assert copy.deepcopy(other) == other


def test_a_field_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'hidden_sise'") as caught:
        BertConfig().changed(hidden_sise=1)
    assert "hidden_size" in caught.value.fix


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hidden_size": 100}, "100 is not a multiple of num_attention_heads 12"),
        ({"hidden_size": "768"}, "hidden_size is '768'"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"max_position_embeddings": 5.5}, r"max_position_embeddings is 5\.5"),
        ({"hidden_act": "swish2"}, "hidden_act is 'swish2'"),
        ({"problem_type": "guess"}, "problem_type is 'guess'"),
        ({"id2label": ["a", "b"]}, "id2label is"),
        ({"id2label": {"a": 0}}, "id2label is"),
        ({"id2label": {"0": "a", "2": "b"}}, r"keys \[0, 2\]"),
        ({"position_embedding_type": "relative_key"}, "'relative_key'"),
        ({"add_cross_attention": True}, "the model is no decoder"),
        ({"num_labels": 0}, "num_labels is 0"),
        ({"num_labels": -1}, "num_labels is -1"),
        ({"num_labels": 2.0}, r"num_labels is 2\.0"),
        ({"id2label": {}}, "id2label is empty"),
        ({"classifier_dropout": 3.0}, r"classifier_dropout is 3\.0"),
        ({"output_attentions": "yes"}, "output_attentions is 'yes'"),
        ({"hidden_size": 12.5}, r"hidden_size is 12\.5"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"vocab_size": 2**63}, "vocab_size is 9223372036854775808"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps is '1e-12'"),
        ({"hidden_dropout_prob": False}, "hidden_dropout_prob is False"),
        ({"initializer_range": [0.02]}, r"initializer_range is \[0\.02\]"),
        ({"pad_token_id": "0"}, "pad_token_id is '0'"),
        ({"pad_token_id": 0.0}, r"pad_token_id is 0\.0"),
        ({"architectures": [5]}, r"architectures is \[5\]"),
        ({"architectures": "BertModel"}, "architectures is 'BertModel'"),
        ({"is_decoder": "no"}, "is_decoder is 'no'"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1"),
        ({"hidden_act": ["gelu"]}, r"hidden_act is \['gelu'\]"),
        ({"problem_type": {}}, r"problem_type is \{\}"),
        ({"num_labels": "3"}, "num_labels is '3'"),
        ({"id2label": 5}, "id2label is 5"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_is_refused(
    values: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        BertConfig.from_dict(values)
    assert caught.value.fix
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    for read in (BertConfig.from_pretrained, find_config):
        with pytest.raises(CheckpointError, match=words) as caught:
            read(str(tmp_path))
        assert caught.value.place == str(path), "the file is named"


# ---- TrainingArguments ----


def test_arguments_have_the_names_and_defaults_of_the_peer() -> None:
    theirs = {item.name: item for item in dataclasses.fields(transformers.TrainingArguments)}
    # Deliberately otherwise: the run goes to "out", checkpoints are asked for, trackers come later.
    ours_alone = {"precision", "layer_decay"}
    differ = {"output_dir", "eval_steps", "logging_steps", "bf16", "save_strategy", "report_to"}
    differ |= {"lr_scheduler_kwargs"}
    for item in dataclasses.fields(TrainingArguments):
        if item.name in ours_alone or (is_peers(item) and item.name not in theirs):
            continue
        assert item.name in theirs, item.name
        if item.name in differ or item.default is dataclasses.MISSING:
            continue
        default = theirs[item.name].default
        default = getattr(default, "value", default)
        if default is not None:
            assert item.default == default, item.name


def test_the_folder_may_come_first() -> None:
    assert TrainingArguments("trial").output_dir == "trial"
    assert TrainingArguments(output_dir="trial") == TrainingArguments("trial")
    with pytest.raises(TypeError):
        TrainingArguments("trial", 3)


class WithTemperature(TrainingArguments):
    """Arguments with one more, as programs for distillation have them."""

    def __init__(self, *args: Any, temperature: float = 2.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.temperature = temperature


def test_a_subclass_of_the_arguments_may_have_an_init_of_its_own() -> None:
    args = WithTemperature("trial", temperature=3.0, logging_steps=7)
    assert (args.temperature, args.output_dir, args.eval_steps) == (3.0, "trial", 7)
    assert not args.is_default("logging_steps")
    assert args.is_default("seed")
    assert copy.copy(args).temperature == 3.0
    with pytest.raises(UsageError, match="no argument 'lerning_rate'"):
        WithTemperature("trial", lerning_rate=1.0)


def test_arguments_can_be_copied_pickled_and_replaced() -> None:
    args = TrainingArguments("trial", seed=3, bf16=True)
    assert copy.deepcopy(args) == args
    assert pickle.loads(pickle.dumps(args)) == args  # noqa: S301
    assert dataclasses.replace(args, seed=4).seed == 4


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("use_mps_device", "use use_cpu"),
        ("warmup_ratio", "use warmup_steps"),
        ("learning_rat", "use learning_rate"),
        ("qqq", "the arguments are output_dir"),
    ],
)
def test_an_unknown_argument_is_refused_with_what_to_type(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"no argument '{name}'") as caught:
        TrainingArguments(**{name: 1})
    assert caught.value.fix.startswith(hint)


@pytest.mark.parametrize(
    ("older", "today"),
    [
        ({"evaluation_strategy": "epoch"}, {"eval_strategy": "epoch"}),
        ({"evaluate_during_training": True}, {"eval_strategy": "steps"}),
        ({"group_by_length": True}, {"train_sampling_strategy": "group_by_length"}),
        ({"group_by_length": False}, {"train_sampling_strategy": "random"}),
        ({"no_cuda": True}, {"use_cpu": True}),
        ({"warmup_ratio": 0.06}, {"warmup_steps": 0.06}),
        ({"per_gpu_train_batch_size": 4}, {"per_device_train_batch_size": 4}),
        ({"per_gpu_eval_batch_size": 4, "no_cuda": None}, {"per_device_eval_batch_size": 4}),
    ],
)
def test_older_arguments_are_read_as_those_of_today(
    older: dict[str, Any], today: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    args = TrainingArguments("out", **older)
    ((name, value),) = today.items()
    line = f"TrainingArguments: {next(iter(older))} is read as {name}={value!r}\n"
    assert capsys.readouterr().err == line
    assert args == TrainingArguments("out", **today)
    assert not args.is_default(name)
    with pytest.raises(KeywordError, match="has no argument") as caught:
        TrainingArguments("out", **older | today)
    assert f"use {name}" in caught.value.fix
    assert dataclasses.asdict(WithTemperature("out", **older))[name] == value


PEERS = {item.name: item for item in dataclasses.fields(PeerArguments)}
ACTING = {i.name for i in dataclasses.fields(TrainingArguments)} - PEERS.keys()


@pytest.mark.parametrize(
    "name",
    sorted(PEERS.keys() | {i.name for i in dataclasses.fields(transformers.TrainingArguments)}),
)
def test_every_argument_of_the_peer_is_supported_taken_or_refused_with_advice(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = getattr(TrainingArguments(), name)
    assert getattr(TrainingArguments(**{name: usual}), name) == usual
    assert capsys.readouterr().err == "", "it asks for what happens anyway"
    if name in ACTING:
        assert name not in PEERS
        return
    theirs = {i.name: i.default for i in dataclasses.fields(transformers.TrainingArguments)}
    if name in theirs and theirs[name] is not dataclasses.MISSING:
        default = getattr(theirs[name], "value", theirs[name])
        assert getattr(TrainingArguments(**{name: default}), name) == default
    other = not usual if isinstance(usual, bool) else "something"
    instead = PEERS[name].metadata.get("instead")
    if instead is None:
        assert getattr(TrainingArguments(**{name: other}), name) == other
        told = capsys.readouterr().err.splitlines()
        line = f"TrainingArguments: {name} taken, and without effect here"
        assert told == ([] if name == "local_rank" else [line])
        return
    with pytest.raises(UsageError, match="TrainingArguments does not support") as caught:
        TrainingArguments(**{name: other})
    assert f"{name}={other!r}" in str(caught.value)
    assert caught.value.fix == instead == instead_of_argument(name, other)


ADVICE = REPLACED_ARGUMENTS | {
    name: item.metadata["instead"] for name, item in PEERS.items() if "instead" in item.metadata
}


@pytest.mark.parametrize("name", sorted(ADVICE))
def test_what_there_is_instead_is_there(name: str) -> None:
    """Each hint names an argument of ours, or of the Trainer's, that exists."""
    assert name not in ACTING
    trainer = set(inspect.signature(Trainer).parameters) | {f"Trainer.{n}" for n in dir(Trainer)}
    words = {word.rstrip(".") for word in re.findall(r"[\w.]+", ADVICE[name])}
    assert (ACTING | trainer) & words
    assert {word for word in words if word.startswith("Trainer.")} <= trainer


def test_all_that_is_wrong_is_told_at_once_and_all_that_is_taken_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong: dict[str, Any] = {"learning_rat": 1, "fp16": True, "warmup_ratio": 3, "deepspeed": "x"}
    with pytest.raises(TypeError) as caught:
        TrainingArguments("out", logging_dir="logs", **wrong)
    assert isinstance(caught.value, KeywordError)
    assert str(caught.value).splitlines() == [
        "TrainingArguments cannot take 4 of its arguments: learning_rat, warmup_ratio, fp16=True, "
        "deepspeed='x'",
        "  fix: learning_rat: use learning_rate",
        "       warmup_ratio: use warmup_steps (a value below 1 is a share of all steps), and "
        "that alone",
        "       fp16=True: use bf16=True (bfloat16 needs no loss scaling)",
        "       deepspeed='x': leave it out, and start the program with torchrun; fsdp splits the "
        "model",
    ]
    assert capsys.readouterr().err == ""
    args = TrainingArguments("out", logging_dir="logs", dataloader_num_workers=4, fp16=False)
    assert capsys.readouterr().err == (
        "TrainingArguments: logging_dir, dataloader_num_workers taken, and without effect here\n"
    )
    assert (args.logging_dir, args.fp16) == ("logs", False)
    assert "logging_dir" not in repr(args)
    assert "logging_dir" not in args.to_dict()


# ---- the peer's parser ----


@dataclasses.dataclass
class ProgramArguments:
    name: str = "here"


def parser() -> Any:
    return transformers.HfArgumentParser((ProgramArguments, TrainingArguments))


def parsed(*words: str) -> TrainingArguments:
    own, args = parser().parse_args_into_dataclasses(args=list(words), look_for_args_file=False)
    assert own == ProgramArguments()
    assert isinstance(args, TrainingArguments)
    return args


def test_the_peers_parser_reads_the_arguments() -> None:
    assert parsed() == TrainingArguments()
    words = "--output_dir o --do_train --bf16 --learning_rate 3e-5 --num_train_epochs 2 --seed 7"
    words += " --eval_strategy steps --logging_steps 7 --lr_scheduler_kwargs {} --warmup-steps 0.1"
    words += " --metric_for_best_model accuracy --greater_is_better --save_total_limit 2"
    words += " --report_to none --resume_from_checkpoint c --no_dataloader_pin_memory"
    args = parsed(*words.split(), "--fsdp", "full_shard auto_wrap", "--overwrite_output_dir")
    assert args == TrainingArguments(
        output_dir="o", do_train=True, bf16=True, learning_rate=3e-5, num_train_epochs=2.0, seed=7,
        eval_strategy="steps", logging_steps=7, warmup_steps=0.1, save_total_limit=2, fsdp=True,
        metric_for_best_model="accuracy", greater_is_better=True, resume_from_checkpoint="c",
        dataloader_pin_memory=False, overwrite_output_dir=True,
    )  # fmt: skip
    assert (args.eval_steps, args.do_eval, args.precision) == (7, True, "bf16")
    assert parsed("--logging_strategy", "epoch").eval_steps == 500
    with pytest.raises(UsageError, match="does not support fp16=True"):
        parsed("--fp16")


def test_the_peers_parser_reads_a_dict_and_a_file(tmp_path: Path) -> None:
    values = {"output_dir": "o", "logging_steps": 10, "lr_scheduler_kwargs": {"num_cycles": 2}}
    wanted = TrainingArguments("o", logging_steps=10, lr_scheduler_kwargs={"num_cycles": 2})
    assert wanted.eval_steps == 10
    assert parser().parse_dict(values) == (ProgramArguments(), wanted)
    path = tmp_path / "arguments.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert parser().parse_json_file(str(path)) == (ProgramArguments(), wanted)


def test_the_peers_parser_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    parser().print_help()
    assert "--per_device_train_batch_size" in capsys.readouterr().out


def test_programs_read_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    args = TrainingArguments(per_device_train_batch_size=4, use_cpu=True)
    assert (args.world_size, args.process_index, args.local_process_index) == (1, 0, 0)
    assert (args.n_gpu, str(args.device), args.should_log, args.should_save) == (
        0,
        "cpu",
        True,
        True,
    )
    assert (args.train_batch_size, args.eval_batch_size) == (4, 8)
    assert args.get_process_log_level() == logging.INFO
    with args.main_process_first(desc="reading"):
        pass
    monkeypatch.setenv("RANK", "1")
    assert (args.process_index, args.should_log) == (1, False)
    assert args.get_process_log_level() == logging.WARNING


EPOCHS = "a number above 0, 1,000,000 at the most"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("per_device_train_batch_size", 0, "1 or more"),
        ("per_device_train_batch_size", 8.0, "1 or more"),
        ("eval_steps", None, "1 or more"),
        ("max_steps", "10", "a whole number"),
        ("learning_rate", "5e-5", "0 or more"),
        ("learning_rate", math.inf, "0 or more"),
        ("num_train_epochs", None, EPOCHS),
        ("gradient_accumulation_steps", 0, "1 or more"),
        ("eval_steps", 0, "1 or more"),
        ("num_train_epochs", 0, EPOCHS),
        ("num_train_epochs", math.nan, EPOCHS),
        ("num_train_epochs", 1e300, EPOCHS),
        ("learning_rate", -1e-5, "0 or more"),
        ("learning_rate", math.nan, "0 or more"),
        ("weight_decay", -0.1, "0 or more"),
        ("warmup_steps", -1, "0 or more"),
        ("max_grad_norm", -1, "0 or more"),
        ("seed", -1, "0 or more, below 2**63"),
        ("eval_strategy", "sometimes", "no or epoch or steps"),
        ("train_sampling_strategy", "sorted", "random or sequential or group_by_length"),
        ("precision", "fp8", "auto or fp32 or bf16"),
        ("save_strategy", "worst", "no or steps or epoch or best"),
        ("save_steps", 0, "1 or more"),
        ("save_total_limit", 0, "1 or more"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingArguments(**{name: value})
    assert str(caught.value) == f"TrainingArguments: {name} is {value!r}\n  fix: give {allowed}"


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp32"), (None, "auto")])
def test_bf16_is_another_way_to_say_the_precision(bf16: bool | None, precision: str) -> None:
    assert TrainingArguments(bf16=bf16).precision == precision


@pytest.mark.parametrize(
    ("warmup", "total", "steps"),
    [(0, 100, 0), (0.1, 100, 10), (0.1, 101, 11), (0.001, 100, 1), (1, 100, 1), (7, 5, 7)],
)
def test_warmup_is_a_share_below_one_and_steps_from_one_on(
    warmup: float, total: int, steps: int
) -> None:
    assert TrainingArguments(warmup_steps=warmup).count_warmup(total) == steps


# ---- FinetuneOptions ----


@given(
    epochs=st.floats(0.1, 9),
    batch_size=st.integers(1, 99),
    lr=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_options_become_training_arguments(
    epochs: float, batch_size: int, lr: float, seed: int
) -> None:
    options = FinetuneOptions(
        epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, out=Path("here"), precision="fp32"
    )
    args = options.training_arguments()
    assert (args.num_train_epochs, args.per_device_train_batch_size) == (epochs, batch_size)
    assert (args.learning_rate, args.seed, args.output_dir) == (lr, seed, "here")
    assert (args.warmup_steps, args.weight_decay) == (0.1, 0.01)
    assert (args.precision, args.lr_scheduler_type) == ("fp32", "linear")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"test_size": -0.1}, "--test-size is -0.1"),
        ({"test_size": 0.0, "keep": "best"}, "--test-size 0 holds no rows out"),
        ({"test_size": 1.0}, "--test-size is 1"),
        ({"test_size": math.nan}, "--test-size is nan"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": math.inf}, "--epochs is inf"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"lr": -1.0}, "--lr is -1"),
        ({"weight_decay": -0.5}, "--weight-decay is -0.5"),
        ({"warmup": -1}, "--warmup is -1"),
        ({"seed": -1}, "--seed is -1"),
        ({"split_seed": -1}, "--split-seed is -1"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named_as_it_is_typed(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        FinetuneOptions(**values)
    assert caught.value.fix


def test_every_activation_that_a_config_may_name_is_a_function_of_the_model() -> None:
    assert tuple(bert.ACTIVATIONS) == config.ACTIVATIONS


@pytest.mark.parametrize("settings", [TrainingArguments, FinetuneOptions])
def test_every_field_says_what_it_is(settings: type) -> None:
    """The line below a field is the help that the command line shows."""
    kinds = filter(dataclasses.is_dataclass, settings.__mro__)
    lines = "".join(map(inspect.getsource, kinds)).splitlines()
    for item in dataclasses.fields(settings):
        if is_peers(item):
            continue
        place = next(n for n, line in enumerate(lines) if line.startswith(f"    {item.name}:"))
        assert lines[place + 1].strip().startswith('"""'), item.name


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"eval_strategy": "steps"},
        {"eval_strategy": "steps", "logging_steps": 7},
        {"eval_strategy": "steps", "logging_steps": 7, "eval_steps": 9},
    ],
    ids=str,
)
def test_evaluations_come_as_often_as_with_the_peer(given: dict[str, Any]) -> None:
    theirs = transformers.TrainingArguments("out", **given).eval_steps
    ours = TrainingArguments("out", **given)
    assert ours.eval_steps == (theirs or 500)
    assert copy.copy(ours) == copy.deepcopy(ours) == replace(ours) == ours


@pytest.mark.parametrize(
    "values",
    [{"num_labels": 3}, {"label2id": {"a": 0, "b": 1}}, {"id2label": {0: "a", 1: "b"}}],
)
def test_labels_are_given_under_each_of_their_names_as_to_the_peer(values: dict[str, Any]) -> None:
    ours = BertConfig(**values)
    theirs = transformers.BertConfig(**values)
    assert ours.num_labels == len(ours.id2label)
    if "label2id" not in values:
        assert ours.id2label == theirs.id2label
    assert ours.label2id == {name: index for index, name in ours.id2label.items()}
    ours.label2id = {"x": 1, "y": 0}
    assert ours.id2label == {0: "y", 1: "x"}


def test_a_note_of_ones_own_is_kept_and_a_misspelt_field_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = BertConfig()
    config.my_note = "x"  # type: ignore[attr-defined]
    assert capsys.readouterr().err == ""
    config.num_label = 3  # type: ignore[attr-defined]
    assert "did you mean 'num_labels'?" in capsys.readouterr().err
    config.save_pretrained(tmp_path)
    again = BertConfig.from_pretrained(tmp_path, num_labels=4)
    assert (again.my_note, again.num_labels) == ("x", 4)  # type: ignore[attr-defined]
    assert transformers.BertConfig.from_pretrained(tmp_path).my_note == "x"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hidden_sise": 3}, "did you mean 'hidden_size'"),
        ({"torch_dtype": "bfloat16"}, "from_pretrained"),
        ({"num_labels": 3, "id2label": {0: "a"}}, "num_labels is 3, and there are 1 names"),
        ({"label2id": {"a": 0}, "id2label": {0: "b"}}, "give one of the two"),
    ],
)
def test_arguments_that_are_no_fields_or_contradict_are_refused(
    values: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        BertConfig(**values)
