"""Fine-tune BERT with the Trainer: finetune_trainer.py [CSV with the columns text and label]."""

import sys

import numpy as np
from datasets import load_dataset

from bertolt import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    load_metric,
)
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.data import sample_data

path = sys.argv[1] if len(sys.argv) > 1 else str(sample_data.fetch("movie-sentences"))
rows = load_dataset("csv", data_files=path, split="train").class_encode_column("label")
parts = rows.train_test_split(test_size=0.2, seed=42, stratify_by_column="label")
tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint())
parts = parts.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
id2label = dict(enumerate(rows.features["label"].names))
accuracy = load_metric("accuracy")

trainer = Trainer(
    AutoModelForSequenceClassification.from_pretrained(demo_checkpoint(), id2label=id2label),
    TrainingArguments(per_device_train_batch_size=32, learning_rate=1e-4, warmup_steps=0.1),
    data_collator=DataCollatorWithPadding(tokenizer),
    train_dataset=parts["train"],
    eval_dataset=parts["test"],
    compute_metrics=lambda found: accuracy.compute(
        predictions=np.argmax(found.predictions, axis=-1), references=found.label_ids
    ),
)
trainer.train()
print(f"accuracy {trainer.evaluate()['eval_accuracy']:.4f}")
