"""A script with a command line in the manner of the peer's examples: three dataclasses (2021)."""

import logging
import os
import sys
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class DataTrainingArguments:
    """What is trained on."""

    train_file: Optional[str] = field(default=None, metadata={"help": "A csv file."})
    max_seq_length: int = field(default=128, metadata={"help": "Tokens of a text at most."})
    pad_to_max_length: bool = field(default=True, metadata={"help": "Pad all texts alike."})
    max_train_samples: Optional[int] = field(default=None, metadata={"help": "Take so many."})


@dataclass
class ModelArguments:
    """Which model is trained."""

    model_name_or_path: str = field(metadata={"help": "A folder or an id of the hub."})
    config_name: Optional[str] = field(default=None, metadata={"help": "Another config."})
    cache_dir: Optional[str] = field(default=None, metadata={"help": "Where downloads are."})
    model_revision: str = field(default="main", metadata={"help": "A branch, tag or commit."})
    token: str = field(default=None, metadata={"help": "For models that are not public."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run a model's own code."})
    ignore_mismatched_sizes: bool = field(default=False, metadata={"help": "Draw what misfits."})
    use_fast_tokenizer: bool = field(default=True, metadata={"help": "Whether to be fast."})


def main():
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(os.path.abspath(sys.argv[1]))
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    logging.basicConfig(handlers=[logging.StreamHandler(sys.stderr)], level=logging.WARNING)
    logger.info(f"Training parameters {training_args}")
    set_seed(training_args.seed)

    raw_datasets = load_dataset("csv", data_files=data_args.train_file, split="train")
    label_list = sorted(raw_datasets.unique("label"))
    config = AutoConfig.from_pretrained(
        model_args.config_name if model_args.config_name else model_args.model_name_or_path,
        num_labels=len(label_list),
        finetuning_task="reviews",
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    tokenizer = AutoTokenizer.from_pretrained(
        model_args.model_name_or_path,
        use_fast=model_args.use_fast_tokenizer,
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        model_args.model_name_or_path,
        from_tf=bool(".ckpt" in model_args.model_name_or_path),
        config=config,
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
        ignore_mismatched_sizes=model_args.ignore_mismatched_sizes,
    )
    padding = "max_length" if data_args.pad_to_max_length else False
    max_seq_length = min(data_args.max_seq_length, tokenizer.model_max_length)

    def preprocess_function(examples):
        return tokenizer(
            examples["text"], padding=padding, max_length=max_seq_length, truncation=True
        )

    raw_datasets = raw_datasets.map(preprocess_function, batched=True)
    train_dataset = raw_datasets.select(range(16))
    eval_dataset = raw_datasets.select(range(16, 24))
    if data_args.max_train_samples is not None:
        train_dataset = train_dataset.select(range(data_args.max_train_samples))

    def compute_metrics(p: EvalPrediction):
        preds = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
        preds = np.argmax(preds, axis=1)
        return {"accuracy": (preds == p.label_ids).astype(np.float32).mean().item()}

    if data_args.pad_to_max_length:
        data_collator = default_data_collator
    else:
        data_collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=train_dataset if training_args.do_train else None,
        eval_dataset=eval_dataset if training_args.do_eval else None,
        compute_metrics=compute_metrics,
        processing_class=tokenizer,
        data_collator=data_collator,
    )
    if training_args.do_train:
        train_result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        metrics = train_result.metrics
        metrics["train_samples"] = len(train_dataset)
        trainer.save_model()
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()
        print(f"train {metrics['train_loss']:.5f} {metrics['train_samples']}")
    if training_args.do_eval:
        metrics = trainer.evaluate(eval_dataset=eval_dataset)
        metrics["eval_samples"] = len(eval_dataset)
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
        print(f"eval {metrics['eval_loss']:.5f} {metrics['eval_accuracy']:.3f}")
    if training_args.do_predict:
        predict_dataset = eval_dataset.remove_columns("label")
        predictions = trainer.predict(predict_dataset, metric_key_prefix="predict").predictions
        print("predictions", np.argmax(predictions, axis=1).tolist())
    kept = ("all_results.json", "config.json", "model.safetensors", "trainer_state.json")
    print("files", [name for name in kept if os.path.exists(f"{training_args.output_dir}/{name}")])


if __name__ == "__main__":
    main()
