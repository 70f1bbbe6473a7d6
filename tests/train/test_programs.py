"""Programs in the manner of the tutorials give the numbers of the peer, their import changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers

import bertolt
from tests.conftest import GOOD, POOR

Printed = list[Any]


@pytest.fixture(scope="module")
def start(tiny_folder: Path, tiny_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder without dropout, and its tokenizer."""
    folder = tmp_path_factory.mktemp("start")
    bertolt.BertTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    bertolt.BertModel(tiny_config(initializer_range=0.15, **still)).save_pretrained(folder)
    return folder


def parts(t: Any, start: Path) -> tuple[Any, Any, Any]:
    """The tokenizer, and rows to train and to evaluate on, with a column of texts."""
    tokenizer = t.AutoTokenizer.from_pretrained(start)
    words = [(POOR, GOOD)[n % 2][n % 7 : n % 7 + 1 + n % 4] for n in range(40)]
    table = datasets.Dataset.from_dict(
        {"text": [" and ".join(some) for some in words], "label": [n % 2 for n in range(40)]}
    )
    rows = table.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
    return tokenizer, rows.select(range(28)), rows.select(range(28, 40))


def classifier(t: Any, start: Path) -> Any:
    model = t.AutoModelForSequenceClassification.from_pretrained(start, num_labels=2)
    with torch.no_grad():
        weights = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
        model.classifier.weight.copy_(0.05 * weights)
        model.classifier.bias.zero_()
    return model


def settings(out: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(out), "per_device_train_batch_size": 4, "learning_rate": 1e-3,
        "per_device_eval_batch_size": 4, "num_train_epochs": 1, "report_to": "none",
        "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no", "bf16": False,
        "train_sampling_strategy": "sequential", "use_cpu": True, **more,
    }  # fmt: skip


def logged(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def own_steps(t: Any, start: Path, out: Path) -> Printed:
    class Stepping(t.Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            inputs = self._prepare_inputs(inputs)
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            self.accelerator.backward(loss)
            return loss.detach()

        def prediction_step(
            self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> Any:
            with torch.no_grad():
                outputs = model(**self._prepare_inputs(inputs))
            logits = None if prediction_loss_only else outputs.logits * 2
            return outputs.loss, logits, inputs["labels"]

    tokenizer, train, test = parts(t, start)
    trainer = Stepping(
        classifier(t, start),
        t.TrainingArguments(**settings(out)),
        t.DataCollatorWithPadding(tokenizer),
        train.remove_columns("text"),
    )
    trainer.train()
    output = trainer.predict(test.remove_columns("text"))
    return [*logged(trainer), output.predictions, output.label_ids, sorted(output.metrics)]


@dataclass
class _ProgramArguments:
    longest: int = field(default=16, metadata={"help": "Most tokens of a text."})


def example_script(t: Any, start: Path, out: Path) -> Printed:
    words = f"--output_dir {out} --do_train --do_eval --per_device_train_batch_size 4 --bf16 False "
    words += (
        "--learning_rate 1e-3 --max_steps 5 --use_cpu --logging_steps 1 --report_to none --seed 3 "
    )
    words += "--train_sampling_strategy sequential --label_smoothing_factor 0.1 --save_strategy no "
    parser = transformers.HfArgumentParser((_ProgramArguments, t.TrainingArguments))
    own, args = parser.parse_args_into_dataclasses(
        args=[*words.split(), "--disable_tqdm", "True"], look_for_args_file=False
    )
    read = [own.longest, args.do_train, args.do_predict, str(args.device), args.n_gpu, args.fp16]
    read += [args.parallel_mode.value, args.world_size, args.should_log, args.push_to_hub]
    with args.main_process_first(desc="reading"):
        tokenizer, train, test = parts(t, start)
    trainer = t.Trainer(
        model=classifier(t, start), args=args, train_dataset=train, eval_dataset=test,
        processing_class=tokenizer, data_collator=t.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    result = trainer.train(resume_from_checkpoint=None)
    trainer.save_model()
    metrics = {**result.metrics, "train_samples": len(train)}
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    metrics = trainer.evaluate()
    trainer.create_model_card(finetuned_from="start", tasks="text-classification")
    files = {"README.md", "all_results.json", "train_results.json", "trainer_state.json"}
    there = sorted(files & {path.name for path in out.iterdir()})
    numbers = [*logged(trainer), result.training_loss, result.metrics["train_loss"]]
    return [*read, *numbers, result[0], metrics["eval_loss"], there]


@pytest.mark.parametrize("program", [own_steps, example_script])
def test_a_program_gives_the_numbers_of_the_peer(
    program: Callable[[Any, Path, Path], Printed], start: Path, tmp_path: Path
) -> None:
    theirs = program(transformers, start, tmp_path / "theirs")
    ours = program(bertolt, start, tmp_path / "ours")
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(other, float | np.ndarray):
            np.testing.assert_allclose(mine, other, atol=2e-4)
        else:
            assert mine == other
